//! Quality of a run's data: completeness, and agreement with the kernel's counters.

use ktstr_wire::host::GuestPages;
use ktstr_wire::message::{Drained, ProbeRun, Race, SchedExtCounts};
use ktstr_wire::slots::Slots;
use serde::{Deserialize, Serialize};

/// Quality of a run's data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Records of each CPU.
    pub cpus: Vec<CpuQuality>,
    /// How often the kernel skipped a probe because it interrupted itself; `None`: the run ended before that
    /// was known.
    pub recursion_misses: Option<u64>,
    /// Events of tasks for which the probes had no room; `None`: the run ended before that was known.
    #[serde(default)]
    pub events_untracked: Option<u64>,
    /// Tasks that ended in the window and are missing from the table `tasks`; `None`: the run ended before
    /// that was known.
    #[serde(default)]
    pub tasks_dropped: Option<u64>,
    /// Counters of sched_ext over the window.
    #[serde(default)]
    pub sched_ext: SchedExtCounts,
    /// CPU time of the agent in the window, nanoseconds.
    pub agent_cpu_ns: Option<u64>,
    /// The guest kernel's clock (`tsc`, `kvm-clock`); `None`: the run ended before that was known.
    #[serde(default)]
    pub clocksource: Option<String>,
    /// Context switches in the window by the probes, including those to and from idle.
    pub switches_seen: u64,
    /// Minimum and maximum of context switches in the window by `/proc/stat`; `None`: the run ended before
    /// that was known.
    #[serde(default)]
    pub switches_by_kernel_range: Option<[u64; 2]>,
    /// Where the probes and the kernel's counters differ, a sentence each
    /// (`analysis/src/ingest/cross_check.rs`).
    pub disagreements: Vec<String>,
    /// The probes' programs, and whether they ran; empty: there were no probes, or the run ended before that
    /// was known.
    #[serde(default)]
    pub probes: Vec<ProbeRun>,
    /// Longest delay of a timer tick that was due in the window, on any CPU, nanoseconds: how long a CPU did
    /// not run, or ran with interrupts off; `None`: no tick was measured.
    #[serde(default)]
    pub tick_late_max_ns: Option<u64>,
    /// CPUs that were busy for at least half of the window, and for 40 ms, without a measured tick.
    #[serde(default)]
    pub cpus_without_ticks: Vec<u32>,
    /// Progress of CPUs of a guest in `sim` that were busy at the same time, before the window.
    #[serde(default)]
    pub races: Vec<Race>,
    /// CPU time of each CPU of a guest in `sim` by the emulator; `None`: another accelerator, or not known.
    #[serde(default)]
    pub slots: Option<Slots>,
    /// Longest time that the thread of a CPU waited for a CPU of the host during the window, nanoseconds. The
    /// window lasts here from the host's receipt of its opening to that of its closing. `None`: not known, or
    /// one thread runs all CPUs.
    #[serde(default)]
    pub host_run_delay_max_ns: Option<u64>,
    /// How long the guest's process was stopped during the window, nanoseconds; `None`: not measured.
    #[serde(default)]
    pub host_stopped_ns: Option<u64>,
    /// Why slices have no host steal; `None`: they have it, or there is none (`sim`), or it cannot be
    /// measured (`tcg`).
    #[serde(default)]
    pub unwatched: Option<String>,
    /// Host pages that back the guest's memory; `None`: not known, as for QEMU.
    #[serde(default)]
    pub pages: Option<GuestPages>,
    /// Records that were read before the probes' logs were full, with reader and cost; `None`: the logs held
    /// the window.
    #[serde(default)]
    pub drained: Option<Drained>,
}

impl Quality {
    /// Whether every slice and migration has a record, and all records arrived.
    pub fn has_all_events(&self) -> bool {
        let emitted: u64 = self.cpus.iter().map(|c| c.emitted).sum();
        // At the level `summary` probes emit no records.
        (emitted > 0 || self.switches_seen == 0)
            && self.cpus.iter().all(|c| c.dropped == 0 && c.emitted == c.received)
    }
}

/// Records of a CPU: emitted = received + dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuQuality {
    /// Number of the CPU.
    pub cpu: u32,
    /// Records that the probes tried to write.
    pub emitted: u64,
    /// Records that arrived.
    pub received: u64,
    /// Records for which there was no room.
    pub dropped: u64,
    /// Times of the first and the last dropped record, nanoseconds since boot. No record between them was
    /// kept, unless the log was read in that time.
    #[serde(default)]
    pub dropped_span_ns: Option<(u64, u64)>,
    /// This span as a fraction of the window.
    #[serde(default)]
    pub dropped_window_frac: Option<f64>,
    /// The longest run of dropped records.
    #[serde(default)]
    pub dropped_in_a_row: u64,
}
