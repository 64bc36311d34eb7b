// SPDX-License-Identifier: MIT
/*
 * The IOAPIC: 24 pins, version 11h. Intel 82093AA data sheet.
 *
 * @irr is the state of the lines. A rising edge is delivered if it can be and
 * lost otherwise; a level is delivered when line and mask allow and no earlier
 * delivery awaits its EOI (remote IRR). The EOI of a vector is matched with the
 * vector that was delivered, not with the one that the entry has by now: the
 * guest may have redirected the pin meanwhile.
 *
 * Lock: one, held while messages go to local APICs (which take none). A vCPU's
 * EOI drops it while the acknowledgement is told, since that may lower lines.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/trace.h"
#include "kvm/host_time.h"
#include "kvm/timer.h"
#include "kvm/x86/irq/chip.h"
#include "kvm/x86/irq/lapic.h"

#define IOAPIC_BASE 0xfec00000u
#define IOAPIC_VERSION (0x11u | (IOAPIC_PINS - 1) << 16)
#define RTC_PIN 8

#define REDIR_LOGICAL BIT(11)
#define REDIR_STATUS BIT(12)
#define REDIR_REMOTE_IRR BIT(14)
#define REDIR_LEVEL BIT(15)
#define REDIR_MASKED BIT(16)
#define REDIR_WRITABLE (0xff0000000000afffull | REDIR_MASKED)

/*
 * A level that is still high after this many EOIs in a row waits a little: the guest has no driver
 * for it.
 */
#define STORM_EOIS 10000
#define STORM_PAUSE_NS (NSEC_PER_SEC / 100)

struct hv_ioapic {
	struct hv_vm *vm;
	pthread_mutex_t lock;
	u32 ioregsel, id;
	u32 irr;		/* lines that are high */
	u32 irr_delivered;	/* edges in irr that have been delivered */
	u64 redir[IOAPIC_PINS];
	u8 vector[IOAPIC_PINS];	/* last delivered */
	u32 delivered;		/* @vector is valid: its EOI is of interest */
	u32 eois[IOAPIC_PINS];	/* in a row with the line high */
	u8 sources[IOAPIC_PINS];
	struct apic_set rtc;	/* who got the last RTC interrupt */
	_Atomic u64 handled[4];	/* vectors whose EOI is of interest */
	struct hv_timer storm;
	struct hv_iodev dev;
};

static void handled_update(struct hv_ioapic *io)
{
	u64 map[4] = { 0 };

	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		u8 vec = (u8)io->redir[pin];

		if (!(io->redir[pin] & REDIR_MASKED))
			map[vec / 64] |= BIT(vec % 64);
		vec = io->vector[pin];
		if (io->delivered >> pin & 1)
			map[vec / 64] |= BIT(vec % 64);
	}
	for (unsigned i = 0; i < 4; i++)
		atomic_store(&io->handled[i], map[i]);
}

/*
 * The last RTC interrupt has not been taken yet: this one would merge with it
 * in IRR. Clients that make up for lost clock ticks want to know.
 */
static bool rtc_merges(struct hv_ioapic *io)
{
	struct hv_vcpu *v;
	unsigned i;

	if (!(io->delivered >> RTC_PIN & 1))
		return false;
	hv_for_each_vcpu(i, v, io->vm) {
		if ((io->rtc.w[i / 64] & BIT(i % 64)) &&
		    lapic_vec_test(v->lapic, APIC_IRR, io->vector[RTC_PIN]))
			return true;
	}
	return false;
}

/* Send the pin's message. Status as hv_irq_line(). */
static int service(struct hv_ioapic *io, unsigned pin)
{
	u64 e = io->redir[pin];
	struct apic_set taken;
	int ret;
	struct apic_msg m = {
		.dest = e >> 56, .logical = e & REDIR_LOGICAL, .level = e & REDIR_LEVEL,
		.assert = true, .mode = e >> 8 & 7, .vector = (u8)e,
	};

	if (e & REDIR_MASKED)
		return -1;
	if (m.level && (e & REDIR_REMOTE_IRR))
		return 0;
	if (pin == RTC_PIN && rtc_merges(io))
		return 0;
	ret = apic_send(io->vm, &m, NULL, &taken);
	if (ret <= 0)
		return ret;
	if (pin == RTC_PIN)
		io->rtc = taken;
	if (m.level)
		io->redir[pin] |= REDIR_REMOTE_IRR;
	else
		io->irr_delivered |= 1u << pin;
	if (!(io->delivered >> pin & 1) || io->vector[pin] != m.vector) {
		io->vector[pin] = m.vector;
		io->delivered |= 1u << pin;
		handled_update(io);
	}
	return ret;
}

static void service_level(struct hv_ioapic *io, unsigned pin)
{
	if ((io->irr >> pin & 1) && (io->redir[pin] & REDIR_LEVEL))
		service(io, pin);
}

