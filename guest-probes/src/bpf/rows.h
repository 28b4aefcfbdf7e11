/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the agent is told of each task, dead or alive.
 */
#pragma once

static __always_inline void fill_row(struct task_row *row, struct task_struct *p, struct task_state *s)
{
	row->counters = s->counters;
	row->cgroup_id = BPF_CORE_READ(p, cgroups, dfl_cgrp, kn, id);
	row->open_wait_ns = NO_TIME;
	row->open_throttled_ns = 0;
	row->tid = p->pid;
	row->tgid = p->tgid;
	row->flags = p->flags;
	row->weight = p->se.load.weight >> 10; /* SCHED_FIXEDPOINT_SHIFT of 64-bit kernels */
	row->block = s->block;
	row->nice = p->static_prio - 120; /* DEFAULT_PRIO */
	row->policy = p->policy;
	row->serial = s->serial;
	row->forked_by = s->forked_by;
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
