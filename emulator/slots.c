/*
 * Virtual time in which the CPUs of a guest run in parallel.
 *
 * One thread emulates all CPUs. Time passes in rounds of L nanoseconds, and in each round every CPU owns a slot of L
 * instructions, in an order that is drawn anew for each round. A CPU that is halted in its slot leaves the rest of it
 * unused, and that time passes all the same. So each CPU executes an instruction a nanosecond, whatever the others do.
 *
 * With N CPUs, N instructions (executed or passed) are a nanosecond in a round. While all CPUs but one are halted, there are
 * no rounds: that one executes an instruction a nanosecond until another one has something to do. While all are halted, time
 * jumps to the next timer.
 *
 * Only the emulating thread moves virtual time and runs its timers, and no clock of the host decides when: the main thread
 * can interrupt the emulation, but a slot goes on where it was interrupted.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/mman.h>
#include "qemu/error-report.h"
#include "qemu/guest-random.h"
#include "qemu/main-loop.h"
#include "qemu/notify.h"
#include "qemu/rcu.h"
#include "qemu/seqlock.h"
#include "qemu/timer.h"
#include "exec/cpu-common.h"
#include "hw/core/cpu.h"
#include "system/cpus.h"
#include "system/cpu-timers.h"
#include "system/cpu-timers-internal.h"
#include "system/tcg.h"
#include "tcg/startup.h"
#include "tcg-accel-ops.h"
#include "slots.h"

#define MAX_CPUS 256
/* When the kernel enters 64-bit mode, nanoseconds: later than the firmware of any compiler does it. */
#define KERNEL_START_NS 100000000
/* What the low half of the counter of instructions can hold. */
#define MAX_BUDGET 0xffff

SlotsConfig slots_config = { .length = 4000, .order = 1, .page = -1, .slow = -1 };

/* What the host reads of a CPU; 64 bytes. */
typedef struct CpuAccount {
    /* Slots that it had. */
    uint64_t slots;
    /* Instructions that it executed in them. */
    uint64_t executed;
    /* Instructions' time of them that passed unused. */
    uint64_t passed;
    /* Instructions that it executed outside of rounds, while all others were halted. */
    uint64_t alone;
    /* The longest time that it had something to do and no slot, nanoseconds. */
    uint64_t longest_wait_ns;
    uint64_t reserved[3];
} CpuAccount;

/* The page that is shared with the host. */
typedef struct Page {
    /* Written by the host: the guest talks to it from now on, so that halted CPUs wait in real time. */
    uint32_t live;
    uint32_t nr_cpus;
    uint64_t slot_length;
    uint64_t rounds;
    uint64_t reserved[5];
    CpuAccount cpus[MAX_CPUS];
} Page;

static struct {
    /* The clock: base_ns + units / rate. */
    int64_t base_ns;
    int64_t units;
    int64_t rate;

    int nr_cpus;
    CPUState *cpus[MAX_CPUS];
    int order[MAX_CPUS];
    uint64_t random;

    /* The CPU that executes, or NULL. */
    CPUState *running;
    /* It is the only one with something to do. */
    bool alone;
    /* A kernel has begun. */
    bool started;
    /* Somebody wants to stop CPUs or has queued work. */
    bool attention;
    /* Execution may end before a block that the rest of the slot is too short for; it did. */
    bool may_carry, carried;
    /* Instructions of a CPU's slot that it has in its next one. */
    int64_t carry[MAX_CPUS];
    /* Since when a CPU has had something to do and no slot; -1: it has nothing to do, or is in its slot. */
    int64_t waits_since[MAX_CPUS];

    Page *page;
    Page own_page;
} slots = { .rate = 1 };

int64_t slots_now_locked(void)
{
    /* The rate is 1 for most of a boot, and the guest reads the clock often. */
    return slots.base_ns + (slots.rate == 1 ? slots.units : slots.units / slots.rate);
}

void slots_executed_locked(int64_t instructions)
{
    slots.units += instructions;
}

static void write_lock(void)
{
    seqlock_write_lock(&timers_state.vm_clock_seqlock, &timers_state.vm_clock_lock);
}

