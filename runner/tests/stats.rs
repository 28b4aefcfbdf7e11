//! `cargo ktstr stats` over synthetic results, as its users call it.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic as the test may")]

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Output};

use ktstr_analysis::{Collected, HostFacts, Identity, MetricRow, Sidecar, Verdict};
use ktstr_wire::topology::Topology;
use serde_json::{Value, json};

/// A target directory with results.
struct Results(tempfile::TempDir);

impl Results {
    fn new() -> Results {
        let results = Results(tempfile::tempdir().unwrap());
        fs::create_dir_all(results.folder()).unwrap();
        results
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("ktstr/6.12-abc")
    }

    /// Boots of a scheduler, one for each value of wakeup_latency p50, the first of them with these verdicts.
    fn boots(&self, scheduler: &str, values: &[f64], verdicts: &[Verdict]) {
        for (i, value) in values.iter().enumerate() {
            let verdict = verdicts.get(i).copied().unwrap_or(Verdict::Pass);
            self.write(&sidecar(scheduler, i, *value, verdict));
        }
    }

    fn write(&self, s: &Sidecar) {
        s.write(&self.folder().join(format!("{}.ktstr.json", s.identity.run_id))).unwrap();
    }

    fn command<'a>(&self, args: impl Iterator<Item = &'a str>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-ktstr"));
        command.args(args).env("CARGO_TARGET_DIR", self.0.path());
        command
    }

    fn stats(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } =
            self.command(std::iter::once("stats").chain(args.iter().copied())).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }

    fn compare(&self, args: &[&str]) -> (Option<i32>, String, String) {
        self.stats(&[&["compare", "--a-scheduler", "eevdf", "--b-scheduler", "scx"], args].concat())
    }
}

fn sidecar(scheduler: &str, i: usize, value: f64, verdict: Verdict) -> Sidecar {
    let identity: Identity = serde_json::from_value(json!({
        "run_id": format!("{scheduler}-{i}"), "session": "s", "test": "b::t", "repeat": i, "ops": null,
        "variant": format!("b.t@{scheduler}@{i}"), "topology": Topology::new(1, 1, 2, 1).unwrap(), "observed": null,
        "scheduler": scheduler, "scheduler_args": [], "scheduler_sha256": null, "kernel": "6.12", "kernel_sha256": "",
        "config_sha256": null, "project_commit": "abc", "dirty": false, "accel": "tcg", "seed": i,
        "started_unix_s": 0, "duration_ns": 1, "memory_mib": 1, "host": HostFacts::default(),
    }))
    .unwrap();
    let metric: MetricRow = serde_json::from_value(json!({
        "name": "wakeup_latency", "scope": "run", "role": null, "cpu": null, "stat": "p50", "value": value,
        "unit": "ns", "polarity": "lower",
    }))
    .unwrap();
    let reasons = if verdict == Verdict::Pass { vec![] } else { vec!["stall".into()] };
    Sidecar::new(identity, verdict, reasons, Collected::default(), vec![metric])
}

/// Fourteen boots that differ by less than what is material.
fn steady() -> Vec<f64> {
    (0..14).map(|i| 1000.0 + f64::from(i) / 10.0).collect()
}

/// Six scheduler exits and two failures of fourteen boots, all else equal.
fn crashed() -> Results {
    let results = Results::new();
    results.boots("eevdf", &steady(), &[]);
    results.boots("scx", &steady(), &[vec![Verdict::SchedExit; 6], vec![Verdict::Fail; 2]].concat());
    results
}

#[test]
fn crashed_side_is_red_in_text_markdown_and_json() {
    let results = crashed();
    let (status, text, _) = results.compare(&[]);
    assert_eq!(status, Some(1));
    let markdown_file = results.0.path().join("report.md");
    let (status, json_text, _) = results.compare(&["--json", "--markdown", markdown_file.to_str().unwrap()]);
    assert_eq!(status, Some(1));
    let markdown = fs::read_to_string(markdown_file).unwrap();
    for report in [&text, &markdown] {
        let first: String = report.lines().take(5).collect::<Vec<_>>().join(" ");
        for part in [
            "scx against eevdf on 1n1l2c1t, 14 boots each: boots failed: 8 of 14 against 0 of 14",
            "boots: A 14 pass; B 6 pass, 2 fail, 6 sched_exit",
            "REGRESSION: more boots failed on B than on A (p 0.002)",
            "the first of B: stall",
        ] {
            assert!(first.contains(part), "no {part} in {first}");
        }
        assert!(first.contains("1 thing unchanged") && !report.contains("no worse"), "{report}");
    }
    let json: Value = serde_json::from_str(&json_text).unwrap();
    for line in [&json["verdicts"][0], &json["all_verdicts"]] {
        assert_eq!((&line["finding"], &line["judged"]), (&json!("regression"), &json!(true)));
        assert_eq!(
            (&line["b"]["sched_exit"], &line["b"]["fail"], &line["a"]["pass"]),
            (&json!(6), &json!(2), &json!(14))
        );
    }
    assert_eq!(json["sides"][1]["scheduler"], json!(["scx"]));
}

