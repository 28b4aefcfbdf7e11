//! A comparison as text: the verdict, then what is judged, the worst first; or all lines.

use comfy_table::{Cell, CellAlignment, Color, Table};
use ktstr_analysis::compare::{
    Comparison, Finding, Line, Row, Sheet, VerdictLine, View, short_name, summarize,
};

use super::print::{cell, right, table, value};
use super::words;
use crate::output::{one_line, outln, plain};

/// Width of the verdict.
pub(super) const WIDTH: usize = 100;
/// Lines of a comparison that are shown without `--all`.
const MOST_LINES: usize = 20;
/// Groups that are shown with medians and intervals; with intervals; at all.
const WITH_MEDIANS: usize = 2;
const WITH_INTERVALS: usize = 3;
const MOST_GROUPS: usize = 8;
/// Notes of a kind that are shown without `--all`.
const MOST_NOTES: usize = 2;

/// Prints the verdict and the lines of the view.
pub(super) fn print(c: &Comparison, view: &View, all: bool) {
    outln!("{}", words::wrapped(&words::verdict(c), WIDTH));
    let failed: Vec<&VerdictLine> = c.verdicts.iter().filter(|v| words::failures(v).is_some()).collect();
    for v in failed.iter().take(if all { usize::MAX } else { MOST_NOTES }) {
        let group = if c.verdicts.len() > 1 { format!("{}: ", label(v, &c.verdicts)) } else { String::new() };
        outln!(
            "{}",
            plain(&words::wrapped(&format!("{group}{}", words::failures(v).unwrap_or_default()), WIDTH))
        );
    }
    outln!("");
    if all {
        print_all(c, view)
    } else {
        print_summary(c, view)
    }
    for note in notes(c, all) {
        outln!("{}", words::wrapped(&note, WIDTH));
    }
}

fn print_summary(c: &Comparison, view: &View) {
    let mut left = MOST_LINES;
    let mut hidden = 0;
    for sheet in summarize(c, view) {
        let shown: Vec<&Row<'_>> = sheet.rows.iter().filter(|r| !is_same(r.finding)).take(left).collect();
        hidden += sheet.rows.iter().filter(|r| !is_same(r.finding)).count() - shown.len();
        left -= shown.len();
        if c.verdicts.len() > sheet.groups.len() {
            outln!("{}", one_line(&titles(&sheet, &c.verdicts)));
        }
        if !shown.is_empty() {
            outln!("{}\n", trimmed(&sheet_table(&sheet, &shown)));
        }
        for note in same_notes(&sheet) {
            outln!("{}", words::wrapped(&note, WIDTH));
        }
    }
    let judged = c.lines.iter().filter(|l| view.shows(l)).count();
    let rest = c.lines.len() - judged;
    let hidden = if hidden > 0 { format!("{hidden} more lines are judged; ") } else { String::new() };
    if rest > 0 || !hidden.is_empty() {
        outln!("{hidden}--all shows all {} lines, with p-values", c.lines.len());
    }
}

/// A table without spaces at the ends of lines.
pub(super) fn trimmed(table: &Table) -> String {
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn is_same(f: Finding) -> bool {
    matches!(f, Finding::Unchanged | Finding::Immaterial)
}

fn titles(sheet: &Sheet<'_>, all: &[VerdictLine]) -> String {
    sheet.groups.iter().map(|g| label(g, all)).collect::<Vec<_>>().join(" and ")
}

/// The values of a group that distinguish it among all groups; a test that the topology determines is left out.
pub(super) fn label(group: &VerdictLine, all: &[VerdictLine]) -> String {
    let differs = |d: &str| all.iter().any(|o| o.pair.get(d) != group.pair.get(d));
    let topologies: std::collections::BTreeSet<_> = all.iter().map(|g| g.pair.get("topology")).collect();
    let by_topology = topologies.len() == all.len();
    let parts = group.pair.iter().filter(|(d, _)| differs(d) && (*d == "topology" || !by_topology));
    let parts: Vec<String> = parts.map(|(d, v)| words::dimension_value(d, v)).collect();
    if parts.is_empty() { group.pair.get("topology").cloned().unwrap_or_default() } else { parts.join(" ") }
}

/// Headings of a finding's rows.
fn heading(finding: Finding) -> &'static str {
    match finding {
        Finding::Regression => "worse",
        Finding::Improvement => "better",
        Finding::Different => "different",
        Finding::CannotDecide | Finding::OneSided => "undecided",
        Finding::Immaterial | Finding::Unchanged => "unchanged",
    }
}

