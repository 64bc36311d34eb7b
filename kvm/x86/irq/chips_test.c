// SPDX-License-Identifier: MIT
/* PIC, IOAPIC, routing and MSIs: sequences at their registers. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "kvm/x86/irq/chip.h"
#include "kvm/x86/irq/lapic.h"
#include "kvm/x86/irq/test_vm.h"

#define IOAPIC 0xfec00000u

struct fixture {
	struct hv_vm *vm;
	struct hv_vcpu *v[2];
};

static int setup(void **state)
{
	static struct fixture f;

	f.vm = test_vm_new();
	assert_int_equal(hv_irqchip_create(f.vm), 0);
	for (unsigned i = 0; i < 2; i++) {
		f.v[i] = test_vcpu_new(f.vm, i);
		lapic_write_reg(f.v[i]->lapic, APIC_SVR, 0x1ff);
	}
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	test_vm_free(((struct fixture *)*state)->vm);
	return 0;
}

static int line(struct hv_vm *vm, u32 gsi, int level)
{
	return hv_irq_line(vm, gsi, level, HV_IRQ_USER);
}

/* ---- PIC ---- */

/* ICW1-4 of both chips: bases 30h and 38h; @icw4 to both. */
static void pic_init(struct hv_vcpu *v, u8 icw4)
{
	static const u8 master[] = { 0x30, 4 }, slave[] = { 0x38, 2 };

	test_out(v, 0x20, 0x11);
	test_out(v, 0xa0, 0x11);
	for (unsigned i = 0; i < 2; i++) {
		test_out(v, 0x21, master[i]);
		test_out(v, 0xa1, slave[i]);
	}
	test_out(v, 0x21, icw4);
	test_out(v, 0xa1, icw4);
}

static void pulse(struct hv_vm *vm, u32 gsi)
{
	line(vm, gsi, 1);
	line(vm, gsi, 0);
}

static int ack(struct hv_vcpu *v)
{
	return hv_irq_pending_any(v) ? hv_irq_ack(v) : -1;
}

static void pic_priority(void **state)
{
	struct fixture *f = *state;
	struct hv_vcpu *v = f->v[0];

	lapic_write_reg(v->lapic, APIC_LVT0, 0x700);
	pic_init(v, 1);
	pulse(f->vm, 5);
	pulse(f->vm, 3);
	assert_int_equal(test_in(v, 0x20), 0x28);	/* IRR */
	assert_int_equal(ack(v), 0x33);
	assert_int_equal(ack(v), -1);			/* 5 waits for 3 */
	pulse(f->vm, 1);
	assert_int_equal(ack(v), 0x31);			/* 1 nests */
	test_out(v, 0x20, 0x0b);
	assert_int_equal(test_in(v, 0x20), 0x0a);	/* ISR */
	test_out(v, 0x20, 0x20);			/* ends 1 */
	assert_int_equal(test_in(v, 0x20), 0x08);
	test_out(v, 0x20, 0x63);			/* specific: 3 */
	assert_int_equal(ack(v), 0x35);
	test_out(v, 0x20, 0x20);
	/* The slave hangs at 2: between 1 and 3. */
	pulse(f->vm, 12);
	pulse(f->vm, 3);
	assert_int_equal(ack(v), 0x3c);
	test_out(v, 0x20, 0x0b);
	assert_int_equal(test_in(v, 0x20), 0x04);
	pulse(f->vm, 8);		/* higher at the slave, but 2 is in service */
	assert_int_equal(ack(v), -1);
	test_out(v, 0xa0, 0x20);
	test_out(v, 0x20, 0x20);
	assert_int_equal(ack(v), 0x38);
	test_out(v, 0xa0, 0x20);
	test_out(v, 0x20, 0x20);
	assert_int_equal(ack(v), 0x33);
	test_out(v, 0x20, 0x20);
}

