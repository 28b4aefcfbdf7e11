//! What a test says about its run beside its body's own result: conditions on metrics, the default checks of what the
//! probes saw, and the end of the scheduler that it expects.

use std::path::Path;

use ktstr_analysis::conditions::{self, Broken, OwnMetrics, did_you_mean};
use ktstr_analysis::{Collected, MetricRow, Verdict};
use ktstr_wire::accel::Accel;
use ktstr_wire::spec::{Assertion, Check, Outline, SchedExit, TestSpec};

use super::host_time::HostTime;
use super::verdict::Judgement;
use crate::exit;
use crate::run::error::RunError;

/// The least limit of [`Check::MaxWait`], nanoseconds: emulated CPUs of a busy host stand still for a while.
const LEAST_WAIT_NS: u64 = 1_000_000_000;

/// Name of the file in a work directory that holds the spec.
pub(crate) const SPEC_FILE: &str = "spec.json";

/// The spec of the run in `work`; a run without one has no terms.
pub(crate) fn read(work: &Path) -> Option<TestSpec> {
    serde_json::from_slice(&std::fs::read(work.join(SPEC_FILE)).ok()?).ok()
}

/// Whether a scheduler that ends is the test's failure.
pub(crate) fn wants_scheduler(spec: Option<&TestSpec>) -> bool {
    spec.is_none_or(|s| s.expectations.checks(Check::InCharge))
}

/// Refuses what is known to be wrong before a boot: what the body's dry run found, and conditions on what the run will not have.
pub(crate) fn check(spec: &TestSpec) -> Result<(), RunError> {
    let outline = spec.outline.as_ref();
    if let Some(why) = outline.and_then(|o| o.fault.as_ref()) {
        return Err(RunError::Steps(why.clone()));
    }
    // Of a body that was not seen to its end only this is not known.
    let complete = outline.filter(|o| o.open.is_none());
    let of_payloads = spec.expectations.payloads.iter().flat_map(|p| &p.metrics);
    let own = OwnMetrics {
        names: of_payloads.chain(outline.iter().flat_map(|o| &o.metrics)).map(String::as_str).collect(),
        may_be_more: complete.is_none(),
    };
    for a in &spec.expectations.asserts {
        let checked =
            conditions::check_form(a, &own).and_then(|()| complete.map_or(Ok(()), |o| check_scope(a, o)));
        checked.map_err(|why| RunError::Assertion { condition: text(a), why })?;
    }
    Ok(())
}

/// A condition as a test writes it.
pub(crate) fn text(a: &Assertion) -> String {
    let scope = |name: &str, value: &Option<String>| {
        value.as_ref().map_or(String::new(), |v| format!(", {name} = \"{v}\""))
    };
    let (role, phase) = (scope("role", &a.role), scope("phase", &a.phase));
    format!("assert({} {} {}{role}{phase})", a.subject, a.relation.symbol(), a.limit_text)
}

/// The role and the phase of a condition are among those that the body has.
fn check_scope(a: &Assertion, outline: &Outline) -> Result<(), String> {
    let phases = outline.phases.iter().map(|p| p.name.as_str()).collect();
    let roles = outline.roles.iter().map(String::as_str).collect();
    check_name("role", a.role.as_deref(), roles)?;
    check_name("phase", a.phase.as_deref(), phases)
}

fn check_name(what: &str, name: Option<&str>, there: Vec<&str>) -> Result<(), String> {
    let Some(name) = name.filter(|n| !there.contains(n)) else { return Ok(()) };
    let hint = match did_you_mean(name, there.iter().copied()) {
        Some(meant) => format!("did you mean {meant}?"),
        None if there.is_empty() => format!("it has no {what}s"),
        None => format!("it has {}", there.join(", ")),
    };
    Err(format!("the test has no {what} {name}; {hint}"))
}

/// What the terms are judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured<'a> {
    pub accel: Accel,
    pub collected: &'a Collected,
    pub rows: &'a [MetricRow],
    /// The directory of the tables.
    pub dir: &'a Path,
    /// What the host took.
    pub host: HostTime,
}

/// What the terms found.
#[derive(Debug, Default)]
struct Found {
    failed: Vec<String>,
    /// Failed, and would perhaps not have without what the host took.
    spoilt: Vec<String>,
    unmeasured: Vec<String>,
}

