//! The table of slices: its writer, its reader, and the columns that neighbouring rows determine.

pub(crate) mod derived;
pub(crate) mod reader;
pub(crate) mod writer;
