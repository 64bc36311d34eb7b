// SPDX-License-Identifier: MIT
/*
 * EPT: misconfigurations, violations and their qualification, A and D flags,
 * PML, the order of a combined walk, the APIC-access page.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "silicon/vmx.h"
#include "silicon/x86/mmu/mmu_fake.h"

#define R X86_ACC_R
#define W X86_ACC_W
#define X X86_ACC_X
#define EPT_PS BIT(7)
#define EPT_A BIT(8)
#define EPT_D BIT(9)
#define WB (6ull << 3)

#define LIN 0x8040201123ull	/* one entry after the first in every table */

static struct x86_cpu *cpu;
/* Guest-physical memory is the same addresses + OFFSET, so that the spaces cannot be confused. */
#define OFFSET (1ull << 40)
static u64 ept[5];		/* table pages by level - 1 used for the identity below */
static u64 *gpte[4];		/* guest entries, leaf first */
static u64 gtable[4], data;	/* their pages and the data page, as simulated physical addresses */

/* Entry of @gpa at @level (1 = PT) in the tree, tables made as needed. */
static u64 *ept_entry(u64 gpa, int level)
{
	u64 *e = fake_ptr(ept[4]) + (gpa >> 39 & 511);

	for (int l = 4; l > level; l--) {
		if (!(*e & 7))
			*e = fake_page() | 7;
		e = fake_ptr(*e & BITS(47, 12)) + (gpa >> (12 + 9 * (l - 2)) & 511);
	}
	return e;
}

static u64 gpa_of(u64 pa)
{
	return pa + OFFSET;
}

static void map(u64 pa)
{
	*ept_entry(gpa_of(pa), 1) = pa | WB | 7;
}

static void setup(bool ad)
{
	cpu = fake_cpu();
	ept[4] = fake_page();
	cpu->vmx.non_root = true;
	cpu->vmx.eptp = ept[4] | 3 << 3 | 6 | (ad ? BIT(6) : 0);
	cpu->cr0 |= CR0_PG | CR0_WP;
	cpu->cr4 |= CR4_PAE;
	cpu->efer |= EFER_LMA | EFER_LME | EFER_NXE;
	cpu->mode = X86_MODE_64;
	cpu->lin_mask = ~0ull;
	data = fake_page();
	map(data);
	for (unsigned i = 0; i < 4; i++) {
		gtable[i] = fake_page();
		map(gtable[i]);
		gpte[i] = fake_ptr(gtable[i]) + (LIN >> (12 + 9 * i) & 511);
		*gpte[i] = gpa_of(i ? gtable[i - 1] : data) | PTE_P | PTE_W | PTE_U;
	}
	cpu->cr3 = gpa_of(gtable[3]);
	x86_tlb_switch(cpu);
}

/* X86_UNWIND_* of an access by translation alone. */
static int walk(unsigned acc, unsigned idx, struct x86_walk *w)
{
	struct x86_walk tmp;
	u32 err;

	return FAKE_RUN(
		err = x86_walk(cpu, LIN, acc, idx, 0, w ? w : &tmp);
		if (err)
			x86_page_fault(cpu, LIN, err & ~PF_RAISE));
}

static void forget(void)
{
	x86_tlb_flush_ept(cpu, 0);
}

static void test_plain(void **state)
{
	struct x86_walk w;

	setup(false);
	assert_int_equal(walk(R, X86_MMU_USER, &w), X86_UNWIND_NONE);
	assert_int_equal(w.gpa, gpa_of(data) | (LIN & 0xfff));
	assert_int_equal(w.pa, data | (LIN & 0xfff));
	assert_int_equal(*ept_entry(gpa_of(data), 1) & (EPT_A | EPT_D), 0);
}

