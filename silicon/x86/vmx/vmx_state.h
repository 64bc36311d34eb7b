/* SPDX-License-Identifier: MIT */
/* The VT-x part of struct x86_cpu. Fields are the business of vmx/ alone, except non_root. */
#ifndef SILICON_X86_VMX_STATE_H
#define SILICON_X86_VMX_STATE_H

#include "base/types.h"

/* Monitor trap flag. */
enum vmx_mtf {
	VMX_MTF_OFF,
	VMX_MTF_ARMED,		/* becomes pending when an instruction or a delivery completes */
	VMX_MTF_PENDING,
};

struct x86_vmx {
	bool on;		/* in VMX operation */
	bool non_root;
	u64 vmxon_ptr;
	u64 current;		/* ~0 = none */
	struct vmcs *vmcs;	/* = current, as a pointer */
	/* Controls in force while non_root, secondary/tertiary already gated. */
	u32 pin, proc, proc2, exitc, entryc, exc_bitmap;
	u64 proc3;
	u64 eptp;		/* 0 = no EPT */
	u16 vpid;
	u64 tsc_offset, tsc_mult;	/* in force for guest reads; mult 0 = no scaling */
	bool virt_nmi_blocked;
	u64 timer_deadline;	/* host-TSC value; 0 = not armed */

	u64 virt_apic;		/* virtual-APIC page; 0 = no TPR shadow */
	u64 apic_access;	/* APIC-access page; ~0 = not virtualized */

	/* The event that this entry injects: delivered at the first boundary. */
	bool inject_due;
	bool injecting;		/* its delivery is what now runs */
	u8 inject_len;

	u8 mtf;			/* enum vmx_mtf */
	u64 mtf_insns, mtf_rip;	/* insn_count and RIP when it was armed */
	bool iret_unblocked;	/* the present IRET removed NMI blocking */
	bool tpr_check;		/* compare VTPR with the threshold at the next boundary */
	bool apic_write;	/* a virtualized APIC write awaits emulation */
	u16 apic_write_off;
	bool vintr;		/* a virtual interrupt is recognised */
	bool exit_by_nmi;
	bool from_c;		/* entered by x86_vmenter() */
	bool stale;		/* host state is loaded, but x86_vmx_root_refresh() is due */
	bool aborted;		/* VMX abort: only RESET leaves it */
	_Atomic u8 sipi_vector;	/* of X86_EV_SIPI */

	u64 ple_first, ple_last;	/* PAUSE-loop detection, in TSC cycles */
};

#endif
