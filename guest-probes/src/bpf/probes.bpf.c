/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The probes: one record per on-CPU slice, one per migration, exact counters per task and CPU.
 *
 * Every hook that writes records runs with interrupts off and under a runqueue or task lock, so that each CPU is the only
 * writer of its part of `records`. Stamps are kept always, records and counters only for what overlaps the window.
 */
#include "kernel_types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "record.h"

char _license[] SEC("license") = "Dual BSD/GPL";

const volatile __u32 records_per_cpu = 1;

/* Set by the agent. Closed: the start is NO_TIME. Open: the end is NO_TIME. */
__u64 window_start_ns = NO_TIME;
__u64 window_end_ns = NO_TIME;
/* Task rows for which there was no room. */
__u64 rows_dropped;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* the agent sets CPUs times records_per_cpu */
	__type(key, __u32);
	__type(value, struct record);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_CPUS);
	__type(key, __u32);
	__type(value, struct cpu_state);
} cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} dead SEC(".maps");

struct task_state {
	__u64 runnable_since_ns; /* 0: not waiting */
	__u64 waking_ts_ns;
	__u64 off_ts_ns;
	__u64 blocked_ns;
	__u64 waking_ns;
	__u64 run_delay_seen_ns;
	__u64 exec_seen_ns;
	__u32 waker_tid;
	__u16 waker_cpu;
	__u16 last_cpu;
	__u8 wait_kind;
	__u8 yielded;
	__u8 seen;
	__u8 pad[5];
	struct counters counters;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_state);
} tasks SEC(".maps");

