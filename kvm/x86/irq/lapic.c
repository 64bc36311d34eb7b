// SPDX-License-Identifier: MIT
/*
 * Local APIC: life, mode (IA32_APIC_BASE), acceptance, priority, EOI, INIT and
 * start-up latches. Registers: lapic_reg.c; timer: lapic_timer.c; sending:
 * lapic_ipi.c; addressing: apic_map.c.
 *
 * SDM vol. 3A chapter "Advanced Programmable Interrupt Controller".
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "kvm/x86/irq/chip.h"
#include "base/trace.h"
#include "kvm/x86/irq/lapic.h"

#define REG_BYTES 0x400		/* of the page that are registers: KVM_APIC_REG_SIZE */

static void request_event(struct hv_lapic *l)
{
	hv_set_request(l->v, HV_REQ_EVENT);
}

static void notify(struct hv_lapic *l)
{
	request_event(l);
	hv_kick(l->v);
}

/* ---- Life and mode ---- */

static void set_version(struct hv_lapic *l)
{
	u32 v = 0x14 | (l->cpuid.cmci ? 6 : 5) << 16;

	/*
	 * The in-kernel IOAPIC is a version 11h part, without an EOI register:
	 * a guest that suppressed broadcasts could never complete an interrupt.
	 */
	if (l->cpuid.x2apic && l->v->vm->irqchip_mode == HV_IRQCHIP_SPLIT)
		v |= APIC_VERSION_NO_EOI_BROADCAST;
	lapic_put(l, APIC_VERSION, v);
}

static void set_id(struct hv_lapic *l)
{
	if (lapic_mode(l) == APIC_X2) {
		lapic_put(l, APIC_ID, l->v->id);
		lapic_put(l, APIC_LDR, lapic_x2_ldr(l->v->id));
	} else {
		lapic_put(l, APIC_ID, l->v->id << 24);
		lapic_put(l, APIC_LDR, 0);
	}
}

/* "Local APIC State After Power-Up or Reset"; the ID is left alone. */
static void reset_registers(struct hv_lapic *l)
{
	static const u16 lvt[] = {
		APIC_CMCI, APIC_LVTT, APIC_LVTTHMR, APIC_LVTPC, APIC_LVT0, APIC_LVT1, APIC_LVTERR,
	};
	lapic_timer_reset(l);
	/* Others look at the ID meanwhile, to find out whether they mean us. */
	for (unsigned off = 0; off < REG_BYTES; off += 16) {
		if (off != APIC_ID)
			lapic_put(l, off, 0);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(lvt); i++)
		lapic_put(l, lvt[i], APIC_LVT_MASKED);
	lapic_put(l, APIC_DFR, 0xffffffff);
	lapic_put(l, APIC_SVR, 0xff);
	if (lapic_mode(l) == APIC_X2)
		lapic_put(l, APIC_LDR, lapic_x2_ldr(l->v->id));
	set_version(l);
	/* Firmware's virtual-wire set-up, which KVM does for it. */
	if (atomic_load(&l->base) & APIC_BASE_BSP &&
	    !(l->v->vm->disabled_quirks & KVM_X86_QUIRK_LINT0_REENABLED))
		lapic_put(l, APIC_LVT0, APIC_DM_EXTINT << 8);
	atomic_store(&l->esr, 0);
	atomic_store(&l->extint, -1);
	atomic_store(&l->extint_msg, false);
}

void hv_lapic_reset(struct hv_vcpu *v, bool init)
{
	struct hv_lapic *l = v->lapic;

	if (!init) {
		atomic_store(&l->base, APIC_BASE_DEFAULT | APIC_BASE_EN |
			     (v->id == v->vm->bsp_vcpu_id ? APIC_BASE_BSP : 0));
		atomic_store(&l->events, 0);
		set_id(l);
	}
	reset_registers(l);
	lapic_pv_eoi_reset(l);
	hv_apic_map_update(v->vm);
}

