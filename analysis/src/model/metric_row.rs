//! A metric value with its scope.

use serde::{Deserialize, Serialize};

use crate::catalog::metrics;

/// A metric value; a row of the table `metrics`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricRow {
    /// Name of the metric.
    pub name: String,
    /// `run`, `role`, `cpu`, `llc`, `node`, `phase`.
    pub scope: String,
    /// Role, in scope role and in some phases.
    pub role: Option<String>,
    /// Phase, in scope phase.
    #[serde(default)]
    pub phase: Option<String>,
    /// CPU, in scope cpu.
    pub cpu: Option<u32>,
    /// Last-level cache, in scope llc.
    #[serde(default)]
    pub llc: Option<u32>,
    /// NUMA node, in scope node.
    #[serde(default)]
    pub node: Option<u32>,
    /// Name of the statistic.
    pub stat: String,
    /// Value; `None`: could not be measured.
    pub value: Option<f64>,
    /// Unit: ns, count, frac, 1/s, or the test's own.
    pub unit: String,
    /// `lower`, `higher` or `neutral`.
    pub polarity: String,
}

/// Scope of a value.
#[derive(Clone, Copy)]
pub(crate) enum Scope<'a> {
    Run,
    Role(&'a str),
    Cpu(u32),
    Llc(u32),
    Node(u32),
}

/// A value with unit and polarity of the catalogue.
pub(crate) fn row(name: &str, scope: Scope<'_>, stat: &str, value: Option<f64>) -> MetricRow {
    let metric = metrics::metric(name);
    let row = MetricRow {
        name: name.into(),
        scope: "run".into(),
        role: None,
        phase: None,
        cpu: None,
        llc: None,
        node: None,
        stat: stat.into(),
        // An empty sum is -0.0.
        value: value.map(|v| v + 0.0),
        unit: metric.map_or("", |m| if stat == "count" { "count" } else { m.unit }).into(),
        polarity: metric
            .map_or("neutral", |m| if stat == "count" { "neutral" } else { m.polarity.name() })
            .into(),
    };
    match scope {
        Scope::Run => row,
        Scope::Role(role) => MetricRow { scope: "role".into(), role: Some(role.into()), ..row },
        Scope::Cpu(cpu) => MetricRow { scope: "cpu".into(), cpu: Some(cpu), ..row },
        Scope::Llc(llc) => MetricRow { scope: "llc".into(), llc: Some(llc), ..row },
        Scope::Node(node) => MetricRow { scope: "node".into(), node: Some(node), ..row },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_of_nothing_has_no_sign() {
        let nothing: f64 = std::iter::empty::<f64>().sum();
        let value = row("on_cpu_time", Scope::Run, "value", Some(nothing)).value;
        assert_eq!(value.map(f64::to_bits), Some(0.0f64.to_bits()));
    }
}
