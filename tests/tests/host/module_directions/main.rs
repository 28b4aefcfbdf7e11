//! The directions between the folders inside each crate: no unlisted import between two of them, no circle of files, no crowded
//! folder. Directions between crates are `dependencies.rs`.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic as the test may")]

mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use imports::{Edges, Module, edges};

/// For top-level modules the modules that each may name.
type Directions = &'static [(&'static str, &'static [&'static str])];

/// What may import what: for each crate its folder, and for each top-level module of `src` the modules that it may name. A
/// module that is not listed may name nothing of its crate. `lib` names all of them.
const ALLOWED: [(&str, Directions); 6] = [
    (
        "wire",
        &[
            ("spec", &["accel", "topology"]),
            ("listing", &["accel"]),
            ("message", &["stats", "topology", "spec", "body"]),
            ("body", &["stats"]),
            ("ring", &["record"]),
        ],
    ),
    (
        "analysis",
        &[
            ("compare", &["runs", "catalog"]),
            ("conditions", &["explain", "metrics", "tables", "model", "catalog"]),
            ("explain", &["metrics", "tables", "model"]),
            ("metrics", &["tables", "model", "catalog"]),
            ("runs", &["tables", "model", "catalog"]),
            ("perfetto", &["runs", "tables", "model", "catalog"]),
            ("report", &["runs", "tables", "model", "catalog"]),
            ("ingest", &["tables", "model"]),
            ("tables", &["model", "catalog"]),
            ("model", &["catalog"]),
        ],
    ),
    (
        "guest-probes",
        &[
            (
                "agent",
                &["test", "report", "scheduler", "probes", "kernel_stats", "init", "process", "channel"],
            ),
            ("test", &["scheduler", "process", "init"]),
            ("report", &["probes", "kernel_stats", "channel", "init"]),
            ("scheduler", &["probes", "process", "init"]),
            ("probes", &["channel", "init"]),
            ("kernel_stats", &["init"]),
        ],
    ),
    (
        "vmm",
        &[
            ("guest", &["qemu", "kvm", "vsock", "guest_memory", "host", "config", "error", "guest_end"]),
            ("qemu", &["vsock", "guest_memory", "host", "config", "error", "guest_end"]),
            ("kvm", &["vsock", "guest_memory", "host"]),
            ("vsock", &["guest_memory"]),
            ("error", &["config", "host", "kvm", "qemu"]),
            ("config", &["host"]),
        ],
    ),
    (
        "ktstr",
        &[
            ("harness", &["workload", "scenario", "ctx", "scheduler", "result", "note", "error"]),
            ("scenario", &["workload", "ctx", "scheduler", "result", "note", "clock", "error"]),
            ("workload", &["ctx", "clock", "result", "note", "error"]),
            ("ctx", &["scheduler", "note", "error"]),
            ("result", &["note", "error"]),
        ],
    ),
    (
        "runner",
        &[
            (
                "commands",
                &[
                    "nextest",
                    "run",
                    "emulator",
                    "kernel",
                    "store",
                    "host",
                    "args",
                    "output",
                    "digest",
                    "exit",
                    "shell_words",
                ],
            ),
            ("output", &["exit"]),
            ("nextest", &["run", "emulator", "kernel", "host", "args", "digest", "exit", "shell_words"]),
            ("emulator", &["store", "exit"]),
            ("run", &["emulator", "kernel", "host", "args", "output", "digest", "exit", "shell_words"]),
            ("kernel", &["store", "host", "digest", "exit"]),
            ("store", &["host", "digest", "exit"]),
            ("host", &["args", "exit"]),
        ],
    ),
];

/// Most source files of a folder.
const MOST_FILES: usize = 22;

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The library of a crate, file by file; the files of `cfg(test)` modules and programs are left out.
fn sources(crate_dir: &str) -> BTreeMap<Module, String> {
    let src = root().join(crate_dir).join("src");
    let mut all = BTreeMap::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let relative = path.strip_prefix(&src).unwrap();
                if !relative.starts_with("bin") && relative != Path::new("main.rs") {
                    all.insert(imports::module_of(relative), fs::read_to_string(&path).unwrap());
                }
            }
        }
    }
    imports::without_tests(all)
}

