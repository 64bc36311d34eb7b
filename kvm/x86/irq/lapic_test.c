// SPDX-License-Identifier: MIT
/* Registers, modes, priorities, IPIs, timer and state of the local APIC. */
#include <errno.h>
#include <linux/kvm_para.h>
#include <string.h>

#include "kvm/x86/clock.h"
#include "kvm/x86/irq/lapic.h"
#include "kvm/x86/irq/test_vm.h"

#define PAGE 0xfee00000u
#define GP 1

struct fixture {
	struct hv_vm *vm;
	struct hv_vcpu *v[3];
};

static const struct hv_lapic_cpuid all = {
	.x2apic = true, .tsc_deadline = true, .cmci = true, .physbits = 39,
};

static int setup(void **state)
{
	static struct fixture f;

	f.vm = test_vm_new();
	assert_int_equal(hv_irqchip_create(f.vm), 0);
	for (unsigned i = 0; i < 3; i++) {
		f.v[i] = test_vcpu_new(f.vm, i);
		hv_lapic_set_cpuid(f.v[i], &all);
	}
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	test_vm_free(((struct fixture *)*state)->vm);
	return 0;
}

static u32 rd(struct hv_vcpu *v, unsigned off)
{
	u32 val = 0xdeadbeef;

	assert_true(hv_lapic_mmio_read(v, PAGE + off, 4, &val));
	return val;
}

static void wr(struct hv_vcpu *v, unsigned off, u32 val)
{
	assert_true(hv_lapic_mmio_write(v, PAGE + off, 4, &val));
}

static void to_x2apic(struct hv_vcpu *v)
{
	assert_int_equal(hv_lapic_set_base(v, hv_lapic_get_base(v) | APIC_BASE_EXTD, false), 0);
}

static void enable(struct hv_vcpu *v)
{
	lapic_write_reg(v->lapic, APIC_SVR, 0x1ff);
}

/* ---- Registers ---- */

static void reset_values(void **state)
{
	struct fixture *f = *state;
	static const struct { unsigned off; u32 bsp, ap; } rows[] = {
		{ APIC_ID, 0, 0x01000000 }, { APIC_VERSION, 0x00060014, 0x00060014 },
		{ APIC_TPR, 0, 0 }, { APIC_PPR, 0, 0 }, { APIC_LDR, 0, 0 }, { APIC_DFR, ~0u, ~0u },
		{ APIC_SVR, 0xff, 0xff }, { APIC_ESR, 0, 0 }, { APIC_ICR, 0, 0 }, { APIC_ICR2, 0, 0 },
		{ APIC_CMCI, 0x10000, 0x10000 }, { APIC_LVTT, 0x10000, 0x10000 },
		{ APIC_LVTTHMR, 0x10000, 0x10000 }, { APIC_LVTPC, 0x10000, 0x10000 },
		{ APIC_LVT0, 0x700, 0x10000 }, { APIC_LVT1, 0x10000, 0x10000 },
		{ APIC_LVTERR, 0x10000, 0x10000 }, { APIC_TMICT, 0, 0 }, { APIC_TMCCT, 0, 0 }, { APIC_TDCR, 0, 0 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(rd(f->v[0], rows[i].off), rows[i].bsp);
		assert_int_equal(rd(f->v[1], rows[i].off), rows[i].ap);
	}
	assert_int_equal(hv_lapic_get_base(f->v[0]), 0xfee00900);
	assert_int_equal(hv_lapic_get_base(f->v[1]), 0xfee00800);
}

static void xapic_masks(void **state)
{
	struct hv_vcpu *v = ((struct fixture *)*state)->v[1];
	/* Value read back after writing all ones, then 0; APIC enabled. */
	static const struct { unsigned off; u32 ones, zeros; } rows[] = {
		{ APIC_ID, 0xff000000, 0 }, { APIC_VERSION, 0x00060014, 0x00060014 },
		{ APIC_TPR, 0xff, 0 }, { APIC_APR, 0, 0 }, { APIC_LDR, 0xff000000, 0 },
		{ APIC_DFR, 0xffffffff, 0x0fffffff },
		{ APIC_ISR, 0, 0 }, { APIC_IRR + 0x70, 0, 0 }, { APIC_ICR2, 0xff000000, 0 },
		{ APIC_CMCI, 0x107ff, 0 }, { APIC_LVTTHMR, 0x107ff, 0 }, { APIC_LVTPC, 0x107ff, 0 },
		{ APIC_LVT0, 0x1a7ff, 0 }, { APIC_LVT1, 0x1a7ff, 0 }, { APIC_LVTERR, 0x100ff, 0 },
		{ APIC_LVTT, 0x700ff, 0 }, { APIC_TDCR, 0xb, 0 }, { APIC_SELF_IPI, 0, 0 },
	};

	enable(v);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		wr(v, rows[i].off, ~0u);
		assert_int_equal(rd(v, rows[i].off), rows[i].ones);
		wr(v, rows[i].off, 0);
		assert_int_equal(rd(v, rows[i].off), rows[i].zeros);
	}
	/* No broadcast suppression beside an in-kernel IOAPIC. */
	wr(v, APIC_SVR, ~0u);
	assert_int_equal(rd(v, APIC_SVR), 0x3ff);
}

