/*
 * Virtual time in which the CPUs of a guest run in parallel.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef KTSTR_SLOTS_H
#define KTSTR_SLOTS_H

#include "hw/core/cpu.h"

/* What the options of -icount set; see slots.c. */
typedef struct SlotsConfig {
    /* Length of a slot, instructions. A round lasts as many nanoseconds. */
    int64_t length;
    /* Seed of the order of the CPUs in the rounds. */
    uint64_t order;
    /* Descriptor of the page that is shared with the host; -1: none. */
    int page;
    /* Index of a CPU that gets two thirds of each slot, to see that this is noticed; -1: none. */
    int slow;
} SlotsConfig;

extern SlotsConfig slots_config;

/* Starts the thread that runs all CPUs. */
void slots_start_vcpu_thread(CPUState *cpu);
/* Has the thread look at stop requests and queued work. */
void slots_kick_vcpu_thread(CPUState *cpu);
void slots_handle_interrupt(CPUState *cpu, int mask);

/* A CPU enters 64-bit mode, which firmware does not. */
void slots_kernel_starts(CPUState *cpu);

/*
 * The most instructions of a translated block. The compiler of blocks ends longer ones where its buffers are full, which depends on the
 * host, and a slot may end with a block.
 */
#define SLOTS_BLOCK_INSTRUCTIONS 32
/* The rest of the slot is too short for the next block: whether the CPU has it in its next slot instead. */
bool slots_carry(CPUState *cpu);

/* Virtual time, nanoseconds. The caller holds the clock's seqlock, for reading or writing. */
int64_t slots_now_locked(void);
/* A CPU executed instructions. The caller holds the clock's seqlock for writing. */
void slots_executed_locked(int64_t instructions);

#endif
