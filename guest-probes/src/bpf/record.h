/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the probes and the agent share. The record layout is ktstr-wire's `record` module; a test compares the offsets.
 */
#pragma once

#define NO_TIME (~0ULL)
#define NO_CPU 0xffff
#define NO_LENGTH 0xffff
#define NO_WAKING 0xffffffffU
/* Throttled time is stored in units of 1024 ns. */
#define THROTTLED_SHIFT 10
#define MAX_CPUS 256

enum record_kind { RECORD_SLICE = 1, RECORD_MIGRATION = 2 };
enum wait_kind { WAIT_UNKNOWN, WAIT_WAKEUP, WAIT_NEW, WAIT_PREEMPT, WAIT_YIELD };
enum end_state { END_BLOCKED = 1, END_PREEMPTED, END_YIELDED, END_EXITED, END_WINDOW };
/* Where an enqueue under sched_ext put a task: in a CPU's local DSQ, in another DSQ, or nowhere: the scheduler has it itself. */
enum placement { PLACEMENT_UNKNOWN, PLACEMENT_DIRECT, PLACEMENT_QUEUED, PLACEMENT_HELD };
enum migration_context { MIGRATED_AT_WAKEUP = 1, MIGRATED_BY_BALANCE, MIGRATED_AT_EXEC, MIGRATED_BY_AFFINITY };

/* A migration uses ts_ns, tid, cpu (from), prev_cpu (to) and wait_kind (context). */
struct record {
	unsigned long long ts_ns;
	unsigned long long dur_ns;
	unsigned long long wait_ns; /* without what it was throttled */
	unsigned int waking_ns; /* or NO_WAKING */
	unsigned int throttled; /* within the wait, in units of 1 << THROTTLED_SHIFT nanoseconds */
	unsigned long long blocked_ns;
	unsigned int tid;
	unsigned int waker_tid;
	unsigned short cpu;
	unsigned short prev_cpu;
	unsigned short waker_cpu;
	short prio;
	unsigned char kind;
	unsigned char wait_kind;
	unsigned char end_state;
	unsigned char placement;
	unsigned short rq_length; /* or NO_LENGTH, as the next */
	unsigned short dsq_length;
};

struct duration_stats {
	unsigned long long count;
	unsigned long long sum_ns;
	unsigned long long min_ns;
	unsigned long long max_ns;
};

/*
 * Exact counters of one task. On-CPU time is clipped to the window; the other durations belong to slices whose switch-in lies
 * in the window. Waits are without what the task was throttled.
 */
struct counters {
	struct duration_stats on_cpu;
	struct duration_stats wakeup_latency;
	struct duration_stats preemption_wait;
	struct duration_stats slice_length;
	unsigned long long nr_blocked;
	unsigned long long nr_preempted;
	unsigned long long nr_yielded;
	unsigned long long nr_migrations;
	/* Slices that began in the window, and what sched_info.run_delay grew by before them. */
	unsigned long long nr_begun;
	unsigned long long sched_info_run_delay_ns;
	/* Of these, those after a preemption on its way to sleep: sched_info counts neither them nor the wait (sched_info_depart). */
	unsigned long long nr_unqueued;
	unsigned long long new_wait_ns; /* from the fork to the first slice, or NO_TIME */
	/* What the enqueues before these slices met: the runqueue and the placement of wakeups, the DSQ of all. */
	unsigned long long rq_length_sum;
	unsigned long long dsq_length_sum;
	unsigned int nr_to_idle;
	unsigned int nr_direct;
	unsigned int nr_queued;
	unsigned int nr_held;
	unsigned int dsq_count;
	unsigned short rq_length_max; /* NO_LENGTH: not measured */
	unsigned short dsq_length_max;
	/* What se.sum_exec_runtime grew by over the slices of on_cpu; of one that an edge of the window cuts, its part in the window. */
	unsigned long long sum_exec_runtime_ns;
	/* How long cpu.max throttled the task before a slice, where it did. */
	struct duration_stats throttled_wait;
};

/* Log-linear: durations below 16 ns have a bucket each, from there on each octave has 16, up to 2^40 ns (18 minutes). */
#define HISTOGRAM_BUCKETS 592
#define HISTOGRAM_MAX_NS ((1ULL << 40) - 1)

enum histogram { HISTOGRAM_WAKEUP, HISTOGRAM_PREEMPTION, HISTOGRAM_SLICE, NR_HISTOGRAMS };

/* The histograms of one task. */
struct histogram_block {
	unsigned int buckets[NR_HISTOGRAMS * HISTOGRAM_BUCKETS];
};

/* One task at its end, or at the end of the window. */
struct task_row {
	struct counters counters;
	unsigned long long cgroup_id;
	unsigned long long open_wait_ns; /* NO_TIME: none */
	unsigned long long open_throttled_ns; /* within that wait */
	unsigned int tid;
	unsigned int tgid;
	unsigned int flags;
	unsigned int weight;
	unsigned int block; /* of histograms, or NO_BLOCK */
	short nice;
	unsigned char exited;
	unsigned char policy;
	char comm[16];
	unsigned int serial; /* no other task has had it */
	unsigned int forked_by; /* the serial of the task that forked it, or 0 */
};

/* The agent has the same structures (probes/layout.rs). */
#define ROW_HAS(member, offset) _Static_assert(__builtin_offsetof(struct task_row, member) == (offset), #member)
ROW_HAS(counters, 0);
ROW_HAS(cgroup_id, 272);
ROW_HAS(open_wait_ns, 280);
ROW_HAS(open_throttled_ns, 288);
ROW_HAS(tid, 296);
ROW_HAS(tgid, 300);
ROW_HAS(flags, 304);
ROW_HAS(weight, 308);
ROW_HAS(block, 312);
ROW_HAS(nice, 316);
ROW_HAS(exited, 318);
ROW_HAS(policy, 319);
ROW_HAS(comm, 320);
ROW_HAS(serial, 336);
ROW_HAS(forked_by, 340);

#define NO_BLOCK (~0U)

/* One CPU: its part of the log (log.h) and its time. What is used in every switch has a cache line of its own. */
struct cpu_state {
	unsigned long long produced; /* records written */
	unsigned long long limit; /* of `produced`, as far as the reader was seen to have come */
	unsigned int first; /* of its part in `records`, set by the agent */
	unsigned int mask; /* for the place in the part, set by the agent */
	unsigned long long idle_ns;
	unsigned long long busy_ns;
	unsigned long long nr_switches;
	unsigned long long in_ts_ns; /* of the slice that is on the CPU now */
	unsigned long long tick_late_max_ns;
	unsigned long long dropped; /* records for which there was no room */
	unsigned long long first_drop_ns;
	unsigned long long last_drop_ns;
	unsigned long long gap; /* dropped since the last record that was written */
	unsigned long long longest_gap;
	unsigned long long nr_ticks; /* whose lateness was measured */
	unsigned long long pad[2];
};

/* How far the reader of one CPU's log has come; on a cache line of its own. */
struct log_reader {
	unsigned long long consumed;
	unsigned long long pad[7];
};

_Static_assert(sizeof(struct record) == 64, "ktstr-wire reads records of 64 bytes");
_Static_assert(sizeof(struct counters) == 272, "the agent reads counters of 272 bytes");
_Static_assert(sizeof(struct task_row) == 344, "the agent reads rows of 344 bytes");
_Static_assert(sizeof(struct cpu_state) == 128, "ktstr-wire knows states of 128 bytes");
_Static_assert(sizeof(struct log_reader) == 64, "ktstr-wire knows readers of 64 bytes");
