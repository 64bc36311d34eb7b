/* SPDX-License-Identifier: MIT */
/*
 * The time-stamp counter: the host's own, so it is invariant and equal on all
 * simulated processors until software writes one of them.
 */
#include <pthread.h>
#include <time.h>
#include <x86intrin.h>

#include "silicon/x86/sys/sys_priv.h"

u64 x86_rdtsc(struct x86_cpu *cpu)
{
	return __rdtsc() + cpu->tsc_offset;
}

/* A clock reading and the TSC at that moment: the tightest of a few tries. */
static u64 sample(u64 *ns)
{
	u64 best = ~0ull, tsc = 0;

	for (int i = 0; i < 8; i++) {
		struct timespec t;
		u64 a, b;

		a = __rdtsc();
		clock_gettime(CLOCK_MONOTONIC_RAW, &t);
		b = __rdtsc();
		if (b - a < best) {
			best = b - a;
			tsc = a + (b - a) / 2;
			*ns = (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
		}
	}
	return tsc;
}

static u32 tsc_khz;

/* CPUID leaf 15H of the host is not used: hypervisors leave it out or wrong. */
static void measure(void)
{
	const struct timespec wait = { .tv_nsec = 20 * 1000000 };
	u64 ns0, ns1, tsc0 = sample(&ns0), tsc1;

	nanosleep(&wait, NULL);
	tsc1 = sample(&ns1);
	tsc_khz = (u32)((u128)(tsc1 - tsc0) * 1000000 / (ns1 - ns0));
}

u32 x86_tsc_khz(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, measure);
	return tsc_khz;
}
