// SPDX-License-Identifier: MIT
/*
 * Destinations of interrupts: the map against a model that is written down
 * here a second time from the manual, over random modes, IDs and addresses.
 */
#include <stdlib.h>

#include "kvm/x86/irq/lapic.h"
#include "kvm/x86/irq/test_vm.h"

#define N 6

struct model {
	int mode;		/* 0 off, 1 xAPIC, 2 x2APIC */
	u32 vcpu_id;
	u8 xid, ldr;
	bool cluster;
	bool enabled;
};

static u64 seed = 88172645463325252ull;

static u32 rnd(u32 n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (u32)(seed >> 11) % n;
}

static bool model_takes(const struct model *c, u32 dest, bool logical, bool ipi, bool quirk)
{
	if (c->mode == 2) {
		if (dest == 0xffffffff || (dest == 0xff && !ipi && quirk))
			return true;
		if (!logical)
			return dest == c->vcpu_id;
		return dest / 65536 == c->vcpu_id / 16 && (dest & 65535 & (1 << c->vcpu_id % 16));
	}
	if (c->mode != 1)
		return false;
	if (dest == 0xff)
		return true;
	if (!logical)
		return dest < 256 ? dest == c->xid : dest == c->vcpu_id;
	if (!c->cluster)
		return (c->ldr & dest) != 0;
	return dest / 16 == c->ldr / 16u && (c->ldr & dest & 15);
}

static void configure(struct hv_vcpu *v, struct model *c, int mode)
{
	u64 base = 0xfee00000 | (v->id ? 0 : APIC_BASE_BSP);

	c->vcpu_id = v->id;
	c->mode = mode;
	assert_int_equal(hv_lapic_set_base(v, base, true), 0);
	assert_int_equal(hv_lapic_set_base(v, base | APIC_BASE_EN, true), 0);
	c->xid = (u8)v->id;
	if (!rnd(8)) {
		c->xid = rnd(8);
		lapic_write_reg(v->lapic, APIC_ID, (u32)c->xid << 24);
	}
	c->ldr = rnd(4) ? (u8)(1 << v->idx % 4 | (rnd(2) ? 0x10 << v->idx / 4 : 0)) : (u8)rnd(256);
	if (!c->cluster && rnd(4))
		c->ldr = 1 << v->idx;
	lapic_write_reg(v->lapic, APIC_LDR, (u32)c->ldr << 24);
	lapic_write_reg(v->lapic, APIC_DFR, c->cluster ? 0 : ~0u);
	c->enabled = rnd(3);
	lapic_write_reg(v->lapic, APIC_SVR, c->enabled ? 0x1ff : 0xff);
	if (mode == 2)
		assert_int_equal(hv_lapic_set_base(v, base | APIC_BASE_EN | APIC_BASE_EXTD, true),
				 0);
	if (mode == 0)
		assert_int_equal(hv_lapic_set_base(v, base, true), 0);
}

static u32 some_destination(void)
{
	switch (rnd(8)) {
	case 0:
		return 0xff;
	case 1:
		return 0xffffffff;
	case 2:
		return rnd(20) << 16 | rnd(65536);
	case 3:
		return 0x100 | rnd(16);
	default:
		return rnd(256);
	}
}

static void random_destinations(void **state)
{
	static const u32 ids[N] = { 0, 1, 2, 5, 0x11, 0x105 };
	const struct hv_lapic_cpuid cpuid = { .x2apic = true, .physbits = 39 };
	struct hv_vm *vm = test_vm_new();
	struct model c[N];
	unsigned hits = 0;

	assert_int_equal(hv_irqchip_split(vm, 24), 0);
	for (unsigned i = 0; i < N; i++)
		hv_lapic_set_cpuid(test_vcpu_new(vm, ids[i]), &cpuid);

	for (unsigned round = 0; round < 400; round++) {
		int mode = rnd(3) ? (int)(1 + rnd(2)) : -1;	/* -1: mixed */
		bool cluster = rnd(2);

		vm->x2apic_broadcast_quirk_off = rnd(2);
		for (unsigned i = 0; i < N; i++) {
			c[i].cluster = rnd(10) ? cluster : !cluster;
			configure(hv_vcpu_by_idx(vm, i), &c[i],
				  mode >= 0 && rnd(20) ? mode : (int)rnd(3));
		}
		for (unsigned k = 0; k < 50; k++) {
			struct hv_vcpu *source = rnd(2) ? hv_vcpu_by_idx(vm, rnd(N)) : NULL;
			struct apic_msg m = {
				.dest = some_destination(), .logical = rnd(2), .vector = 0x40};
			struct apic_set set;
			u64 want = 0;

			if (source && !rnd(4))
				m.shorthand = 1 + rnd(3);
			for (unsigned i = 0; i < N; i++) {
				bool takes = model_takes(&c[i], m.dest, m.logical, source,
							 !vm->x2apic_broadcast_quirk_off);

				if (m.shorthand)
					takes = c[i].mode &&
						(m.shorthand == APIC_ALL ||
						 (m.shorthand == APIC_SELF) ==
							 (hv_vcpu_by_idx(vm, i) == source));
				want |= (u64)takes << i;
			}
			apic_destinations(vm, &m, source, &set);
			if (set.w[0] != want)
				print_error("round %u: dest %x logical %d ipi %d shorthand %d: "
					    "%llx, want %llx\n",
					    round, m.dest, m.logical, source != NULL, m.shorthand,
					    (unsigned long long)set.w[0], (unsigned long long)want);
			assert_int_equal(set.w[0], want);
			hits += want != 0;
		}
	}
	/* The rows mean something. */
	assert_true(hits > 4000);
	test_vm_free(vm);
}

static void delivery_counts(void **state)
{
	struct hv_vm *vm = test_vm_new();
	struct hv_vcpu *v[3];
	struct apic_msg m = { .dest = 0xff, .vector = 0x50, .assert = true };
	struct apic_set taken;

	assert_int_equal(hv_irqchip_create(vm), 0);
	for (unsigned i = 0; i < 3; i++)
		v[i] = test_vcpu_new(vm, i);
	assert_int_equal(apic_send(vm, &m, NULL, NULL), 0);	/* all disabled */
	lapic_write_reg(v[0]->lapic, APIC_SVR, 0x1ff);
	lapic_write_reg(v[2]->lapic, APIC_SVR, 0x1ff);
	assert_int_equal(apic_send(vm, &m, NULL, &taken), 2);
	assert_int_equal(taken.w[0], 5);
	m.dest = 9;
	assert_int_equal(apic_send(vm, &m, NULL, NULL), -1);
	/*
	 * Lowest priority by redirection hint, among the enabled; a physical broadcast is
	 * for all.
	 */
	for (unsigned i = 0; i < 3; i++)
		lapic_write_reg(v[i]->lapic, APIC_LDR, 1u << (24 + i));
	m = (struct apic_msg){ .dest = 7, .logical = true, .msi_redir = true, .vector = 0x51 };
	assert_int_equal(apic_send(vm, &m, NULL, &taken), 1);
	m.vector = 0x52;
	assert_int_equal(apic_send(vm, &m, NULL, &taken), 1);
	m = (struct apic_msg){ .dest = 0xff, .mode = APIC_DM_LOWEST, .vector = 0x53 };
	assert_int_equal(apic_send(vm, &m, NULL, &taken), 2);
	test_vm_free(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_destinations),
		cmocka_unit_test(delivery_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