static __always_inline struct task_state *state_of(struct task_struct *p)
{
	struct task_state *s = bpf_task_storage_get(&tasks, p, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (s && !s->seen) {
		s->seen = 1;
		s->last_cpu = NO_CPU;
		s->waker_cpu = NO_CPU;
		s->blocked_ns = NO_TIME;
		s->waking_ns = NO_TIME;
		s->run_delay_seen_ns = p->sched_info.run_delay;
		s->exec_seen_ns = p->se.sum_exec_runtime;
	}
	return s;
}

static __always_inline void account(struct duration_stats *d, __u64 ns)
{
	if (!d->count || ns < d->min_ns)
		d->min_ns = ns;
	if (ns > d->max_ns)
		d->max_ns = ns;
	d->count++;
	d->sum_ns += ns;
}

/* The next free record of this CPU, or NULL if its part is full. */
static __always_inline struct record *next_record(struct cpu_state *c, __u32 cpu)
{
	__u64 i = c->emitted - c->dropped;
	__u32 key;

	c->emitted++;
	if (i >= records_per_cpu) {
		c->dropped++;
		return 0;
	}
	key = cpu * records_per_cpu + (__u32)i;
	struct record *r = bpf_map_lookup_elem(&records, &key);
	if (!r)
		c->dropped++;
	return r;
}

SEC("tp_btf/sched_waking")
int BPF_PROG(sched_waking, struct task_struct *p)
{
	struct task_state *s = state_of(p);

	if (s)
		s->waking_ts_ns = bpf_ktime_get_ns();
	return 0;
}

static __always_inline void make_runnable(struct task_struct *p, __u8 kind)
{
	struct task_state *s = state_of(p);
	struct task_struct *waker = bpf_get_current_task_btf();
	__u64 now;

	if (!s)
		return;
	now = bpf_ktime_get_ns();
	s->wait_kind = kind;
	s->runnable_since_ns = now;
	s->waking_ns = s->waking_ts_ns && kind == WAIT_WAKEUP ? now - s->waking_ts_ns : NO_TIME;
	s->blocked_ns = s->off_ts_ns && kind == WAIT_WAKEUP ? now - s->off_ts_ns : NO_TIME;
	s->waking_ts_ns = 0;
	s->waker_cpu = bpf_get_smp_processor_id();
	s->waker_tid = waker->pid;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(sched_wakeup, struct task_struct *p)
{
	make_runnable(p, WAIT_WAKEUP);
	return 0;
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(sched_wakeup_new, struct task_struct *p)
{
	make_runnable(p, WAIT_NEW);
	return 0;
}

/* The part of [from, to] that lies in the window. */
static __always_inline __u64 clipped(__u64 from, __u64 to)
{
	if (from < window_start_ns)
		from = window_start_ns;
	if (to > window_end_ns)
		to = window_end_ns;
	return to > from ? to - from : 0;
}

/* Writes the slice of `p`, which is on this CPU until `now`, and counts it. */
static __always_inline void end_slice(struct cpu_state *c, __u32 cpu, struct task_struct *p, struct task_state *s,
				      __u64 now, __u8 end_state)
{
	__u64 run_delay = NO_TIME, on_cpu = clipped(c->in_ts_ns, now);
	struct record *r;

	if (p->pid == 0)
		c->idle_ns += on_cpu;
	else
		c->busy_ns += on_cpu;
	if (p->pid && s) {
		run_delay = p->sched_info.run_delay - s->run_delay_seen_ns;
		/*
		 * The task's time is the kernel's own account, which reads its clock shortly before this tracepoint: on
		 * emulated CPUs that gap can be long. A slice that an edge of the window cuts is clipped by the tracepoints.
		 */
		if (c->in_ts_ns >= window_start_ns && now < window_end_ns)
			on_cpu = p->se.sum_exec_runtime - s->exec_seen_ns;
		account(&s->counters.on_cpu, on_cpu);
		account(&s->counters.run_delay, run_delay);
		if (c->wait_kind == WAIT_WAKEUP && c->wait_ns != NO_TIME)
			account(&s->counters.wakeup_latency, c->wait_ns);
		if (end_state == END_BLOCKED)
			s->counters.nr_blocked++;
		else if (end_state == END_PREEMPTED)
			s->counters.nr_preempted++;
		else if (end_state == END_YIELDED)
			s->counters.nr_yielded++;
	}
	r = next_record(c, cpu);
	if (!r)
		return;
	r->ts_ns = c->in_ts_ns;
	r->dur_ns = now - c->in_ts_ns;
	r->wait_ns = c->wait_ns;
	r->run_delay_ns = run_delay;
	r->waking_ns = c->waking_ns;
	r->blocked_ns = c->blocked_ns;
	r->tid = p->pid;
	r->waker_tid = c->waker_tid;
	r->cpu = cpu;
	r->prev_cpu = c->prev_cpu;
	r->waker_cpu = c->waker_cpu;
	r->prio = p->prio;
	r->kind = RECORD_SLICE;
	r->wait_kind = c->wait_kind;
	r->end_state = end_state;
}

static __always_inline void fill_row(struct task_row *row, struct task_struct *p, struct task_state *s)
{
	row->counters = s->counters;
	row->cgroup_id = BPF_CORE_READ(p, cgroups, dfl_cgrp, kn, id);
	row->open_wait_ns = NO_TIME;
	row->tid = p->pid;
	row->tgid = p->tgid;
	row->flags = p->flags;
	row->exited = 0;
	bpf_probe_read_kernel_str(row->comm, sizeof(row->comm), p->comm);
}

static __always_inline void report_dead(struct task_struct *p, struct task_state *s, __u8 in_window)
{
	struct task_row *row = bpf_ringbuf_reserve(&dead, sizeof(*row), 0);

	if (!row) {
		__sync_fetch_and_add(&rows_dropped, 1);
		return;
	}
	fill_row(row, p, s);
	row->exited = in_window;
	bpf_ringbuf_submit(row, 1 /* BPF_RB_NO_WAKEUP */);
}

/* The state that the tracepoint gives was read before a signal could cancel the sleep: p->__state tells. */
static __always_inline __u8 end_state_of(struct task_struct *p, struct task_state *s, unsigned int prev_state)
{
	if (prev_state & TASK_DEAD)
		return END_EXITED;
	if (prev_state && p->__state)
		return END_BLOCKED;
	return s && s->yielded ? END_YIELDED : END_PREEMPTED;
}

static __always_inline void switch_out(struct cpu_state *c, __u32 cpu, struct task_struct *prev, __u64 now,
				       unsigned int prev_state)
{
	struct task_state *s = prev->pid ? state_of(prev) : 0;
	__u8 end = end_state_of(prev, s, prev_state);

	if (c->in_ts_ns && c->in_ts_ns < window_end_ns && now > window_start_ns)
		end_slice(c, cpu, prev, s, now, end);
	if (!s)
		return;
	s->run_delay_seen_ns = prev->sched_info.run_delay;
	s->exec_seen_ns = prev->se.sum_exec_runtime;
	s->last_cpu = cpu;
	s->off_ts_ns = now;
	s->yielded = 0;
	/* A waking stamp of a wakeup that has begun on another CPU must survive. */
	if (end == END_BLOCKED || end == END_EXITED) {
		s->runnable_since_ns = 0;
	} else {
		s->runnable_since_ns = now;
		s->wait_kind = end == END_YIELDED ? WAIT_YIELD : WAIT_PREEMPT;
	}
	if (end == END_EXITED && now > window_start_ns)
		report_dead(prev, s, now < window_end_ns);
}

static __always_inline void switch_in(struct cpu_state *c, struct task_struct *next, __u64 now)
{
	struct task_state *s = next->pid ? state_of(next) : 0;

	c->in_ts_ns = now;
	c->wait_ns = NO_TIME;
	c->waking_ns = NO_TIME;
	c->blocked_ns = NO_TIME;
	c->waker_tid = 0;
	c->waker_cpu = NO_CPU;
	c->prev_cpu = NO_CPU;
	c->wait_kind = WAIT_UNKNOWN;
	if (!s)
		return;
	c->prev_cpu = s->last_cpu;
	if (!s->runnable_since_ns)
		return;
	c->wait_ns = now - s->runnable_since_ns;
	c->wait_kind = s->wait_kind;
	if (s->wait_kind == WAIT_WAKEUP || s->wait_kind == WAIT_NEW) {
		c->waking_ns = s->waking_ns;
		c->blocked_ns = s->blocked_ns;
		c->waker_tid = s->waker_tid;
		c->waker_cpu = s->waker_cpu;
	}
	s->runnable_since_ns = 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, _Bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 cpu = bpf_get_smp_processor_id();
	struct cpu_state *c = bpf_map_lookup_elem(&cpus, &cpu);

	if (!c)
		return 0;
	switch_out(c, cpu, prev, now, prev_state);
	switch_in(c, next, now);
	return 0;
}

static __always_inline int allowed(struct task_struct *p, __u32 cpu)
{
	const struct cpumask *mask = p->cpus_ptr;
	unsigned long word = 0;

	if (cpu >= MAX_CPUS)
		return 1;
	bpf_probe_read_kernel(&word, sizeof(word), &mask->bits[0] + cpu / 64);
	return (word >> (cpu % 64)) & 1;
}

static __always_inline __u8 migration_context_of(struct task_struct *p, __u32 from)
{
	if (p->__state == TASK_WAKING)
		return MIGRATED_AT_WAKEUP;
	if (BPF_CORE_READ_BITFIELD_PROBED(p, in_execve))
		return MIGRATED_AT_EXEC;
	if (!allowed(p, from))
		return MIGRATED_BY_AFFINITY;
	return MIGRATED_BY_BALANCE;
}

/* Runs with the task's pi_lock or runqueue lock held and interrupts off (set_task_cpu in kernel/sched/core.c). */
SEC("tp_btf/sched_migrate_task")
int BPF_PROG(sched_migrate_task, struct task_struct *p, int dest_cpu)
{
	__u32 cpu = bpf_get_smp_processor_id(), from = p->thread_info.cpu;
	struct cpu_state *c = bpf_map_lookup_elem(&cpus, &cpu);
	__u64 now = bpf_ktime_get_ns();
	struct task_state *s;
	struct record *r;

	if (now < window_start_ns || now >= window_end_ns || !c || from == (__u32)dest_cpu)
		return 0;
	s = state_of(p);
	if (s)
		s->counters.nr_migrations++;
	r = next_record(c, cpu);
	if (!r)
		return 0;
	r->ts_ns = now;
	r->tid = p->pid;
	r->cpu = from;
	r->prev_cpu = dest_cpu;
	r->kind = RECORD_MIGRATION;
	r->wait_kind = migration_context_of(p, from);
	return 0;
}

/*
 * How late a timer interrupt is says how long the CPU was kept from running. Timers that run in a soft interrupt wait for
 * more than the CPU.
 */
SEC("tp_btf/hrtimer_expire_entry")
int BPF_PROG(hrtimer_expire_entry, struct hrtimer *timer, __s64 *basenow)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct cpu_state *c = bpf_map_lookup_elem(&cpus, &cpu);
	__s64 now = 0, late;
	__u64 due;

	if (!c || timer->is_soft || bpf_probe_read_kernel(&now, sizeof(now), basenow))
		return 0;
	late = now - timer->node.expires;
	due = bpf_ktime_get_ns() - late;
	if (late > 0 && due >= window_start_ns && due < window_end_ns && (__u64)late > c->timer_late_max_ns)
		c->timer_late_max_ns = late;
	return 0;
}

static __always_inline void note_yield(void)
{
	struct task_state *s = state_of(bpf_get_current_task_btf());

	if (s)
		s->yielded = 1;
}

/* System call entries are not in BTF, so this is no fentry program. */
SEC("kprobe/__x64_sys_sched_yield")
int note_sched_yield(struct pt_regs *regs)
{
	note_yield();
	return 0;
}

/*
 * Run once on each CPU after `window_end_ns` has been set: ends the slice that the closing window cuts. Called from an
 * inter-processor interrupt, and so `current` is what the CPU is running.
 */
SEC("raw_tp/close_window")
int close_window(void *ctx)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct cpu_state *c = bpf_map_lookup_elem(&cpus, &cpu);
	struct task_struct *p = bpf_get_current_task_btf();

	if (c && c->in_ts_ns && c->in_ts_ns < window_end_ns)
		end_slice(c, cpu, p, p->pid ? state_of(p) : 0, window_end_ns, END_WINDOW);
	if (c)
		c->in_ts_ns = NO_TIME;
	return 0;
}

/* Every task with its counters, after the window: one task_row each. */
SEC("iter/task")
int list_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *p = ctx->task;
	struct task_row row = {};
	struct task_state *s;

	if (!p)
		return 0;
	s = bpf_task_storage_get(&tasks, p, 0, 0);
	if (!s)
		return 0;
	fill_row(&row, p, s);
	if (s->runnable_since_ns && s->runnable_since_ns < window_end_ns)
		row.open_wait_ns = window_end_ns - s->runnable_since_ns;
	bpf_seq_write(ctx->meta->seq, &row, sizeof(row));
	return 0;
}
