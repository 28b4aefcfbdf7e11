/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The end of a slice: what it adds to the counters, and its record.
 */
#pragma once

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
	__u64 on_cpu, wait;

	on_cpu = clipped(in, now);
	account(&n->on_cpu, on_cpu);
	/*
	 * The kernel's own account reads its clock shortly before this tracepoint, which on emulated CPUs can be long before. It is
	 * there to be compared with /proc/<tid>/schedstat.
	 */
	if (in >= window_start_ns && now < window_end_ns && !s->fresh)
		n->sum_exec_runtime_ns += p->se.sum_exec_runtime - s->exec_seen_ns;
	else
		n->sum_exec_runtime_ns += on_cpu;
	if (end_state == END_BLOCKED)
		n->nr_blocked++;
	else if (end_state == END_PREEMPTED)
		n->nr_preempted++;
	else if (end_state == END_YIELDED)
		n->nr_yielded++;
	if (in < window_start_ns)
		return;
	n->nr_begun++;
	n->sched_info_run_delay_ns += p->sched_info.run_delay - s->run_delay_seen_ns;
	n->nr_unqueued += s->enqueue.uncounted;
	if (end_state != END_WINDOW) {
		account(&n->slice_length, now - in);
		count_in(b, HISTOGRAM_SLICE, now - in);
	}
	if (!s->runnable_since_ns)
		return;
	count_dsq(n, &s->enqueue);
	wait = in - s->runnable_since_ns - s->throttling.ns;
	if (s->throttling.ns)
		account(&n->throttled_wait, s->throttling.ns);
	if (s->wait_kind == WAIT_WAKEUP) {
		account(&n->wakeup_latency, wait);
		count_in(b, HISTOGRAM_WAKEUP, wait);
		count_wakeup(n, &s->enqueue);
	} else if (s->wait_kind == WAIT_NEW) {
		n->new_wait_ns = wait;
	} else {
		account(&n->preemption_wait, wait);
		count_in(b, HISTOGRAM_PREEMPTION, wait);
	}
}

/* What came before the slice that began at `in`. */
static __always_inline void fill_wait(struct record *r, struct task_state *s, __u64 in)
{
	__u8 woken;

	r->prev_cpu = s->last_cpu;
	if (!s->runnable_since_ns)
		return;
	r->wait_ns = in - s->runnable_since_ns - s->throttling.ns;
	r->throttled = s->throttling.ns >> THROTTLED_SHIFT;
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
	r->waking_ns = NO_WAKING;
	r->throttled = 0;
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
		fill_wait(r, s, in);
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
