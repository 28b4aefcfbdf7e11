//! Parquet in and out.

pub mod frames;
pub(crate) mod guest_tables;
pub mod metrics_table;
pub(crate) mod pages;
pub(crate) mod reader;
pub mod slices;
pub mod writer;
