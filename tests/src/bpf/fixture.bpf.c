/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A small sched_ext scheduler for tests: FIFO over one shared queue, or by weight, and ways to misbehave on purpose.
 *
 * The kernel's types and kfuncs are declared as far as they are used (kernel/sched/ext.c of Linux 6.12; four kfuncs have
 * other names from 6.13 on).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

char _license[] SEC("license") = "Dual BSD/GPL";

#define SHARED_DSQ 1
#define HELD_DSQ 2
#define STARVED_DSQ 3
#define SCX_DSQ_LOCAL (1ULL << 63 | 2)
#define SCX_DSQ_LOCAL_ON (1ULL << 63 | 1ULL << 62)
#define SCX_KICK_IDLE 1
#define SCX_ENQ_WAKEUP 1
#define CLOCK_MONOTONIC 1 /* include/uapi/linux/time.h */
#define MAX_WAITING 4096

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct cpumask {
	unsigned long bits[1];
};

struct sched_ext_entity {
	__u32 weight;
	__u64 slice;
	__u64 dsq_vtime;
};

struct task_struct {
	int pid;
	int nr_cpus_allowed;
	const struct cpumask *cpus_ptr;
	struct sched_ext_entity scx;
	char comm[16];
};

enum scx_exit_kind { SCX_EXIT_NONE };

struct scx_exit_info {
	enum scx_exit_kind kind;
	const char *reason;
	char *msg;
	char *dump;
};
#pragma clang attribute pop

struct bpf_iter_scx_dsq {
	__u64 __opaque[6];
} __attribute__((aligned(8)));

struct sched_ext_ops {
	__s32 (*select_cpu)(struct task_struct *p, __s32 prev_cpu, __u64 wake_flags);
	void (*enqueue)(struct task_struct *p, __u64 enq_flags);
	void (*dispatch)(__s32 cpu, struct task_struct *prev);
	void (*running)(struct task_struct *p);
	void (*stopping)(struct task_struct *p, _Bool runnable);
	void (*enable)(struct task_struct *p);
	__s32 (*init)(void);
	void (*exit)(struct scx_exit_info *info);
	__u32 timeout_ms;
	char name[128];
};

__s32 scx_bpf_create_dsq(__u64 dsq_id, __s32 node) __ksym;
__s32 scx_bpf_select_cpu_dfl(struct task_struct *p, __s32 prev_cpu, __u64 wake_flags, _Bool *is_idle) __ksym;
__s32 scx_bpf_pick_idle_cpu(const struct cpumask *cpus_allowed, __u64 flags) __ksym;
void scx_bpf_kick_cpu(__s32 cpu, __u64 flags) __ksym;
void scx_bpf_error_bstr(char *fmt, unsigned long long *data, __u32 data_len) __ksym;
__u32 scx_bpf_nr_cpu_ids(void) __ksym;
__s32 scx_bpf_dsq_nr_queued(__u64 dsq_id) __ksym;
struct task_struct *bpf_task_from_pid(__s32 pid) __ksym;
void bpf_task_release(struct task_struct *p) __ksym;
_Bool bpf_cpumask_test_cpu(__u32 cpu, const struct cpumask *cpumask) __ksym;
void scx_bpf_dispatch(struct task_struct *p, __u64 dsq_id, __u64 slice, __u64 enq_flags) __ksym __weak;
void scx_bpf_dsq_insert(struct task_struct *p, __u64 dsq_id, __u64 slice, __u64 enq_flags) __ksym __weak;
void scx_bpf_dispatch_vtime(struct task_struct *p, __u64 dsq_id, __u64 slice, __u64 vtime, __u64 enq_flags) __ksym __weak;
void scx_bpf_dsq_insert_vtime(struct task_struct *p, __u64 dsq_id, __u64 slice, __u64 vtime, __u64 enq_flags) __ksym
	__weak;
_Bool scx_bpf_consume(__u64 dsq_id) __ksym __weak;
_Bool scx_bpf_dsq_move_to_local(__u64 dsq_id) __ksym __weak;
int bpf_iter_scx_dsq_new(struct bpf_iter_scx_dsq *it, __u64 dsq_id, __u64 flags) __ksym;
struct task_struct *bpf_iter_scx_dsq_next(struct bpf_iter_scx_dsq *it) __ksym;
void bpf_iter_scx_dsq_destroy(struct bpf_iter_scx_dsq *it) __ksym;
_Bool scx_bpf_dispatch_from_dsq(struct bpf_iter_scx_dsq *it, struct task_struct *p, __u64 dsq_id, __u64 enq_flags) __ksym
	__weak;