static void pic_masks(void **state)
{
	struct fixture *f = *state;
	struct hv_vcpu *v = f->v[0];

	lapic_write_reg(v->lapic, APIC_LVT0, 0x700);
	pic_init(v, 1);
	test_out(v, 0x21, 0x10);
	assert_int_equal(test_in(v, 0x21), 0x10);
	assert_int_equal(line(f->vm, 4, 1), -1);	/* latched all the same */
	line(f->vm, 4, 0);
	assert_int_equal(ack(v), -1);
	test_out(v, 0x21, 0);
	assert_int_equal(ack(v), 0x34);
	/* Special mask mode: 4 in service and masked holds nobody back. */
	pulse(f->vm, 6);
	assert_int_equal(ack(v), -1);
	test_out(v, 0x21, 0x10);
	assert_int_equal(ack(v), -1);
	test_out(v, 0x20, 0x68);
	assert_int_equal(ack(v), 0x36);
	test_out(v, 0x20, 0x20);			/* unspecific: not the masked one */
	test_out(v, 0x20, 0x0b);
	assert_int_equal(test_in(v, 0x20), 0x10);
	test_out(v, 0x20, 0x48);			/* off again */
	/* Coalesced: the edge is latched already. */
	assert_int_equal(line(f->vm, 7, 1), 1);
	line(f->vm, 7, 0);
	assert_int_equal(line(f->vm, 7, 1), 0);
	/* ICW1 forgets edges and masks. */
	pic_init(v, 1);
	assert_int_equal(test_in(v, 0x20), 0);
	assert_int_equal(test_in(v, 0x21), 0);
}

static void pic_spurious(void **state)
{
	struct fixture *f = *state;
	struct hv_vcpu *v = f->v[0];

	lapic_write_reg(v->lapic, APIC_LVT0, 0x700);
	pic_init(v, 1);
	/* Levels that are gone before INTA: 7 of the master, 15 with the cascade in service. */
	test_out(v, 0x4d0, 0xff);
	test_out(v, 0x4d1, 0xff);
	assert_int_equal(test_in(v, 0x4d0), 0xf8);
	assert_int_equal(test_in(v, 0x4d1), 0xde);
	line(f->vm, 5, 1);
	line(f->vm, 5, 0);
	assert_false(hv_irq_pending_any(v));
	assert_int_equal(hv_pic_ack(f->vm->pic), 0x37);
	test_out(v, 0x20, 0x0b);
	assert_int_equal(test_in(v, 0x20), 0);
	line(f->vm, 10, 1);
	line(f->vm, 10, 0);
	assert_int_equal(hv_pic_ack(f->vm->pic), 0x3f);
	assert_int_equal(test_in(v, 0x20), 4);
	test_out(v, 0xa0, 0x0b);
	assert_int_equal(test_in(v, 0xa0), 0);
	test_out(v, 0x20, 0x20);
	/* A level that stays comes again after its EOI. */
	line(f->vm, 5, 1);
	assert_int_equal(ack(v), 0x35);
	test_out(v, 0x20, 0x20);
	assert_int_equal(ack(v), 0x35);
	line(f->vm, 5, 0);
	test_out(v, 0x20, 0x20);
	assert_int_equal(ack(v), -1);
}

