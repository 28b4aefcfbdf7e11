/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the probes know of tasks and CPUs, and the window.
 */
#pragma once

const volatile __u32 nr_blocks = 1;
/* Write records, not only counters. */
const volatile _Bool with_records = 1;

/* Set by the agent. Closed: the start is NO_TIME. Open: the end is NO_TIME. */
__u64 window_start_ns = NO_TIME;
__u64 window_end_ns = NO_TIME;
/* Task rows for which there was no room. */
__u64 rows_dropped;
/* Events of tasks whose number is beyond `tasks`. */
__u64 events_untracked;
/* The next free block of histograms; may count beyond their number. */
__u32 next_block;
/* The last number that was given to a task. */
__u32 last_serial;

/* The attached programs, in the order of `PROBES` in probes.rs. */
enum probe {
	PROBE_WAKING,
	PROBE_WAKEUP,
	PROBE_WAKEUP_NEW,
	PROBE_SWITCH,
	PROBE_MIGRATE,
	PROBE_EXEC,
	PROBE_TICK,
	PROBE_YIELD,
	NR_PROBES,
};

/* Which of them have run since they were attached. */
__u8 ran[NR_PROBES];

/* Stores once: the cache line is then shared by all CPUs. */
static __always_inline void note_run(enum probe probe)
{
	if (!ran[probe])
		ran[probe] = 1;
}

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_CPUS);
	__type(key, __u32);
	__type(value, struct cpu_state);
} cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* the agent sets it */
	__type(key, __u32);
	__type(value, struct histogram_block);
} histograms SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} dead SEC(".maps");

struct task_state {
	__u64 task; /* the address of its task_struct; 0: free */
	__u64 runnable_since_ns; /* 0: not waiting; while it runs, of the wait before */
	__u64 waking_ts_ns;
	__u64 off_ts_ns;
	__u64 run_delay_seen_ns;
	__u64 exec_seen_ns;
	__u32 waker_tid;
	__u16 waker_cpu;
	__u16 last_cpu;
	__u32 block;
	__u32 waking_ns;
	__u8 wait_kind;
	__u8 yielded;
	__u8 running;
	__u8 fresh; /* what was seen before this slice is not known */
	__u32 pad;
	struct enqueue enqueue;
	struct throttling throttling;
	struct counters counters;
	/* A number that no other task has had, and that of the task that forked it, or 0. Kept until another task takes the slot. */
	__u32 serial;
	__u32 forked_by;
};

_Static_assert(sizeof(struct task_state) == 384, "whole cache lines");

/*
 * By tid, and not in task storage: an array's lookup is a handful of inlined instructions, task storage's a call of about
 * seventy, four times per wakeup and switch.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* the agent sets it to pid_max */
	__type(key, __u32);
	__type(value, struct task_state);
} tasks SEC(".maps");

/* Makes the slot that of `p`, of which nothing is known. */
static __always_inline void adopt(struct task_state *s, struct task_struct *p)
{
	__builtin_memset(s, 0, sizeof(*s));
	s->task = (__u64)p;
	s->last_cpu = NO_CPU;
	s->block = NO_BLOCK;
	s->fresh = 1;
	s->run_delay_seen_ns = p->sched_info.run_delay;
	s->exec_seen_ns = p->se.sum_exec_runtime;
	s->counters.new_wait_ns = NO_TIME;
	s->serial = __sync_fetch_and_add(&last_serial, 1) + 1;
}

/* The slot of a task other than idle. One that has taken over another tid in execve starts anew. */
static __always_inline struct task_state *state_of(struct task_struct *p)
{
	__u32 tid = p->pid;
	struct task_state *s = bpf_map_lookup_elem(&tasks, &tid);

	if (!s)
		__sync_fetch_and_add(&events_untracked, 1);
	else if (s->task != (__u64)p)
		adopt(s, p);
	return s;
}
