//! The catalogue of tables and columns, with unit and meaning. A test compares it with every writer.

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name. Names of times and durations end in `_ns`; times are those of the guest's `CLOCK_MONOTONIC`.
    pub name: &'static str,
    /// Arrow type: i64, u32, u64, str, bool, f64.
    pub dtype: &'static str,
    /// Meaning, and what null means.
    pub meaning: &'static str,
}

const fn c(name: &'static str, dtype: &'static str, meaning: &'static str) -> Column {
    Column { name, dtype, meaning }
}

/// One row is one on-CPU slice of one task. Rows come in blocks that follow one another in time; in a block
/// they are sorted by `cpu`, then `ts_ns`.
pub const SLICES: [Column; 22] = [
    c("ts_ns", "i64", "switch-in"),
    c("dur_ns", "i64", "switch-in to switch-out; null: the window's end cut the slice"),
    c("cpu", "u32", "CPU of the slice"),
    c("tid", "u32", "thread id, 0 for the idle task"),
    c("comm", "str", "name of the task; null: the idle task, or not known"),
    c("role", "str", "role of the task; null: none"),
    c("idle", "bool", "the idle task"),
    c("wait_kind", "str", "unknown, wakeup, new, preempt, yield: how the task came to wait before the slice"),
    c(
        "wait_ns",
        "i64",
        "sched_wakeup, sched_wakeup_new or the switch-out while runnable, to switch-in, less throttled_ns; null: not seen",
    ),
    c(
        "throttled_ns",
        "i64",
        "how long within that time cpu.max throttled the task's cgroup or one above it, in steps of 1024; null: it did not",
    ),
    c(
        "wait_cause",
        "str",
        "the cause with the largest part of wait_ns and throttled_ns together, see waits; null: no wait, or not seen",
    ),
    c("waking_ns", "i64", "sched_waking to sched_wakeup, up to 4.3 s; null: not a wakeup"),
    c("blocked_ns", "i64", "switch-out to sched_wakeup; null: not a wakeup, or its start was not seen"),
    c("end_state", "str", "blocked, preempted, yielded, exited, window_end"),
    c("prev_cpu", "u32", "CPU of the task's slice before; null: not seen"),
    c("waker_tid", "u32", "task in whose context the wakeup ran; null: the idle task's, or not a wakeup"),
    c("waker_cpu", "u32", "CPU on which the wakeup ran; null: not a wakeup"),
    c("prio", "i64", "kernel priority at switch-out: -1 deadline, 0 to 99 real time, 100 to 139 normal"),
    c(
        "placement",
        "str",
        "where the enqueue before the slice put the task: direct (a CPU's local DSQ), queued (another DSQ), held (none: the scheduler has it); null: not under sched_ext, or not seen",
    ),
    c(
        "rq_length",
        "u32",
        "other tasks on the runqueue at the wakeup, or the first one after a fork, the running one included; null: neither, or not seen",
    ),
    c("dsq_length", "u32", "other tasks in the DSQ in which it was queued, at that moment; null: not queued"),
    c(
        "host_stolen_ns",
        "i64",
        "how long within the slice the host kept the CPU's thread waiting for one of its CPUs; null: nobody watched, see quality.unwatched in the sidecar",
    ),
];

/// Columns of every table, after its own: the run to which the rows belong. They are constant in a file.
pub const RUN: [Column; 10] = [
    c("run_id", "str", "unique identifier, which sorts by time"),
    c("test", "str", "package::binary::test"),
    c("scheduler", "str", "scheduler with its arguments; eevdf: the kernel's own"),
    c("scheduler_args", "str", "the arguments alone, separated by spaces"),
    c("kernel", "str", "kernel release"),
    c("commit", "str", "commit of the project, with -dirty if there were uncommitted changes"),
    c("topology", "str", "requested topology"),
    c("accel", "str", "kvm, tcg, sim"),
    c("seed", "u64", "seed of the boot"),
    c("boot", "u32", "number of the boot among the repetitions, from 0"),
];