/// The judgement after the test's terms.
pub(crate) fn apply(j: Judgement, spec: &TestSpec, m: &Measured<'_>) -> Judgement {
    if let Some(expected) = &spec.expectations.expect {
        return expect(j, expected, m.collected);
    }
    if j.verdict != Verdict::Pass {
        return j;
    }
    let mut found = conditions(spec, m);
    if spec.expectations.checks(Check::MaxWait) && m.collected.quality.has_all_events() {
        max_wait(spec, m, &mut found);
    }
    let Found { failed, spoilt, unmeasured } = found;
    if !failed.is_empty() {
        return Judgement { verdict: Verdict::Fail, reasons: failed, exit_status: exit::FAIL };
    }
    let reasons = [spoilt, unmeasured].concat();
    if reasons.is_empty() {
        return j;
    }
    Judgement { verdict: Verdict::Inconclusive, reasons, exit_status: exit::INCONCLUSIVE }
}

fn conditions(spec: &TestSpec, m: &Measured<'_>) -> Found {
    let findings = conditions::evaluate(&spec.expectations.asserts, m.accel, m.rows, m.dir, m.collected);
    let mut found = Found { unmeasured: findings.unmeasured, ..Found::default() };
    for Broken { text, on_time, excess_ns } in findings.failed {
        match m.host.spoils_duration(excess_ns).filter(|_| on_time) {
            Some(why) => found.spoilt.push(format!("{text}; {why}")),
            None => found.failed.push(text),
        }
    }
    found
}

fn max_wait(spec: &TestSpec, m: &Measured<'_>, found: &mut Found) {
    let allowed = LEAST_WAIT_NS.max(spec.duration_ns / 2);
    let proven = m.host.longest_wait_ns(LEAST_WAIT_NS, spec.duration_ns);
    let longer_than = |ns| conditions::long_waits(m.dir, m.collected, ns);
    let waits = longer_than(allowed).and_then(|long| {
        let too_long = proven.map_or(Ok(None), longer_than)?;
        Ok((long, too_long))
    });
    match waits {
        Ok((_, Some(too_long))) => found.failed.push(format!("{too_long} (check {})", Check::MaxWait)),
        Ok((Some(long), None)) => {
            let why = m.host.spoils_duration(None).unwrap_or_else(|| "the host took some of it".into());
            found.spoilt.push(format!("{long} (check {}); {why}", Check::MaxWait));
        }
        Ok((None, None)) => {}
        Err(e) => found.unmeasured.push(format!("the tables cannot be read: {e}")),
    }
}

