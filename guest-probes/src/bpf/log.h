/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The log of records: for each CPU a part that it alone writes, and that wraps as far as its reader has come.
 *
 * Positions only grow; the record of a position lies at its lowest bits. Where nobody reads, `consumed` stays 0, and the log is
 * full after one turn. A reader in the guest or on the host (ktstr-wire's `ring` module has its side of the arithmetic) looks at
 * `produced`, reads, and then stores `consumed`: x86 keeps stores in order, and loads before later stores.
 */
#pragma once

const volatile __u32 records_per_cpu = 1;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* the agent sets CPUs times records_per_cpu */
	__type(key, __u32);
	__type(value, struct record);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_CPUS);
	__type(key, __u32);
	__type(value, struct log_reader);
} readers SEC(".maps");

/* Looks how far the reader has come. A record for which there is no room is counted. */
static __always_inline _Bool log_has_room(struct cpu_state *c, __u32 cpu, __u64 now)
{
	struct log_reader *reader = bpf_map_lookup_elem(&readers, &cpu);

	if (reader)
		c->limit = *(volatile __u64 *)&reader->consumed + records_per_cpu;
	if (c->produced < c->limit) {
		c->gap = 0;
		return 1;
	}
	if (!c->dropped)
		c->first_drop_ns = now;
	c->last_drop_ns = now;
	c->dropped++;
	c->gap++;
	if (c->gap > c->longest_gap)
		c->longest_gap = c->gap;
	return 0;
}

/* The next record of this CPU, or NULL if there is no room. It counts from log_commit() on. All its fields may be old. */
static __always_inline struct record *log_reserve(struct cpu_state *c, __u32 cpu, __u64 now)
{
	__u32 key;

	if (c->produced >= c->limit && !log_has_room(c, cpu, now))
		return 0;
	key = c->first + ((__u32)c->produced & c->mask);
	return bpf_map_lookup_elem(&records, &key);
}

static __always_inline void log_commit(struct cpu_state *c)
{
	barrier();
	*(volatile __u64 *)&c->produced += 1;
}
