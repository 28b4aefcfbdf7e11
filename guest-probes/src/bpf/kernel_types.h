/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The kernel's types as far as the probes read them (include/linux/sched.h, sched/ext.h, cgroup-defs.h, kernfs.h, hrtimer_types.h and
 * kernel/sched/sched.h of Linux 6.12).
 * Offsets come from the running kernel's BTF.
 */
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef short __s16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_RINGBUF = 27,
};

#define BPF_F_MMAPABLE (1U << 10)

#define PF_KTHREAD 0x00200000
#define TASK_DEAD 0x80
#define TASK_WAKING 0x200

#define SCX_TASK_QUEUED 1
#define SCX_DSQ_FLAG_BUILTIN (1ULL << 63)
#define SCX_DSQ_LOCAL (SCX_DSQ_FLAG_BUILTIN | 2)

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct cpumask {
	unsigned long bits[1];
};

struct sched_info {
	unsigned long pcount;
	unsigned long long run_delay;
};

struct load_weight {
	unsigned long weight;
};

struct rq {
	unsigned int nr_running;
	__u64 clock;
};

struct cfs_rq {
	struct rq *rq;
	__u64 throttled_clock_self;
	__u64 throttled_clock_self_time;
};

struct task_group {
	struct cfs_rq **cfs_rq;
};

struct cfs_tg_state {
	struct cfs_rq cfs_rq;
};

struct sched_entity {
	struct load_weight load;
	__u64 sum_exec_runtime;
	struct cfs_rq *cfs_rq;
};

struct scx_sched {
	__s32 level;
};

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct timerqueue_node {
	__s64 expires;
};

struct hrtimer {
	struct timerqueue_node node;
};

struct tick_sched {
	struct hrtimer sched_timer;
};

struct thread_info {
	__u32 cpu;
};

struct scx_dispatch_q {
	__u32 nr;
	__u64 id;
};

struct sched_ext_entity {
	struct scx_dispatch_q *dsq;
	__u32 flags;
	__u64 ddsp_dsq_id;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int __state;
	unsigned int flags;
	int prio;
	int static_prio;
	unsigned int policy;
	int pid;
	int tgid;
	const struct cpumask *cpus_ptr;
	struct sched_entity se;
	struct sched_ext_entity scx;
	struct task_group *sched_task_group;
	_Bool throttled;
	struct sched_info sched_info;
	struct css_set *cgroups;
	char comm[16];
	unsigned in_execve : 1;
};

struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct pt_regs;
struct linux_binprm;

#pragma clang attribute pop
