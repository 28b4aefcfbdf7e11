//! The same inputs give the same boot in `sim`, to the last bit and whatever the host is doing; other seeds give others; and
//! a boot that was found can be had again.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic as the test may")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use ktstr_tests::boot::{self, Booted};
use serde_json::{Value, json};

/// One boot of pairs that wake each other under sched_ext.
fn boot(seed: u64) -> Booted {
    let fixture = boot::fixture(&[]);
    let changes = json!({"accel": "sim", "seed": seed, "duration_ns": 200_000_000, "scheduler": fixture});
    boot::run(&boot::spec(&boot::suite("sched_basic"), "sched_basic_message", &changes)).booted()
}

/// SHA-256 of each table.
fn tables(f: &Booted) -> BTreeMap<String, String> {
    assert_eq!(f.status, 0, "{}", f.output);
    let files = f.sidecar["files"].as_array().unwrap();
    let text = |v: &Value| v.as_str().unwrap().to_string();
    files.iter().map(|t| (text(&t["table"]), text(&t["sha256"]))).collect()
}

/// The sidecar names every file of the guest, the host's libraries among them, and the emulator.
fn assert_inputs(f: &Booted) {
    let inputs = &f.sidecar["identity"]["inputs"];
    let files = inputs["files"].as_array().unwrap();
    let digest = |v: &Value| v.as_str().is_some_and(|d| d.len() == 64);
    for wanted in ["/init", "/ktstr/bin/test", "/ktstr/bin/scheduler", "/libc.so.6", "/ld-linux-x86-64.so.2"]
    {
        let found = files.iter().find(|f| f["path"].as_str().unwrap().ends_with(wanted));
        assert!(found.is_some_and(|f| digest(&f["sha256"])), "{wanted}: {files:?}");
    }
    let emulator = &inputs["emulator"];
    assert!(
        [&inputs["initramfs_sha256"], &emulator["sha256"], &emulator["firmware_sha256"]]
            .into_iter()
            .all(digest)
    );
    let arguments = inputs["arguments"].as_array().unwrap();
    assert!(arguments.iter().any(|a| a.as_str().unwrap().contains("nokaslr")), "{arguments:?}");
    assert!(
        !arguments
            .iter()
            .any(|a| a.as_str().unwrap().contains("/home/") || a.as_str().unwrap().contains("/tmp/"))
    );
}

/// One boot while nothing else of this test runs, two at the same time, two more beside two busy threads.
#[test]
fn boots_of_one_seed_are_identical_idle_in_parallel_and_under_load() {
    let mut all = vec![boot(7)];
    let parallel = |all: &mut Vec<Booted>| {
        std::thread::scope(|s| {
            let both: Vec<_> = (0..2).map(|_| s.spawn(|| boot(7))).collect();
            all.extend(both.into_iter().map(|b| b.join().unwrap()));
        });
    };
    parallel(&mut all);
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        parallel(&mut all);
        stop.store(true, Ordering::Relaxed);
    });
    let distinct: BTreeSet<_> = all.iter().map(tables).collect();
    assert_eq!(distinct.len(), 1, "{distinct:#?}");
    assert!(all[0].metric(None, "context_switches", "value") > Some(100.0), "the load does next to nothing");
    assert_eq!(all[0].sidecar["metrics"], all[4].sidecar["metrics"]);
    assert_inputs(&all[0]);
    // Percentiles of its workers' samples take the body longer than this.
    let harness_ns = all[0].metric(None, "harness_cpu_time", "value").unwrap();
    assert!(harness_ns > 0.0 && harness_ns < 20e6, "{harness_ns} ns of the window are the harness's");
    assert_eq!(all[0].sidecar["identity"]["inputs"], all[4].sidecar["identity"]["inputs"]);
    let other = boot(8);
    let (one, other) = (tables(&all[0]), tables(&other));
    assert!(one["slices"] != other["slices"], "the seed decides nothing");
}

/// The runner's exit status and what it said.
fn ktstr(args: &[&str]) -> (i32, String) {
    let out = boot::building_runner().args(args).output().unwrap();
    (out.status.code().unwrap(), boot::text_of(&out))
}

/// What a capsule holds is all that the boot needs: it is repeated in a directory without a project.
fn capsule_repeats_it_elsewhere(sidecar: &str) {
    let dir = tempfile::tempdir().unwrap();
    let capsule = dir.path().join("a race.capsule");
    let (status, said) = ktstr(&["capsule", sidecar, "-o", capsule.to_str().unwrap()]);
    assert!(status == 0 && said.contains("the same boot"), "{said}");
    let mut replay = boot::building_runner();
    replay.current_dir(dir.path()).env("CARGO_TARGET_DIR", dir.path()).arg("replay").arg(&capsule);
    let out = replay.output().unwrap();
    let said = boot::text_of(&out);
    assert!(out.status.code() == Some(0) && said.contains("the same boot"), "{said}");
    assert!(said.contains("runnable task stall"), "{said}");
    std::fs::write(&capsule, b"\x28\xb5\x2f\xfd and then nothing").unwrap();
    let (status, said) = ktstr(&["replay", capsule.to_str().unwrap()]);
    assert!(status == 2 && said.contains("is not a capsule"), "{status} {said}");
}

/// The fixture scheduler forgets a task when two CPUs dispatch at the same moment; the kernel's watchdog sees that it never
/// runs again.
#[test]
fn planted_race_is_found_by_explore_and_had_again_by_replay() {
    let scheduler = "scx_fixture --race --timeout-ms 300 --slice-us 1000";
    let explore = ["explore", "demo::demo_1llc", "--seeds", "10", "--until-fail", "--scheduler", scheduler];
    let (status, said) = ktstr(&explore);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("runnable task stall"), "{said}");
    let sidecar = said.lines().find_map(|l| l.split_once("cargo ktstr replay ")).unwrap().1;
    for _ in 0..2 {
        let (status, said) = ktstr(&["replay", sidecar]);
        assert!(status == 0 && said.contains("the same boot"), "{said}");
        assert!(said.contains("runnable task stall"), "{said}");
    }
    capsule_repeats_it_elsewhere(sidecar);
    let kept = std::path::Path::new(sidecar)
        .ancestors()
        .find(|p| p.parent().is_some_and(|p| p.ends_with("explore")));
    std::fs::remove_dir_all(kept.unwrap()).unwrap();
}
