/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A struct_ops program that does nothing, for the kernel's own bpf_dummy_ops (net/bpf/bpf_dummy_struct_ops.c): it is called in the same
 * way as a scheduler's programs, and what the kernel's statistics say of it is what measuring costs.
 */
#include "kernel_types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char _license[] SEC("license") = "Dual BSD/GPL";

struct bpf_dummy_ops_state;

struct bpf_dummy_ops {
	int (*test_1)(struct bpf_dummy_ops_state *state);
};

SEC("struct_ops/empty")
int empty(unsigned long long *ctx)
{
	return 0;
}

SEC(".struct_ops")
struct bpf_dummy_ops baseline = {
	.test_1 = (void *)empty,
};
