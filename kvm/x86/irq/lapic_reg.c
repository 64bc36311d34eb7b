// SPDX-License-Identifier: MIT
/*
 * Registers of the local APIC as the guest reaches them: the xAPIC page and
 * the x2APIC MSRs. What exists and which bits are writable is lapic_reg.def.
 */
#include <string.h>

#include "base/log.h"
#include "base/trace.h"
#include "kvm/x86/irq/lapic.h"

#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC 0x800u

enum reg_access { NA, RO, WO, RW };

struct reg {
	u8 xapic, x2apic;	/* enum reg_access */
	u32 keep, ignore;
};

/* By offset / 10h. */
static const struct reg regs[0x40] = {
#define LAPIC_REG(off, n, name, x, x2, keep, ignore) \
	[(off) / 16 ... (off) / 16 + (n) - 1] = { x, x2, keep, ignore },
#include "kvm/x86/irq/lapic_reg.def"
#undef LAPIC_REG
};

/* ICR of x2APIC mode. "x2APIC-Mode Interrupt Command Register". */
#define X2_ICR_RESERVED 0xfff32000u

static bool may_read(const struct reg *r, bool x2)
{
	u8 a = x2 ? r->x2apic : r->xapic;

	return a == RO || a == RW;
}

static bool may_write(const struct reg *r, bool x2)
{
	u8 a = x2 ? r->x2apic : r->xapic;

	return a == WO || a == RW;
}

/* Logical x2APIC ID: cluster in 31:16, one bit of sixteen. */
u32 lapic_x2_ldr(u32 id)
{
	return (id >> 4) << 16 | 1u << (id & 15);
}

int lapic_read_reg(struct hv_lapic *l, unsigned off, u64 *val)
{
	bool x2 = lapic_mode(l) == APIC_X2;

	*val = 0;
	if (off % 16 || off / 16 >= ARRAY_SIZE(regs) || !may_read(&regs[off / 16], x2)) {
		if (!x2)
			lapic_error(l, APIC_ESR_ILLEGAL_REG);
		return 1;
	}
	switch (off) {
	case APIC_PPR:
		*val = lapic_ppr(l);
		break;
	case APIC_TMCCT:
		*val = lapic_timer_count(l);
		break;
	case APIC_ICR:
		*val = lapic_get(l, APIC_ICR);
		if (x2)
			*val |= (u64)lapic_get(l, APIC_ICR2) << 32;
		break;
	default:
		*val = lapic_get(l, off);
	}
	return 0;
}

/* Bits of an LVT or of SVR that this APIC does not have. */
static u32 absent_bits(const struct hv_lapic *l, unsigned off)
{
	if (off == APIC_LVTT && !l->cpuid.tsc_deadline)
		return APIC_DEADLINE << 17;
	if (off == APIC_SVR && !(lapic_get(l, APIC_VERSION) & APIC_VERSION_NO_EOI_BROADCAST))
		return APIC_SVR_NO_EOI_BROADCAST;
	return 0;
}

static void write_svr(struct hv_lapic *l, u32 val)
{
	static const u16 lvt[] = {
		APIC_CMCI, APIC_LVTT, APIC_LVTTHMR, APIC_LVTPC, APIC_LVT0, APIC_LVT1, APIC_LVTERR,
	};
	bool was = lapic_sw_enabled(l);

	lapic_put(l, APIC_SVR, val);
	if (was && !(val & APIC_SVR_ENABLE)) {
		for (unsigned i = 0; i < ARRAY_SIZE(lvt); i++)
			lapic_put(l, lvt[i], lapic_get(l, lvt[i]) | APIC_LVT_MASKED);
	}
}

/* The value of an LVT that is written: masked for good while the APIC is disabled by software. */
static u32 lvt_value(struct hv_lapic *l, u32 val)
{
	return lapic_sw_enabled(l) ? val : val | APIC_LVT_MASKED;
}

