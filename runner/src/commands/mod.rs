//! The commands of `cargo ktstr`, a file each.

pub mod cli;
pub mod completions;
pub mod doctor;
pub mod emulator;
pub mod explore;
pub mod internal_run;
pub mod kernel;
pub mod new;
pub mod replay;
pub mod shell;
pub mod show;
pub mod stats;
pub mod test;
