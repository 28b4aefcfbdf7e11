//! `cargo ktstr new`: creates a test crate that compiles and runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::exit;
use crate::output::outln;

/// `cargo ktstr new`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  cargo ktstr new sched-tests --scheduler scx_simple && cd sched-tests && cargo ktstr test")]
pub(crate) struct NewArgs {
    /// Directory of the new crate; its last part is the crate's name
    pub path: PathBuf,
    /// File name of the scheduler under test [default: the kernel's own scheduler]
    #[arg(long, value_name = "BINARY")]
    pub scheduler: Option<String>,
    /// Directory of the crate `ktstr` [default: the one that was built with this program]
    #[arg(long, value_name = "DIR")]
    pub ktstr: Option<PathBuf>,
}

/// Why there is no new crate.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// It is there already.
    #[error("{0} exists already; choose another name, or remove it")]
    Exists(PathBuf),
    /// Cargo would refuse the name.
    #[error("invalid crate name '{0}': use letters, digits, '-' and '_', and begin with a letter")]
    Name(String),
    /// The scheduler cannot be written into the test.
    #[error("invalid scheduler file name '{0}': use letters, digits, '-', '_' and '.'")]
    Scheduler(String),
    /// No crate `ktstr`.
    #[error("no crate ktstr in {0}; name its directory with --ktstr (the folder `ktstr` of a checkout)")]
    NoKtstr(PathBuf),
    #[error("{path}: {source}")]
    File {
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl NewError {
    /// The exit status that stands for it.
    pub fn exit_status(&self) -> u8 {
        match self {
            NewError::File { source, .. } => exit::of_io(source, exit::INTERNAL),
            _ => exit::USAGE,
        }
    }
}

/// Creates the crate and prints how to run its tests.
pub(crate) fn run(args: &NewArgs) -> Result<(), NewError> {
    let name = args.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = |s: &str, more: &str| s.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !plain(&name, "-_") {
        return Err(NewError::Name(name));
    }
    if let Some(s) = args.scheduler.as_ref().filter(|s| s.is_empty() || !plain(s, "-_.")) {
        return Err(NewError::Scheduler(s.clone()));
    }
    if args.path.exists() {
        return Err(NewError::Exists(args.path.clone()));
    }
    let ktstr = args.ktstr.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../ktstr"));
    let ktstr = match ktstr.canonicalize() {
        Ok(dir) if dir.join("src/scenario/canned.rs").is_file() => dir,
        _ => return Err(NewError::NoKtstr(ktstr)),
    };
    let files = [
        ("Cargo.toml", manifest(&name, &ktstr)),
        ("src/lib.rs", "//! Tests are in `tests/`.\n".to_string()),
        (".gitignore", "/target\n".to_string()),
        ("tests/scheduler.rs", tests(args.scheduler.as_deref())),
    ];
    for (file, text) in files {
        let path = args.path.join(file);
        let write =
            || fs::create_dir_all(path.parent().unwrap_or(&path)).and_then(|()| fs::write(&path, text));
        write().map_err(|source| NewError::File { path: path.clone(), source })?;
    }
    outln!("{} is ready; run its tests with: cd {0} && cargo ktstr test", args.path.display());
    Ok(())
}

fn manifest(name: &str, ktstr: &Path) -> String {
    // A workspace of its own, also inside of another's directory.
    format!(
        r#"[package]
name = "{name}"
version = "0.1.0"
edition = "2024"
publish = false

[dev-dependencies]
ktstr = {{ path = {ktstr:?} }}

[[test]]
name = "scheduler"
harness = false

[workspace]
"#
    )
}

/// A test for each of some canned scenarios, and one with steps and conditions of its own.
fn tests(scheduler: Option<&str>) -> String {
    let (declaration, argument) = match scheduler {
        Some(s) => {
            let text = format!("declare_scheduler!(SCHED, {{ name = \"{s}\", binary = \"{s}\" }});\n\n");
            (
                format!("use ktstr::declare_scheduler;\nuse ktstr::prelude::*;\n\n{text}"),
                "scheduler = SCHED, ",
            )
        }
        None => ("use ktstr::prelude::*;\n\n".to_string(), ""),
    };
    let mut text = format!("//! What the scheduler has to get right.\n\n{declaration}");
    for name in ["steady", "oversubscribed", "cpuset_resize", "wakeup_storm", "fork_churn"] {
        text.push_str(&format!(
            "#[ktstr_test({argument}llcs = 2, cores = 2, duration_s = 2)]\nfn {name}(ctx: &Ctx) -> Result<AssertResult> {{\n    canned::{name}(ctx).run(ctx)\n}}\n\n"
        ));
    }
    text.push_str(&format!(
        r#"#[ktstr_test(
    {argument}llcs = 2,
    cores = 2,
    duration_s = 2,
    assert(wakeup_latency.p99 < 200ms, role = "server", phase = "narrow")
)]
fn servers_beside_a_narrow_batch(ctx: &Ctx) -> Result<AssertResult> {{
    Scenario::new()
        .add(CgroupDef::named("server").workers(4).work(Work::message()))
        .add(CgroupDef::named("batch").workers(4))
        .phase("wide")
        .hold(0.5)
        .cpus("batch", Cpus::Llc(0))
        .phase("narrow")
        .hold(0.5)
        .run(ctx)
}}
"#
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(path: PathBuf, scheduler: Option<&str>) -> NewArgs {
        NewArgs { path, scheduler: scheduler.map(str::to_string), ktstr: None }
    }

    #[test]
    fn crate_has_its_files_and_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("my-tests");
        run(&args(path.clone(), Some("scx_simple"))).unwrap();
        let manifest: toml::Table = fs::read_to_string(path.join("Cargo.toml")).unwrap().parse().unwrap();
        assert_eq!(manifest["package"]["name"].as_str(), Some("my-tests"));
        let text = fs::read_to_string(path.join("tests/scheduler.rs")).unwrap();
        assert!(text.contains("binary = \"scx_simple\"") && text.contains("scheduler = SCHED, llcs"));
        assert!(matches!(run(&args(path, None)), Err(NewError::Exists(_))));
    }

    #[test]
    fn invalid_names_and_directories_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(run(&args(dir.path().join("1x"), None)), Err(NewError::Name(_))));
        assert!(matches!(run(&args(dir.path().join("x"), Some("a b"))), Err(NewError::Scheduler(_))));
        let elsewhere = NewArgs { ktstr: Some(dir.path().into()), ..args(dir.path().join("x"), None) };
        assert!(matches!(run(&elsewhere), Err(NewError::NoKtstr(_))));
        assert!(!dir.path().join("x").exists());
    }
}
