//! The dependency directions of ARCHITECTURE.md, held against `cargo metadata`.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic as the test may")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who may depend on whom, of ours.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("ktstr-wire", &[]),
    ("ktstr-macros", &[]),
    ("ktstr", &["ktstr-wire", "ktstr-macros"]),
    ("ktstr-guest", &["ktstr-wire"]),
    ("ktstr-vmm", &["ktstr-wire"]),
    ("ktstr-analysis", &["ktstr-wire"]),
    ("cargo-ktstr", &["ktstr-wire", "ktstr-guest", "ktstr-vmm", "ktstr-analysis"]),
    ("ktstr-tests", &["ktstr", "ktstr-wire", "ktstr-analysis", "ktstr-guest", "ktstr-vmm"]),
    ("example-first-test", &["ktstr"]),
    ("example-payload", &["ktstr"]),
    ("example-ci-gate", &["ktstr"]),
];

/// Never in what a user's test crate links.
const HEAVY: [&str; 6] = ["polars", "arrow", "parquet", "libbpf-sys", "cc", "vm-memory"];

fn metadata() -> serde_json::Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let out = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn text(v: &serde_json::Value) -> String {
    v.as_str().unwrap_or_default().to_string()
}

#[test]
fn crates_depend_only_on_those_that_they_may() {
    let meta = metadata();
    let members: BTreeSet<String> = meta["workspace_members"].as_array().unwrap().iter().map(text).collect();
    let packages: Vec<_> =
        meta["packages"].as_array().unwrap().iter().filter(|p| members.contains(&text(&p["id"]))).collect();
    let ours: BTreeSet<String> = packages.iter().map(|p| text(&p["name"])).collect();
    assert_eq!(ours, ALLOWED.iter().map(|(n, _)| n.to_string()).collect());
    for package in packages {
        let name = text(&package["name"]);
        let (_, allowed) = ALLOWED.iter().find(|(n, _)| *n == name).unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = text(&dependency["name"]);
            assert!(!ours.contains(&to) || allowed.contains(&to.as_str()), "{name} may not depend on {to}");
        }
    }
}

#[test]
fn what_tests_import_stays_light() {
    let meta = metadata();
    let nodes: BTreeMap<String, &serde_json::Value> =
        meta["resolve"]["nodes"].as_array().unwrap().iter().map(|n| (text(&n["id"]), n)).collect();
    let by_id: BTreeMap<String, &serde_json::Value> =
        meta["packages"].as_array().unwrap().iter().map(|p| (text(&p["id"]), p)).collect();
    let root = by_id.iter().find(|(_, p)| p["name"] == "ktstr").unwrap().0.clone();
    let (mut queue, mut seen) = (vec![root], BTreeSet::new());
    while let Some(id) = queue.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let name = text(&by_id[&id]["name"]);
        assert!(!HEAVY.contains(&name.as_str()), "ktstr pulls in {name}");
        for dep in nodes[&id]["deps"].as_array().unwrap() {
            let normal = dep["dep_kinds"].as_array().unwrap().iter().any(|k| k["kind"].is_null());
            if normal {
                queue.push(text(&dep["pkg"]));
            }
        }
    }
    assert!(seen.len() > 5, "the walk has found next to nothing");
}

/// Every Rust file of the workspace, but what is built and what is a workspace of its own.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && !name.to_string_lossy().starts_with('.') && name != "target" {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn environment_variables_have_their_names_in_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    sources(root, &mut files);
    let mut found = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        // A string that is the name of a variable and nothing else.
        let prefix = concat!("\"", "KTSTR_");
        let names = text.split(prefix).skip(1).filter_map(|rest| {
            let name = rest.split('"').next()?;
            (!name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
                .then(|| name.to_string())
        });
        let names: Vec<String> = names.collect();
        if file.ends_with("wire/src/env.rs") {
            found = names.len();
        } else {
            assert!(names.is_empty(), "{}: {names:?} belong into wire/src/env.rs", file.display());
        }
    }
    assert!(found > 20, "the walk has found next to nothing");
}