int hv_ioapic_set_irq(struct hv_vm *vm, unsigned pin, enum hv_irq_source source, bool level)
{
	struct hv_ioapic *io = vm->ioapic;
	u32 bit = 1u << pin, old;
	int ret = 1;

	pthread_mutex_lock(&io->lock);
	if (level)
		io->sources[pin] |= 1u << source;
	else
		io->sources[pin] &= ~(1u << source);
	old = io->irr;
	if (!io->sources[pin]) {
		io->irr &= ~bit;
		io->irr_delivered &= ~bit;
	} else {
		io->irr |= bit;
		if (!(io->redir[pin] & REDIR_LEVEL) && (old & bit))
			ret = 0;
		else
			ret = service(io, pin);
		trace(kvm_ioapic_set_irq, "pin %u dst %x vec %u (%s|%s|%s%s)%s", pin,
		      (u32)(io->redir[pin] >> 56), (u8)io->redir[pin],
		      apic_delivery_name(io->redir[pin] >> 8 & 7),
		      io->redir[pin] & REDIR_LOGICAL ? "logical" : "physical",
		      io->redir[pin] & REDIR_LEVEL ? "level" : "edge",
		      io->redir[pin] & REDIR_MASKED ? "|masked" : "", ret == 0 ? " (coalesced)" : "");
	}
	pthread_mutex_unlock(&io->lock);
	return ret;
}

/* ---- EOI ---- */

static void storm_over(struct hv_timer *t)
{
	struct hv_ioapic *io = container_of(t, struct hv_ioapic, storm);

	pthread_mutex_lock(&io->lock);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		service_level(io, pin);
	pthread_mutex_unlock(&io->lock);
}

static void eoi_level(struct hv_ioapic *io, unsigned pin)
{
	io->redir[pin] &= ~REDIR_REMOTE_IRR;
	if (!(io->irr >> pin & 1) || (io->redir[pin] & REDIR_MASKED)) {
		io->eois[pin] = 0;
		return;
	}
	if (++io->eois[pin] < STORM_EOIS) {
		service_level(io, pin);
		return;
	}
	io->eois[pin] = 0;
	/* Without a timer there is no pause. */
	if (hv_timer_arm(&io->storm, hv_host_ns() + STORM_PAUSE_NS))
		service_level(io, pin);
}

static bool handles(struct hv_ioapic *io, u8 vector)
{
	return atomic_load(&io->handled[vector / 64]) & BIT(vector % 64);
}

void hv_ioapic_eoi(struct hv_vcpu *v, u8 vector, bool level)
{
	struct hv_ioapic *io = v->vm->ioapic;
	u32 pins = 0;

	if (v->vm->irqchip_mode == HV_IRQCHIP_SPLIT) {
		if (level) {
			v->lapic->eoi_exit = vector;
			hv_set_request(v, HV_REQ_IOAPIC_EOI_EXIT);
		}
		return;
	}
	if (!io || !handles(io, vector))
		return;
	pthread_mutex_lock(&io->lock);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		if ((io->delivered >> pin & 1) && io->vector[pin] == vector)
			pins |= 1u << pin;
	}
	pthread_mutex_unlock(&io->lock);
	for (u32 p = pins; p; p &= p - 1)
		hv_irq_acked(v->vm, KVM_IRQCHIP_IOAPIC, __builtin_ctz(p));
	if (!level || !pins)
		return;
	pthread_mutex_lock(&io->lock);
	for (u32 p = pins; p; p &= p - 1) {
		if (io->redir[__builtin_ctz(p)] & REDIR_REMOTE_IRR)
			eoi_level(io, __builtin_ctz(p));
	}
	pthread_mutex_unlock(&io->lock);
}

void hv_ioapic_eoi_bitmap(struct hv_vcpu *v, u64 bitmap[4])
{
	struct hv_ioapic *io = v->vm->ioapic;

	memset(bitmap, 0, 4 * sizeof(*bitmap));
	if (io) {
		for (unsigned i = 0; i < 4; i++)
			bitmap[i] = atomic_load(&io->handled[i]);
	} else if (v->vm->irqchip_mode == HV_IRQCHIP_SPLIT) {
		hv_routing_level_vectors(v->vm, bitmap);
	}
}

/* ---- Registers ---- */

static u32 read_indirect(const struct hv_ioapic *io)
{
	unsigned pin;

	switch (io->ioregsel) {
	case 0:
	case 2:		/* arbitration ID: loaded with the ID */
		return io->id << 24;
	case 1:
		return IOAPIC_VERSION;
	}
	pin = (io->ioregsel - 0x10) / 2;
	if (io->ioregsel < 0x10 || pin >= IOAPIC_PINS)
		return 0xffffffff;
	return io->redir[pin] >> (io->ioregsel & 1 ? 32 : 0);
}

/* True if a masked pin of the timer opened. */
static bool write_redir(struct hv_ioapic *io, unsigned pin, u64 val)
{
	u64 old = io->redir[pin];
	u64 new = (val & REDIR_WRITABLE) | (old & (REDIR_STATUS | REDIR_REMOTE_IRR));
	bool opened = (old & ~new) & REDIR_MASKED;

	/* Also how Linux completes an interrupt without an EOI register. */
	if (!(new & REDIR_LEVEL))
		new &= ~REDIR_REMOTE_IRR;
	io->redir[pin] = new;
	handled_update(io);
	if (!(new & (REDIR_MASKED | REDIR_REMOTE_IRR)))
		service_level(io, pin);
	return opened && (pin == 0 || pin == 2);
}

