// SPDX-License-Identifier: MIT
/* Clocks of the host. */
#include "kvm/host_time.h"

#include <time.h>
#include <x86intrin.h>

static u64 clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (u64)ts.tv_sec * NSEC_PER_SEC + (u64)ts.tv_nsec;
}

u64 hv_host_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

u64 hv_host_realtime_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

u64 hv_host_tsc(void)
{
	return __rdtsc();
}
