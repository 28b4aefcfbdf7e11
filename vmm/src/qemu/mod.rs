//! QEMU: its process, its arguments, and what makes its time deterministic.

pub mod arguments;
pub(crate) mod process;
pub(crate) mod slots;
