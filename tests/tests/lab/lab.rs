//! Whole runs with `--accel kvm`, in the KVM lab (`vmm/lab`), where `/dev/kvm` is real and the host an emulated one.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic as the test may")]

#[path = "../guest/tables/mod.rs"]
mod tables;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ktstr_tests::boot::{self, runner, sidecar_below};
use ktstr_wire::topology::Topology;
use polars::prelude::*;
use serde_json::{Value, json};

/// Runs specs in the lab one after the other, beside a process that spins or not, and gives each one's sidecar and the folder of its
/// tables. The lab is an emulated guest in time that is real, or `steady`.
fn run_in_lab(specs: &[Value], lab: &str, beside_spinner: bool, dir: &Path) -> Vec<(Value, PathBuf)> {
    let runner = runner().get_program().display().to_string();
    let programs = boot::program("").display().to_string();
    let mut command = format!("export KTSTR_ACCEL=kvm KTSTR_SCHEDULER_DIR='{programs}'\n");
    if beside_spinner {
        command += "(while :; do :; done) & trap \"kill $!\" EXIT\n";
    }
    for (i, spec) in specs.iter().enumerate() {
        fs::write(dir.join(format!("{i}.spec")), spec.to_string()).unwrap();
        command += &format!(
            "KTSTR_TARGET_DIR=/tmp/target{i} '{runner}' internal-run < /mnt/share/{i}.spec\n\
             cp -r /tmp/target{i}/ktstr /mnt/share/{i}\n"
        );
    }
    fs::write(dir.join("command"), command).unwrap();
    let kernel = ktstr_wire::env::TEST_KERNEL.path().unwrap().expect("make test sets KTSTR_TEST_KERNEL");
    let run = boot::workspace().join("vmm/lab/run");
    let status = Command::new(run).arg(kernel).arg(dir).args(["3000", "3072", lab]).status().unwrap();
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
    let said = format!("{}\nconsole of the lab:\n{}", read("output"), read("console"));
    assert!(status.success(), "{said}");
    let result = |i: usize| {
        let found = sidecar_below(&dir.join(i.to_string()));
        let (path, sidecar) = found.unwrap_or_else(|| panic!("no sidecar: {said}"));
        let tables = path.with_file_name(sidecar["identity"]["variant"].as_str().unwrap());
        (sidecar, tables)
    };
    (0..specs.len()).map(result).collect()
}

/// A column of 64-bit numbers.
fn column(frame: &DataFrame, name: &str) -> Vec<i64> {
    frame.column(name).unwrap().i64().unwrap().iter().map(Option::unwrap).collect()
}

/// A spinning neighbour takes time from each CPU: the slices say when, and agree with the guest's steal time, which is what the host's
/// scheduler counts.
fn check_what_the_host_took(topology: &str, verdict: &str) {
    // Beside the spinner a slow host has no time for some of the workers.
    let terms = json!({"without": ["progress"]});
    let changes = json!({"topology": topology, "duration_ns": 1_000_000_000_u64, "terms": terms});
    let dir = tempfile::tempdir().unwrap();
    let spec = boot::spec(&boot::suite("demo"), "demo_1llc", &changes);
    let (sidecar, folder) = run_in_lab(&[spec], "steady", true, dir.path()).remove(0);
    assert_eq!(sidecar["verdict"], verdict, "{}", sidecar["reasons"]);
    assert_eq!(sidecar["quality"]["unwatched"], Value::Null);
    let stolen = tables::scan(&folder, "slices").group_by([col("cpu")]).agg([col("host_stolen_ns").sum()]);
    let both = tables::scan(&folder, "cpus")
        .join(stolen, [col("cpu")], [col("cpu")], JoinArgs::new(JoinType::Inner))
        .collect()
        .unwrap();
    let nr_cpus = topology.parse::<Topology>().unwrap().nr_cpus() as usize;
    assert_eq!(both.height(), nr_cpus);
    let window = column(&both, "busy_ns")[0] + column(&both, "idle_ns")[0];
    let [stolen, uncounted, steal, delay] =
        ["host_stolen_ns", "host_uncounted_ns", "steal_ns", "host_run_delay_ns"].map(|c| column(&both, c));
    for cpu in 0..nr_cpus {
        let said = format!(
            "CPU {cpu} of {window} ns: {} less {}; {} {}",
            stolen[cpu], uncounted[cpu], steal[cpu], delay[cpu]
        );
        eprintln!("{said}");
        assert!(stolen[cpu] > window / 5, "{said}");
        // Steal time is read some time before the window opens and after it has closed: 0.3 % of it were seen.
        assert!((stolen[cpu] - uncounted[cpu] - steal[cpu]).abs() < window / 20, "{said}");
        // The collector reads the other when it hears of an edge, a second late where the spinner has its CPU.
        assert!(delay[cpu] > window / 10, "{said}");
    }
}

#[test]
fn what_the_host_took_is_marked_and_makes_a_run_inconclusive() {
    check_what_the_host_took("1n1l1c1t", "inconclusive");
}

/// A guest of more CPUs than the host has takes time from itself, and is asked for as such.
#[test]
fn what_the_host_took_is_marked_for_each_of_more_cpus_than_it_has() {
    check_what_the_host_took("1n1l2c1t", "pass");
}

/// With a longer window than its own: the lab has one CPU, of which four take turns.
#[test]
#[ignore = "takes minutes; make lab runs it"]
fn demo_passes_with_either_scheduler() {
    let suite = boot::suite("demo");
    let tests = [("demo_1llc", "1n1l4c1t"), ("demo_2llc", "1n2l2c1t")];
    let schedulers = [Value::Null, boot::fixture(&[])];
    let spec = |(test, topology), scheduler: &Value| {
        let changes = json!({"topology": topology, "scheduler": scheduler, "duration_ns": 2_000_000_000_u64});
        boot::spec(&suite, test, &changes)
    };
    let specs: Vec<Value> = tests.iter().flat_map(|t| schedulers.iter().map(|s| spec(*t, s))).collect();
    let dir = tempfile::tempdir().unwrap();
    for (sidecar, folder) in run_in_lab(&specs, "real", false, dir.path()) {
        assert_eq!(sidecar["verdict"], "pass", "{}: {}", sidecar["identity"], sidecar["reasons"]);
        assert_eq!(sidecar["quality"]["disagreements"], json!([]));
        let slices = tables::scan(&folder, "slices").collect().unwrap();
        assert!(slices.height() > 100, "{} slices", slices.height());
    }
}
