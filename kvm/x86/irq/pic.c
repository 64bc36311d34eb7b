// SPDX-License-Identifier: MIT
/*
 * The pair of 8259A interrupt controllers of a PC with its edge/level control
 * registers. Intel 8259A data sheet; PIIX3 for ELCR.
 *
 * State is the ABI's struct, one per chip. The slave's output is the master's
 * input 2. All changes end in settle(), which recomputes the output; what is to
 * be told to others is collected under the lock and told after it is dropped.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/trace.h"
#include "kvm/x86/irq/chip.h"
#include "kvm/x86/irq/lapic.h"

#define MASTER 0
#define SLAVE 1
#define CASCADE 2		/* the slave's line at the master */
#define SPURIOUS 7

enum icw { READY, WANT_ICW2, WANT_ICW3, WANT_ICW4 };

struct hv_pic {
	struct hv_vm *vm;
	pthread_mutex_t lock;
	struct kvm_pic_state chip[2];
	u8 sources[PIC_PINS];		/* bit per enum hv_irq_source that holds the line high */
	_Atomic bool output;
	/* Told by unlock(). */
	u16 acked;
	bool wake, timer_unmasked;
	struct hv_iodev master, slave, elcr;
};

static void lock(struct hv_pic *p)
{
	pthread_mutex_lock(&p->lock);
	p->acked = 0;
	p->wake = p->timer_unmasked = false;
}

static void unlock(struct hv_pic *p)
{
	u16 acked = p->acked;
	bool wake = p->wake, unmasked = p->timer_unmasked;

	pthread_mutex_unlock(&p->lock);
	if (wake)
		lapic_pic_changed(p->vm);
	if (unmasked)
		hv_pit_unmasked(p->vm);
	for (; acked; acked &= acked - 1) {
		unsigned pin = __builtin_ctz(acked);

		hv_irq_acked(p->vm, pin / 8 ? KVM_IRQCHIP_PIC_SLAVE : KVM_IRQCHIP_PIC_MASTER,
			     pin % 8);
	}
}

/* ---- Priority ---- */

/* Rank of the first request of @mask in the rotated order, 8 if there is none. */
static unsigned rank(const struct kvm_pic_state *s, u8 mask)
{
	unsigned r;

	for (r = 0; r < 8 && !(mask >> ((r + s->priority_add) & 7) & 1); r++)
		;
	return r;
}

/* The input that the chip interrupts for, or -1. */
static int request(const struct hv_pic *p, unsigned n)
{
	const struct kvm_pic_state *s = &p->chip[n];
	unsigned want = rank(s, s->irr & ~s->imr);
	u8 busy = s->isr;

	/* "Special Mask Mode": a masked level in service holds nobody back. */
	if (s->special_mask)
		busy &= ~s->imr;
	/* "Special Fully Nested Mode": the slave's further requests pass. */
	if (s->special_fully_nested_mode && n == MASTER)
		busy &= ~(1 << CASCADE);
	return want < rank(s, busy) ? (int)((want + s->priority_add) & 7) : -1;
}

/* An input changes. False if it was pending already. */
static bool set_input(struct kvm_pic_state *s, unsigned irq, bool level)
{
	u8 bit = 1u << irq;
	bool fresh = true;

	if (!level) {
		s->last_irr &= ~bit;
		/* An edge stays latched: devices of KVM clients pulse their lines. */
		if (s->elcr & bit)
			s->irr &= ~bit;
		return true;
	}
	if ((s->elcr & bit) || !(s->last_irr & bit)) {
		fresh = !(s->irr & bit);
		s->irr |= bit;
	}
	s->last_irr |= bit;
	return fresh;
}

static void settle(struct hv_pic *p)
{
	bool out;

	if (request(p, SLAVE) >= 0) {
		/* A new edge at the master, whatever it has latched of the last one. */
		set_input(&p->chip[MASTER], CASCADE, true);
		set_input(&p->chip[MASTER], CASCADE, false);
	}
	out = request(p, MASTER) >= 0;
	if (out && !atomic_load(&p->output))
		p->wake = true;
	atomic_store(&p->output, out);
}

/* ---- Acknowledge and end of interrupt ---- */

static void end_of_interrupt(struct hv_pic *p, unsigned n, unsigned irq)
{
	p->chip[n].isr &= ~(1u << irq);
	p->acked |= 1u << (n * 8 + irq);
}

static void acknowledge(struct hv_pic *p, unsigned n, unsigned irq)
{
	struct kvm_pic_state *s = &p->chip[n];

	s->isr |= 1u << irq;
	if (!(s->elcr >> irq & 1))
		s->irr &= ~(1u << irq);
	if (s->auto_eoi) {
		if (s->rotate_on_auto_eoi)
			s->priority_add = (irq + 1) & 7;
		end_of_interrupt(p, n, irq);
	}
}

