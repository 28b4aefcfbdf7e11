/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The probes: one record per on-CPU slice, one per migration, exact counters per task and CPU.
 *
 * Every hook that writes records runs with interrupts off and under a runqueue or task lock, so that each CPU is the only
 * writer of its part of the log. Stamps are kept always, records and counters only for what overlaps the window.
 */
#include "kernel_types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "record.h"
#include "enqueue.h"
#include "log.h"

char _license[] SEC("license") = "Dual BSD/GPL";

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
	__u64 waking_ns;
	__u64 run_delay_seen_ns;
	__u64 exec_seen_ns;
	__u32 waker_tid;
	__u16 waker_cpu;
	__u16 last_cpu;
	__u32 block;
	__u8 wait_kind;
	__u8 yielded;
	__u8 running;
	__u8 fresh; /* what was seen before this slice is not known */
	struct enqueue enqueue;
	struct counters counters;
};

_Static_assert(sizeof(struct task_state) == 320, "whole cache lines");

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

static __always_inline void account(struct duration_stats *d, __u64 ns)
{
	if (ns < d->min_ns || !d->count)
		d->min_ns = ns;
	if (ns > d->max_ns)
		d->max_ns = ns;
	d->count++;
	d->sum_ns += ns;
}

/*
 * How far to shift `x`, which is below 1 << 63, so that less than `1 << bits` is left: `bits`, a power of two, or not at all. A
 * branch would be shorter, but five in a row are 32 ways for the verifier to walk, all anew where two durations follow each other.
 */
static __always_inline __u64 excess(__u64 x, __u32 bits)
{
	__u64 below = (1ULL << bits) - 1 - x;

	barrier_var(below);
	return (below >> 63) * bits;
}

static __always_inline __u32 bucket_of(__u64 ns)
{
	__u64 octave = 4, x, shift;
	__u32 bits;

	if (ns < 16)
		return ns;
	if (ns > HISTOGRAM_MAX_NS)
		ns = HISTOGRAM_MAX_NS;
	/* Of the bits above the lowest four, the highest that is set, by halving. */
	x = ns >> 4;
#pragma unroll
	for (bits = 32; bits > 1; bits /= 2) {
		shift = excess(x, bits);
		x >>= shift;
		octave += shift;
	}
	octave += x >> 1;
	return (octave - 3) * 16 + ((ns >> (octave - 4)) & 15);
}

/* Blocks are given at the first slice of a task in the window, as long as there are some. */
static __always_inline struct histogram_block *block_of(struct task_state *s)
{
	if (s->block == NO_BLOCK && next_block < nr_blocks)
		s->block = __sync_fetch_and_add(&next_block, 1);
	return bpf_map_lookup_elem(&histograms, &s->block);
}

static __always_inline void count_in(struct histogram_block *b, __u32 histogram, __u64 ns)
{
	__u32 i = histogram * HISTOGRAM_BUCKETS + bucket_of(ns);

	if (b && i < NR_HISTOGRAMS * HISTOGRAM_BUCKETS)
		b->buckets[i]++;
}

SEC("tp_btf/sched_waking")
int BPF_PROG(sched_waking, struct task_struct *p)
{
	struct task_state *s = state_of(p);

	if (s)
		s->waking_ts_ns = bpf_ktime_get_ns();
	return 0;
}

