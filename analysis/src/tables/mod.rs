//! Reading and writing of Parquet tables.

pub(crate) mod blocks;
pub(crate) mod frames;
pub(crate) mod guest_tables;
pub(crate) mod metrics_table;
pub(crate) mod pages;
pub(crate) mod reader;
pub(crate) mod slices;
pub(crate) mod waits;
pub(crate) mod waits_reader;
pub(crate) mod writer;
