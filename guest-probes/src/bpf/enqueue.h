/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a task meets where it is enqueued: how many others are runnable there, and, under sched_ext, which queue it was put in.
 *
 * Read at sched_wakeup and at the switch-out of a runnable task, both of which come after the enqueue, under the lock of the runqueue.
 */
#pragma once

#include "kernel_types.h"
#include "record.h"

extern const struct rq runqueues __ksym __weak;

/* The enqueue before a slice. */
struct enqueue {
	__u16 rq_length;
	__u16 dsq_length;
	__u8 placement;
	__u8 uncounted; /* the kernel's sched_info has not seen it */
	__u8 pad[2];
};

/* How many others there are where `nr` are with the task itself. */
static __always_inline __u16 others(__u32 nr)
{
	if (nr >= NO_LENGTH)
		return NO_LENGTH - 1;
	return nr ? nr - 1 : 0;
}

/* A task that EEVDF lets sleep on its runqueue (delayed dequeue) counts as runnable, as the kernel counts it. */
static __always_inline void note_runqueue(struct enqueue *e, struct task_struct *p)
{
	const struct rq *rq = 0;

	if (bpf_ksym_exists(&runqueues))
		rq = bpf_per_cpu_ptr(&runqueues, p->thread_info.cpu);
	e->rq_length = rq ? others(rq->nr_running) : NO_LENGTH;
}

/*
 * Another CPU may take a task from a shared DSQ at any moment: `nr` may lack it already. A task for the local DSQ of another CPU gets
 * there when the lock can be dropped; until then it is in no DSQ, but has its number (direct_dispatch() in kernel/sched/ext.c).
 */
static __always_inline void note_placement(struct enqueue *e, struct task_struct *p)
{
	struct scx_dispatch_q *dsq;

	e->placement = PLACEMENT_UNKNOWN;
	e->dsq_length = NO_LENGTH;
	if (!bpf_core_field_exists(p->scx) || !(p->scx.flags & SCX_TASK_QUEUED))
		return;
	dsq = p->scx.dsq;
	if (!dsq) {
		e->placement = p->scx.ddsp_dsq_id & ~SCX_DSQ_FLAG_BUILTIN ? PLACEMENT_DIRECT : PLACEMENT_HELD;
	} else if (dsq->id == SCX_DSQ_LOCAL) {
		e->placement = PLACEMENT_DIRECT;
	} else {
		e->placement = PLACEMENT_QUEUED;
		e->dsq_length = others(dsq->nr);
	}
}

static __always_inline void count_wakeup(struct counters *n, const struct enqueue *e)
{
	__u16 length = e->rq_length;

	if (length > n->rq_length_max)
		n->rq_length_max = length;
	n->rq_length_sum += length;
	n->nr_to_idle += !length;
	if (e->placement == PLACEMENT_UNKNOWN)
		return;
	if (e->placement == PLACEMENT_DIRECT)
		n->nr_direct++;
	else if (e->placement == PLACEMENT_QUEUED)
		n->nr_queued++;
	else
		n->nr_held++;
}

static __always_inline void count_dsq(struct counters *n, const struct enqueue *e)
{
	if (e->placement != PLACEMENT_QUEUED)
		return;
	if (e->dsq_length > n->dsq_length_max)
		n->dsq_length_max = e->dsq_length;
	n->dsq_length_sum += e->dsq_length;
	n->dsq_count++;
}
