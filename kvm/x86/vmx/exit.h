/* SPDX-License-Identifier: MIT */
/* Between enter.c and exit.c. */
#ifndef KVM_X86_VMX_EXIT_H
#define KVM_X86_VMX_EXIT_H

#include "kvm/x86/x86.h"

/* Dispatch by exit reason. Returns as an exit handler. */
int hv_vmx_handle_exit(struct hv_vcpu *v);
/* Exit reasons 33, 34, 41 with bit 31. */
int hv_vmx_entry_failure_exit(struct hv_vcpu *v);
void hv_vmx_trace_exit(struct hv_vcpu *v);

#endif
