//! Tables for people. Units are converted here and nowhere else, and text that came from a guest or a file loses what would
//! command a terminal.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, Table};
use ktstr_analysis::runs::index::RunEntry;
use ktstr_analysis::{MetricRow, Verdict};

use crate::output::{one_line, outln, plain};

/// A value in its unit, with three significant digits.
pub(super) fn value(v: Option<f64>, unit: &str) -> String {
    let Some(v) = v else { return "-".into() };
    let scaled = |v: f64, unit: &str| {
        let digits = if v.abs() >= 100.0 {
            0
        } else if v.abs() >= 10.0 {
            1
        } else {
            2
        };
        format!("{}{unit}", unsigned_zero(format!("{v:.digits$}")))
    };
    match unit {
        "ns" if v.abs() >= 1e9 => scaled(v / 1e9, " s"),
        "ns" if v.abs() >= 1e6 => scaled(v / 1e6, " ms"),
        "ns" if v.abs() >= 1e3 => scaled(v / 1e3, " us"),
        "ns" => scaled(v, " ns"),
        "frac" => unsigned_zero(format!("{v:.3}")),
        _ => unsigned_zero(format!("{v:.0}")),
    }
}

/// A number whose digits are all 0 has no sign.
pub(super) fn unsigned_zero(number: String) -> String {
    match number.strip_prefix(['-', '+']) {
        Some(digits) if !digits.contains(|c| ('1'..='9').contains(&c)) => digits.into(),
        _ => number,
    }
}

/// A table without lines.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(header.iter().map(|h| Cell::new(h).add_attribute(Attribute::Bold)));
    if !io::stdout().is_terminal() {
        table.force_no_tty();
    }
    table
}

/// A cell with text from a guest or a file.
pub(super) fn cell(text: impl ToString) -> Cell {
    Cell::new(one_line(&text.to_string()))
}

/// The same, with what it holds at its right end.
pub(super) fn right(text: impl ToString) -> Cell {
    cell(text).set_alignment(CellAlignment::Right)
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
pub(super) fn runs(found: &[&RunEntry], json: bool) {
    if json {
        let rows: Vec<_> =
            found.iter().map(|f| serde_json::json!({"path": f.path, "sidecar": f.sidecar})).collect();
        outln!("{}", serde_json::Value::from(rows));
        return;
    }
    let mut header = vec!["run", "test", "topology", "scheduler", "boot", "verdict"];
    header.extend(KEY_METRICS.iter().map(|(title, ..)| *title));
    let mut out = table(&header);
    let packages: BTreeSet<&str> = found.iter().map(|f| f.sidecar.identity.package.as_str()).collect();
    for f in found {
        let id = &f.sidecar.identity;
        let mut cells = vec![
            cell(&id.run_id),
            cell(if packages.len() > 1 { id.full_test() } else { id.test.clone() }),
            cell(id.topology),
            cell(&id.scheduler),
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
    outln!("{out}");
    for f in found.iter().filter(|f| f.sidecar.verdict != Verdict::Pass) {
        outln!("{}: {}", plain(&f.sidecar.identity.variant), plain(&f.sidecar.reasons.join("; ")));
    }
    let dirs: BTreeSet<_> = found.iter().filter_map(|f| f.path.parent()).collect();
    dirs.iter().for_each(|d| outln!("files: {}", plain(&d.display().to_string())));
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
        assert_eq!(value(Some(-1234.0), "ns"), "-1.23 us");
    }

    #[test]
    fn zero_has_no_sign() {
        for unit in ["count", "frac", "ns", "other"] {
            for v in [-0.0, -0.0004, 0.0] {
                assert!(!value(Some(v), unit).contains('-'), "{}", value(Some(v), unit));
            }
        }
        assert_eq!(unsigned_zero("+0.0".into()), "0.0");
        assert_eq!(unsigned_zero("-10".into()), "-10");
    }
}