static void write_unlock(void)
{
    seqlock_write_unlock(&timers_state.vm_clock_seqlock, &timers_state.vm_clock_lock);
}

/* Time passes in which no CPU executes. */
static void pass_units(int64_t units)
{
    write_lock();
    slots.units += units;
    write_unlock();
}

static void jump_ns(int64_t ns)
{
    write_lock();
    slots.base_ns += ns;
    write_unlock();
}

/* From now on so many instructions are a nanosecond. No part of a nanosecond is lost: it changes between rounds only. */
static void set_rate(int64_t rate)
{
    write_lock();
    slots.base_ns = slots_now_locked();
    slots.units = 0;
    slots.rate = rate;
    write_unlock();
}

static int64_t now_ns(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
}

/* Nanoseconds to the next timer, -1 without one. */
static int64_t deadline_ns(void)
{
    return qemu_clock_deadline_ns_all(QEMU_CLOCK_VIRTUAL, QEMU_TIMER_ATTR_ALL);
}

/* So many instructions, executed or passed, until the next timer is due, but at most so many; 0: it is due. */
static int64_t units_to_timer(int64_t most)
{
    int64_t ns = deadline_ns();

    if (ns < 0 || ns >= most) {
        return most;
    }
    /* From the clock's last whole nanosecond. */
    return MIN(most, MAX(ns * slots.rate - slots.units % slots.rate, 0));
}

static void run_timers(void)
{
    qemu_clock_run_timers(QEMU_CLOCK_VIRTUAL);
}

/*
 * How long firmware takes depends on the compiler that built it. Time jumps to a fixed one where the kernel begins, so that what
 * the kernel does, and when, depends on the kernel alone. The instruction is the last one of what the CPU executes without a look at
 * the counter, so that its time is exact.
 */
void slots_kernel_starts(CPUState *cpu)
{
    int64_t executed = cpu->icount_budget - (cpu->neg.icount_decr.u16.low + cpu->icount_extra);
    int64_t ns = KERNEL_START_NS - (slots.base_ns + (slots.units + executed) / slots.rate);

    if (slots.started) {
        return;
    }
    slots.started = true;
    if (ns > 0) {
        jump_ns(ns);
        /* Timers may be due now. */
        cpu_exit(cpu);
    }
}

static int index_of(CPUState *cpu)
{
    return cpu->cpu_index;
}

void slots_kick_vcpu_thread(CPUState *cpu)
{
    CPUState *running = qatomic_read(&slots.running);

    qatomic_set_mb(&slots.attention, true);
    if (running) {
        cpu_exit(running);
    }
}

void slots_handle_interrupt(CPUState *cpu, int mask)
{
    bool halted = cpu->halted;
    CPUState *running = qatomic_read(&slots.running);

    tcg_handle_interrupt(cpu, mask);
    if (!qemu_in_vcpu_thread()) {
        slots_kick_vcpu_thread(cpu);
        return;
    }
    if (cpu == running) {
        return;
    }
    if (halted && slots.waits_since[index_of(cpu)] < 0) {
        slots.waits_since[index_of(cpu)] = now_ns();
    }
    if (slots.alone && running) {
        cpu_exit(running);
    }
}

bool slots_carry(CPUState *cpu)
{
    if (!slots.may_carry) {
        return false;
    }
    slots.carried = true;
    cpu->icount_budget = 0;
    cpu->icount_extra = 0;
    cpu->neg.icount_decr.u16.low = 0;
    return true;
}

