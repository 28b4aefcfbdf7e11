/*
 * Preloaded into QEMU where it counts instructions: lets QEMU's event loops run only while the thread that emulates all CPUs
 * waits.
 *
 * When every CPU is halted, it is the main loop that moves virtual time on to the next timer. It looks whether they are halted
 * without knowing whether the emulating thread has already counted the instructions before the last halt; where it has not,
 * time moves too far by as many nanoseconds, and the guest is no longer the same. Such a moment is short, and under load it
 * happened in one boot of twenty. Event loops sleep in poll and ppoll; here these return only when the emulating thread
 * is asleep, with everything counted, or when the gate stays open because the guest need not be deterministic any more.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* QEMU names the thread so with -name debug-threads=on (accel/tcg/tcg-accel-ops-rr.c). */
#define EMULATING_THREAD "ALL CPUs/TCG"

/* Bits of the word that is shared with the process which started QEMU: the emulating thread waits; the gate stays open. */
#define WAITS 1u
#define OPEN 2u

/* An event loop that is needed for the emulation to go on must not wait forever; none was seen. */
#define PATIENCE_S 10

static _Atomic unsigned *word;

static void futex(int operation, unsigned value, const struct timespec *patience)
{
	syscall(SYS_futex, word, operation, value, patience, NULL, 0);
}

__attribute__((constructor)) static void map_word(void)
{
	const char *fd = getenv("KTSTR_GATE_FD");
	void *page = fd ? mmap(NULL, sizeof(*word), PROT_READ | PROT_WRITE, MAP_SHARED, atoi(fd), 0) : MAP_FAILED;

	if (page != MAP_FAILED)
		word = page;
}

static int emulates(void)
{
	static _Thread_local int known; /* 1: yes, -1: no */
	char name[16] = "";

	/* A thread gets its name before it waits for the first time. */
	if (!known) {
		prctl(PR_GET_NAME, name);
		known = strcmp(name, EMULATING_THREAD) ? -1 : 1;
	}
	return known == 1;
}

static void pass(void)
{
	const struct timespec patience = { .tv_sec = PATIENCE_S };

	if (word && !emulates() && !atomic_load(word))
		futex(FUTEX_WAIT, 0, &patience);
}

static void *next(const char *name, const char *version)
{
	void *function = dlvsym(RTLD_NEXT, name, version);

	return function ? function : dlsym(RTLD_NEXT, name);
}

int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	static int (*real)(struct pollfd *, nfds_t, int);
	int r;

	if (!real)
		real = next("poll", "GLIBC_2.2.5");
	r = real(fds, n, timeout);
	pass();
	return r;
}

int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	static int (*real)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *);
	int r;

	if (!real)
		real = next("ppoll", "GLIBC_2.4");
	r = real(fds, n, timeout, mask);
	pass();
	return r;
}

int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
	static int (*real)(pthread_cond_t *, pthread_mutex_t *);
	int r;

	/* The version of the interface since 2003; an older one has the same name. */
	if (!real)
		real = next("pthread_cond_wait", "GLIBC_2.3.2");
	if (!word || !emulates())
		return real(cond, mutex);
	atomic_fetch_or(word, WAITS);
	futex(FUTEX_WAKE, 1 << 30, NULL);
	r = real(cond, mutex);
	atomic_fetch_and(word, ~WAITS);
	return r;
}