static void xapic_access_sizes(void **state)
{
	struct hv_vcpu *v = ((struct fixture *)*state)->v[1];
	u64 q = ~0ull;
	u8 b = 0xff;

	assert_true(hv_lapic_mmio_read(v, PAGE + APIC_VERSION + 2, 1, &b));
	assert_int_equal(b, 6);
	assert_true(hv_lapic_mmio_read(v, PAGE + APIC_VERSION + 4, 4, &q));
	assert_int_equal((u32)q, 0);
	assert_true(hv_lapic_mmio_read(v, PAGE + APIC_VERSION, 8, &q));
	assert_int_equal(q, 0);
	/* Byte writes are lost. */
	b = 0x20;
	assert_true(hv_lapic_mmio_write(v, PAGE + APIC_TPR, 1, &b));
	assert_int_equal(rd(v, APIC_TPR), 0);
	assert_false(hv_lapic_mmio_read(v, PAGE + 0x1000, 4, &q));
}

static void x2apic_access(void **state)
{
	struct hv_vcpu *v = ((struct fixture *)*state)->v[2];
	static const struct { u32 msr; u64 val; int write, read; u64 back; } rows[] = {
		{ 0x802, 2, GP, 0, 2 }, { 0x803, 0, GP, 0, 0x00060014 },
		{ 0x808, 0x55, 0, 0, 0x55 }, { 0x808, 0x100, GP, 0, 0x55 }, { 0x808, 1ull << 32, GP, 0, 0x55 },
		{ 0x809, 0, GP, GP, 0 }, { 0x80a, 0, GP, 0, 0x55 }, { 0x80b, 0, 0, GP, 0 }, { 0x80b, 1, GP, GP, 0 },
		{ 0x80c, 0, GP, GP, 0 }, { 0x80d, 0, GP, 0, 4 }, { 0x80e, 0, GP, GP, 0 },
		{ 0x80f, 0x1ff, 0, 0, 0x1ff }, { 0x80f, 0x11ff, GP, 0, 0x1ff },
		{ 0x810, 0, GP, 0, 0 }, { 0x827, 0, GP, 0, 0 }, { 0x828, 0, 0, 0, 0 }, { 0x828, 1, GP, 0, 0 },
		{ 0x829, 0, GP, GP, 0 }, { 0x82f, 0x1f0, 0, 0, 0x1f0 }, { 0x831, 0, GP, GP, 0 },
		{ 0x830, 0x100000, GP, 0, 0 }, { 0x830, 0x20000, GP, 0, 0 }, { 0x830, 0x2000, GP, 0, 0 },
		{ 0x830, 0x7700000041, 0, 0, 0x7700000041 }, { 0x830, 0x1041, 0, 0, 0x41 },
		{ 0x832, 0x40020, 0, 0, 0x40020 }, { 0x832, 0x80000, GP, 0, 0x40020 },
		{ 0x833, 0x10fef, GP, 0, 0x10000 }, { 0x833, 0x117ef, 0, 0, 0x107ef }, { 0x835, 0x5700, 0, 0, 0x700 },
		{ 0x837, 0x1fe, GP, 0, 0x10000 }, { 0x837, 0x10fe, 0, 0, 0xfe },
		{ 0x838, 5, 0, 0, 0 }, { 0x839, 0, GP, 0, 0 }, { 0x83e, 0xb, 0, 0, 0xb }, { 0x83e, 4, GP, 0, 0xb },
		{ 0x83f, 0x45, 0, GP, 0 }, { 0x83f, 0x145, GP, GP, 0 }, { 0x840, 0, GP, GP, 0 }, { 0x8ff, 0, GP, GP, 0 },
	};
	u64 val;

	assert_int_equal(hv_x2apic_read(v, 0x802, &val), GP);
	assert_int_equal(hv_x2apic_write(v, 0x808, 0), GP);
	to_x2apic(v);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(hv_x2apic_write(v, rows[i].msr, rows[i].val), rows[i].write);
		assert_int_equal(hv_x2apic_read(v, rows[i].msr, &val), rows[i].read);
		if (!rows[i].read)
			assert_int_equal(val, rows[i].back);
	}
	assert_true(lapic_vec_test(v->lapic, APIC_IRR, 0x45));
}

