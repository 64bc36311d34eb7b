// SPDX-License-Identifier: MIT
/*
 * Performance counters of guests. The vCPU has a processor of its own, whose counters
 * are the guest's: nothing is saved or restored. They count in the guest only, because
 * VM entries and exits switch IA32_PERF_GLOBAL_CTRL between the guest's value and 0.
 *
 * The guest's CPUID decides what it sees. If that is all of the processor's counters, the
 * guest reaches them and GLOBAL_CTRL without exits. Event selectors always exit: the
 * client's filter (KVM_SET_PMU_EVENT_FILTER) keeps events off the processor. So do the
 * status registers, since the hypervisor adds overflows of its own: it counts the
 * instructions that it executes for the guest, and software cannot set status bits.
 *
 * A guest whose counters are narrower finds them in the low bits of the processor's; the
 * bits above are kept at 1, so that both overflow together.
 *
 * The processor's interrupt comes as a VM exit (or is found pending after another one),
 * and becomes what the guest's own LVTPC says.
 */
#include "kvm/x86/pmu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "kvm/hv.h"
#include "kvm/x86/cpuid.h"
#include "kvm/x86/x86.h"

#define PMC0 0xc1u
#define EVTSEL0 0x186u
#define FIXED0 0x309u
#define FIXED_CTRL 0x38du
#define GLOBAL_STATUS 0x38eu
#define GLOBAL_CTRL 0x38fu
#define GLOBAL_OVF_CTRL 0x390u
#define A_PMC0 0x4c1u
#define PERF_CAPABILITIES 0x345u

#define EVTSEL_EVENT 0xffffull
#define EVTSEL_USR BIT(16)
#define EVTSEL_OS BIT(17)
#define EVTSEL_INT BIT(20)
#define EVTSEL_EN BIT(22)
#define EVTSEL_INV BIT(23)
#define EVTSEL_CMASK(v) ((v) >> 24 & 0xff)
#define EVTSEL_RESERVED (BITS(63, 32) | BIT(21))
#define EVENT_INSNS 0xc0

/* The fields of a counter in FIXED_CTR_CTRL. */
#define FIXED_OS 1u
#define FIXED_USR 2u
#define FIXED_PMI 8u

#define HW_MASK BITS(47, 0)
#define STATUS_OTHER (BIT(62) | BIT(63))
#define CAP_FW_WRITE BIT(13)
#define MISC_ENABLE_PERFMON BIT(7)

#define FILTER_MAX_EVENTS 300u
/* What of a selector a filter's event is compared with. */
#define FILTER_EVENT (BITS(35, 32) | BITS(15, 0))

struct hv_pmu_filter {
	struct epoch_node node;
	bool allow;		/* only what is listed; else all but that */
	u32 fixed;
	u32 n;
	u64 event[];
};

static struct hv_pmu *pmu(struct hv_vcpu *v)
{
	return &v->x86->pmu;
}

/* The processor has them, and takes every value that comes here. */
static u64 hw_read(struct hv_vcpu *v, u32 msr)
{
	u64 val;

	BUG_ON(x86_rdmsr(v->cpu, msr, &val) < 0);
	return val;
}

static void hw_write(struct hv_vcpu *v, u32 msr, u64 val)
{
	BUG_ON(x86_wrmsr(v->cpu, msr, val) < 0);
}

/* ---- Counters: 0..7, then the fixed ones ---- */

static unsigned nr_counters(const struct hv_pmu *p)
{
	return HV_PMU_GP + p->nr_fixed;
}

static bool has_counter(const struct hv_pmu *p, unsigned i)
{
	return i < HV_PMU_GP ? i < p->nr_gp : i < nr_counters(p);
}

static u32 counter_msr(unsigned i)
{
	return i < HV_PMU_GP ? A_PMC0 + i : FIXED0 + i - HV_PMU_GP;
}

static u64 counter_mask(const struct hv_pmu *p, unsigned i)
{
	return i < HV_PMU_GP ? p->gp_mask : p->fixed_mask;
}

