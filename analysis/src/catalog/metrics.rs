//! The catalogue of metrics: every metric with its definition.

use ktstr_wire::accel::Accel;
use serde::Serialize;

/// The direction in which a metric improves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Polarity {
    /// Lower values are better.
    Lower,
    /// Higher values are better.
    Higher,
    /// Neither: the metric is reported and never judged.
    Neutral,
}

impl Polarity {
    /// The polarity with this name; [`Polarity::Neutral`] for any other name.
    pub fn named(name: &str) -> Polarity {
        match name {
            "lower" => Polarity::Lower,
            "higher" => Polarity::Higher,
            _ => Polarity::Neutral,
        }
    }

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Polarity::Lower => "lower",
            Polarity::Higher => "higher",
            Polarity::Neutral => "neutral",
        }
    }
}

/// How the values of two sides are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// A positive quantity: B as a multiple of A, on the logarithmic scale.
    Ratio,
    /// A quantity that can be 0: B less A.
    Difference,
    /// A fraction: B less A, in points (hundredths).
    Points,
}

impl Scale {
    /// The scale of values with this unit.
    pub fn of_unit(unit: &str) -> Scale {
        match unit {
            "count" => Scale::Difference,
            "frac" => Scale::Points,
            _ => Scale::Ratio,
        }
    }
}

/// The statistics that decide a comparison by default, in the order in which reports show them. Those of each
/// role count; those of the run count where no role has them.
pub const PRIMARY: [(&str, &str); 6] = [
    ("worker_throughput", "value"),
    ("wakeup_latency", "p50"),
    ("wakeup_latency", "p99"),
    ("run_delay", "mean"),
    ("fairness_jain", "value"),
    ("migrations", "value"),
];

/// Definition of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Metric {
    /// Name, as in the table `metrics`.
    pub name: &'static str,
    /// Unit: ns, count, frac or 1/s.
    pub unit: &'static str,
    /// The direction in which it improves.
    pub polarity: Polarity,
    /// Names of its statistics.
    pub stats: &'static [&'static str],
    /// The statistics that `stats compare` compares.
    pub compared: &'static [&'static str],
    /// A shift by less than this fraction is immaterial: of the median of side A, or of a ratio above or below 1.
    pub material_frac: f64,
    /// Why neither comparisons nor conditions of tests judge it in `sim`; `None`: they do.
    pub not_in_sim: Option<&'static str>,
    /// Definition in a sentence, in terms of events, with its edge cases.
    pub definition: &'static str,
}

/// Statistics of a duration. Percentiles are nearest-rank: the smallest value with at least this share of all
/// values at or below it.
pub const DURATION_STATS: [&str; 7] = ["count", "mean", "p50", "p90", "p99", "p99.9", "max"];

const TAIL: [&str; 2] = ["p50", "p99"];
const VALUE: [&str; 1] = ["value"];

const fn duration(
    name: &'static str,
    polarity: Polarity,
    compared: &'static [&'static str],
    definition: &'static str,
) -> Metric {
    let (stats, material_frac) = (&DURATION_STATS, 0.05);
    Metric { name, unit: "ns", polarity, stats, compared, material_frac, not_in_sim: None, definition }
}

const fn length(name: &'static str, definition: &'static str) -> Metric {
    Metric {
        name,
        unit: "count",
        polarity: Polarity::Neutral,
        stats: &DURATION_STATS,
        compared: &[],
        material_frac: 0.05,
        not_in_sim: None,
        definition,
    }
}

const fn value(
    name: &'static str,
    unit: &'static str,
    polarity: Polarity,
    material_frac: f64,
    definition: &'static str,
) -> Metric {
    let (stats, compared) = (&VALUE, &VALUE);
    Metric { name, unit, polarity, stats, compared, material_frac, not_in_sim: None, definition }
}

/// Waiting time with one cause. Its sum over causes is judged already, as run_delay.
const fn waiting(name: &'static str, definition: &'static str) -> Metric {
    Metric { compared: &[], ..value(name, "ns", Polarity::Neutral, 0.05, definition) }
}