/* Rows: what one entry on the path of the data page becomes. */
static void test_misconfig(void **state)
{
	static const struct {
		int level;		/* 4..1 */
		u64 val;		/* | address unless it says more */
		u64 cap_off;
		bool misconfig;		/* else any other outcome */
	} rows[] = {
		{ 1, 2 | WB }, { 1, 6 | WB }, { 2, 2 }, { 3, 6 }, { 4, 2 },
		{ 1, 4 | WB, BIT(0) }, { 4, 4, BIT(0) },	/* execute-only not offered */
		{ 1, 7 | 2 << 3 }, { 1, 7 | 3 << 3 }, { 1, 7 | 7 << 3 },	/* memory types */
		{ 1, 7 | WB | BIT(48) }, { 1, 7 | WB | BIT(51) }, { 2, 7 | BIT(48) }, { 3, 7 | BIT(50) },
		{ 4, 7 | BIT(51) },
		{ 2, 7 | BIT(3) }, { 2, 7 | BIT(6) }, { 3, 7 | BIT(4) }, { 4, 7 | BIT(5) }, { 4, 7 | BIT(7) },
		{ 2, 7 | WB | EPT_PS | BIT(12) }, { 2, 7 | WB | EPT_PS | BIT(20) },
		{ 3, 7 | WB | EPT_PS | BIT(12) }, { 3, 7 | WB | EPT_PS | BIT(29) },
		{ 3, 7 | WB | EPT_PS, BIT(17) }, { 2, 7 | EPT_PS | 2 << 3 },
	};
	/* Fine, or at least no misconfiguration. */
	static const struct { int level; u64 set; } fine[] = {
		{ 1, BIT(6) }, { 1, BIT(7) }, { 1, BIT(11) }, { 1, BITS(62, 52) }, { 1, BIT(63) }, { 1, BIT(10) },
		{ 2, BIT(8) | BIT(9) | BIT(10) | BIT(11) }, { 3, BITS(62, 52) }, { 4, BIT(63) | BIT(11) },
	};

	for (volatile unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		u64 *e;

		setup(false);
		fake.ept_cap &= ~rows[i].cap_off;
		e = ept_entry(gpa_of(data), rows[i].level);
		*e = rows[i].val | (rows[i].val & EPT_PS ? 0 : *e & BITS(47, 12));
		/* A second tree, since the tables of the guest share the path. */
		cpu->cr0 &= ~CR0_PG;
		if (FAKE_RUN(x86_load_slow(cpu, X86_DS, gpa_of(data), 8)) != X86_UNWIND_VMEXIT ||
		    fake.ept_reason != VMX_EXIT_EPT_MISCONFIG)
			fail_msg("row %u: reason %u", i, fake.ept_reason);
		assert_int_equal(fake.ept_gpa, gpa_of(data));
	}
	for (unsigned i = 0; i < ARRAY_SIZE(fine); i++) {
		setup(false);
		*ept_entry(gpa_of(data), fine[i].level) |= fine[i].set;
		if (walk(R, X86_MMU_USER, NULL) != X86_UNWIND_NONE)
			fail_msg("fine row %u: reason %u", i, fake.ept_reason);
	}
	/* A lower misconfiguration beats a violation found above; not present stops before it. */
	setup(false);
	*ept_entry(gpa_of(data), 2) &= ~2ull;
	*ept_entry(gpa_of(data), 1) = data | 2;
	cpu->cr0 &= ~CR0_PG;
	assert_int_equal(FAKE_RUN(x86_store_slow(cpu, X86_DS, gpa_of(data), 1, 8)), X86_UNWIND_VMEXIT);
	assert_int_equal(fake.ept_reason, VMX_EXIT_EPT_MISCONFIG);
	*ept_entry(gpa_of(data), 2) = BITS(47, 3);
	assert_int_equal(FAKE_RUN(x86_store_slow(cpu, X86_DS, gpa_of(data), 1, 8)), X86_UNWIND_VMEXIT);
	assert_int_equal(fake.ept_reason, VMX_EXIT_EPT_VIOLATION);
}

