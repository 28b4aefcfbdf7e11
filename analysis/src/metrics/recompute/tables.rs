//! The tables of a run as plain rows, with the end of each slice.

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

/// The slices with `end_ns`, in order of time; `close` is the window's end.
fn slices(dir: &Path, close: i64) -> Vec<Row> {
    let mut all = rows(dir, "slices");
    for s in &mut all {
        let end = s.int("dur_ns").map_or(close, |ns| s.number("ts_ns") + ns);
        s.set("end_ns", Some(end));
    }
    all.sort_by_key(|s| s.number("ts_ns"));
    all
}

/// The tables of a run.
pub(crate) struct Tables {
    /// The edges of the window, nanoseconds.
    pub window: (i64, i64),
    /// In order of time.
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
        let window = (edge("window_open"), edge("window_close"));
        Tables {
            window,
            slices: slices(dir, window.1),
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
