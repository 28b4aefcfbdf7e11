//! `--probes`.

use clap::ValueEnum;
use ktstr_wire::spec::ProbeLevel;

/// What the probes record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProbesArg {
    /// All of full, and what each of the scheduler's BPF programs costs, which slows every BPF program down.
    Programs,
    /// Every slice and every migration.
    Full,
    /// Counters and histograms of each task.
    Summary,
    /// Nothing.
    Off,
}

impl ProbesArg {
    /// As the wire has it.
    pub fn level(self) -> ProbeLevel {
        match self {
            ProbesArg::Programs => ProbeLevel::Programs,
            ProbesArg::Full => ProbeLevel::Full,
            ProbesArg::Summary => ProbeLevel::Summary,
            ProbesArg::Off => ProbeLevel::Off,
        }
    }
}