static u64 counter_bit(unsigned i)
{
	return BIT(i < HV_PMU_GP ? i : 32 + i - HV_PMU_GP);
}

static unsigned fixed_field(u64 ctrl, unsigned i)
{
	return ctrl >> 4 * (i - HV_PMU_GP) & 0xf;
}

static u64 read_counter(struct hv_vcpu *v, unsigned i)
{
	return hw_read(v, counter_msr(i)) & counter_mask(pmu(v), i);
}

static void write_counter(struct hv_vcpu *v, unsigned i, u64 val)
{
	u64 mask = counter_mask(pmu(v), i);

	hw_write(v, counter_msr(i), (val & mask) | (HW_MASK & ~mask));
}

static bool wants_interrupt(const struct hv_pmu *p, unsigned i)
{
	return i < HV_PMU_GP ? p->evtsel[i] & EVTSEL_INT : fixed_field(p->fixed_ctrl, i) & FIXED_PMI;
}

/* ---- The filter ---- */

static bool event_allowed(const struct hv_pmu_filter *f, u64 evtsel)
{
	if (!f)
		return true;
	for (u32 i = 0; i < f->n; i++)
		if (f->event[i] == (evtsel & FILTER_EVENT))
			return f->allow;
	return !f->allow;
}

static bool fixed_allowed(const struct hv_pmu_filter *f, unsigned n)
{
	return !f || (f->fixed >> n & 1) == f->allow;
}

/*
 * What the processor counts: what the guest selected, less what is filtered. Narrow
 * counters always interrupt, to be made to overflow with the guest's again.
 */
static void program(struct hv_vcpu *v)
{
	struct hv_pmu *p = pmu(v);
	const struct hv_pmu_filter *f;
	u64 fixed = 0;

	epoch_enter();
	f = atomic_load(&v->vm->pmu_filter);
	p->counts_insns = false;
	for (unsigned i = 0; i < p->nr_gp; i++) {
		u64 sel = p->evtsel[i];

		if (!event_allowed(f, sel))
			sel &= ~EVTSEL_EN;
		if (sel & EVTSEL_EN && p->gp_mask != HW_MASK)
			sel |= EVTSEL_INT;
		if (sel & EVTSEL_EN && (sel & EVTSEL_EVENT) == EVENT_INSNS)
			p->counts_insns = true;
		if (hw_read(v, EVTSEL0 + i) != sel)
			hw_write(v, EVTSEL0 + i, sel);
	}
	for (unsigned i = 0; i < p->nr_fixed; i++) {
		u64 field = fixed_field(p->fixed_ctrl, HV_PMU_GP + i);

		if (!fixed_allowed(f, i))
			continue;
		if (field && p->fixed_mask != HW_MASK)
			field |= FIXED_PMI;
		if (i == 0 && field & (FIXED_OS | FIXED_USR))
			p->counts_insns = true;
		fixed |= field << 4 * i;
	}
	epoch_exit();
	hw_write(v, FIXED_CTRL, fixed);
}

void hv_pmu_apply_filter(struct hv_vcpu *v)
{
	if (pmu(v)->version)
		program(v);
}

static void filter_free(struct epoch_node *n)
{
	free(container_of(n, struct hv_pmu_filter, node));
}

int hv_set_pmu_event_filter(struct hv_vm *vm, const struct kvm_pmu_event_filter *k, const u64 *events)
{
	struct hv_pmu_filter *f, *old;

	if (k->action != KVM_PMU_EVENT_ALLOW && k->action != KVM_PMU_EVENT_DENY)
		return -EINVAL;
	if (k->flags)
		return -EINVAL;
	if (k->nevents > FILTER_MAX_EVENTS)
		return -E2BIG;
	f = malloc(sizeof(*f) + k->nevents * sizeof(f->event[0]));
	if (!f)
		return -ENOMEM;
	f->allow = k->action == KVM_PMU_EVENT_ALLOW;
	f->fixed = k->fixed_counter_bitmap;
	f->n = k->nevents;
	memcpy(f->event, events, k->nevents * sizeof(f->event[0]));
	pthread_mutex_lock(&vm->lock);
	old = atomic_exchange(&vm->pmu_filter, f);
	pthread_mutex_unlock(&vm->lock);
	if (old)
		epoch_defer(&old->node, filter_free);
	hv_request_all(vm, HV_REQ_PMU, true);
	return 0;
}

