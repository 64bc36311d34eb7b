/* SPDX-License-Identifier: MIT */
/*
 * Model-specific registers: the table spec/x86/msr.def made into code. RDMSR and
 * WRMSR are in misc_insn.c; intercepts come before anything here.
 */
#include "base/log.h"
#include "silicon/x86/sys/sys_priv.h"
#include "silicon/x86/vmx/vmx_cap.h"

struct msr_row;
typedef bool msr_get_fn(struct x86_cpu *cpu, const struct msr_row *row, u32 msr, u64 *v);
typedef bool msr_set_fn(struct x86_cpu *cpu, const struct msr_row *row, u32 msr, u64 v);

enum { FOR_BOTH, FOR_INTEL, FOR_AMD };

struct msr_row {
	u32 first, last;
	const char *name;
	u8 vendor;
	u16 gate;
	u16 storage;		/* offset in struct x86_cpu, 0 = none */
	u64 reset, writable;
	msr_get_fn *get;
	msr_set_fn *set;
};

static u64 *storage(struct x86_cpu *cpu, const struct msr_row *row, u32 msr)
{
	return (u64 *)((char *)cpu + row->storage) + (msr - row->first);
}

/* ---- Reading ---- */

#define GET(name) \
	static bool x86_msr_get_##name(struct x86_cpu *cpu, const struct msr_row *row, u32 msr, u64 *v)
#define SET(name) \
	static bool x86_msr_set_##name(struct x86_cpu *cpu, const struct msr_row *row, u32 msr, u64 v)

GET(plain)
{
	*v = row->storage ? *storage(cpu, row, msr) : row->reset;
	return true;
}

GET(none)
{
	return false;
}

GET(tsc)
{
	*v = x86_vmx_tsc(cpu);
	return true;
}

/* Maximum non-turbo ratio in units of 100 MHz. */
GET(platform_info)
{
	*v = (u64)(x86_tsc_khz() / 100000) << 8;
	return true;
}

GET(sysenter_cs)
{
	*v = cpu->sysenter_cs;
	return true;
}

GET(vmx_cap)
{
	return x86_vmx_cap_msr(cpu, msr, v);
}

GET(pmu)
{
	return x86_pmu_rdmsr(cpu, msr, v);
}

GET(fs_base)
{
	*v = cpu->seg[X86_FS].base;
	return true;
}

GET(gs_base)
{
	*v = cpu->seg[X86_GS].base;
	return true;
}

/* ---- Writing ---- */

SET(none)
{
	return false;
}

SET(ignore)
{
	return true;
}

SET(plain)
{
	if (v & ~row->writable)
		return false;
	if (row->storage)
		*storage(cpu, row, msr) = v;
	return true;
}

SET(canonical)
{
	if (!x86_canonical_max(cpu, v))
		return false;
	*storage(cpu, row, msr) = v;
	return true;
}

/* AMD keeps all bits but uses 32 of them. */
SET(sysenter_addr)
{
	return x86_is_amd(cpu) ? (*storage(cpu, row, msr) = v, true) :
				 x86_msr_set_canonical(cpu, row, msr, v);
}

SET(sysenter_cs)
{
	cpu->sysenter_cs = (u32)v;
	return true;
}

/* Always the real counter, also in non-root operation; IA32_TSC_ADJUST follows. */
SET(tsc)
{
	u64 delta = v - x86_rdtsc(cpu);

	cpu->tsc_offset += delta;
	cpu->tsc_adjust += delta;
	return true;
}

SET(tsc_adjust)
{
	cpu->tsc_offset += v - cpu->tsc_adjust;
	cpu->tsc_adjust = v;
	return true;
}

SET(tsc_aux)
{
	if (!x86_is_amd(cpu) && v >> 32)
		return false;
	cpu->tsc_aux = (u32)v;
	return true;
}

#define APIC_BASE_BSP BIT(8)
#define APIC_BASE_EXTD BIT(10)
#define APIC_BASE_EN BIT(11)

/* SDM vol. 3A "x2APIC State Transitions". */
SET(apic_base)
{
	u64 reserved = BITS(7, 0) | BIT(9) | BITS(63, cpu->physbits);
	bool was_x2 = cpu->apic_base & APIC_BASE_EXTD;

	if (v & reserved)
		return false;
	if ((v & (APIC_BASE_EN | APIC_BASE_EXTD)) == APIC_BASE_EXTD)
		return false;
	/* x2APIC leads only to disabled; disabled only to xAPIC. */
	if (was_x2 && (v & (APIC_BASE_EN | APIC_BASE_EXTD)) == APIC_BASE_EN)
		return false;
	if ((v & APIC_BASE_EXTD) && !was_x2) {
		if (!x86_has(cpu, X86_FEAT_X2APIC) || !(cpu->apic_base & APIC_BASE_EN))
			return false;
		UNIMPL("x2APIC mode of the processor's own local APIC");
		return false;
	}
	cpu->apic_base = v;
	return true;
}

SET(feature_control)
{
	if ((cpu->feature_control & 1) || (v & ~row->writable))
		return false;
	cpu->feature_control = v;
	return true;
}

/* Branch stepping; with counters also what a PMI freezes (there are no LBRs to freeze). */
SET(debugctl)
{
	if (v & ~(row->writable | (x86_has(cpu, X86_FEAT_PERFMON) ? BIT(12) | BIT(11) : 0)))
		return false;
	cpu->debugctl = v;
	return true;
}

SET(spec_ctrl)
{
	u64 ok = BIT(0) | (x86_has(cpu, X86_FEAT_STIBP) ? BIT(1) : 0) |
		 (x86_has(cpu, X86_FEAT_SSBD) ? BIT(2) : 0);

	if (v & ~ok)
		return false;
	cpu->spec_ctrl = v;
	return true;
}

