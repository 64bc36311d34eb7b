/* SPDX-License-Identifier: MIT */
/* Shared by the files of sys/: segment types, descriptors, error codes. */
#ifndef SILICON_X86_SYS_SYS_PRIV_H
#define SILICON_X86_SYS_SYS_PRIV_H

#include "silicon/x86/cpu.h"
#include "silicon/x86/fault.h"
#include "silicon/x86/flags.h"
#include "silicon/x86/mmu/mem.h"
#include "silicon/x86/model/model.h"
#include "silicon/x86/op.h"
#include "silicon/x86/sys/sys.h"
#include "silicon/x86/vmx/intercept.h"

/* Type bits of code and data segments: SDM "Code- and Data-Segment Types". */
#define AR_ACCESSED 1u
#define AR_WRITABLE 2u		/* data */
#define AR_READABLE 2u		/* code */
#define AR_EXPAND_DOWN 4u	/* data */
#define AR_CONFORMING 4u	/* code */
#define AR_CODE 8u

/* System-segment and gate types: SDM "System-Segment and Gate-Descriptor Types". */
enum {
	TYPE_TSS16_AVAIL = 1, TYPE_LDT = 2, TYPE_TSS16_BUSY = 3, TYPE_CALL16 = 4,
	TYPE_TASK_GATE = 5, TYPE_INT16 = 6, TYPE_TRAP16 = 7, TYPE_TSS_AVAIL = 9,
	TYPE_TSS_BUSY = 11, TYPE_CALL = 12, TYPE_INT = 14, TYPE_TRAP = 15
};

#define DR6_RESET 0xffff0ff0ull
#define DR6_BD BIT(13)
#define DR6_BS BIT(14)
#define DR6_BT BIT(15)
#define DR7_RESET 0x400ull
#define DR7_GD BIT(13)

void x86_msr_reset(struct x86_cpu *cpu);

#endif
