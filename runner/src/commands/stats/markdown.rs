//! A comparison as Markdown, for a pull request: the verdict and what is judged; all lines folded away.

use ktstr_analysis::compare::{Comparison, Finding, Line, Sheet, View, summarize};

use super::comparison::{COLUMNS, all_lines, cells, label, name, notes, same_notes, title};
use super::print::value;
use super::words;
use crate::output::one_line;

/// The comparison in Markdown.
pub(super) fn markdown(c: &Comparison, view: &View, all: bool) -> String {
    let mut out = format!("### ktstr: {}\n", escaped(&words::verdict(c)));
    for v in &c.verdicts {
        if let Some(failures) = words::failures(v) {
            out += &format!("\n{}: {}\n", escaped(&label(v, &c.verdicts)), escaped(&failures));
        }
    }
    for sheet in summarize(c, view) {
        out += &sheet_table(c, &sheet);
        same_notes(&sheet).iter().for_each(|n| out += &format!("\n{}\n", escaped(n)));
    }
    for (group, lines) in all_lines(c, view) {
        if lines.is_empty() {
            continue;
        }
        let open = if all { " open" } else { "" };
        out += &format!(
            "\n<details{open}><summary>all {} lines: {}</summary>\n",
            lines.len(),
            escaped(&title(group))
        );
        out += &table(&COLUMNS, lines.into_iter().map(|l| cells(l).to_vec()));
        out += "\n</details>\n";
    }
    out.push('\n');
    notes(c, true).iter().for_each(|n| out += &format!("- {}\n", escaped(n)));
    out
}

fn finding(line: &Line) -> String {
    match line.finding {
        Finding::Regression => "worse".into(),
        Finding::Improvement => "better".into(),
        _ => words::finding(line),
    }
}

/// Names of the columns of [`judged`].
pub(super) const JUDGED: [&str; 6] = ["finding", "statistic", "on", "A", "B", "shift [95 %]"];

/// What is judged, a row for each statistic.
pub(super) fn judged(c: &Comparison, sheet: &Sheet<'_>) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for row in &sheet.rows {
        for (group, line) in sheet.groups.iter().zip(&row.cells).filter_map(|(g, l)| Some((g, (*l)?))) {
            let of = |v| value(v, &line.unit);
            rows.push(vec![
                finding(line),
                name(line),
                label(group, &c.verdicts),
                of(line.a_median),
                of(line.b_median),
                words::shift_with_interval(line),
            ]);
        }
    }
    rows
}

fn sheet_table(c: &Comparison, sheet: &Sheet<'_>) -> String {
    let rows = judged(c, sheet);
    if rows.is_empty() { String::new() } else { table(&JUDGED, rows.into_iter()) }
}

fn table(header: &[&str], lines: impl Iterator<Item = Vec<String>>) -> String {
    let mut out = format!("\n| {} |\n|{}\n", header.join(" | "), "---|".repeat(header.len()));
    for line in lines {
        let cells: Vec<String> = line.iter().map(|c| escaped(c)).collect();
        out += &format!("| {} |\n", cells.join(" | "));
    }
    out
}

/// One line without what would end a cell or begin a tag.
fn escaped(text: &str) -> String {
    one_line(text).replace('|', "\\|").replace('<', "&lt;")
}
