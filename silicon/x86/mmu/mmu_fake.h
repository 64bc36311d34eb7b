/* SPDX-License-Identifier: MIT */
/*
 * A processor for tests of mmu/ alone: the rest of silicon/x86 is replaced by
 * recorders. Guest memory comes from a pool below 4 GiB, so that all paging
 * modes reach it.
 */
#ifndef SILICON_X86_MMU_FAKE_H
#define SILICON_X86_MMU_FAKE_H

#include "silicon/x86/fault.h"
#include "silicon/x86/mmu/mem.h"
#include "silicon/x86/mmu/mmu_priv.h"

struct fake {
	struct x86_cpu *cpu;
	sigjmp_buf unwind;
	/* the last x86_vmx_ept_exit() */
	u32 ept_reason;
	u64 ept_qual, ept_gpa, ept_lin;
	bool ept_lin_valid;
	/* the world outside */
	u64 ept_cap;
	u64 vmcs_apic_page, vmcs_pml_addr;
	u16 vmcs_pml_index;
	u64 code_page;			/* the one page with decoded code */
	unsigned code_stores, decode_flushes, watch_hits;
	u64 watch_lin;
	bool watch_write;
	unsigned apic_accesses;
	u64 apic_value;
	bool apic_declines;		/* not virtualized, not exited: plain memory */
};
extern _Thread_local struct fake fake;	/* one processor per thread */

/* A processor in protected mode without paging; frees the previous one. */
struct x86_cpu *fake_cpu(void);
void fake_free(void);
/* A zeroed page of guest memory below 4 GiB; all are given back by fake_cpu(). */
u64 fake_page(void);
/* @n contiguous pages, aligned to @align bytes. */
u64 fake_pages(unsigned n, u64 align);

static inline u64 *fake_ptr(u64 pa)
{
	return (u64 *)pa;
}

/*
 * A test's locals that matter afterwards are not changed before an unwinding
 * inside @stmt, or not read after one: what the compiler warns of is no danger.
 */
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wclobbered"
#endif

/* Run @stmt; the value is the kind of unwinding (X86_UNWIND_NONE = it returned). */
#define FAKE_RUN(stmt) \
	({ \
		fake.cpu->unwind = &fake.unwind; \
		memset(&fake.cpu->fault, 0, sizeof(fake.cpu->fault)); \
		int kind_ = sigsetjmp(fake.unwind, 0); \
		if (!kind_) { stmt; } \
		kind_; \
	})

#endif