static void software_disable(void **state)
{
	struct hv_vcpu *v = ((struct fixture *)*state)->v[1];
	struct apic_msg nmi = { .mode = APIC_DM_NMI, .assert = true };

	/* While disabled, mask bits are forced. */
	wr(v, APIC_LVT1, 0x400);
	assert_int_equal(rd(v, APIC_LVT1), 0x10400);
	enable(v);
	wr(v, APIC_LVT1, 0x400);
	assert_int_equal(rd(v, APIC_LVT1), 0x400);
	assert_true(lapic_accept(v->lapic, 0x50, false));
	wr(v, APIC_SVR, 0xff);
	assert_int_equal(rd(v, APIC_LVT1), 0x10400);
	assert_int_equal(rd(v, APIC_LVTT), 0x10000);
	/* What is pending stays; what is new is refused, except NMI and its like. */
	assert_int_equal(hv_lapic_pending(v), 0x50);
	assert_false(lapic_deliver(v->lapic, &(struct apic_msg){ .vector = 0x60 }));
	assert_true(lapic_deliver(v->lapic, &nmi));
	assert_int_equal(test_vcpu(v)->nmis, 1);
}

static void errors(void **state)
{
	struct hv_vcpu *v = ((struct fixture *)*state)->v[0];

	enable(v);
	wr(v, APIC_LVTERR, 0xfe);
	wr(v, APIC_ICR, 0x4000 | 0x05);		/* vector 5, to itself by ID 0 */
	assert_int_equal(rd(v, APIC_ESR), 0);
	assert_int_equal(hv_lapic_pending(v), 0xfe);
	wr(v, APIC_ESR, 0);
	assert_int_equal(rd(v, APIC_ESR), APIC_ESR_SEND_ILLEGAL);
	wr(v, APIC_ESR, 0);
	assert_int_equal(rd(v, APIC_ESR), 0);
	assert_false(lapic_accept(v->lapic, 15, false));
	rd(v, 0x3f0);
	wr(v, APIC_ESR, 0);
	assert_int_equal(rd(v, APIC_ESR), APIC_ESR_RECV_ILLEGAL | APIC_ESR_ILLEGAL_REG);
	/* An error vector that is itself illegal does not recurse. */
	wr(v, APIC_LVTERR, 3);
	assert_false(lapic_accept(v->lapic, 2, false));
	wr(v, APIC_ESR, 0);
	assert_int_equal(rd(v, APIC_ESR), APIC_ESR_RECV_ILLEGAL);
}

/* ---- Modes ---- */

static void mode_machine(void **state)
{
	struct fixture *f = *state;
	static const u64 base[] = { 0xfee00000, 0xfee00800, 0xfee00c00 };
	static const bool ok[3][3] = { { 1, 1, 0 }, { 1, 1, 1 }, { 1, 0, 1 } };
	struct hv_vcpu *v = f->v[1];

	for (unsigned from = 0; from < 3; from++) {
		for (unsigned to = 0; to < 3; to++) {
			assert_int_equal(hv_lapic_set_base(v, base[from], true), 0);
			assert_int_equal(hv_lapic_set_base(v, base[to], false),
					 ok[from][to] ? 0 : -EINVAL);
			assert_int_equal(hv_lapic_get_base(v), base[ok[from][to] ? to : from]);
		}
	}
	assert_int_equal(hv_lapic_set_base(v, 0xfee00400, true), -EINVAL);
	assert_int_equal(hv_lapic_set_base(v, 0xfee00a00, true), -EINVAL);
	assert_int_equal(hv_lapic_set_base(v, 0xfee00801, true), -EINVAL);
	assert_int_equal(hv_lapic_set_base(v, 1ull << 39 | 0x800, true), -EINVAL);
	assert_int_equal(hv_lapic_set_base(v, 1ull << 38 | 0x800, true), 0);
	hv_lapic_set_cpuid(v, &(struct hv_lapic_cpuid){ .physbits = 36 });
	assert_int_equal(hv_lapic_set_base(v, 0xfee00c00, true), -EINVAL);
}