_Bool scx_bpf_dsq_move(struct bpf_iter_scx_dsq *it, struct task_struct *p, __u64 dsq_id, __u64 enq_flags) __ksym __weak;

/* Options. */
const volatile __u64 slice_ns = 20000000;
const volatile __u64 late_ns;
const volatile __u64 error_after_ns;
const volatile _Bool scatter;
const volatile _Bool race;
const volatile __u32 stray_every;
const volatile __u32 lose_every;
const volatile __u64 avoided_cpus;
const volatile _Bool by_weight;
const volatile _Bool stall;
const volatile _Bool starve;
const volatile _Bool misplace;
/* The tasks that a fault is for; empty: all. */
const volatile char victim[16];

/* How it ended. */
int exit_kind;
char exit_reason[128];
char exit_msg[1024];
char exit_dump[32768];

static __u64 started_ns;
static int stalled_pid;
static __u32 next_cpu;
static __u32 nr_wakeups, nr_losable;
static __u64 vtime_now;
/* The task that is about to be dispatched. With `race`, of all CPUs at once: that is the bug. */
static volatile __s32 candidate;

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, MAX_WAITING);
	__type(value, __s32);
} waiting SEC(".maps");

struct hold_timer {
	struct bpf_timer timer;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hold_timer);
} timers SEC(".maps");

static __always_inline void insert(struct task_struct *p, __u64 dsq, __u64 enq_flags)
{
	if (bpf_ksym_exists(scx_bpf_dsq_insert))
		scx_bpf_dsq_insert(p, dsq, slice_ns, enq_flags);
	else
		scx_bpf_dispatch(p, dsq, slice_ns, enq_flags);
}

/* No CPU stays idle beside a task that waits. */
static __always_inline void insert_by_weight(struct task_struct *p, __u64 enq_flags)
{
	__s32 idle = scx_bpf_pick_idle_cpu(p->cpus_ptr, 0);
	__u64 vtime = p->scx.dsq_vtime;

	/* Who has slept long gets a slice ahead of the others, no more. */
	if ((__s64)(vtime - (vtime_now - slice_ns)) < 0)
		vtime = vtime_now - slice_ns;
	if (bpf_ksym_exists(scx_bpf_dsq_insert_vtime))
		scx_bpf_dsq_insert_vtime(p, SHARED_DSQ, slice_ns, vtime, enq_flags);
	else
		scx_bpf_dispatch_vtime(p, SHARED_DSQ, slice_ns, vtime, enq_flags);
	if (idle >= 0)
		scx_bpf_kick_cpu(idle, SCX_KICK_IDLE);
}

static __always_inline _Bool move_to_local(__u64 dsq)
{
	return bpf_ksym_exists(scx_bpf_dsq_move_to_local) ? scx_bpf_dsq_move_to_local(dsq) : scx_bpf_consume(dsq);
}

static __always_inline _Bool is_victim(struct task_struct *p)
{
	if (!victim[0])
		return 1;
	for (int i = 0; i < 16; i++) {
		if (p->comm[i] != victim[i])
			return 0;
		if (!victim[i])
			break;
	}
	return 1;
}

static __always_inline _Bool is_avoided(__u32 cpu)
{
	return cpu < 64 && avoided_cpus >> cpu & 1;
}

/* The first CPU of eight that is not avoided and that the task may run on; -1: none. */
static __always_inline __s32 unavoided_cpu(struct task_struct *p)
{
	for (__u32 cpu = 0; cpu < 8; cpu++) {
		if (cpu < scx_bpf_nr_cpu_ids() && !is_avoided(cpu) && bpf_cpumask_test_cpu(cpu, p->cpus_ptr))
			return cpu;
	}
	return -1;
}

/* The next CPU in turn that the task may run on; -1: none of the eight after the last one. */
static __always_inline __s32 next_allowed_cpu(struct task_struct *p)
{
	__u32 nr = scx_bpf_nr_cpu_ids(), cpu = __sync_fetch_and_add(&next_cpu, 1);

	for (int i = 0; i < 8; i++, cpu++) {
		__u32 to = nr ? cpu % nr : 0;

		if (bpf_cpumask_test_cpu(to, p->cpus_ptr))
			return to;
	}
	return -1;
}