void hv_pmu_filter_free(struct hv_vm *vm)
{
	free(atomic_load(&vm->pmu_filter));
}

/* ---- Overflow ---- */

static void interrupt_guest(struct hv_vcpu *v)
{
	if (v->lapic)
		hv_lapic_pmi(v);
}

void hv_pmu_interrupt(struct hv_vcpu *v)
{
	struct hv_pmu *p = pmu(v);
	u64 status = hw_read(v, GLOBAL_STATUS);
	bool tell = false;

	x86_set_lvtpc(v->cpu, HV_PMI_VECTOR);
	for (unsigned i = 0; i < nr_counters(p); i++) {
		if (!has_counter(p, i) || !(status & counter_bit(i)))
			continue;
		tell |= wants_interrupt(p, i);
		if (counter_mask(p, i) != HW_MASK)
			write_counter(v, i, read_counter(v, i));
	}
	if (tell)
		interrupt_guest(v);
}

/* Does the guest count its instructions with this counter, here and now? */
static bool counts_insn(const struct hv_pmu *p, unsigned i, u64 hw_sel, u64 hw_fixed, bool user)
{
	if (i > HV_PMU_GP || !has_counter(p, i))
		return false;
	if (i == HV_PMU_GP)
		return fixed_field(hw_fixed, i) & (user ? FIXED_USR : FIXED_OS);
	return hw_sel & EVTSEL_EN && (hw_sel & EVTSEL_EVENT) == EVENT_INSNS &&
	       (hw_sel & (user ? EVTSEL_USR : EVTSEL_OS)) && EVTSEL_CMASK(hw_sel) <= 1 &&
	       !(hw_sel & EVTSEL_INV && EVTSEL_CMASK(hw_sel));
}

static void count_insn(struct hv_vcpu *v)
{
	struct hv_pmu *p = pmu(v);
	u64 on = vmcs_get(v, VMCS_GUEST_PERF_GLOBAL_CTRL), fixed = hw_read(v, FIXED_CTRL);
	bool user = hv_get_cpl(v) != 0, tell = false;

	for (unsigned i = 0; i <= HV_PMU_GP; i++) {
		u64 val, sel = i < HV_PMU_GP ? hw_read(v, EVTSEL0 + i) : 0;

		if (!(on & counter_bit(i)) || !counts_insn(p, i, sel, fixed, user))
			continue;
		val = (read_counter(v, i) + 1) & counter_mask(p, i);
		write_counter(v, i, val);
		if (val)
			continue;
		p->status |= counter_bit(i);
		tell |= wants_interrupt(p, i);
	}
	if (tell)
		interrupt_guest(v);
}

void hv_pmu_insn(struct hv_vcpu *v)
{
	if (unlikely(pmu(v)->counts_insns))
		count_insn(v);
}

/* ---- Registers ---- */

/* The counter that @msr is in this guest, or -1. */
static int counter_of(const struct hv_pmu *p, u32 msr)
{
	if (msr - PMC0 < p->nr_gp)
		return (int)(msr - PMC0);
	if (msr - A_PMC0 < p->nr_gp && p->capabilities & CAP_FW_WRITE)
		return (int)(msr - A_PMC0);
	if (msr - FIXED0 < p->nr_fixed)
		return (int)(msr - FIXED0 + HV_PMU_GP);
	return -1;
}

static bool is_global(u32 msr)
{
	return msr >= FIXED_CTRL && msr <= GLOBAL_OVF_CTRL;
}

/*
 * What the guest has not. Old guests touch the first two counters and selectors without
 * asking; user space may save and restore what the list of MSRs names.
 */
