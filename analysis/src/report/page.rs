//! The HTML file.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use super::error::ReportError;
use super::run_facts::{facts, migrations};
use super::sums::Sums;
use super::timeline::Timeline;
use crate::runs::sidecar::Sidecar;

/// Largest size of a report, bytes.
pub const MAX_BYTES: usize = 3_000_000;

/// Most timelines of a report: the first run of each test, topology and scheduler.
const MAX_TIMELINES: usize = 4;

/// Most single slices of all timelines. Half as many are tried if the file becomes too large.
const MAX_SLICES: usize = 200_000;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/page.js");
const TIMELINE_SCRIPT: &str = include_str!("page/timeline.js");
const CHARTS: &str = include_str!("echarts/echarts.min.js");

/// A run of a report.
#[derive(Clone, Debug)]
pub struct ReportRun {
    /// Sidecar of the run.
    pub sidecar: Sidecar,
    /// Folder of its tables.
    pub dir: PathBuf,
}

/// A comparison, as text.
#[derive(Clone, Debug, Serialize)]
pub struct ReportTable {
    /// The verdict in words.
    pub verdict: String,
    /// Names of the columns.
    pub header: Vec<String>,
    /// The cells of each line.
    pub rows: Vec<Vec<String>>,
    /// How the numbers were made.
    pub notes: Vec<String>,
}

/// The report of these runs.
///
/// # Errors
/// The tables of a run cannot be read.
pub fn html(runs: &[ReportRun], comparison: Option<&ReportTable>) -> Result<String, ReportError> {
    let mut sums = Sums::default();
    for run in runs.iter().filter(|r| has_tables(r)) {
        let scheduler = &run.sidecar.identity.scheduler;
        sums.add(&run.dir, scheduler).map_err(|source| tables(&run.dir, source))?;
    }
    let timelines = timelines(runs)?;
    let mut most = MAX_SLICES;
    loop {
        let data = json!({
            "comparison": comparison,
            "runs": runs.iter().map(|r| facts(&r.sidecar)).collect::<Vec<_>>(),
            "latencies": sums.latencies(),
            "causes": sums.causes(),
            "timelines": drawn(&timelines, most)?,
        });
        let page = page(&data)?;
        if page.len() <= MAX_BYTES || most == 0 {
            return Ok(page);
        }
        most /= 2;
    }
}

fn tables(dir: &Path, source: polars::prelude::PolarsError) -> ReportError {
    ReportError::Tables { dir: dir.into(), source }
}

/// Runs that did not end in a window have no tables.
fn has_tables(run: &ReportRun) -> bool {
    run.sidecar.files.iter().any(|f| f.table == "slices")
}

/// The timelines, each with the position of its run and its migrations.
type Timelines = Vec<(usize, Timeline, Vec<(u32, u32, u32)>)>;

fn timelines(runs: &[ReportRun]) -> Result<Timelines, ReportError> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (i, run) in runs.iter().enumerate().filter(|(_, r)| has_tables(r)) {
        let id = &run.sidecar.identity;
        let window = run.sidecar.window_open.zip(run.sidecar.window_close);
        let (Some((open, close)), true) = (window, found.len() < MAX_TIMELINES) else { continue };
        if !seen.insert((id.full_test(), id.topology.to_string(), id.scheduler.clone())) {
            continue;
        }
        let error = |source| tables(&run.dir, source);
        let timeline = Timeline::read(&run.dir, open.ts_ns, close.ts_ns).map_err(error)?;
        found.push((i, timeline, migrations(&run.dir).map_err(error)?));
    }
    Ok(found)
}

fn drawn(timelines: &Timelines, most: usize) -> io::Result<Vec<Value>> {
    let most = most / timelines.len().max(1);
    let drawn = |(run, timeline, migrations): &(usize, Timeline, _)| {
        let mut value = timeline.json(most)?;
        value["run"] = json!(run);
        value["migrations"] = json!(migrations);
        Ok(value)
    };
    timelines.iter().map(drawn).collect()
}

fn page(data: &Value) -> io::Result<String> {
    // No text can end the element that holds the JSON.
    let data = serde_json::to_string(data)?.replace('<', "\\u003c");
    let parts = [
        ("STYLE", STYLE),
        ("CHARTS", CHARTS),
        ("TIMELINE", TIMELINE_SCRIPT),
        ("PAGE", SCRIPT),
        ("DATA", &data),
    ];
    let mut page = String::with_capacity(MAX_BYTES);
    for (i, part) in PAGE.split("{{").enumerate() {
        let rest = match part.split_once("}}").filter(|_| i > 0) {
            Some((name, rest)) => {
                page += parts.iter().find(|(n, _)| *n == name).map_or("", |(_, text)| text);
                rest
            }
            None => part,
        };
        page += rest;
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_guest_ends_no_element() {
        let page = page(&json!({"log": "</script><script>alert(1)</script>"})).unwrap();
        assert!(!page.contains("alert(1)</script>") && page.contains("\\u003c/script>"));
        let names = ["STYLE", "CHARTS", "TIMELINE", "PAGE", "DATA"];
        assert!(names.iter().all(|n| !page.contains(&format!("{{{{{n}}}}}"))));
        assert!(page.len() < MAX_BYTES);
    }

    #[test]
    fn page_asks_no_network() {
        let ours = [PAGE, STYLE, SCRIPT, TIMELINE_SCRIPT].concat();
        assert!(!ours.contains("://") && ours.contains("default-src 'none'"));
    }
}