static void disable_and_move(void **state)
{
	struct hv_vcpu *v = ((struct fixture *)*state)->v[1];
	u32 val;

	enable(v);
	wr(v, APIC_ID, 0x77000000);
	wr(v, APIC_TPR, 0x20);
	assert_true(lapic_accept(v->lapic, 0x60, false));
	assert_int_equal(hv_lapic_set_base(v, 0xfee00000, false), 0);
	assert_int_equal(hv_lapic_pending(v), -1);
	assert_true(hv_lapic_mmio_read(v, PAGE + APIC_ID, 4, &val));	/* the hole */
	assert_int_equal(val, 0xffffffff);
	v->vm->disabled_quirks = KVM_X86_QUIRK_LAPIC_MMIO_HOLE;
	assert_false(hv_lapic_mmio_read(v, PAGE + APIC_ID, 4, &val));
	/* It comes back fresh, with its ID. */
	assert_int_equal(hv_lapic_set_base(v, 0xfee00800, false), 0);
	assert_int_equal(rd(v, APIC_ID), 0x01000000);
	assert_int_equal(rd(v, APIC_TPR), 0);
	assert_int_equal(rd(v, APIC_SVR), 0xff);
	enable(v);
	assert_true(lapic_accept(v->lapic, 0x61, false));
	assert_int_equal(hv_irq_ack(v), 0x61);
	/* Elsewhere. */
	assert_int_equal(hv_lapic_set_base(v, 0xd0000800, false), 0);
	assert_false(hv_lapic_mmio_read(v, PAGE + APIC_ID, 4, &val));
	assert_true(hv_lapic_mmio_read(v, 0xd0000000 + APIC_ID, 4, &val));
	assert_int_equal(val, 0x01000000);
}

/* ---- Priority ---- */

static void priorities(void **state)
{
	struct hv_vcpu *v = ((struct fixture *)*state)->v[1];
	struct hv_lapic *l = v->lapic;

	enable(v);
	assert_int_equal(hv_irq_ack(v), -1);
	lapic_accept(l, 0x45, false);
	lapic_accept(l, 0x41, false);
	lapic_accept(l, 0x41, false);		/* merges */
	assert_int_equal(hv_irq_ack(v), 0x45);
	assert_int_equal(rd(v, APIC_PPR), 0x40);
	assert_int_equal(hv_lapic_pending(v), -1);	/* same class */
	lapic_accept(l, 0x50, false);
	assert_int_equal(hv_irq_ack(v), 0x50);
	assert_true(lapic_vec_test(l, APIC_ISR, 0x45) && lapic_vec_test(l, APIC_ISR, 0x50));
	wr(v, APIC_EOI, 0);
	assert_false(lapic_vec_test(l, APIC_ISR, 0x50));
	wr(v, APIC_EOI, 0);
	assert_int_equal(hv_irq_ack(v), 0x41);
	wr(v, APIC_EOI, 0);
	assert_int_equal(hv_irq_ack(v), -1);
	wr(v, APIC_EOI, 0);			/* with nothing in service */

	/* TPR and CR8. */
	lapic_accept(l, 0x35, false);
	hv_lapic_set_cr8(v, 3);
	assert_int_equal(rd(v, APIC_TPR), 0x30);
	assert_int_equal(hv_lapic_pending(v), -1);
	wr(v, APIC_TPR, 0x2f);
	assert_int_equal(hv_lapic_get_cr8(v), 2);
	assert_int_equal(rd(v, APIC_PPR), 0x2f);
	assert_int_equal(hv_irq_ack(v), 0x35);
	assert_int_equal(rd(v, APIC_PPR), 0x30);
	hv_lapic_set_cr8(v, 3);
	assert_int_equal(rd(v, APIC_PPR), 0x30);
	wr(v, APIC_TPR, 0x3c);
	assert_int_equal(rd(v, APIC_PPR), 0x3c);	/* same class: TPR whole */
	wr(v, APIC_EOI, 0);

	/* TMR follows the last acceptance. */
	lapic_accept(l, 0x90, true);
	assert_true(lapic_vec_test(l, APIC_TMR, 0x90));
	lapic_accept(l, 0x90, false);
	assert_false(lapic_vec_test(l, APIC_TMR, 0x90));
}

static void requests(void **state)
{
	struct hv_vcpu *v = ((struct fixture *)*state)->v[1];

	enable(v);
	atomic_store(&v->requests, 0);
	atomic_store(&test_vcpu(v)->kicks, 0);
	lapic_accept(v->lapic, 0x40, false);
	assert_true(hv_test_request(v, HV_REQ_EVENT));
	assert_int_equal(test_vcpu(v)->kicks, 1);
	hv_irq_ack(v);
	wr(v, APIC_EOI, 0);
	assert_true(hv_test_request(v, HV_REQ_EVENT));
	wr(v, APIC_TPR, 0);
	assert_true(hv_test_request(v, HV_REQ_EVENT));
}

/* ---- IPIs, INIT, start-up ---- */