static int absent(u32 msr, u64 val, bool write, bool host)
{
	bool old = msr - PMC0 < 2 || msr - EVTSEL0 < 2;

	if (host)
		return write && val;
	return !old;
}

static u64 status(struct hv_vcpu *v)
{
	return hw_read(v, GLOBAL_STATUS) | pmu(v)->status;
}

static void clear_status(struct hv_vcpu *v, u64 bits)
{
	pmu(v)->status &= ~bits;
	hw_write(v, GLOBAL_OVF_CTRL, bits);
}

static int read_global(struct hv_vcpu *v, u32 msr, u64 *val)
{
	switch (msr) {
	case FIXED_CTRL:
		*val = pmu(v)->fixed_ctrl;
		return 0;
	case GLOBAL_STATUS:
		*val = status(v);
		return 0;
	case GLOBAL_CTRL:
		*val = vmcs_get(v, VMCS_GUEST_PERF_GLOBAL_CTRL);
		return 0;
	default:
		*val = 0;
		return 0;
	}
}

int hv_pmu_rdmsr(struct hv_vcpu *v, u32 msr, u64 *val, bool host)
{
	const struct hv_pmu *p = pmu(v);
	int i = counter_of(p, msr);

	*val = 0;
	if (i >= 0)
		*val = read_counter(v, (unsigned)i);
	else if (msr - EVTSEL0 < p->nr_gp)
		*val = p->evtsel[msr - EVTSEL0];
	else if (is_global(msr) && p->version >= 2)
		return read_global(v, msr, val);
	else
		return absent(msr, 0, false, host);
	return 0;
}

static int write_global(struct hv_vcpu *v, u32 msr, u64 val, bool host)
{
	struct hv_pmu *p = pmu(v);

	switch (msr) {
	case FIXED_CTRL:
		if (val & ~p->fixed_valid)
			return 1;
		p->fixed_ctrl = val;
		program(v);
		return 0;
	case GLOBAL_CTRL:
		if (val & ~p->global_valid)
			return 1;
		vmcs_set(v, VMCS_GUEST_PERF_GLOBAL_CTRL, val);
		return 0;
	case GLOBAL_STATUS:
		if (!host || (val & ~(p->global_valid | STATUS_OTHER)))
			return 1;
		clear_status(v, p->global_valid);
		p->status = val;
		return 0;
	default:
		if (val & ~(p->global_valid | STATUS_OTHER))
			return 1;
		if (!host)
			clear_status(v, val);
		return 0;
	}
}

/* Guests write 32 bits, signed, or all of a counter by its other name; user space all of it. */
static int write_counter_msr(struct hv_vcpu *v, u32 msr, unsigned i, u64 val, bool host)
{
	if (msr - PMC0 < HV_PMU_GP) {
		if (!host)
			val = (u64)(s64)(s32)val;
	} else if (!host && val & ~counter_mask(pmu(v), i)) {
		return 1;
	}
	write_counter(v, i, val);
	return 0;
}

int hv_pmu_wrmsr(struct hv_vcpu *v, u32 msr, u64 val, bool host)
{
	struct hv_pmu *p = pmu(v);
	int i = counter_of(p, msr);

	if (i >= 0)
		return write_counter_msr(v, msr, (unsigned)i, val, host);
	if (is_global(msr) && p->version >= 2)
		return write_global(v, msr, val, host);
	if (msr - EVTSEL0 >= p->nr_gp)
		return absent(msr, val, true, host);
	if (val & EVTSEL_RESERVED)
		return 1;
	p->evtsel[msr - EVTSEL0] = val;
	program(v);
	return 0;
}

/* What guests may have: a processor without LBRs has format 0. */
static u64 supported_capabilities(struct hv_vcpu *v)
{
	u64 val;

	if (v->vm->pmu_disabled || hv_model_rdmsr(v->vm->model, PERF_CAPABILITIES, &val) < 0)
		return 0;
	return val & CAP_FW_WRITE;
}

int hv_pmu_read_capabilities(struct hv_vcpu *v, u64 *val)
{
	*val = pmu(v)->capabilities;
	return 0;
}

