use super::*;
use crate::metrics::proofs::{TOPOLOGY, moved_while_waiting, waiting};

fn explained(stream: &crate::metrics::proofs::Stream, question: &Question) -> Vec<Explained> {
    let dir = tempfile::tempdir().unwrap();
    stream.metrics_in(dir.path());
    explain(dir.path(), TOPOLOGY.parse().unwrap(), 1000, question).unwrap()
}

fn worst(worst: usize) -> Question {
    Question { worst, ..Question::default() }
}

#[test]
fn wait_is_told_in_order() {
    let found = explained(&waiting(), &worst(2));
    assert_eq!([found[0].cause.as_str(), found[1].cause.as_str()], ["throttled", "cpu_busy"]);
    let expected = [
        "a[1] waited 300 ns from 0.000000 s on: CPU 0 busy with b[4], no allowed CPU idle",
        "woken by an interrupt",
        "queued on CPU 0, in a CPU's own DSQ",
        "ran instead: b[4] 300 ns on CPU 0",
        "idle meanwhile: CPU 3 40 ns, same_llc",
        "then ran on CPU 0 for 10 ns",
        "causes: cpu_busy 250 ns, idle_cpu same_llc 40 ns, host_steal 10 ns",
    ];
    assert_eq!(found[1].lines, expected);
    assert_eq!((found[1].ts_ns, found[1].wait_ns, found[1].open), (1200, 300, false));
}

#[test]
fn moves_and_an_open_wait_are_told() {
    let found = explained(&moved_while_waiting(), &worst(2));
    let expected = [
        "a[1] waited 500 ns from 0.000000 s on: CPU 4 busy with b[4], no allowed CPU idle",
        "queued on CPU 0",
        "moved from CPU 0 to CPU 4 after 100 ns (balance)",
        "ran instead: b[4] 400 ns on CPU 4, b[5] 100 ns on CPU 0",
        "no CPU was idle",
        "still waited at the window's end",
    ];
    assert_eq!(found[0].lines, expected);
    assert!(found[0].open);
}

#[test]
fn roles_and_tasks_select_waits() {
    let of = |role: Option<&str>, task| {
        let question = Question { role: role.map(str::to_string), task, worst: 10 };
        explained(&waiting(), &question).iter().map(|e| e.tid).collect::<Vec<_>>()
    };
    assert_eq!(of(None, Some(2)), [2]);
    assert_eq!(of(Some("a"), None).len(), 6);
    assert!(of(Some("b"), None).is_empty() && of(Some("b"), Some(2)).is_empty());
}
