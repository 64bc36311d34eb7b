/* SPDX-License-Identifier: MIT */
/* VMX capability MSRs 480H..493H: SDM vol. 3D appendix A "VMX Capability Reporting Facility". */
#ifndef SILICON_X86_VMX_VMX_CAP_H
#define SILICON_X86_VMX_VMX_CAP_H

#include "silicon/x86/cpu.h"

/* False: the MSR does not exist on this processor (RDMSR raises #GP(0)). */
bool x86_vmx_cap_msr(const struct x86_cpu *cpu, u32 msr, u64 *val);

#endif