static void pic_auto_eoi_rotate_poll(void **state)
{
	struct fixture *f = *state;
	struct hv_vcpu *v = f->v[0];

	lapic_write_reg(v->lapic, APIC_LVT0, 0x700);
	pic_init(v, 3);
	pulse(f->vm, 3);
	pulse(f->vm, 5);
	assert_int_equal(ack(v), 0x33);
	assert_int_equal(ack(v), 0x35);
	test_out(v, 0x20, 0x80);			/* rotate in AEOI mode */
	pulse(f->vm, 3);
	assert_int_equal(ack(v), 0x33);			/* now 4 is the highest */
	pulse(f->vm, 1);
	pulse(f->vm, 6);
	assert_int_equal(ack(v), 0x36);
	assert_int_equal(ack(v), 0x31);
	test_out(v, 0x20, 0);

	pic_init(v, 1);
	test_out(v, 0x20, 0xc4);			/* 4 is the lowest: 5 is the highest */
	pulse(f->vm, 0);
	pulse(f->vm, 5);
	assert_int_equal(ack(v), 0x35);
	test_out(v, 0x20, 0xa0);			/* rotate on EOI: 5 is the lowest */
	pulse(f->vm, 5);
	assert_int_equal(ack(v), 0x30);
	test_out(v, 0x20, 0xe0);			/* specific, rotate: 0 is the lowest */
	assert_int_equal(ack(v), 0x35);
	test_out(v, 0x20, 0x20);
	/* Poll acknowledges. */
	test_out(v, 0x20, 0x0c);
	assert_int_equal(test_in(v, 0x20), 0);
	pulse(f->vm, 6);
	test_out(v, 0x20, 0x0c);
	assert_int_equal(test_in(v, 0x20), 0x86);
	test_out(v, 0x20, 0x0b);
	assert_int_equal(test_in(v, 0x20), 0x40);
}

static void pic_fully_nested(void **state)
{
	struct fixture *f = *state;
	struct hv_vcpu *v = f->v[0];

	lapic_write_reg(v->lapic, APIC_LVT0, 0x700);
	pic_init(v, 0x11);
	pulse(f->vm, 12);
	assert_int_equal(ack(v), 0x3c);
	pulse(f->vm, 9);				/* passes, though 2 is in service */
	assert_int_equal(ack(v), 0x39);
	pulse(f->vm, 14);
	assert_int_equal(ack(v), -1);
}

static void pic_sources_and_state(void **state)
{
	struct fixture *f = *state;
	struct hv_vcpu *v = f->v[0];
	struct kvm_irqchip c = { .chip_id = KVM_IRQCHIP_PIC_MASTER };

	lapic_write_reg(v->lapic, APIC_LVT0, 0x700);
	pic_init(v, 1);
	test_out(v, 0x4d0, 0x20);
	hv_irq_line(f->vm, 5, 1, HV_IRQ_USER);
	hv_irq_line(f->vm, 5, 1, HV_IRQ_RESAMPLE);
	hv_irq_line(f->vm, 5, 0, HV_IRQ_USER);
	assert_int_equal(ack(v), 0x35);			/* the other source holds it */
	assert_int_equal(hv_irqchip_get(f->vm, &c), 0);
	assert_int_equal(c.chip.pic.isr, 0x20);
	assert_int_equal(c.chip.pic.irq_base, 0x30);
	assert_int_equal(c.chip.pic.elcr, 0x20);
	pic_init(v, 1);
	c.chip.pic.isr = 0;
	c.chip.pic.irr = 0x08;
	c.chip.pic.elcr = 0xff;
	c.chip.pic.priority_add = 0xff;
	assert_int_equal(hv_irqchip_set(f->vm, &c), 0);
	assert_int_equal(ack(v), 0x33);
	assert_int_equal(test_in(v, 0x4d0), 0xf8);
	c.chip_id = 3;
	assert_int_equal(hv_irqchip_get(f->vm, &c), -EINVAL);
	assert_int_equal(hv_irqchip_set(f->vm, &c), -EINVAL);
}

/* ---- IOAPIC ---- */

static u32 io_read(struct hv_vcpu *v, unsigned reg)
{
	test_mmio_write(v, IOAPIC, reg);
	return test_mmio_read(v, IOAPIC + 0x10);
}

static void io_write(struct hv_vcpu *v, unsigned reg, u32 val)
{
	test_mmio_write(v, IOAPIC, reg);
	test_mmio_write(v, IOAPIC + 0x10, val);
}

static void redirect(struct hv_vcpu *v, unsigned pin, u32 low, u8 dest)
{
	io_write(v, 0x11 + 2 * pin, (u32)dest << 24);
	io_write(v, 0x10 + 2 * pin, low);
}

static u32 entry(struct hv_vcpu *v, unsigned pin)
{
	return io_read(v, 0x10 + 2 * pin);
}