/* Executes at most so many instructions, or if it may carry some of them over up to a block less; returns how many it were. */
static int64_t execute(CPUState *cpu, int64_t budget, bool may_carry)
{
    int64_t before = slots.units;
    int result;

    slots.may_carry = may_carry;
    slots.carried = false;
    cpu->icount_budget = budget;
    cpu->neg.icount_decr.u16.low = MIN(MAX_BUDGET, budget);
    cpu->icount_extra = budget - cpu->neg.icount_decr.u16.low;

    current_cpu = cpu;
    qatomic_set_mb(&slots.running, cpu);
    /* Who kicked before this saw nobody run. */
    if (qatomic_read(&slots.attention)) {
        cpu_exit(cpu);
    }
    bql_unlock();
    result = tcg_cpu_exec(cpu);
    icount_update(cpu);
    cpu->neg.icount_decr.u16.low = 0;
    cpu->icount_extra = 0;
    cpu->icount_budget = 0;
    bql_lock();
    qatomic_set(&slots.running, NULL);

    if (result == EXCP_DEBUG) {
        cpu_handle_guest_debug(cpu);
    } else if (result == EXCP_ATOMIC) {
        bql_unlock();
        cpu_exec_step_atomic(cpu);
        bql_lock();
    }
    return slots.units - before;
}

/* Stops CPUs that are to stop, does queued work, and waits while the machine stands still. */
static void attend(void)
{
    while (qatomic_xchg(&slots.attention, false) || first_cpu->stopped) {
        for (int i = 0; i < slots.nr_cpus; i++) {
            qemu_wait_io_event_common(slots.cpus[i]);
        }
        if (first_cpu->stopped && !qatomic_read(&slots.attention)) {
            qemu_cond_wait_bql(first_cpu->halt_cond);
        }
    }
}

static bool is_idle(CPUState *cpu)
{
    return cpu_thread_is_idle(cpu);
}

/* The one CPU that has something to do, or NULL; *many: there are more. */
static CPUState *only_busy_cpu(bool *many)
{
    CPUState *found = NULL;

    *many = false;
    for (int i = 0; i < slots.nr_cpus; i++) {
        if (!is_idle(slots.cpus[i])) {
            if (found) {
                *many = true;
                return NULL;
            }
            found = slots.cpus[i];
        }
    }
    return found;
}

static void start_to_wait(int i)
{
    slots.waits_since[i] = is_idle(slots.cpus[i]) ? -1 : now_ns();
}

static void end_to_wait(int i)
{
    CpuAccount *account = &slots.page->cpus[i];

    if (slots.waits_since[i] >= 0 && !is_idle(slots.cpus[i])) {
        account->longest_wait_ns = MAX(account->longest_wait_ns, now_ns() - slots.waits_since[i]);
    }
    slots.waits_since[i] = -1;
}

/* One slot of a CPU. */
static void run_slot(int i)
{
    CPUState *cpu = slots.cpus[i];
    CpuAccount *account = &slots.page->cpus[i];
    int64_t left = slots_config.length + slots.carry[i];
    int64_t unusable = i == slots_config.slow ? slots_config.length / 3 : 0;

    slots.carry[i] = 0;
    end_to_wait(i);
    account->slots++;
    while (left > 0) {
        int64_t units;

        attend();
        units = units_to_timer(left);
        if (units == 0) {
            run_timers();
            continue;
        }
        if (is_idle(cpu) || left <= unusable) {
            pass_units(units);
            account->passed += units;
        } else {
            units = execute(cpu, MIN(units, left - unusable), units >= left - unusable);
            account->executed += units;
        }
        left -= units;
        if (slots.carried) {
            slots.carry[i] = left - unusable;
            slots.carried = false;
            left = unusable;
        }
    }
    start_to_wait(i);
}

/* A permutation by Fisher and Yates; numbers by xorshift (Marsaglia 2003). */
static void draw_order(void)
{
    for (int i = slots.nr_cpus - 1; i > 0; i--) {
        uint64_t x = slots.random;
        int j, other;

        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        slots.random = x;
        j = (x >> 32) % (i + 1);
        other = slots.order[i];
        slots.order[i] = slots.order[j];
        slots.order[j] = other;
    }
}

static void run_round(void)
{
    set_rate(slots.nr_cpus);
    draw_order();
    slots.page->rounds++;
    for (int i = 0; i < slots.nr_cpus; i++) {
        run_slot(slots.order[i]);
    }
    set_rate(1);
}

