// SPDX-License-Identifier: MIT
/*
 * MSRs of guests: the table of msr.def and one reader and writer per kind.
 * Filters and exits to user space are in msr_user.c.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "kvm/hv.h"
#include "kvm/x86/cpuid.h"
#include "kvm/x86/hyperv/hyperv.h"
#include "kvm/x86/x86.h"

#define PAT_DEFAULT 0x0007040600070406ull
#define MISC_ENABLE_DEFAULT 0x1800ull	/* BTS and PEBS unavailable */
#define MISC_ENABLE_PERFMON BIT(7)
#define MISC_ENABLE_MWAIT BIT(18)
#define PLATFORM_INFO_CPUID_FAULT BIT(31)
#define FEATURE_CONTROL_LOCKED 1ull
#define DEBUGCTL_VALID (BIT(0) | BIT(1))	/* LBR and BTF; LBR is remembered only */
#define NR_VAR_MTRR 8u

enum gate {
	G_ALWAYS, G_INTEL, G_AMD, G_TSC_ADJUST, G_SPEC_CTRL, G_FLUSH_CMD, G_ARCH_CAP, G_XSAVES,
	G_TSC_AUX, G_PDCM
};
enum msr_list { LIST_NONE, LIST_SAVE, LIST_EMUL };

struct msr_access {
	u32 msr;
	bool host;
};

struct msr_row {
	u32 first, last;
	u8 list, gate;
	int (*read)(struct hv_vcpu *v, struct msr_access a, u64 *val);
	int (*write)(struct hv_vcpu *v, struct msr_access a, u64 val);
};

static bool gate_open(const struct hv_guest_features *f, enum gate g)
{
	switch (g) {
	case G_ALWAYS:
		return true;
	case G_INTEL:
		return f->intel;
	case G_AMD:
		return !f->intel;
	case G_TSC_ADJUST:
		return f->c7_ebx & BIT(1);
	case G_SPEC_CTRL:
		return (f->c7_edx & (BIT(26) | BIT(27) | BIT(31))) ||
		       (f->x8_ebx & (BIT(12) | BIT(14) | BIT(15) | BIT(24)));
	case G_FLUSH_CMD:
		return f->c7_edx & BIT(28);
	case G_ARCH_CAP:
		return f->c7_edx & BIT(29);
	case G_XSAVES:
		return f->cd1_eax & BIT(3);
	case G_TSC_AUX:
		return (f->x1_edx & BIT(27)) || (f->c7_ecx & BIT(22));
	case G_PDCM:
		return f->c1_ecx & BIT(15);
	}
	BUG();
}

/* ---- Kinds of registers ---- */

static int rd_none(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	return 1;
}

static int wr_none(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	return 1;
}

static int rd_zero(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	*val = 0;
	return 0;
}

static int wr_ignore(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	return 0;
}

/* IBPB and L1D flush: one bit each, nothing to do here. */
static int wr_command(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	return !!(val & ~1ull);
}

/* In the processor, since no VMCS field holds them. */
static int rd_cpu(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	return x86_rdmsr(v->cpu, a.msr, val) < 0;
}

static int wr_cpu(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	return x86_wrmsr(v->cpu, a.msr, val) < 0;
}

static int rd_pmu(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	return hv_pmu_rdmsr(v, a.msr, val, a.host);
}

static int wr_pmu(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	return hv_pmu_wrmsr(v, a.msr, val, a.host);
}

static int rd_perf_cap(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	return hv_pmu_read_capabilities(v, val);
}

static int wr_perf_cap(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	return !a.host || hv_pmu_write_capabilities(v, val);
}

static int rd_xss(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	return rd_cpu(v, a, val);
}

static int wr_xss(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	/* No supervisor component is offered. */
	return val ? 1 : wr_cpu(v, a, 0);
}

static bool canonical(struct hv_vcpu *v, u64 val)
{
	return (u64)sign_extend(val, hv_get_cr4(v) & CR4_LA57 ? 57 : 48) == val;
}

static int rd_seg_base(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	*val = vmcs_get(v, a.msr & 1 ? VMCS_GUEST_GS_BASE : VMCS_GUEST_FS_BASE);
	return 0;
}

static int wr_seg_base(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	if (!canonical(v, val))
		return 1;
	vmcs_set(v, a.msr & 1 ? VMCS_GUEST_GS_BASE : VMCS_GUEST_FS_BASE, val);
	return 0;
}

