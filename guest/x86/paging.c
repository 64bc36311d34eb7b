/* SPDX-License-Identifier: MIT */
/* Replay: guest/run paging   (or: userkvm boot -i none -k build/guest/paging) */
/* Page faults: every error-code bit, CR2, accessed and dirty flags, WP, NX, SMEP, SMAP. */
#include "kit/kit.h"

#define ERR_P 1
#define ERR_W 2
#define ERR_U 4
#define ERR_RSVD 8
#define ERR_I 16

static u8 area[3][4096] __attribute__((aligned(4096)));
#define page area[0]
#define alias ((u8 *)user_ptr(page))
extern u64 kit_pml4[];

static void put_code(void)
{
	page[0] = 0xc3;		/* RET */
}

static void supervisor(void)
{
	struct fault f;

	pte_change(page, PTE_P | PTE_W, 0);
	put_code();
	report("read", !probe("mov (%0), %%al", "r"(page)).taken);
	pte_change(page, 0, PTE_P);
	f = probe("mov 5(%0), %%al", "r"(page));
	report("read, not present", is_fault(f, 14, 0) && f.cr2 == (u64)page + 5);
	report("write, not present", is_fault(probe("movb $1, (%0)", "r"(page)), 14, ERR_W));
	f = probe("call *%0", "r"(page));
	report("fetch, not present", is_fault(f, 14, ERR_I) && f.rip == (u64)page && f.cr2 == (u64)page);

	pte_change(page, PTE_P, PTE_W);
	report("write, read-only", is_fault(probe("movb $1, (%0)", "r"(page)), 14, ERR_P | ERR_W));
	report("a locked read-modify-write counts as write",
	       is_fault(probe("lock orb $0, (%0)", "r"(page)), 14, ERR_P | ERR_W));
	write_cr0(read_cr0() & ~(u64)CR0_WP);
	report("write, read-only, WP 0", !probe("movb $0xc3, (%0)", "r"(page)).taken);
	write_cr0(read_cr0() | CR0_WP);

	pte_change(page, PTE_W | PTE_NX, 0);
	report("fetch, NX", is_fault(probe("call *%0", "r"(page)), 14, ERR_P | ERR_I));
	report("read, NX", !probe("mov (%0), %%al", "r"(page)).taken);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~(u64)EFER_NXE);
	pte_change(page, 0, 0);
	report_deviant("NX is reserved without EFER.NXE", "TCG leaves P clear",
		       is_fault(probe("mov (%0), %%al", "r"(page)), 14, ERR_P | ERR_RSVD));
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
	pte_change(page, 0, PTE_NX);

	pte_change(page, 1ull << 51, 0);
	report_deviant("reserved bit", "TCG leaves P clear",
		       is_fault(probe("movb $1, (%0)", "r"(page)), 14, ERR_P | ERR_W | ERR_RSVD));
	pte_change(page, 0, PTE_P);
	report("no reserved bits in a not-present entry",
	       is_fault(probe("movb $1, (%0)", "r"(page)), 14, ERR_W));
	pte_change(page, PTE_P, 1ull << 51);

	pte_change(area[1], 0, PTE_P);
	f = probe("mov 4093(%0), %%eax", "r"(page));
	report("crossing into a page: CR2 is its first byte", is_fault(f, 14, 0) && f.cr2 == (u64)area[1]);
	pte_change(area[1], PTE_P, 0);
}

static void accessed_dirty(void)
{
	u64 *pte = pte_of(page);

	pte_change(page, PTE_P | PTE_W, PTE_A | PTE_D);
	(void)*(volatile u8 *)page;
	report("read sets A only", (*pte & (PTE_A | PTE_D)) == PTE_A);
	*(volatile u8 *)page = 0xc3;
	report("write sets D", (*pte & (PTE_A | PTE_D)) == (PTE_A | PTE_D));
	pte_change(page, 0, PTE_A | PTE_D | PTE_W);
	probe("movb $1, (%0)", "r"(page));
	report("a write that faults leaves D", !(*pte & PTE_D));
	pte_change(page, PTE_W, 0);
}

static void user_read(u64 a) { (void)*(volatile u8 *)a; }
static void user_write(u64 a) { *(volatile u8 *)a = 0xc3; }
static void user_call(u64 a) { ((void (*)(void))a)(); }

