//! Reads columns of a table as vectors, by polars.

use std::path::Path;

use polars::prelude::*;

/// Reads the named columns of a table.
pub(crate) fn scan(dir: &Path, table: &str, names: &[&str]) -> PolarsResult<DataFrame> {
    let path = dir.join(format!("{table}.parquet"));
    let path = path.to_str().ok_or_else(|| polars_err!(ComputeError: "the path is not UTF-8"))?;
    let columns: Vec<Expr> = names.iter().map(|n| col(*n)).collect();
    // The path is a file name, not a pattern.
    let mut args = ScanArgsParquet { glob: false, ..Default::default() };
    args.hive_options.enabled = Some(false);
    LazyFrame::scan_parquet(PlRefPath::new(path), args)?.select(columns).collect()
}

pub(crate) fn i64s(df: &DataFrame, name: &str) -> PolarsResult<Vec<Option<i64>>> {
    Ok(df.column(name)?.i64()?.iter().collect())
}

pub(crate) fn u32s(df: &DataFrame, name: &str) -> PolarsResult<Vec<Option<u32>>> {
    Ok(df.column(name)?.u32()?.iter().collect())
}

pub(crate) fn strs(df: &DataFrame, name: &str) -> PolarsResult<Vec<Option<String>>> {
    Ok(df.column(name)?.str()?.iter().map(|v| v.map(str::to_string)).collect())
}
