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
 *
 * The time is read here. The tracepoint's own is an address up to Linux 7.2 and a value from 7.3 on; the tick goes by the same
 * clock (CLOCK_MONOTONIC, tick_setup_sched_timer() in kernel/time/tick-sched.c).
 */
SEC("tp_btf/hrtimer_expire_entry")
int BPF_PROG(hrtimer_expire_entry, struct hrtimer *timer)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct cpu_state *c = bpf_map_lookup_elem(&cpus, &cpu);
	const struct tick_sched *tick;
	__u64 now, due;

	note_run(PROBE_TICK);
	if (!c || !bpf_ksym_exists(&tick_cpu_sched) || is_stopper(bpf_get_current_task_btf()))
		return 0;
	tick = bpf_this_cpu_ptr(&tick_cpu_sched);
	if ((long)&tick->sched_timer != (long)timer)
		return 0;
	now = bpf_ktime_get_ns();
	due = timer->node.expires;
	if (due < window_start_ns || due >= window_end_ns)
		return 0;
	c->nr_ticks++;
	if (now > due && now - due > c->tick_late_max_ns)
		c->tick_late_max_ns = now - due;
	return 0;
}