int hv_lapic_new(struct hv_vcpu *v)
{
	struct hv_lapic *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->page = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
	if (!l->page) {
		free(l);
		return -ENOMEM;
	}
	memset(l->page, 0, PAGE_SIZE);
	l->v = v;
	l->cpuid.physbits = 36;
	v->lapic = l;
	hv_lapic_reset(v, false);
	return 0;
}

void hv_lapic_free(struct hv_vcpu *v)
{
	struct hv_lapic *l = v->lapic;

	if (!l)
		return;
	v->lapic = NULL;
	free(l->page);
	free(l);
}

void hv_lapic_set_cpuid(struct hv_vcpu *v, const struct hv_lapic_cpuid *c)
{
	v->lapic->cpuid = *c;
	set_version(v->lapic);
}

void *hv_lapic_page(struct hv_vcpu *v)
{
	return v->lapic->page;
}

u64 hv_lapic_get_base(struct hv_vcpu *v)
{
	return atomic_load(&v->lapic->base);
}

/* "Local APIC State Transitions" of the x2APIC section; a host may go anywhere legal. */
static bool may_change_mode(enum apic_mode from, enum apic_mode to)
{
	switch (to) {
	case APIC_DISABLED:
		return true;
	case APIC_X:
		return from != APIC_X2;
	case APIC_X2:
		return from != APIC_DISABLED;
	case APIC_INVALID:
		break;
	}
	return false;
}

int hv_lapic_set_base(struct hv_vcpu *v, u64 val, bool host)
{
	struct hv_lapic *l = v->lapic;
	u64 old = atomic_load(&l->base);
	enum apic_mode from = apic_base_mode(old), to = apic_base_mode(val);
	u64 valid = BITS(l->cpuid.physbits - 1, 12) | APIC_BASE_BSP | APIC_BASE_EN |
		    (l->cpuid.x2apic ? APIC_BASE_EXTD : 0);

	if ((val & ~valid) || to == APIC_INVALID || (!host && !may_change_mode(from, to)))
		return -EINVAL;
	atomic_store(&l->base, val);
	if (from == to)
		return 0;
	/* A disabled APIC has no state: it comes back as after reset. */
	if (to != APIC_DISABLED)
		set_id(l);
	else if (!host)
		reset_registers(l);
	hv_apic_map_update(v->vm);
	request_event(l);
	return 0;
}

u8 hv_lapic_get_cr8(struct hv_vcpu *v)
{
	return lapic_get(v->lapic, APIC_TPR) >> 4 & 0xf;
}

void hv_lapic_set_cr8(struct hv_vcpu *v, u8 cr8)
{
	lapic_put(v->lapic, APIC_TPR, (cr8 & 0xfu) << 4);
	request_event(v->lapic);
}

/* ---- Acceptance ---- */

void lapic_error(struct hv_lapic *l, u32 esr)
{
	/* Only a new error interrupts, so an error of the error vector ends here. */
	if (!(atomic_fetch_or(&l->esr, esr) & esr))
		lapic_lvt_fire(l, APIC_LVTERR);
}

bool lapic_accept(struct hv_lapic *l, u8 vector, bool level)
{
	if (vector < 16) {
		lapic_error(l, APIC_ESR_RECV_ILLEGAL);
		return false;
	}
	if (level)
		lapic_vec_set(l, APIC_TMR, vector);
	else
		lapic_vec_clear(l, APIC_TMR, vector);
	lapic_vec_set(l, APIC_IRR, vector);
	notify(l);
	return true;
}

const char *apic_delivery_name(unsigned mode)
{
	static const char *const names[] = {
		"Fixed", "LowPrio", "SMI", "Res3", "NMI", "INIT", "SIPI", "ExtINT",
	};

	return names[mode & 7];
}

