/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the probes and the agent share. The record layout is ktstr-wire's `record` module; a test compares the offsets.
 */
#pragma once

#define NO_TIME (~0ULL)
#define NO_CPU 0xffff
#define MAX_CPUS 256

enum record_kind { RECORD_SLICE = 1, RECORD_MIGRATION = 2 };
enum wait_kind { WAIT_UNKNOWN, WAIT_WAKEUP, WAIT_NEW, WAIT_PREEMPT, WAIT_YIELD };
enum end_state { END_BLOCKED = 1, END_PREEMPTED, END_YIELDED, END_EXITED, END_WINDOW };
enum migration_context { MIGRATED_AT_WAKEUP = 1, MIGRATED_BY_BALANCE, MIGRATED_AT_EXEC, MIGRATED_BY_AFFINITY };

/* A migration uses ts_ns, tid, cpu (from), prev_cpu (to) and wait_kind (context). */
struct record {
	unsigned long long ts_ns;
	unsigned long long dur_ns;
	unsigned long long wait_ns;
	unsigned long long run_delay_ns;
	unsigned long long waking_ns;
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
	unsigned char pad[5];
};

struct duration_stats {
	unsigned long long count;
	unsigned long long sum_ns;
	unsigned long long min_ns;
	unsigned long long max_ns;
};

/* Exact counters of one task, clipped to the window. */
struct counters {
	struct duration_stats on_cpu;
	struct duration_stats run_delay;
	struct duration_stats wakeup_latency;
	unsigned long long nr_blocked;
	unsigned long long nr_preempted;
	unsigned long long nr_yielded;
	unsigned long long nr_migrations;
};

/* One task at its end, or at the end of the window. */
struct task_row {
	struct counters counters;
	unsigned long long cgroup_id;
	unsigned long long open_wait_ns; /* NO_TIME: none */
	unsigned int tid;
	unsigned int tgid;
	unsigned int flags;
	unsigned char exited;
	char comm[16];
	unsigned char pad[3];
};

/* One CPU's part of the log and of the time. */
struct cpu_state {
	unsigned long long emitted;
	unsigned long long dropped;
	unsigned long long idle_ns;
	unsigned long long busy_ns;
	unsigned long long timer_late_max_ns;
	/* Of the slice that is on the CPU now. */
	unsigned long long in_ts_ns;
	unsigned long long wait_ns;
	unsigned long long waking_ns;
	unsigned long long blocked_ns;
	unsigned int waker_tid;
	unsigned short waker_cpu;
	unsigned short prev_cpu;
	unsigned char wait_kind;
	unsigned char pad[7];
};

_Static_assert(sizeof(struct record) == 72, "ktstr-wire reads records of 72 bytes");
_Static_assert(sizeof(struct task_row) == 176, "the agent reads rows of 176 bytes");