fn color(finding: Finding) -> Option<Color> {
    match finding {
        Finding::Regression => Some(Color::Red),
        Finding::Improvement => Some(Color::Green),
        Finding::CannotDecide | Finding::OneSided => Some(Color::Yellow),
        _ => None,
    }
}

fn colored(text: &str, finding: Finding) -> Cell {
    color(finding).iter().fold(cell(text), |cell, color| cell.fg(*color))
}

/// The columns of one group.
fn group_header(label: &str, nr_groups: usize) -> Vec<String> {
    let label = one_line(label);
    match nr_groups {
        n if n <= WITH_MEDIANS => vec!["\nA".into(), "\nB".into(), format!("{label}\nshift [95 %]")],
        n if n <= WITH_INTERVALS => vec![format!("{label}\nshift [95 %]")],
        _ => vec![label],
    }
}

fn sheet_table(sheet: &Sheet<'_>, rows: &[&Row<'_>]) -> Table {
    let groups: Vec<VerdictLine> = sheet.groups.iter().map(|g| (*g).clone()).collect();
    let shown = groups.len().min(MOST_GROUPS);
    let mut out = table(&[]);
    let mut header = vec![Cell::new("")];
    for group in &groups[..shown] {
        let titles = group_header(&label(group, &groups), groups.len());
        header.extend(titles.into_iter().map(|t| Cell::new(t).set_alignment(CellAlignment::Right)));
    }
    if groups.len() > shown {
        header.push(Cell::new(format!("and {} more", groups.len() - shown)));
    }
    out.set_header(header);
    let mut last = None;
    for row in rows {
        if last != Some(heading(row.finding)) {
            out.add_row(vec![colored(heading(row.finding), row.finding)]);
            last = Some(heading(row.finding));
        }
        out.add_row(row_cells(row, groups.len(), shown));
    }
    let columns = if groups.len() <= WITH_MEDIANS { 3 } else { 1 };
    for (i, column) in out.column_iter_mut().enumerate() {
        column
            .set_padding((u16::from(i > 0 && (i - 1) % columns == 0), if groups.len() == 1 { 2 } else { 1 }));
    }
    out
}

fn row_cells(row: &Row<'_>, nr_groups: usize, shown: usize) -> Vec<Cell> {
    let name = row.first().map(name).unwrap_or_default();
    let mut cells = vec![cell(format!("  {name}"))];
    cells.extend(row.cells[..shown].iter().flat_map(|line| group_cells(*line, nr_groups)));
    let more = row.cells[shown..].iter().flatten().count();
    if more > 0 {
        cells.push(cell(format!("+ {more}")));
    }
    cells
}

fn group_cells(line: Option<&Line>, nr_groups: usize) -> Vec<Cell> {
    let of = |f: &dyn Fn(&Line) -> String| right(line.map(f).unwrap_or_default());
    let shift = of(&|l| match l.finding {
        Finding::CannotDecide => words::boots_needed(l).unwrap_or("-".into()),
        Finding::OneSided => "one side only".into(),
        _ if nr_groups <= WITH_INTERVALS => words::shift_with_interval(l),
        _ => words::shift(l),
    });
    if nr_groups <= WITH_MEDIANS {
        vec![of(&|l| value(l.a_median, &l.unit)), of(&|l| value(l.b_median, &l.unit)), shift]
    } else {
        vec![shift]
    }
}

/// Role and statistic of a line.
pub(super) fn name(line: &Line) -> String {
    let role = line.role.as_ref().map(|r| format!("{r} ")).unwrap_or_default();
    one_line(&format!("{role}{}", short_name(line)))
}

