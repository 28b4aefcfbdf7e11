/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The window's edges: what runs or lives when the probes are attached, and when the window closes.
 */
#pragma once

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
				.waking_ns = NO_WAKING,
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
	if (!s->running && s->runnable_since_ns && s->runnable_since_ns < window_end_ns) {
		/* If it is throttled now, it may have been since after the window's end. */
		if (!take_throttling(&s->throttling, p))
			goto write;
		row.open_wait_ns = window_end_ns - s->runnable_since_ns;
		row.open_throttled_ns = throttled_part(s->throttling.ns, row.open_wait_ns);
		row.open_wait_ns -= row.open_throttled_ns;
	}
write:
	bpf_seq_write(ctx->meta->seq, &row, sizeof(row));
	return 0;
}