static void ipi_modes(void **state)
{
	struct fixture *f = *state;
	struct hv_vcpu *a = f->v[0], *b = f->v[1];

	for (unsigned i = 0; i < 3; i++)
		enable(f->v[i]);
	wr(a, APIC_ICR2, 0x01000000);
	wr(a, APIC_ICR, 0x4041);
	assert_int_equal(rd(a, APIC_ICR), 0x4041);
	assert_true(lapic_vec_test(b->lapic, APIC_IRR, 0x41));
	wr(a, APIC_ICR, 0xc042);		/* level: taken as an edge */
	assert_false(lapic_vec_test(b->lapic, APIC_TMR, 0x42));
	wr(a, APIC_ICR, 0x4400);
	assert_int_equal(test_vcpu(b)->nmis, 1);
	wr(a, APIC_ICR, 0x4200);
	assert_true(hv_test_request(b, HV_REQ_SMI));
	wr(a, APIC_ICR, 0x4341);		/* reserved modes */
	wr(a, APIC_ICR, 0x4741);
	/* Shorthands, destination field ignored. */
	wr(a, APIC_ICR, 0x44050);
	assert_true(lapic_vec_test(a->lapic, APIC_IRR, 0x50));
	assert_false(lapic_vec_test(b->lapic, APIC_IRR, 0x50));
	wr(a, APIC_ICR, 0x84051);
	wr(a, APIC_ICR, 0xc4052);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(lapic_vec_test(f->v[i]->lapic, APIC_IRR, 0x51));
		assert_int_equal(lapic_vec_test(f->v[i]->lapic, APIC_IRR, 0x52), i != 0);
	}
	/* Lowest priority: exactly one, and only an enabled one. */
	wr(f->v[1], APIC_SVR, 0xff);
	wr(a, APIC_ICR2, 0xff000000);
	for (u32 vec = 0x80; vec < 0x90; vec++) {
		unsigned n = 0;

		for (unsigned i = 0; i < 3; i++)
			lapic_write_reg(f->v[i]->lapic, APIC_LDR, 1u << (24 + i));
		wr(a, APIC_ICR2, 0x07000000);
		wr(a, APIC_ICR, 0x4900 | vec);
		for (unsigned i = 0; i < 3; i++)
			n += lapic_vec_test(f->v[i]->lapic, APIC_IRR, (u8)vec);
		assert_int_equal(n, 1);
		assert_false(lapic_vec_test(b->lapic, APIC_IRR, (u8)vec));
	}
}

static void init_and_startup(void **state)
{
	struct fixture *f = *state;
	struct hv_vcpu *a = f->v[0], *b = f->v[1];

	atomic_store(&b->mp_state, KVM_MP_STATE_UNINITIALIZED);
	wr(a, APIC_ICR2, 0x01000000);
	/* A start-up IPI without INIT is lost. */
	wr(a, APIC_ICR, 0x4610);
	assert_true(hv_lapic_has_events(b));
	hv_lapic_accept_events(b);
	assert_int_equal(test_vcpu(b)->sipis, 0);
	assert_int_equal(b->mp_state, KVM_MP_STATE_UNINITIALIZED);
	/* INIT, its level de-assert, two start-ups. */
	enable(b);
	wr(a, APIC_ICR, 0xc500);
	wr(a, APIC_ICR, 0x8500);
	assert_int_equal(hv_lapic_latched(b), HV_LAPIC_INIT);
	hv_lapic_accept_events(b);
	assert_int_equal(test_vcpu(b)->resets, 1);
	assert_int_equal(rd(b, APIC_SVR), 0xff);
	assert_int_equal(b->mp_state, KVM_MP_STATE_INIT_RECEIVED);
	wr(a, APIC_ICR, 0x4698);
	hv_lapic_accept_events(b);
	assert_int_equal(b->mp_state, KVM_MP_STATE_RUNNABLE);
	assert_int_equal(test_vcpu(b)->sipi_vector, 0x98);
	wr(a, APIC_ICR, 0x4699);
	hv_lapic_accept_events(b);
	assert_int_equal(test_vcpu(b)->sipis, 1);
	/* Both latched at once: INIT first. */
	wr(a, APIC_ICR, 0x4500);
	wr(a, APIC_ICR, 0x4677);
	hv_lapic_accept_events(b);
	assert_int_equal(test_vcpu(b)->sipi_vector, 0x77);
	assert_int_equal(b->mp_state, KVM_MP_STATE_RUNNABLE);
	/* A later INIT discards a start-up that was not taken yet. */
	wr(a, APIC_ICR, 0x4611);
	wr(a, APIC_ICR, 0x4500);
	hv_lapic_accept_events(b);
	assert_int_equal(b->mp_state, KVM_MP_STATE_INIT_RECEIVED);
	/* The bootstrap processor starts by itself. INIT keeps mode and ID. */
	to_x2apic(a);
	hv_lapic_latch(a, HV_LAPIC_INIT, true);
	hv_lapic_accept_events(a);
	assert_int_equal(a->mp_state, KVM_MP_STATE_RUNNABLE);
	assert_int_equal(hv_lapic_get_base(a), 0xfee00d00);
}

