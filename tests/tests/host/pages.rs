//! README, the book and the other pages: their links lead somewhere, their code is code of the repository, their lists are
//! complete, and their language follows CONTRIBUTING.md. What their commands do is `commands`.
#![allow(clippy::unwrap_used)] // the helpers of a test may panic as the test may

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use ktstr_tests::boot::{runner, text_of, walk, workspace};
use ktstr_tests::pages::{Page, book, readme_and_book};

/// Pages that are not in the book.
const OTHERS: [&str; 9] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs/SUMMARY.md",
    "examples/first-test/README.md",
    "examples/payload/README.md",
    "examples/ci-gate/README.md",
];

fn pages() -> Vec<Page> {
    OTHERS.into_iter().map(Page::read).chain(book()).collect()
}

/// The path of a link from a page, without `..`.
fn target(page: &Page, link: &str) -> PathBuf {
    if link.is_empty() {
        return page.path.clone();
    }
    let mut path = page.path.parent().unwrap().to_path_buf();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => {
                assert!(path.pop(), "{}: {link} leaves the repository", page.path.display())
            }
            part => path.push(part),
        }
    }
    path
}

#[test]
fn links_lead_to_files_and_anchors_that_exist() {
    let mut nr_anchors = 0;
    for page in pages() {
        for link in page.links().iter().filter(|l| !l.starts_with("https://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = target(&page, file);
            let what = format!("{}: the link {link}", page.path.display());
            assert!(workspace().join(&target).exists(), "{what} leads to no file");
            assert!(
                !page.path.starts_with("docs") || target.starts_with("docs"),
                "{what} leaves the book, where it is broken"
            );
            if !anchor.is_empty() {
                let anchors = Page::read(target).anchors();
                assert!(
                    anchors.iter().any(|a| a == anchor),
                    "{what} leads to no heading; there are {anchors:?}"
                );
                nr_anchors += 1;
            }
        }
    }
    assert!(nr_anchors > 10, "the walk has found next to nothing");
}

#[test]
fn every_page_is_in_the_summary() {
    let listed: BTreeSet<PathBuf> = book().into_iter().map(|p| p.path).collect();
    let files =
        walk(&workspace().join("docs")).into_iter().filter(|p| p.extension().is_some_and(|e| e == "md"));
    let files = files.map(|p| p.strip_prefix(workspace()).unwrap().to_path_buf());
    let files: BTreeSet<PathBuf> = files.filter(|p| !p.ends_with("SUMMARY.md")).collect();
    assert_eq!(files, listed);
}

#[test]
fn code_on_pages_is_code_of_the_repository() {
    let root = workspace();
    let files = walk(&root.join("examples")).into_iter().chain(walk(&root.join("tests/tests")));
    let sources: Vec<String> =
        files.filter(|p| p.is_file()).map(|p| fs::read_to_string(p).unwrap_or_default()).collect();
    let mut nr = 0;
    for page in readme_and_book() {
        let is_code = |language: &str| ["rust", "yaml"].contains(&language);
        for fence in page.fences().iter().filter(|f| is_code(&f.language)) {
            let is_there = sources.iter().any(|s| s.contains(&fence.text));
            assert!(
                is_there,
                "{}: in no file of examples/ and tests/tests/:\n{}",
                page.path.display(),
                fence.text
            );
            nr += 1;
        }
    }
    assert!(nr > 5, "the walk has found next to nothing");
}

/// Help of a command and of the commands below it.
fn help(command: &[&str]) -> String {
    let out = runner().args(command).arg("--help").output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", text_of(&out));
    let text = String::from_utf8(out.stdout).unwrap();
    let commands = text.split("Commands:\n").nth(1).unwrap_or_default();
    let names = commands.lines().map_while(|l| l.strip_prefix("  ")).filter(|l| !l.starts_with(' '));
    let names = names.filter_map(|l| l.split(' ').next()).filter(|n| *n != "help");
    let below: Vec<String> = names.map(|name| help(&[command, &[name]].concat())).collect();
    text.clone() + &below.concat()
}

/// Numbers in the table of exit statuses: those that stand at the begin of a column or in a list of numbers.
fn statuses(help: &str) -> BTreeSet<u32> {
    let (_, table) = help.split_once("Exit status:\n").unwrap();
    let entries = table.lines().flat_map(|l| l.split("   ")).map(str::trim);
    let numbers =
        entries.flat_map(|e| e.split([' ', ',']).take_while(|w| w.is_empty() || w.parse::<u32>().is_ok()));
    numbers.filter_map(|w| w.parse().ok()).collect()
}

#[test]
fn troubleshooting_has_every_exit_status_and_every_verdict() {
    let page = Page::read("docs/troubleshooting.md");
    let (_, table) = page.text.split_once("## Exit statuses").unwrap();
    let rows = table.lines().filter_map(|l| l.strip_prefix("| ")?.split(' ').next()?.parse().ok());
    let out = runner().arg("--help").output().unwrap();
    let expected = statuses(&text_of(&out));
    assert!(expected.len() > 15, "{expected:?}");
    assert_eq!(rows.collect::<BTreeSet<u32>>(), expected);
    // The constants are in that table, too.
    let constants = include_str!("../../../runner/src/exit.rs")
        .lines()
        .filter_map(|l| l.strip_prefix("pub(crate) const "));
    let constants =
        constants.filter_map(|l| l.split_once(": u8 = ")?.1.strip_suffix(';')?.parse::<u32>().ok());
    assert!(constants.clone().count() > 10);
    assert_eq!(constants.filter(|c| !expected.contains(c)).collect::<Vec<_>>(), Vec::<u32>::new());

    let verdicts = include_str!("../../../analysis/src/runs/sidecar.rs").lines();
    let verdicts = verdicts.filter_map(|l| l.trim().strip_prefix("Verdict::")?.split_once(" => \""));
    let verdicts: BTreeSet<&str> = verdicts.map(|(_, name)| name.trim_end_matches("\",")).collect();
    let (_, section) = page.text.split_once("## Verdicts").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let headings: BTreeSet<&str> = section.lines().filter_map(|l| l.strip_prefix("### ")).collect();
    assert_eq!(headings, verdicts);
}

/// The phrases on the left of the table of words; a capital letter stands for any word.
fn phrases() -> Vec<Vec<String>> {
    let page = Page::read("CONTRIBUTING.md");
    let (_, table) = page.text.split_once("| instead of | write |\n|---|---|\n").unwrap();
    let cells = table.lines().map_while(|l| l.strip_prefix("| ")).filter_map(|l| l.split(" | ").next());
    // What a remark in parentheses restricts is for people.
    let phrases = cells.flat_map(|c| c.split([';', ','])).map(str::trim).filter(|p| !p.contains('('));
    phrases.map(words).collect()
}

fn words(text: &str) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || "_'".contains(c);
    text.split(|c: char| !is_word(c))
        .filter(|w| !w.is_empty())
        .map(|w| w.trim_matches('\'').to_string())
        .collect()
}