int lapic_write_reg(struct hv_lapic *l, unsigned off, u64 val)
{
	bool x2 = lapic_mode(l) == APIC_X2;
	const struct reg *r;
	u32 keep, v;

	if (off % 16 || off / 16 >= ARRAY_SIZE(regs) || !may_write(&regs[off / 16], x2)) {
		if (!x2)
			lapic_error(l, APIC_ESR_ILLEGAL_REG);
		return 1;
	}
	r = &regs[off / 16];
	keep = r->keep & ~absent_bits(l, off);
	if (x2 && off == APIC_ICR) {
		if (val & X2_ICR_RESERVED)
			return 1;
	} else if (x2 && (val & ~(u64)(keep | r->ignore))) {
		return 1;
	}
	v = (u32)val & keep;

	switch (off) {
	case APIC_EOI:
		lapic_guest_eoi(l);
		break;
	case APIC_ID:
	case APIC_LDR:
		lapic_put(l, off, v);
		hv_apic_map_update(l->v->vm);
		break;
	case APIC_DFR:
		lapic_put(l, off, v | 0x0fffffff);
		hv_apic_map_update(l->v->vm);
		break;
	case APIC_SVR:
		write_svr(l, v);
		break;
	case APIC_ESR:
		lapic_put(l, APIC_ESR, atomic_exchange(&l->esr, 0));
		break;
	case APIC_ICR:
		if (x2)
			lapic_put(l, APIC_ICR2, (u32)(val >> 32));
		lapic_put(l, APIC_ICR, v);
		lapic_send_ipi(l, v, x2 ? (u32)(val >> 32) : lapic_get(l, APIC_ICR2) >> 24);
		break;
	case APIC_SELF_IPI:
		lapic_send_ipi(l, v | APIC_SELF << 18 | 1u << 14, 0);
		break;
	case APIC_TPR:
		lapic_put(l, APIC_TPR, v);
		hv_set_request(l->v, HV_REQ_EVENT);
		break;
	case APIC_LVTT:
		lapic_timer_set_lvt(l, lvt_value(l, v));
		break;
	case APIC_CMCI:
	case APIC_LVTTHMR:
	case APIC_LVTPC:
	case APIC_LVT1:
	case APIC_LVTERR:
		lapic_put(l, off, lvt_value(l, v));
		break;
	case APIC_LVT0:
		lapic_put(l, off, lvt_value(l, v));
		/* The PIC may have been waiting for this. */
		hv_set_request(l->v, HV_REQ_EVENT);
		break;
	case APIC_TMICT:
		lapic_timer_set_icr(l, v);
		break;
	case APIC_TDCR:
		lapic_timer_set_divide(l, v);
		break;
	default:
		lapic_put(l, off, v);
	}
	return 0;
}

/* ---- MSRs ---- */

/* Register names as the kernel prints them; those without one by their offset. */
static void trace_apic(const char *what, unsigned off, u64 val)
{
	static const char *const names[64] = {
		[0x02] = "APIC_ID", [0x03] = "APIC_LVR", [0x08] = "APIC_TASKPRI", [0x09] = "APIC_ARBPRI",
		[0x0a] = "APIC_PROCPRI", [0x0b] = "APIC_EOI", [0x0c] = "APIC_RRR", [0x0d] = "APIC_LDR",
		[0x0e] = "APIC_DFR", [0x0f] = "APIC_SPIV", [0x10] = "APIC_ISR", [0x18] = "APIC_TMR",
		[0x20] = "APIC_IRR", [0x28] = "APIC_ESR", [0x2f] = "APIC_LVTCMCI", [0x30] = "APIC_ICR",
		[0x31] = "APIC_ICR2", [0x32] = "APIC_LVTT", [0x33] = "APIC_LVTTHMR",
		[0x34] = "APIC_LVTPC", [0x35] = "APIC_LVT0", [0x36] = "APIC_LVT1", [0x37] = "APIC_LVTERR",
		[0x38] = "APIC_TMICT", [0x39] = "APIC_TMCCT", [0x3e] = "APIC_TDCR", [0x3f] = "APIC_SELF_IPI",
	};

	if (!trace_on(TRACE_kvm_apic))
		return;
	if (off < 0x400 && names[off >> 4])
		trace_emit(TRACE_kvm_apic, "apic_%s %s = 0x%llx", what, names[off >> 4],
			   (unsigned long long)val);
	else
		trace_emit(TRACE_kvm_apic, "apic_%s 0x%x = 0x%llx", what, off, (unsigned long long)val);
}

