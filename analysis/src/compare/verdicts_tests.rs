//! Verdicts of synthetic boots, and p-values that were computed by hand.

use Verdict::{BootError, Fail, Inconclusive, Pass, SchedExit, Skip};

use super::*;
use crate::compare::comparison::compare;
use crate::compare::comparison::tests::{boots, compared, sides};
use crate::compare::sides::{Side, Sides};
use crate::compare::thresholds::Policy;

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-10, "{a} is not {b}");
}

/// Boots with equal numbers on both sides and these verdicts, from the first boot on; the others pass.
fn with(accel: &str, n: usize, a: &[Verdict], b: &[Verdict]) -> Vec<Sidecar> {
    let values: Vec<f64> = (0..n).map(|i| 100.0 + i as f64 / 10.0).collect();
    let mut runs = boots(accel, "wakeup_latency", &values, &values);
    runs.iter_mut().zip(a).for_each(|(run, v)| run.verdict = *v);
    runs.iter_mut().skip(n).zip(b).for_each(|(run, v)| run.verdict = *v);
    runs
}

fn judged(accel: &str, n: usize, a: &[Verdict], b: &[Verdict]) -> (Finding, u8) {
    let c = compared(&with(accel, n, a, b), &Policy::default());
    assert_eq!((c.verdicts.len(), c.all_verdicts.finding), (1, c.verdicts[0].finding));
    assert!(c.all_verdicts.judged && c.verdicts[0].judged);
    assert_eq!(c.verdicts[0].reason.is_some(), c.verdicts[0].finding != Finding::Unchanged);
    (c.verdicts[0].finding, c.exit_status())
}

#[test]
fn unpaired_p_by_hand() {
    // None of 14 and 8 of 14: 8 of 28 fail, and all are B's, or all are A's: 2 C(14, 8) / C(28, 8).
    close(Null::unpaired(14, 14, 8, 8).p(), 2.0 * 3003.0 / 3_108_105.0);
    // 1 of 4 and 3 of 4: C(4, k) C(4, 4 - k) / 70 = 1, 16, 36, 16, 1 of 70; 0, 1, 3 and 4 are as far from 2.
    close(Null::unpaired(4, 4, 4, 3).p(), 34.0 / 70.0);
    close(Null::unpaired(4, 4, 4, 2).p(), 1.0);
    // None of 2 and 2 of 5: C(5, k) C(2, 2 - k) / 21 = 1, 10, 10 of 21 with mean 10/7; 0 and 2 are as far as
    // 2.
    close(Null::unpaired(2, 5, 2, 2).p(), 11.0 / 21.0);
    close(Null::unpaired(4, 4, 0, 0).p(), 1.0);
    close(Null::unpaired(0, 3, 2, 2).p(), 1.0);
    close(Null::unpaired(3, 3, 3, 3).least_p(), 0.1);
    let many = Null::unpaired(700, 900, 800, 450);
    close(many.of.iter().sum::<f64>(), 1.0);
    close(many.p(), 1.0);
}

#[test]
fn paired_p_by_hand() {
    // Six pairs, all B's: 2 of 64. Five: 2 of 32. Four of five: 1 + 5 sets at each end.
    close(Null::paired(6, 6).p(), 2.0 / 64.0);
    close(Null::paired(5, 5).p(), 2.0 / 32.0);
    close(Null::paired(5, 4).p(), 12.0 / 32.0);
    close(Null::paired(0, 0).p(), 1.0);
}

#[test]
fn p_of_several_pairs_by_hand() {
    // Each all of 4 on B, with 1/70; both: 1/4900, and as much at the other end.
    let one = Null::unpaired(4, 4, 4, 4);
    close(one.plus(&one).p(), 2.0 / 4900.0);
    // 1 of 70 and 1 of 2 are at each end.
    close(one.plus(&Null::paired(1, 1)).p(), 2.0 / 140.0);
    // Opposite ways: 4 of 8, the mean.
    close(one.plus(&Null::unpaired(4, 4, 4, 0)).p(), 1.0);
}

