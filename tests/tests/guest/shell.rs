//! `cargo ktstr shell`: the guest that a test has, with the host's files.

use std::process::Stdio;

use ktstr_tests::boot::{building_runner, text_of, workspace};

#[test]
fn shell_has_the_tests_guest_and_leaves_the_host_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (mark, made) = (dir.path().join("mark"), dir.path().join("made"));
    std::fs::write(&mark, "from the host\n").unwrap();
    let command = format!(
        "echo cpus=$(nproc) ops=$(cat /sys/kernel/sched_ext/root/ops) dir=$PWD; cat {}; touch {1} && echo made=$(ls {1}); tty",
        mark.display(),
        made.display()
    );
    let out = building_runner()
        .args(["shell", "demo::demo_2llc", "--scheduler", "scx_fixture", "--", &command])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = text_of(&out);
    assert!(out.status.success(), "{text}");
    for words in [
        format!("cpus=4 ops=fixture dir={}", workspace().display()),
        "from the host".into(),
        format!("made={}", made.display()),
        "/dev/ttyS0".into(),
    ] {
        assert!(text.contains(&words), "no `{words}` in: {text}");
    }
    assert!(!made.exists(), "what the guest wrote is on the host");
}