static const enum vmcs_field sysenter_field[] = {
	VMCS_GUEST_SYSENTER_CS, VMCS_GUEST_SYSENTER_ESP, VMCS_GUEST_SYSENTER_EIP
};

static int rd_sysenter(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	*val = vmcs_get(v, sysenter_field[a.msr - 0x174]);
	return 0;
}

static int wr_sysenter(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	if (a.msr == 0x174)
		val = (u32)val;
	else if (!canonical(v, val))
		return 1;
	vmcs_set(v, sysenter_field[a.msr - 0x174], val);
	return 0;
}

static int rd_efer(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	*val = vmcs_get(v, VMCS_GUEST_EFER);
	return 0;
}

static int wr_efer(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	return hv_guest_set_efer(v, val);
}

static int rd_pat(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	*val = vmcs_get(v, VMCS_GUEST_PAT);
	return 0;
}

/* Each byte one of the types of @valid (bit n = type n). */
static bool types_valid(u64 val, u8 valid)
{
	for (unsigned i = 0; i < 64; i += 8) {
		u8 t = (u8)(val >> i);

		if (t > 7 || !(valid >> t & 1))
			return false;
	}
	return true;
}

#define PAT_TYPES 0xf3u		/* UC WC WT WP WB UC- */
#define MTRR_TYPES 0x73u	/* UC WC WT WP WB */

static int wr_pat(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	if (!types_valid(val, PAT_TYPES))
		return 1;
	vmcs_set(v, VMCS_GUEST_PAT, val);
	return 0;
}

static int rd_debugctl(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	*val = vmcs_get(v, VMCS_GUEST_DEBUGCTL);
	return 0;
}

static int wr_debugctl(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	if (val & ~DEBUGCTL_VALID)
		return 1;
	vmcs_set(v, VMCS_GUEST_DEBUGCTL, val & BIT(1));
	return 0;
}

/* ---- Time ---- */

static int rd_tsc(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	*val = hv_guest_tsc(v);
	return 0;
}

static int wr_tsc(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	hv_tsc_write(v, val, a.host);
	return 0;
}

static int rd_tsc_adjust(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	*val = hv_tsc_adjust(v);
	return 0;
}

static int wr_tsc_adjust(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	hv_tsc_adjust_write(v, val, a.host);
	return 0;
}

static int rd_tsc_deadline(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	*val = v->lapic ? hv_lapic_get_tscdeadline(v) : 0;
	return 0;
}

static int wr_tsc_deadline(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	if (v->lapic)
		hv_lapic_set_tscdeadline(v, val);
	return 0;
}

#define PV_CLOCKSOURCE 0
#define PV_CLOCKSOURCE2 3

static int rd_kvmclock(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	if (!a.host && !hv_pv_has(v, a.msr < 0x100 ? PV_CLOCKSOURCE : PV_CLOCKSOURCE2))
		return 1;
	return hv_clock_rdmsr(v, a.msr, val);
}

static int wr_kvmclock(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	if (!a.host && !hv_pv_has(v, a.msr < 0x100 ? PV_CLOCKSOURCE : PV_CLOCKSOURCE2))
		return 1;
	return hv_clock_wrmsr(v, a.msr, val);
}

static int rd_pv(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	return hv_pv_rdmsr(v, a.msr, val, a.host);
}

static int wr_pv(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	return hv_pv_wrmsr(v, a.msr, val, a.host);
}

static int rd_hyperv(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	return hyperv_rdmsr(v, a.msr, val, a.host);
}

static int wr_hyperv(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	return hyperv_wrmsr(v, a.msr, val, a.host);
}

/* ---- Local APIC ---- */

static int rd_apic_base(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	*val = v->lapic ? hv_lapic_get_base(v) : v->x86->apic_base;
	return 0;
}

static int wr_apic_base(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	if (v->lapic) {
		if (hv_lapic_set_base(v, val, a.host) < 0)
			return 1;
	} else {
		v->x86->apic_base = val;
	}
	hv_cpuid_update_runtime(v);
	return 0;
}

static int rd_x2apic(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	return v->lapic ? hv_x2apic_read(v, a.msr, val) : 1;
}

static int wr_x2apic(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	return v->lapic ? hv_x2apic_write(v, a.msr, val) : 1;
}