#[test]
fn crashed_side_is_a_regression_though_the_numbers_are_equal() {
    let b = [vec![SchedExit; 6], vec![Fail; 2]].concat();
    let c = compared(&with("tcg", 14, &[], &b), &Policy::default());
    assert!(c.lines.iter().all(|l| l.finding == Finding::Unchanged));
    assert_eq!(c.exit_status(), 1);
    let line = &c.verdicts[0];
    assert_eq!((line.finding, line.a.failed(), line.b.failed()), (Finding::Regression, 0, 8));
    assert_eq!((line.b.sched_exit, line.b.fail, line.b.pass, line.b.admissible), (6, 2, 6, 8));
    close(line.p_corrected, 2.0 * 3003.0 / 3_108_105.0);
    assert_eq!(line.reason.as_deref(), Some("more boots failed on B than on A"));
    assert_eq!(judged("tcg", 14, &b, &[]), (Finding::Improvement, 0));
}

#[test]
fn boots_that_only_b_lost_are_never_green() {
    for (accel, n) in [("tcg", 14), ("sim", 14)] {
        for v in [Fail, SchedExit, BootError, Inconclusive, Skip] {
            assert_eq!(judged(accel, n, &[], &[v]), (Finding::CannotDecide, 3), "{accel} {v:?}");

            assert_eq!(judged(accel, n, &[v], &[]), (Finding::Unchanged, 0), "{accel} {v:?}");
            assert_eq!(judged(accel, n, &[v], &[v]), (Finding::Unchanged, 0), "{accel} {v:?}");
        }
        for v in [Fail, SchedExit, BootError] {
            assert_eq!(judged(accel, n, &[], &vec![v; n]), (Finding::Regression, 1), "{accel} {v:?}");
        }
        for v in [Inconclusive, Skip] {
            assert_eq!(judged(accel, n, &[], &vec![v; n]), (Finding::CannotDecide, 3), "{accel} {v:?}");
        }
    }
    // Too few boots for any significance.
    assert_eq!(judged("tcg", 3, &[], &[SchedExit; 3]), (Finding::CannotDecide, 3));
    assert_eq!(judged("sim", 5, &[], &[SchedExit; 5]), (Finding::CannotDecide, 3));
    assert_eq!(judged("sim", 6, &[], &[SchedExit; 6]), (Finding::Regression, 1));
}

#[test]
fn pairs_are_judged_pair_by_pair() {
    // Each side lost a boot, of different seeds: one that A did not lose.
    assert_eq!(judged("sim", 8, &[Pass, Fail], &[SchedExit]), (Finding::CannotDecide, 3));
    assert_eq!(judged("tcg", 8, &[Pass, Fail], &[SchedExit]), (Finding::Unchanged, 0));
    let c = compared(&with("sim", 8, &[], &[SchedExit]), &Policy::default());
    assert_eq!((c.lines[0].a.len(), c.lines[0].b.len(), c.verdicts[0].b.boots()), (7, 7, 8));
    assert!(c.unpaired[0].ends_with("1 pairs in which a boot cannot be compared"), "{:?}", c.unpaired);
    // A seed that A never ran.
    let mut runs = with("sim", 8, &[], &[SchedExit]);
    runs.remove(0);
    let c = compared(&runs, &Policy::default());
    assert_eq!((c.verdicts[0].finding, c.exit_status()), (Finding::CannotDecide, 3));
}

#[test]
fn nothing_that_can_be_compared_is_never_green() {
    for (a, b) in
        [(SchedExit, SchedExit), (Inconclusive, Inconclusive), (SchedExit, Inconclusive), (BootError, Skip)]
    {
        let (finding, status) = judged("tcg", 8, &[a; 8], &[b; 8]);
        assert_eq!((finding, status), (Finding::CannotDecide, 3), "{a:?} {b:?}");
    }
    assert_eq!(judged("tcg", 8, &[SchedExit; 8], &[]), (Finding::CannotDecide, 3));
    // A test that both sides skip loses nothing; alone it says nothing either.
    assert_eq!(judged("tcg", 8, &[Skip; 8], &[Skip; 8]), (Finding::Unchanged, 3));
}

