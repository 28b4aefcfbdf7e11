//! The command that runs one boot of one test again, from any directory and in any terminal.

use std::path::{Path, PathBuf};

use ktstr_wire::ALSO_DIR;
use ktstr_wire::env::{self, Variable};
use ktstr_wire::spec::ProbeLevel;

use crate::host::surroundings::{CARGO_TARGET_DIR, XDG_CACHE_HOME};
use crate::run::layout::scheduler_label;
use crate::run::plan::Plan;
use crate::shell_words::quoted;

/// Environment variables that decide what a run measures.
const OF_THE_USER: [Variable; 4] = [CARGO_TARGET_DIR, XDG_CACHE_HOME, env::CACHE_DIR, env::GUEST];

/// Options of nextest and Cargo that decide what is built and take a value.
const BUILD_VALUED: [&str; 23] = [
    "-p",
    "--package",
    "--exclude",
    "-F",
    "--features",
    "--bin",
    "--example",
    "--test",
    "--bench",
    "--cargo-profile",
    "--target",
    "--target-dir",
    "--manifest-path",
    "--config",
    "-Z",
    "-P",
    "--profile",
    "--config-file",
    "--tool-config-file",
    "--lockfile-path",
    "--build-jobs",
    "--user-config-file",
    "--cargo-message-format",
];

/// Options of the same kind that take no value.
const BUILD: [&str; 16] = [
    "--workspace",
    "--all",
    "--all-features",
    "--no-default-features",
    "--lib",
    "--bins",
    "--examples",
    "--tests",
    "--benches",
    "--all-targets",
    "-r",
    "--release",
    "--locked",
    "--offline",
    "--frozen",
    "--ignore-rust-version",
];

/// The arguments for nextest that decide what is built: the same test in another build is another program.
fn build_args(args: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut args = args.iter().take_while(|a| *a != "--");
    while let Some(arg) = args.next() {
        let name = if arg.starts_with("--") { arg.split('=').next().unwrap_or(arg) } else { arg };
        // -Fnet, -pa
        let joined = !arg.starts_with("--")
            && BUILD_VALUED.iter().any(|o| o.len() == 2 && arg.len() > 2 && arg.starts_with(o));
        if BUILD.contains(&name) || joined {
            kept.push(arg.clone());
        } else if BUILD_VALUED.contains(&name) {
            kept.push(arg.clone());
            if name == arg {
                kept.extend(args.next().cloned());
            }
        }
    }
    kept
}

/// Inputs of the command that are not part of the plan.
struct Around {
    /// The directory in which the user gave the command.
    dir: PathBuf,
    /// The arguments that decide what is built.
    build: Vec<String>,
    /// The name of the test's binary in nextest.
    binary_id: Option<String>,
    /// Environment variables as `NAME=VALUE`.
    variables: Vec<(&'static str, String)>,
}

impl Around {
    fn of(plan: &Plan) -> Around {
        let asked = plan.settings.asked.as_ref();
        let set = |name: &'static str| {
            let value = std::env::var(name).ok().filter(|v| !v.is_empty())?;
            Some((name, value))
        };
        let mut variables: Vec<_> = OF_THE_USER.iter().filter_map(|v| set(v.name)).collect();
        variables.extend(set(env::SCHEDULER_DIR.name).or_else(|| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
            let dir = directory_on_path(plan, &dirs)?;
            Some((env::SCHEDULER_DIR.name, dir.display().to_string()))
        }));
        Around {
            dir: asked.map_or_else(|| PathBuf::from(&plan.spec.manifest_dir), |a| a.dir.clone()),
            build: asked.map(|a| build_args(&a.nextest)).unwrap_or_default(),
            binary_id: std::env::var("NEXTEST_BINARY_ID").ok(),
            variables,
        }
    }
}

/// The directory on `PATH` that all schedulers of the run are from: in another terminal `PATH` may be another one.
fn directory_on_path(plan: &Plan, path: &[PathBuf]) -> Option<PathBuf> {
    let dir = plan.scheduler.as_ref()?.path.parent()?;
    let also = plan.extras.iter().filter(|e| Path::new(&e.guest).starts_with(ALSO_DIR));
    let all_there = also.map(|e| e.host.parent()).all(|parent| parent == Some(dir));
    (all_there && path.iter().any(|d| d == dir)).then(|| dir.into())
}

/// The command line for a POSIX shell that boots number `repeat` of this test again, and no other test.
pub(crate) fn command(plan: &Plan, repeat: u32) -> String {
    text(plan, repeat, Around::of(plan))
}

