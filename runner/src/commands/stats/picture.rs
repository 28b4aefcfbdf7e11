//! A comparison for a report.

use ktstr_analysis::Sidecar;
use ktstr_analysis::compare::{Policy, Sides, View, compare, summarize};
use ktstr_analysis::report::ReportTable;
use ktstr_analysis::runs::index::RunEntry;

use crate::commands::stats::comparison::notes;
use crate::commands::stats::error::StatsError;
use crate::commands::stats::side_args::{SideArgs, newest_only};
use crate::commands::stats::{markdown, words};

/// Compares the sides of `args`; gives the comparison and its runs, first those of side A.
pub(crate) fn compared(
    runs: &[RunEntry],
    args: &SideArgs,
) -> Result<(ReportTable, Vec<RunEntry>), StatsError> {
    let (mut a, mut b) = args.filters();
    newest_only(runs, "", &mut a, &mut b);
    let sidecars: Vec<&Sidecar> = runs.iter().map(|r| &r.sidecar).collect();
    let sides = Sides::by_filters(&sidecars, &a, &b)?;
    let c = compare(&sides, &Policy::default());
    let table = ReportTable {
        verdict: words::verdict(&c),
        header: markdown::JUDGED.map(str::to_string).to_vec(),
        rows: summarize(&c, &View::default()).iter().flat_map(|s| markdown::judged(&c, s)).collect(),
        notes: notes(&c, false),
    };
    let entry = |s: &Sidecar| runs.iter().find(|r| std::ptr::eq(&r.sidecar, s)).cloned();
    Ok((table, sides.runs().filter_map(entry).collect()))
}