static void pv_ipi(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < 3; i++)
		enable(f->v[i]);
	assert_int_equal(hv_pv_send_ipi(f->vm, 5, 0, 0, 0x4066, true), 2);
	assert_true(lapic_vec_test(f->v[0]->lapic, APIC_IRR, 0x66));
	assert_false(lapic_vec_test(f->v[1]->lapic, APIC_IRR, 0x66));
	assert_true(lapic_vec_test(f->v[2]->lapic, APIC_IRR, 0x66));
	assert_int_equal(hv_pv_send_ipi(f->vm, ~0ull, ~0ull, 1, 0x400, true), 2);
	assert_int_equal(test_vcpu(f->v[1])->nmis, 1);
	assert_int_equal(hv_pv_send_ipi(f->vm, 0, 1, 0xffffffff, 0x4066, true), 0);
	assert_int_equal(hv_pv_send_ipi(f->vm, 1, 0, 0, 0x44066, true), -EINVAL);
	assert_int_equal(hv_pv_send_ipi(f->vm, 1, 0, 0, 0x4866, true), -EINVAL);
}

/* ---- Timer ---- */

static void timer_counts(void **state)
{
	struct hv_vcpu *v = ((struct fixture *)*state)->v[1];

	test_time_set(1000000);
	enable(v);
	wr(v, APIC_LVTT, 0x40);
	wr(v, APIC_TDCR, 0xb);			/* by 1 */
	wr(v, APIC_TMICT, 1000);
	assert_int_equal(rd(v, APIC_TMCCT), 1000);
	test_time_add(400);
	assert_int_equal(rd(v, APIC_TMCCT), 600);
	assert_int_equal(hv_lapic_timer_next(v), 1001000);
	wr(v, APIC_TDCR, 0);			/* by 2: 600 counts take 1200 ns */
	assert_int_equal(rd(v, APIC_TMCCT), 600);
	test_time_add(1199);
	hv_lapic_timer_poll(v);
	assert_int_equal(hv_lapic_pending(v), -1);
	test_time_add(1);
	hv_lapic_timer_poll(v);
	assert_int_equal(hv_irq_ack(v), 0x40);
	wr(v, APIC_EOI, 0);
	assert_int_equal(rd(v, APIC_TMCCT), 0);
	assert_int_equal(hv_lapic_timer_next(v), 0);

	/* One-shot that becomes periodic goes on. */
	wr(v, APIC_TMICT, 500);
	wr(v, APIC_LVTT, 0x20041);
	for (unsigned i = 0; i < 3; i++) {
		test_time_add(1000);
		hv_lapic_timer_poll(v);
		assert_int_equal(hv_irq_ack(v), 0x41);
		wr(v, APIC_EOI, 0);
	}
	/* Missed periods merge, the phase stays. */
	test_time_add(3500);
	hv_lapic_timer_poll(v);
	assert_int_equal(hv_irq_ack(v), 0x41);
	wr(v, APIC_EOI, 0);
	assert_int_equal(rd(v, APIC_TMCCT), 250);
	/* The mask keeps the interrupt, not the count. */
	wr(v, APIC_LVTT, 0x30041);
	test_time_add(500);
	hv_lapic_timer_poll(v);
	assert_int_equal(hv_lapic_pending(v), -1);
	assert_int_equal(rd(v, APIC_TMCCT), 500);
	wr(v, APIC_TMICT, 0);
	assert_int_equal(hv_lapic_timer_next(v), 0);
}

static void timer_divides(void **state)
{
	struct hv_vcpu *v = ((struct fixture *)*state)->v[1];
	static const struct { u32 tdcr, by; } rows[] = {
		{ 0, 2 }, { 1, 4 }, { 2, 8 }, { 3, 16 }, { 8, 32 }, { 9, 64 }, { 0xa, 128 }, { 0xb, 1 },
	};

	test_time_set(1000000);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		wr(v, APIC_TDCR, rows[i].tdcr);
		wr(v, APIC_TMICT, 10);
		assert_int_equal(hv_lapic_timer_next(v), 1000000 + 10 * rows[i].by);
	}
}

