/* SPDX-License-Identifier: MIT */
/*
 * One thread per process that raises events at processors whose deadlines have come.
 * It sleeps until the earliest deadline that it knows of; a processor wakes it only for an
 * earlier one, so that deadlines which move on, as at every VM entry, cost no system call.
 *
 * Locks: `lock` is never held together with the list of processors.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>
#include <x86intrin.h>

#include "base/log.h"
#include "silicon/x86/cpulist.h"
#include "silicon/x86/jit/jit.h"

#define NEVER (~0ull)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static _Atomic u64 wake_at = NEVER;	/* what the thread will wake up for */
static u64 asked = NEVER;		/* earliest deadline since it looked; under `lock` */
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Raise what is due; the earliest of the others. */
static u64 look(void)
{
	u64 now = __rdtsc(), next = NEVER;

	while (!x86_cpu_list_trylock())
		sched_yield();
	for (struct x86_cpu *c = x86_cpu_list(); c; c = c->next_cpu)
		for (unsigned i = 0; i < X86_NR_TICKS; i++) {
			u64 t = atomic_load(&c->tick[i]);

			if (t && t <= now) {
				/* A new deadline may have come in between: it stays. */
				atomic_compare_exchange_strong(&c->tick[i], &t, 0);
				x86_post(c, i == X86_TICK_PMU ? X86_EV_PMU : X86_EV_TIMER);
			} else if (t) {
				next = min(next, t);
			}
		}
	x86_cpu_list_unlock();
	return next;
}

static void sleep_until(u64 tsc)
{
	u64 now = __rdtsc(), ns;
	struct timespec t;

	if (tsc == NEVER) {
		pthread_cond_wait(&changed, &lock);
		return;
	}
	if (tsc <= now)
		return;
	ns = (u64)((u128)(tsc - now) * 1000000 / x86_tsc_khz());
	clock_gettime(CLOCK_MONOTONIC, &t);
	ns = min(ns, 1000000000ull) + (u64)t.tv_nsec;
	t.tv_sec += (time_t)(ns / 1000000000);
	t.tv_nsec = (long)(ns % 1000000000);
	pthread_cond_timedwait(&changed, &lock, &t);
}

static void *ticker(void *arg)
{
	prctl(PR_SET_NAME, "userkvm-ticker");
	prctl(PR_SET_TIMERSLACK, 1);
	for (;;) {
		u64 next = look();

		pthread_mutex_lock(&lock);
		next = min(next, asked);
		asked = NEVER;
		atomic_store(&wake_at, next);
		sleep_until(next);
		/* From here on until it has looked, everybody's deadline is noted. */
		atomic_store(&wake_at, NEVER);
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

static void start(void)
{
	pthread_condattr_t attr;
	sigset_t all, old;
	pthread_t thread;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&changed, &attr);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&thread, NULL, ticker, NULL))
		log_warn("no thread for the VMX-preemption timer and the counters of cycles");
	else
		pthread_detach(thread);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void x86_ticker_arm(struct x86_cpu *cpu, enum x86_tick which, u64 deadline)
{
	pthread_once(&once, start);
	atomic_store(&cpu->tick[which], deadline);
	if (!deadline || deadline >= atomic_load(&wake_at))
		return;
	pthread_mutex_lock(&lock);
	if (deadline < asked) {
		asked = deadline;
		pthread_cond_signal(&changed);
	}
	pthread_mutex_unlock(&lock);
}