impl Metric {
    /// The same metric, not judged in `sim` for this reason.
    const fn not_in_sim(self, reason: &'static str) -> Metric {
        Metric { not_in_sim: Some(reason), ..self }
    }

    /// Why the metric is not judged under an accelerator; `None`: it is, if it has a better direction.
    pub fn unjudged(&self, accel: Accel) -> Option<&'static str> {
        self.not_in_sim.filter(|_| accel == Accel::Sim)
    }
}

/// All metrics. The scope of the run has the tasks of class workload, the scope of a role has the tasks with
/// that role. Idle, kernel, harness and scheduler tasks are in neither. A slice belongs to the window, or to
/// a phase, if its switch-in lies in it.
pub const METRICS: [Metric; 58] = [
    duration(
        "wakeup_latency",
        Polarity::Lower,
        &TAIL,
        "sched_wakeup to the switch-in that follows, less throttled_wait, for slices whose wait began with a wakeup; a wakeup of a running task has no switch-in and does not count",
    ),
    duration(
        "waking_latency",
        Polarity::Lower,
        &["p99"],
        "sched_waking to sched_wakeup of the same wakeup, 4.3 s at most: the choice of a CPU and the enqueue",
    )
    .not_in_sim("contended cache lines and interrupts between CPUs make up most of it on hardware, and sim has neither"),
    duration(
        "run_delay",
        Polarity::Lower,
        &["mean", "p99"],
        "all the time a task was runnable and not running before a slice: the waits of wakeup_latency and preemption_wait, and the one from a fork (sched_wakeup_new) to the first slice, less throttled_wait; the kernel's own run delay, in /proc/<tid>/schedstat, begins at the enqueue and leaves out the wait after a preemption on the way to sleep, and counts the time that a task is throttled",
    ),
    duration(
        "preemption_wait",
        Polarity::Lower,
        &["p99"],
        "switch-out while runnable (preempted, throttled or yielded) to the next switch-in, less throttled_wait",
    ),
    duration(
        "throttled_wait",
        Polarity::Neutral,
        &[],
        "time within a wait before a slice in which cpu.max throttled the task's cgroup, or one above it, on the task's CPU, in whole units of 1024 ns, for waits that have such a time; what of the wait is left after it counts in the metrics of waits; a bandwidth limit that a sched_ext scheduler keeps by itself is not seen and counts as waiting; in a wait in which the task changed its cgroup, the time in both cgroups counts, and where the kernel does not show such a change (BTF without task_change_group_fair, no ftrace), that wait counts nowhere; percentiles are null at the level summary",
    ),
    duration(
        "slice_length",
        Polarity::Neutral,
        &["p50"],
        "switch-in to switch-out; a slice that the window's end cuts does not count, one that a phase's end cuts counts whole",
    ),
    duration(
        "blocked_time",
        Polarity::Neutral,
        &[],
        "switch-out into sleep to the sched_wakeup that ends it",
    ),
    value(
        "context_switches",
        "count",
        Polarity::Lower,
        0.05,
        "slices of the scope's tasks that ended in the window, or in the phase, however they ended",
    ),
    value(
        "preemptions",
        "count",
        Polarity::Neutral,
        0.05,
        "the same, that ended while the task was runnable and had not called sched_yield, throttled ones among them",
    ),
    value(
        "yields",
        "count",
        Polarity::Neutral,
        0.05,
        "the same, that ended while the task was runnable and had called sched_yield in them",
    ),
    value(
        "wakeups_same_cpu",
        "count",
        Polarity::Neutral,
        0.05,
        "slices whose wait began with a wakeup and that ran on the CPU of the task's slice before",
    ),
    value("wakeups_same_core", "count", Polarity::Neutral, 0.05, "the same, on another thread of that core"),
    value(
        "wakeups_same_llc",
        "count",
        Polarity::Neutral,
        0.05,
        "the same, on another core of that last-level cache",
    ),
    value(
        "wakeups_other_llc",
        "count",
        Polarity::Lower,
        0.05,
        "the same, on another last-level cache of that node",
    ),
    value(
        "wakeups_other_node",
        "count",
        Polarity::Lower,
        0.05,
        "the same, on another node; the five leave out wakeups before which no slice was seen",
    ),
    length(
        "runqueue_length",
        "other tasks on the runqueue that a wakeup chose (nr_running, with the running one and, under EEVDF, those whose dequeue is delayed), at sched_wakeup, for the wakeups of wakeup_latency; under sched_ext a task in a shared DSQ counts on the runqueue that its wakeup chose; percentiles are null at the level summary",
    ),
    value(
        "wakeups_to_idle",
        "count",
        Polarity::Neutral,
        0.05,
        "wakeups of runqueue_length that found no other task there: the CPU was idle, or about to be",
    ),
    value(
        "wakeups_to_idle_frac",
        "frac",
        Polarity::Higher,
        0.05,
        "the same as a part of the wakeups of runqueue_length; null where there is none",
    ),
    value(
        "wakeups_direct",
        "count",
        Polarity::Neutral,
        0.05,
        "wakeups of wakeup_latency after which sched_ext had put the task into a CPU's local DSQ (direct dispatch), at sched_wakeup; null, as the next three, under the kernel's own scheduler",
    ),
    value(
        "wakeups_queued",
        "count",
        Polarity::Neutral,
        0.05,
        "the same, into another DSQ, from which a CPU has to take it",
    ),
    value(
        "wakeups_held",
        "count",
        Polarity::Neutral,
        0.05,
        "the same, into none: the scheduler has the task in a structure of its own",
    ),
    length(
        "dsq_length",
        "other tasks in the DSQ, other than a CPU's local one, into which a task was put, at the sched_wakeup or the switch-out while runnable that follows, for slices whose switch-in lies in the window; a CPU that takes the task at that moment can make it one less; percentiles are null at the level summary",
    ),
    value(
        "waker_pairs",
        "count",
        Polarity::Neutral,
        0.05,
        "distinct pairs of a task that woke and the task of the scope that was woken; wakeups out of the idle task's context, as by timers, have no waker",
    ),
    value(
        "migrations",
        "count",
        Polarity::Lower,
        0.05,
        "sched_migrate_task to another CPU, whatever its context and distance",
    ),
    value(
        "migrations_at_wakeup",
        "count",
        Polarity::Lower,
        0.05,
        "sched_migrate_task of a task in state TASK_WAKING: the wakeup chose another CPU",
    ),
    value(
        "migrations_by_balance",
        "count",
        Polarity::Lower,
        0.05,
        "sched_migrate_task of a runnable task: load balancing, or under sched_ext the dispatch from a shared queue",
    ),
    value("migrations_at_exec", "count", Polarity::Neutral, 0.05, "sched_migrate_task in execve"),
    value(
        "migrations_by_affinity",
        "count",
        Polarity::Neutral,
        0.05,
        "sched_migrate_task away from a CPU that the task may no longer use",
    ),
    value(
        "migrations_same_core",
        "count",
        Polarity::Neutral,
        0.05,
        "migrations between the threads of a core",
    ),
    value(
        "migrations_same_llc",
        "count",
        Polarity::Neutral,
        0.05,
        "migrations between cores of one last-level cache",
    ),
    value(
        "migrations_other_llc",
        "count",
        Polarity::Lower,
        0.05,
        "migrations to another last-level cache of the same node",
    ),
    value("migrations_other_node", "count", Polarity::Lower, 0.05, "migrations to another NUMA node"),
    value(
        "cpu_busy_frac",
        "frac",
        Polarity::Neutral,
        0.02,
        "part of the window in which the CPU ran a task other than idle; in the scopes of the run, a last-level cache and a node over their CPUs",
    ),
    value(
        "llc_busy_spread",
        "frac",
        Polarity::Neutral,
        0.05,
        "busy part of the busiest last-level cache's CPUs less that of the idlest; null where there is one only",
    ),
    value("node_busy_spread", "frac", Polarity::Neutral, 0.05, "the same between NUMA nodes"),
    value(
        "fairness_jain",
        "frac",
        Polarity::Higher,
        0.02,
        "Jain's index of on_cpu_time of the workers of a role, each for itself, (sum x)^2 / (n sum x^2): 1 is equal; a worker that did not run, or in a phase was not there, counts with 0; tasks that inherited the role do not count; null for fewer than two workers, or where none ran",
    ),
    value(
        "fairness_min_max",
        "frac",
        Polarity::Higher,
        0.05,
        "least on_cpu_time of a worker of a role as a part of the greatest; else as fairness_jain",
    ),
    value(
        "on_cpu_time",
        "ns",
        Polarity::Neutral,
        0.05,
        "switch-in to switch-out of the slices of the scope's tasks, clipped to the window or the phase, in sum: by the probes' clock, as everything here, and not by the kernel's sum_exec_runtime (a column of the table tasks), so that phases that cover the window add up to the run, and all tasks to what the CPUs were busy",
    ),
    value(
        "idle_while_waiting",
        "ns",
        Polarity::Lower,
        0.05,
        "CPU time in which a CPU was idle while a task allowed on it waited (the waits of run_delay, of tasks of all classes, and those that were open when the window closed), summed over CPUs; where a task was throttled in a wait, it counts as if that came first; it includes the shortest path of a wakeup to an idle CPU",
    ),
    value(
        "idle_while_waiting_frac",
        "frac",
        Polarity::Lower,
        0.05,
        "the same as a part of CPUs times window",
    ),
    value(
        "censored_waits",
        "count",
        Polarity::Neutral,
        0.05,
        "tasks that waited for a CPU, or were throttled, when the window closed; their waits are in no latency",
    ),
    waiting(
        "wait_cpu_busy",
        "part of run_delay, and of the waits that were open when the window closed, in which the CPU of the task ran other tasks and no CPU on which it may run was idle (docs/waits.md)",
    ),
    waiting(
        "wait_idle_cpu",
        "the same, although such a CPU was idle, or its own CPU was and the scheduler had the task in a shared DSQ or in none",
    ),
    waiting(
        "wait_affinity",
        "the same, in which only CPUs on which it may not run were idle, or it may run on no other CPU",
    ),
    waiting(
        "wait_throttled",
        "throttled_wait in sum, and throttled time of the waits that were open when the window closed",
    ),
    waiting(
        "wait_not_in_charge",
        "part of run_delay and of open waits in which the kernel's own scheduler had queued a task of normal priority, although a sched_ext scheduler had to be in charge",
    ),
    waiting(
        "wait_host_steal",
        "the same, in which the host kept the CPU of the task from running",
    ),
    waiting(
        "wait_wakeup",
        "the same, in which the CPU of the task was idle and the task was the next to run there",
    ),
    waiting(
        "wait_unknown",
        "the same, in which records do not show what the CPU of the task did",
    ),
    value(
        "harness_cpu_time",
        "ns",
        Polarity::Neutral,
        0.05,
        "on_cpu_time of the agent and the test body in the window",
    ),
    value(
        "scheduler_calls",
        "count",
        Polarity::Neutral,
        0.05,
        "calls of the programs in the scheduler's sched_ext_ops in the window; null, as the next two, under the kernel's own scheduler and at probe levels other than programs",
    ),
    value(
        "scheduler_cpu_time",
        "ns",
        Polarity::Lower,
        0.05,
        "run time of these calls by the kernel's statistics of BPF programs, less for each what they say of an empty program in the same guest, at least 0 for each program; with what the kernel does for a program inside of it",
    ),
    value("scheduler_cpu_frac", "frac", Polarity::Lower, 0.05, "the same as a part of CPUs times window"),
    value(
        "rejected_tasks",
        "count",
        Polarity::Lower,
        0.05,
        "tasks that the scheduler refused in the window (growth of sched_ext's nr_rejected); null under the kernel's own scheduler",
    ),
    value(
        "throttled_time",
        "ns",
        Polarity::Lower,
        0.05,
        "time that runqueues of cgroups with tasks of the scope, or of cgroups above these, were throttled by cpu.max, summed over CPUs, as cpu.stat counts it when the throttling ends; null where the cpu controller counts none of them, or one is gone",
    ),
    value(
        "worker_throughput",
        "1/s",
        Polarity::Higher,
        0.05,
        "iterations per second that the workers of a role completed between their start and the moment at which they were told to stop, summed over workers; in a phase, those completed in it by its length",
    ),
    duration(
        "worker_iteration",
        Polarity::Lower,
        &["p99"],
        "duration of an iteration of a worker as it saw it, from the end of the one before: one pass through its blocks, in chains one round of the token; percentiles are null where there was no room for all samples",
    ),
    duration(
        "worker_lateness",
        Polarity::Lower,
        &TAIL,
        "how late a worker went on, as it saw it, after each moment at which it could: the expiry of its timer or sleep, or its partner's wake; percentiles are null where there was no room for all samples",
    ),
];