bool lapic_deliver(struct hv_lapic *l, const struct apic_msg *m)
{
	trace(kvm_apic_accept_irq, "apicid %x vec %u (%s|%s)", l->v->id, m->vector,
	      apic_delivery_name(m->mode), m->level ? "level" : "edge");
	switch ((enum apic_delivery)m->mode) {
	case APIC_DM_FIXED:
	case APIC_DM_LOWEST:
		return lapic_sw_enabled(l) && lapic_accept(l, m->vector, m->level);
	case APIC_DM_SMI:
		hv_set_request(l->v, HV_REQ_SMI);
		hv_kick(l->v);
		return true;
	case APIC_DM_NMI:
		hv_inject_nmi(l->v);
		return true;
	case APIC_DM_INIT:
		/* INIT level de-assert only synchronized arbitration IDs, long ago. */
		if (m->level && !m->assert)
			return false;
		atomic_store(&l->events, HV_LAPIC_INIT);
		notify(l);
		return true;
	case APIC_DM_SIPI:
		atomic_store(&l->sipi_vector, m->vector);
		atomic_fetch_or(&l->events, HV_LAPIC_SIPI);
		notify(l);
		return true;
	case APIC_DM_EXTINT:
		atomic_store(&l->extint_msg, true);
		notify(l);
		return true;
	case APIC_DM_RESERVED3:
		break;
	}
	return false;
}

bool lapic_lvt_fire(struct hv_lapic *l, unsigned lvt)
{
	u32 val = lapic_get(l, lvt);
	struct apic_msg m = { .vector = (u8)val, .assert = true };

	if ((val & APIC_LVT_MASKED) || lapic_mode(l) == APIC_DISABLED)
		return false;
	if (lvt != APIC_LVTT && lvt != APIC_LVTERR)
		m.mode = val >> 8 & 7;
	if (m.mode == APIC_DM_FIXED)
		lapic_accept(l, m.vector, false);
	else
		lapic_deliver(l, &m);
	return true;
}

int hv_lapic_fixed(struct hv_vcpu *v, u8 vector)
{
	struct apic_msg m = { .mode = APIC_DM_FIXED, .vector = vector, .assert = true };

	return lapic_mode(v->lapic) != APIC_DISABLED && lapic_deliver(v->lapic, &m);
}

void hv_lapic_set_synic(struct hv_vcpu *v, const u64 used[4], const u64 self_ending[4])
{
	memcpy(v->lapic->synic_used, used, sizeof(v->lapic->synic_used));
	memcpy(v->lapic->synic_self_ending, self_ending, sizeof(v->lapic->synic_self_ending));
}

void hv_lapic_cmci(struct hv_vcpu *v)
{
	lapic_lvt_fire(v->lapic, APIC_CMCI);
}

void hv_lapic_pmi(struct hv_vcpu *v)
{
	struct hv_lapic *l = v->lapic;

	if (lapic_lvt_fire(l, APIC_LVTPC))
		lapic_put(l, APIC_LVTPC, lapic_get(l, APIC_LVTPC) | APIC_LVT_MASKED);
}

/* ---- The PIC's line ---- */

/* LINT0 of a disabled APIC is the processor's INTR pin. */
static bool accepts_extint(struct hv_vcpu *v)
{
	u32 lvt = lapic_get(v->lapic, APIC_LVT0);

	if (lapic_mode(v->lapic) == APIC_DISABLED)
		return true;
	return !(lvt & APIC_LVT_MASKED) && (lvt >> 8 & 7) == APIC_DM_EXTINT;
}

bool hv_lapic_takes_user_extint(struct hv_vcpu *v)
{
	return atomic_load(&v->lapic->extint) < 0 && accepts_extint(v);
}

void lapic_pic_changed(struct hv_vm *vm)
{
	struct hv_vcpu *v;
	unsigned i;

	hv_for_each_vcpu(i, v, vm) {
		if (!v->lapic)
			continue;
		if (accepts_extint(v))
			notify(v->lapic);
		else
			lapic_lvt_fire(v->lapic, APIC_LVT0);
	}
}

