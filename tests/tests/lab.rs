//! Whole runs with `--accel kvm`, in the KVM lab (`vmm/lab`), where `/dev/kvm` is real and the host is an emulated one of two CPUs.
#![allow(clippy::unwrap_used)] // the helpers of a test may panic as the test may

mod tables;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ktstr_tests::boot::{self, runner, sidecar_below};
use polars::prelude::*;
use serde_json::{Value, json};

/// Runs `spec` in the lab beside as many spinning processes as there are CPUs, and gives the sidecar and the folder of the tables.
fn run_disturbed(spec: &Value, dir: &Path) -> (Value, PathBuf) {
    let command = format!(
        "export KTSTR_ACCEL=kvm KTSTR_TARGET_DIR=/tmp/target\n\
         for i in 1 2; do (while :; do :; done) & done\n\
         '{}' internal-run < /mnt/share/spec\n\
         kill $(jobs -p)\n\
         cp -r /tmp/target/ktstr /mnt/share/\n",
        runner().get_program().display()
    );
    fs::write(dir.join("command"), command).unwrap();
    fs::write(dir.join("spec"), spec.to_string()).unwrap();
    let kernel = std::env::var_os("KTSTR_TEST_KERNEL").expect("make test sets KTSTR_TEST_KERNEL");
    let lab = boot::workspace().join("vmm/lab/run");
    let status = Command::new(lab).arg(kernel).arg(dir).args(["1500", "3072", "steady"]).status().unwrap();
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
    let said = format!("{}\nconsole of the lab:\n{}", read("output"), read("console"));
    assert!(status.success(), "{said}");
    let (path, sidecar) = sidecar_below(dir).unwrap_or_else(|| panic!("no sidecar: {said}"));
    let tables = path.with_file_name(sidecar["identity"]["variant"].as_str().unwrap());
    (sidecar, tables)
}

/// A column of 64-bit numbers.
fn column(frame: &DataFrame, name: &str) -> Vec<i64> {
    frame.column(name).unwrap().i64().unwrap().iter().map(Option::unwrap).collect()
}

/// The spinning neighbours take about half of each CPU's time: the slices say when, and agree with the guest's steal time and with
/// what the host's scheduler counts.
#[test]
fn what_the_host_took_is_marked_in_the_slices() {
    let changes = json!({"topology": "1n1l2c1t", "duration_ns": 1_000_000_000_u64});
    let dir = tempfile::tempdir().unwrap();
    let (sidecar, folder) =
        run_disturbed(&boot::spec(&boot::suite("demo"), "demo_1llc", &changes), dir.path());
    assert_eq!(sidecar["quality"]["unwatched"], Value::Null);
    assert_eq!(sidecar["verdict"], "inconclusive", "{}", sidecar["reasons"]);
    let stolen = tables::scan(&folder, "slices").group_by([col("cpu")]).agg([col("host_stolen_ns").sum()]);
    let both = tables::scan(&folder, "cpus")
        .join(stolen, [col("cpu")], [col("cpu")], JoinArgs::new(JoinType::Inner))
        .collect()
        .unwrap();
    assert_eq!(both.height(), 2);
    let window = column(&both, "busy_ns")[0] + column(&both, "idle_ns")[0];
    let [stolen, steal, delay] =
        ["host_stolen_ns", "steal_ns", "host_run_delay_ns"].map(|c| column(&both, c));
    for cpu in 0..2 {
        let said = format!("CPU {cpu} of {window} ns: {} {} {}", stolen[cpu], steal[cpu], delay[cpu]);
        eprintln!("{said}");
        assert!(stolen[cpu] > window / 5, "{said}");
        // Both others are read some time before the window opens and after it has closed: 0.3 % and 1 % of it were seen.
        for other in [steal[cpu], delay[cpu]] {
            assert!((stolen[cpu] - other).abs() < window / 20, "{said}");
        }
    }
}