fn text(plan: &Plan, repeat: u32, around: Around) -> String {
    let settings = &plan.settings;
    let mut variables = around.variables;
    variables.extend((repeat > 0).then(|| (env::FIRST_REPEAT.name, repeat.to_string())));
    variables.extend(settings.boot_seed.map(|s| (env::BOOT_SEED.name, s.to_string())));
    let mut words: Vec<String> =
        variables.iter().map(|(name, value)| format!("{name}={}", quoted(value))).collect();
    let kernel = plan.kernel.key.as_ref().unwrap_or(&plan.kernel.source);
    words.extend(["cargo", "ktstr", "test", "--kernel"].map(String::from));
    words.extend([quoted(kernel), "--accel".into(), settings.accel.name().into()]);
    let mut option = |name: &str, value: Option<String>| {
        words.extend(value.into_iter().flat_map(|v| [name.to_string(), quoted(&v)]));
    };
    option("--seed", (plan.spec.seed != 0).then(|| plan.spec.seed.to_string()));
    let probes = plan.spec.probes.unwrap_or_default();
    option("--probes", (probes != ProbeLevel::default()).then(|| probes.name().into()));
    option(
        "--scheduler",
        settings.scheduler_override.as_ref().map(|_| scheduler_label(plan.spec.scheduler.as_ref())),
    );
    words.extend(settings.pin.then(|| "--pin".into()));
    words.extend(settings.huge_pages.then(|| "--huge-pages".into()));
    words.push("--".into());
    words.extend(around.build.iter().map(|a| quoted(a)));
    let listed = plan.spec.expectations.listed.as_ref().unwrap_or(&plan.spec.test);
    let binary = around.binary_id.map(|id| format!("binary_id(={id}) & ")).unwrap_or_default();
    // Whether it is ignored is not known here; this runs it in either case.
    words.extend([
        "--run-ignored".into(),
        "all".into(),
        "-E".into(),
        quoted(&format!("{binary}test(={listed})")),
    ]);
    format!("cd {} && {}", quoted(&around.dir.display().to_string()), words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_wire::accel::Accel;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_string).collect()
    }

    #[test]
    fn what_decides_the_build_is_kept_and_what_chooses_tests_is_not() {
        let args = words(
            "--release -p a -E test(x) --features=f --retries 2 -Fg name --partition hash:1/2 -- --skip y",
        );
        assert_eq!(build_args(&args), words("--release -p a --features=f -Fg"));
    }

    fn plan() -> Plan {
        let spec = serde_json::json!({
            "wire_version": 1, "test": "m::t", "binary": "/d/suite-0123456789abcdef", "manifest_dir": "/p/a",
            "topology": "1n1l1c1t", "memory_mib": 512, "duration_ns": 1, "seed": 7, "probes": "summary",
            "scheduler": {"name": "scx_a", "binary": "scx_a", "args": ["--late-us", "5"]},
        });
        let kernel = serde_json::json!({
            "image": "/c/bzImage", "sim_image": null, "release": "6.12.1", "sha256": "", "config": null,
            "config_sha256": null, "source": "/k/my linux",
        });
        Plan {
            spec: serde_json::from_value(spec).unwrap(),
            kernel: serde_json::from_value(kernel).unwrap(),
            emulator: None,
            packed: None,
            scheduler: Some(crate::run::pack::scheduler::Program {
                path: "/opt/scx/scx_a".into(),
                profile: None,
            }),
            extras: vec![],
            ktstr_dir: "/p/target/ktstr".into(),
            project: super::super::layout::Project { commit: "c".into(), dirty: false, refused: None },
            settings: crate::run::plan::Settings {
                session: "s".into(),
                accel: Accel::Tcg,
                repeats: 0..3,
                attempt: 1,
                boot_seed: None,
                position: None,
                asked: None,
                scheduler_override: Some("scx_a --late-us 5".into()),
                pin: true,
                huge_pages: true,
                slow_cpu: None,
                parts: None,
            },
        }
    }

    #[test]
    fn command_names_everything_that_decides_the_run() {
        let around = || Around {
            dir: "/p, q".into(),
            build: words("--release"),
            binary_id: Some("a::suite".into()),
            variables: vec![(env::SCHEDULER_DIR.name, "/opt/scx".into())],
        };
        let shared = "--accel tcg --seed 7 --probes summary --scheduler 'scx_a --late-us 5' --pin --huge-pages -- --release \
                      --run-ignored all -E 'binary_id(=a::suite) & test(=m::t)'";
        let mut plan = plan();
        assert_eq!(
            text(&plan, 0, around()),
            format!(
                "cd '/p, q' && KTSTR_SCHEDULER_DIR=/opt/scx cargo ktstr test --kernel '/k/my linux' {shared}"
            )
        );
        // The key of a cached kernel names it exactly.
        plan.kernel.key = Some("0123456789abcdef".into());
        let variables = "KTSTR_SCHEDULER_DIR=/opt/scx KTSTR_FIRST_REPEAT=2 KTSTR_BOOT_SEED=9";
        plan.settings.boot_seed = Some(9);
        assert_eq!(
            text(&plan, 2, around()),
            format!("cd '/p, q' && {variables} cargo ktstr test --kernel 0123456789abcdef {shared}")
        );
    }

    #[test]
    fn directory_on_path_is_named_where_every_scheduler_is_from_it() {
        let mut plan = plan();
        let path = ["/usr/bin".into(), PathBuf::from("/opt/scx")];
        assert_eq!(directory_on_path(&plan, &path), Some("/opt/scx".into()));
        assert_eq!(directory_on_path(&plan, &path[..1]), None);
        let also = |host: &str| crate::run::pack::extra::Extra {
            host: host.into(),
            guest: format!("{ALSO_DIR}/scx_b"),
            is_program: true,
        };
        plan.extras = vec![also("/opt/scx/scx_b")];
        assert_eq!(directory_on_path(&plan, &path), Some("/opt/scx".into()));
        plan.extras.push(also("/p/target/debug/scx_c"));
        assert_eq!(directory_on_path(&plan, &path), None);
    }
}
