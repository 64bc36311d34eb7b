/* SPDX-License-Identifier: MIT */
/* The run loop, for vmx/ and emulation. x86_run() itself is in silicon/x86.h. */
#ifndef SILICON_X86_RUN_H
#define SILICON_X86_RUN_H

#include "silicon/x86/cpu.h"

/*
 * Execute in VMX non-root operation until a VM exit has been completed.
 * Returns 0 then, X86_RUN_BUS_ERROR with cpu->fault.payload = the address, or
 * X86_RUN_STOP.
 */
int x86_run_guest(struct x86_cpu *cpu);

#endif