/// What is wrong with the imports between top-level modules.
fn unlisted(edges: &Edges, allowed: &[(&str, &[&str])]) -> Vec<String> {
    let mut found = Vec::new();
    for (from, to) in edges.iter().flat_map(|(from, all)| all.iter().map(move |to| (from, to))) {
        let (Some(a), Some(b)) = (from.first(), to.first()) else { continue };
        let may = allowed.iter().find(|(name, _)| name == a).map_or(&[][..], |(_, to)| to);
        if a != b && !may.contains(&b.as_str()) {
            found.push(format!("{} imports {}: {a} may not name {b}", from.join("::"), to.join("::")));
        }
    }
    found
}

/// Files that import each other, directly or by way of others: one circle for each file that is in one.
fn circles(edges: &Edges) -> Vec<String> {
    let mut found = BTreeSet::new();
    for start in edges.keys() {
        let mut before: BTreeMap<&Module, &Module> = BTreeMap::new();
        let mut queue = std::collections::VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            for next in edges.get(at).into_iter().flatten() {
                if next == start {
                    let mut circle = vec![at];
                    while let Some(earlier) =
                        circle.last().and_then(|m| before.get(m)).filter(|_| circle.last() != Some(&start))
                    {
                        circle.push(earlier);
                    }
                    let mut names: Vec<String> = circle.iter().map(|m| m.join("::")).collect();
                    names.sort();
                    found.insert(names.join(" <-> "));
                } else if !before.contains_key(next) {
                    before.insert(next, at);
                    queue.push_back(next);
                }
            }
        }
    }
    found.into_iter().collect()
}

#[test]
fn folders_import_only_what_they_may() {
    let mut wrong = Vec::new();
    for (name, allowed) in ALLOWED {
        let sources = sources(name);
        assert!(sources.len() > 5, "{name} has {} files", sources.len());
        wrong.extend(unlisted(&edges(&sources), allowed).into_iter().map(|e| format!("{name}: {e}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_form_no_circle() {
    let mut wrong = Vec::new();
    for (name, _) in ALLOWED {
        let mut edges = edges(&sources(name));
        // `lib` names every module, and modules may name what it re-exports and its constants.
        edges.remove(&Vec::new());
        wrong.extend(circles(&edges).into_iter().map(|c| format!("{name}: {c}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_folder_is_crowded() {
    let mut folders: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for (name, _) in ALLOWED {
        for module in sources(name).keys() {
            let folder = Path::new(name).join(module[..module.len().saturating_sub(1)].join("/"));
            *folders.entry(folder).or_default() += 1;
        }
    }
    let crowded: Vec<_> = folders.iter().filter(|(_, n)| **n > MOST_FILES).collect();
    assert!(crowded.is_empty(), "more than {MOST_FILES} source files: {crowded:?}");
}

/// A crate of three files with these texts.
fn of(a: &str, b: &str, c: &str) -> Edges {
    let text = |m: &str, t: &str| (m.split("::").map(str::to_string).collect::<Module>(), t.to_string());
    let lib = (Vec::new(), "mod a; mod b; mod c;".to_string());
    edges(&imports::without_tests(BTreeMap::from([lib, text("a", a), text("b", b), text("c", c)])))
}

#[test]
fn added_edge_is_unlisted() {
    let allowed: &[(&str, &[&str])] = &[("a", &["b"])];
    assert_eq!(unlisted(&of("use crate::b::X;", "", ""), allowed), Vec::<String>::new());
    for text in [
        "use crate::{b::Y, c::X};",
        "use super::c as d;",
        "fn f() { crate::c::f() }",
        "fn f() { println!(\"{}\", crate::c::f()) }",
        "mod inner { use super::super::c::X; }",
        "pub(crate) use crate::c::*;",
    ] {
        let expected = ["a imports c: a may not name c"];
        assert_eq!(unlisted(&of(text, "", ""), allowed), expected, "{text}");
    }
    for text in ["#[cfg(test)] mod tests { use crate::c::X; }", "// crate::c::f", "use other::c::X;"] {
        assert_eq!(unlisted(&of(text, "", ""), allowed), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn circle_is_found_through_others_and_through_what_is_re_exported() {
    assert_eq!(circles(&of("use crate::b::X;", "use crate::c::X;", "")), Vec::<String>::new());
    let round = of("use crate::b::X;", "use crate::c::X;", "fn f(x: crate::a::X) {}");
    assert_eq!(circles(&round), ["a <-> b <-> c"]);
    // `a` asks `b` for what `c` owns: that is an import of `c`.
    let exported = of("use crate::b::X;", "pub use crate::c::X;", "use crate::a::Y;");
    assert_eq!(circles(&exported), ["a <-> c"]);
}