/// One row is one migration. Rows are in order of time.
pub const MIGRATIONS: [Column; 8] = [
    c("ts_ns", "i64", "sched_migrate_task"),
    c("tid", "u32", "thread id"),
    c("comm", "str", "name of the task; null: not known"),
    c("role", "str", "role of the task; null: none"),
    c("from_cpu", "u32", "CPU before"),
    c("to_cpu", "u32", "CPU after"),
    c("context", "str", "wakeup, balance, exec, affinity"),
    c("distance", "str", "same_core, same_llc, other_llc, other_node"),
];

/// One row is one cause of one wait: the parts of a wait add up to it exactly. Rows come in blocks, the latest
/// block first; in a block they are in order of `ts_ns`, and those of one wait adjoin.
pub const WAITS: [Column; 13] = [
    c("ts_ns", "i64", "start of the wait: sched_wakeup, sched_wakeup_new or the switch-out while runnable"),
    c("tid", "u32", "thread id"),
    c("comm", "str", "name of the task; null: not known"),
    c("role", "str", "role of the task; null: none"),
    c(
        "wait_ns",
        "i64",
        "the whole wait, throttled time included: the slice in the table slices begins at ts_ns + wait_ns",
    ),
    c("open", "bool", "the window ended before the wait: there is no such slice"),
    c("cause", "str", "cpu_busy, idle_cpu, affinity, throttled, not_in_charge, host_steal, wakeup, unknown"),
    c("ns", "i64", "the part of the wait with this cause"),
    c("cpu", "u32", "CPU whose runqueue had the task in this part; null: not known"),
    c(
        "idle_distance",
        "str",
        "same_cpu, same_core, same_llc, other_llc, other_node: the nearest idle CPU on which the task may run; null: the cause is not idle_cpu",
    ),
    c("blamed_tid", "u32", "the task that was on that CPU longest at a time in this part; null: no task was"),
    c("blamed_comm", "str", "its name; null: not known"),
    c("blamed_role", "str", "its role, which is that of all tasks that ran in this part; null: none"),
];

