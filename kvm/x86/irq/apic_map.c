// SPDX-License-Identifier: MIT
/*
 * Who an interrupt message goes to.
 *
 * apic_matches() is the definition, one APIC at a time. The map answers the
 * usual cases, one ID or one logical cluster, without asking every vCPU; where
 * it could disagree (modes are mixed, IDs or logical addresses overlap,
 * broadcasts) all are asked. SDM vol. 3A "Determining IPI Destination".
 */
#include <stdlib.h>

#include "base/log.h"
#include "kvm/x86/irq/lapic.h"

#define BROADCAST_X 0xffu
#define BROADCAST_X2 0xffffffffu

static u32 apic_id(const struct hv_lapic *l)
{
	u32 id = lapic_get(l, APIC_ID);

	return lapic_mode(l) == APIC_X2 ? id : id >> 24;
}

/* ---- The definition ---- */

static bool matches_physical(struct hv_lapic *l, u32 dest, bool x2)
{
	/*
	 * A vCPU with a wide ID starts in xAPIC mode and has to be reached
	 * there by its first INIT: wide destinations always mean the full ID.
	 */
	if (x2 || dest > 0xff)
		return dest == l->v->id;
	return dest == apic_id(l);
}

static bool matches_logical(struct hv_lapic *l, u32 dest, bool x2)
{
	u32 ldr = lapic_get(l, APIC_LDR);

	if (x2)
		return ldr >> 16 == dest >> 16 && (ldr & dest & 0xffff);
	ldr >>= 24;
	switch (lapic_get(l, APIC_DFR) >> 28) {
	case 0xf:
		return ldr & dest;
	case 0:
		return ldr >> 4 == dest >> 4 && (ldr & dest & 0xf);
	default:
		return false;
	}
}

bool apic_matches(struct hv_lapic *l, const struct apic_msg *m, struct hv_vcpu *source)
{
	enum apic_mode mode = lapic_mode(l);
	bool x2 = mode == APIC_X2;

	if (mode == APIC_DISABLED)
		return false;
	if (source) {
		switch ((enum apic_shorthand)m->shorthand) {
		case APIC_NO_SHORTHAND:
			break;
		case APIC_SELF:
			return l->v == source;
		case APIC_ALL:
			return true;
		case APIC_OTHERS:
			return l->v != source;
		}
	}
	if (m->dest == (x2 ? BROADCAST_X2 : BROADCAST_X))
		return true;
	/*
	 * MSIs and the IOAPIC have eight bits of destination and mean everybody
	 * by ff; KVM has it so until KVM_CAP_X2APIC_API says that ff is an ID.
	 */
	if (x2 && !source && m->dest == BROADCAST_X && !l->v->vm->x2apic_broadcast_quirk_off)
		return true;
	return m->logical ? matches_logical(l, m->dest, x2) : matches_physical(l, m->dest, x2);
}

/* ---- The map ---- */

static void map_free(struct epoch_node *n)
{
	free(container_of(n, struct hv_apic_map, epoch));
}

static void map_physical(struct hv_apic_map *map, struct hv_vcpu *v, u32 id)
{
	if (id > map->max_id)
		return;
	if (map->phys[id] && map->phys[id] != v)
		map->phys_aliased = true;
	else
		map->phys[id] = v;
}

static void map_logical(struct hv_apic_map *map, struct hv_vcpu *v)
{
	struct hv_lapic *l = v->lapic;
	u32 ldr = lapic_get(l, APIC_LDR), cluster, bits;

	if (map->x2apic) {
		cluster = ldr >> 16;
		bits = ldr & 0xffff;
	} else {
		ldr >>= 24;
		cluster = map->cluster ? ldr >> 4 : 0;
		bits = map->cluster ? ldr & 0xf : ldr;
	}
	/* Clusters beyond the table are looked up the slow way; so is an APIC with several bits. */
	if (cluster >= ARRAY_SIZE(map->logical) || !bits)
		return;
	if ((bits & (bits - 1)) || map->logical[cluster][__builtin_ctz(bits)])
		map->logical_mixed = true;
	else
		map->logical[cluster][__builtin_ctz(bits)] = v;
}

/* Mode and DFR must be common to all for direct lookup of logical addresses. */
static void map_survey(struct hv_apic_map *map, struct hv_vm *vm)
{
	bool first = true;
	struct hv_vcpu *v;
	unsigned i;

	hv_for_each_vcpu(i, v, vm) {
		bool x2, cluster;
		u32 dfr;

		if (!v->lapic || lapic_mode(v->lapic) == APIC_DISABLED)
			continue;
		x2 = lapic_mode(v->lapic) == APIC_X2;
		dfr = lapic_get(v->lapic, APIC_DFR) >> 28;
		cluster = !x2 && dfr == 0;
		if (!x2 && dfr != 0 && dfr != 0xf)
			map->logical_mixed = true;
		if (!first && (x2 != map->x2apic || cluster != map->cluster))
			map->logical_mixed = true;
		map->x2apic = x2;
		map->cluster = cluster;
		first = false;
	}
}