static void eoi(struct hv_vcpu *v)
{
	lapic_write_reg(v->lapic, APIC_EOI, 0);
}

#define LEVEL 0x8000u
#define MASKED 0x10000u
#define REMOTE_IRR 0x4000u

static void ioapic_registers(void **state)
{
	struct fixture *f = *state;
	struct hv_vcpu *v = f->v[0];
	u64 q;

	assert_int_equal(io_read(v, 1), 0x00170011);
	io_write(v, 1, 0);
	assert_int_equal(io_read(v, 1), 0x00170011);
	io_write(v, 0, 0xffffffff);
	assert_int_equal(io_read(v, 0), 0x0f000000);
	assert_int_equal(io_read(v, 2), 0x0f000000);
	for (unsigned pin = 0; pin < 24; pin++)
		assert_int_equal(entry(v, pin), MASKED);
	io_write(v, 0x14, 0xffffffff);
	assert_int_equal(io_read(v, 0x14), 0x0001afff);	/* status and remote IRR are not writable */
	io_write(v, 0x15, 0xffffffff);
	assert_int_equal(io_read(v, 0x15), 0xff000000);
	assert_int_equal(io_read(v, 0x40), 0xffffffff);
	assert_int_equal(io_read(v, 3), 0xffffffff);
	assert_int_equal(test_mmio_read(v, IOAPIC + 0x40), 0);
	assert_int_equal(hv_iobus_read(v, HV_BUS_MMIO, IOAPIC, 8, &q), 0);
	assert_int_equal(q, 3);
}

static void ioapic_edge(void **state)
{
	struct fixture *f = *state;
	struct hv_vcpu *v = f->v[1];

	redirect(v, 20, 0x61, 1);
	assert_int_equal(line(f->vm, 20, 1), 1);
	assert_int_equal(line(f->vm, 20, 1), 0);	/* no edge */
	line(f->vm, 20, 0);
	assert_int_equal(hv_irq_ack(v), 0x61);
	assert_int_equal(entry(v, 20), 0x61);
	eoi(v);
	/* Lost while masked, also if the mask opens under a high line. */
	redirect(v, 20, 0x61 | MASKED, 1);
	assert_int_equal(line(f->vm, 20, 1), -1);
	redirect(v, 20, 0x61, 1);
	assert_int_equal(hv_lapic_pending(v), -1);
	line(f->vm, 20, 0);
	/* Nobody there. */
	redirect(v, 20, 0x61, 9);
	assert_int_equal(line(f->vm, 20, 1), -1);
	line(f->vm, 20, 0);
	/* No route. */
	assert_int_equal(line(f->vm, 100, 1), -1);
	assert_int_equal(line(f->vm, 0x80000000, 1), -1);
}

static void ioapic_level(void **state)
{
	struct fixture *f = *state;
	struct hv_vcpu *v = f->v[1];

	redirect(v, 20, 0x62 | LEVEL, 1);
	assert_int_equal(line(f->vm, 20, 1), 1);
	assert_int_equal(entry(v, 20), 0x62 | LEVEL | REMOTE_IRR);
	assert_int_equal(line(f->vm, 20, 1), 0);	/* in service */
	assert_int_equal(hv_irq_ack(v), 0x62);
	assert_int_equal(hv_lapic_pending(v), -1);
	eoi(v);						/* the line is still high */
	assert_int_equal(entry(v, 20), 0x62 | LEVEL | REMOTE_IRR);
	assert_int_equal(hv_irq_ack(v), 0x62);
	line(f->vm, 20, 0);
	eoi(v);
	assert_int_equal(entry(v, 20), 0x62 | LEVEL);
	assert_int_equal(hv_lapic_pending(v), -1);
	/* Masked in between: no delivery at the EOI; the opening delivers at once. */
	line(f->vm, 20, 1);
	assert_int_equal(hv_irq_ack(v), 0x62);
	redirect(v, 20, 0x62 | LEVEL | MASKED, 1);
	eoi(v);
	assert_int_equal(hv_lapic_pending(v), -1);
	assert_int_equal(entry(v, 20), 0x62 | LEVEL | MASKED);
	redirect(v, 20, 0x62 | LEVEL, 1);
	assert_int_equal(hv_irq_ack(v), 0x62);
	/* Written as edge and back: remote IRR is cleared, the level comes again. */
	redirect(v, 20, 0x62 | MASKED, 1);
	assert_int_equal(entry(v, 20), 0x62 | MASKED);
	redirect(v, 20, 0x62 | LEVEL, 1);
	assert_true(lapic_vec_test(v->lapic, APIC_IRR, 0x62));
	eoi(v);
	assert_int_equal(hv_irq_ack(v), 0x62);
	/*
	 * Another vector while in service: the EOI of the old one counts, the new one
	 * is delivered.
	 */
	redirect(v, 20, 0x73 | LEVEL, 0);
	assert_int_equal(entry(v, 20), 0x73 | LEVEL | REMOTE_IRR);
	eoi(v);
	assert_int_equal(hv_irq_ack(f->v[0]), 0x73);
	line(f->vm, 20, 0);
	eoi(f->v[0]);
	assert_int_equal(entry(v, 20), 0x73 | LEVEL);
}

