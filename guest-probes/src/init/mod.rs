//! What PID 1 sets up: mounts, modules, cgroups, the clock, the observed topology, the shell.

pub mod races;
pub mod shell;
pub mod system;
pub mod topology;
