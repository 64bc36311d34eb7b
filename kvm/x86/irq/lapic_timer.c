// SPDX-License-Identifier: MIT
/*
 * The timer of the local APIC. SDM vol. 3A "APIC Timer".
 *
 * The bus clock has 1 GHz, so one count is the divide value in nanoseconds.
 *
 * All state belongs to the vCPU's thread and no host timer is needed: the run
 * loop asks hv_lapic_timer_next() when it enters the guest (and sets the
 * preemption timer) and when it sleeps, and calls hv_lapic_timer_poll() after
 * either. So what the guest writes to LVTT is in force at once, and a guest
 * with a tiny period slows down nobody but itself.
 */
#include "kvm/host_time.h"
#include "kvm/x86/clock.h"
#include "kvm/x86/irq/lapic.h"

/* Entering the guest and leaving it again costs more than waiting this long. */
#define SPIN_US 1

static enum apic_timer_mode mode_of(u32 lvtt)
{
	return lvtt >> 17 & 3;
}

static enum apic_timer_mode timer_mode(const struct hv_lapic *l)
{
	return mode_of(lapic_get(l, APIC_LVTT));
}

static u32 divide(u32 tdcr)
{
	return 1u << (((tdcr & 3) | (tdcr >> 1 & 4)) + 1) % 8;
}

static u64 period_ns(const struct hv_lapic *l)
{
	return (u64)lapic_get(l, APIC_TMICT) * divide(lapic_get(l, APIC_TDCR));
}

static void stop(struct hv_lapic *l)
{
	l->counting = false;
	l->deadline = 0;
}

static void start_count(struct hv_lapic *l, u64 ns)
{
	l->counting = true;
	l->expires = hv_host_ns() + ns;
}

void lapic_timer_reset(struct hv_lapic *l)
{
	stop(l);
}

/* ---- Registers ---- */

void lapic_timer_set_icr(struct hv_lapic *l, u32 val)
{
	enum apic_timer_mode mode = timer_mode(l);

	if (mode == APIC_DEADLINE)
		return;
	stop(l);
	lapic_put(l, APIC_TMICT, val);
	if (val && mode != APIC_TIMER_RESERVED)
		start_count(l, period_ns(l));
}

void lapic_timer_set_divide(struct hv_lapic *l, u32 val)
{
	u32 from = divide(lapic_get(l, APIC_TDCR)), to = divide(val);
	u64 now = hv_host_ns();

	lapic_put(l, APIC_TDCR, val);
	/* The count stays what it is and goes on at the new speed. */
	if (l->counting && l->expires > now)
		l->expires = now + (l->expires - now) * to / from;
}

void lapic_timer_set_lvt(struct hv_lapic *l, u32 val)
{
	bool was = timer_mode(l) == APIC_DEADLINE, is = mode_of(val) == APIC_DEADLINE;

	lapic_put(l, APIC_LVTT, val);
	if (was != is) {
		stop(l);
		lapic_put(l, APIC_TMICT, 0);
	}
}

u32 lapic_timer_count(struct hv_lapic *l)
{
	u64 now = hv_host_ns(), left, period = period_ns(l);

	if (!l->counting)
		return 0;
	if (now < l->expires)
		left = l->expires - now;
	else if (timer_mode(l) == APIC_PERIODIC && period)
		left = period - (now - l->expires) % period;
	else
		left = 0;
	return (u32)(left / divide(lapic_get(l, APIC_TDCR)));
}

void lapic_timer_restore(struct hv_lapic *l)
{
	u64 left = (u64)lapic_get(l, APIC_TMCCT) * divide(lapic_get(l, APIC_TDCR));
	enum apic_timer_mode mode = timer_mode(l);

	if (!period_ns(l) || mode == APIC_DEADLINE || mode == APIC_TIMER_RESERVED)
		return;
	if (!left && mode == APIC_PERIODIC)
		left = period_ns(l);
	if (left)
		start_count(l, left);
}

/* ---- Deadline ---- */

u64 hv_lapic_get_tscdeadline(struct hv_vcpu *v)
{
	return v->lapic ? v->lapic->deadline : 0;
}

void hv_lapic_set_tscdeadline(struct hv_vcpu *v, u64 val)
{
	struct hv_lapic *l = v->lapic;

	if (!l || timer_mode(l) != APIC_DEADLINE)
		return;
	if (!val) {
		stop(l);
		return;
	}
	l->deadline = val;
	l->expires = hv_tsc_to_host_ns(v, val);
}

void hv_lapic_tsc_changed(struct hv_vcpu *v)
{
	struct hv_lapic *l = v->lapic;

	if (l && l->deadline)
		l->expires = hv_tsc_to_host_ns(v, l->deadline);
}

/* ---- Expiry ---- */

static void poll_deadline(struct hv_lapic *l)
{
	u64 spin = hv_guest_tsc_khz(l->v) / 1000 * SPIN_US;

	if (hv_guest_tsc(l->v) + spin < l->deadline) {
		/* Too early: the monotonic clock may be slewed against the TSC. */
		if (hv_host_ns() >= l->expires)
			l->expires = hv_tsc_to_host_ns(l->v, l->deadline);
		return;
	}
	while (hv_guest_tsc(l->v) < l->deadline)
		__builtin_ia32_pause();
	stop(l);
	lapic_lvt_fire(l, APIC_LVTT);
}

static void poll_count(struct hv_lapic *l)
{
	u64 now = hv_host_ns(), period = period_ns(l);

	if (now < l->expires)
		return;
	/* Periods that went by unseen are lost, as their interrupts would merge in IRR. */
	if (timer_mode(l) == APIC_PERIODIC && period)
		l->expires += period * ((now - l->expires) / period + 1);
	else
		stop(l);
	lapic_lvt_fire(l, APIC_LVTT);
}

void hv_lapic_timer_poll(struct hv_vcpu *v)
{
	struct hv_lapic *l = v->lapic;

	if (!l)
		return;
	if (l->deadline)
		poll_deadline(l);
	else if (l->counting)
		poll_count(l);
}

u64 hv_lapic_timer_next(struct hv_vcpu *v)
{
	struct hv_lapic *l = v->lapic;

	return l && (l->counting || l->deadline) ? l->expires : 0;
}
