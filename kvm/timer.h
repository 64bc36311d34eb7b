/* SPDX-License-Identifier: MIT */
/*
 * One-shot timers on CLOCK_MONOTONIC, served by one thread per process, which
 * starts with the first timer that is armed and blocks all signals.
 */
#ifndef KVM_TIMER_H
#define KVM_TIMER_H

#include "base/types.h"

struct hv_timer {
	/* On the timer thread, no lock held; may arm any timer. Must not block for long. */
	void (*fn)(struct hv_timer *t);
	u64 expires;
	unsigned slot;		/* place in the heap + 1; 0 = not armed */
	bool stopping;		/* hv_timer_stop() is waiting */
};

void hv_timer_init(struct hv_timer *t, void (*fn)(struct hv_timer *t));
/*
 * Call t->fn at @ns (CLOCK_MONOTONIC; the past means at once), instead of any
 * earlier arrangement. Returns 0, or -ENOMEM, -EAGAIN (no thread) or -ECANCELED
 * (during hv_timer_stop()): not armed.
 * Any thread, any lock held.
 */
int hv_timer_arm(struct hv_timer *t, u64 ns);
/* Disarm. The function may be running still. */
void hv_timer_disarm(struct hv_timer *t);
/* Disarm and wait until the function does not run. Never under a lock that it takes. */
void hv_timer_stop(struct hv_timer *t);

#endif