static bool write_indirect(struct hv_ioapic *io, u32 val)
{
	unsigned pin = (io->ioregsel - 0x10) / 2;

	if (io->ioregsel == 0)
		io->id = val >> 24 & 0xf;
	if (io->ioregsel < 0x10 || pin >= IOAPIC_PINS)
		return false;
	if (io->ioregsel & 1)
		return write_redir(io, pin, (u32)io->redir[pin] | (u64)val << 32);
	return write_redir(io, pin, (io->redir[pin] & ~0xffffffffull) | val);
}

static int ioapic_read(struct hv_iodev *d, struct hv_vcpu *v, u64 addr, unsigned len, void *data)
{
	struct hv_ioapic *io = container_of(d, struct hv_ioapic, dev);
	u32 val = 0;

	pthread_mutex_lock(&io->lock);
	switch (addr & 0xff) {
	case 0x00:
		val = io->ioregsel;
		break;
	case 0x10:
		val = read_indirect(io);
		break;
	}
	pthread_mutex_unlock(&io->lock);
	memset(data, 0, len);
	memcpy(data, &val, min(len, 4u));
	return 0;
}

static int ioapic_write(struct hv_iodev *d, struct hv_vcpu *v, u64 addr, unsigned len,
			const void *data)
{
	struct hv_ioapic *io = container_of(d, struct hv_ioapic, dev);
	bool timer_opened = false;
	u32 val = 0;

	memcpy(&val, data, min(len, 4u));
	pthread_mutex_lock(&io->lock);
	switch (addr & 0xff) {
	case 0x00:
		io->ioregsel = val & 0xff;
		break;
	case 0x10:
		timer_opened = write_indirect(io, val);
		break;
	}
	pthread_mutex_unlock(&io->lock);
	if (timer_opened)
		hv_pit_unmasked(io->vm);
	return 0;
}

/* ---- Life and state ---- */

int hv_ioapic_new(struct hv_vm *vm)
{
	struct hv_ioapic *io = calloc(1, sizeof(*io));
	int err;

	if (!io)
		return -ENOMEM;
	io->vm = vm;
	pthread_mutex_init(&io->lock, NULL);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		io->redir[pin] = REDIR_MASKED;
	hv_timer_init(&io->storm, storm_over);
	io->dev = (struct hv_iodev){ ioapic_read, ioapic_write };
	vm->ioapic = io;
	err = hv_iobus_add(vm, HV_BUS_MMIO, IOAPIC_BASE, 0x100, 0, &io->dev);
	if (err)
		hv_ioapic_free(vm);
	return err;
}

void hv_ioapic_free(struct hv_vm *vm)
{
	struct hv_ioapic *io = vm->ioapic;

	if (!io)
		return;
	hv_iobus_del(vm, HV_BUS_MMIO, &io->dev);
	hv_timer_stop(&io->storm);
	vm->ioapic = NULL;
	pthread_mutex_destroy(&io->lock);
	free(io);
}

void hv_ioapic_get(struct hv_vm *vm, struct kvm_ioapic_state *s)
{
	struct hv_ioapic *io = vm->ioapic;

	memset(s, 0, sizeof(*s));
	pthread_mutex_lock(&io->lock);
	s->base_address = IOAPIC_BASE;
	s->ioregsel = io->ioregsel;
	s->id = io->id;
	/* What is given to the next owner of the state is what it has still to deliver. */
	s->irr = io->irr & ~io->irr_delivered;
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		s->redirtbl[pin].bits = io->redir[pin];
	pthread_mutex_unlock(&io->lock);
}

void hv_ioapic_set(struct hv_vm *vm, const struct kvm_ioapic_state *s)
{
	struct hv_ioapic *io = vm->ioapic;
	u32 irr = s->irr & (u32)BITS(IOAPIC_PINS - 1, 0);

	pthread_mutex_lock(&io->lock);
	io->ioregsel = s->ioregsel & 0xff;
	io->id = s->id & 0xf;
	io->irr_delivered = io->delivered = 0;
	memset(io->eois, 0, sizeof(io->eois));
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		io->redir[pin] =
			s->redirtbl[pin].bits & (REDIR_WRITABLE | REDIR_STATUS | REDIR_REMOTE_IRR);
		/*
		 * An interrupt that awaits its EOI was delivered with this vector, as far as we can
		 * know.
		 */
		if (io->redir[pin] & REDIR_REMOTE_IRR) {
			io->vector[pin] = (u8)io->redir[pin];
			io->delivered |= 1u << pin;
		}
	}
	handled_update(io);
	io->irr = irr;
	for (; irr; irr &= irr - 1)
		service(io, __builtin_ctz(irr));
	pthread_mutex_unlock(&io->lock);
}