/* The alias page of @page gets an entry of its own. */
static u64 *user_pte(void)
{
	u64 *pdpt = (u64 *)(kit_pml4[1] & ~0xfffull), *pd = (u64 *)(pdpt[0] & ~0xfffull), *pt;
	u64 *pde = &pd[(u64)page >> 21];

	if (*pde & PTE_PS) {
		u64 base = *pde & ~0x1fffffull;

		pt = alloc_page();
		for (u64 i = 0; i < 512; i++)
			pt[i] = base | i << 12 | PTE_RW | PTE_U;
		*pde = (u64)pt | PTE_RW | PTE_U;
	}
	pt = (u64 *)(*pde & ~0xfffull);
	return &pt[(u64)page >> 12 & 511];
}

static void set_user(u64 bits)
{
	*user_pte() = (u64)page | bits;
	write_cr3(read_cr3());
}

static void user(void)
{
	u64 a = (u64)alias;

	set_user(PTE_RW | PTE_U);
	report("user read", run_user(user_read, a).vector == NO_FAULT);
	report("user write", run_user(user_write, a).vector == NO_FAULT);
	report("user fetch", run_user(user_call, a).vector == NO_FAULT);
	set_user(PTE_RW);
	report("user read of a supervisor page", is_fault(run_user(user_read, a), 14, ERR_P | ERR_U));
	report("user write of a supervisor page",
	       is_fault(run_user(user_write, a), 14, ERR_P | ERR_W | ERR_U));
	report("user fetch of a supervisor page", is_fault(run_user(user_call, a), 14, ERR_P | ERR_U | ERR_I));
	set_user(PTE_P | PTE_U);
	report("user write, read-only", is_fault(run_user(user_write, a), 14, ERR_P | ERR_W | ERR_U));
	set_user(PTE_RW | PTE_U | PTE_NX);
	report("user fetch, NX", is_fault(run_user(user_call, a), 14, ERR_P | ERR_U | ERR_I));
	set_user(0);
	report("user read, not present", is_fault(run_user(user_read, a), 14, ERR_U));
	report("user write, not present", is_fault(run_user(user_write, a), 14, ERR_U | ERR_W));
	set_user(PTE_RW | PTE_U);
}

static void smep_smap(void)
{
	u32 b = cpuid(7, 0).b;

	set_user(PTE_RW | PTE_U);
	if (b >> 7 & 1) {
		write_cr4(read_cr4() | CR4_SMEP);
		report("SMEP: supervisor fetch of a user page",
		       is_fault(probe("call *%0", "r"(alias)), 14, ERR_P | ERR_I));
		write_cr4(read_cr4() & ~(u64)CR4_SMEP);
		report("without SMEP", !probe("call *%0", "r"(alias)).taken);
	} else {
		skip("SMEP", "not in CPUID");
	}
	if (b >> 20 & 1) {
		write_cr4(read_cr4() | CR4_SMAP);
		report("SMAP: supervisor read of a user page",
		       is_fault(probe("clac; mov (%0), %%al", "r"(alias)), 14, ERR_P));
		report("SMAP: write", is_fault(probe("movb $0xc3, (%0)", "r"(alias)), 14, ERR_P | ERR_W));
		report("SMAP: AC lets it pass", !probe("stac; mov (%0), %%al; clac", "r"(alias)).taken);
		write_cr4(read_cr4() & ~(u64)CR4_SMAP);
	} else {
		skip("SMAP", "not in CPUID");
	}
}

/* A write to the tables shows after INVLPG; global entries survive MOV CR3. */
static void invalidation(void)
{
	u64 *pte = pte_of(page), to_1 = (u64)area[1] | PTE_RW, to_0 = (u64)page | PTE_RW;

	*(volatile u8 *)page = 10;
	area[1][0] = 11;
	*pte = to_1;
	invlpg(page);
	report("INVLPG", *(volatile u8 *)page == 11);
	*pte = to_0;
	write_cr3(read_cr3());
	report("MOV CR3", *(volatile u8 *)page == 10);
	write_cr4(read_cr4() | CR4_PGE);
	*pte = to_1 | PTE_G;
	invlpg(page);
	(void)*(volatile u8 *)page;
	*pte = to_0;
	write_cr4(read_cr4() & ~(u64)CR4_PGE);
	report("clearing CR4.PGE drops global entries", *(volatile u8 *)page == 10);
}

int main(void)
{
	supervisor();
	accessed_dirty();
	user();
	smep_smap();
	invalidation();
	return 0;
}
