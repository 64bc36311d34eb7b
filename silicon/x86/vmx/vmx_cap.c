/* SPDX-License-Identifier: MIT */
/*
 * VMX capability MSRs, made of the tables. Not offered, because not implemented:
 * dual-monitor treatment, SMM, CET state, PKRS, tertiary and secondary-exit
 * controls, EPT-violation #VE, sub-page permissions, everything with offer = 0 in vmx_ctl.def.
 */
#include "silicon/x86/sys/sys.h"
#include "silicon/x86/vmx/vmcs.h"
#include "silicon/x86/vmx/vmx_cap.h"

#define MSR_VMX_BASIC 0x480

/* Reserved bits that are 1: the default1 classes, and those that the TRUE MSRs free. */
#define PIN_DEFAULT1 0x16u
#define PROC_DEFAULT1 0x0401e172u
#define PROC_FREED (PROC_CR3_LOAD_EXITING | PROC_CR3_STORE_EXITING)
#define EXIT_DEFAULT1 0x36dffu
#define EXIT_FREED EXITC_SAVE_DEBUG
#define ENTRY_DEFAULT1 0x11ffu
#define ENTRY_FREED ENTRY_LOAD_DEBUG

enum { GROUP_PIN, GROUP_PROC, GROUP_PROC2, GROUP_PROC3, GROUP_EXITC, GROUP_ENTRY };

#define VMX_CTL(group, bit, name, offer) | (GROUP_##group == GROUP && (offer) ? 1u << (bit) : 0)
#define GROUP GROUP_PIN
const struct vmx_ctl_cap vmx_cap_pin = {
	.must = PIN_DEFAULT1,
	.may = PIN_DEFAULT1
#include "spec/x86/vmx_ctl.def"
};
#undef GROUP
#define GROUP GROUP_PROC
const struct vmx_ctl_cap vmx_cap_proc = {
	.must = PROC_DEFAULT1 & ~PROC_FREED,
	.may = PROC_DEFAULT1
#include "spec/x86/vmx_ctl.def"
};
#undef GROUP
#define GROUP GROUP_PROC2
const struct vmx_ctl_cap vmx_cap_proc2 = {
	.must = 0,
	.may = 0
#include "spec/x86/vmx_ctl.def"
};
#undef GROUP
#define GROUP GROUP_EXITC
const struct vmx_ctl_cap vmx_cap_exit = {
	.must = EXIT_DEFAULT1 & ~EXIT_FREED,
	.may = EXIT_DEFAULT1
#include "spec/x86/vmx_ctl.def"
};
#undef GROUP
#define GROUP GROUP_ENTRY
const struct vmx_ctl_cap vmx_cap_entry = {
	.must = ENTRY_DEFAULT1 & ~ENTRY_FREED,
	.may = ENTRY_DEFAULT1
#include "spec/x86/vmx_ctl.def"
};
#undef GROUP
#undef VMX_CTL

/* Highest index of any field: IA32_VMX_VMCS_ENUM bits 9:1. */
static const u16 field_index[] = {
#define VMCS(enc, name, width, type, needs) (enc) >> 1 & 0x1ff,
#include "spec/x86/vmcs.def"
#undef VMCS
};

static u64 vmcs_enum(void)
{
	u16 top = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(field_index); i++)
		top = max(top, field_index[i]);
	return (u64)top << 1;
}

static u64 ctl_msr(const struct vmx_ctl_cap *c, u32 also_must)
{
	return (u64)c->may << 32 | c->must | also_must;
}

#define BASIC_SIZE (4096ull << 32)
#define BASIC_WB (6ull << 50)
#define BASIC_INOUT_INFO BIT(54)
#define BASIC_TRUE_MSRS BIT(55)

#define MISC_STORE_LMA BIT(5)
#define MISC_ACTIVITY (7ull << 6)	/* HLT, shutdown, wait-for-SIPI */
#define MISC_WRITE_RO BIT(29)
#define MISC_ZERO_LEN_INJECT BIT(30)

#define EPT_EXEC_ONLY BIT(0)
#define EPT_4_LEVEL BIT(6)
#define EPT_5_LEVEL BIT(7)
#define EPT_UC BIT(8)
#define EPT_WB BIT(14)
#define EPT_2M BIT(16)
#define EPT_1G BIT(17)
#define EPT_INVEPT (BIT(20) | BIT(25) | BIT(26))
#define EPT_AD BIT(21)
#define EPT_ADVANCED_INFO BIT(22)
#define VPID_INVVPID (BIT(32) | BIT(40) | BIT(41) | BIT(42) | BIT(43))

bool x86_vmx_cap_msr(const struct x86_cpu *cpu, u32 msr, u64 *val)
{
	if (!x86_has(cpu, X86_FEAT_VMX))
		return false;
	switch (msr) {
	case MSR_VMX_BASIC:
		*val = VMCS_REVISION | BASIC_SIZE | BASIC_WB | BASIC_INOUT_INFO | BASIC_TRUE_MSRS;
		return true;
	case 0x481: case 0x48d:
		*val = ctl_msr(&vmx_cap_pin, 0);
		return true;
	case 0x482:
		*val = ctl_msr(&vmx_cap_proc, PROC_FREED);
		return true;
	case 0x48e:
		*val = ctl_msr(&vmx_cap_proc, 0);
		return true;
	case 0x483:
		*val = ctl_msr(&vmx_cap_exit, EXIT_FREED);
		return true;
	case 0x48f:
		*val = ctl_msr(&vmx_cap_exit, 0);
		return true;
	case 0x484:
		*val = ctl_msr(&vmx_cap_entry, ENTRY_FREED);
		return true;
	case 0x490:
		*val = ctl_msr(&vmx_cap_entry, 0);
		return true;
	case 0x485:
		*val = VMX_TIMER_SHIFT | MISC_STORE_LMA | MISC_ACTIVITY | (u64)VMX_CR3_TARGETS << 16 |
		       MISC_WRITE_RO | MISC_ZERO_LEN_INJECT;
		return true;
	case 0x486:
		*val = VMX_CR0_FIXED0;
		return true;
	case 0x487:
		*val = VMX_CR0_FIXED1;
		return true;
	case 0x488:
		*val = VMX_CR4_FIXED0;
		return true;
	case 0x489:
		*val = x86_cr4_allowed(cpu);
		return true;
	case 0x48a:
		*val = vmcs_enum();
		return true;
	case 0x48b:
		*val = ctl_msr(&vmx_cap_proc2, 0);
		return true;
	case 0x48c:
		*val = EPT_EXEC_ONLY | EPT_4_LEVEL | EPT_5_LEVEL | EPT_UC | EPT_WB | EPT_2M | EPT_1G |
		       EPT_INVEPT | EPT_AD | EPT_ADVANCED_INFO | VPID_INVVPID;
		return true;
	case 0x491:
		*val = VMX_VMFUNC_EPTP_SWITCHING;
		return true;
	default:	/* 492h: no tertiary controls; 493h: no secondary exit controls */
		return false;
	}
}
