//! The tests that nextest would run, and how many of them run at a time.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use ktstr_wire::listing::Selected;

use crate::nextest::error::TestError;
use crate::nextest::listing;

/// Options of `cargo nextest run` that `cargo nextest list` does not take, with a value of their own.
const RUN_ONLY_VALUED: [&str; 12] = [
    "-j",
    "--test-threads",
    "--jobs",
    "--retries",
    "--max-fail",
    "--failure-output",
    "--success-output",
    "--status-level",
    "--final-status-level",
    "--no-tests",
    "--show-progress",
    "--message-format",
];

/// Options of the same kind that take no value.
const RUN_ONLY: [&str; 10] = [
    "--no-fail-fast",
    "--fail-fast",
    "--no-capture",
    "--nocapture",
    "--no-run",
    "--hide-progress-bar",
    "--ff",
    "--nff",
    "--no-output-indent",
    "--no-input-handler",
];

/// The arguments that select tests.
fn list_args(args: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let name = arg.split('=').next().unwrap_or(arg);
        if RUN_ONLY_VALUED.contains(&name) {
            if name == arg {
                args.next();
            }
        } else if !RUN_ONLY.contains(&name) && !is_short_jobs(arg) {
            kept.push(arg.clone());
        }
    }
    kept
}

/// `-j4`.
fn is_short_jobs(arg: &str) -> bool {
    arg.strip_prefix("-j").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The arguments of a run that has only the chosen tests. They are those of one shard already: cut again, they would be a shard of a
/// shard.
pub(crate) fn without_partition(args: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--" => return kept.into_iter().chain([arg.clone()]).chain(args.cloned()).collect(),
            "--partition" => {
                args.next();
            }
            _ if arg.starts_with("--partition=") => {}
            _ => kept.push(arg.clone()),
        }
    }
    kept
}

/// The path of a binary as the binary itself sees it: without symbolic links.
fn own_path(path: &str) -> String {
    Path::new(path).canonicalize().map_or_else(|_| path.into(), |p| p.display().to_string())
}

/// The tests that `cargo nextest run` with these arguments would run.
pub(crate) fn matching(mut list: Command, args: &[String]) -> Result<BTreeSet<Selected>, TestError> {
    let list = listing::read(&mut list, &list_args(args))?;
    let matching = listing::tests(&list).filter(|t| t.matches);
    Ok(matching.map(|t| Selected { binary: own_path(t.binary_path), name: t.name.into() }).collect())
}

/// Tests that run at a time: what the arguments or nextest's own variable say, else the tightest test group of the project's
/// nextest configuration, else nextest's default, a test for each CPU. Too small a number only leaves time unused.
pub(crate) fn parallelism(args: &[String]) -> u32 {
    let asked = asked_threads(args).or_else(|| std::env::var("NEXTEST_TEST_THREADS").ok()?.parse().ok());
    let group = group_limit(&std::fs::read_to_string(Path::new(".config/nextest.toml")).unwrap_or_default());
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    asked.unwrap_or(cpus).min(group.unwrap_or(u32::MAX)).max(1)
}

fn asked_threads(args: &[String]) -> Option<u32> {
    let mut found = None;
    for (i, arg) in args.iter().enumerate() {
        let value = match arg.split_once('=') {
            Some(("-j" | "--test-threads" | "--jobs", v)) => Some(v.to_string()),
            None if ["-j", "--test-threads", "--jobs"].contains(&arg.as_str()) => args.get(i + 1).cloned(),
            None if is_short_jobs(arg) => Some(arg[2..].to_string()),
            _ => None,
        };
        found = value.and_then(|v| v.parse().ok()).or(found);
    }
    found
}

/// The least `max-threads` of `[test-groups]`.
fn group_limit(config: &str) -> Option<u32> {
    let table: toml::Table = config.parse().ok()?;
    let groups = table.get("test-groups")?.as_table()?;
    let limits = groups.values().filter_map(|g| g.get("max-threads")?.as_integer());
    limits.min().and_then(|n| u32::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_string).collect()
    }

    #[test]
    fn arguments_of_the_run_alone_are_left_out() {
        let kept = list_args(&words("-j 2 --run-ignored all -E test(a) --no-fail-fast --retries=3 -j8 name"));
        assert_eq!(kept, words("--run-ignored all -E test(a) name"));
    }

    #[test]
    fn chosen_tests_are_not_cut_into_shards_again() {
        let run = |args| without_partition(&words(args));
        assert_eq!(run("-j2 --partition slice:1/4 -E test(a)"), words("-j2 -E test(a)"));
        assert_eq!(run("--partition=count:1/4 name -- --partition x"), words("name -- --partition x"));
        assert_eq!(list_args(&words("--partition slice:1/4 -j2")), words("--partition slice:1/4"));
    }

    #[test]
    fn binary_behind_a_link_is_known_by_its_own_path() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        std::fs::write(real.join("smoke"), "").unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
        let linked = dir.path().join("link/smoke");
        assert_eq!(own_path(linked.to_str().unwrap()), real.join("smoke").to_str().unwrap());
    }

    #[test]
    fn parallelism_is_what_was_asked_for() {
        assert_eq!(asked_threads(&words("-E x -j4")), Some(4));
        assert_eq!(asked_threads(&words("--test-threads 3")), Some(3));
        assert_eq!(asked_threads(&words("--jobs=2 name")), Some(2));
        assert_eq!(asked_threads(&words("name")), None);
        assert_eq!(group_limit("[test-groups]\na = { max-threads = 4 }\nb = { max-threads = 1 }"), Some(1));
        assert_eq!(group_limit("[profile.default]\n"), None);
    }
}
