/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * How much of a wait cpu.max took: the time in which the task's cgroup, or one above it, was throttled on its CPU.
 *
 * Each cfs_rq has a clock that only runs while it has tasks and is throttled itself or by one above it (throttled_clock_self and
 * throttled_clock_self_time in kernel/sched/fair.c, from Linux 6.5 on). What it grew by between the beginning of a wait and the
 * switch-in is the throttled part of the wait. It goes by the clock of the runqueue, all else by CLOCK_MONOTONIC.
 *
 * Until Linux 6.17 a throttled group leaves the runqueue with all its tasks. From 6.18 on each task leaves by itself, on its way to
 * user space (p->throttled); others of the group go on as far as they are in the kernel, and their waits are waits for a CPU.
 *
 * A task may change its cgroup while it waits. What both queues throttled it then counts (regroup_throttling). Where the kernel does
 * not allow a program there, such a wait is not known, and is neither a wait nor throttled time.
 */
#pragma once

#include "enqueue.h"
#include "kernel_types.h"
#include "record.h"

/* First priority that is not a real-time one (MAX_RT_PRIO in include/linux/sched/prio.h). */
#define MAX_RT_PRIO 100

/* The kernel has CONFIG_CFS_BANDWIDTH, and these clocks. */
static __always_inline _Bool has_throttling(void)
{
	return bpf_core_field_exists(struct cfs_rq, throttled_clock_self_time);
}

struct throttling {
	__u64 queue; /* address of the cfs_rq in which the task waits; 0: it does not, or cannot be throttled */
	__u64 seen_ns; /* what its clock said when the task came there */
	__u64 ns; /* of the wait, up to then; from the switch-in on, of the whole wait */
};

static __always_inline __u64 throttled_clock(const struct cfs_rq *queue)
{
	__u64 since = queue->throttled_clock_self, ns = queue->throttled_clock_self_time;

	return since ? ns + queue->rq->clock - since : ns;
}

/* Only EEVDF throttles, not sched_ext, and not the throttling of real-time tasks as a whole. */
static __always_inline _Bool can_be_throttled(struct task_struct *p)
{
	if (p->prio < MAX_RT_PRIO)
		return 0;
	if (bpf_core_field_exists(p->scx) && (p->scx.flags & SCX_TASK_QUEUED))
		return 0;
	return bpf_core_field_exists(p->throttled) ? p->throttled : 1;
}

/* Another cfs_rq has the task from now on; its clock said `clock`. */
static __always_inline void enter_queue(struct throttling *t, const struct cfs_rq *queue, __u64 clock)
{
	t->queue = (__u64)queue;
	t->seen_ns = clock;
}

/* A wait begins. */
static __always_inline void begin_throttling(struct throttling *t, struct task_struct *p)
{
	const struct cfs_rq *queue;

	t->queue = 0;
	t->ns = 0;
	if (!has_throttling() || !can_be_throttled(p))
		return;
	queue = p->se.cfs_rq;
	if (queue)
		enter_queue(t, queue, throttled_clock(queue));
}

/*
 * Adds what the clock of the queue has grown by. Gives false if the task is in another queue, and nobody said how it came there: how
 * long it was throttled is then not known.
 */
static __always_inline _Bool take_throttling(struct throttling *t, struct task_struct *p)
{
	const struct cfs_rq *queue;
	__u64 before = t->queue;

	if (!has_throttling() || !before)
		return 1;
	t->queue = 0;
	queue = p->se.cfs_rq;
	if (!queue || before != (__u64)queue)
		return 0;
	t->ns += throttled_clock(queue) - t->seen_ns;
	return 1;
}

/* The clock of a queue that is only an address to the verifier. */
static __always_inline __u64 read_throttled_clock(const struct cfs_rq *queue)
{
	__u64 since = BPF_CORE_READ(queue, throttled_clock_self);
	__u64 ns = BPF_CORE_READ(queue, throttled_clock_self_time);

	return since ? ns + BPF_CORE_READ(queue, rq, clock) - since : ns;
}

/* The queue that the task's cgroup has on another CPU: in an array of the cgroup, or, as in Linux 7.3, in per-CPU memory. */
static __always_inline const struct cfs_rq *queue_on(struct task_struct *p, int to)
{
	struct cfs_rq **queues, *queue = 0;
	const struct rq *here, *there;

	if (bpf_core_field_exists(struct cfs_tg_state, cfs_rq)) {
		if (!bpf_ksym_exists(&runqueues))
			return 0;
		here = bpf_per_cpu_ptr(&runqueues, p->thread_info.cpu);
		there = bpf_per_cpu_ptr(&runqueues, to);
		if (!here || !there)
			return 0;
		return (const struct cfs_rq *)((__u64)BPF_CORE_READ(p, se.cfs_rq) + ((__u64)there - (__u64)here));
	}
	queues = BPF_CORE_READ(p, sched_task_group, cfs_rq);
	bpf_probe_read_kernel(&queue, sizeof(queue), queues + to);
	return queue;
}

/* A task that waits is about to go to the runqueue of another CPU. */
static __always_inline void move_throttling(struct throttling *t, struct task_struct *p, int to)
{
	const struct cfs_rq *queue;

	if (!has_throttling() || !t->queue || !take_throttling(t, p))
		return;
	queue = queue_on(p, to);
	if (queue)
		enter_queue(t, queue, read_throttled_clock(queue));
}

/*
 * A task has gone to another cgroup, of the same CPU. The queue that it has left is still there: the kernel holds the lock of the
 * runqueue, and whoever moves the task holds the cgroup.
 */
static __always_inline void regroup_throttling(struct throttling *t, struct task_struct *p)
{
	const struct cfs_rq *left = (const struct cfs_rq *)t->queue, *queue;

	if (!has_throttling() || !left)
		return;
	t->ns += read_throttled_clock(left) - t->seen_ns;
	t->queue = 0;
	queue = p->se.cfs_rq;
	if (queue)
		enter_queue(t, queue, throttled_clock(queue));
}

/* As it is stored, and at most the whole wait: the runqueue's clock is read before ours. */
static __always_inline __u64 throttled_part(__u64 ns, __u64 wait_ns)
{
	const __u64 longest = 0xffffffffULL << THROTTLED_SHIFT;

	if (ns > wait_ns)
		ns = wait_ns;
	if (ns > longest)
		ns = longest;
	return ns >> THROTTLED_SHIFT << THROTTLED_SHIFT;
}