/// One row is one task that was alive in the window; counters are exact, clipped to the window.
pub const TASKS: [Column; 63] = [
    c("tid", "u32", "thread id"),
    c("tgid", "u32", "process id"),
    c("comm", "str", "name"),
    c("cgroup", "str", "path below the cgroup root; null: not known"),
    c("role", "str", "role that the test gave, or that the task inherited; null: none"),
    c("role_inherited", "bool", "the role is that of the task that forked it, or of its cgroup"),
    c("class", "str", "workload, harness, scheduler, kernel"),
    c("cpus_allowed", "str", "CPU list at its end; null: it had ended"),
    c("exited", "bool", "ended inside the window"),
    c("nr_slices", "i64", "slices that ended in the window or were cut by its end"),
    c("on_cpu_ns", "i64", "on-CPU time: switch-in to switch-out of these, as in the table slices"),
    c("on_cpu_min_ns", "i64", "shortest slice"),
    c("on_cpu_max_ns", "i64", "longest slice"),
    c(
        "sum_exec_runtime_ns",
        "i64",
        "on-CPU time by the kernel's clock: what se.sum_exec_runtime grew by over these slices; it is read shortly before the switches",
    ),
    c(
        "run_delay_count",
        "i64",
        "waits for a CPU that ended in the window, whatever they began with, as the next ones less what is in throttled_wait_ns",
    ),
    c("run_delay_ns", "i64", "these in sum"),
    c("run_delay_min_ns", "i64", "shortest"),
    c("run_delay_max_ns", "i64", "longest"),
    c("wakeup_count", "i64", "wakeups that led to a slice"),
    c("wakeup_latency_ns", "i64", "their latency in sum"),
    c("wakeup_latency_min_ns", "i64", "shortest"),
    c("wakeup_latency_max_ns", "i64", "longest"),
    c("preemption_count", "i64", "slices that began after the task was switched out while runnable"),
    c("preemption_wait_ns", "i64", "the waits before them in sum"),
    c("preemption_wait_min_ns", "i64", "shortest"),
    c("preemption_wait_max_ns", "i64", "longest"),
    c("throttled_wait_count", "i64", "waits in which cpu.max throttled the task's cgroup or one above it"),
    c("throttled_wait_ns", "i64", "how long it did, in sum"),
    c("throttled_wait_min_ns", "i64", "shortest"),
    c("throttled_wait_max_ns", "i64", "longest"),
    c("new_wait_ns", "i64", "from its fork to its first slice; null: that was not in the window"),
    c("slice_count", "i64", "slices that lie in the window whole"),
    c("slice_length_ns", "i64", "switch-in to switch-out of these in sum"),
    c("slice_length_min_ns", "i64", "shortest"),
    c("slice_length_max_ns", "i64", "longest"),
    c(
        "rq_length_count",
        "i64",
        "wakeups of wakeup_count whose runqueue was seen; null, as the next three: none could be",
    ),
    c("rq_length_sum", "i64", "other tasks on these runqueues, the running one included, in sum"),
    c("rq_length_max", "i64", "most"),
    c("nr_to_idle", "i64", "wakeups that found no other task there"),
    c("nr_direct", "i64", "wakeups that sched_ext put into the local DSQ of a CPU"),
    c("nr_queued", "i64", "wakeups that it put into another DSQ"),
    c("nr_held", "i64", "wakeups that left the task with the scheduler, in no DSQ"),
    c(
        "dsq_length_count",
        "i64",
        "slices before which the task was put into another DSQ, by a wakeup or when it was switched out while runnable",
    ),
    c("dsq_length_sum", "i64", "other tasks in these DSQs at that moment, in sum"),
    c("dsq_length_max", "i64", "most"),
    c(
        "has_histograms",
        "bool",
        "the table histograms has this task's; false: it had no slice, or there was no room",
    ),
    c("nr_blocked", "i64", "switch-outs into sleep"),
    c("nr_preempted", "i64", "switch-outs while runnable, unasked"),
    c("nr_yielded", "i64", "switch-outs after sched_yield"),
    c("nr_migrations", "i64", "migrations"),
    c("nr_begun", "i64", "slices whose switch-in lies in the window"),
    c("sched_info_run_delay_ns", "i64", "what the kernel's sched_info.run_delay grew by before these"),
    c(
        "nr_unqueued",
        "i64",
        "of these, slices after a preemption on its way to sleep, which /proc/<tid>/schedstat does not count, unless a migration came between",
    ),
    c(
        "open_wait_ns",
        "i64",
        "wait for a CPU that was open at the window's end (censored), less open_throttled_ns; null: none",
    ),
    c(
        "open_throttled_ns",
        "i64",
        "how long cpu.max throttled the task in that wait; if it still does at the end, up to some milliseconds too much; null: no open wait",
    ),
    c("schedstat_on_cpu_ns", "i64", "growth of /proc/<tid>/schedstat over the window; null: it had ended"),
    c("schedstat_run_delay_ns", "i64", "the same, run delay"),
    c("schedstat_nr_slices", "i64", "the same, times it was given a CPU"),
    c(
        "status_nr_voluntary",
        "i64",
        "growth of voluntary_ctxt_switches in /proc/<tid>/status; null: it had ended",
    ),
    c("status_nr_involuntary", "i64", "the same, nonvoluntary_ctxt_switches"),
    c("nice", "f64", "nice value at its end"),
    c("weight", "i64", "weight of its scheduling entity at its end, 1024 for nice 0"),
    c("policy", "str", "normal, fifo, rr, batch, idle, deadline, ext: scheduling policy at its end"),
];

/// One row is one filled bucket of one histogram of one task, with 16 buckets per octave
/// (`ktstr_wire::histogram`). Histograms of several tasks are added bucket by bucket.
pub const HISTOGRAMS: [Column; 5] = [
    c("tid", "u32", "thread id"),
    c("metric", "str", "wakeup_latency, preemption_wait, run_delay, slice_length"),
    c("from_ns", "i64", "shortest duration of the bucket"),
    c("to_ns", "i64", "longest duration of the bucket"),
    c("count", "i64", "durations in the bucket"),
];

