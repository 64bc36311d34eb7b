// SPDX-License-Identifier: MIT
/*
 * The interval timer of a VM: ports 40h-43h, channel 0's interrupt, channel 2's
 * gate and output at port 61h. The counters are pit_chan.c.
 *
 * An OUT edge of channel 0 becomes a pulse on GSI 0 from the timer thread. With
 * reinjection (the default) a tick that comes before the guest acknowledged the
 * last one waits for that, so that none is lost and guests that count ticks
 * keep time; without, it merges.
 *
 * Lock: one; not held while the line is pulsed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvm/host_time.h"
#include "kvm/timer.h"
#include "kvm/x86/irq/chip.h"
#include "kvm/x86/irq/pit_chan.h"

#define CHANNELS 3
#define SPEAKER_GATE 1		/* port 61h */
#define SPEAKER_DATA 2
#define REFRESH_NS 15085	/* half a period of the DRAM refresh toggle */
#define MIN_TICK_NS 200000	/* the timer thread is everybody's: faster ticks merge */

struct hv_pit {
	struct hv_vm *vm;
	pthread_mutex_t lock;
	struct pit_chan chan[CHANNELS];
	u32 flags;		/* KVM_PIT_FLAGS_* */
	u8 port61;		/* bits 3:0 */
	bool reinject;
	unsigned pending;	/* ticks not acknowledged, the one in flight included */
	bool in_flight;
	/*
	 * Edges are @first + k * @clocks after @origin (host ns); @edge is k of the next, at @next
	 * (0: none).
	 */
	u64 origin, first, clocks, edge, next;
	struct hv_timer timer;
	struct hv_iodev ports, speaker;
	bool has_speaker;
};

/* ---- Channel 0's interrupt ---- */

static void pulse(struct hv_pit *p)
{
	int status = hv_irq_line(p->vm, 0, 1, HV_IRQ_PIT);

	hv_irq_line(p->vm, 0, 0, HV_IRQ_PIT);
	if (status >= 0)
		return;
	/* Masked everywhere: nobody will acknowledge it. */
	pthread_mutex_lock(&p->lock);
	p->in_flight = false;
	p->pending = 0;
	pthread_mutex_unlock(&p->lock);
}

static void arm(struct hv_pit *p)
{
	u64 ns = p->origin + pit_clocks_to_ns(p->first + p->edge * p->clocks);

	if (p->clocks && pit_clocks_to_ns(p->clocks) < MIN_TICK_NS)
		ns = max(ns, hv_host_ns() + MIN_TICK_NS);
	p->next = ns;
	/* Without a timer thread the guest has no ticks; creating the PIT has made sure of it. */
	hv_timer_arm(&p->timer, ns);
}

/* Counting began anew, or may have stopped. Lock held. */
static void reprogram(struct hv_pit *p)
{
	struct pit_chan *c = &p->chan[0];

	hv_timer_disarm(&p->timer);
	p->next = 0;
	if ((p->flags & KVM_PIT_FLAGS_HPET_LEGACY) || !pit_chan_edges(c, &p->first, &p->clocks))
		return;
	p->origin = (u64)c->s.count_load_time;
	p->edge = 0;
	arm(p);
}

static void tick(struct hv_timer *t)
{
	struct hv_pit *p = container_of(t, struct hv_pit, timer);
	u64 now = hv_host_ns(), missed = 0;
	bool fire = true;

	pthread_mutex_lock(&p->lock);
	if (!p->next || now < p->next) {
		/* Reprogrammed while we were on our way. */
		pthread_mutex_unlock(&p->lock);
		return;
	}
	if (p->clocks) {
		missed = (pit_ns_to_clocks(now - p->origin) - p->first) / p->clocks - p->edge;
		p->edge += missed + 1;
		arm(p);
		/* After a long stop of the host, the guest need not see every tick of it. */
		missed = min(missed, (u64)PIT_HZ / p->clocks);
	} else {
		p->next = 0;
	}
	if (p->reinject) {
		p->pending += missed + 1;
		fire = !p->in_flight;
		p->in_flight = true;
	}
	pthread_mutex_unlock(&p->lock);
	if (fire)
		pulse(p);
}

void hv_pit_acked(struct hv_vm *vm)
{
	struct hv_pit *p = vm->pit;
	bool again;

	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	if (p->pending)
		p->pending--;
	again = p->reinject && p->in_flight && p->pending;
	p->in_flight = again;
	pthread_mutex_unlock(&p->lock);
	if (again)
		pulse(p);
}

void hv_pit_unmasked(struct hv_vm *vm)
{
	struct hv_pit *p = vm->pit;

	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->pending = 0;
	p->in_flight = false;
	pthread_mutex_unlock(&p->lock);
}

/* ---- Ports ---- */

static void control(struct hv_pit *p, u8 val, u64 now)
{
	unsigned n = val >> 6;

	if (n < CHANNELS) {
		pit_chan_control(&p->chan[n], val, now);
		if (n == 0 && (val & 0x30))
			reprogram(p);
		return;
	}
	/* Read-back: the two low bits of the command are active low. */
	for (n = 0; n < CHANNELS; n++) {
		if (!(val & 2 << n))
			continue;
		if (!(val & 0x20))
			pit_chan_latch_count(&p->chan[n], now);
		if (!(val & 0x10))
			pit_chan_latch_status(&p->chan[n], now);
	}
}

