//! The host: its CPUs, clock and memory, what guests have reserved, child processes.

pub mod child;
pub(crate) mod clock;
pub(crate) mod cpus;
pub(crate) mod life_signs;
pub(crate) mod memory;
pub(crate) mod reservation;
pub(crate) mod vcpu_threads;
