// SPDX-License-Identifier: MIT
/*
 * Synthetic timers, four a vCPU, in reference time; they end in a message or, in
 * direct mode, in an interrupt. TLFS "Synthetic Timers".
 *
 * All state is the vCPU thread's. The host's timer only kicks the vCPU, which looks
 * at its timers before it enters the guest or sleeps on.
 */
#include <errno.h>

#include "kvm/host_time.h"
#include "kvm/x86/hyperv/hyperv_priv.h"

#define CONFIG_ENABLE BIT(0)
#define CONFIG_PERIODIC BIT(1)
#define CONFIG_AUTO_ENABLE BIT(3)
#define CONFIG_VECTOR(c) ((u8)((c) >> 4))
#define CONFIG_DIRECT BIT(12)
#define CONFIG_SINT(c) ((unsigned)((c) >> 16 & 15))
#define CONFIG_SINT_MASK (15ull << 16)
#define FEATURE_D_DIRECT BIT(19)

static void due(struct hv_timer *t)
{
	struct hyperv_stimer *s = container_of(t, struct hyperv_stimer, timer);

	hv_set_request(s->v, HV_REQ_HYPERV);
	hv_kick(s->v);
}

void hyperv_stimer_init(struct hv_vcpu *v)
{
	for (unsigned i = 0; i < HYPERV_STIMERS; i++) {
		struct hyperv_stimer *s = &hyperv_of(v)->stimer[i];

		s->v = v;
		hv_timer_init(&s->timer, due);
	}
}

void hyperv_stimer_free(struct hv_vcpu *v)
{
	for (unsigned i = 0; i < HYPERV_STIMERS; i++)
		hv_timer_stop(&hyperv_of(v)->stimer[i].timer);
}

static void stop(struct hyperv_stimer *s)
{
	hv_timer_disarm(&s->timer);
	s->message_waits = false;
	s->expires = 0;
}

/* Begin to run, or begin the next period. */
static void start(struct hyperv_stimer *s)
{
	u64 now = hyperv_time(s->v);

	if (!(s->config & CONFIG_PERIODIC))
		s->expires = s->count;
	else if (!s->expires)
		s->expires = now + s->count;
	else if (now >= s->expires)
		/* Ticks that were missed are skipped. */
		s->expires = now + (s->count - (now - s->expires) % s->count);
	if (s->expires <= now) {
		hv_set_request(s->v, HV_REQ_HYPERV);
		return;
	}
	/* Without a host timer the next entry or wake-up finds it due. */
	(void)hv_timer_arm(&s->timer, hv_host_ns() + (s->expires - now) * 100);
}

static void expire(struct hyperv_stimer *s)
{
	struct hv_vcpu *v = s->v;
	unsigned nr = (unsigned)(s - hyperv_of(v)->stimer);
	int r;

	s->message_waits = true;
	if (s->config & CONFIG_DIRECT)
		r = v->lapic && hv_lapic_fixed(v, CONFIG_VECTOR(s->config)) > 0 ? 0 : -ENOENT;
	else
		/* Periodic ticks must not pile up behind a slot that nobody empties. */
		r = hyperv_post_timer_message(v, CONFIG_SINT(s->config), nr, s->expires,
					      !(s->config & CONFIG_PERIODIC));
	if (r == -EAGAIN)
		return;
	s->message_waits = false;
	if (!(s->config & CONFIG_PERIODIC))
		s->config &= ~CONFIG_ENABLE;
}

void hyperv_stimer_run(struct hv_vcpu *v)
{
	for (unsigned i = 0; i < HYPERV_STIMERS; i++) {
		struct hyperv_stimer *s = &hyperv_of(v)->stimer[i];

		if (!(s->config & CONFIG_ENABLE))
			continue;
		if (s->expires && hyperv_time(v) >= s->expires)
			expire(s);
		if (!(s->config & CONFIG_ENABLE) || !s->count)
			stop(s);
		else if (!s->message_waits)
			start(s);
	}
}

int hyperv_stimer_write(struct hv_vcpu *v, u32 msr, u64 val, bool host)
{
	struct hyperv_vcpu *h = hyperv_of(v);
	struct hyperv_stimer *s = &h->stimer[(msr - HYPERV_STIMER0_CONFIG) / 2];
	bool count = (msr - HYPERV_STIMER0_CONFIG) % 2;

	if (!h->synic && (!host || val))
		return 1;
	if (!count && !host && h->enforce && (val & CONFIG_DIRECT) && !(h->features_d & FEATURE_D_DIRECT))
		return 1;
	stop(s);
	if (count) {
		s->count = val;
		if (!val)
			s->config &= ~CONFIG_ENABLE;
		else if (s->config & CONFIG_AUTO_ENABLE)
			s->config |= CONFIG_ENABLE;
	} else {
		/* SINT 0 cannot carry messages: a running timer that is sent there stops. */
		if ((s->config & CONFIG_ENABLE) && !(val & (CONFIG_DIRECT | CONFIG_SINT_MASK)))
			val &= ~CONFIG_ENABLE;
		s->config = val;
	}
	if (s->config & CONFIG_ENABLE)
		hv_set_request(v, HV_REQ_HYPERV);
	return 0;
}

int hyperv_stimer_read(struct hv_vcpu *v, u32 msr, u64 *val, bool host)
{
	struct hyperv_vcpu *h = hyperv_of(v);
	const struct hyperv_stimer *s = &h->stimer[(msr - HYPERV_STIMER0_CONFIG) / 2];

	if (!h->synic && !host)
		return 1;
	*val = (msr - HYPERV_STIMER0_CONFIG) % 2 ? s->count : s->config;
	return 0;
}
