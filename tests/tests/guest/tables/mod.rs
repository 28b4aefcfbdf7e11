//! Tables of a run, for the suites that look into them.

use std::path::Path;

use polars::prelude::*;

/// A table of the run with this folder.
pub fn scan(dir: &Path, name: &str) -> LazyFrame {
    let path = dir.join(format!("{name}.parquet"));
    let args = ScanArgsParquet { glob: false, ..Default::default() };
    LazyFrame::scan_parquet(PlRefPath::new(path.to_str().unwrap()), args).unwrap()
}
