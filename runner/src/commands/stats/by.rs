//! `stats compare --by DIMENSION`: more than two sides, each compared with the baseline.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::{Cell, CellAlignment};
use ktstr_analysis::Sidecar;
use ktstr_analysis::compare::{Comparison, Finding, Line, Policy, Sides, View, compare};
use ktstr_analysis::runs::index::{self, Filters, dimension};

use super::comparison::{WIDTH, label, name, notes, trimmed};
use super::print::{right, table, value};
use super::words;
use crate::commands::stats::error::StatsError;
use crate::output::{one_line, outln};

/// Lines that are shown without `--all`.
const MOST_LINES: usize = 20;

/// The lines of a statistic, by comparison.
type Beside<'a> = Vec<Option<&'a Line>>;

/// The comparisons of all values of a dimension with its baseline.
pub(super) struct By {
    /// The value with which the others are compared.
    pub(super) baseline: String,
    /// The other values with their comparisons. Each is judged by itself.
    pub(super) others: Vec<(String, Comparison)>,
}

impl By {
    /// Compares the values of `name` among the runs that match `filters`. The baseline is the kernel's own
    /// scheduler, or the value of the oldest run, unless it is named.
    pub(super) fn new(
        runs: &[&Sidecar],
        name: &'static str,
        filters: &Filters,
        baseline: Option<&str>,
        policy: &Policy,
    ) -> Result<By, StatsError> {
        let matching: Vec<&Sidecar> = runs.iter().copied().filter(|r| index::matches(r, filters)).collect();
        let values: BTreeSet<String> = matching.iter().map(|r| dimension(r, name)).collect();
        let known = || values.iter().cloned().collect::<Vec<_>>();
        let baseline = match baseline {
            Some(wanted) if !values.contains(wanted) => {
                return Err(StatsError::NoSuchBaseline {
                    dimension: name,
                    wanted: wanted.into(),
                    known: known(),
                });
            }
            Some(wanted) => wanted.to_string(),
            None if values.contains("eevdf") => "eevdf".into(),
            None => matching.first().map(|r| dimension(r, name)).unwrap_or_default(),
        };
        if values.len() < 2 {
            return Err(StatsError::OneValue { dimension: name, known: known() });
        }
        let against = |other: &String| {
            let with = |value: &String| {
                let mut side = filters.clone();
                side.insert(name, value.clone());
                side
            };
            let sides = Sides::by_filters(runs, &with(&baseline), &with(other))?;
            Ok((other.clone(), compare(&sides, policy)))
        };
        let others =
            values.iter().filter(|v| **v != baseline).map(against).collect::<Result<_, StatsError>>()?;
        Ok(By { baseline, others })
    }

    /// The comparisons.
    pub(super) fn comparisons(&self) -> Vec<&Comparison> {
        self.others.iter().map(|(_, c)| c).collect()
    }

    /// Exit status: the worst of the comparisons.
    pub(super) fn exit_status(&self) -> u8 {
        let all = || self.others.iter().map(|(_, c)| c.exit_status());
        if all().any(|s| s == 1) { 1 } else { all().max().unwrap_or(0) }
    }

    /// Prints the verdict of each side, then a table with a column for each.
    pub(super) fn print(&self, view: &View, all: bool) {
        for (_, c) in &self.others {
            outln!("{}", words::wrapped(&words::verdict(c), WIDTH));
        }
        let mut left = if all { usize::MAX } else { MOST_LINES };
        for (pair, title) in self.groups() {
            let rows = self.rows(&pair, view, all);
            let shown = &rows[..rows.len().min(left)];
            left -= shown.len();
            outln!("\n{}", one_line(&title));
            if !shown.is_empty() {
                outln!("{}", self.table(shown));
            }
            if shown.len() < rows.len() {
                outln!("{} more lines: --all", rows.len() - shown.len());
            }
        }
        outln!("\n* baseline: {}; each column is judged by itself", one_line(&self.baseline));
        if all {
            self.comparisons().iter().flat_map(|c| notes(c, true)).for_each(|n| outln!("{n}"));
        }
    }

    /// Groups of boots that any comparison has, with their titles.
    fn groups(&self) -> BTreeMap<BTreeMap<String, String>, String> {
        let of = |c: &Comparison| {
            c.verdicts.iter().map(|v| (v.pair.clone(), label(v, &c.verdicts))).collect::<Vec<_>>()
        };
        self.others.iter().flat_map(|(_, c)| of(c)).collect()
    }

    /// The lines of a group, by comparison: those with the greatest changes first.
    fn rows(&self, pair: &BTreeMap<String, String>, view: &View, all: bool) -> Vec<Beside<'_>> {
        let mut rows: BTreeMap<_, Beside<'_>> = BTreeMap::new();
        for (i, (_, c)) in self.others.iter().enumerate() {
            for line in c.lines.iter().filter(|l| l.pair == *pair && (all || view.shows(l))) {
                let key = (&line.role, line.metric.as_str(), line.stat.as_str());
                rows.entry(key).or_insert_with(|| vec![None; self.others.len()])[i] = Some(line);
            }
        }
        let size = |row: &Beside<'_>| {
            let of = |l: &&Line| (l.finding == Finding::Regression, l.size());
            row.iter().flatten().map(of).fold((false, 0.0), |a: (bool, f64), b| (a.0 || b.0, a.1.max(b.1)))
        };
        let mut rows: Vec<_> = rows.into_values().collect();
        rows.sort_by(|a, b| {
            let (a, b) = (size(a), size(b));
            b.0.cmp(&a.0).then(b.1.total_cmp(&a.1))
        });
        rows
    }

    fn table(&self, rows: &[Beside<'_>]) -> String {
        let mut out = table(&[]);
        let heads =
            self.others.iter().flat_map(|(name, _)| [one_line(name), "shift [95 %]".into(), String::new()]);
        let head = [String::new(), format!("{}*", one_line(&self.baseline))].into_iter().chain(heads);
        out.set_header(head.map(|h| Cell::new(h).set_alignment(CellAlignment::Right)));
        for row in rows {
            let Some(first) = row.iter().flatten().next() else { continue };
            let mut cells = vec![Cell::new(name(first)), right(value(first.a_median, &first.unit))];
            for line in row {
                let text = |f: &dyn Fn(&Line) -> String| line.map(f).unwrap_or_default();
                cells.push(right(text(&|l| value(l.b_median, &l.unit))));
                cells.push(right(text(&words::shift_with_interval)));
                cells.push(Cell::new(text(&|l| word(l.finding).into())));
            }
            out.add_row(cells);
        }
        out.column_iter_mut().for_each(|c| {
            c.set_padding((0, 2));
        });
        trimmed(&out)
    }
}

fn word(finding: Finding) -> &'static str {
    match finding {
        Finding::Regression => "worse",
        Finding::Improvement => "better",
        Finding::Different => "different",
        Finding::CannotDecide => "undecided",
        Finding::OneSided => "one side only",
        Finding::Immaterial | Finding::Unchanged => "unchanged",
    }
}
