//! The host: its CPUs, clock and memory, reservations of guests, child processes.

pub(crate) mod child;
pub(crate) mod clock;
pub(crate) mod cpus;
pub(crate) mod life_signs;
pub(crate) mod memory;
pub(crate) mod reservation;
pub(crate) mod vcpu_threads;