void hv_apic_map_update(struct hv_vm *vm)
{
	struct hv_apic_map *map, *old;
	struct hv_vcpu *v;
	u32 max_id = 255;
	unsigned i;

	pthread_mutex_lock(&vm->irq_lock);
	hv_for_each_vcpu(i, v, vm)
		max_id = max(max_id, v->id);
	map = calloc(1, sizeof(*map) + (max_id + 1) * sizeof(map->phys[0]));
	if (map) {
		map->max_id = max_id;
		map_survey(map, vm);
		hv_for_each_vcpu(i, v, vm) {
			if (!v->lapic || lapic_mode(v->lapic) == APIC_DISABLED)
				continue;
			map_physical(map, v, apic_id(v->lapic));
			if (v->id > 0xff)
				map_physical(map, v, v->id);
			if (!map->logical_mixed)
				map_logical(map, v);
		}
	}
	/* Without memory for a map there is none, and all are asked. */
	old = atomic_exchange(&vm->apic_map, map);
	if (old)
		epoch_defer(&old->epoch, map_free);
	pthread_mutex_unlock(&vm->irq_lock);
}

/* ---- Lookup ---- */

static void set_add(struct apic_set *set, const struct hv_vcpu *v)
{
	set->w[v->idx / 64] |= BIT(v->idx % 64);
}

/* False: all must be asked. */
static bool map_lookup(struct hv_vm *vm, const struct apic_msg *m, struct hv_vcpu *source,
		       struct apic_set *set)
{
	struct hv_apic_map *map = atomic_load(&vm->apic_map);
	struct hv_vcpu *v;
	u32 cluster, bits;

	if (source && m->shorthand == APIC_SELF) {
		if (lapic_mode(source->lapic) != APIC_DISABLED)
			set_add(set, source);
		return true;
	}
	if (!map || (source && m->shorthand) || m->dest == BROADCAST_X || m->dest == BROADCAST_X2)
		return false;
	if (!m->logical) {
		if (map->phys_aliased)
			return false;
		v = m->dest <= map->max_id ? map->phys[m->dest] : NULL;
		/* An xAPIC's ID register and a wide ID may lead to the same row. */
		if (v && apic_matches(v->lapic, m, source))
			set_add(set, v);
		return true;
	}
	if (map->logical_mixed)
		return false;
	if (map->x2apic) {
		cluster = m->dest >> 16;
		bits = m->dest & 0xffff;
	} else {
		cluster = map->cluster ? m->dest >> 4 : 0;
		bits = map->cluster ? m->dest & 0xf : m->dest & 0xff;
	}
	if (cluster >= ARRAY_SIZE(map->logical))
		return !map->x2apic;
	for (; bits; bits &= bits - 1) {
		v = map->logical[cluster][__builtin_ctz(bits)];
		if (v)
			set_add(set, v);
	}
	return true;
}

void apic_destinations(struct hv_vm *vm, const struct apic_msg *m, struct hv_vcpu *source,
		       struct apic_set *set)
{
	struct hv_vcpu *v;
	unsigned i;

	*set = (struct apic_set){ 0 };
	epoch_enter();
	if (!map_lookup(vm, m, source, set)) {
		hv_for_each_vcpu(i, v, vm) {
			if (v->lapic && apic_matches(v->lapic, m, source))
				set_add(set, v);
		}
	}
	epoch_exit();
}

/*
 * "Lowest Priority Delivery Mode": one of the processors whose APIC is enabled.
 * Which one is up to the implementation; by vector, like KVM, so that the
 * interrupts of one device stay on one processor.
 */
static void keep_lowest(struct hv_vm *vm, struct apic_set *set, u8 vector)
{
	u16 can[HV_MAX_VCPUS];
	unsigned n = 0;

	for (unsigned i = 0; i < HV_MAX_VCPUS; i++) {
		if ((set->w[i / 64] & BIT(i % 64)) &&
		    lapic_sw_enabled(hv_vcpu_by_idx(vm, i)->lapic))
			can[n++] = i;
	}
	if (!n)
		return;
	*set = (struct apic_set){ 0 };
	set->w[can[vector % n] / 64] = BIT(can[vector % n] % 64);
}

int apic_send(struct hv_vm *vm, const struct apic_msg *msg, struct hv_vcpu *source,
	      struct apic_set *taken)
{
	struct apic_msg m = *msg;
	struct apic_set set;
	int n = -1;

	if (taken)
		*taken = (struct apic_set){ 0 };
	apic_destinations(vm, &m, source, &set);
	if (m.mode == APIC_DM_LOWEST || m.msi_redir) {
		if (m.mode == APIC_DM_LOWEST)
			m.mode = APIC_DM_FIXED;
		/* A physical broadcast with lowest priority goes to everybody. */
		if (m.logical || (m.dest != BROADCAST_X && m.dest != BROADCAST_X2))
			keep_lowest(vm, &set, m.vector);
	}
	for (unsigned w = 0; w < APIC_SET_WORDS; w++) {
		for (u64 bits = set.w[w]; bits; bits &= bits - 1) {
			unsigned i = w * 64 + __builtin_ctzll(bits);

			n = max(n, 0);
			if (!lapic_deliver(hv_vcpu_by_idx(vm, i)->lapic, &m))
				continue;
			n++;
			if (taken)
				taken->w[w] |= BIT(i % 64);
		}
	}
	return n;
}