SEC("struct_ops/fixture_select_cpu")
__s32 BPF_PROG(fixture_select_cpu, struct task_struct *p, __s32 prev_cpu, __u64 wake_flags)
{
	_Bool idle = 0;
	__s32 cpu;

	if (late_ns || scatter || race || stall || starve || misplace || lose_every)
		return prev_cpu;
	if (stray_every && __sync_fetch_and_add(&nr_wakeups, 1) % stray_every == 0) {
		cpu = next_allowed_cpu(p);
		insert(p, SCX_DSQ_LOCAL, 0);
		return cpu < 0 ? prev_cpu : cpu;
	}
	cpu = scx_bpf_select_cpu_dfl(p, prev_cpu, wake_flags, &idle);
	if (is_avoided(cpu)) {
		cpu = unavoided_cpu(p);
		return cpu < 0 ? prev_cpu : cpu;
	}
	if (idle)
		insert(p, SCX_DSQ_LOCAL, 0);
	return cpu;
}

/* The first victim is never dispatched again. */
static __always_inline _Bool stalls(struct task_struct *p)
{
	if (!stall)
		return 0;
	if (stalled_pid)
		return p->pid == stalled_pid;
	if (!is_victim(p))
		return 0;
	stalled_pid = p->pid;
	return 1;
}

/* Sends a victim that may not run on every CPU to one where it may not, which the kernel answers with the scheduler's end. */
static __always_inline _Bool misplaces(struct task_struct *p, __u64 enq_flags)
{
	if (!misplace || !is_victim(p))
		return 0;
	for (__u32 cpu = 0; cpu < 8; cpu++) {
		if (cpu < scx_bpf_nr_cpu_ids() && !bpf_cpumask_test_cpu(cpu, p->cpus_ptr)) {
			insert(p, SCX_DSQ_LOCAL_ON | cpu, enq_flags);
			return 1;
		}
	}
	return 0;
}

static __always_inline _Bool loses(struct task_struct *p, __u64 enq_flags)
{
	if (!lose_every || !(enq_flags & SCX_ENQ_WAKEUP) || !is_victim(p))
		return 0;
	return __sync_add_and_fetch(&nr_losable, 1) % lose_every == 0;
}

static __always_inline void scatter_task(struct task_struct *p, __u64 enq_flags)
{
	__s32 to = next_allowed_cpu(p);

	if (to < 0) {
		insert(p, SHARED_DSQ, enq_flags);
		return;
	}
	insert(p, SCX_DSQ_LOCAL_ON | to, enq_flags);
	scx_bpf_kick_cpu(to, SCX_KICK_IDLE);
}

/* Tasks that may run anywhere wait in a queue of our own; those that may not are no part of the game. */
static __always_inline _Bool race_enqueue(struct task_struct *p)
{
	__s32 pid = p->pid;

	if (p->nr_cpus_allowed == 1 || bpf_map_push_elem(&waiting, &pid, 0))
		return 0;
	scx_bpf_kick_cpu(bpf_get_smp_processor_id(), SCX_KICK_IDLE);
	return 1;
}

/* Two CPUs here at once: the second one's store to `candidate` makes the first one forget its task. */
static __always_inline void race_dispatch(void)
{
	struct task_struct *p;
	__s32 pid;

	if (bpf_map_pop_elem(&waiting, &pid))
		return;
	candidate = pid;
	if (scx_bpf_dsq_nr_queued(SHARED_DSQ) > MAX_WAITING)
		return;
	p = bpf_task_from_pid(candidate);
	if (!p)
		return;
	insert(p, SHARED_DSQ, 0);
	bpf_task_release(p);
}

SEC("struct_ops/fixture_enqueue")
void BPF_PROG(fixture_enqueue, struct task_struct *p, __u64 enq_flags)
{
	__u64 now = bpf_ktime_get_ns();

	if (error_after_ns && now > started_ns + error_after_ns) {
		static char fmt[] = "error on purpose after %llu ns";
		unsigned long long args[] = { error_after_ns };

		scx_bpf_error_bstr(fmt, args, sizeof(args));
	}
	if (stalls(p) || misplaces(p, enq_flags) || loses(p, enq_flags))
		return;
	if (scatter) {
		scatter_task(p, enq_flags);
		return;
	}
	if (race && race_enqueue(p))
		return;
	if (starve && is_victim(p)) {
		insert(p, STARVED_DSQ, enq_flags);
	} else if (late_ns && is_victim(p)) {
		p->scx.dsq_vtime = now + late_ns;
		insert(p, HELD_DSQ, enq_flags);
	} else if (avoided_cpus && p->nr_cpus_allowed == 1) {
		insert(p, SCX_DSQ_LOCAL, enq_flags);
	} else if (by_weight) {
		insert_by_weight(p, enq_flags);
		return;
	} else {
		insert(p, SHARED_DSQ, enq_flags);
	}
	scx_bpf_kick_cpu(bpf_get_smp_processor_id(), SCX_KICK_IDLE);
}

