//! QEMU: its process, its arguments, and what makes its time deterministic.

pub mod arguments;
pub(crate) mod icount;
pub(crate) mod poll_gate;
pub(crate) mod process;