/* Violations of the final address; guest page: user, writable, executable unless said. */
static void test_violation(void **state)
{
	static const struct {
		unsigned perm, acc;
		u64 gclear, gset;	/* changes of the guest's leaf */
		u64 cap_off;
		u64 qual;
	} rows[] = {
		{ 0, R, 0, 0, 0, 0x1 | 0x180 | 0x600 }, { 0, W, 0, 0, 0, 0x2 | 0x180 | 0x600 },
		{ 0, X, 0, 0, 0, 0x4 | 0x180 | 0x600 }, { 0, R | W, 0, 0, 0, 0x3 | 0x180 | 0x600 },
		{ R, W, 0, 0, 0, 0x2 | 0x8 | 0x180 | 0x600 }, { R, X, 0, 0, 0, 0x4 | 0x8 | 0x180 | 0x600 },
		{ R | X, W, 0, 0, 0, 0x2 | 0x28 | 0x180 | 0x600 }, { R | W, X, 0, 0, 0, 0x4 | 0x18 | 0x180 | 0x600 },
		{ X, R, 0, 0, 0, 0x1 | 0x20 | 0x180 | 0x600 }, { X, R | W, 0, 0, 0, 0x3 | 0x20 | 0x180 | 0x600 },
		{ R, R | W, 0, 0, 0, 0x3 | 0x8 | 0x180 | 0x600 },
		/* advanced information: not offered; supervisor; read-only; execute-disable */
		{ 0, R, 0, 0, BIT(22), 0x1 | 0x180 }, { 0, R, PTE_U, 0, 0, 0x1 | 0x180 | 0x400 },
		{ 0, R, PTE_W, 0, 0, 0x1 | 0x180 | 0x200 }, { 0, R, 0, PTE_XD, 0, 0x1 | 0x180 | 0xe00 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		u64 *e;

		setup(false);
		fake.ept_cap &= ~rows[i].cap_off;
		*gpte[0] = (*gpte[0] & ~rows[i].gclear) | rows[i].gset;
		e = ept_entry(gpa_of(data), 1);
		*e = (*e & ~7ull) | rows[i].perm;
		assert_int_equal(walk(rows[i].acc, X86_MMU_KERNEL, NULL), X86_UNWIND_VMEXIT);
		assert_int_equal(fake.ept_reason, VMX_EXIT_EPT_VIOLATION);
		if (fake.ept_qual != rows[i].qual)
			fail_msg("row %u: %lx, want %lx", i, (unsigned long)fake.ept_qual, (unsigned long)rows[i].qual);
		assert_int_equal(fake.ept_gpa, gpa_of(data) | (LIN & 0xfff));
		assert_int_equal(fake.ept_lin, LIN);
		assert_true(fake.ept_lin_valid);
		/* The guest's flags come before the final address. */
		assert_true(*gpte[0] & PTE_A);
		assert_int_equal(!!(*gpte[0] & PTE_D), !!(rows[i].acc & W));
	}
	/* Permissions are the AND over all levels. */
	setup(false);
	*ept_entry(gpa_of(data), 3) &= ~4ull;
	*ept_entry(gpa_of(data), 1) &= ~2ull;
	cpu->cr0 &= ~CR0_PG;
	assert_int_equal(FAKE_RUN(x86_store_slow(cpu, X86_DS, gpa_of(data), 1, 8)), X86_UNWIND_VMEXIT);
	/* PG = 0: user-mode, writable, not execute-disabled */
	assert_int_equal(fake.ept_qual, 0x2 | 0x8 | 0x180 | 0x600);
	/* Beyond four levels. */
	setup(false);
	cpu->physbits = 52;
	*gpte[0] |= BIT(48);
	assert_int_equal(walk(R, X86_MMU_USER, NULL), X86_UNWIND_VMEXIT);
	assert_int_equal(fake.ept_qual, 0x1 | 0x180 | 0x600);
}

/* Accesses to guest paging entries. */
static void test_guest_entries(void **state)
{
	for (unsigned level = 0; level < 4; level++) {
		u64 *e;

		/* Without A/D: reading is a read */
		setup(false);
		e = ept_entry(gpa_of(gtable[level]), 1);
		*e = 0;
		assert_int_equal(walk(W, X86_MMU_USER, NULL), X86_UNWIND_VMEXIT);
		assert_int_equal(fake.ept_qual, 0x1 | 0x80);
		assert_int_equal(fake.ept_gpa, gpa_of((u64)gpte[level]));
		/* ... setting flags a write, not needed when they are set */
		*e = gtable[level] | WB | R | X;
		assert_int_equal(walk(W, X86_MMU_USER, NULL), X86_UNWIND_VMEXIT);
		assert_int_equal(fake.ept_qual, 0x2 | 0x28 | 0x80);
		*gpte[level] |= PTE_A | PTE_D;
		assert_int_equal(walk(W, X86_MMU_USER, NULL), X86_UNWIND_NONE);
		/* With A/D every access is read and write */
		setup(true);
		e = ept_entry(gpa_of(gtable[level]), 1);
		*gpte[level] |= PTE_A | PTE_D;
		*e = gtable[level] | WB | R | X;
		assert_int_equal(walk(R, X86_MMU_USER, NULL), X86_UNWIND_VMEXIT);
		assert_int_equal(fake.ept_qual, 0x3 | 0x28 | 0x80);
		*e |= W;
		assert_int_equal(walk(R, X86_MMU_USER, NULL), X86_UNWIND_NONE);
		assert_int_equal(*e & (EPT_A | EPT_D), EPT_A | EPT_D);
	}
	/* The guest's own fault comes before the final address, and sets no flag. */
	setup(true);
	*ept_entry(gpa_of(data), 1) = 0;
	*gpte[0] &= ~PTE_W;
	assert_int_equal(walk(W, X86_MMU_USER, NULL), X86_UNWIND_FAULT);
	assert_int_equal(fake.cpu->fault.error, 7);
	assert_false(*gpte[3] & PTE_A);
	/* Not present in the guest beats EPT of levels below. */
	*gpte[2] = 0;
	*ept_entry(gpa_of(gtable[1]), 1) = 0;
	forget();
	assert_int_equal(walk(R, X86_MMU_USER, NULL), X86_UNWIND_FAULT);
}

static void test_flags(void **state)
{
	u64 *e;

	setup(true);
	e = ept_entry(gpa_of(data), 1);
	assert_int_equal(walk(R, X86_MMU_USER, NULL), X86_UNWIND_NONE);
	assert_int_equal(*e & (EPT_A | EPT_D), EPT_A);
	for (int l = 2; l <= 4; l++)
		assert_int_equal(*ept_entry(gpa_of(data), l) & (EPT_A | EPT_D), EPT_A);
	assert_int_equal(walk(W, X86_MMU_USER, NULL), X86_UNWIND_NONE);
	assert_int_equal(*e & (EPT_A | EPT_D), EPT_A | EPT_D);
	/* No flag for an access that ends in a violation. */
	*e = (*e & ~(EPT_A | EPT_D | 2));
	forget();
	assert_int_equal(walk(W, X86_MMU_USER, NULL), X86_UNWIND_VMEXIT);
	assert_int_equal(*e & (EPT_A | EPT_D), 0);
	/* A cleared flag is set again after INVEPT, not before it is needed. */
	*e |= 2;
	assert_int_equal(walk(R, X86_MMU_USER, NULL), X86_UNWIND_NONE);
	assert_true(*e & EPT_A);
	/* Large pages: the flag is the leaf's. */
	setup(true);
	{
		u64 big = fake_pages(512, 2ul << 20);

		*ept_entry(gpa_of(big), 2) = big | WB | EPT_PS | 7;
		cpu->cr0 &= ~CR0_PG;
		assert_int_equal(FAKE_RUN(x86_store_slow(cpu, X86_DS, gpa_of(big) + 0x12345, 99, 8)),
				 X86_UNWIND_NONE);
		assert_int_equal(*(x86_mem_u64 *)(big + 0x12345), 99);
		assert_int_equal(*ept_entry(gpa_of(big), 2) & (EPT_A | EPT_D), EPT_A | EPT_D);
	}
}

static void test_pml(void **state)
{
	u64 log;

	setup(true);
	/* The guest entries' pages first, so that only the data page is left. */
	assert_int_equal(walk(R, X86_MMU_USER, NULL), X86_UNWIND_NONE);
	log = fake_page();
	fake.vmcs_pml_addr = log;
	fake.vmcs_pml_index = 3;
	cpu->vmx.proc2 |= PROC2_PML;
	assert_int_equal(walk(R, X86_MMU_USER, NULL), X86_UNWIND_NONE);
	assert_int_equal(fake.vmcs_pml_index, 3);
	assert_int_equal(walk(W, X86_MMU_USER, NULL), X86_UNWIND_NONE);
	assert_int_equal(fake.vmcs_pml_index, 2);
	assert_int_equal(fake_ptr(log)[3], gpa_of(data));
	forget();
	assert_int_equal(walk(W, X86_MMU_USER, NULL), X86_UNWIND_NONE);
	assert_int_equal(fake.vmcs_pml_index, 2);	/* D was set already */
	/* Plain reads dirty and log the guest's tables. */
	setup(true);
	log = fake_page();
	fake.vmcs_pml_addr = log;
	fake.vmcs_pml_index = 511;
	cpu->vmx.proc2 |= PROC2_PML;
	assert_int_equal(walk(R, X86_MMU_USER, NULL), X86_UNWIND_NONE);
	assert_int_equal(fake.vmcs_pml_index, 507);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(fake_ptr(log)[511 - i], gpa_of(gtable[3 - i]));
	/* Full: exit before any flag is set; also when only A would be. Wraps from 0. */
	fake.vmcs_pml_index = 0;
	assert_int_equal(walk(W, X86_MMU_USER, NULL), X86_UNWIND_NONE);
	assert_int_equal(fake.vmcs_pml_index, 0xffff);
	*ept_entry(gpa_of(data), 1) &= ~(EPT_A | EPT_D);
	forget();
	assert_int_equal(walk(R, X86_MMU_USER, NULL), X86_UNWIND_VMEXIT);
	assert_int_equal(fake.ept_reason, VMX_EXIT_PML_FULL);
	assert_false(*ept_entry(gpa_of(data), 1) & EPT_A);
	*ept_entry(gpa_of(data), 1) |= EPT_A;
	assert_int_equal(walk(R, X86_MMU_USER, NULL), X86_UNWIND_NONE);
	assert_int_equal(walk(W, X86_MMU_USER, NULL), X86_UNWIND_VMEXIT);
	assert_int_equal(fake.ept_reason, VMX_EXIT_PML_FULL);
}

static void test_pdptes(void **state)
{
	u64 table;

	setup(true);
	table = fake_page();
	fake_ptr(table)[1] = 0x7000 | PTE_P;
	*ept_entry(gpa_of(table) & 0xffffffff, 1) = table | WB | R;	/* CR3 has 32 bits */
	assert_int_equal(FAKE_RUN(assert_true(x86_load_pdptes(cpu, gpa_of(table)))), X86_UNWIND_NONE);
	assert_int_equal(cpu->pdpte[1], 0x7000 | PTE_P);
	*ept_entry(gpa_of(table) & 0xffffffff, 1) = 0;
	forget();
	assert_int_equal(FAKE_RUN(x86_load_pdptes(cpu, gpa_of(table) + 0x20)), X86_UNWIND_VMEXIT);
	assert_int_equal(fake.ept_qual, 0x1);
	assert_false(fake.ept_lin_valid);
	assert_int_equal(fake.ept_gpa, (gpa_of(table) & 0xffffffff) + 0x20);
}

static void test_mode_based(void **state)
{
	static const struct { u64 perm; bool user, ok; } rows[] = {
		{ R | W | X, true, false }, { R | W | BIT(10), true, true }, { R | W | BIT(10), false, false },
		{ R | X, false, true }, { R, false, false },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		setup(false);
		cpu->vmx.proc2 |= PROC2_MODE_BASED_EXEC;
		for (int l = 2; l <= 4; l++)
			*ept_entry(gpa_of(data), l) |= BIT(10);
		*ept_entry(gpa_of(data), 1) = data | WB | rows[i].perm;
		if (!rows[i].user)
			*gpte[0] &= ~PTE_U;
		assert_int_equal(walk(X, X86_MMU_KERNEL, NULL), rows[i].ok ? X86_UNWIND_NONE : X86_UNWIND_VMEXIT);
		if (!rows[i].ok)
			assert_int_equal(!!(fake.ept_qual & BIT(6)), !!(rows[i].perm & BIT(10)));
	}
}

static void test_caching(void **state)
{
	u64 other;

	setup(true);
	other = fake_page();
	assert_int_equal(FAKE_RUN(x86_store64(cpu, X86_DS, LIN & ~7ull, 1)), X86_UNWIND_NONE);
	/* Moved: both kinds of mapping stay until INVEPT. */
	*ept_entry(gpa_of(data), 1) = other | WB | 7;
	assert_int_equal(FAKE_RUN(x86_store64(cpu, X86_DS, LIN & ~7ull, 2)), X86_UNWIND_NONE);
	assert_int_equal(*fake_ptr(data | (LIN & 0xff8)), 2);
	x86_tlb_flush_page(cpu, LIN);	/* not guest-physical */
	assert_int_equal(FAKE_RUN(x86_store64(cpu, X86_DS, LIN & ~7ull, 3)), X86_UNWIND_NONE);
	assert_int_equal(*fake_ptr(data | (LIN & 0xff8)), 3);
	x86_tlb_flush_ept(cpu, cpu->vmx.eptp);
	assert_int_equal(FAKE_RUN(x86_store64(cpu, X86_DS, LIN & ~7ull, 4)), X86_UNWIND_NONE);
	assert_int_equal(*fake_ptr(other | (LIN & 0xff8)), 4);
	assert_int_equal(*fake_ptr(data | (LIN & 0xff8)), 3);
	/* More permission needs no INVEPT: a violation walks. */
	*ept_entry(gpa_of(other), 1) = 0;
	*ept_entry(gpa_of(data), 1) &= ~2ull;
	x86_tlb_flush_ept(cpu, cpu->vmx.eptp);
	assert_int_equal(FAKE_RUN(x86_load64(cpu, X86_DS, LIN & ~7ull)), X86_UNWIND_NONE);
	assert_int_equal(FAKE_RUN(x86_store64(cpu, X86_DS, LIN & ~7ull, 5)), X86_UNWIND_VMEXIT);
	*ept_entry(gpa_of(data), 1) |= 2ull;
	assert_int_equal(FAKE_RUN(x86_store64(cpu, X86_DS, LIN & ~7ull, 5)), X86_UNWIND_NONE);
	/* Another EPTP, another space: nothing is shared; coming back finds everything. */
	{
		u64 eptp = cpu->vmx.eptp;

		cpu->vmx.eptp = fake_page() | 3 << 3 | 6;
		x86_tlb_switch(cpu);
		assert_int_equal(FAKE_RUN(x86_load64(cpu, X86_DS, LIN & ~7ull)), X86_UNWIND_VMEXIT);
		cpu->vmx.eptp = eptp;
		x86_tlb_switch(cpu);
		assert_non_null(x86_hit_write(cpu, LIN & ~7ull, 8));
	}
}

static void test_apic_page(void **state)
{
	u64 v = 0;

	setup(true);
	cpu->vmx.proc2 |= PROC2_VIRT_APIC_ACCESSES;
	fake.vmcs_apic_page = data;
	fake.apic_value = 0x55;
	assert_int_equal(FAKE_RUN(v = x86_load32(cpu, X86_DS, LIN & ~15ull)), X86_UNWIND_NONE);
	assert_int_equal(v, 0x55);
	assert_int_equal(FAKE_RUN(x86_store32(cpu, X86_DS, LIN & ~15ull, 0x66)), X86_UNWIND_NONE);
	assert_int_equal(fake.apic_value, 0x66);
	assert_int_equal(fake.apic_accesses, 2);
	assert_null(x86_hit_read(cpu, LIN, 1));
	assert_int_equal(FAKE_RUN(x86_fetch_page(cpu, LIN, &v)), X86_UNWIND_VMEXIT);
	/* Not virtualized after all: memory. */
	fake.apic_declines = true;
	assert_int_equal(FAKE_RUN(x86_store32(cpu, X86_DS, LIN & ~15ull, 0x77)), X86_UNWIND_NONE);
	assert_int_equal(*(u32 *)(data | (LIN & 0xff0)), 0x77);
	/* The guest's tables may lie on it: plain memory. */
	fake.vmcs_apic_page = gtable[0];
	fake.apic_accesses = 0;
	forget();
	assert_int_equal(FAKE_RUN(x86_load32(cpu, X86_DS, LIN)), X86_UNWIND_NONE);
	assert_int_equal(fake.apic_accesses, 0);
}

static void test_five_levels(void **state)
{
	u64 top;

	setup(false);
	top = fake_page();
	fake_ptr(top)[0] = ept[4] | 7;
	cpu->vmx.eptp = top | 4 << 3 | 6;
	x86_tlb_switch(cpu);
	assert_int_equal(walk(W, X86_MMU_USER, NULL), X86_UNWIND_NONE);
	fake_ptr(top)[0] |= EPT_PS;
	forget();
	assert_int_equal(walk(W, X86_MMU_USER, NULL), X86_UNWIND_VMEXIT);
	assert_int_equal(fake.ept_reason, VMX_EXIT_EPT_MISCONFIG);
}

/* An entry that leads nowhere: a bus error, not a crash. */
static void test_no_memory(void **state)
{
	setup(false);
	*ept_entry(gpa_of(data), 1) = 0x1000 | WB | 7;
	assert_int_equal(FAKE_RUN(x86_load64(cpu, X86_DS, LIN)), X86_UNWIND_BUS_ERROR);
	assert_int_equal(cpu->fault.payload, 0x1000 | (LIN & 0xfff));
	*ept_entry(gpa_of(data), 2) = BIT(47) | 7;
	forget();
	assert_int_equal(FAKE_RUN(x86_load64(cpu, X86_DS, LIN)), X86_UNWIND_BUS_ERROR);
}

static int teardown(void **state)
{
	fake_free();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain), cmocka_unit_test(test_misconfig), cmocka_unit_test(test_violation),
		cmocka_unit_test(test_guest_entries), cmocka_unit_test(test_flags), cmocka_unit_test(test_pml),
		cmocka_unit_test(test_pdptes), cmocka_unit_test(test_mode_based), cmocka_unit_test(test_caching),
		cmocka_unit_test(test_apic_page), cmocka_unit_test(test_five_levels),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
