//! The table of slices: its writer and its reader.

pub(crate) mod reader;
pub(crate) mod writer;
