use super::*;
use crate::scenario::Scenario;
use crate::workload::work::Via;

static OTHER: Scheduler = Scheduler { name: "other", binary: "scx_other", args: &[] };

/// Four CPUs in two LLCs, under a scheduler that may be changed to `also`.
fn spec() -> TestSpec {
    let json = serde_json::json!({
        "wire_version": 0, "test": "t", "binary": "/b", "manifest_dir": "/", "topology": "1n2l2c1t", "memory_mib": 512,
        "duration_ns": 1_000_000_000, "seed": 0, "scheduler": {"name": "own", "binary": "scx_own", "args": []},
        "terms": {"also": [{"name": "also", "binary": "scx_also", "args": []}]},
    });
    serde_json::from_value(json).unwrap()
}

fn checked(scenario: Scenario) -> Result<Vec<String>, String> {
    check(&spec(), &[], &scenario.steps)
}

fn a(workers: u32) -> CgroupDef {
    CgroupDef::named("a").workers(workers)
}

/// A scenario of one worker in `a` with one more step.
fn with(step: impl FnOnce(Scenario) -> Scenario) -> Scenario {
    step(Scenario::new().add(a(1)).hold(0.5)).hold(0.5)
}

/// The step that is named, and why.
fn fault(scenario: Scenario) -> (usize, String) {
    let text = checked(scenario.clone()).expect_err(&format!("{scenario:?}"));
    let rest = text.strip_prefix("step ").unwrap_or_else(|| panic!("{text}"));
    let (number, rest) = rest.split_once(' ').unwrap();
    (number.parse().unwrap(), rest.into())
}

#[test]
fn every_canned_scenario_passes_on_every_preset_that_has_cpus_for_it() {
    use crate::ctx::Ctx;
    use crate::scenario::canned;
    type Canned = fn(&Ctx) -> Scenario;
    let all: [Canned; 14] = [
        canned::steady,
        canned::oversubscribed,
        canned::affinity_change,
        canned::cpuset_resize,
        canned::nested_cgroups,
        canned::contention,
        canned::wakeup_storm,
        canned::fork_churn,
        canned::priority_mix,
        canned::numa_spread,
        canned::cgroup_churn,
        canned::mixed_service,
        canned::wakeup_kinds,
        canned::scheduler_restart,
    ];
    for topology in crate::harness::gauntlet::presets().filter(|t| t.nr_cpus() > 1) {
        let ctx = Ctx::dry(TestSpec { topology, ..spec() });
        for scenario in all {
            let steps = scenario(&ctx).steps;
            assert_eq!(check(ctx.spec(), &[], &steps).err(), None, "{topology}");
        }
    }
}

#[test]
fn definitions_are_held_against_what_the_kernel_takes() {
    let one = |def: CgroupDef| fault(Scenario::new().add(def).hold(1.0));
    let cases = [
        (a(3).work(Work::message()), "multiple of 2 workers, not 3"),
        (a(2).work(Work::wakeup_storm(1)), "2 workers or more"),
        (a(1).work(Work::blocks([])), "without a block"),
        (a(5000), "at most 4096"),
        (a(2).work(Work::cache(300 << 20)), "touch 600 MiB, and the guest has 512"),
        (a(1).weight(0), "a weight is from 1 to 10000, not 0"),
        (a(1).weight(10_001), "not 10001"),
        (a(1).quota(0.0), "a quota is 0.01 CPUs or more, not 0"),
        (a(1).quota(f64::NAN), "not NaN"),
        (a(1).cpuset("7"), "there is no CPU 7; 1n2l2c1t has CPUs 0 to 3"),
        (a(1).cpuset(Cpus::Llc(2)), "Llc(2) has no CPU"),
        (a(1).nice(20), "niceness is from -20 to 19, not 20"),
        (a(1).policy(Policy::Fifo(0)), "from 1 to 97, not 0"),
        (a(1).policy(Policy::Rr(100)), "from 1 to 97, not 100"),
        (CgroupDef::named("a b"), "'a b' is not a valid name"),
    ];
    for (def, why) in cases {
        let (step, text) = one(def);
        assert!(step == 1 && text.contains(why), "step {step} {text}, not {why}");
    }
}

#[test]
fn deadlines_are_checked_as_the_kernel_does() {
    let ms = Duration::from_millis;
    let deadline = |runtime, period| Policy::Deadline { runtime, period };
    let of = |policy| fault(with(|s| s.policy("a", policy))).1;
    assert!(of(deadline(ms(5), ms(4))).contains("a deadline's runtime"));
    assert!(of(deadline(Duration::ZERO, ms(4))).contains("a deadline's runtime"));
    assert!(of(deadline(ms(1), ms(5000))).contains("a deadline's period"));
    assert!(
        fault(with(|s| s.cpus("a", Cpus::Llc(0)).policy("a", deadline(ms(1), ms(10)))))
            .1
            .contains("on all CPUs")
    );
    assert!(checked(with(|s| s.policy("a", deadline(ms(1), ms(10))))).is_ok());
}