/// The registry as the page `docs/metrics.md`.
pub fn page() -> String {
    let mut text = String::from(
        "# Metrics\n\nGenerated from the registry (`analysis/src/catalog/metrics.rs`); a test compares the two.\n\n\
         The scope of a run is the tasks of class workload. The scope of a role is the tasks with that role, inherited roles included:\n\
         children of workers and payloads have their role. A slice belongs to the window, or to a phase, if its switch-in lies in it.\n\
         A value that could not be measured is null. Percentiles are nearest-rank. At the probe level `summary`, and where records were\n\
         lost, they come from histograms of 16 buckets per octave and are the middle of a bucket, at most 3.2 % off; counts, means and\n\
         maxima stay exact, and values that need single events are null.\n\n\
         Phases have wakeup_latency, run_delay, preemption_wait, throttled_wait, slice_length, context_switches, preemptions, yields,\n\
         on_cpu_time, fairness_jain and fairness_min_max, of the workload and of each role, null where records are missing; and\n\
         worker_throughput.\n\n\
         Names with a dot are not in the registry: those of tests and payloads, and `sched_ext.NAME`, the kernel's own counters by name\n\
         as growth over the window (`/sys/kernel/sched_ext/root/events`, from Linux 6.15 on).\n\n\
         | metric | unit | better | statistics | definition |\n|---|---|---|---|---|\n",
    );
    for m in METRICS {
        let (stats, mut definition) = (m.stats.join(", "), m.definition.replace('<', "\\<"));
        if let Some(why) = m.not_in_sim {
            definition += &format!("; not judged in `sim`: {why}");
        }
        text += &format!("| `{}` | {} | {} | {stats} | {definition} |\n", m.name, m.unit, m.polarity.name());
    }
    text
}

/// The metric of this name.
pub fn metric(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|m| m.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_as_the_registry() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        if ktstr_wire::env::WRITE_DOCS.flag().unwrap() {
            std::fs::write(path, page()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        let fix = "KTSTR_WRITE_DOCS=1 cargo nextest run -p ktstr-analysis page_is_as_the_registry";
        assert!(written == page(), "docs/metrics.md differs from the catalogue; regenerate it: {fix}");
    }

    #[test]
    fn names_are_unique_and_defaults_exist() {
        for (i, m) in METRICS.iter().enumerate() {
            assert!(METRICS[..i].iter().all(|o| o.name != m.name), "{}", m.name);
            assert!(m.compared.iter().all(|s| m.stats.contains(s)), "{}", m.name);
            assert!(!m.definition.is_empty());
        }
    }
}