static bool extint_pending(struct hv_vcpu *v)
{
	struct hv_lapic *l = v->lapic;

	if (v->vm->irqchip_mode == HV_IRQCHIP_SPLIT)
		return atomic_load(&l->extint) >= 0 && accepts_extint(v);
	return v->vm->pic && hv_pic_output(v->vm->pic) &&
	       (accepts_extint(v) || atomic_load(&l->extint_msg));
}

int hv_irq_set_extint(struct hv_vcpu *v, u8 vector)
{
	int none = -1;

	if (!atomic_compare_exchange_strong(&v->lapic->extint, &none, vector))
		return -EEXIST;
	notify(v->lapic);
	return 0;
}

/* ---- Priority, acknowledge, EOI ---- */

u32 lapic_ppr(struct hv_lapic *l)
{
	int isr = lapic_vec_highest(l, APIC_ISR);
	u32 in_service = isr < 0 ? 0 : (u32)isr & 0xf0;
	u32 tpr = lapic_get(l, APIC_TPR) & 0xff;
	u32 ppr = (tpr & 0xf0) >= in_service ? tpr : in_service;

	lapic_put(l, APIC_PPR, ppr);
	return ppr;
}

int hv_lapic_pending(struct hv_vcpu *v)
{
	struct hv_lapic *l = v->lapic;
	int irr;

	if (!l || lapic_mode(l) == APIC_DISABLED)
		return -1;
	irr = lapic_vec_highest(l, APIC_IRR);
	if (irr < 0 || ((u32)irr & 0xf0) <= (lapic_ppr(l) & 0xf0))
		return -1;
	return irr;
}

bool hv_irq_pending_any(struct hv_vcpu *v)
{
	return v->lapic && (extint_pending(v) || hv_lapic_pending(v) >= 0);
}

int hv_irq_ack(struct hv_vcpu *v)
{
	struct hv_lapic *l = v->lapic;
	int vector;

	if (!l)
		return -1;
	if (extint_pending(v)) {
		atomic_store(&l->extint_msg, false);
		if (v->vm->irqchip_mode == HV_IRQCHIP_SPLIT)
			return atomic_exchange(&l->extint, -1);
		vector = hv_pic_ack(v->vm->pic);
		/* With automatic EOI the next one may stand there already. */
		if (hv_pic_output(v->vm->pic))
			request_event(l);
		return vector;
	}
	vector = hv_lapic_pending(v);
	if (vector < 0)
		return -1;
	/* One that ends by itself never is in service, and the next may come at once. */
	if (unlikely(l->synic_self_ending[vector / 64] >> (vector % 64) & 1))
		request_event(l);
	else
		lapic_vec_set(l, APIC_ISR, (u8)vector);
	lapic_vec_clear(l, APIC_IRR, (u8)vector);
	lapic_ppr(l);
	return vector;
}

void lapic_finish_vector(struct hv_lapic *l, u8 vector)
{
	bool level = lapic_vec_test(l, APIC_TMR, vector);

	lapic_vec_clear(l, APIC_ISR, vector);
	lapic_ppr(l);
	if (lapic_get(l, APIC_SVR) & APIC_SVR_NO_EOI_BROADCAST)
		level = false;
	hv_ioapic_eoi(l->v, vector, level);
	if (unlikely(l->synic_used[vector / 64] >> (vector % 64) & 1))
		hv_set_request(l->v, HV_REQ_HYPERV);
	request_event(l);
}

void lapic_guest_eoi(struct hv_lapic *l)
{
	int vector = lapic_vec_highest(l, APIC_ISR);

	trace(kvm_eoi, "apicid %x vector %d", l->v->id, vector);
	if (vector >= 0)
		lapic_finish_vector(l, (u8)vector);
}

/* EOI-induced exit: the processor has cleared the vector in VISR already. */
void hv_lapic_eoi(struct hv_vcpu *v, u8 vector)
{
	lapic_finish_vector(v->lapic, vector);
}

