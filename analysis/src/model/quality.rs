//! How far the data of a run can be trusted.

use ktstr_wire::host::GuestPages;
use ktstr_wire::message::{Drained, ProbeRun, Race, SchedExtCounts};
use ktstr_wire::slots::Slots;
use serde::{Deserialize, Serialize};

/// Whether the data is complete.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// For each CPU.
    pub cpus: Vec<CpuQuality>,
    /// Times that a probe was skipped because it interrupted itself; `None`: the run ended before that was known.
    pub recursion_misses: Option<u64>,
    /// Events of tasks that the probes had no room to tell apart; `None`: the run ended before that was known.
    #[serde(default)]
    pub events_untracked: Option<u64>,
    /// Tasks that ended in the window and are not in the tasks table; `None`: the run ended before that was known.
    #[serde(default)]
    pub tasks_dropped: Option<u64>,
    /// What sched_ext counted in the window.
    #[serde(default)]
    pub sched_ext: SchedExtCounts,
    /// CPU time of the agent in the window, nanoseconds.
    pub agent_cpu_ns: Option<u64>,
    /// The guest kernel's clock (`tsc`, `kvm-clock`); `None`: the run ended before that was known.
    #[serde(default)]
    pub clocksource: Option<String>,
    /// Context switches that the probes saw in the window, idle CPUs' included.
    pub switches_seen: u64,
    /// Context switches in the window by `/proc/stat`, at least and at most; `None`: the run ended before that was known.
    #[serde(default)]
    pub switches_by_kernel_range: Option<[u64; 2]>,
    /// Where the probes and the kernel's own accounts differ; see [`crate::ingest::cross_check`].
    pub disagreements: Vec<String>,
    /// The probes' programs, and whether they ran; empty: there were no probes, or the run ended before that was known.
    #[serde(default)]
    pub probes: Vec<ProbeRun>,
    /// How late a tick of the timer that was due in the window came at most, on any CPU, nanoseconds: how long a CPU was kept
    /// from running, or ran with interrupts off; `None`: no tick was measured.
    #[serde(default)]
    pub tick_late_max_ns: Option<u64>,
    /// CPUs that were busy for at least half of the window, and for 40 ms, of which no tick was measured.
    #[serde(default)]
    pub cpus_without_ticks: Vec<u32>,
    /// How far the CPUs of a guest in `sim` came that were busy at the same time, before the window.
    #[serde(default)]
    pub races: Vec<Race>,
    /// What the emulator says that each CPU of a guest in `sim` got; `None`: another accelerator, or not known.
    #[serde(default)]
    pub slots: Option<Slots>,
    /// How long the host kept a CPU's thread waiting during the window, at most over the CPUs, nanoseconds. The window is here as
    /// long as the host heard of it, on a busy host longer than it was. `None`: not known, or one thread runs all CPUs.
    #[serde(default)]
    pub host_run_delay_max_ns: Option<u64>,
    /// How long the host let nothing of the guest run during the window, as a stopped process, nanoseconds; `None`: nobody looked.
    #[serde(default)]
    pub host_stopped_ns: Option<u64>,
    /// Why the slices do not say how much of them the host took away; `None`: they do, or it takes nothing (`sim`), or that cannot be
    /// told (`tcg`).
    #[serde(default)]
    pub unwatched: Option<String>,
    /// The host's pages under the guest's memory; `None`: not known, as of QEMU's.
    #[serde(default)]
    pub pages: Option<GuestPages>,
    /// Who read the probes' log before it was full, how much, and what that cost; `None`: the log held the window.
    #[serde(default)]
    pub drained: Option<Drained>,
}

impl Quality {
    /// Every slice and every migration has a record, and all records arrived.
    pub fn has_all_events(&self) -> bool {
        let emitted: u64 = self.cpus.iter().map(|c| c.emitted).sum();
        // At the level `summary` nothing is emitted.
        (emitted > 0 || self.switches_seen == 0)
            && self.cpus.iter().all(|c| c.dropped == 0 && c.emitted == c.received)
    }
}

/// Records of one CPU: emitted = received + dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuQuality {
    /// Its number.
    pub cpu: u32,
    /// Records that the probes wanted to write.
    pub emitted: u64,
    /// Records that arrived.
    pub received: u64,
    /// Records for which there was no room.
    pub dropped: u64,
    /// When the first of these would have been written, and the last, nanoseconds since boot; nothing was kept between them, unless
    /// the log was read meanwhile.
    #[serde(default)]
    pub dropped_span_ns: Option<(u64, u64)>,
    /// This span as a part of the window.
    #[serde(default)]
    pub dropped_window_frac: Option<f64>,
    /// The largest number of dropped records that followed each other.
    #[serde(default)]
    pub dropped_in_a_row: u64,
}
