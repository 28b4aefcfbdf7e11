/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * How late the timer's ticks come.
 */
#pragma once

/* The timer tick of each CPU (kernel/time/tick-sched.c). */
extern const struct tick_sched tick_cpu_sched __ksym __weak;

/* A CPU's stopper (sched_set_stop_task() in kernel/sched/core.c): the kernel's only threads of the highest FIFO priority. */
static __always_inline _Bool is_stopper(const struct task_struct *p)
{
	return p->prio == 0 && p->flags & PF_KTHREAD;
}

/*
 * How late a tick is says how long the CPU was kept from running. Of other timers it does not: one may be armed when it is
 * due already, as for a sleep up to a moment that has passed. Nor where the tick finds a stopper, which waits for all the other
 * CPUs with interrupts off.
 */
SEC("tp_btf/hrtimer_expire_entry")
int BPF_PROG(hrtimer_expire_entry, struct hrtimer *timer, __s64 *basenow)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct cpu_state *c = bpf_map_lookup_elem(&cpus, &cpu);
	const struct tick_sched *tick;
	__s64 now = 0, late;
	__u64 due;

	if (!c || !bpf_ksym_exists(&tick_cpu_sched) || is_stopper(bpf_get_current_task_btf()))
		return 0;
	tick = bpf_this_cpu_ptr(&tick_cpu_sched);
	if ((long)&tick->sched_timer != (long)timer || bpf_probe_read_kernel(&now, sizeof(now), basenow))
		return 0;
	late = now - timer->node.expires;
	due = bpf_ktime_get_ns() - late;
	if (late > 0 && due >= window_start_ns && due < window_end_ns && (__u64)late > c->tick_late_max_ns)
		c->tick_late_max_ns = late;
	return 0;
}