int hv_x2apic_read(struct hv_vcpu *v, u32 msr, u64 *val)
{
	int r;

	if (msr == MSR_TSC_DEADLINE) {
		*val = hv_lapic_get_tscdeadline(v);
		return 0;
	}
	BUG_ON(msr - MSR_X2APIC > 0xff);
	if (!v->lapic || lapic_mode(v->lapic) != APIC_X2)
		return 1;
	r = lapic_read_reg(v->lapic, (msr - MSR_X2APIC) * 16, val);
	if (!r)
		trace_apic("read", (msr - MSR_X2APIC) * 16, *val);
	return r;
}

int hv_x2apic_write(struct hv_vcpu *v, u32 msr, u64 val)
{
	if (msr == MSR_TSC_DEADLINE) {
		hv_lapic_set_tscdeadline(v, val);
		return 0;
	}
	BUG_ON(msr - MSR_X2APIC > 0xff);
	if (!v->lapic || lapic_mode(v->lapic) != APIC_X2)
		return 1;
	trace_apic("write", (msr - MSR_X2APIC) * 16, val);
	return lapic_write_reg(v->lapic, (msr - MSR_X2APIC) * 16, val);
}

/* ---- Hyper-V's MSRs: whatever the mode ---- */

int hv_lapic_synthetic_read(struct hv_vcpu *v, unsigned reg, u64 *val)
{
	switch (reg) {
	case 1:
		*val = lapic_get(v->lapic, APIC_ICR) | (u64)lapic_get(v->lapic, APIC_ICR2) << 32;
		return 0;
	case 2:
		*val = lapic_get(v->lapic, APIC_TPR);
		return 0;
	default:
		return 1;
	}
}

int hv_lapic_synthetic_write(struct hv_vcpu *v, unsigned reg, u64 val)
{
	struct hv_lapic *l = v->lapic;

	switch (reg) {
	case 0:
		lapic_guest_eoi(l);
		return 0;
	case 1:
		if (lapic_mode(l) == APIC_X2)
			return lapic_write_reg(l, APIC_ICR, val);
		lapic_put(l, APIC_ICR2, (u32)(val >> 32) & 0xff000000);
		return lapic_write_reg(l, APIC_ICR, (u32)val);
	default:
		return val > 0xff || lapic_write_reg(l, APIC_TPR, val);
	}
}

/* ---- The page ---- */

enum page_hit { PAGE_NO, PAGE_HOLE, PAGE_XAPIC };

static enum page_hit page_hit(struct hv_vcpu *v, u64 gpa)
{
	u64 base;

	if (!v->lapic)
		return PAGE_NO;
	base = atomic_load(&v->lapic->base);
	if ((gpa ^ base) & ~0xfffull)
		return PAGE_NO;
	if (apic_base_mode(base) == APIC_X)
		return PAGE_XAPIC;
	/*
	 * The page of a disabled or x2APIC-mode APIC swallows accesses, unless user space turned
	 * that off.
	 */
	return v->vm->disabled_quirks & KVM_X86_QUIRK_LAPIC_MMIO_HOLE ? PAGE_NO : PAGE_HOLE;
}

bool hv_lapic_mmio_read(struct hv_vcpu *v, u64 gpa, unsigned len, void *data)
{
	unsigned off = gpa & 0xfff;
	u64 val = 0;

	switch (page_hit(v, gpa)) {
	case PAGE_NO:
		return false;
	case PAGE_HOLE:
		memset(data, 0xff, len);
		return true;
	case PAGE_XAPIC:
		break;
	}
	memset(data, 0, len);
	/* Bytes 4 to 15 of each 16 read as 0, as does what reaches beyond byte 3. */
	if ((off & 15) + len <= 4) {
		lapic_read_reg(v->lapic, off & ~15u, &val);
		trace_apic("read", off & ~15u, val);
		memcpy(data, (u8 *)&val + (off & 15), len);
	}
	return true;
}

bool hv_lapic_mmio_write(struct hv_vcpu *v, u64 gpa, unsigned len, const void *data)
{
	u32 val;

	switch (page_hit(v, gpa)) {
	case PAGE_NO:
		return false;
	case PAGE_HOLE:
		return true;
	case PAGE_XAPIC:
		break;
	}
	/*
	 * "All 32-bit registers should be accessed using 128-bit aligned 32-bit loads or stores";
	 * others are lost.
	 */
	if (len == 4 && !(gpa & 15)) {
		memcpy(&val, data, 4);
		trace_apic("write", gpa & 0xff0, val);
		lapic_write_reg(v->lapic, gpa & 0xfff, val);
	}
	return true;
}
