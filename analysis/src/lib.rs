//! Columns, Parquet, metrics, comparison, reports.
