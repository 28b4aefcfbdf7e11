//! Tables for people. Units are converted here and nowhere else.

use std::io::{self, IsTerminal};

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, Table};
use ktstr_analysis::compare::{Comparison, Finding, Line};
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
    for f in found {
        let id = &f.sidecar.identity;
        let mut cells = vec![
            Cell::new(&id.run_id),
            Cell::new(&id.test),
            Cell::new(id.topology),
            Cell::new(&id.scheduler),
            right(id.repeat),
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

fn finding_cell(line: &Line) -> Cell {
    match line.finding {
        Finding::Regression => Cell::new("REGRESSION").fg(Color::Red),
        Finding::Improvement => Cell::new("improvement").fg(Color::Green),
        Finding::Different => Cell::new("different"),
        Finding::Unchanged => Cell::new("unchanged"),
        Finding::CannotDecide => {
            let needed = line.boots_needed.map_or(String::new(), |n| format!(" (try {n} boots a side)"));
            Cell::new(format!("cannot decide{needed}")).fg(Color::Yellow)
        }
    }
}

/// The sides beside each other.
pub fn comparison(c: &Comparison) {
    let mut last = None;
    let mut out = Table::new();
    for line in &c.lines {
        if last != Some(&line.pair) {
            if last.is_some() {
                println!("{out}\n");
            }
            let title: Vec<String> = line.pair.iter().map(|(d, v)| format!("{d} {v}")).collect();
            println!("{}  ({} boots against {})", title.join(", "), line.a.len(), line.b.len());
            out = table(&["metric", "role", "stat", "A", "B", "shift", "p", "finding"]);
            last = Some(&line.pair);
        }
        let relative = line.shift.zip(line.a_median.filter(|m| *m != 0.0)).map(|(s, m)| 100.0 * s / m);
        out.add_row(vec![
            Cell::new(&line.metric),
            Cell::new(line.role.as_deref().unwrap_or("(run)")),
            Cell::new(&line.stat),
            right(value(line.a_median, &line.unit)),
            right(value(line.b_median, &line.unit)),
            right(relative.map_or("-".into(), |r| format!("{r:+.1} %"))),
            right(format!("{:.3}", line.p_corrected)),
            finding_cell(line),
        ]);
    }
    if last.is_some() {
        println!("{out}\n");
    }
    println!(
        "medians over boots; shift by Hodges and Lehmann; exact Mann-Whitney p, corrected by Benjamini and Hochberg"
    );
    for (title, items) in [
        ("left out", &c.inadmissible),
        ("not paired", &c.unpaired),
        ("differs besides", &c.hidden_differences),
    ] {
        items.iter().for_each(|i| println!("{title}: {i}"));
    }
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