/// Whether `phrase` begins at the begin of `words`.
fn begins(words: &[String], phrase: &[String]) -> bool {
    let is = |(word, wanted): (&String, &String)| match wanted.as_str() {
        // "X is no Y" is neither "there is no Y" nor "X is no longer".
        "X" | "Y" => !["there", "longer", "more"].contains(&word.to_lowercase().as_str()),
        wanted => word.to_lowercase() == wanted.to_lowercase(),
    };
    words.len() >= phrase.len() && words.iter().zip(phrase).all(is)
}

#[test]
fn words_of_the_list_are_on_no_page_and_in_no_help() {
    let phrases = phrases();
    assert!(phrases.len() > 15, "{phrases:?}");
    let help = Page { path: "--help".into(), text: help(&[]) };
    assert!(help.text.matches("Usage:").count() > 15, "the walk has found next to nothing");
    let mut found = Vec::new();
    for page in pages().into_iter().chain([help]).filter(|p| !p.path.ends_with("CONTRIBUTING.md")) {
        let words = words(&page.text);
        for i in 0..words.len() {
            let hits = phrases.iter().filter(|p| begins(&words[i..], p));
            found.extend(hits.map(|p| {
                let context = words[i.saturating_sub(4)..words.len().min(i + 8)].join(" ");
                format!("{}: '{}' in: {context}", page.path.display(), p.join(" "))
            }));
        }
    }
    assert!(found.is_empty(), "CONTRIBUTING.md says what to write instead:\n{}", found.join("\n"));
}

#[test]
fn first_pages_stay_short() {
    for (path, limit) in [("README.md", 120), ("ARCHITECTURE.md", 150)] {
        let lines = Page::read(path).text.lines().count();
        assert!(lines <= limit, "{path} has {lines} lines, and {limit} are the limit");
    }
}
