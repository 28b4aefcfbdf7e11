//! hackbench and stress-ng.

use ktstr_tests::boot::boot;
use serde_json::{Value, json};

use super::{BODY, check_alive, check_cpus, check_roles};

pub fn accounts_agree(scheduler: Value) {
    let payloads = ["hackbench", "stress-ng"].map(|p| json!({"binary": p, "files": []}));
    let spec = json!({"scheduler": scheduler, "terms": {"payloads": payloads}});
    let b = boot(BODY, "programs", "1n1l4c1t", spec);
    b.assert_pass();
    check_cpus(&b);
    check_roles(&b, &["hackbench", "stress-ng-cpu", "stress-ng-fork", "stress-ng-switc", "stress-ng-yield"]);
    let compared = check_alive(&b);
    // hackbench has eight tasks and their parent, stress-ng four workers, one of which switches with a child, and their parent.
    assert!(compared >= 15, "{compared} tasks were compared");
}
