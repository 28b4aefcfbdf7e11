//! CPUs that go offline and come back.

use ktstr_tests::boot::boot;
use polars::prelude::*;
use serde_json::{Value, json};

use super::{BODY, check_cpus, sum, table};

pub fn cpus_come_and_go(scheduler: Value) {
    let b = boot(BODY, "hotplug", "1n1l3c1t", json!({"scheduler": scheduler, "duration_ns": 90_000_000}));
    check_cpus(&b);
    if b.sidecar["verdict"] == "sched_exit" {
        // The kernel ends a scheduler that does not provide for it, and the run with it. It may have started itself again since.
        let said = b.sidecar["scheduler_exit"]["output"].as_str().unwrap();
        assert!(said.contains("cpu 2 going offline"), "{said}");
        return;
    }
    b.assert_pass();
    let cpu2 = |column| sum(table(&b, "cpus").filter(col("cpu").eq(lit(2))), column);
    assert!(cpu2("busy_ns") > 20_000_000 && cpu2("idle_ns") > 20_000_000);
}
