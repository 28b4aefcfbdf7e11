//! What a test says about its run beside its body's own result: conditions on metrics, the default checks of what the
//! probes saw, and the end of the scheduler that it expects.

use std::path::Path;

use ktstr_analysis::{Collected, MetricRow, Verdict, assertion};
use ktstr_wire::spec::{SchedExit, TestSpec};

use super::verdict::Judgement;
use crate::exit;

/// The check that no worker waits too long.
const MAX_WAIT: &str = "max_wait";

/// The least limit of it, nanoseconds: emulated CPUs of a busy host stand still for a while.
const LEAST_WAIT_NS: u64 = 1_000_000_000;

/// The check that the scheduler is in charge to the end.
const IN_CHARGE: &str = "in_charge";

/// Name of the file in a work directory that holds the spec.
pub const SPEC_FILE: &str = "spec.json";

/// The spec of the run in `work`; a run without one has no terms.
pub fn read(work: &Path) -> Option<TestSpec> {
    serde_json::from_slice(&std::fs::read(work.join(SPEC_FILE)).ok()?).ok()
}

/// Whether a scheduler that ends is the test's failure.
pub fn wants_scheduler(spec: Option<&TestSpec>) -> bool {
    spec.is_none_or(|s| !is_off(s, IN_CHARGE))
}

fn is_off(spec: &TestSpec, check: &str) -> bool {
    spec.terms.without.iter().any(|w| w == check)
}

/// The judgement after the test's terms.
pub fn apply(j: Judgement, spec: &TestSpec, c: &Collected, rows: &[MetricRow], dir: &Path) -> Judgement {
    if let Some(expected) = &spec.terms.expect {
        return expect(j, expected, c);
    }
    if j.verdict != Verdict::Pass {
        return j;
    }
    let mut findings = assertion::evaluate(&spec.terms.asserts, rows, dir, c);
    if !is_off(spec, MAX_WAIT) && c.quality.has_all_events() {
        let limit = LEAST_WAIT_NS.max(spec.duration_ns / 2);
        match assertion::long_waits(dir, c, limit) {
            Ok(found) => findings.failed.extend(found.map(|f| format!("{f} (check {MAX_WAIT})"))),
            Err(e) => findings.unmeasured.push(format!("the tables cannot be read: {e}")),
        }
    }
    match (findings.failed.is_empty(), findings.unmeasured.is_empty()) {
        (false, _) => Judgement { verdict: Verdict::Fail, reasons: findings.failed, exit_status: exit::FAIL },
        (true, false) => Judgement {
            verdict: Verdict::Inconclusive,
            reasons: findings.unmeasured,
            exit_status: exit::INCONCLUSIVE,
        },
        (true, true) => j,
    }
}

/// A pass only if the scheduler took over and then ended as expected.
fn expect(j: Judgement, expected: &SchedExit, c: &Collected) -> Judgement {
    let fail = |reason: String| {
        let reasons = [vec![reason], j.reasons.clone()].concat();
        Judgement { verdict: Verdict::Fail, reasons, exit_status: exit::FAIL }
    };
    if !matches!(j.verdict, Verdict::SchedExit | Verdict::Pass | Verdict::Fail) {
        return j;
    }
    let ended = c.scheduler_exit.as_ref().filter(|e| !e.clean);
    match (&c.scheduler_started, ended) {
        (None, _) => fail(format!("{expected} was expected, but the scheduler did not take over")),
        (_, None) => fail(format!("{expected} was expected, but the scheduler was in charge to the end")),
        (_, Some(e)) if expected.kind.as_ref().is_none_or(|kind| *kind == e.kind) => {
            Judgement { verdict: Verdict::Pass, reasons: Vec::new(), exit_status: exit::OK }
        }
        (_, Some(e)) => {
            fail(format!("{expected} was expected, but the scheduler's exit kind was {}", e.kind))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_wire::message::{SchedulerExit, SchedulerStarted};

    fn ended(kind: &str, clean: bool, started: bool) -> Collected {
        let exit = SchedulerExit {
            clean,
            kind: kind.into(),
            reason: None,
            message: None,
            dump: None,
            process_end: None,
            output: String::new(),
        };
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
        let any = SchedExit { kind: None };
        assert_eq!(
            expect(judged(Verdict::SchedExit), &any, &ended("error", false, true)).verdict,
            Verdict::Pass
        );
    }
}
