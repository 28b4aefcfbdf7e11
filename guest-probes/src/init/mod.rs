//! What PID 1 sets up: mounts, modules, cgroups, the clock, the observed topology, the shell.

pub(crate) mod races;
pub(crate) mod shell;
pub(crate) mod system;
pub(crate) mod topology;