#[test]
fn steps_are_checked_against_the_cgroups_at_that_time() {
    let (step, text) = fault(with(|s| s.weight("b", 5)));
    assert_eq!(
        (step, text.as_str()),
        (3, "of the scenario (weight of b: 5): there is no cgroup b (there is a): add it first")
    );
    assert_eq!(fault(with(|s| s.weight("a", 0))).0, 3);
    let cases: [(Scenario, usize, &str); 14] = [
        (with(|s| s.quota("a", 0.001)), 3, "0.01 CPUs or more"),
        (with(|s| s.renice("a", -21)), 3, "from -20 to 19"),
        (with(|s| s.cpus("a", "0-4")), 3, "no CPU 4"),
        (with(|s| s.pin("a", Cpus::Range(2, 5))), 3, "CPUs 2 to 4 are not all on"),
        (with(|s| s.cpus("a", "0-1").pin("a", "2")), 4, "its cpuset has none of these CPUs, but 0,1"),
        (with(|s| s.spawn(CgroupDef::named("b"))), 3, "no cgroup b"),
        (with(|s| s.add(a(1))), 3, "a cgroup a already"),
        (with(|s| s.move_workers("a", "b")), 3, "no cgroup b"),
        (with(|s| s.remove("a").thaw("a")), 4, "no cgroup a (there is none)"),
        (with(|s| s.freeze("a").stop("a")), 4, "a is frozen"),
        (
            with(|s| s.swap_scheduler(&OTHER)),
            3,
            "does not name the scheduler other: write its static in the attribute, also(...)",
        ),
        (with(|s| s.hold(-0.1)), 3, "part of the test's duration"),
        (with(|s| s.hold(f64::INFINITY)), 3, "part of the test's duration"),
        (with(|s| s.spawn(a(3).work(Work::Spin.chain(2, Via::Pipe)))), 3, "multiple of 2"),
    ];
    for (scenario, step, why) in cases {
        let found = fault(scenario);
        assert!(found.0 == step && found.1.contains(why), "{found:?}, not {step}: {why}");
    }
}

#[test]
fn schedulers_that_the_test_names_may_be_changed_to() {
    static ALSO: Scheduler = Scheduler { name: "also", ..OTHER };
    assert!(checked(with(|s| s.swap_scheduler(&ALSO))).is_ok());
    // Under the kernel's own scheduler changes do nothing.
    let steps = with(|s| s.swap_scheduler(&OTHER)).steps;
    assert!(check(&TestSpec { scheduler: None, ..spec() }, &[], &steps).is_ok());
}

#[test]
fn workers_get_time_before_they_stop() {
    let hold = "no hold follows, so that the workers of a would stop as soon as they start: write .hold(1.0)";
    let second = Scenario::new().add(CgroupDef::named("b")).hold(0.5).add(a(1));
    let cases = [
        (Scenario::new().add(a(1)), 1),
        (Scenario::new().add(a(1)).hold(0.0), 1),
        (Scenario::new().hold(1.0).add(a(1)), 2),
        (second.clone().stop("a").hold(0.5), 3),
        (second.clone().remove("a").hold(0.5), 3),
        (second, 3),
    ];
    for (scenario, step) in cases {
        let found = fault(scenario);
        assert!(found.0 == step && found.1.contains(hold), "{found:?}");
    }
    let none = checked(Scenario::new().add(a(0)).hold(1.0)).unwrap_err();
    assert!(none.contains("has no workers"), "{none}");
}

#[test]
fn cgroups_in_cgroups_follow_the_kernels_rules() {
    let named = |name: &str, workers| CgroupDef::named(name).workers(workers);
    let top = || Scenario::new().add(named("t", 0)).add(named("t/a", 1)).hold(0.5);
    assert_eq!(checked(top()).unwrap(), ["t", "t/a"]);
    let cases = [
        (Scenario::new().add(named("t", 1)).add(named("t/a", 1)), 2, "t has workers of its own"),
        (Scenario::new().add(named("t/a", 1)).add(named("t", 0)), 2, "add t first"),
        (top().spawn(named("t", 1)), 4, "t/a is in it"),
        (top().remove("t"), 4, "t/a is in it: remove that first"),
        (top().move_workers("t/a", "t"), 4, "t/a is in it"),
        (top().freeze("t").stop("t/a"), 5, "t is frozen"),
        (top().cpus("t", "0").pin("t/a", "1"), 5, "but 0"),
    ];
    for (scenario, step, why) in cases {
        let found = fault(scenario.hold(0.5));
        assert!(found.0 == step && found.1.contains(why), "{found:?}, not {step}: {why}");
    }
}

#[test]
fn cgroups_of_an_earlier_scenario_are_still_there() {
    let again = check(&spec(), &["a".into()], &with(|s| s).steps).unwrap_err();
    assert!(again.contains("an earlier scenario of the test has left a cgroup a"), "{again}");
    assert!(checked(with(|s| s.add(CgroupDef::named("b")).hold(0.1).remove("b"))).unwrap() == ["a"]);
}

#[test]
fn names_stay_below_the_root() {
    assert!(check_name("a/b-1.c").is_ok());
    for bad in ["", "/a", "a/", "a//b", "..", "a/../b", "body", "body/x", "a b", ".x"] {
        assert!(check_name(bad).is_err(), "{bad}");
    }
}