/* Runs a CPU as long as no other has anything to do. */
static void run_alone(CPUState *cpu)
{
    int i = index_of(cpu);
    bool many = false;

    end_to_wait(i);
    slots.alone = true;
    while (!is_idle(cpu) && !many) {
        int64_t units = units_to_timer(INT32_MAX);

        if (units == 0) {
            run_timers();
        } else {
            slots.page->cpus[i].alone += execute(cpu, units, false);
            attend();
        }
        only_busy_cpu(&many);
    }
    slots.alone = false;
    start_to_wait(i);
}

/* While no CPU has anything to do, time goes on to the next timer; in real time if what comes from the host counts. */
static void sleep_to_timer(void)
{
    int64_t ns = deadline_ns();

    if (ns < 0) {
        qemu_cond_wait_bql(first_cpu->halt_cond);
        return;
    }
    if (ns > 0 && qatomic_read(&slots.page->live)) {
        int64_t start = get_clock();

        qemu_cond_timedwait_bql(first_cpu->halt_cond, MAX(ns / 1000000, 1));
        ns = MIN(ns, get_clock() - start);
    }
    jump_ns(ns);
    run_timers();
}

static void force_rcu(Notifier *notify, void *data)
{
    slots_kick_vcpu_thread(NULL);
}

static void set_up(void)
{
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        slots.cpus[slots.nr_cpus] = cpu;
        slots.order[slots.nr_cpus] = slots.nr_cpus;
        slots.waits_since[slots.nr_cpus] = -1;
        slots.nr_cpus++;
    }
    /* Zero is the one number that this generator stays at. */
    slots.random = slots_config.order ? slots_config.order : 1;
    slots.page = &slots.own_page;
    if (slots_config.page >= 0) {
        void *page = mmap(NULL, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED, slots_config.page, 0);

        if (page == MAP_FAILED) {
            error_report("icount: cannot map the page of descriptor %d: %s", slots_config.page, strerror(errno));
            exit(1);
        }
        slots.page = page;
    }
    slots.page->nr_cpus = slots.nr_cpus;
    slots.page->slot_length = slots_config.length;
}

static void *thread_main(void *arg)
{
    Notifier rcu = { .notify = force_rcu };
    CPUState *cpu = arg;

    rcu_register_thread();
    rcu_add_force_rcu_notifier(&rcu);
    tcg_register_thread();
    bql_lock();
    qemu_thread_get_self(cpu->thread);
    cpu->thread_id = qemu_get_thread_id();
    cpu->neg.can_do_io = true;
    cpu_thread_signal_created(cpu);
    qemu_guest_random_seed_thread_part2(cpu->random_seed);

    while (first_cpu->stopped) {
        qemu_cond_wait_bql(first_cpu->halt_cond);
        CPU_FOREACH(cpu) {
            current_cpu = cpu;
            qemu_wait_io_event_common(cpu);
        }
    }
    set_up();

    for (;;) {
        CPUState *busy;
        bool many;

        attend();
        busy = only_busy_cpu(&many);
        if (many) {
            run_round();
        } else if (busy) {
            run_alone(busy);
        } else {
            sleep_to_timer();
        }
    }
    return NULL;
}

void slots_start_vcpu_thread(CPUState *cpu)
{
    static QemuThread *thread;
    static QemuCond *halt_cond;

    tcg_cpu_init_cflags(cpu, false);
    if (!thread) {
        if (cpu->cpu_index != 0) {
            error_report("icount: the first CPU that starts has the index %d", cpu->cpu_index);
            exit(1);
        }
        thread = cpu->thread;
        halt_cond = cpu->halt_cond;
        qemu_thread_create(thread, "ALL CPUs/TCG", thread_main, cpu, QEMU_THREAD_JOINABLE);
        return;
    }
    /* It shares the thread of the first. */
    g_free(cpu->thread);
    qemu_cond_destroy(cpu->halt_cond);
    g_free(cpu->halt_cond);
    cpu->thread = thread;
    cpu->halt_cond = halt_cond;
    cpu->thread_id = first_cpu->thread_id;
    cpu->neg.can_do_io = 1;
    cpu_thread_signal_created(cpu);
}