static void ioapic_shared_vector(void **state)
{
	struct fixture *f = *state;
	struct hv_vcpu *v = f->v[1];

	/* Two level pins on one vector: one EOI serves both, the high one comes again. */
	redirect(v, 18, 0x65 | LEVEL, 1);
	redirect(v, 19, 0x65 | LEVEL, 1);
	line(f->vm, 18, 1);
	line(f->vm, 19, 1);
	assert_int_equal(hv_irq_ack(v), 0x65);
	line(f->vm, 18, 0);
	eoi(v);
	assert_int_equal(entry(v, 18), 0x65 | LEVEL);
	assert_int_equal(entry(v, 19), 0x65 | LEVEL | REMOTE_IRR);
	assert_int_equal(hv_irq_ack(v), 0x65);
	line(f->vm, 19, 0);
	eoi(v);
	assert_int_equal(hv_lapic_pending(v), -1);
}

static void ioapic_modes(void **state)
{
	struct fixture *f = *state;
	struct hv_vcpu *v = f->v[0];

	redirect(v, 21, 0x400, 1);
	line(f->vm, 21, 1);
	assert_int_equal(test_vcpu(f->v[1])->nmis, 1);
	/* ExtINT: the vector is the PIC's, though LINT0 is masked. */
	pic_init(v, 1);
	lapic_write_reg(v->lapic, APIC_LVT0, 0x10700);
	redirect(v, 3, 0x700, 0);
	line(f->vm, 3, 1);
	assert_true(hv_irq_pending_any(v));
	assert_int_equal(hv_irq_ack(v), 0x33);
	assert_false(hv_irq_pending_any(v));
	/* Logical, lowest priority. */
	lapic_write_reg(f->v[0]->lapic, APIC_LDR, 0x01000000);
	lapic_write_reg(f->v[1]->lapic, APIC_LDR, 0x02000000);
	redirect(v, 22, 0x966, 3);
	assert_int_equal(line(f->vm, 22, 1), 1);
	assert_int_equal(lapic_vec_test(f->v[0]->lapic, APIC_IRR, 0x66) +
			 lapic_vec_test(f->v[1]->lapic, APIC_IRR, 0x66), 1);
}

static void ioapic_rtc_merges(void **state)
{
	struct fixture *f = *state;
	struct hv_vcpu *v = f->v[1];

	redirect(v, 8, 0x67, 1);
	test_out(v, 0xa1, 0xff);
	assert_int_equal(line(f->vm, 8, 1), 1);
	line(f->vm, 8, 0);
	assert_int_equal(line(f->vm, 8, 1), 0);
	line(f->vm, 8, 0);
	hv_irq_ack(v);
	assert_int_equal(line(f->vm, 8, 1), 1);
	assert_true(lapic_vec_test(v->lapic, APIC_IRR, 0x67));
}