/// A pass only if the scheduler took over and then ended as expected.
fn expect(j: Judgement, expected: &SchedExit, c: &Collected) -> Judgement {
    let fail = |reason: String| {
        let reasons = [vec![reason], j.reasons.clone()].concat();
        Judgement { verdict: Verdict::Fail, reasons, exit_status: exit::FAIL }
    };
    let pass = || Judgement { verdict: Verdict::Pass, reasons: Vec::new(), exit_status: exit::OK };
    if !matches!(j.verdict, Verdict::SchedExit | Verdict::Pass | Verdict::Fail) {
        return j;
    }
    let came_back =
        c.scheduler_exit.iter().flat_map(|e| &e.restarts).any(|r| expected.kind.as_ref() == Some(&r.kind));
    let ended = c.scheduler_exit.as_ref().filter(|e| !e.clean);
    match (&c.scheduler_started, ended) {
        (None, _) => fail(format!("{expected} was expected, but the scheduler did not take over")),
        (_, None) if came_back => pass(),
        (_, None) => fail(format!("{expected} was expected, but the scheduler was in charge to the end")),
        (_, Some(e)) if expected.kind.as_ref().is_none_or(|kind| *kind == e.kind) => pass(),
        (_, Some(e)) => {
            fail(format!("{expected} was expected, but the scheduler's exit kind was {}", e.kind))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_wire::message::{SchedulerExit, SchedulerRestart, SchedulerStarted};

    fn ended(kind: &str, clean: bool, started: bool) -> Collected {
        let exit = SchedulerExit { clean, kind: kind.into(), ..SchedulerExit::default() };
        let started = started.then(|| SchedulerStarted { ops: "x".into(), enable_seq: 1 });
        Collected { scheduler_exit: Some(exit), scheduler_started: started, ..Collected::default() }
    }

    fn judged(verdict: Verdict) -> Judgement {
        Judgement { verdict, reasons: vec!["r".into()], exit_status: exit::SCHED_EXIT }
    }

    #[test]
    fn expected_end_passes_and_no_other() {
        let stall = SchedExit { kind: Some("stall".into()) };
        let verdict = |c: &Collected, v| expect(judged(v), &stall, c).verdict;
        assert_eq!(verdict(&ended("stall", false, true), Verdict::SchedExit), Verdict::Pass);
        assert_eq!(verdict(&ended("error", false, true), Verdict::SchedExit), Verdict::Fail);
        assert_eq!(verdict(&ended("stall", false, false), Verdict::SchedExit), Verdict::Fail);
        assert_eq!(verdict(&ended("unreg", true, true), Verdict::Pass), Verdict::Fail);
        assert_eq!(verdict(&ended("stall", false, true), Verdict::BootError), Verdict::BootError);
        // It restarted itself, which a test may expect, but nobody who only expects an end.
        let mut restarted = ended("unreg", true, true);
        let (kind, reason) = ("unreg_kern".to_string(), String::new());
        let restart = SchedulerRestart { kind, reason, message: None };
        restarted.scheduler_exit.as_mut().unwrap().restarts.push(restart);
        let hotplug = SchedExit { kind: Some("unreg_kern".into()) };
        assert_eq!(expect(judged(Verdict::Pass), &hotplug, &restarted).verdict, Verdict::Pass);
        assert_eq!(verdict(&restarted, Verdict::Pass), Verdict::Fail);
        let any = SchedExit { kind: None };
        assert_eq!(expect(judged(Verdict::Pass), &any, &restarted).verdict, Verdict::Fail);
        assert_eq!(
            expect(judged(Verdict::SchedExit), &any, &ended("error", false, true)).verdict,
            Verdict::Pass
        );
    }

    fn checked(terms: serde_json::Value, outline: serde_json::Value) -> Result<(), String> {
        let spec = serde_json::json!({
            "wire_version": 1, "test": "t", "binary": "/b", "manifest_dir": "/", "topology": "1n1l2c1t", "memory_mib": 512,
            "duration_ns": 1, "seed": 0, "terms": terms, "outline": outline,
        });
        let spec: TestSpec = serde_json::from_value(spec).unwrap();
        check(&spec).map_err(|e| {
            assert_eq!(e.exit_status(), exit::TEST_INVALID);
            e.to_string()
        })
    }

    #[test]
    fn conditions_are_held_against_what_the_body_has() {
        let all = serde_json::json!({
            "roles": ["server", "batch", "dd"], "phases": [{"name": "wide", "hold_ns": 1}], "metrics": ["test.copies"],
        });
        let open = serde_json::json!({"roles": ["batch"], "open": "looks for a file"});
        let fault = serde_json::json!({"fault": "step 1 of the scenario (hold 1): why"});
        let terms = |subject: &str, role: Option<&str>, phase: Option<&str>| {
            let a = serde_json::json!({"subject": subject, "relation": "below", "limit": 5e6, "limit_text": "5 ms",
                "role": role, "phase": phase});
            serde_json::json!({"asserts": [a], "payloads": [{"binary": "dd", "files": [], "metrics": ["dd.time"]}]})
        };
        for outline in [&all, &open, &serde_json::Value::Null] {
            for subject in ["wakeup_latency.p99", "dd.time", "test.copies"] {
                assert_eq!(checked(terms(subject, None, None), outline.clone()), Ok(()));
            }
            let e = checked(terms("wakup_latency.p99", Some("server"), None), outline.clone()).unwrap_err();
            assert_eq!(
                e,
                "assert(wakup_latency.p99 < 5 ms, role = \"server\"): there is no metric wakup_latency.p99; did you mean wakeup_latency.p99?"
            );
            assert!(
                checked(terms("dd.tim", None, None), outline.clone())
                    .unwrap_err()
                    .contains("did you mean dd.time?")
            );
        }
        let of = |role, phase| checked(terms("wakeup_latency.p99", role, phase), all.clone());
        assert_eq!(of(Some("batch"), Some("wide")), Ok(()));
        assert!(
            of(Some("servr"), None)
                .unwrap_err()
                .ends_with("the test has no role servr; did you mean server?")
        );
        assert!(of(Some("x"), None).unwrap_err().ends_with("no role x; it has server, batch, dd"));
        assert!(of(None, Some("narrow")).unwrap_err().ends_with("no phase narrow; it has wide"));
        assert!(checked(terms("test.speed", None, None), all).is_err());
        // What was not seen to its end may have anything.
        assert_eq!(checked(terms("wakeup_latency.p99", Some("x"), Some("y")), open.clone()), Ok(()));
        assert_eq!(checked(terms("test.speed", None, None), open), Ok(()));
        let e = checked(serde_json::json!({}), fault).unwrap_err();
        assert_eq!(e, "the test cannot be run: step 1 of the scenario (hold 1): why");
    }
}