/* ---- What is only remembered ---- */

#define STORED(name, field, check) \
static int rd_##name(struct hv_vcpu *v, struct msr_access a, u64 *val) \
{ \
	*val = v->x86->field; \
	return 0; \
} \
static int wr_##name(struct hv_vcpu *v, struct msr_access a, u64 val) \
{ \
	if (!(check)) \
		return 1; \
	v->x86->field = val; \
	return 0; \
}

/* Of the processor's inside: only user space sees it, to save and restore. */
static int rd_smbase(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	*val = v->x86->smbase;
	return !a.host;
}

static int wr_smbase(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	if (!a.host)
		return 1;
	v->x86->smbase = (u32)val;
	return 0;
}

STORED(smi_count, smi_count, a.host)
STORED(feature_control, feature_control,
       !(val & ~FEATURE_CONTROL_LOCKED) &&
       (a.host || !(v->x86->feature_control & FEATURE_CONTROL_LOCKED)))
STORED(spec_ctrl, spec_ctrl, !(val & ~7ull))
STORED(arch_cap, arch_capabilities, a.host)
STORED(misc_features, misc_features,
       !(val & ~1ull) && (!val || (v->x86->platform_info & PLATFORM_INFO_CPUID_FAULT)))
STORED(power_ctl, power_ctl, true)
STORED(hwcr, hwcr, !(val & ~(BIT(3) | BIT(4) | BIT(6) | BIT(8) | BIT(18) | BIT(24))))
STORED(mcg_status, mcg_status, true)

static int rd_platform_info(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	if (!a.host && v->vm->platform_info_hidden)
		return 1;
	*val = v->x86->platform_info;
	return 0;
}

static int wr_platform_info(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	/* User space describes the processor as it likes; faulting that is enabled must stay possible. */
	if (!a.host || (!(val & PLATFORM_INFO_CPUID_FAULT) && (v->x86->misc_features & 1)))
		return 1;
	v->x86->platform_info = val;
	return 0;
}

static int rd_ucode_rev(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	*val = v->x86->bios_sign_id;
	return 0;
}

static int wr_ucode_rev(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	/* A guest writes 0 before CPUID, which then loads the revision. */
	if (a.host)
		v->x86->bios_sign_id = val;
	return 0;
}

static int rd_misc_enable(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	*val = v->x86->misc_enable;
	return 0;
}

static int wr_misc_enable(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	const u64 read_only = BIT(7) | BIT(11) | BIT(12);
	u64 old = v->x86->misc_enable;

	if (!a.host && ((old ^ val) & read_only))
		return 1;
	v->x86->misc_enable = val;
	if ((old ^ val) & MISC_ENABLE_MWAIT)
		hv_cpuid_update_runtime(v);
	return 0;
}

static int rd_fsb_freq(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	*val = 3;
	return 0;
}

static int rd_perf_status(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	*val = 1000 | 4ull << 40;	/* TSC increment by tick, bus ratio */
	return 0;
}

/* ---- MTRRs: checked and remembered; memory types have no effect ---- */

static int rd_mtrrcap(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	*val = 0x500 | NR_VAR_MTRR;	/* fixed ranges and WC */
	return 0;
}

static u64 *mtrr_fixed(struct hv_vcpu *v, u32 msr)
{
	if (msr == 0x250)
		return &v->x86->mtrr_fixed[0];
	if (msr <= 0x259)
		return &v->x86->mtrr_fixed[1 + msr - 0x258];
	return &v->x86->mtrr_fixed[3 + msr - 0x268];
}

static int rd_mtrr_fixed(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	*val = *mtrr_fixed(v, a.msr);
	return 0;
}

static int wr_mtrr_fixed(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	if (!types_valid(val, MTRR_TYPES))
		return 1;
	*mtrr_fixed(v, a.msr) = val;
	return 0;
}

static int rd_mtrr_var(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	*val = v->x86->mtrr_var[a.msr - 0x200];
	return 0;
}

static bool mtrr_type_valid(u64 val)
{
	return (val & 0xff) < 8 && (MTRR_TYPES >> (val & 7) & 1);
}

