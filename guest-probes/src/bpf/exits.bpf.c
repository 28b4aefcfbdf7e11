/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The ends of sched_ext schedulers, for kernels with the tracepoint sched_ext_exit (from Linux 7.x on). It fires once for each scheduler,
 * when its exit kind is settled; the message follows later.
 */
#include "kernel_types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char _license[] SEC("license") = "Dual BSD/GPL";

/* One end; ExitTrace in exit_trace.rs reads it. */
struct exit {
	__u32 kind; /* of enum scx_exit_kind */
	__s32 level; /* 0: the root scheduler, else a sub-scheduler of a cgroup */
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} exits SEC(".maps");

SEC("tp_btf/sched_ext_exit")
int BPF_PROG(sched_ext_exit, struct scx_sched *sch, __u32 kind)
{
	struct exit *e = bpf_ringbuf_reserve(&exits, sizeof(*e), 0);

	if (!e)
		return 0;
	e->kind = kind;
	e->level = bpf_core_field_exists(sch->level) ? sch->level : 0;
	bpf_ringbuf_submit(e, 1 /* BPF_RB_NO_WAKEUP */);
	return 0;
}
