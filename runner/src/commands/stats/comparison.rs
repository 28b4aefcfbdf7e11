//! A comparison as text and as Markdown.

use std::collections::BTreeSet;

use comfy_table::{Cell, Color};
use ktstr_analysis::compare::Finding;
use ktstr_analysis::compare::{Comparison, Line, MOST_BOOTS};
use ktstr_analysis::compare::{VerdictCounts, VerdictLine};

use super::print::{cell, right, table, unsigned_zero, value};
use crate::output::{one_line, outln, plain};

fn finding_text(line: &Line) -> String {
    let text = match (line.finding, line.boots_needed) {
        (Finding::Regression, _) if line.judged => "REGRESSION".into(),
        (Finding::Regression, _) => "worse, not judged".into(),
        (Finding::Improvement, _) => "improvement".into(),
        (Finding::Different, _) => "different".into(),
        (Finding::Immaterial, _) => format!("different, by less than {} %", 100.0 * line.material_frac),
        (Finding::Unchanged, _) => "unchanged".into(),
        (Finding::CannotDecide, Some(n)) => format!("cannot decide (try {n} boots a side)"),
        (Finding::CannotDecide, None) if line.shift.is_none() => "cannot decide".into(),
        (Finding::CannotDecide, None) => format!("cannot decide (not within {MOST_BOOTS} boots)"),
        (Finding::OneSided, _) if line.judged => "cannot decide".into(),
        (Finding::OneSided, _) => "not judged".into(),
    };
    with_reason(text, &line.reason)
}

fn with_reason(text: String, reason: &Option<String>) -> String {
    reason.iter().fold(text, |text, reason| format!("{text}: {reason}"))
}

fn verdict_text(line: &VerdictLine) -> String {
    let text = match line.finding {
        Finding::Regression => "REGRESSION",
        Finding::Improvement => "improvement",
        Finding::CannotDecide => "cannot decide",
        _ => "no more than on A",
    };
    with_reason(text.into(), &line.reason)
}

fn colored(text: String, finding: Finding, judged: bool) -> Cell {
    let cell = cell(text);
    match finding {
        Finding::Regression if judged => cell.fg(Color::Red),
        Finding::Improvement => cell.fg(Color::Green),
        Finding::CannotDecide => cell.fg(Color::Yellow),
        Finding::OneSided if judged => cell.fg(Color::Yellow),
        _ => cell,
    }
}

/// The shift as a part of side A, with its interval.
fn shift_text(line: &Line) -> String {
    let percent = |v: f64| line.a_median.filter(|m| *m != 0.0).map(|m| 100.0 * v / m.abs());
    let signed = |v: f64| unsigned_zero(format!("{v:+.1}"));
    let Some(shift) = line.shift else { return "-".into() };
    let Some(relative) = percent(shift) else { return value(Some(shift), &line.unit) };
    let interval = line.shift_interval.and_then(|(l, h)| percent(l).zip(percent(h)));
    match interval {
        Some((low, high)) => format!("{} % [{}, {}]", signed(relative), signed(low), signed(high)),
        None => format!("{} %", signed(relative)),
    }
}

fn p_text(p: f64) -> String {
    if p < 0.0005 { "<0.001".into() } else { format!("{p:.3}") }
}

const COMPARED: [&str; 8] = ["metric", "role", "stat", "A", "B", "shift [95 %]", "p", "finding"];

fn cells(line: &Line) -> [String; 8] {
    [
        line.metric.clone(),
        line.role.clone().unwrap_or("(run)".into()),
        line.stat.clone(),
        value(line.a_median, &line.unit),
        value(line.b_median, &line.unit),
        shift_text(line),
        p_text(line.p_corrected),
        finding_text(line),
    ]
}

fn failed_of(ends: &VerdictCounts) -> String {
    format!("{} of {}", ends.failed(), ends.boots())
}

fn verdict_cells(line: &VerdictLine) -> [String; 8] {
    let none = || "-".to_string();
    let (a, b) = (failed_of(&line.a), failed_of(&line.b));
    ["boots failed".into(), none(), none(), a, b, none(), p_text(line.p_corrected), verdict_text(line)]
}

/// How the boots ended, if not all passed: `A 14 pass; B 6 pass, 6 sched_exit, 2 fail`.
fn ends_text(line: &VerdictLine) -> Option<String> {
    let side = |e: &VerdictCounts| {
        let counts = [
            (e.pass, "pass"),
            (e.fail, "fail"),
            (e.sched_exit, "sched_exit"),
            (e.boot_error, "boot_error"),
            (e.inconclusive, "inconclusive"),
            (e.skip, "skip"),
            (e.no_result, "without a result"),
        ];
        let some = counts.iter().filter(|(n, _)| *n > 0).map(|(n, name)| format!("{n} {name}"));
        some.collect::<Vec<_>>().join(", ")
    };
    let all_passed = [&line.a, &line.b].iter().all(|e| e.pass == e.boots());
    (!all_passed).then(|| format!("boots: A {}; B {}", side(&line.a), side(&line.b)))
}

/// What is said of one pair.
struct Section<'a> {
    title: String,
    verdicts: &'a VerdictLine,
    lines: Vec<&'a Line>,
}

