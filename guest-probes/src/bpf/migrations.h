/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Migrations and their causes.
 */
#pragma once

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
	struct task_state *s = state_of(p);
	__u64 now = bpf_ktime_get_ns();
	struct record *r;

	note_run(PROBE_MIGRATE);
	/* It leaves one runqueue for another, and sched_info sees that it is enqueued there. */
	if (s) {
		s->enqueue.uncounted = 0;
		if (!s->running)
			move_throttling(&s->throttling, p, dest_cpu);
	}
	if (now < window_start_ns || now >= window_end_ns || !c || from == (__u32)dest_cpu)
		return 0;
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