/* ---- INIT and start-up ---- */

bool hv_lapic_has_events(struct hv_vcpu *v)
{
	return v->lapic && atomic_load(&v->lapic->events);
}

/*
 * "MP Initialization Protocol": INIT makes an application processor wait for a
 * start-up IPI; a start-up IPI that meets no waiting processor is lost.
 */
void hv_lapic_accept_events(struct hv_vcpu *v)
{
	struct hv_lapic *l = v->lapic;
	u32 ev = atomic_exchange(&l->events, 0);

	if (ev & HV_LAPIC_INIT) {
		hv_vcpu_reset(v, true);
		atomic_store(&v->mp_state, atomic_load(&l->base) & APIC_BASE_BSP ?
			     KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_INIT_RECEIVED);
	}
	if ((ev & HV_LAPIC_SIPI) && atomic_load(&v->mp_state) == KVM_MP_STATE_INIT_RECEIVED) {
		hv_vcpu_sipi(v, atomic_load(&l->sipi_vector));
		atomic_store(&v->mp_state, KVM_MP_STATE_RUNNABLE);
	}
}

unsigned hv_lapic_latched(struct hv_vcpu *v)
{
	return atomic_load(&v->lapic->events);
}

void hv_lapic_latch(struct hv_vcpu *v, unsigned events, bool on)
{
	if (on)
		atomic_fetch_or(&v->lapic->events, events);
	else
		atomic_fetch_and(&v->lapic->events, ~events);
}

u8 hv_lapic_sipi_vector(struct hv_vcpu *v)
{
	return atomic_load(&v->lapic->sipi_vector);
}

void hv_lapic_set_sipi_vector(struct hv_vcpu *v, u8 vector)
{
	atomic_store(&v->lapic->sipi_vector, vector);
}

u8 hv_lapic_take_eoi_exit(struct hv_vcpu *v)
{
	return v->lapic->eoi_exit;
}

/* ---- KVM_GET_LAPIC and KVM_SET_LAPIC ---- */

_Static_assert(sizeof(struct kvm_lapic_state) == REG_BYTES, "KVM_APIC_REG_SIZE");

static u32 state_reg(const struct kvm_lapic_state *s, unsigned off)
{
	u32 val;

	memcpy(&val, s->regs + off, sizeof(val));
	return val;
}

int hv_lapic_get_state(struct hv_vcpu *v, struct kvm_lapic_state *s)
{
	struct hv_lapic *l = v->lapic;

	memset(s, 0, sizeof(*s));
	lapic_ppr(l);
	for (unsigned off = 0; off < REG_BYTES; off += 16) {
		u32 val = lapic_get(l, off);

		if (off == APIC_TMCCT)
			val = lapic_timer_count(l);
		/* Without KVM_CAP_X2APIC_API the ID has 8 bits where xAPIC has them. */
		if (off == APIC_ID && lapic_mode(l) == APIC_X2 && !v->vm->x2apic_format)
			val <<= 24;
		memcpy(s->regs + off, &val, sizeof(val));
	}
	return 0;
}

int hv_lapic_set_state(struct hv_vcpu *v, const struct kvm_lapic_state *s)
{
	struct hv_lapic *l = v->lapic;
	bool x2 = lapic_mode(l) == APIC_X2;

	if (x2 && state_reg(s, APIC_ID) != (v->vm->x2apic_format ? v->id : v->id << 24))
		return -EINVAL;
	lapic_timer_reset(l);
	for (unsigned off = 0; off < REG_BYTES; off += 16)
		lapic_put(l, off, state_reg(s, off));
	lapic_put(l, APIC_EOI, 0);
	set_version(l);
	if (x2)
		set_id(l);
	lapic_ppr(l);
	lapic_timer_restore(l);
	hv_apic_map_update(v->vm);
	request_event(l);
	return 0;
}
