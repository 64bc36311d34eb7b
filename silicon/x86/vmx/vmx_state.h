/* SPDX-License-Identifier: MIT */
/* The VT-x part of struct x86_cpu. Fields are the business of vmx/ alone, except non_root. */
#ifndef SILICON_X86_VMX_STATE_H
#define SILICON_X86_VMX_STATE_H

#include "base/types.h"

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
};

#endif
