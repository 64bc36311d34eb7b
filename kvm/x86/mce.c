// SPDX-License-Identifier: MIT
/*
 * Machine checks that user space sets up and injects. The registers are in msr.c.
 * SDM vol. 3B "Machine-Check Architecture", "Corrected Machine Check Error Interrupt".
 */
#include <errno.h>

#include "kvm/hv.h"
#include "kvm/x86/cpuid.h"
#include "kvm/x86/x86.h"

#define MCG_SER_P BIT(24)
#define MCI_STATUS_VAL BIT(63)
#define MCI_STATUS_OVER BIT(62)
#define MCI_STATUS_UC BIT(61)
#define MCI_STATUS_PCC BIT(57)
#define MCI_STATUS_S BIT(56)
#define MCI_STATUS_AR BIT(55)
#define MCG_STATUS_MCIP BIT(2)

u64 hv_mce_cap_supported(void)
{
	return HV_MCG_CTL_P | HV_MCG_CMCI_P | MCG_SER_P;
}

int hv_setup_mce(struct hv_vcpu *v, u64 cap)
{
	struct hv_vcpu_x86 *x = v->x86;
	u64 banks = cap & 0xff;

	if (!banks || banks > HV_MAX_MCE_BANKS)
		return -EINVAL;
	if (cap & ~(hv_mce_cap_supported() | 0xff | 0xff0000))
		return -EINVAL;
	x->mcg_cap = cap;
	if (cap & HV_MCG_CTL_P)
		x->mcg_ctl = ~0ull;
	for (unsigned i = 0; i < banks; i++) {
		x->mc_banks[4 * i] = ~0ull;
		if (cap & HV_MCG_CMCI_P)
			x->mc_ctl2[i] = 0;
	}
	/* The local APIC has one more LVT entry with CMCI. */
	hv_cpuid_tell_lapic(v);
	return 0;
}

/* An error that needs no action now: software recoverable at most, and no machine check under way. */
static bool is_deferred(const struct kvm_x86_mce *m)
{
	return !m->mcg_status && !(m->status & (MCI_STATUS_PCC | MCI_STATUS_S | MCI_STATUS_AR));
}

static void record(u64 *bank, const struct kvm_x86_mce *m, u64 also)
{
	bank[1] = m->status | also;
	bank[2] = m->addr;
	bank[3] = m->misc;
}

/* Logged, and signalled by interrupt where the bank has that on. */
static void set_deferred(struct hv_vcpu *v, u64 *bank, const struct kvm_x86_mce *m)
{
	struct hv_vcpu_x86 *x = v->x86;

	record(bank, m, 0);
	x->mcg_status = m->mcg_status;
	if ((x->mcg_cap & HV_MCG_CMCI_P) && (x->mc_ctl2[m->bank] & HV_MCI_CTL2_CMCI_EN) && v->lapic)
		hv_lapic_cmci(v);
}

int hv_set_mce(struct hv_vcpu *v, const struct kvm_x86_mce *m)
{
	struct hv_vcpu_x86 *x = v->x86;
	u64 *bank, over;

	if (m->bank >= (x->mcg_cap & 0xff) || !(m->status & MCI_STATUS_VAL))
		return -EINVAL;
	bank = &x->mc_banks[4 * m->bank];
	if (is_deferred(m)) {
		set_deferred(v, bank, m);
		return 0;
	}
	/* Reporting disabled: uncorrected errors are dropped. */
	if ((m->status & MCI_STATUS_UC) && (x->mcg_cap & HV_MCG_CTL_P) && x->mcg_ctl != ~0ull)
		return 0;
	if ((m->status & MCI_STATUS_UC) && bank[0] != ~0ull)
		return 0;
	over = bank[1] & MCI_STATUS_VAL ? MCI_STATUS_OVER : 0;
	if (m->status & MCI_STATUS_UC) {
		if ((x->mcg_status & MCG_STATUS_MCIP) || !(hv_get_cr4(v) & CR4_MCE)) {
			hv_set_request(v, HV_REQ_TRIPLE_FAULT);
			return 0;
		}
		record(bank, m, over);
		x->mcg_status = m->mcg_status;
		hv_queue_exception(v, HV_MC, false, 0, false, 0);
	} else if (!over || !(bank[1] & MCI_STATUS_UC)) {
		record(bank, m, over);
	} else {
		bank[1] |= MCI_STATUS_OVER;
	}
	return 0;
}
