//! What a comparison says first: its lines by finding, the worst first, with the groups that agree beside each
//! other.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::metrics::{self, Scale};
use crate::compare::comparison::{Comparison, Line};
use crate::compare::finding::Finding;
use crate::compare::verdicts::VerdictLine;

/// Which lines are shown.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Only lines of this metric, whether judged or not.
    pub metric: Option<String>,
    /// Only lines of this role, whether judged or not.
    pub role: Option<String>,
}

impl View {
    /// Whether a line is shown. Without a metric or role, the judged lines are.
    pub fn shows(&self, line: &Line) -> bool {
        let metric = self.metric.as_ref().is_none_or(|m| *m == line.metric);
        let role = self.role.as_ref().is_none_or(|r| Some(r) == line.role.as_ref());
        metric && role && (line.judged || self.metric.is_some() || self.role.is_some())
    }
}

/// Groups that are shown beside each other.
#[derive(Clone, Debug)]
pub struct Sheet<'a> {
    /// The groups, one a column.
    pub groups: Vec<&'a VerdictLine>,
    /// The lines, the worst first.
    pub rows: Vec<Row<'a>>,
}

/// A statistic of a role with the same finding in one or more groups.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// The finding.
    pub finding: Finding,
    /// The line of each group; `None`: no such line, or another finding.
    pub cells: Vec<Option<&'a Line>>,
    /// Lines of the first group with a line that say the same: they have the same cause.
    pub same: Vec<&'a Line>,
}

impl<'a> Row<'a> {
    /// The line of the first group that has one.
    pub fn first(&self) -> Option<&'a Line> {
        self.cells.iter().copied().flatten().next()
    }

    /// Adds a row that says the same: a latency of wakeups stands for what follows from it.
    fn add(&mut self, mut other: Row<'a>) {
        if self.first().is_some_and(|l| l.metric == "run_delay") {
            std::mem::swap(&mut self.cells, &mut other.cells);
        }
        self.same.extend(other.first());
    }

    fn size(&self) -> f64 {
        self.cells.iter().flatten().map(|l| l.size()).fold(0.0, f64::max)
    }
}

impl Line {
    /// Size of the change, so that lines of different units can be ordered: the absolute logarithm of the
    /// ratio.
    pub fn size(&self) -> f64 {
        let (Some(a), Some(b)) = (self.a_median, self.b_median) else { return 0.0 };
        // What is added keeps changes from and to 0 finite.
        let more = match self.scale {
            Scale::Ratio => 0.0,
            Scale::Points => 0.01,
            Scale::Difference if self.unit == "count" => 1.0,
            Scale::Difference => 1e-3 * a.abs().max(b.abs()),
        };
        match self.scale {
            Scale::Ratio => self.shift.map_or(0.0, |r| r.ln().abs()),
            _ if a == b => 0.0,
            _ => ((b.abs() + more) / (a.abs() + more)).ln().abs(),
        }
    }

    /// Whether a line is undecided.
    pub fn is_open(&self) -> bool {
        matches!(self.finding, Finding::CannotDecide | Finding::OneSided)
    }
}

/// Place of a finding in a report.
fn place(finding: Finding) -> usize {
    use Finding::{CannotDecide, Different, Immaterial, Improvement, OneSided, Regression, Unchanged};
    let order = [Regression, Improvement, Different, CannotDecide, OneSided, Immaterial, Unchanged];
    order.iter().position(|f| *f == finding).unwrap_or(order.len())
}

/// The dimension that distinguishes the columns of a sheet.
const BESIDE: [&str; 2] = ["topology", "test"];

/// The lines of a comparison, by sheets.
pub fn summarize<'a>(c: &'a Comparison, view: &View) -> Vec<Sheet<'a>> {
    let of_group = |pair: &BTreeMap<String, String>| -> Vec<&'a Line> {
        c.lines.iter().filter(|l| l.pair == *pair && view.shows(l)).collect()
    };
    // Groups of one sheet have the same roles and differ in the topology.
    type Key<'a> = (Vec<(&'a str, &'a str)>, BTreeSet<Option<&'a str>>);
    let mut sheets: BTreeMap<Key<'a>, Vec<&'a VerdictLine>> = BTreeMap::new();
    for group in &c.verdicts {
        let others = group.pair.iter().filter(|(d, _)| !BESIDE.contains(&d.as_str()));
        let others = others.map(|(d, v)| (d.as_str(), v.as_str())).collect();
        let roles = of_group(&group.pair).iter().map(|l| l.role.as_deref()).collect();
        sheets.entry((others, roles)).or_default().push(group);
    }
    let beside = sheets.into_values().flat_map(one_test_a_topology);
    let mut sheets: Vec<Sheet<'a>> = beside
        .map(|groups| {
            let lines: Vec<Vec<&Line>> = groups.iter().map(|g| of_group(&g.pair)).collect();
            Sheet { rows: rows(&lines), groups }
        })
        .collect();
    sheets.sort_by_key(|s| s.rows.first().map_or(usize::MAX, |r| place(r.finding)));
    sheets
}