/// What is not in the table: lines that say the same as others, and unchanged ones.
pub(super) fn same_notes(sheet: &Sheet<'_>) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for row in sheet.rows.iter().filter(|r| !r.same.is_empty()) {
        let same: Vec<String> = row.same.iter().map(|l| format!("{} {}", name(l), words::shift(l))).collect();
        let of = row.first().map(name).unwrap_or_default();
        notes.push(format!("same cause as {of}: {}", same.join(", ")));
    }
    let unchanged = sheet.rows.iter().filter(|r| is_same(r.finding)).filter_map(|r| {
        let nr = r.cells.iter().flatten().count();
        let on = if nr < sheet.groups.len() {
            format!(" (on {nr} of {})", sheet.groups.len())
        } else {
            String::new()
        };
        r.first().map(|l| format!("{}{on}", name(l)))
    });
    let unchanged: Vec<String> = unchanged.collect();
    if !unchanged.is_empty() {
        notes.push(format!("unchanged: {}", unchanged.join(", ")));
    }
    notes
}

/// Columns of the table of all lines.
pub(super) const COLUMNS: [&str; 8] = ["metric", "role", "stat", "A", "B", "shift [95 %]", "p", "finding"];

/// A line in the table of all lines.
pub(super) fn cells(line: &Line) -> [String; 8] {
    [
        line.metric.clone(),
        line.role.clone().unwrap_or("(run)".into()),
        line.stat.clone(),
        value(line.a_median, &line.unit),
        value(line.b_median, &line.unit),
        words::shift_with_interval(line),
        words::p_value(line.p_corrected),
        words::finding(line),
    ]
}

/// Groups with their lines, judged ones first.
pub(super) fn all_lines<'a>(c: &'a Comparison, view: &View) -> Vec<(&'a VerdictLine, Vec<&'a Line>)> {
    let filtered = view.metric.is_some() || view.role.is_some();
    let of_group = |v: &'a VerdictLine| {
        let mut lines: Vec<&Line> =
            c.lines.iter().filter(|l| l.pair == v.pair && (!filtered || view.shows(l))).collect();
        lines.sort_by_key(|l| !l.judged);
        (v, lines)
    };
    c.verdicts.iter().map(of_group).collect()
}

fn print_all(c: &Comparison, view: &View) {
    for (group, lines) in all_lines(c, view) {
        outln!("{}", title(group));
        let mut out = table(&COLUMNS);
        for line in lines {
            let [metric, role, stat, a, b, shift, p, text] = cells(line);
            let mut row: Vec<Cell> = [metric, role, stat].into_iter().map(cell).collect();
            row.extend([a, b, shift, p].into_iter().map(right));
            row.push(if line.judged { colored(&text, line.finding) } else { cell(text) });
            out.add_row(row);
        }
        outln!("{}\n", trimmed(&out));
    }
}

/// All dimensions of a group.
pub(super) fn title(group: &VerdictLine) -> String {
    let value = |(d, v): (&String, &String)| format!("{d} {}", words::dimension_value(d, v));
    let pairs = if group.paired { ", boots paired by seed" } else { "" };
    one_line(&format!("{}{pairs}", group.pair.iter().map(value).collect::<Vec<_>>().join(", ")))
}

/// How the numbers were made, and what was left out.
pub(super) fn notes(c: &Comparison, all: bool) -> Vec<String> {
    let mut notes = vec![format!(
        "A {}, B {}; medians over boots, shift by Hodges and Lehmann",
        words::side(c, 0),
        words::side(c, 1)
    )];
    if all {
        let how = if c.exact { "all" } else { "a sample of" };
        notes.push(format!(
            "p by {how} {} relabellings of boots, corrected over all judged lines, and separately over all others (Westfall and Young); boots that failed by an exact test, corrected over groups (Holm)",
            c.nr_relabelings
        ));
    }
    let kinds = [("left out", &c.inadmissible), ("not paired", &c.unpaired), ("note", &c.hidden_differences)];
    for (title, items) in kinds {
        let most = if all { usize::MAX } else { MOST_NOTES };
        notes.extend(items.iter().take(most).map(|i| format!("{title}: {i}")));
        if items.len() > most {
            notes.push(format!("{title}: {} more (--all)", items.len() - most));
        }
    }
    notes.iter().map(|n| plain(n)).collect()
}
