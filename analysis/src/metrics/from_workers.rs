//! Metrics that a test body measured itself.

use ktstr_wire::body::Reported;

use crate::catalog::metrics::{Metric, Polarity, metric};
use crate::model::collected::Collected;
use crate::model::metric_row::MetricRow;

/// Metrics of the catalogue that the test body measures. It may not report others of the catalogue.
const BY_BODY: [&str; 3] = ["worker_throughput", "worker_iteration", "worker_lateness"];

/// The rows, and lines for the log about numbers that are left out: those with the name of a metric that
/// ktstr measures itself.
pub(crate) fn rows(collected: &Collected) -> (Vec<MetricRow>, Vec<String>) {
    let body = collected.test_result.as_ref().and_then(|t| t.body.as_ref());
    let values = body.map_or(Vec::new(), |b| b.values.clone());
    let (ours, foreign): (Vec<_>, Vec<_>) = values.into_iter().partition(|v| {
        BY_BODY.contains(&v.name.as_str()) || (metric(&v.name).is_none() && v.name.contains('.'))
    });
    let names = foreign.iter().map(|v| format!("the test reported {}, which only ktstr measures", v.name));
    let logs = names.collect();
    (ours.into_iter().map(row).collect(), logs)
}

fn row(v: Reported) -> MetricRow {
    let registered = metric(&v.name);
    let scope = match (&v.phase, &v.role) {
        (Some(_), _) => "phase",
        (None, Some(_)) => "role",
        (None, None) => "run",
    };
    let is_count = v.stat == "count";
    let unit = registered.map_or(v.unit.unwrap_or_default(), |m: &Metric| m.unit.into());
    let polarity = registered.map_or(Polarity::named(v.polarity.as_deref().unwrap_or("")), |m| m.polarity);
    MetricRow {
        name: v.name,
        scope: scope.into(),
        role: v.role,
        phase: v.phase,
        cpu: None,
        llc: None,
        node: None,
        stat: v.stat,
        value: v.value.filter(|v| v.is_finite()),
        unit: if is_count { "count".into() } else { unit },
        polarity: if is_count { Polarity::Neutral } else { polarity }.name().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_wire::body::{BodyResult, Outcome};
    use ktstr_wire::message::TestResult;

    fn reported(name: &str, stat: &str, value: f64) -> Reported {
        Reported {
            name: name.into(),
            role: None,
            phase: None,
            stat: stat.into(),
            value: Some(value),
            unit: Some("furlong".into()),
            polarity: Some("higher".into()),
        }
    }

    #[test]
    fn the_registry_decides_about_its_own_names() {
        let values = vec![
            reported("test.speed", "value", 3.0),
            reported("test.broken", "value", f64::INFINITY),
            reported("worker_lateness", "p99", 7.0),
            reported("wakeup_latency", "p99", 7.0),
        ];
        let body =
            BodyResult { outcome: Outcome::Pass, reasons: vec![], workers: vec![], values, phases: vec![] };
        let test_result = TestResult { body: Some(body), abnormal_end: None, output: String::new() };
        let collected = Collected { test_result: Some(test_result), ..Collected::default() };
        let (rows, logs) = rows(&collected);
        let shown: Vec<_> =
            rows.iter().map(|r| (r.name.as_str(), r.value, r.unit.as_str(), r.polarity.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("test.speed", Some(3.0), "furlong", "higher"),
                ("test.broken", None, "furlong", "higher"),
                ("worker_lateness", Some(7.0), "ns", "lower"),
            ]
        );
        assert!(logs[0].contains("wakeup_latency"), "{logs:?}");
    }
}