static int wr_mtrr_var(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	u64 reserved = BITS(63, v->x86->f.physbits);

	if (a.msr & 1)
		reserved |= BITS(10, 0);
	else if (!mtrr_type_valid(val))
		return 1;
	else
		reserved |= BITS(11, 8);
	if (val & reserved)
		return 1;
	v->x86->mtrr_var[a.msr - 0x200] = val;
	return 0;
}

static int rd_mtrr_def(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	*val = v->x86->mtrr_def;
	return 0;
}

static int wr_mtrr_def(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	if ((val & ~(BIT(11) | BIT(10) | 0xff)) || !mtrr_type_valid(val))
		return 1;
	v->x86->mtrr_def = val;
	return 0;
}

/* ---- Machine checks ---- */

static int rd_mcg_cap(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	*val = v->x86->mcg_cap;
	return 0;
}

static int rd_mcg_ctl(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	if (!(v->x86->mcg_cap & HV_MCG_CTL_P) && !a.host)
		return 1;
	*val = v->x86->mcg_ctl;
	return 0;
}

static int wr_mcg_ctl(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	if (!(v->x86->mcg_cap & HV_MCG_CTL_P) && (val || !a.host))
		return 1;
	if (val != 0 && val != ~0ull)
		return 1;
	v->x86->mcg_ctl = val;
	return 0;
}

static bool bank_exists(struct hv_vcpu *v, u32 msr)
{
	return (msr - 0x400) / 4 < (v->x86->mcg_cap & 0xff);
}

static int rd_mc_bank(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	if (!bank_exists(v, a.msr))
		return 1;
	*val = v->x86->mc_banks[a.msr - 0x400];
	return 0;
}

static int wr_mc_bank(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	if (!bank_exists(v, a.msr))
		return 1;
	/* CTL: 0 or all ones, where bit 10 may differ (a Linux quirk); STATUS: guests clear. */
	if ((a.msr & 3) == 0 && val != 0 && (val | BIT(10)) != ~0ull)
		return 1;
	if ((a.msr & 3) == 1 && !a.host && val != 0)
		return 1;
	v->x86->mc_banks[a.msr - 0x400] = val;
	return 0;
}

/* Corrected-error interrupts of a bank: what CMCI_P of IA32_MCG_CAP announces. */
#define MCI_CTL2_DEFINED (HV_MCI_CTL2_CMCI_EN | BITS(14, 0))

static int rd_mc_ctl2(struct hv_vcpu *v, struct msr_access a, u64 *val)
{
	if (!(v->x86->mcg_cap & HV_MCG_CMCI_P) && !a.host)
		return 1;
	if (a.msr - 0x280 >= (v->x86->mcg_cap & 0xff))
		return 1;
	*val = v->x86->mc_ctl2[a.msr - 0x280];
	return 0;
}

static int wr_mc_ctl2(struct hv_vcpu *v, struct msr_access a, u64 val)
{
	if (!(v->x86->mcg_cap & HV_MCG_CMCI_P) && (val || !a.host))
		return 1;
	if (a.msr - 0x280 >= (v->x86->mcg_cap & 0xff) || (val & ~MCI_CTL2_DEFINED))
		return 1;
	v->x86->mc_ctl2[a.msr - 0x280] = val;
	return 0;
}

/* ---- The table ---- */

static const struct msr_row rows[] = {
#define HV_MSR(first, last, name, list, gate, read, write) \
	{ first, last, LIST_##list, G_##gate, rd_##read, wr_##write },
#include "kvm/x86/msr.def"
#undef HV_MSR
};

static const struct msr_row *find_row(u32 msr)
{
	size_t lo = 0, hi = ARRAY_SIZE(rows);

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (msr > rows[mid].last)
			lo = mid + 1;
		else if (msr < rows[mid].first)
			hi = mid;
		else
			return &rows[mid];
	}
	return NULL;
}

int hv_msr_read(struct hv_vcpu *v, u32 msr, u64 *val, bool host)
{
	const struct msr_row *r = find_row(msr);

	if (!r)
		return -ENOENT;
	if (!gate_open(&v->x86->f, r->gate)) {
		*val = 0;
		return !host;
	}
	return r->read(v, (struct msr_access){ msr, host }, val);
}

int hv_msr_write(struct hv_vcpu *v, u32 msr, u64 val, bool host)
{
	const struct msr_row *r = find_row(msr);

	if (!r)
		return -ENOENT;
	/* Clients set some before the CPUID that lets the guest have them. */
	if (!gate_open(&v->x86->f, r->gate) && (!host || r->list == LIST_NONE))
		return host ? !!val : 1;
	return r->write(v, (struct msr_access){ msr, host }, val);
}