int hv_pmu_write_capabilities(struct hv_vcpu *v, u64 val)
{
	if (val & ~supported_capabilities(v))
		return 1;
	pmu(v)->capabilities = val;
	hv_update_msr_bitmap(v);
	return 0;
}

bool hv_pmu_passes(struct hv_vcpu *v, u32 msr)
{
	const struct hv_pmu *p = pmu(v);

	return p->whole && (msr == GLOBAL_CTRL || counter_of(p, msr) >= 0);
}

int hv_pmu_rdpmc(struct hv_vcpu *v, u32 index, u64 *val)
{
	const struct hv_pmu *p = pmu(v);
	u32 i = (u32)(index & BITS(29, 0));

	if (i >= (index & BIT(30) ? p->nr_fixed : p->nr_gp))
		return 1;
	*val = read_counter(v, i + (index & BIT(30) ? HV_PMU_GP : 0));
	return 0;
}

/* ---- Life ---- */

static u64 all_gp(const struct hv_pmu *p)
{
	return BIT(p->nr_gp) - 1;
}

static u64 width_mask(u32 bits)
{
	return bits >= 48 ? HW_MASK : BIT(bits) - 1;
}

static void derive(struct hv_vcpu *v)
{
	const struct kvm_cpuid_entry2 *e = hv_cpuid_entry(v, 0xa, 0);
	struct hv_pmu *p = pmu(v);
	u32 hw[4];

	p->version = p->nr_gp = p->nr_fixed = 0;
	hv_model_cpuid(v->vm->model, 0xa, 0, hw);
	if (v->vm->pmu_disabled || !e || !(hw[0] & 0xff))
		return;
	p->version = (u8)e->eax;
	if (!p->version)
		return;
	p->nr_gp = (u8)min(e->eax >> 8 & 0xff, (u32)HV_PMU_GP);
	p->gp_mask = width_mask(e->eax >> 16 & 0xff);
	if (p->version >= 2) {
		p->nr_fixed = (u8)min(e->edx & 0x1f, (u32)HV_PMU_FIXED);
		p->fixed_mask = width_mask(e->edx >> 5 & 0xff);
	}
}

void hv_pmu_cpuid_changed(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;
	struct hv_pmu *p = &x->pmu;

	derive(v);
	p->global_valid = all_gp(p) | (BIT(p->nr_fixed) - 1) << 32;
	p->fixed_valid = 0xbbb & (BIT(4 * p->nr_fixed) - 1);
	p->whole = p->version >= 2 && p->nr_gp == HV_PMU_GP && p->nr_fixed == HV_PMU_FIXED &&
		   p->gp_mask == HW_MASK && p->fixed_mask == HW_MASK;
	x->misc_enable = p->version ? x->misc_enable | MISC_ENABLE_PERFMON :
				      x->misc_enable & ~MISC_ENABLE_PERFMON;
	hv_vmx_set_proc(v, PROC_RDPMC_EXITING, !p->whole);
	hv_pmu_reset(v);
}

void hv_pmu_reset(struct hv_vcpu *v)
{
	struct hv_pmu *p = pmu(v);

	memset(p->evtsel, 0, sizeof(p->evtsel));
	p->fixed_ctrl = p->status = 0;
	/* As on a processor: SDM vol. 3A "Processor State After Reset". Version 1 knows no such switch. */
	vmcs_set(v, VMCS_GUEST_PERF_GLOBAL_CTRL, all_gp(p));
	if (!p->version)
		return;
	program(v);
	clear_status(v, p->global_valid);
	for (unsigned i = 0; i < nr_counters(p); i++)
		if (has_counter(p, i))
			write_counter(v, i, 0);
}

void hv_pmu_vcpu_new(struct hv_vcpu *v)
{
	pmu(v)->capabilities = supported_capabilities(v);
	/* Root mode counts nothing. */
	hw_write(v, GLOBAL_CTRL, 0);
	x86_set_lvtpc(v->cpu, HV_PMI_VECTOR);
}