static int ports_write(struct hv_iodev *d, struct hv_vcpu *v, u64 addr, unsigned len,
		       const void *data)
{
	struct hv_pit *p = container_of(d, struct hv_pit, ports);
	u64 now = hv_host_ns();

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < len; i++) {
		unsigned port = (addr + i) & 3;
		u8 val = ((const u8 *)data)[i];

		if (port == 3)
			control(p, val, now);
		else if (pit_chan_write(&p->chan[port], val, now) && port == 0)
			reprogram(p);
	}
	pthread_mutex_unlock(&p->lock);
	return 0;
}

static int ports_read(struct hv_iodev *d, struct hv_vcpu *v, u64 addr, unsigned len, void *data)
{
	struct hv_pit *p = container_of(d, struct hv_pit, ports);
	u64 now = hv_host_ns();

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < len; i++) {
		unsigned port = (addr + i) & 3;

		/* The control port cannot be read. */
		((u8 *)data)[i] = port == 3 ? 0 : pit_chan_read(&p->chan[port], now);
	}
	pthread_mutex_unlock(&p->lock);
	return 0;
}

static int speaker_write(struct hv_iodev *d, struct hv_vcpu *v, u64 addr, unsigned len,
			 const void *data)
{
	struct hv_pit *p = container_of(d, struct hv_pit, speaker);
	u8 val = *(const u8 *)data;

	pthread_mutex_lock(&p->lock);
	p->port61 = val & 0xf;
	pit_chan_gate(&p->chan[2], val & SPEAKER_GATE, hv_host_ns());
	pthread_mutex_unlock(&p->lock);
	return 0;
}

static int speaker_read(struct hv_iodev *d, struct hv_vcpu *v, u64 addr, unsigned len, void *data)
{
	struct hv_pit *p = container_of(d, struct hv_pit, speaker);
	u64 now = hv_host_ns();

	pthread_mutex_lock(&p->lock);
	*(u8 *)data = p->port61 | (now / REFRESH_NS & 1) << 4 | pit_chan_out(&p->chan[2], now) << 5;
	pthread_mutex_unlock(&p->lock);
	return 0;
}

/* ---- Life and state ---- */

int hv_pit_create(struct hv_vm *vm, const struct kvm_pit_config *c)
{
	struct hv_pit *p;
	int err;

	if (vm->pit)
		return -EEXIST;
	if (!vm->pic)
		return -ENOENT;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->vm = vm;
	p->reinject = true;
	p->has_speaker = c->flags & KVM_PIT_SPEAKER_DUMMY;
	pthread_mutex_init(&p->lock, NULL);
	for (unsigned i = 0; i < CHANNELS; i++)
		pit_chan_init(&p->chan[i], i != 2);
	hv_timer_init(&p->timer, tick);
	p->ports = (struct hv_iodev){ ports_read, ports_write };
	p->speaker = (struct hv_iodev){ speaker_read, speaker_write };
	vm->pit = p;
	err = hv_timer_arm(&p->timer, UINT64_MAX);
	if (!err)
		err = hv_iobus_add(vm, HV_BUS_PIO, 0x40, 4, 0, &p->ports);
	if (!err && p->has_speaker)
		err = hv_iobus_add(vm, HV_BUS_PIO, 0x61, 1, 0, &p->speaker);
	if (err)
		hv_pit_free(vm);
	return err;
}

void hv_pit_free(struct hv_vm *vm)
{
	struct hv_pit *p = vm->pit;

	if (!p)
		return;
	hv_iobus_del(vm, HV_BUS_PIO, &p->ports);
	hv_iobus_del(vm, HV_BUS_PIO, &p->speaker);
	hv_timer_stop(&p->timer);
	vm->pit = NULL;
	pthread_mutex_destroy(&p->lock);
	free(p);
}

int hv_pit_get(struct hv_vm *vm, struct kvm_pit_state2 *s)
{
	struct hv_pit *p = vm->pit;
	u64 now = hv_host_ns();

	if (!p)
		return -ENXIO;
	memset(s, 0, sizeof(*s));
	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < CHANNELS; i++)
		pit_chan_get(&p->chan[i], &s->channels[i], now);
	s->flags = p->flags;
	if (p->port61 & SPEAKER_DATA)
		s->flags |= KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	pthread_mutex_unlock(&p->lock);
	return 0;
}

int hv_pit_set(struct hv_vm *vm, const struct kvm_pit_state2 *s)
{
	struct hv_pit *p = vm->pit;
	u64 now = hv_host_ns();

	if (!p)
		return -ENXIO;
	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < CHANNELS; i++)
		pit_chan_set(&p->chan[i], &s->channels[i], now);
	/* Channels 0 and 1 have their gates tied high. */
	p->chan[0].s.gate = p->chan[1].s.gate = 1;
	p->flags = s->flags & KVM_PIT_FLAGS_HPET_LEGACY;
	p->port61 = (s->flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON ? SPEAKER_DATA : 0) |
		    (p->chan[2].s.gate ? SPEAKER_GATE : 0);
	p->pending = 0;
	p->in_flight = false;
	/* A state of long ago goes on from here: its ticks are the client's to make up. */
	if (p->chan[0].s.count_load_time > (s64)now ||
	    now - (u64)p->chan[0].s.count_load_time > NSEC_PER_SEC)
		p->chan[0].s.count_load_time = (s64)now;
	reprogram(p);
	pthread_mutex_unlock(&p->lock);
	return 0;
}

int hv_pit_reinject(struct hv_vm *vm, bool on)
{
	struct hv_pit *p = vm->pit;

	if (!p)
		return -ENXIO;
	pthread_mutex_lock(&p->lock);
	p->reinject = on;
	p->pending = 0;
	p->in_flight = false;
	pthread_mutex_unlock(&p->lock);
	return 0;
}
