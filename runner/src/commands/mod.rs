//! The commands of `cargo ktstr`, a file each.

pub(crate) mod capsule;
pub(crate) mod cli;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod emulator;
pub(crate) mod explain;
pub(crate) mod explore;
pub(crate) mod internal_run;
pub(crate) mod kernel;
pub(crate) mod new;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod run_argument;
pub(crate) mod shell;
pub(crate) mod show;
pub(crate) mod stats;
pub(crate) mod test;
pub(crate) mod trace;