static __always_inline void make_runnable(struct task_struct *p, struct task_state *s, __u8 kind)
{
	struct task_struct *waker;
	__u64 now;

	/*
	 * A wakeup of a task that runs has no switch-in, and one that was preempted on its way to sleep waits already. Runqueue
	 * locks order this after the switch that set the fields.
	 */
	if (s->running || s->runnable_since_ns) {
		s->waking_ts_ns = 0;
		return;
	}
	now = bpf_ktime_get_ns();
	s->wait_kind = kind;
	s->runnable_since_ns = now;
	note_runqueue(&s->enqueue, p);
	note_placement(&s->enqueue, p);
	if (!with_records)
		return;
	s->waking_ns = s->waking_ts_ns ? now - s->waking_ts_ns : NO_TIME;
	s->waking_ts_ns = 0;
	waker = bpf_get_current_task_btf();
	s->waker_cpu = bpf_get_smp_processor_id();
	s->waker_tid = waker->pid;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(sched_wakeup, struct task_struct *p)
{
	struct task_state *s = state_of(p);

	if (s)
		make_runnable(p, s, WAIT_WAKEUP);
	return 0;
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(sched_wakeup_new, struct task_struct *p)
{
	__u32 tid = p->pid;
	struct task_state *s = bpf_map_lookup_elem(&tasks, &tid);

	if (!s)
		return 0;
	adopt(s, p);
	s->fresh = 0;
	make_runnable(p, s, WAIT_NEW);
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

static __always_inline void count_slice(struct task_struct *p, struct task_state *s, __u64 in, __u64 now, __u8 end_state)
{
	struct counters *n = &s->counters;
	struct histogram_block *b = block_of(s);
	__u64 on_cpu, run_delay;

	/*
	 * The task's time is the kernel's own account, which reads its clock shortly before this tracepoint: on emulated CPUs
	 * that gap can be long. A slice that an edge of the window cuts is clipped by the tracepoints.
	 */
	if (in >= window_start_ns && now < window_end_ns && !s->fresh)
		on_cpu = p->se.sum_exec_runtime - s->exec_seen_ns;
	else
		on_cpu = clipped(in, now);
	account(&n->on_cpu, on_cpu);
	if (end_state == END_BLOCKED)
		n->nr_blocked++;
	else if (end_state == END_PREEMPTED)
		n->nr_preempted++;
	else if (end_state == END_YIELDED)
		n->nr_yielded++;
	if (in < window_start_ns)
		return;
	run_delay = p->sched_info.run_delay - s->run_delay_seen_ns;
	account(&n->run_delay, run_delay);
	count_in(b, HISTOGRAM_RUN_DELAY, run_delay);
	if (end_state != END_WINDOW) {
		account(&n->slice_length, now - in);
		count_in(b, HISTOGRAM_SLICE, now - in);
	}
	if (!s->runnable_since_ns)
		return;
	count_dsq(n, &s->enqueue);
	if (s->wait_kind == WAIT_WAKEUP) {
		account(&n->wakeup_latency, in - s->runnable_since_ns);
		count_in(b, HISTOGRAM_WAKEUP, in - s->runnable_since_ns);
		count_wakeup(n, &s->enqueue);
	} else if (s->wait_kind != WAIT_NEW) {
		account(&n->preemption_wait, in - s->runnable_since_ns);
		count_in(b, HISTOGRAM_PREEMPTION, in - s->runnable_since_ns);
	}
}

/* What came before the slice of `p`, which began at `in`. */
static __always_inline void fill_wait(struct record *r, struct task_struct *p, struct task_state *s, __u64 in)
{
	__u8 woken;

	r->run_delay_ns = p->sched_info.run_delay - s->run_delay_seen_ns;
	r->prev_cpu = s->last_cpu;
	if (!s->runnable_since_ns)
		return;
	r->wait_ns = in - s->runnable_since_ns;
	r->wait_kind = s->wait_kind;
	r->placement = s->enqueue.placement;
	r->rq_length = s->enqueue.rq_length;
	r->dsq_length = s->enqueue.dsq_length;
	woken = s->wait_kind == WAIT_WAKEUP;
	if (woken) {
		r->waking_ns = s->waking_ns;
		if (s->off_ts_ns)
			r->blocked_ns = s->runnable_since_ns - s->off_ts_ns;
	}
	if (woken || s->wait_kind == WAIT_NEW) {
		r->waker_tid = s->waker_tid;
		r->waker_cpu = s->waker_cpu;
	}
}

/* Writes the slice of `p`, which is on this CPU until `now`; `s` is NULL for idle. */
static __always_inline void write_slice(struct cpu_state *c, __u32 cpu, struct task_struct *p, struct task_state *s,
					__u64 now, __u8 end_state)
{
	__u64 in = c->in_ts_ns;
	struct record *r = log_reserve(c, cpu, now);

	if (!r)
		return;
	r->ts_ns = in;
	r->dur_ns = now - in;
	r->wait_ns = NO_TIME;
	r->run_delay_ns = NO_TIME;
	r->waking_ns = NO_TIME;
	r->blocked_ns = NO_TIME;
	r->tid = p->pid;
	r->waker_tid = 0;
	r->cpu = cpu;
	r->prev_cpu = NO_CPU;
	r->waker_cpu = NO_CPU;
	r->prio = p->prio;
	r->kind = RECORD_SLICE;
	r->wait_kind = WAIT_UNKNOWN;
	r->end_state = end_state;
	r->placement = PLACEMENT_UNKNOWN;
	r->rq_length = NO_LENGTH;
	r->dsq_length = NO_LENGTH;
	if (s)
		fill_wait(r, p, s, in);
	log_commit(c);
}

static __always_inline void end_slice(struct cpu_state *c, __u32 cpu, struct task_struct *p, struct task_state *s,
				      __u64 now, __u8 end_state)
{
	__u64 time = clipped(c->in_ts_ns, now);

	if (p->pid == 0)
		c->idle_ns += time;
	else
		c->busy_ns += time;
	if (s)
		count_slice(p, s, c->in_ts_ns, now, end_state);
	if (with_records)
		write_slice(c, cpu, p, s, now, end_state);
}

static __always_inline void fill_row(struct task_row *row, struct task_struct *p, struct task_state *s)
{
	row->counters = s->counters;
	row->cgroup_id = BPF_CORE_READ(p, cgroups, dfl_cgrp, kn, id);
	row->open_wait_ns = NO_TIME;
	row->tid = p->pid;
	row->tgid = p->tgid;
	row->flags = p->flags;
	row->weight = p->se.load.weight >> 10; /* SCHED_FIXEDPOINT_SHIFT of 64-bit kernels */
	row->block = s->block;
	row->nice = p->static_prio - 120; /* DEFAULT_PRIO */
	row->policy = p->policy;
	row->exited = 0;
	bpf_probe_read_kernel_str(row->comm, sizeof(row->comm), p->comm);
}

static __always_inline void report_dead(struct task_struct *p, struct task_state *s, __u32 tid, __u8 in_window)
{
	struct task_row *row = bpf_ringbuf_reserve(&dead, sizeof(*row), 0);

	if (!row) {
		__sync_fetch_and_add(&rows_dropped, 1);
		return;
	}
	fill_row(row, p, s);
	row->tid = tid;
	row->exited = in_window;
	bpf_ringbuf_submit(row, 1 /* BPF_RB_NO_WAKEUP */);
}

/*
 * A task that is preempted does not sleep, even if it has set its state to do so. The state that the tracepoint gives was read
 * before a signal could cancel the sleep: p->__state tells.
 */
static __always_inline __u8 end_state_of(struct task_struct *p, struct task_state *s, _Bool preempt,
					 unsigned int prev_state)
{
	if (prev_state & TASK_DEAD)
		return END_EXITED;
	if (!preempt && prev_state && p->__state)
		return END_BLOCKED;
	return s && s->yielded ? END_YIELDED : END_PREEMPTED;
}

static __always_inline void switch_out(struct cpu_state *c, __u32 cpu, struct task_struct *prev, __u64 now,
				       _Bool preempt, unsigned int prev_state)
{
	struct task_state *s = prev->pid ? state_of(prev) : 0;
	__u8 end = end_state_of(prev, s, preempt, prev_state);

	if (c->in_ts_ns && c->in_ts_ns < window_end_ns && now > window_start_ns) {
		c->nr_switches++;
		end_slice(c, cpu, prev, s, now, end);
		if (s && preempt && prev->__state)
			s->counters.nr_unqueued++;
	}
	if (!s)
		return;
	if (end == END_EXITED) {
		if (now > window_start_ns)
			report_dead(prev, s, prev->pid, now < window_end_ns);
		s->task = 0;
		return;
	}
	s->run_delay_seen_ns = prev->sched_info.run_delay;
	s->exec_seen_ns = prev->se.sum_exec_runtime;
	s->last_cpu = cpu;
	s->off_ts_ns = now;
	s->yielded = 0;
	s->running = 0;
	s->fresh = 0;
	/* A waking stamp of a wakeup that has begun on another CPU must survive. */
	s->runnable_since_ns = end == END_BLOCKED ? 0 : now;
	s->wait_kind = end == END_YIELDED ? WAIT_YIELD : WAIT_PREEMPT;
	if (end != END_BLOCKED) {
		/* It is enqueued again by now (put_prev_task). */
		s->enqueue.rq_length = NO_LENGTH;
		note_placement(&s->enqueue, prev);
	}
}

SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, _Bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 cpu = bpf_get_smp_processor_id();
	struct cpu_state *c = bpf_map_lookup_elem(&cpus, &cpu);
	struct task_state *s;

	if (!c)
		return 0;
	switch_out(c, cpu, prev, now, preempt, prev_state);
	c->in_ts_ns = now;
	if (next->pid) {
		s = state_of(next);
		if (s)
			s->running = 1;
	}
	return 0;
}

/* A thread that becomes its process in execve takes over the tid of the leader, who is gone; under its old tid it has ended. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(sched_process_exec, struct task_struct *p, int old_pid, struct linux_binprm *bprm)
{
	__u32 tid = old_pid;
	struct task_state *s;

	if (p->pid == old_pid)
		return 0;
	s = bpf_map_lookup_elem(&tasks, &tid);
	if (s && s->task == (__u64)p) {
		report_dead(p, s, tid, 0);
		s->task = 0;
	}
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
	if (!with_records)
		return 0;
	r = log_reserve(c, cpu, now);
	if (!r)
		return 0;
	*r = (struct record){
		.ts_ns = now,
		.tid = p->pid,
		.cpu = from,
		.prev_cpu = dest_cpu,
		.kind = RECORD_MIGRATION,
		.wait_kind = migration_context_of(p, from),
	};
	log_commit(c);
	return 0;
}

/* The timer tick of each CPU (kernel/time/tick-sched.c). */
extern const struct tick_sched tick_cpu_sched __ksym __weak;

/* A CPU's stopper (sched_set_stop_task() in kernel/sched/core.c): the kernel's only threads of the highest FIFO priority. */
static __always_inline _Bool is_stopper(const struct task_struct *p)
{
	return p->prio == 0 && p->flags & PF_KTHREAD;
}

/* The registers of what this interrupt has interrupted (lib/irq_regs.c). */
extern struct pt_regs *const __irq_regs __ksym __weak;

/* STI, which takes effect behind the instruction after it, and the begin of `decl %gs:disp32(%rip)`, which counts a preemption less. */
#define STI_AND_DECL 0x0dff65fb
#define DECL_BYTES 7

/*
 * Whether interrupts were off until this one: it came where a lock is released with them (_raw_spin_unlock_irqrestore() and the like,
 * of kernels that count preemptions). Where they were switched on otherwise, this is not known.
 */
static __always_inline _Bool interrupts_were_off(void)
{
	struct pt_regs **regs;
	unsigned long ip;
	__u32 code = 0;

	if (!bpf_ksym_exists(&__irq_regs))
		return 0;
	regs = bpf_this_cpu_ptr(&__irq_regs);
	ip = BPF_CORE_READ(*regs, ip);
	return !bpf_probe_read_kernel(&code, sizeof(code), (void *)(ip - DECL_BYTES - 1)) && code == STI_AND_DECL;
}

/*
 * How late a tick is says how long the CPU was kept from running, or how long the guest itself had its interrupts off, which
 * is told apart as far as it is known. Of other timers it says neither: one may be armed when it is due already, as for a sleep up to
 * a moment that has passed. Nor where the tick finds a stopper, which waits for all the other CPUs with interrupts off.
 */
SEC("tp_btf/hrtimer_expire_entry")
int BPF_PROG(hrtimer_expire_entry, struct hrtimer *timer, __s64 *basenow)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct cpu_state *c = bpf_map_lookup_elem(&cpus, &cpu);
	const struct tick_sched *tick;
	__s64 now = 0, late;
	__u64 due, *most;

	if (!c || !bpf_ksym_exists(&tick_cpu_sched) || is_stopper(bpf_get_current_task_btf()))
		return 0;
	tick = bpf_this_cpu_ptr(&tick_cpu_sched);
	if ((long)&tick->sched_timer != (long)timer || bpf_probe_read_kernel(&now, sizeof(now), basenow))
		return 0;
	late = now - timer->node.expires;
	due = bpf_ktime_get_ns() - late;
	if (late <= 0 || due < window_start_ns || due >= window_end_ns)
		return 0;
	most = interrupts_were_off() ? &c->tick_held_max_ns : &c->tick_late_max_ns;
	if ((__u64)late > *most)
		*most = late;
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

/* Run once on each CPU when the other programs are attached: what it runs began before that. */
SEC("raw_tp/open_cpu")
int open_cpu(void *ctx)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct cpu_state *c = bpf_map_lookup_elem(&cpus, &cpu);
	struct task_struct *p = bpf_get_current_task_btf();
	struct task_state *s = p->pid ? state_of(p) : 0;

	if (s)
		s->running = 1;
	if (c && !c->in_ts_ns)
		c->in_ts_ns = bpf_ktime_get_ns();
	return 0;
}

/*
 * Run once for each CPU: ends the slice that the closing window cuts. The first CPU says when that is: between its clock and the
 * store nothing comes, as it would in user space, while others go on and record what is too late. Called from an
 * inter-processor interrupt, and so `current` is what the CPU is running. A CPU that is offline is idle; another one runs this
 * for it, and gives its number.
 */
SEC("raw_tp/close_window")
int BPF_PROG(close_window, __u64 for_cpu)
{
	__u32 here = bpf_get_smp_processor_id(), cpu = for_cpu;
	struct cpu_state *c = bpf_map_lookup_elem(&cpus, &cpu);
	struct task_struct *p = bpf_get_current_task_btf();
	struct record *r;

	if (window_end_ns == NO_TIME)
		window_end_ns = bpf_ktime_get_ns();
	if (!c || !c->in_ts_ns || c->in_ts_ns >= window_end_ns)
		return 0;
	if (here == cpu) {
		end_slice(c, cpu, p, p->pid ? state_of(p) : 0, window_end_ns, END_WINDOW);
	} else {
		c->idle_ns += clipped(c->in_ts_ns, window_end_ns);
		r = with_records ? log_reserve(c, cpu, window_end_ns) : 0;
		if (r) {
			*r = (struct record){
				.ts_ns = c->in_ts_ns,
				.dur_ns = window_end_ns - c->in_ts_ns,
				.wait_ns = NO_TIME,
				.run_delay_ns = NO_TIME,
				.waking_ns = NO_TIME,
				.blocked_ns = NO_TIME,
				.cpu = cpu,
				.prev_cpu = NO_CPU,
				.waker_cpu = NO_CPU,
				.rq_length = NO_LENGTH,
				.dsq_length = NO_LENGTH,
				.kind = RECORD_SLICE,
				.end_state = END_WINDOW,
			};
			log_commit(c);
		}
	}
	c->in_ts_ns = NO_TIME;
	return 0;
}

/* Every task gets its slot before the other programs are attached, so that no two CPUs do it at once. */
SEC("iter/task")
int adopt_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *p = ctx->task;

	if (p && p->pid)
		state_of(p);
	return 0;
}

/* Every task with its counters, after the window: one task_row each. */
SEC("iter/task")
int list_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *p = ctx->task;
	struct task_row row = {};
	struct task_state *s;
	__u32 tid;

	if (!p)
		return 0;
	tid = p->pid;
	s = bpf_map_lookup_elem(&tasks, &tid);
	if (!s || s->task != (__u64)p)
		return 0;
	fill_row(&row, p, s);
	if (!s->running && s->runnable_since_ns && s->runnable_since_ns < window_end_ns)
		row.open_wait_ns = window_end_ns - s->runnable_since_ns;
	bpf_seq_write(ctx->meta->seq, &row, sizeof(row));
	return 0;
}