#[test]
fn green_needs_every_boot_of_b() {
    let results = Results::new();
    results.boots("eevdf", &steady(), &[]);
    results.boots("scx", &steady(), &[]);
    let (status, text, _) = results.compare(&[]);
    assert_eq!(status, Some(0), "{text}");
    assert!(
        text.starts_with("scx against eevdf on 1n1l2c1t, 14 boots each: no worse; 1 thing unchanged\n"),
        "{text}"
    );
    results.boots("scx", &steady()[..1], &[Verdict::Inconclusive]);
    let (status, text, _) = results.compare(&[]);
    assert_eq!(status, Some(3), "{text}");
    assert!(text.contains("left out: B: b.t@scx@0: stall") && !text.contains("no worse"), "{text}");
}

/// Boots of the schedulers eevdf, scx and slow with throughput and latency of two roles, and a metric of the run.
fn roles() -> Results {
    let results = Results::new();
    for (scheduler, server, batch) in [("eevdf", 1.0, 1.0), ("scx", 7.0, 1.5), ("slow", 1.0, 0.5)] {
        for i in 0..8 {
            let noise = 1.0 + i as f64 / 1000.0;
            let mut s = sidecar(scheduler, i, 1000.0, Verdict::Pass);
            let row = |name: &str, role: Option<&str>, stat: &str, unit: &str, value: f64| -> MetricRow {
                let scope = if role.is_some() { "role" } else { "run" };
                serde_json::from_value(json!({
                    "name": name, "scope": scope, "role": role, "cpu": null, "stat": stat, "value": value * noise,
                    "unit": unit, "polarity": "lower",
                }))
                .unwrap()
            };
            s.metrics = vec![
                row("wakeup_latency", Some("server"), "p50", "ns", 16_000.0 * server),
                row("run_delay", Some("server"), "mean", "ns", 18_000.0 * server),
                row("worker_throughput", Some("batch"), "value", "1/s", 5_000.0 * batch),
                row("preemption_wait", Some("batch"), "p99", "ns", 4_000.0 / batch),
                row("idle_while_waiting", None, "value", "ns", 4_000.0),
            ];
            results.write(&s);
        }
    }
    results
}

#[test]
fn comparison_answers_first_and_shows_what_is_judged() {
    let results = roles();
    let (status, text, _) = results.compare(&[]);
    insta::assert_snapshot!("stats-compare-roles", format!("status {}\n{text}", status.unwrap()));
    let names = |args: &[&str]| -> Vec<String> {
        let (status, text, error) = results.compare(&[args, &["--json"]].concat());
        assert_eq!(status, Some(1), "{error}");
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["exit_status"], 1);
        assert!(json["verdict"].as_str().unwrap().contains("worse for `server` (wakeup p50"));
        json["lines"].as_array().unwrap().iter().map(|l| l["metric"].as_str().unwrap().into()).collect()
    };
    assert_eq!(names(&[]), ["run_delay", "wakeup_latency", "worker_throughput"]);
    assert_eq!(names(&["--all"]).len(), 5);
    assert_eq!(names(&["--metric", "preemption_wait"]), ["preemption_wait"]);
    assert_eq!(names(&["--role", "batch"]), ["preemption_wait", "worker_throughput"]);
    let (status, _, error) = results.compare(&["--role", "batsh"]);
    assert_eq!(
        (status, error.as_str()),
        (Some(2), "error: no role 'batsh' in this comparison; there is batch, server\n")
    );
}

#[test]
fn several_sides_have_a_column_each() {
    let results = roles();
    let by = |args: &[&str]| results.stats(&[&["compare", "--by", "scheduler"], args].concat());
    let (status, text, error) = by(&[]);
    insta::assert_snapshot!("stats-compare-by", format!("status {}\n{text}{error}", status.unwrap()));
    let (status, text, _) = by(&["--baseline", "slow", "--json"]);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &json["baseline"]), (Some(1), &json!("slow")));
    assert_eq!(json["comparisons"]["eevdf"]["exit_status"], 0);
    let (status, _, error) = by(&["--baseline", "none"]);
    assert_eq!((status, error.contains("there is eevdf, scx, slow")), (Some(2), true), "{error}");
    assert_eq!(results.stats(&["compare", "--by", "kernel"]).0, Some(2));
    assert_eq!(by(&["--a-scheduler", "scx"]).0, Some(2));
}

#[test]
fn one_named_side_is_an_error_with_the_values_there_are() {
    let results = Results::new();
    results.boots("eevdf", &steady(), &[]);
    results.boots("scx", &steady().iter().map(|v| v * 1.35).collect::<Vec<_>>(), &[]);
    let (status, text, error) = results.stats(&["compare", "--a-scheduler", "scx"]);
    assert_eq!((status, text.as_str()), (Some(2), ""), "{error}");
    assert_eq!(error, "error: side B names no scheduler; add --b-scheduler with one of: eevdf, scx\n");
    let (status, _, error) = results.stats(&["compare", "--a-scheduler", "scx", "--b-scheduler", "nope"]);
    assert_eq!(status, Some(2));
    assert!(error.contains("side B: no run has") && error.contains("scheduler may be eevdf, scx"), "{error}");
    assert_eq!(results.stats(&["compare", "--scheduler", "scx", "--a-scheduler", "eevdf"]).0, Some(2));
    assert_eq!(results.compare(&[]).0, Some(1));
}

