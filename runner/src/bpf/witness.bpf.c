// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * On the host: when a thread that runs a CPU of a guest could have run and did not.
 *
 * Such a wait begins when the thread is switched out while it runs, or is woken, and ends when it is switched in. A thread that is
 * preempted on its way to sleep wants nothing until it is woken: the guest has halted its CPU. The second number of
 * /proc/<tid>/schedstat counts all but the wait of one that is woken then (sched_info_depart() in kernel/sched/stats.h).
 */
#include "kernel_types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Linux, include/uapi/linux/bpf.h */
#define BPF_RB_NO_WAKEUP 1

struct thread {
	__u64 cpu; /* of the guest */
	__u64 since_ns; /* 0: it is not waiting */
	__u64 halting; /* it was switched out by a preemption on its way to sleep: only a wakeup makes it wait */
};

/* By thread id. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct thread);
} threads SEC(".maps");

struct wait {
	__u64 cpu;
	__u64 from_ns;
	__u64 to_ns;
	__u64 uncounted; /* the kernel's schedstat leaves it out */
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} waits SEC(".maps");

/* Waits for which there was no room. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

static struct thread *thread_of(struct task_struct *p)
{
	__u32 tid = p->pid;

	return bpf_map_lookup_elem(&threads, &tid);
}

static void note_lost(void)
{
	__u32 zero = 0;
	__u64 *n = bpf_map_lookup_elem(&lost, &zero);

	if (n)
		__sync_fetch_and_add(n, 1);
}

static void end_wait(struct thread *t, __u64 now_ns)
{
	struct wait *w = bpf_ringbuf_reserve(&waits, sizeof(*w), 0);

	if (!w) {
		note_lost();
		return;
	}
	w->cpu = t->cpu;
	w->from_ns = t->since_ns;
	w->to_ns = now_ns;
	w->uncounted = t->halting;
	/* The reader looks by itself. */
	bpf_ringbuf_submit(w, BPF_RB_NO_WAKEUP);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, _Bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)
{
	__u64 now_ns = bpf_ktime_get_ns();
	struct thread *t = thread_of(prev);

	if (t) {
		t->since_ns = prev_state ? 0 : now_ns;
		t->halting = preempt && prev_state;
	}
	t = thread_of(next);
	if (t && t->since_ns) {
		end_wait(t, now_ns);
		t->since_ns = 0;
	}
	return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(on_wakeup, struct task_struct *p)
{
	struct thread *t = thread_of(p);

	/* If it is still on its CPU, the switch that follows sets this anew. */
	if (t && !t->since_ns)
		t->since_ns = bpf_ktime_get_ns();
	return 0;
}
