// SPDX-License-Identifier: MIT
/* The interrupt command register, and its paravirtual replacement. */
#include <errno.h>
#include <linux/kvm_para.h>

#include "base/trace.h"
#include "kvm/x86/irq/lapic.h"

#define ICR_LOGICAL (1u << 11)
#define ICR_ASSERT (1u << 14)
#define ICR_LEVEL (1u << 15)

static const char *const shorthand_name[] = { "dst", "self", "all", "all-but-self" };

static struct apic_msg icr_message(u32 icr, u32 dest)
{
	return (struct apic_msg){
		.vector = (u8)icr,
		.mode = icr >> 8 & 7,
		.logical = icr & ICR_LOGICAL,
		.assert = icr & ICR_ASSERT,
		.level = icr & ICR_LEVEL,
		.shorthand = icr >> 18 & 3,
		.dest = dest,
	};
}

void lapic_send_ipi(struct hv_lapic *l, u32 icr, u32 dest)
{
	struct apic_msg m = icr_message(icr, dest);

	trace(kvm_apic_ipi, "dst %x vec %u (%s|%s|%s|%s|%s)", dest, m.vector,
	      apic_delivery_name(m.mode), m.logical ? "logical" : "physical",
	      m.assert ? "assert" : "de-assert", m.level ? "level" : "edge", shorthand_name[m.shorthand]);
	switch ((enum apic_delivery)m.mode) {
	case APIC_DM_RESERVED3:
	case APIC_DM_EXTINT:	/* reserved in ICR */
		return;
	case APIC_DM_FIXED:
	case APIC_DM_LOWEST:
		if (m.vector < 16) {
			lapic_error(l, APIC_ESR_SEND_ILLEGAL);
			return;
		}
		/* "Edge" for all but INIT level de-assert: IPIs have no level to acknowledge. */
		m.level = false;
		break;
	case APIC_DM_SMI:
	case APIC_DM_NMI:
	case APIC_DM_INIT:
	case APIC_DM_SIPI:
		break;
	}
	apic_send(l->v->vm, &m, l->v, NULL);
}

static int send_group(struct hv_apic_map *map, u64 bits, u64 first, const struct apic_msg *m)
{
	int n = 0;

	for (; bits; bits &= bits - 1) {
		u64 id = first + __builtin_ctzll(bits);

		if (id <= map->max_id && map->phys[id])
			n += lapic_deliver(map->phys[id]->lapic, m);
	}
	return n;
}

/* Two words of destinations, one bit per APIC ID from @min_id on. */
long hv_pv_send_ipi(struct hv_vm *vm, u64 low, u64 high, u32 min_id, u64 icr, bool long_mode)
{
	struct apic_msg m = icr_message((u32)icr, 0);
	struct hv_apic_map *map;
	int n = 0;

	/* The mask stands for destination mode and shorthand. */
	if (m.logical || m.shorthand)
		return -KVM_EINVAL;
	m.level = m.level && m.mode == APIC_DM_INIT;
	if (!long_mode) {
		low = (u32)low;
		high = (u32)high;
	}
	epoch_enter();
	map = atomic_load(&vm->apic_map);
	if (map) {
		n = send_group(map, low, min_id, &m);
		n += send_group(map, high, (u64)min_id + (long_mode ? 64 : 32), &m);
	}
	epoch_exit();
	return n;
}