fn name(line: &Line) -> (Option<&str>, &str, &str) {
    (line.role.as_deref(), line.metric.as_str(), line.stat.as_str())
}

/// Groups that differ in the topology stay together; where a topology has several tests, by test.
fn one_test_a_topology(groups: Vec<&VerdictLine>) -> Vec<Vec<&VerdictLine>> {
    let of = |g: &VerdictLine, d: &str| g.pair.get(d).cloned().unwrap_or_default();
    let mut topologies: Vec<String> = groups.iter().map(|g| of(g, "topology")).collect();
    topologies.sort_unstable();
    topologies.dedup();
    if topologies.len() == groups.len() {
        return vec![groups];
    }
    let mut by_test: BTreeMap<String, Vec<&VerdictLine>> = BTreeMap::new();
    groups.into_iter().for_each(|g| by_test.entry(of(g, "test")).or_default().push(g));
    by_test.into_values().collect()
}

/// The rows of groups with these lines.
fn rows<'a>(groups: &[Vec<&'a Line>]) -> Vec<Row<'a>> {
    let mut rows: BTreeMap<_, Row<'a>> = BTreeMap::new();
    for (i, line) in groups.iter().enumerate().flat_map(|(i, lines)| lines.iter().map(move |l| (i, *l))) {
        let row = rows.entry((name(line), place(line.finding))).or_insert_with(|| Row {
            finding: line.finding,
            cells: vec![None; groups.len()],
            same: Vec::new(),
        });
        row.cells[i] = Some(line);
    }
    let mut rows: Vec<Row<'a>> = rows.into_values().collect();
    rows.sort_by(|a, b| place(a.finding).cmp(&place(b.finding)).then(b.size().total_cmp(&a.size())));
    grouped_under_their_cause(rows)
}

/// Puts lines under a line that says the same: the run delay of a role under its wakeup latency, and a
/// statistic of the run under that of a role, where the findings are the same in the same groups.
fn grouped_under_their_cause(rows: Vec<Row<'_>>) -> Vec<Row<'_>> {
    let mut out: Vec<Row<'_>> = Vec::new();
    for row in rows {
        let same = |o: &&mut Row<'_>| {
            let beside = o.cells.iter().zip(&row.cells).all(|(a, b)| a.is_some() == b.is_some());
            let one_cause = o.first().zip(row.first()).is_some_and(|(a, b)| same_cause(a, b));
            beside && one_cause && o.finding == row.finding && is_change(row.finding)
        };
        match out.iter_mut().find(same) {
            Some(cause) => cause.add(row),
            None => out.push(row),
        }
    }
    out
}

fn is_change(f: Finding) -> bool {
    matches!(f, Finding::Regression | Finding::Improvement)
}

fn same_cause(a: &Line, b: &Line) -> bool {
    let waits = |m: &str| ["wakeup_latency", "run_delay"].contains(&m);
    let delay = a.role == b.role && a.metric != b.metric && waits(&a.metric) && waits(&b.metric);
    let run = (a.role.is_none() != b.role.is_none()) && a.metric == b.metric && a.stat == b.stat;
    let alike =
        |x: Option<f64>, y: Option<f64>| x.zip(y).is_some_and(|(x, y)| (x - y).abs() <= 0.1 * x.abs());
    delay || run && alike(a.a_median, b.a_median) && alike(a.b_median, b.b_median)
}

/// The name of a statistic in reports.
pub fn short_name(line: &Line) -> String {
    let known = match line.metric.as_str() {
        "worker_throughput" => "throughput",
        "wakeup_latency" => "wakeup",
        "run_delay" => "run delay",
        "fairness_jain" => "fairness",
        other => other,
    };
    let is_only = line.stat == "value" || metrics::metric(&line.metric).is_none();
    let is_primary_mean = line.metric == "run_delay" && line.stat == "mean";
    if is_only || is_primary_mean { known.into() } else { format!("{known} {}", line.stat) }
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