/*
 * Who is due comes first: all tasks are held for the same time, so that they come due in the order of the queue. `true`: this CPU has
 * a task.
 */
static __always_inline _Bool release_held(__s32 cpu)
{
	struct bpf_iter_scx_dsq held;
	struct task_struct *p;
	_Bool moved = 0;

	bpf_iter_scx_dsq_new(&held, HELD_DSQ, 0);
	while (!moved && (p = bpf_iter_scx_dsq_next(&held)) && bpf_ktime_get_ns() >= p->scx.dsq_vtime) {
		if (!bpf_cpumask_test_cpu(cpu, p->cpus_ptr))
			continue;
		moved = bpf_ksym_exists(scx_bpf_dsq_move) ? scx_bpf_dsq_move(&held, p, SCX_DSQ_LOCAL, 0) :
							     scx_bpf_dispatch_from_dsq(&held, p, SCX_DSQ_LOCAL, 0);
	}
	bpf_iter_scx_dsq_destroy(&held);
	return moved;
}

SEC("struct_ops/fixture_dispatch")
void BPF_PROG(fixture_dispatch, __s32 cpu, struct task_struct *prev)
{
	if (is_avoided(cpu) || (late_ns && release_held(cpu)))
		return;
	if (race)
		race_dispatch();
	if (!move_to_local(SHARED_DSQ) && starve)
		move_to_local(STARVED_DSQ);
}

/* Virtual time of the queue is that of the task which started last; a task's own goes the faster the less it weighs. */
SEC("struct_ops/fixture_running")
void BPF_PROG(fixture_running, struct task_struct *p)
{
	if ((__s64)(p->scx.dsq_vtime - vtime_now) > 0)
		vtime_now = p->scx.dsq_vtime;
}

SEC("struct_ops/fixture_stopping")
void BPF_PROG(fixture_stopping, struct task_struct *p, _Bool runnable)
{
	/* Nice 0 weighs 100 (SCX weights are those of cgroups). */
	p->scx.dsq_vtime += (slice_ns - p->scx.slice) * 100 / p->scx.weight;
}

SEC("struct_ops/fixture_enable")
void BPF_PROG(fixture_enable, struct task_struct *p)
{
	p->scx.dsq_vtime = vtime_now;
}

static int kick_all(void *map, int *key, struct hold_timer *t)
{
	__u32 nr = scx_bpf_nr_cpu_ids();

	for (__u32 cpu = 0; cpu < 256; cpu++) {
		if (cpu >= nr)
			break;
		scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
	}
	bpf_timer_start(&t->timer, late_ns, 0);
	return 0;
}

SEC("struct_ops.s/fixture_init")
__s32 BPF_PROG(fixture_init)
{
	__u32 key = 0;
	struct hold_timer *t = bpf_map_lookup_elem(&timers, &key);

	started_ns = bpf_ktime_get_ns();
	if (late_ns && t) {
		bpf_timer_init(&t->timer, &timers, CLOCK_MONOTONIC);
		bpf_timer_set_callback(&t->timer, kick_all);
		bpf_timer_start(&t->timer, late_ns, 0);
	}
	for (__u32 dsq = SHARED_DSQ; dsq <= STARVED_DSQ; dsq++) {
		__s32 error = scx_bpf_create_dsq(dsq, -1);

		if (error)
			return error;
	}
	return 0;
}

SEC("struct_ops/fixture_exit")
void BPF_PROG(fixture_exit, struct scx_exit_info *info)
{
	bpf_probe_read_kernel_str(exit_reason, sizeof(exit_reason), info->reason);
	bpf_probe_read_kernel_str(exit_msg, sizeof(exit_msg), info->msg);
	bpf_probe_read_kernel_str(exit_dump, sizeof(exit_dump), info->dump);
	exit_kind = info->kind;
}

/* Loaded only on request: reads beyond its context, which no verifier accepts. */
SEC("?raw_tp/sched_switch")
int refused(unsigned long long *ctx)
{
	return ctx[64];
}

SEC(".struct_ops.link")
struct sched_ext_ops fixture_ops = {
	.select_cpu = (void *)fixture_select_cpu,
	.enqueue = (void *)fixture_enqueue,
	.dispatch = (void *)fixture_dispatch,
	.running = (void *)fixture_running,
	.stopping = (void *)fixture_stopping,
	.enable = (void *)fixture_enable,
	.init = (void *)fixture_init,
	.exit = (void *)fixture_exit,
	.timeout_ms = 0,
	.name = "fixture",
};