static void ioapic_state(void **state)
{
	struct fixture *f = *state;
	struct hv_vcpu *v = f->v[1];
	struct kvm_irqchip c = { .chip_id = KVM_IRQCHIP_IOAPIC };

	redirect(v, 20, 0x62 | LEVEL, 1);
	redirect(v, 21, 0x63, 1);
	redirect(v, 22, 0x64 | LEVEL | MASKED, 1);
	line(f->vm, 20, 1);
	line(f->vm, 21, 1);
	line(f->vm, 22, 1);
	assert_int_equal(hv_irq_ack(v), 0x63);
	eoi(v);
	assert_int_equal(hv_irqchip_get(f->vm, &c), 0);
	assert_int_equal(c.chip.ioapic.base_address, IOAPIC);
	/* A delivered edge is not delivered again by the next owner. */
	assert_int_equal(c.chip.ioapic.irr, 1u << 20 | 1u << 22);
	assert_int_equal(c.chip.ioapic.redirtbl[20].bits, 0x0100000000000062 | LEVEL | REMOTE_IRR);
	lapic_vec_clear(v->lapic, APIC_IRR, 0x62);
	redirect(v, 20, MASKED, 0);
	assert_int_equal(hv_irqchip_set(f->vm, &c), 0);
	assert_int_equal(entry(v, 20), 0x62 | LEVEL | REMOTE_IRR);
	/* The EOI of an interrupt from before is understood. */
	lapic_accept(v->lapic, 0x62, true);
	hv_irq_ack(v);
	eoi(v);
	assert_int_equal(hv_irq_ack(v), 0x62);
	redirect(v, 22, 0x64 | LEVEL, 1);
	assert_int_equal(hv_irq_ack(v), -1);
	assert_true(lapic_vec_test(v->lapic, APIC_IRR, 0x64));
}

static void eoi_storm(void **state)
{
	struct fixture *f = *state;
	struct hv_vcpu *v = f->v[1];
	unsigned n;

	redirect(v, 20, 0x62 | LEVEL, 1);
	line(f->vm, 20, 1);
	for (n = 0; n < 20000 && hv_irq_ack(v) == 0x62; n++)
		eoi(v);
	assert_int_equal(n, 10000);
	/* It comes back by itself. */
	for (unsigned i = 0; i < 1000 && hv_lapic_pending(v) < 0; i++)
		usleep(1000);
	assert_int_equal(hv_irq_ack(v), 0x62);
}

/* ---- Routing and messages ---- */

#define CHIP(g, c, p) { .gsi = (g), .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = { (c), (p) } }
#define MSI(g, lo, hi, d)                                                                          \
	{                                                                                          \
		.gsi = (g), .type = KVM_IRQ_ROUTING_MSI, .u.msi = {(lo), (hi), (d), {0} }          \
	}