fn sections(c: &Comparison) -> impl Iterator<Item = Section<'_>> {
    c.verdicts.iter().map(|verdicts| {
        let lines: Vec<&Line> = c.lines.iter().filter(|l| l.pair == verdicts.pair).collect();
        let boots = match lines.first() {
            Some(l) if l.paired => format!("{} pairs of boots", l.a.len()),
            Some(l) => format!("{} boots against {}", l.a.len(), l.b.len()),
            None => "no metric can be compared".into(),
        };
        let dimensions: Vec<String> = verdicts.pair.iter().map(|(d, v)| format!("{d} {v}")).collect();
        Section { title: one_line(&format!("{} ({boots})", dimensions.join(", "))), verdicts, lines }
    })
}

/// How the numbers were made, and what was left out.
fn notes(c: &Comparison) -> Vec<String> {
    let mut notes = Vec::new();
    for (name, side) in ["A", "B"].iter().zip(&c.sides) {
        let value = |(d, v): (&String, &BTreeSet<String>)| {
            format!("{d} {}", v.iter().cloned().collect::<Vec<_>>().join(", "))
        };
        notes.push(format!("side {name}: {}", side.iter().map(value).collect::<Vec<_>>().join(", ")));
    }
    let how = if c.exact { "all" } else { "a sample of" };
    notes.push(format!(
        "medians over boots; shift by Hodges and Lehmann; p by {how} {} relabellings of boots, corrected over all lines (Westfall and Young); boots failed (fail, sched_exit, boot_error): exact test, corrected over pairs (Holm)",
        c.nr_relabelings
    ));
    for (title, items) in [
        ("left out", &c.inadmissible),
        ("not paired", &c.unpaired),
        ("differs besides", &c.hidden_differences),
    ] {
        notes.extend(items.iter().map(|i| format!("{title}: {i}")));
    }
    notes.iter().map(|n| plain(n)).collect()
}

fn row(cells: [String; 8], finding: Finding, judged: bool) -> Vec<Cell> {
    let [metric, role, stat, a, b, shift, p, text] = cells;
    let mut row: Vec<Cell> = [metric, role, stat].into_iter().map(cell).collect();
    row.extend([a, b, shift, p].into_iter().map(right));
    row.push(colored(text, finding, judged));
    row
}

/// Prints the sides beside each other.
pub(super) fn print(c: &Comparison) {
    for section in sections(c) {
        outln!("{}", section.title);
        ends_text(section.verdicts).iter().for_each(|ends| outln!("{ends}"));
        let mut out = table(&COMPARED);
        out.add_row(row(verdict_cells(section.verdicts), section.verdicts.finding, section.verdicts.judged));
        for line in section.lines {
            out.add_row(row(cells(line), line.finding, line.judged));
        }
        outln!("{out}\n");
    }
    notes(c).iter().for_each(|n| outln!("{n}"));
    outln!("{}", headline(c));
}

/// The outcome in one line.
fn headline(c: &Comparison) -> String {
    let count = |of: &[Finding]| c.lines.iter().filter(|l| l.judged && of.contains(&l.finding)).count();
    let worse = count(&[Finding::Regression]);
    let better = count(&[Finding::Improvement]);
    let open = count(&[Finding::CannotDecide, Finding::OneSided]);
    let head = match c.exit_status() {
        0 => "nothing regressed",
        1 => "REGRESSION",
        _ => "cannot decide",
    };
    let all = &c.all_verdicts;
    let boots = format!(
        "boots failed on A {}, on B {} (p {}; {})",
        failed_of(&all.a),
        failed_of(&all.b),
        p_text(all.p),
        verdict_text(all)
    );
    format!(
        "{head}: {boots}; of the metrics that are judged, {worse} regressed, {better} improved, {open} cannot be decided"
    )
}

/// The same as Markdown, for a pull request: what changed first, the rest folded away.
pub(super) fn markdown(c: &Comparison) -> String {
    let mut out = format!("### ktstr: {}\n", escaped(&headline(c)));
    let telling =
        |l: &Line| !matches!(l.finding, Finding::Unchanged | Finding::CannotDecide | Finding::Immaterial);
    for section in sections(c) {
        out.push_str(&format!("\n**{}**\n", escaped(&section.title)));
        ends_text(section.verdicts).iter().for_each(|ends| out.push_str(&format!("\n{ends}\n")));
        let (told, rest): (Vec<&Line>, Vec<&Line>) = section.lines.into_iter().partition(|l| telling(l));
        let first = std::iter::once(verdict_cells(section.verdicts));
        out.push_str(&markdown_table(first.chain(told.into_iter().map(cells))));
        if !rest.is_empty() {
            out.push_str(&format!(
                "\n<details><summary>{} metrics without a finding</summary>\n",
                rest.len()
            ));
            out.push_str(&markdown_table(rest.into_iter().map(cells)));
            out.push_str("\n</details>\n");
        }
    }
    out.push('\n');
    notes(c).iter().for_each(|n| out.push_str(&format!("- {}\n", escaped(n))));
    out
}

fn markdown_table(lines: impl Iterator<Item = [String; 8]>) -> String {
    let mut out = format!("\n| {} |\n|---|---|---|---:|---:|---:|---:|---|\n", COMPARED.join(" | "));
    for line in lines {
        let cells: Vec<String> = line.iter().map(|c| escaped(c)).collect();
        out.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    out
}

/// One line without what would end a cell or begin a tag.
fn escaped(text: &str) -> String {
    one_line(text).replace('|', "\\|").replace('<', "&lt;")
}