/// Three tests, each with too few boots to be significant by itself.
#[test]
fn all_pairs_together_can_be_significant() {
    let mut runs = Vec::new();
    for test in ["b::t", "b::u", "b::v"] {
        let mut of_test = with("tcg", 3, &[], &[SchedExit; 3]);
        for r in &mut of_test {
            r.identity.test = test.into();
            r.identity.run_id.push_str(test);
        }
        runs.extend(of_test);
    }
    let c = compared(&runs, &Policy::default());
    assert!(c.verdicts.iter().all(|v| v.finding == Finding::CannotDecide && v.p_corrected == 1.0));
    close(c.all_verdicts.p, 2.0 / 8000.0);
    assert_eq!((c.all_verdicts.finding, c.exit_status()), (Finding::Regression, 1));
    assert_eq!((c.all_verdicts.a.pass, c.all_verdicts.b.sched_exit), (9, 9));
    // Holm: the two that can be significant share the level, and the third test costs them nothing.
    let p = |n: usize| 2.0 / [20.0, 70.0, 252.0, 924.0][n - 3];
    let null = |n: usize| with("tcg", n, &[], &vec![SchedExit; n]);
    let (three, four, six) = (null(3), null(4), null(6));
    let boots_of = |runs: &[Sidecar]| {
        let side = |name: &str| {
            runs.iter()
                .filter(|r| r.identity.scheduler == name)
                .cloned()
                .collect::<Vec<_>>()
                .leak()
                .iter()
                .collect()
        };
        Boots { pair: BTreeMap::new(), a: side("a"), b: side("b"), pairs: None, no_result: [0, 0] }
    };
    let (lines, _) = judge(&[boots_of(&four), boots_of(&three), boots_of(&six)]);
    close(lines[0].p_corrected, p(4));
    close(lines[1].p_corrected, 1.0);
    close(lines[2].p_corrected, 2.0 * p(6));
}

/// What was started on a side is known where the boots were made for the comparison.
#[test]
fn boots_without_a_result_are_lost() {
    let runs = with("sim", 8, &[], &[]);
    let status = |a: std::ops::Range<usize>, b: std::ops::Range<usize>, without: [&[&str]; 2]| {
        let side = |range: std::ops::Range<usize>, without: &[&str]| Side {
            runs: runs[range].iter().collect(),
            without_result: without.iter().map(|t| (t.to_string(), vec!["exit status 21".into()])).collect(),
        };
        let sides = Sides::of_boots(side(a, without[0]), side(b, without[1]), &["scheduler"], 8).unwrap();
        let c = compare(&sides, &Policy::default());
        (c.verdicts.first().map(|v| (v.finding, v.a.no_result, v.b.no_result)), c.exit_status())
    };
    assert_eq!(status(0..8, 8..16, [&[], &[]]), (Some((Finding::Unchanged, 0, 0)), 0));
    assert_eq!(status(0..8, 8..15, [&[], &[]]), (Some((Finding::CannotDecide, 0, 1)), 3));
    assert_eq!(status(0..7, 8..16, [&[], &[]]), (Some((Finding::Unchanged, 1, 0)), 0));
    assert_eq!(status(0..8, 8..8, [&[], &["b::t"]]), (Some((Finding::CannotDecide, 0, 8)), 3));
    // A test that was removed, or not listed.
    assert_eq!(status(0..8, 8..8, [&[], &[]]), (Some((Finding::CannotDecide, 0, 8)), 3));
    // One that is new cannot have become worse; alone it says nothing. One that A could not run is no new
    // one.
    assert_eq!(status(0..0, 8..16, [&[], &[]]), (None, 3));
    assert_eq!(status(0..0, 8..16, [&["b::t"], &[]]), (Some((Finding::CannotDecide, 8, 0)), 3));
}

/// A test of how a scheduler ends: no metrics, and a verdict of each boot.
#[test]
fn tests_that_expect_an_end_are_judged_by_their_verdicts() {
    let mut runs = with("tcg", 8, &[], &[]);
    let mut ended = with("tcg", 8, &[], &[]);
    for r in &mut ended {
        r.identity.test = "b::ends".into();
        r.identity.run_id.push('e');
        r.scheduler_exit = Some(ktstr_wire::message::SchedulerExit {
            scheduler: "b".into(),
            clean: false,
            kind: "error".into(),
            reason: None,
            message: None,
            dump: None,
            process_end: None,
            output: String::new(),
            restarts: Vec::new(),
        });
    }
    runs.extend(ended);
    let c = compare(&sides(&runs, "scheduler", "a", "b"), &Policy::default());
    assert_eq!((c.verdicts.len(), c.exit_status()), (2, 0));
    assert_eq!((c.verdicts[0].a.pass, c.verdicts[0].a.admissible), (8, 0));
    assert!(c.inadmissible[0].ends_with("its scheduler ended, as the test expects"), "{:?}", c.inadmissible);
}
