//! The tables of a run as plain rows, with what `docs/slices.md` derives of the slices.

use std::collections::BTreeMap;
use std::path::Path;

use polars::prelude::*;
use serde_json::Value;

/// One row of a table, by column.
#[derive(Clone, Debug)]
pub(crate) struct Row(BTreeMap<String, AnyValue<'static>>);

impl Row {
    /// A number, or null.
    pub(crate) fn int(&self, column: &str) -> Option<i64> {
        match &self.0[column] {
            AnyValue::Null => None,
            value => Some(value.try_extract().expect("a number")),
        }
    }

    /// A number that is never null.
    pub(crate) fn number(&self, column: &str) -> i64 {
        self.int(column).unwrap_or_else(|| panic!("{column} is null"))
    }

    /// A floating point number, or null.
    pub(crate) fn float(&self, column: &str) -> Option<f64> {
        match &self.0[column] {
            AnyValue::Null => None,
            value => Some(value.try_extract().expect("a number")),
        }
    }

    /// A text, or null.
    pub(crate) fn text(&self, column: &str) -> Option<String> {
        match &self.0[column] {
            AnyValue::Null => None,
            value => Some(value.get_str().expect("a text").to_string()),
        }
    }

    /// Whether something is so.
    pub(crate) fn truth(&self, column: &str) -> bool {
        self.0[column] == AnyValue::Boolean(true)
    }

    fn set(&mut self, column: &str, value: Option<i64>) {
        self.0.insert(column.into(), value.map_or(AnyValue::Null, AnyValue::Int64));
    }
}

/// The rows of `TABLE.parquet` in `dir`.
pub(crate) fn rows(dir: &Path, table: &str) -> Vec<Row> {
    let path = dir.join(format!("{table}.parquet"));
    let path = PlRefPath::new(path.to_str().expect("a path in UTF-8"));
    let df = LazyFrame::scan_parquet(path, ScanArgsParquet::default()).and_then(LazyFrame::collect);
    let df = df.expect("a table that can be read");
    let row = |i: usize| {
        let cell = |c: &Column| (c.name().to_string(), c.get(i).expect("a cell").into_static());
        Row(df.columns().iter().map(cell).collect())
    };
    (0..df.height()).map(row).collect()
}

/// The slices with `end_ns`, `wait_ns` and `blocked_ns`.
fn slices(dir: &Path) -> Vec<Row> {
    let mut all = rows(dir, "slices");
    let starts: Vec<i64> = all.iter().map(|s| s.number("ts_ns")).collect();
    for (i, s) in all.iter_mut().enumerate() {
        let end = s.int("own_end_ns").unwrap_or_else(|| starts[i + 1]);
        s.set("end_ns", Some(end));
    }
    all.sort_by_key(|s| s.number("ts_ns"));
    let mut ends: BTreeMap<i64, i64> = BTreeMap::new();
    for s in &mut all {
        let (tid, ts) = (s.number("tid"), s.number("ts_ns"));
        let off = ends.insert(tid, s.number("end_ns")).map(|end| ts - end);
        let kind = s.text("wait_kind").expect("a kind");
        let is_kept = ["preempt", "yield"].contains(&kind.as_str());
        let seen = |ns: Option<i64>| ns.filter(|ns| *ns != -1);
        let wait = s.int("own_wait_ns").or(off.filter(|_| is_kept));
        let slept = off.and_then(|off| Some(off - s.int("own_wait_ns")?));
        let blocked = s.int("own_blocked_ns").or(slept).filter(|_| kind == "wakeup");
        s.set("wait_ns", seen(wait));
        s.set("blocked_ns", seen(blocked));
    }
    all
}

/// The tables of a run.
pub(crate) struct Tables {
    /// The edges of the window, nanoseconds.
    pub window: (i64, i64),
    /// In order of time, with what is derived.
    pub slices: Vec<Row>,
    /// The table of this name, as the next ones.
    pub migrations: Vec<Row>,
    pub tasks: Vec<Row>,
    pub cpus: Vec<Row>,
    pub phases: Vec<Row>,
    pub programs: Vec<Row>,
    pub cgroups: Vec<Row>,
    /// Its sidecar, or what has the same fields.
    pub sidecar: Value,
}

impl Tables {
    /// Reads the tables in `dir`.
    pub(crate) fn load(dir: &Path, sidecar: Value) -> Tables {
        let edge = |name: &str| sidecar[name]["ts_ns"].as_i64().expect("a window");
        Tables {
            window: (edge("window_open"), edge("window_close")),
            slices: slices(dir),
            migrations: rows(dir, "migrations"),
            tasks: rows(dir, "tasks"),
            cpus: rows(dir, "cpus"),
            phases: rows(dir, "phases"),
            programs: rows(dir, "programs"),
            cgroups: rows(dir, "cgroups"),
            sidecar,
        }
    }
}
