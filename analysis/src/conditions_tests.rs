use super::*;
use crate::model::metric_row::{self, Scope};

fn condition(subject: &str, relation: Relation, limit: f64, limit_text: &str) -> Assertion {
    let (subject, limit_text) = (subject.into(), limit_text.into());
    Assertion { subject, relation, limit, limit_text, role: None, phase: None }
}

fn row(name: &str, role: Option<&str>, stat: &str, value: Option<f64>) -> MetricRow {
    let row = metric_row::row(name, role.map_or(Scope::Run, Scope::Role), stat, value);
    MetricRow { unit: "ns".into(), polarity: "lower".into(), ..row }
}

#[test]
fn invalid_condition_is_reported_before_the_run() {
    let own = OwnMetrics { names: vec!["stress_ng.ops", "test.copies"], may_be_more: false };
    let check = |subject, text, own: &OwnMetrics<'_>| {
        check_form(&condition(subject, Relation::Below, 1.0, text), own)
    };
    let wrong = |subject, text| check(subject, text, &own).unwrap_err();
    for (subject, meant) in [
        ("wakup_latency.p99", "did you mean wakeup_latency.p99?"),
        ("run_dealy", "did you mean run_delay?"),
        ("stress_ng.op", "did you mean stress_ng.ops?"),
        ("test.copied", "did you mean test.copies?"),
        ("latency", "cargo ktstr stats list-metrics shows all"),
        ("fio.iops", "cargo ktstr stats list-metrics shows all"),
    ] {
        let said = wrong(subject, "5");
        assert!(said.starts_with(&format!("there is no metric {subject}; {meant}")), "{said}");
    }
    assert!(wrong("wakeup_latency", "5 ms").contains("needs a statistic"));
    assert!(wrong("wakeup_latency.p98", "5 ms").contains("no statistic p98; it has count"));
    assert!(wrong("wakeup_latency.p99", "5").contains("with a unit"));
    assert!(wrong("context_switches", "5 ms").contains("is not a time"));
    for (subject, text) in [
        ("wakeup_latency.p99.9", "5 ms"),
        ("context_switches", "5"),
        ("stress_ng.ops", "5"),
        ("run_delay.count", "5"),
    ] {
        check(subject, text, &own).unwrap();
    }
    // A body that was not seen to its end may report anything of its own, and payloads are in the
    // attribute.
    let open = OwnMetrics { may_be_more: true, ..own.clone() };
    check("test.speed", "5", &open).unwrap();
    assert!(check("fio.iops", "5", &open).is_err());
}

#[test]
fn conditions_hold_fail_or_cannot_be_judged() {
    let rows = [
        row("wakeup_latency", None, "p99", Some(4e6)),
        row("wakeup_latency", Some("server"), "p99", Some(6e6)),
        row("run_delay", None, "p99", None),
    ];
    let of_server = Assertion {
        role: Some("server".into()),
        ..condition("wakeup_latency.p99", Relation::Below, 5e6, "5 ms")
    };
    let of_nobody = Assertion { role: Some("nobody".into()), ..of_server.clone() };
    let asserts = [
        condition("wakeup_latency.p99", Relation::Below, 5e6, "5 ms"),
        of_server,
        of_nobody,
        condition("run_delay.p99", Relation::Below, 5e6, "5 ms"),
    ];
    let dir = tempfile::tempdir().unwrap();
    let f = evaluate(&asserts, Accel::Tcg, &rows, dir.path(), &Collected::default());
    let text = |text: &str| Broken { text: text.into(), ..Broken::default() };
    let latency = text("wakeup_latency.p99 of role server is 6.000 ms, not < 5 ms");
    assert_eq!(
        f.failed,
        [
            Broken { on_time: true, excess_ns: Some(1e6), ..latency },
            text("the run has no wakeup_latency.p99 of role nobody; it has of the run, of role server"),
        ]
    );
    assert_eq!(f.unmeasured, ["run_delay.p99 could not be measured"]);
}

#[test]
fn condition_on_what_sim_does_not_model_is_not_judged_there() {
    let asserts = [condition("waking_latency.p99", Relation::Below, 1.0, "1 ns")];
    let (rows, dir) = ([row("waking_latency", None, "p99", Some(5.0))], tempfile::tempdir().unwrap());
    let of = |accel| evaluate(&asserts, accel, &rows, dir.path(), &Collected::default());
    let (sim, tcg) = (of(Accel::Sim), of(Accel::Tcg));
    assert_eq!((sim.failed.len(), tcg.failed.len(), tcg.unmeasured.len()), (0, 1, 0));
    assert!(sim.unmeasured[0].starts_with("waking_latency.p99 is not judged in sim: contended cache lines"));
}

#[test]
fn conditions_on_durations_are_on_time_and_those_on_counts_are_not() {
    let broken = |subject, relation, unit| {
        let b = Broken::new(&condition(subject, relation, 5.0, "5"), 7.0, unit, String::new());
        (b.on_time, b.excess_ns)
    };
    assert_eq!(broken("run_delay.max", Relation::Below, "ns"), (true, Some(2.0)));
    assert_eq!(broken("slice_length.p50", Relation::Above, "ns"), (true, None));
    // A sum over tasks or CPUs.
    assert_eq!(broken("on_cpu_time", Relation::Below, "ns"), (true, None));
    assert_eq!(broken("worker_throughput", Relation::Above, "1/s"), (true, None));
    assert_eq!(broken("stress_ng.ops", Relation::Above, ""), (true, None));
    assert_eq!(broken("run_delay.count", Relation::Below, "ns"), (false, None));
    assert_eq!(broken("migrations", Relation::Below, "count"), (false, None));
    assert_eq!(broken("fairness_jain", Relation::Above, "frac"), (false, None));
}

#[test]
fn tasks_with_the_most_or_the_least_are_named() {
    let totals =
        || [(7, 3), (8, 1), (9, 2), (10, 4)].map(|(tid, ms)| (named(tid, Some("r")), ms * 1_000_000));
    assert_eq!(
        list_totals(totals().into(), true),
        ": task 10 (r) 4.000 ms; task 7 (r) 3.000 ms; task 9 (r) 2.000 ms; and 1 more"
    );
    assert_eq!(list_totals(totals()[..2].to_vec(), false), ": task 8 (r) 1.000 ms; task 7 (r) 3.000 ms");
}

#[test]
fn worst_moments_are_named() {
    let tasks = [(7, Some("server".to_string())), (8, None)].into();
    let moment = |tid, ts, value| Moment { tid, ts, value };
    let mut moments = Moments::default();
    let all = [moment(7, 2_000_000_000, 1_500), moment(8, 5, 2_000_000), moment(7, 1, 1), moment(7, 1, 2)];
    all.into_iter().for_each(|m| moments.add(m));
    let text = list(
        &moments,
        &tasks,
        &[((7, 2_000_000_000), "throttled by cpu.max".to_string())].into(),
        &Collected::default(),
    );
    assert_eq!(
        text,
        ": task 8 2.000 ms at 0.000000 s; task 7 (server) 1.500 us at 2.000000 s (throttled by cpu.max); task 7 (server) 2 ns at 0.000000 s; and 1 more"
    );
}