static void timer_deadline(void **state)
{
	struct hv_vcpu *v = ((struct fixture *)*state)->v[1];
	u64 now, val;

	test_time_set(1000000);
	enable(v);
	/* Outside deadline mode writes are ignored. */
	now = hv_guest_tsc(v);
	assert_int_equal(hv_x2apic_write(v, 0x6e0, now + 10000), 0);
	assert_int_equal(hv_x2apic_read(v, 0x6e0, &val), 0);
	assert_int_equal(val, 0);
	wr(v, APIC_TMICT, 1000);
	wr(v, APIC_LVTT, 0x40042);		/* disarms the count */
	assert_int_equal(rd(v, APIC_TMICT), 0);
	assert_int_equal(hv_lapic_timer_next(v), 0);
	wr(v, APIC_TMICT, 1000);		/* ignored */
	assert_int_equal(rd(v, APIC_TMICT), 0);

	hv_lapic_set_tscdeadline(v, now + 20000);	/* 10 us at 2 GHz */
	assert_int_equal(hv_lapic_get_tscdeadline(v), now + 20000);
	assert_int_equal(hv_lapic_timer_next(v), 1010000);
	assert_int_equal(rd(v, APIC_TMCCT), 0);
	test_time_add(5000);
	hv_lapic_timer_poll(v);
	assert_int_equal(hv_lapic_pending(v), -1);
	test_time_add(5000);
	hv_lapic_timer_poll(v);
	assert_int_equal(hv_irq_ack(v), 0x42);
	wr(v, APIC_EOI, 0);
	assert_int_equal(hv_lapic_get_tscdeadline(v), 0);
	/* Past: at once. 0: never. */
	hv_lapic_set_tscdeadline(v, 1);
	hv_lapic_timer_poll(v);
	assert_int_equal(hv_irq_ack(v), 0x42);
	wr(v, APIC_EOI, 0);
	hv_lapic_set_tscdeadline(v, now + 1000000);
	hv_lapic_set_tscdeadline(v, 0);
	assert_int_equal(hv_lapic_timer_next(v), 0);
	/* It is the guest's TSC that counts: moving it moves the moment. */
	hv_lapic_set_tscdeadline(v, hv_guest_tsc(v) + 40000);
	assert_int_equal(hv_lapic_timer_next(v), 1010000 + 20000);
	hv_tsc_adjust_write(v, 20000, false);
	assert_int_equal(hv_lapic_timer_next(v), 1010000 + 10000);
	hv_tsc_write(v, hv_guest_tsc(v) + 20000, false);
	hv_lapic_timer_poll(v);
	assert_int_equal(hv_irq_ack(v), 0x42);
	wr(v, APIC_EOI, 0);
	/* Leaving the mode disarms. */
	hv_lapic_set_tscdeadline(v, hv_guest_tsc(v) + 40000);
	wr(v, APIC_LVTT, 0x42);
	assert_int_equal(hv_lapic_get_tscdeadline(v), 0);
	/* Without the CPUID bit there is no such mode. */
	hv_lapic_set_cpuid(v, &(struct hv_lapic_cpuid){ .physbits = 36 });
	wr(v, APIC_LVTT, 0x40042);
	assert_int_equal(rd(v, APIC_LVTT), 0x42);
}

/* ---- LINT0, PV EOI, state ---- */

static void lint0(void **state)
{
	struct fixture *f = *state;
	struct hv_vcpu *bsp = f->v[0], *ap = f->v[1];

	test_out(bsp, 0x20, 0x11);
	test_out(bsp, 0x21, 0x30);
	test_out(bsp, 0x21, 4);
	test_out(bsp, 0x21, 1);
	assert_int_equal(hv_irq_line(f->vm, 3, 1, HV_IRQ_USER), 1);
	assert_true(hv_irq_pending_any(bsp));
	assert_false(hv_irq_pending_any(ap));
	assert_int_equal(hv_lapic_pending(bsp), -1);
	assert_int_equal(hv_irq_ack(bsp), 0x33);
	hv_irq_line(f->vm, 3, 0, HV_IRQ_USER);
	test_out(bsp, 0x20, 0x20);
	/* LINT0 as NMI, at each rise of INTR. */
	enable(ap);
	wr(ap, APIC_LVT0, 0x400);
	hv_irq_line(f->vm, 3, 1, HV_IRQ_USER);
	assert_int_equal(test_vcpu(ap)->nmis, 1);
	/* A disabled APIC: INTR goes to the processor. */
	assert_int_equal(hv_lapic_set_base(f->v[2], 0xfee00000, false), 0);
	assert_true(hv_irq_pending_any(f->v[2]));
	/* Masked. */
	enable(bsp);
	wr(bsp, APIC_LVT0, 0x10700);
	assert_false(hv_irq_pending_any(bsp));
}