/* The INTA cycles for one chip: its input, or the spurious one. */
static unsigned inta(struct hv_pic *p, unsigned n)
{
	int irq = request(p, n);

	if (irq < 0)
		return SPURIOUS;
	acknowledge(p, n, irq);
	return irq;
}

int hv_pic_ack(struct hv_pic *p)
{
	unsigned irq;
	int vector;

	lock(p);
	irq = inta(p, MASTER);
	/* A spurious 7 of the master is in no ISR, so it cannot be mistaken for the cascade. */
	if (irq == CASCADE)
		vector = p->chip[SLAVE].irq_base + inta(p, SLAVE);
	else
		vector = p->chip[MASTER].irq_base + irq;
	settle(p);
	unlock(p);
	return vector;
}

bool hv_pic_output(struct hv_pic *p)
{
	return atomic_load(&p->output);
}

int hv_pic_set_irq(struct hv_vm *vm, unsigned pin, enum hv_irq_source source, bool level)
{
	struct hv_pic *p = vm->pic;
	struct kvm_pic_state *s = &p->chip[pin / 8];
	bool fresh, masked;

	lock(p);
	if (level)
		p->sources[pin] |= 1u << source;
	else
		p->sources[pin] &= ~(1u << source);
	fresh = set_input(s, pin % 8, p->sources[pin]);
	masked = s->imr >> pin % 8 & 1;
	trace(kvm_pic_set_irq, "chip %u pin %u (%s%s)%s", pin / 8, pin % 8,
	      s->elcr >> pin % 8 & 1 ? "level" : "edge", masked ? "|masked" : "",
	      fresh ? "" : " (coalesced)");
	settle(p);
	unlock(p);
	return masked ? -1 : fresh;
}

/* ---- Registers ---- */

static void write_icw1(struct kvm_pic_state *s, u8 val)
{
	s->init4 = val & 1;
	s->last_irr = 0;
	s->irr &= s->elcr;
	s->imr = 0;
	s->priority_add = 0;
	s->special_mask = 0;
	s->read_reg_select = 0;
	s->poll = 0;
	if (!s->init4) {
		s->special_fully_nested_mode = 0;
		s->auto_eoi = 0;
	}
	s->init_state = WANT_ICW2;
}

/* The highest level in service that an unspecific EOI ends, or -1. */
static int in_service(const struct kvm_pic_state *s)
{
	unsigned r = rank(s, s->special_mask ? s->isr & ~s->imr : s->isr);

	return r == 8 ? -1 : (int)((r + s->priority_add) & 7);
}

static void write_ocw2(struct hv_pic *p, unsigned n, u8 val)
{
	struct kvm_pic_state *s = &p->chip[n];
	bool rotate = val & 0x80, specific = val & 0x40, eoi = val & 0x20;
	int irq = specific ? val & 7 : in_service(s);

	if (!eoi && !specific) {
		s->rotate_on_auto_eoi = rotate;
		return;
	}
	if (irq < 0)
		return;
	if (eoi)
		end_of_interrupt(p, n, irq);
	/* 010 is "no operation", 110 sets the priority. */
	if (rotate)
		s->priority_add = (irq + 1) & 7;
}

static void write_command(struct hv_pic *p, unsigned n, u8 val)
{
	struct kvm_pic_state *s = &p->chip[n];

	if (val & 0x10) {
		write_icw1(s, val);
	} else if (val & 0x08) {
		s->poll = val >> 2 & 1;
		if (val & 2)
			s->read_reg_select = val & 1;
		if (val & 0x40)
			s->special_mask = val >> 5 & 1;
	} else {
		write_ocw2(p, n, val);
	}
}

static void write_data(struct hv_pic *p, unsigned n, u8 val)
{
	struct kvm_pic_state *s = &p->chip[n];

	switch ((enum icw)s->init_state) {
	case READY:
		if (n == MASTER && (s->imr & ~val & 1))
			p->timer_unmasked = true;
		s->imr = val;
		break;
	case WANT_ICW2:
		s->irq_base = val & 0xf8;
		s->init_state = WANT_ICW3;
		break;
	case WANT_ICW3:
		/* The wiring of the cascade is fixed. */
		s->init_state = s->init4 ? WANT_ICW4 : READY;
		break;
	case WANT_ICW4:
		s->special_fully_nested_mode = val >> 4 & 1;
		s->auto_eoi = val >> 1 & 1;
		s->init_state = READY;
		break;
	}
}

/* "Poll command": the next read acknowledges like INTA and tells the level. */
static u8 poll_chip(struct hv_pic *p, unsigned n)
{
	int irq = request(p, n);

	p->chip[n].poll = 0;
	if (irq < 0)
		return 0;
	acknowledge(p, n, irq);
	return 0x80 | irq;
}

static u8 read_chip(struct hv_pic *p, unsigned n, bool data)
{
	const struct kvm_pic_state *s = &p->chip[n];

	if (s->poll)
		return poll_chip(p, n);
	if (data)
		return s->imr;
	return s->read_reg_select ? s->isr : s->irr;
}