/* Fast strings may be toggled; the "unavailable" bits are read-only, the rest is absent. */
SET(misc_enable)
{
	if ((v & ~BIT(0)) != (row->reset & ~BIT(0)))
		return false;
	cpu->misc_enable = v;
	return true;
}

static bool memory_type_ok(unsigned t)
{
	return t < 8 && (0x73u >> t & 1);	/* UC WC WT WP WB */
}

static bool eight_types_ok(u64 v, unsigned valid)
{
	for (unsigned i = 0; i < 64; i += 8)
		if ((v >> i & 0xff) > 7 || !(valid >> (v >> i & 7) & 1))
			return false;
	return true;
}

SET(mtrr_var)
{
	u64 reserved = BITS(63, cpu->physbits);

	if ((msr & 1) == 0) {
		if ((v & (reserved | BITS(11, 8))) || !memory_type_ok(v & 0xff))
			return false;
	} else if (v & (reserved | BITS(10, 0))) {
		return false;
	}
	*storage(cpu, row, msr) = v;
	return true;
}

SET(mtrr_fixed)
{
	if (!eight_types_ok(v, 0x73))
		return false;
	*storage(cpu, row, msr) = v;
	return true;
}

SET(mtrr_def_type)
{
	if ((v & ~(BITS(7, 0) | BIT(10) | BIT(11))) || !memory_type_ok(v & 0xff))
		return false;
	cpu->mtrr_def_type = v;
	return true;
}

bool x86_pat_valid(u64 v)
{
	return eight_types_ok(v, 0xf3);		/* those of MTRRs and UC- */
}

SET(pat)
{
	if (!x86_pat_valid(v))
		return false;
	cpu->pat = v;
	return true;
}

SET(all_or_none)
{
	if (v != 0 && v != ~0ull)
		return false;
	*storage(cpu, row, msr) = v;
	return true;
}

/*
 * Four registers a bank: CTL, STATUS, ADDR, MISC. Software clears some CTL bits one
 * by one (bank 4's bit 10, bit 0 on old parts), which processors tolerate.
 */
SET(mc_bank)
{
	switch (msr & 3) {
	case 0:
		if (v != 0 && (v | BIT(10) | BIT(0)) != ~0ull)
			return false;
		break;
	case 1:
		if (v != 0 && !(x86_is_amd(cpu) && (cpu->hwcr & BIT(18))))
			return false;
		break;
	default:
		if (v != 0 && !x86_is_amd(cpu))
			return false;
		break;
	}
	*storage(cpu, row, msr) = v;
	return true;
}

SET(pmu)
{
	return x86_pmu_wrmsr(cpu, msr, v);
}

SET(efer)
{
	return x86_write_efer(cpu, v);
}

static bool set_base(struct x86_cpu *cpu, unsigned seg, u64 v)
{
	if (!x86_canonical_max(cpu, v))
		return false;
	cpu->seg[seg].base = v;
	x86_update_mode(cpu);
	return true;
}

SET(fs_base)
{
	return set_base(cpu, X86_FS, v);
}

SET(gs_base)
{
	return set_base(cpu, X86_GS, v);
}

/* ---- The table ---- */

#define F(field) offsetof(struct x86_cpu, field)
#define NOWHERE 0
static const struct msr_row rows[] = {
#define MSR(first, last, name, vendor, gate, reset, storage, writable, get, set) \
	{ first, last, #name, FOR_##vendor, X86_FEAT_##gate, storage, reset, writable, \
	  x86_msr_get_##get, x86_msr_set_##set },
#include "spec/x86/msr.def"
#undef MSR
};
_Static_assert(sizeof(struct x86_cpu) - sizeof(((struct x86_cpu *)0)->tlbs) < 65536 &&
	       offsetof(struct x86_cpu, tlbs) < 65536, "MSR storage lies before the TLBs");

static bool row_exists(const struct x86_cpu *cpu, const struct msr_row *row)
{
	return x86_has(cpu, row->gate) &&
	       (row->vendor == FOR_BOTH || (row->vendor == FOR_AMD) == x86_is_amd(cpu));
}

/* Rows are sorted; the same index may have one per vendor. */
static const struct msr_row *find_msr(const struct x86_cpu *cpu, u32 msr)
{
	unsigned lo = 0, hi = ARRAY_SIZE(rows);

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (rows[mid].last < msr)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < ARRAY_SIZE(rows) && rows[lo].first <= msr; lo++)
		if (row_exists(cpu, &rows[lo]))
			return &rows[lo];
	return NULL;
}

bool x86_msr_read(struct x86_cpu *cpu, u32 msr, u64 *v)
{
	const struct msr_row *row = find_msr(cpu, msr);

	return row && row->get(cpu, row, msr, v);
}

bool x86_msr_write(struct x86_cpu *cpu, u32 msr, u64 v)
{
	const struct msr_row *row = find_msr(cpu, msr);

	return row && row->set(cpu, row, msr, v);
}

void x86_msr_reset(struct x86_cpu *cpu)
{
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct msr_row *row = &rows[i];

		if (row->storage && row_exists(cpu, row))
			for (u32 m = row->first; m <= row->last; m++)
				*storage(cpu, row, m) = row->reset;
	}
	if (cpu->apic_id == 0)
		cpu->apic_base |= APIC_BASE_BSP;
}

int x86_rdmsr(struct x86_cpu *cpu, u32 msr, u64 *v)
{
	return x86_msr_read(cpu, msr, v) ? 0 : -1;
}

int x86_wrmsr(struct x86_cpu *cpu, u32 msr, u64 v)
{
	return x86_msr_write(cpu, msr, v) ? 0 : -1;
}
