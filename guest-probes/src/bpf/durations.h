/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Counters and histograms of durations.
 */
#pragma once

static __always_inline void account(struct duration_stats *d, __u64 ns)
{
	if (ns < d->min_ns || !d->count)
		d->min_ns = ns;
	if (ns > d->max_ns)
		d->max_ns = ns;
	d->count++;
	d->sum_ns += ns;
}

/*
 * How far to shift `x`, which is below 1 << 63, so that less than `1 << bits` is left: `bits`, a power of two, or not at all. A
 * branch would be shorter, but five in a row are 32 ways for the verifier to walk, all anew where two durations follow each other.
 */
static __always_inline __u64 excess(__u64 x, __u32 bits)
{
	__u64 below = (1ULL << bits) - 1 - x;

	barrier_var(below);
	return (below >> 63) * bits;
}

static __always_inline __u32 bucket_of(__u64 ns)
{
	__u64 octave = 4, x, shift;
	__u32 bits;

	if (ns < 16)
		return ns;
	if (ns > HISTOGRAM_MAX_NS)
		ns = HISTOGRAM_MAX_NS;
	/* Of the bits above the lowest four, the highest that is set, by halving. */
	x = ns >> 4;
#pragma unroll
	for (bits = 32; bits > 1; bits /= 2) {
		shift = excess(x, bits);
		x >>= shift;
		octave += shift;
	}
	octave += x >> 1;
	return (octave - 3) * 16 + ((ns >> (octave - 4)) & 15);
}

/* Blocks are given at the first slice of a task in the window, as long as there are some. */
static __always_inline struct histogram_block *block_of(struct task_state *s)
{
	if (s->block == NO_BLOCK && next_block < nr_blocks)
		s->block = __sync_fetch_and_add(&next_block, 1);
	return bpf_map_lookup_elem(&histograms, &s->block);
}

static __always_inline void count_in(struct histogram_block *b, __u32 histogram, __u64 ns)
{
	__u32 i = histogram * HISTOGRAM_BUCKETS + bucket_of(ns);

	if (b && i < NR_HISTOGRAMS * HISTOGRAM_BUCKETS)
		b->buckets[i]++;
}