static void pv_eoi(void **state)
{
	struct hv_vcpu *v = ((struct fixture *)*state)->v[1];
	u8 *flag = &test_ram[0x100];

	enable(v);
	assert_int_equal(hv_pv_eoi_set(v, 0x102 | 1), 1);
	assert_int_equal(hv_pv_eoi_set(v, 0x100 | 1), 0);
	lapic_accept(v->lapic, 0x50, false);
	assert_int_equal(hv_irq_ack(v), 0x50);
	hv_pv_eoi_entry(v);
	assert_int_equal(*flag, 1);
	*flag = 0;				/* the guest's EOI */
	hv_pv_eoi_exit(v);
	assert_false(lapic_vec_test(v->lapic, APIC_ISR, 0x50));
	/* Not used by the guest: taken back. */
	lapic_accept(v->lapic, 0x50, false);
	hv_irq_ack(v);
	hv_pv_eoi_entry(v);
	hv_pv_eoi_exit(v);
	assert_int_equal(*flag, 0);
	assert_true(lapic_vec_test(v->lapic, APIC_ISR, 0x50));
	/* Not offered with something else pending, or for a level. */
	lapic_accept(v->lapic, 0x40, false);
	hv_pv_eoi_entry(v);
	assert_int_equal(*flag, 0);
	lapic_vec_clear(v->lapic, APIC_IRR, 0x40);
	lapic_vec_set(v->lapic, APIC_TMR, 0x50);
	hv_pv_eoi_entry(v);
	assert_int_equal(*flag, 0);
	/* Memory that is not there. */
	lapic_vec_clear(v->lapic, APIC_TMR, 0x50);
	assert_int_equal(hv_pv_eoi_set(v, 0xfffff000 | 1), 0);
	hv_pv_eoi_entry(v);
	hv_pv_eoi_exit(v);
	assert_true(lapic_vec_test(v->lapic, APIC_ISR, 0x50));
}

static u32 in_state(struct kvm_lapic_state *s, unsigned off)
{
	u32 val;

	memcpy(&val, s->regs + off, 4);
	return val;
}

static void get_set_state(void **state)
{
	struct fixture *f = *state;
	struct hv_vcpu *v = f->v[2];
	struct kvm_lapic_state s;
	u32 val;

	test_time_set(5000000);
	enable(v);
	wr(v, APIC_LVTT, 0x20070);
	wr(v, APIC_TDCR, 0xb);
	wr(v, APIC_TMICT, 10000);
	test_time_add(2500);
	lapic_accept(v->lapic, 0x71, true);
	wr(v, APIC_ICR2, 0xa5a5a5a5);
	wr(v, APIC_ICR, 0xa5a5a5a5 & ~0x700u);
	hv_lapic_get_state(v, &s);
	assert_int_equal(in_state(&s, APIC_ID), 0x02000000);
	assert_int_equal(in_state(&s, APIC_TMCCT), 7500);
	assert_int_equal(in_state(&s, APIC_ICR), 0xa5a5a5a5 & ~0x1700u);
	assert_int_equal(in_state(&s, APIC_ICR2), 0xa5000000);
	test_time_add(100000);
	val = 0x1234;				/* read-only */
	memcpy(s.regs + APIC_VERSION, &val, 4);
	assert_int_equal(hv_lapic_set_state(f->v[1], &s), 0);
	assert_int_equal(rd(f->v[1], APIC_VERSION), 0x60014);
	assert_int_equal(hv_lapic_pending(f->v[1]), 0xa5);	/* that ICR was a self-IPI */
	assert_true(lapic_vec_test(f->v[1]->lapic, APIC_IRR, 0x71));
	assert_true(lapic_vec_test(f->v[1]->lapic, APIC_TMR, 0x71));
	assert_int_equal(rd(f->v[1], APIC_TMCCT), 7500);

	/* x2APIC: the ID in either format, nothing else; ICR in two halves. */
	to_x2apic(v);
	assert_int_equal(hv_x2apic_write(v, 0x830, 0x1122334400000041), 0);
	hv_lapic_get_state(v, &s);
	assert_int_equal(in_state(&s, APIC_ID), 0x02000000);
	assert_int_equal(in_state(&s, APIC_ICR2), 0x11223344);
	assert_int_equal(hv_lapic_set_state(v, &s), 0);
	f->vm->x2apic_format = true;
	assert_int_equal(hv_lapic_set_state(v, &s), -EINVAL);
	hv_lapic_get_state(v, &s);
	assert_int_equal(in_state(&s, APIC_ID), 2);
	assert_int_equal(in_state(&s, APIC_LDR), 4);
	assert_int_equal(hv_lapic_set_state(v, &s), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(reset_values),
		T(xapic_masks),
		T(xapic_access_sizes),
		T(x2apic_access),
		T(software_disable),
		T(errors),
		T(mode_machine),
		T(disable_and_move),
		T(priorities),
		T(requests),
		T(ipi_modes),
		T(init_and_startup),
		T(pv_ipi),
		T(timer_counts),
		T(timer_divides),
		T(timer_deadline),
		T(lint0),
		T(pv_eoi),
		T(get_set_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