static void routing_errors(void **state)
{
	struct fixture *f = *state;
	static const struct {
		struct kvm_irq_routing_entry e[2];
		u32 nr, flags;
		int err;
	} rows[] = {
		{{{0}}, 0, 0, 0},
		{{CHIP(0, 2, 2), CHIP(4095, 0, 7)}, 2, 0, 0},
		{{CHIP(0, 2, 2)}, 1, 1, -EINVAL},
		{{CHIP(4096, 2, 2)}, 1, 0, -EINVAL},
		{{CHIP(0, 0, 8)}, 1, 0, -EINVAL},
		{{CHIP(0, 1, 8)}, 1, 0, -EINVAL},
		{{CHIP(0, 2, 24)}, 1, 0, -EINVAL},
		{{CHIP(0, 3, 0)}, 1, 0, -EINVAL},
		{{{.gsi = 1, .type = KVM_IRQ_ROUTING_MSI, .flags = 1}}, 1, 0, -EINVAL},
		{{{.gsi = 1, .type = KVM_IRQ_ROUTING_HV_SINT}}, 1, 0, 0},
		{{{.gsi = 1, .type = 0}}, 1, 0, -EINVAL},
		{{CHIP(5, 2, 1), CHIP(5, 2, 2)}, 2, 0, -EINVAL},
		{{CHIP(5, 2, 1), MSI(5, 0, 0, 0)}, 2, 0, -EINVAL},
		{{MSI(5, 0, 0, 0), MSI(5, 0, 0, 0)}, 2, 0, -EINVAL},
		{{MSI(5, 0xfee00000, 0, 0x40), MSI(6, 0xfee00000, 5, 0x40)}, 2, 0, 0},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(hv_set_gsi_routing(f->vm, rows[i].e, rows[i].nr, rows[i].flags),
				 rows[i].err);
	assert_int_equal(hv_set_gsi_routing(f->vm, rows[0].e, 4097, 0), -EINVAL);
	f->vm->x2apic_format = true;
	assert_int_equal(hv_set_gsi_routing(f->vm, rows[14].e, 2, 0), -EINVAL);
}

static void routing_takes_effect(void **state)
{
	struct fixture *f = *state;
	struct hv_vcpu *v = f->v[1];
	const struct kvm_irq_routing_entry e[] = {
		CHIP(0, KVM_IRQCHIP_IOAPIC, 2),
		MSI(30, 0xfee01000, 0, 0x4055),
		MSI(31, 0xfee01000, 0, 0xc056),
	};

	assert_int_equal(hv_set_gsi_routing(f->vm, e, 3, 0), 0);
	redirect(v, 2, 0x51, 1);
	assert_int_equal(line(f->vm, 0, 1), 1);
	assert_int_equal(hv_irq_ack(v), 0x51);
	eoi(v);
	assert_int_equal(line(f->vm, 30, 1), 1);
	assert_int_equal(line(f->vm, 30, 0), -1);
	assert_int_equal(hv_irq_ack(v), 0x55);
	eoi(v);
	assert_int_equal(line(f->vm, 31, 1), 1);
	assert_true(lapic_vec_test(v->lapic, APIC_TMR, 0x56));
	assert_int_equal(line(f->vm, 2, 1), -1);	/* the old route is gone */
}

static void msi(void **state)
{
	struct fixture *f = *state;
	static const struct { struct kvm_msi m; int ret; } rows[] = {
		{ { 0xfee01000, 0, 0x41, 0, 0, { 0 } }, 1 },
		{ { 0xfeeff000, 0, 0x42, 0, 0, { 0 } }, 2 },
		{ { 0xfee05000, 0, 0x43, 0, 0, { 0 } }, 0 },	/* nobody */
		{ { 0xfee01000, 0, 0x05, 0, 0, { 0 } }, 0 },	/* illegal vector */
		{ { 0xfee01000, 0, 0x41, 1, 0, { 0 } }, -EINVAL },
		{ { 0xfee01004, 0, 0x44, 0, 0, { 0 } }, 1 },	/* logical */
	};

	lapic_write_reg(f->v[1]->lapic, APIC_LDR, 0x01000000);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(hv_signal_msi(f->vm, &rows[i].m), rows[i].ret);
	assert_int_equal(hv_lapic_pending(f->v[1]), 0x44);
	/* Bits 11:5 of the address are no destination. */
	assert_int_equal(
		hv_signal_msi(f->vm, &(struct kvm_msi){.address_lo = 0xfee01fe0, .data = 0x45}), 1);
	f->vm->x2apic_format = true;
	assert_int_equal(
		hv_signal_msi(f->vm, &(struct kvm_msi){.address_lo = 0xfee01000, .address_hi = 1}),
		-EINVAL);
	assert_int_equal(hv_signal_msi(f->vm, &(struct kvm_msi){.address_lo = 0xfee01000,
								.address_hi = 0x100,
								.data = 0x46}),
			 0);
}

static void creation_errors(void **state)
{
	struct fixture *f = *state;
	struct kvm_irqchip c = { .chip_id = 0 };
	struct kvm_pit_config pit = { 0 };
	struct hv_vm *vm = test_vm_new();

	assert_int_equal(hv_irqchip_create(f->vm), -EEXIST);
	assert_int_equal(hv_irqchip_split(f->vm, 24), -EEXIST);
	assert_int_equal(line(vm, 0, 1), -ENXIO);
	assert_int_equal(hv_irqchip_get(vm, &c), -ENXIO);
	assert_int_equal(hv_signal_msi(vm, &(struct kvm_msi){ .address_lo = 0xfee00000 }), -EINVAL);
	assert_int_equal(hv_set_gsi_routing(vm, NULL, 0, 0), -EINVAL);
	assert_int_equal(hv_pit_create(vm, &pit), -ENOENT);
	assert_int_equal(hv_irqchip_split(vm, 25), -EINVAL);
	test_vcpu_new(vm, 0);
	assert_int_equal(hv_irqchip_create(vm), -EINVAL);
	assert_int_equal(hv_irqchip_split(vm, 24), -EEXIST);
	test_vm_free(vm);
}

static void split_irqchip(void **state)
{
	struct hv_vm *vm = test_vm_new();
	struct kvm_irq_routing_entry e = MSI(3, 0xfee00000, 0, 0xc052), chip = CHIP(0, 2, 0);
	struct hv_vcpu *v;
	u64 map[4];

	assert_int_equal(hv_irqchip_split(vm, 24), 0);
	v = test_vcpu_new(vm, 0);
	hv_lapic_set_cpuid(v, &(struct hv_lapic_cpuid){ .x2apic = true, .physbits = 39 });
	lapic_write_reg(v->lapic, APIC_SVR, 0x1ff);
	assert_int_equal(hv_set_gsi_routing(vm, &chip, 1, 0), -EINVAL);
	assert_int_equal(hv_set_gsi_routing(vm, &e, 1, 0), 0);
	hv_ioapic_eoi_bitmap(v, map);
	assert_int_equal(map[1], 1ull << (0x52 - 64));
	assert_int_equal(line(vm, 3, 1), 1);
	assert_int_equal(hv_irq_ack(v), 0x52);
	eoi(v);
	assert_true(hv_test_request(v, HV_REQ_IOAPIC_EOI_EXIT));
	assert_int_equal(hv_lapic_take_eoi_exit(v), 0x52);
	/*
	 * An edge needs nobody's attention; nor does a level if the guest tells the
	 * IOAPIC itself.
	 */
	lapic_accept(v->lapic, 0x53, false);
	hv_irq_ack(v);
	eoi(v);
	assert_false(hv_test_request(v, HV_REQ_IOAPIC_EOI_EXIT));
	assert_true(lapic_get(v->lapic, APIC_VERSION) & APIC_VERSION_NO_EOI_BROADCAST);
	lapic_write_reg(v->lapic, APIC_SVR, 0x11ff);
	line(vm, 3, 1);
	hv_irq_ack(v);
	eoi(v);
	assert_false(hv_test_request(v, HV_REQ_IOAPIC_EOI_EXIT));
	/* ExtINT of user space. */
	lapic_write_reg(v->lapic, APIC_LVT0, 0x700);
	assert_int_equal(hv_irq_set_extint(v, 0x21), 0);
	assert_int_equal(hv_irq_set_extint(v, 0x22), -EEXIST);
	assert_int_equal(hv_irq_ack(v), 0x21);
	assert_false(hv_irq_pending_any(v));
	test_vm_free(vm);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(pic_priority),
		T(pic_masks),
		T(pic_spurious),
		T(pic_auto_eoi_rotate_poll),
		T(pic_fully_nested),
		T(pic_sources_and_state),
		T(ioapic_registers),
		T(ioapic_edge),
		T(ioapic_level),
		T(ioapic_shared_vector),
		T(ioapic_modes),
		T(ioapic_rtc_merges),
		T(ioapic_state),
		T(eoi_storm),
		T(routing_errors),
		T(routing_takes_effect),
		T(msi),
		T(creation_errors),
		T(split_irqchip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
