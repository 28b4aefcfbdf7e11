//! Tables for people. Units are converted here and nowhere else.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, Table};
use ktstr_analysis::compare::{Comparison, Finding, Line, MOST_BOOTS};
use ktstr_analysis::pool::Found;
use ktstr_analysis::{MetricRow, Verdict};

/// A value in its unit, with three significant digits.
fn value(v: Option<f64>, unit: &str) -> String {
    let Some(v) = v else { return "-".into() };
    let scaled = |v: f64, unit: &str| {
        let digits = if v.abs() >= 100.0 {
            0
        } else if v.abs() >= 10.0 {
            1
        } else {
            2
        };
        format!("{v:.digits$}{unit}")
    };
    match unit {
        "ns" if v.abs() >= 1e9 => scaled(v / 1e9, " s"),
        "ns" if v.abs() >= 1e6 => scaled(v / 1e6, " ms"),
        "ns" if v.abs() >= 1e3 => scaled(v / 1e3, " us"),
        "ns" => scaled(v, " ns"),
        "frac" => format!("{v:.3}"),
        _ => format!("{v:.0}"),
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(header.iter().map(|h| Cell::new(h).add_attribute(Attribute::Bold)));
    if !io::stdout().is_terminal() {
        table.force_no_tty();
    }
    table
}

fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn verdict_cell(v: Verdict) -> Cell {
    let name = serde_json::to_value(v).ok().and_then(|v| v.as_str().map(str::to_string)).unwrap_or_default();
    let color = match v {
        Verdict::Pass => Color::Green,
        Verdict::Inconclusive | Verdict::Skip => Color::Yellow,
        Verdict::Fail | Verdict::BootError | Verdict::SchedExit => Color::Red,
    };
    Cell::new(name).fg(color)
}

fn metric(rows: &[MetricRow], name: &str, stat: &str) -> String {
    let row = rows.iter().find(|m| m.name == name && m.stat == stat && m.scope == "run");
    row.map_or("-".into(), |m| value(m.value, &m.unit))
}

/// The columns of a list of runs.
const KEY_METRICS: [(&str, &str, &str); 5] = [
    ("wakeup p50", "wakeup_latency", "p50"),
    ("wakeup p99", "wakeup_latency", "p99"),
    ("switches", "context_switches", "value"),
    ("balance migr.", "migrations_by_balance", "value"),
    ("busy", "cpu_busy_frac", "value"),
];

/// One line a run.
pub fn runs(found: &[&Found], json: bool) {
    if json {
        let rows: Vec<_> =
            found.iter().map(|f| serde_json::json!({"path": f.path, "sidecar": f.sidecar})).collect();
        println!("{}", serde_json::Value::from(rows));
        return;
    }
    let mut header = vec!["run", "test", "topology", "scheduler", "boot", "verdict"];
    header.extend(KEY_METRICS.iter().map(|(title, ..)| *title));
    let mut out = table(&header);
    let packages: BTreeSet<&str> = found.iter().map(|f| f.sidecar.identity.package.as_str()).collect();
    for f in found {
        let id = &f.sidecar.identity;
        let mut cells = vec![
            Cell::new(&id.run_id),
            Cell::new(if packages.len() > 1 { id.full_test() } else { id.test.clone() }),
            Cell::new(id.topology),
            Cell::new(&id.scheduler),
            right(if id.is_retry() {
                format!("{} try {}", id.repeat, id.attempt)
            } else {
                id.repeat.to_string()
            }),
            verdict_cell(f.sidecar.verdict),
        ];
        cells.extend(KEY_METRICS.iter().map(|(_, name, stat)| right(metric(&f.sidecar.metrics, name, stat))));
        out.add_row(cells);
    }
    println!("{out}");
    for f in found.iter().filter(|f| f.sidecar.verdict != Verdict::Pass) {
        println!("{}: {}", f.sidecar.identity.variant, f.sidecar.reasons.join("; "));
    }
    let mut dirs: Vec<_> = found.iter().filter_map(|f| f.path.parent()).collect();
    dirs.dedup();
    dirs.iter().for_each(|d| println!("files: {}", d.display()));
}

fn finding_text(line: &Line) -> String {
    match (line.finding, line.boots_needed) {
        (Finding::Regression, _) if line.judged => "REGRESSION".into(),
        (Finding::Regression, _) => "worse, not judged".into(),
        (Finding::Improvement, _) => "improvement".into(),
        (Finding::Different, _) => "different".into(),
        (Finding::Unchanged, _) => "unchanged".into(),
        (Finding::CannotDecide, Some(n)) => format!("cannot decide (try {n} boots a side)"),
        (Finding::CannotDecide, None) => format!("cannot decide (not within {MOST_BOOTS} boots)"),
    }
}

fn finding_cell(line: &Line) -> Cell {
    let cell = Cell::new(finding_text(line));
    match line.finding {
        Finding::Regression if line.judged => cell.fg(Color::Red),
        Finding::Improvement => cell.fg(Color::Green),
        Finding::CannotDecide => cell.fg(Color::Yellow),
        _ => cell,
    }
}

/// The shift as a part of side A, with its interval.
fn shift_text(line: &Line) -> String {
    let percent = |v: f64| line.a_median.filter(|m| *m != 0.0).map(|m| 100.0 * v / m.abs());
    let Some(shift) = line.shift else { return "-".into() };
    let Some(relative) = percent(shift) else { return value(Some(shift), &line.unit) };
    let interval = line.shift_interval.and_then(|(l, h)| percent(l).zip(percent(h)));
    match interval {
        Some((low, high)) => format!("{relative:+.1} % [{low:+.1}, {high:+.1}]"),
        None => format!("{relative:+.1} %"),
    }
}

fn cells(line: &Line) -> [String; 7] {
    [
        line.metric.clone(),
        line.role.clone().unwrap_or("(run)".into()),
        line.stat.clone(),
        value(line.a_median, &line.unit),
        value(line.b_median, &line.unit),
        shift_text(line),
        format!("{:.3}", line.p_corrected),
    ]
}

const COMPARED: [&str; 8] = ["metric", "role", "stat", "A", "B", "shift [95 %]", "p", "finding"];

/// The lines of each pair, with a title.
fn by_pair(c: &Comparison) -> Vec<(String, Vec<&Line>)> {
    let mut groups: Vec<(String, Vec<&Line>)> = Vec::new();
    for line in &c.lines {
        let dimensions: Vec<String> = line.pair.iter().map(|(d, v)| format!("{d} {v}")).collect();
        let boots = if line.paired {
            format!("{} pairs of boots", line.a.len())
        } else {
            format!("{} boots against {}", line.a.len(), line.b.len())
        };
        let title = format!("{} ({boots})", dimensions.join(", "));
        match groups.last_mut() {
            Some((last, lines)) if *last == title => lines.push(line),
            _ => groups.push((title, vec![line])),
        }
    }
    groups
}

/// How the numbers were made, and what was left out.
fn notes(c: &Comparison) -> Vec<String> {
    let how = if c.exact { "all" } else { "a sample of" };
    let mut notes = vec![format!(
        "medians over boots; shift by Hodges and Lehmann; p by {how} {} relabellings of boots, corrected over all lines (Westfall and Young)",
        c.nr_relabelings
    )];
    for (title, items) in [
        ("left out", &c.inadmissible),
        ("not paired", &c.unpaired),
        ("differs besides", &c.hidden_differences),
    ] {
        notes.extend(items.iter().map(|i| format!("{title}: {i}")));
    }
    notes
}

/// The sides beside each other.
pub fn comparison(c: &Comparison) {
    for (title, lines) in by_pair(c) {
        println!("{title}");
        let mut out = table(&COMPARED);
        for line in lines {
            let mut row: Vec<Cell> = cells(line)
                .into_iter()
                .enumerate()
                .map(|(i, t)| if i < 3 { Cell::new(t) } else { right(t) })
                .collect();
            row.push(finding_cell(line));
            out.add_row(row);
        }
        println!("{out}\n");
    }
    notes(c).iter().for_each(|n| println!("{n}"));
}

fn verdict_line(c: &Comparison) -> String {
    let count = |f: Finding| c.lines.iter().filter(|l| l.judged && l.finding == f).count();
    let (worse, better, open) =
        (count(Finding::Regression), count(Finding::Improvement), count(Finding::CannotDecide));
    let head = match c.exit_status() {
        0 => "nothing regressed",
        1 => "REGRESSION",
        _ => "cannot decide",
    };
    format!(
        "{head}: of the metrics that are judged, {worse} regressed, {better} improved, {open} cannot be decided"
    )
}

/// The same as Markdown, for a pull request: what changed first, the rest folded away.
pub fn markdown(c: &Comparison) -> String {
    let mut out = format!("### ktstr: {}\n", verdict_line(c));
    let telling = |l: &Line| !matches!(l.finding, Finding::Unchanged | Finding::CannotDecide);
    for (title, lines) in by_pair(c) {
        out.push_str(&format!("\n**{title}**\n"));
        let (told, rest): (Vec<&Line>, Vec<&Line>) = lines.into_iter().partition(|l| telling(l));
        out.push_str(&markdown_table(&told));
        if !rest.is_empty() {
            out.push_str(&format!(
                "\n<details><summary>{} metrics without a finding</summary>\n",
                rest.len()
            ));
            out.push_str(&markdown_table(&rest));
            out.push_str("\n</details>\n");
        }
    }
    out.push('\n');
    notes(c).iter().for_each(|n| out.push_str(&format!("- {}\n", escaped(n))));
    out
}

fn markdown_table(lines: &[&Line]) -> String {
    if lines.is_empty() {
        return "\nnothing\n".into();
    }
    let mut out = format!("\n| {} |\n|---|---|---|---:|---:|---:|---:|---|\n", COMPARED.join(" | "));
    for line in lines {
        let cells: Vec<String> = cells(line).iter().map(|c| escaped(c)).collect();
        out.push_str(&format!("| {} | {} |\n", cells.join(" | "), finding_text(line)));
    }
    out
}

/// What would end a cell or begin a tag.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_three_digits() {
        assert_eq!(value(Some(1234.0), "ns"), "1.23 us");
        assert_eq!(value(Some(98_765_432.0), "ns"), "98.8 ms");
        assert_eq!(value(Some(12.0), "count"), "12");
        assert_eq!(value(None, "ns"), "-");
    }
}