static int chip_read(struct hv_pic *p, unsigned n, u64 addr, unsigned len, u8 *data)
{
	lock(p);
	for (unsigned i = 0; i < len; i++)
		data[i] = read_chip(p, n, (addr + i) & 1);
	settle(p);
	unlock(p);
	return 0;
}

static int chip_write(struct hv_pic *p, unsigned n, u64 addr, unsigned len, const u8 *data)
{
	lock(p);
	for (unsigned i = 0; i < len; i++) {
		if ((addr + i) & 1)
			write_data(p, n, data[i]);
		else
			write_command(p, n, data[i]);
	}
	settle(p);
	unlock(p);
	return 0;
}

static int master_read(struct hv_iodev *d, struct hv_vcpu *v, u64 addr, unsigned len, void *data)
{
	return chip_read(container_of(d, struct hv_pic, master), MASTER, addr, len, data);
}

static int master_write(struct hv_iodev *d, struct hv_vcpu *v, u64 addr, unsigned len,
			const void *data)
{
	return chip_write(container_of(d, struct hv_pic, master), MASTER, addr, len, data);
}

static int slave_read(struct hv_iodev *d, struct hv_vcpu *v, u64 addr, unsigned len, void *data)
{
	return chip_read(container_of(d, struct hv_pic, slave), SLAVE, addr, len, data);
}

static int slave_write(struct hv_iodev *d, struct hv_vcpu *v, u64 addr, unsigned len,
		       const void *data)
{
	return chip_write(container_of(d, struct hv_pic, slave), SLAVE, addr, len, data);
}

static int elcr_read(struct hv_iodev *d, struct hv_vcpu *v, u64 addr, unsigned len, void *data)
{
	struct hv_pic *p = container_of(d, struct hv_pic, elcr);

	lock(p);
	for (unsigned i = 0; i < len; i++)
		((u8 *)data)[i] = p->chip[(addr + i) & 1].elcr;
	unlock(p);
	return 0;
}

static int elcr_write(struct hv_iodev *d, struct hv_vcpu *v, u64 addr, unsigned len,
		      const void *data)
{
	struct hv_pic *p = container_of(d, struct hv_pic, elcr);

	lock(p);
	for (unsigned i = 0; i < len; i++) {
		struct kvm_pic_state *s = &p->chip[(addr + i) & 1];

		s->elcr = ((const u8 *)data)[i] & s->elcr_mask;
	}
	settle(p);
	unlock(p);
	return 0;
}

/* ---- Life and state ---- */

int hv_pic_new(struct hv_vm *vm)
{
	struct hv_pic *p = calloc(1, sizeof(*p));
	int err;

	if (!p)
		return -ENOMEM;
	p->vm = vm;
	pthread_mutex_init(&p->lock, NULL);
	/* Timer, keyboard, cascade, clock and coprocessor are edges for ever. */
	p->chip[MASTER].elcr_mask = 0xf8;
	p->chip[SLAVE].elcr_mask = 0xde;
	p->master = (struct hv_iodev){ master_read, master_write };
	p->slave = (struct hv_iodev){ slave_read, slave_write };
	p->elcr = (struct hv_iodev){ elcr_read, elcr_write };
	vm->pic = p;
	err = hv_iobus_add(vm, HV_BUS_PIO, 0x20, 2, 0, &p->master);
	if (!err)
		err = hv_iobus_add(vm, HV_BUS_PIO, 0xa0, 2, 0, &p->slave);
	if (!err)
		err = hv_iobus_add(vm, HV_BUS_PIO, 0x4d0, 2, 0, &p->elcr);
	if (err)
		hv_pic_free(vm);
	return err;
}

void hv_pic_free(struct hv_vm *vm)
{
	struct hv_pic *p = vm->pic;

	if (!p)
		return;
	hv_iobus_del(vm, HV_BUS_PIO, &p->master);
	hv_iobus_del(vm, HV_BUS_PIO, &p->slave);
	hv_iobus_del(vm, HV_BUS_PIO, &p->elcr);
	vm->pic = NULL;
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void hv_pic_get(struct hv_vm *vm, unsigned chip, struct kvm_pic_state *s)
{
	lock(vm->pic);
	*s = vm->pic->chip[chip];
	unlock(vm->pic);
}

void hv_pic_set(struct hv_vm *vm, unsigned chip, const struct kvm_pic_state *s)
{
	struct kvm_pic_state *c = &vm->pic->chip[chip];
	u8 mask = c->elcr_mask;

	lock(vm->pic);
	*c = *s;
	/* It comes from a file, maybe: keep what is used as an index or as a flag in range. */
	c->priority_add &= 7;
	c->init_state &= 3;
	c->elcr_mask = mask;
	c->elcr &= mask;
	settle(vm->pic);
	unlock(vm->pic);
}
