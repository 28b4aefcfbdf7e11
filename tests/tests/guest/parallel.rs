//! What idle CPUs cost in `sim`: a scheduler that leaves CPUs idle while tasks wait loses their part of the throughput, and that is what
//! `idle_while_waiting` says.

use ktstr_tests::boot::{self, Booted};
use serde_json::json;

/// How long the threads compute.
const DURATION_NS: u64 = 500_000_000;

/// Eight computing threads on two LLCs of two CPUs each.
fn under(arguments: &[&str]) -> Booted {
    let scheduler = boot::fixture(arguments);
    let changes =
        json!({"topology": "1n2l2c1t", "accel": "sim", "duration_ns": DURATION_NS, "scheduler": scheduler});
    let booted = boot::run(&boot::spec(&boot::suite("sim"), "compute_everywhere", &changes)).booted();
    assert_eq!(booted.status, 0, "{}", booted.output);
    booted
}

fn throughput(b: &Booted) -> f64 {
    b.metric(Some("crew"), "worker_throughput", "value").expect("the workers report how far they came")
}

#[test]
fn idle_cpus_cost_their_part_of_the_throughput() {
    let all = under(&[]);
    for (avoided, cpus) in [("2,3", 2.0), ("3", 1.0)] {
        let some = under(&["--avoid-cpus", avoided]);
        let lost = 1.0 - throughput(&some) / throughput(&all);
        // The window is a little longer than the workers' time.
        let idle_ns = some.metric(None, "idle_while_waiting", "value").expect("it is measured");
        let idle = idle_ns / (4.0 * DURATION_NS as f64);
        println!(
            "without CPUs {avoided}: {lost:.4} of the throughput lost, {idle:.4} of the CPU time idle while tasks waited"
        );
        assert!(
            (lost - cpus / 4.0).abs() < 0.03 * cpus / 4.0,
            "lost {lost}, and the CPUs are {}",
            cpus / 4.0
        );
        assert!((lost - idle).abs() < 0.05 * lost, "lost {lost}, idle while waiting {idle}");
    }
    assert!(all.metric(None, "idle_while_waiting_frac", "value").expect("it is measured") < 0.01);
}
