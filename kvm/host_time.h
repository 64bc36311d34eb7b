/* SPDX-License-Identifier: MIT */
/*
 * Clocks of the host, in one place so that tests can put their own behind the
 * timers and chips. Any thread, async-signal-safe.
 */
#ifndef KVM_HOST_TIME_H
#define KVM_HOST_TIME_H

#include "base/types.h"

#define NSEC_PER_SEC 1000000000ull

/* CLOCK_MONOTONIC and CLOCK_REALTIME, nanoseconds. */
u64 hv_host_ns(void);
u64 hv_host_realtime_ns(void);
/* The host's time-stamp counter, which the processors of silicon/ run on. */
u64 hv_host_tsc(void);

#endif