/// One row is one CPU of the guest.
pub const CPUS: [Column; 17] = [
    c("cpu", "u32", "number"),
    c("core", "u32", "core, counted over the machine"),
    c("llc", "u32", "last-level cache, counted over the machine"),
    c("node", "u32", "NUMA node"),
    c("busy_ns", "i64", "time with a task, clipped to the window"),
    c("idle_ns", "i64", "time with the idle task or offline, clipped to the window"),
    c("nr_ticks", "i64", "ticks of the timer that were due in the window and whose lateness was measured"),
    c("tick_late_max_ns", "i64", "how late one of these came at most; null: none was measured"),
    c("steal_ns", "i64", "steal time in /proc/stat over the window; null: not kept"),
    c(
        "host_run_delay_ns",
        "i64",
        "how long the host kept the CPU's thread waiting between hearing of the opening and of the closing; null: not known",
    ),
    c(
        "host_uncounted_ns",
        "i64",
        "of the time that slices have in host_stolen_ns, what steal_ns and host_run_delay_ns leave out: waits of a CPU that had halted when the host took it, and was woken; null: nobody watched",
    ),
    c("emitted", "i64", "records that the probes wanted to write"),
    c("received", "i64", "records that arrived"),
    c("dropped", "i64", "records for which there was no room: all from first_drop_ns to last_drop_ns"),
    c("first_drop_ns", "i64", "when the first of these would have been written; null: none was dropped"),
    c("last_drop_ns", "i64", "the same, the last"),
    c("nr_switches", "i64", "context switches in the window"),
];

/// One row is one program of a scheduler that was in charge. Without `--probes programs` the table is empty.
pub const PROGRAMS: [Column; 6] = [
    c("member", "str", "operation: its member of struct sched_ext_ops"),
    c("program", "str", "its name"),
    c("calls", "i64", "times it was called in the window"),
    c("run_ns", "i64", "what the kernel's statistics say that it took"),
    c("baseline_ns", "i64", "what they say of a call of a program that does nothing, in the same guest"),
    c("cost_ns", "i64", "run_ns less calls times baseline_ns, at least 0"),
];

/// One row is one cgroup of the test that existed when the window closed.
pub const CGROUPS: [Column; 5] = [
    c("cgroup", "str", "path below the cgroup root"),
    c("usage_ns", "i64", "CPU time of its tasks and of those below it, by cpu.stat"),
    c("nr_periods", "i64", "periods of its CPU bandwidth; null, as the next two: no cpu controller there"),
    c("nr_throttled", "i64", "periods in which it was throttled"),
    c("throttled_ns", "i64", "how long its runqueues were throttled, summed over CPUs, by cpu.stat"),
];

/// One row is one phase of the test. Phases do not overlap.
pub const PHASES: [Column; 3] =
    [c("name", "str", "name"), c("start_ns", "i64", "its start"), c("end_ns", "i64", "its end")];

/// One row is one metric value.
pub const METRICS: [Column; 11] = [
    c("name", "str", "name in the registry, or the test's or a payload's own, which has a dot"),
    c("scope", "str", "run, role, cpu, llc, node, phase"),
    c("role", "str", "role; null: of the whole workload, or of CPUs"),
    c("phase", "str", "phase; null outside of that scope"),
    c("cpu", "u32", "CPU; null outside of that scope"),
    c("llc", "u32", "last-level cache; null outside of that scope"),
    c("node", "u32", "NUMA node; null outside of that scope"),
    c("stat", "str", "count, mean, p50, p90, p99, p99.9, max, or value"),
    c("value", "f64", "the value; null: could not be measured"),
    c("unit", "str", "ns, count, frac, 1/s, or the test's own"),
    c("polarity", "str", "lower, higher, neutral: which is better"),
];

/// All tables by name, with their columns before those of [`RUN`].
pub const TABLES: [(&str, &[Column]); 10] = [
    ("slices", &SLICES),
    ("waits", &WAITS),
    ("migrations", &MIGRATIONS),
    ("tasks", &TASKS),
    ("histograms", &HISTOGRAMS),
    ("cpus", &CPUS),
    ("phases", &PHASES),
    ("programs", &PROGRAMS),
    ("cgroups", &CGROUPS),
    ("metrics", &METRICS),
];
