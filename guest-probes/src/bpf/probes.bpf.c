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
#include "throttle.h"
#include "log.h"
#include "state.h"
#include "durations.h"
#include "slices.h"
#include "rows.h"
#include "migrations.h"
#include "ticks.h"
#include "edges.h"

char _license[] SEC("license") = "Dual BSD/GPL";

SEC("tp_btf/sched_waking")
int BPF_PROG(sched_waking, struct task_struct *p)
{
	struct task_state *s = state_of(p);

	note_run(PROBE_WAKING);
	if (s)
		s->waking_ts_ns = bpf_ktime_get_ns();
	return 0;
}

/* As it is stored: 4.3 seconds at most. */
static __always_inline __u32 waking_time(__u64 ns)
{
	return ns < NO_WAKING ? ns : NO_WAKING - 1;
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
	begin_throttling(&s->throttling, p);
	if (!with_records)
		return;
	s->waking_ns = s->waking_ts_ns ? waking_time(now - s->waking_ts_ns) : NO_WAKING;
	s->waking_ts_ns = 0;
	waker = bpf_get_current_task_btf();
	s->waker_cpu = bpf_get_smp_processor_id();
	s->waker_tid = waker->pid;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(sched_wakeup, struct task_struct *p)
{
	struct task_state *s = state_of(p);

	note_run(PROBE_WAKEUP);
	if (s)
		make_runnable(p, s, WAIT_WAKEUP);
	return 0;
}

/* A task wakes the child that it forks itself (kernel_clone in kernel/fork.c). */
SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(sched_wakeup_new, struct task_struct *p)
{
	__u32 tid = p->pid;
	struct task_state *s = bpf_map_lookup_elem(&tasks, &tid);
	struct task_struct *forker = bpf_get_current_task_btf();
	struct task_state *f = forker->pid ? state_of(forker) : 0;

	note_run(PROBE_WAKEUP_NEW);
	if (!s)
		return 0;
	adopt(s, p);
	s->forked_by = f ? f->serial : 0;
	s->fresh = 0;
	make_runnable(p, s, WAIT_NEW);
	return 0;
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

	if (!c->in_ts_ns || c->in_ts_ns >= window_end_ns) {
		/* Its time is not known, or no longer wanted. */
	} else if (now > window_end_ns) {
		/* The window has closed, and close_window() has not come to this CPU yet. */
		end_slice(c, cpu, prev, s, window_end_ns, END_WINDOW);
	} else if (now > window_start_ns) {
		c->nr_switches++;
		end_slice(c, cpu, prev, s, now, end);
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
	/* sched_info_depart() in kernel/sched/stats.h: preempted on its way to sleep. */
	s->enqueue.uncounted = preempt && prev->__state;
	if (end != END_BLOCKED) {
		/* It is enqueued again by now (put_prev_task). */
		s->enqueue.rq_length = NO_LENGTH;
		note_placement(&s->enqueue, prev);
		begin_throttling(&s->throttling, prev);
	}
}

SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, _Bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 cpu = bpf_get_smp_processor_id();
	struct cpu_state *c = bpf_map_lookup_elem(&cpus, &cpu);
	struct task_state *s;

	note_run(PROBE_SWITCH);
	if (!c)
		return 0;
	switch_out(c, cpu, prev, now, preempt, prev_state);
	c->in_ts_ns = now;
	if (next->pid) {
		s = state_of(next);
		if (s) {
			s->running = 1;
			if (!take_throttling(&s->throttling, next))
				s->runnable_since_ns = 0;
			s->throttling.ns = throttled_part(s->throttling.ns, now - s->runnable_since_ns);
		}
	}
	return 0;
}

/* Runs with the lock of the task's runqueue held (sched_move_task in kernel/sched/core.c). */
SEC("fexit/task_change_group_fair")
int BPF_PROG(task_change_group_fair, struct task_struct *p)
{
	struct task_state *s = state_of(p);

	if (s && !s->running)
		regroup_throttling(&s->throttling, p);
	return 0;
}

/* A thread that becomes its process in execve takes over the tid of the leader, who is gone; under its old tid it has ended. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(sched_process_exec, struct task_struct *p, int old_pid, struct linux_binprm *bprm)
{
	__u32 tid = old_pid;
	struct task_state *s, *heir;

	note_run(PROBE_EXEC);
	if (p->pid == old_pid)
		return 0;
	s = bpf_map_lookup_elem(&tasks, &tid);
	if (s && s->task == (__u64)p) {
		report_dead(p, s, tid, 0);
		s->task = 0;
		heir = state_of(p);
		if (heir)
			heir->forked_by = s->serial;
	}
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
	note_run(PROBE_YIELD);
	note_yield();
	return 0;
}
