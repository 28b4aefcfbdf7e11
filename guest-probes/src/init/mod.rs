//! What PID 1 sets up: mounts, modules, cgroups, the clock, the observed topology, the shell.

pub mod races;
pub mod shell;
pub mod sim_watchdog;
pub mod system;
pub mod topology;