int hv_get_msr_host(struct hv_vcpu *v, u32 msr, u64 *val)
{
	return hv_msr_read(v, msr, val, true) ? -EINVAL : 0;
}

int hv_set_msr_host(struct hv_vcpu *v, u32 msr, u64 val)
{
	return hv_msr_write(v, msr, val, true) ? -EINVAL : 0;
}

/* ---- Life ---- */

void hv_msr_init(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;

	x->mcg_cap = HV_MAX_MCE_BANKS;
	x->mcg_ctl = 0;
	x->platform_info = PLATFORM_INFO_CPUID_FAULT;
	if (hv_model_rdmsr(v->vm->model, 0x8b, &x->bios_sign_id) < 0)
		x->bios_sign_id = 0;
	if (hv_model_rdmsr(v->vm->model, 0x10a, &x->arch_capabilities) < 0)
		x->arch_capabilities = 0;
	hv_update_msr_bitmap(v);
}

void hv_msr_reset(struct hv_vcpu *v, bool init)
{
	static const u32 in_cpu[] = {
		0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000102, 0xc0000103, 0xda0
	};
	struct hv_vcpu_x86 *x = v->x86;

	x->spec_ctrl = 0;
	if (init)
		return;
	x->feature_control = 0;
	x->misc_enable = MISC_ENABLE_DEFAULT | (x->pmu.version ? MISC_ENABLE_PERFMON : 0);
	x->misc_features = 0;
	x->mcg_status = 0;
	hv_pmu_reset(v);
	vmcs_set(v, VMCS_GUEST_PAT, PAT_DEFAULT);
	for (unsigned i = 0; i < ARRAY_SIZE(in_cpu); i++) {
		/* A model without the register has nothing to reset. */
		if (x86_wrmsr(v->cpu, in_cpu[i], 0) < 0)
			continue;
	}
}

void hv_msr_cpuid_changed(struct hv_vcpu *v)
{
	hv_update_msr_bitmap(v);
}

/* ---- Lists ---- */

#define MAX_LIST 160

static bool on_model(const struct x86_model *model, const struct msr_row *r)
{
	if (r->gate == G_INTEL)
		return hv_model_is_intel(model);
	if (r->gate == G_AMD)
		return !hv_model_is_intel(model);
	return true;
}

static unsigned build_list(const struct x86_model *model, u32 *list)
{
	unsigned n = 0;

	for (enum msr_list pass = LIST_SAVE; pass <= LIST_EMUL; pass++) {
		for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
			if (rows[i].list != pass || !on_model(model, &rows[i]))
				continue;
			for (u32 m = rows[i].first; m <= rows[i].last; m++) {
				BUG_ON(n == MAX_LIST);
				list[n++] = m;
			}
		}
	}
	return n;
}

const u32 *hv_msr_list(const struct x86_model *model, unsigned *n)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static u32 list[2][MAX_LIST];
	static unsigned count[2];
	bool intel = hv_model_is_intel(model);

	pthread_mutex_lock(&lock);
	if (!count[intel])
		count[intel] = build_list(model, list[intel]);
	*n = count[intel];
	pthread_mutex_unlock(&lock);
	return list[intel];
}

static const u32 feature_msrs_intel[] = { 0x8b, 0x10a, 0x345 };
static const u32 feature_msrs_amd[] = { 0x8b, 0xc0011029 };

const u32 *hv_feature_msr_list(const struct x86_model *model, unsigned *n)
{
	if (hv_model_is_intel(model)) {
		*n = ARRAY_SIZE(feature_msrs_intel);
		return feature_msrs_intel;
	}
	*n = ARRAY_SIZE(feature_msrs_amd);
	return feature_msrs_amd;
}

int hv_feature_msr(const struct x86_model *model, u32 msr, u64 *val)
{
	unsigned n;
	const u32 *list = hv_feature_msr_list(model, &n);

	for (unsigned i = 0; i < n; i++) {
		if (list[i] != msr)
			continue;
		/* Listed without being in the model: nothing of it is supported. */
		if (hv_model_rdmsr(model, msr, val) < 0)
			*val = 0;
		return 0;
	}
	return -EINVAL;
}