#[test]
fn significant_shift_below_a_policy_s_threshold_is_not_unchanged() {
    let results = Results::new();
    results.boots("eevdf", &steady(), &[]);
    results.boots("scx", &steady().iter().map(|v| v * 1.365).collect::<Vec<_>>(), &[]);
    let policy = results.0.path().join("policy.toml");
    fs::write(&policy, "[material]\nwakeup_latency = 0.9\n").unwrap();
    let (status, text, _) = results.compare(&["--all", "--policy", policy.to_str().unwrap()]);
    assert_eq!(status, Some(0), "{text}");
    let line = text.lines().find(|l| l.contains("wakeup_latency")).unwrap();
    assert!(line.contains("1.37x") && line.contains("different, by less than 90 %"), "{line}");
}

#[test]
fn unreadable_results_are_named_and_left_out() {
    let results = crashed();
    let whole = fs::read(results.folder().join("scx-0.ktstr.json")).unwrap();
    fs::write(results.folder().join("short.ktstr.json"), &whole[..whole.len() / 2]).unwrap();
    fs::write(results.folder().join("empty.ktstr.json"), "").unwrap();
    fs::write(results.folder().join("bytes.ktstr.json"), [0xff, 0x1b, 0x00]).unwrap();
    fs::create_dir(results.folder().join("folder.ktstr.json")).unwrap();
    for args in
        [&["list"][..], &[], &["list-values"], &["compare", "--a-scheduler", "eevdf", "--b-scheduler", "scx"]]
    {
        let (status, text, error) = results.stats(args);
        assert_eq!(status, Some(i32::from(args.first() == Some(&"compare"))), "{args:?}: {error}");
        assert!(text.contains("eevdf"), "{text}");
        for name in ["short", "empty", "bytes", "folder"] {
            assert!(error.contains(&format!("{name}.ktstr.json")), "{error}");
        }
        assert!(!error.contains('\u{1b}'), "{error}");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let results = crashed();
    for args in [
        "stats list",
        "stats list --json",
        "stats list-metrics",
        "stats list-values",
        "stats show-host --run scx-0",
        "stats compare --a-scheduler eevdf --b-scheduler scx --markdown -",
        "doctor",
        "kernel list",
        "completions bash",
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let out = results.command(args.split(' ')).stdout(full).output().unwrap();
        let error = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(15), "{args:?}: {error}");
        assert!(error.starts_with("error: standard output: No space left"), "{error}");
    }
}

#[test]
fn text_of_guests_reaches_no_terminal_as_it_is() {
    let results = crashed();
    let hostile = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}| <b>";
    let mut s = sidecar("eevdf", 3, 1000.0, Verdict::Fail);
    s.reasons = vec![hostile.into()];
    s.identity.scheduler = "scx".into();
    s.metrics[0].name = format!("rate{hostile}");
    s.metrics[0].role = Some(hostile.into());
    s.identity.host.cpu_model = Some(hostile.into());
    s.identity.run_id = "hostile".into();
    results.write(&s);
    s.identity.scheduler = hostile.into();
    s.verdict = Verdict::Inconclusive;
    s.identity.run_id = "hostile-too".into();
    results.write(&s);
    let compare = ["compare", "--a-scheduler", "eevdf", "--b-scheduler", "scx"];
    for args in [&["list"][..], &["list-values"], &["show-host", "--run", "hostile"], &compare] {
        let (_, text, error) = results.stats(args);
        for text in [&text, &error] {
            let commands = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!text.contains(commands), "{args:?}: {text:?}");
        }
        assert!(text.contains("\\u{1b}"), "{args:?}: {text}");
    }
    let (_, text, error) =
        results.stats(&["compare", "--a-scheduler", hostile, "--b-scheduler", "scx", "--markdown", "-"]);
    assert!(!text.contains('\u{1b}') && !error.contains('\u{1b}') && !text.contains("<b>"), "{text}{error}");
}

#[test]
fn text_of_stats_and_of_a_comparison() {
    let results = crashed();
    let mut slower = sidecar("slow", 0, 1350.0, Verdict::Pass);
    slower.metrics[0].role = Some("server".into());
    results.write(&slower);
    let markdown = ["compare", "--a-scheduler", "eevdf", "--b-scheduler", "scx", "--markdown", "-"];
    for (name, args) in [
        ("stats", &[][..]),
        ("stats-list-values", &["list-values"]),
        ("stats-show-host", &["show-host", "--run", "scx-0"]),
        ("stats-compare", &markdown[..5]),
        ("stats-compare-markdown", &markdown),
    ] {
        let (status, text, error) = results.stats(args);
        let text = format!("status {}\n{text}{error}", status.unwrap());
        insta::assert_snapshot!(name, text.replace(&results.0.path().display().to_string(), "[target]"));
    }
}
