// SPDX-License-Identifier: MIT
/*
 * TLB semantics (what flushes what, what need not be flushed) and the slow
 * paths of access: page crossing, segments, alignment, breakpoints, code pages,
 * read-modify-write, the bus, host faults.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/mman.h>

#include "silicon/x86/mmu/mmu_fake.h"

#define UWP (PTE_P | PTE_W | PTE_U)
#define BASE 0x7f0000000000ull	/* linear; pages behind each other */
#define NPAGES 8

static struct x86_cpu *cpu;
static u64 *pte;		/* of BASE, ascending */
static u64 *pde;
static u64 page[NPAGES];

/* 4-level paging, supervisor; pages BASE... map page[]. */
static void setup(void)
{
	u64 t[4];

	cpu = fake_cpu();
	for (unsigned i = 0; i < 4; i++)
		t[i] = fake_page();
	for (unsigned i = 3; i; i--)
		fake_ptr(t[i])[BASE >> (12 + 9 * i) & 511] = t[i - 1] | UWP;
	pte = fake_ptr(t[0]);
	pde = fake_ptr(t[1]) + (BASE >> 21 & 511);
	for (unsigned i = 0; i < NPAGES; i++) {
		page[i] = fake_page();
		pte[i] = page[i] | UWP;
	}
	cpu->cr0 |= CR0_PG | CR0_WP;
	cpu->cr4 |= CR4_PAE | CR4_PGE | CR4_PCIDE;
	cpu->efer |= EFER_LMA | EFER_LME | EFER_NXE;
	cpu->cr3 = t[3] | 1;
	cpu->mode = X86_MODE_64;
	cpu->lin_mask = ~0ull;
	x86_tlb_switch(cpu);
}

/* The same with pages of the supervisor only and SMAP: global ones are shared by all PCIDs. */
static void setup_smap(void)
{
	setup();
	for (unsigned i = 0; i < NPAGES; i++)
		pte[i] &= ~PTE_U;
	cpu->cr4 |= CR4_SMAP;
	x86_tlb_switch(cpu);
}

static void use(unsigned idx, unsigned cpl)
{
	cpu->mmu_idx = (u8)idx;
	cpu->cpl = (u8)cpl;
	cpu->tlb = &cpu->tlbs[idx];
}

static void set_pcid(u16 pcid)
{
	cpu->cr3 = (cpu->cr3 & PAGE_MASK) | pcid;
	x86_tlb_switch(cpu);
}

static u64 load(u64 lin)
{
	volatile u64 v = 0;

	assert_int_equal(FAKE_RUN(v = x86_load64(cpu, X86_DS, lin)), X86_UNWIND_NONE);
	return v;
}

static void store(u64 lin, u64 v)
{
	assert_int_equal(FAKE_RUN(x86_store64(cpu, X86_DS, lin, v)), X86_UNWIND_NONE);
}

/* #PF code of a load or store, or -1. */
static int fault(u64 lin, bool write)
{
	int kind = FAKE_RUN(if (write) x86_store64(cpu, X86_DS, lin, 0); else x86_load64(cpu, X86_DS, lin));

	if (kind == X86_UNWIND_NONE)
		return -1;
	assert_int_equal(kind, X86_UNWIND_FAULT);
	assert_int_equal(cpu->fault.vector, X86_PF);
	return (int)cpu->fault.error;
}

/* ---- What flushes what ---- */

enum op { NOTHING, ALL, NONGLOBAL, PCID_THIS, PCID_OTHER, PAGE, PAGE_OTHER, VPID0, VPID0_KEEP, VPID_OTHER };

static void flush(enum op op)
{
	switch (op) {
	case NOTHING: break;
	case ALL: x86_tlb_flush_all(cpu); break;
	case NONGLOBAL: x86_tlb_flush_nonglobal(cpu); break;
	case PCID_THIS: x86_tlb_flush_pcid(cpu, 1); break;
	case PCID_OTHER: x86_tlb_flush_pcid(cpu, 2); break;
	case PAGE: x86_tlb_flush_page(cpu, BASE); break;
	case PAGE_OTHER: x86_tlb_flush_page(cpu, BASE + 3 * PAGE_SIZE); break;
	case VPID0: x86_tlb_flush_vpid(cpu, 0, false); break;
	case VPID0_KEEP: x86_tlb_flush_vpid(cpu, 0, true); break;
	case VPID_OTHER: x86_tlb_flush_vpid(cpu, 7, false); break;
	}
}

static void test_flushes(void **state)
{
	static const struct {
		enum op op;
		bool plain, global;	/* must be gone */
		bool keeps;		/* must be there still: nothing else may be lost without need */
	} rows[] = {
		{ NOTHING, false, false, true }, { ALL, true, true, false }, { NONGLOBAL, true, false, false },
		{ PCID_THIS, true, false, false }, { PCID_OTHER, false, false, true },
		{ PAGE, true, true, false }, { PAGE_OTHER, false, false, true },
		{ VPID0, true, true, false }, { VPID0_KEEP, true, false, false }, { VPID_OTHER, false, false, true },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		for (unsigned n = 0; n < 4; n++) {
			bool global = n & 1, gone, must = global ? rows[i].global : rows[i].plain;

			if (n & 2)
				setup_smap();
			else
				setup();
			if (global)
				pte[0] |= PTE_G;
			*fake_ptr(page[0]) = 1;
			*fake_ptr(page[1]) = 2;
			assert_int_equal(load(BASE), 1);
			pte[0] = (pte[0] & ~BITS(51, 12)) | page[1];
			flush(rows[i].op);
			gone = load(BASE) == 2;
			if (must && !gone)
				fail_msg("row %u, %u: still there", i, n);
			if ((rows[i].keeps || (global && !must)) && gone)
				fail_msg("row %u, %u: lost", i, n);
		}
	}
}

static void pcids(void)
{
	u64 access = pte[0] & (PTE_P | PTE_W | PTE_U);

	*fake_ptr(page[0]) = 1;
	*fake_ptr(page[1]) = 2;
	pte[2] |= PTE_G;
	*fake_ptr(page[2]) = 3;
	assert_int_equal(load(BASE), 1);
	assert_int_equal(load(BASE + 2 * PAGE_SIZE), 3);
	pte[0] = page[1] | access;
	pte[2] = page[1] | access | PTE_G;
	/* Another PCID has its own translations, and the global ones. */
	set_pcid(2);
	assert_int_equal(load(BASE), 2);
	assert_int_equal(load(BASE + 2 * PAGE_SIZE), 3);
	/* INVLPG there: globals of all. */
	x86_tlb_flush_page(cpu, BASE + 2 * PAGE_SIZE);
	set_pcid(1);
	assert_int_equal(load(BASE + 2 * PAGE_SIZE), 2);
	/* Ids run out now and then: nothing comes back. */
	for (unsigned i = 0; i < 10000; i++) {
		set_pcid((u16)(i % 4096));
		x86_tlb_flush_pcid(cpu, (u16)(i % 4096));
	}
	set_pcid(1);
	assert_int_equal(load(BASE), 2);
}

static void test_pcids(void **state)
{
	setup();
	pcids();
	setup_smap();
	pcids();
}

static bool hit(unsigned n) { return x86_hit_read(cpu, BASE + n * PAGE_SIZE, 8); }

/* Under SMAP what is global is there at once in every PCID, what is not only in its own. */
static void test_shared(void **state)
{
	setup_smap();
	pte[1] |= PTE_G;
	load(BASE);
	load(BASE + PAGE_SIZE);
	set_pcid(2);
	assert_false(hit(0));
	assert_true(hit(1));
	set_pcid(1);
	assert_true(hit(1));
	/* A slot that a global page has taken meanwhile is not dropped. */
	load(BASE);
	x86_tlb_flush_page(cpu, BASE);
	pte[0] |= PTE_G;
	load(BASE);
	set_pcid(2);
	assert_true(hit(0));
	assert_true(hit(1));

	/* Many that are not: each PCID keeps its own from then on. */
	for (unsigned i = 2; i < X86_STRAYS + 4; i++) {
		pte[i] = page[i % NPAGES] | PTE_P | PTE_W;
		load(BASE + i * PAGE_SIZE);
	}
	load(BASE);
	load(BASE + 2 * PAGE_SIZE);
	set_pcid(1);
	assert_false(hit(2));
	assert_false(hit(X86_STRAYS + 3));
	assert_int_equal(load(BASE), *fake_ptr(page[0]));
	set_pcid(2);
	assert_true(hit(2));
	assert_true(hit(X86_STRAYS + 3));
	/* Until everything is invalidated. */
	x86_tlb_flush_all(cpu);
	assert_false(hit(0));
	assert_false(hit(2));
	load(BASE);
	set_pcid(1);
	assert_true(hit(0));
}

/* No flush needed: not present to present, permission raised, A/D. */
static void test_no_flush(void **state)
{
	setup();
	pte[0] = 0;
	assert_int_equal(fault(BASE, false), 0);
	pte[0] = page[0] | PTE_P;
	assert_int_equal(fault(BASE, false), -1);
	assert_int_equal(fault(BASE, true), 3);
	pte[0] |= PTE_W;
	assert_int_equal(fault(BASE, true), -1);
	use(X86_MMU_USER, 3);
	assert_int_equal(fault(BASE, false), 5);
	pte[0] |= PTE_U;
	assert_int_equal(fault(BASE, false), -1);
	/* A fault drops the entry that it met. */
	pte[0] &= ~(PTE_U | PTE_A);
	assert_int_equal(load(BASE), 0);
	use(X86_MMU_KERNEL, 0);
	/* D: a page read first is walked again when written. */
	pte[1] = page[1] | UWP;
	load(BASE + PAGE_SIZE);
	assert_int_equal(pte[1] & (PTE_A | PTE_D), PTE_A);
	store(BASE + PAGE_SIZE, 1);
	assert_true(pte[1] & PTE_D);
}

/* Changes of mode act at once. */
static void test_modes(void **state)
{
	setup();
	pte[0] &= ~PTE_W;
	pte[0] |= PTE_D;
	cpu->cr0 &= ~CR0_WP;
	x86_tlb_switch(cpu);
	assert_int_equal(fault(BASE, true), -1);
	cpu->cr0 |= CR0_WP;
	x86_tlb_switch(cpu);
	assert_int_equal(fault(BASE, true), 3);
	cpu->cr4 |= CR4_SMAP;
	x86_tlb_switch(cpu);
	assert_int_equal(fault(BASE, false), 1);
	use(X86_MMU_KERNEL_AC, 0);
	assert_int_equal(fault(BASE, false), -1);
	use(X86_MMU_KERNEL, 0);
	assert_int_equal(fault(BASE, false), 1);
	/* Keys: with PKRU. */
	setup();
	cpu->cr4 |= CR4_PKE;
	pte[0] |= 3ull << 59;
	use(X86_MMU_USER, 3);
	x86_tlb_switch(cpu);
	assert_int_equal(fault(BASE, true), -1);
	cpu->pkru = 2u << 6;
	x86_tlb_switch(cpu);
	assert_int_equal(fault(BASE, false), -1);
	assert_int_equal(fault(BASE, true), 0x27);
	cpu->pkru = 1u << 6;
	x86_tlb_switch(cpu);
	assert_int_equal(fault(BASE, false), 0x25);
}

static void test_large(void **state)
{
	u64 a, b;

	setup();
	a = fake_pages(512, 2ul << 20);
	b = fake_pages(512, 2ul << 20);
	*pde = a | UWP | PTE_PS;
	for (unsigned i = 0; i < 512; i++) {
		*fake_ptr(a + i * PAGE_SIZE) = i;
		*fake_ptr(b + i * PAGE_SIZE) = 1000 + i;
		assert_int_equal(load(BASE + i * PAGE_SIZE), i);
	}
	*pde = b | UWP | PTE_PS;
	/* One INVLPG anywhere in it drops every fragment. */
	x86_tlb_flush_page(cpu, BASE + 77 * PAGE_SIZE + 5);
	for (unsigned i = 0; i < 512; i++)
		assert_int_equal(load(BASE + i * PAGE_SIZE), 1000 + i);
	/* 32-bit: 4 MiB */
	cpu = fake_cpu();
	a = fake_pages(1024, 4ul << 20);
	b = fake_pages(1024, 4ul << 20);
	cpu->cr3 = fake_page();
	cpu->cr0 |= CR0_PG;
	cpu->cr4 |= CR4_PSE;
	x86_tlb_switch(cpu);
	((u32 *)cpu->cr3)[5] = (u32)(a | UWP | PTE_PS);
	*fake_ptr(a) = 1;
	*fake_ptr(b) = 2;
	*fake_ptr(a + (3ul << 20)) = 3;
	*fake_ptr(b + (3ul << 20)) = 4;
	assert_int_equal(load(5ul << 22), 1);
	assert_int_equal(load((5ul << 22) + (3ul << 20)), 3);
	((u32 *)cpu->cr3)[5] = (u32)(b | UWP | PTE_PS);
	x86_tlb_flush_page(cpu, (5ul << 22) + (3ul << 20) + 0x1000);
	assert_int_equal(load(5ul << 22), 2);
	assert_int_equal(load((5ul << 22) + (3ul << 20)), 4);
}

static void test_fetch(void **state)
{
	u64 spa = 0;
	const u8 *p = NULL;

	setup();
	assert_int_equal(FAKE_RUN(p = x86_fetch_page(cpu, BASE + 0x123, &spa)), X86_UNWIND_NONE);
	assert_ptr_equal(p, (u8 *)page[0]);
	assert_int_equal(spa, page[0]);
	/* Cached, and flushed with the rest. */
	pte[0] = page[1] | UWP;
	assert_int_equal(FAKE_RUN(p = x86_fetch_page(cpu, BASE, &spa)), X86_UNWIND_NONE);
	assert_int_equal(spa, page[0]);
	x86_tlb_flush_page(cpu, BASE);
	assert_int_equal(FAKE_RUN(p = x86_fetch_page(cpu, BASE, &spa)), X86_UNWIND_NONE);
	assert_int_equal(spa, page[1]);
	/* Data permission is not fetch permission. */
	pte[2] |= PTE_XD;
	load(BASE + 2 * PAGE_SIZE);
	assert_int_equal(FAKE_RUN(x86_fetch_page(cpu, BASE + 2 * PAGE_SIZE + 9, &spa)), X86_UNWIND_FAULT);
	assert_int_equal(cpu->fault.error, 0x11);
	assert_int_equal(cpu->fault.payload, BASE + 2 * PAGE_SIZE + 9);
	assert_int_equal(FAKE_RUN(x86_fetch_page(cpu, 1ull << 47, &spa)), X86_UNWIND_FAULT);
	assert_int_equal(cpu->fault.vector, X86_GP);
}

/* ---- Accesses ---- */

static void test_crossing(void **state)
{
	u64 at = BASE + PAGE_SIZE - 3;

	setup();
	store(at, 0x1122334455667788);
	assert_int_equal(load(at), 0x1122334455667788);
	assert_int_equal(*(u8 *)(page[1]), 0x55);
	/* The second page bad: its base is reported, nothing was written. */
	pte[1] &= ~PTE_W;
	x86_tlb_flush_page(cpu, BASE + PAGE_SIZE);
	assert_int_equal(fault(at, true), 3);
	assert_int_equal(cpu->fault.payload, BASE + PAGE_SIZE);
	assert_int_equal(load(at), 0x1122334455667788);
	/* Both bad: the first. */
	pte[0] = 0;
	x86_tlb_flush_all(cpu);
	assert_int_equal(fault(at, true), 2);
	assert_int_equal(cpu->fault.payload, at);
	/* Bytes, long ones. */
	setup();
	{
		u8 buf[4096], back[4096];

		for (unsigned i = 0; i < sizeof(buf); i++)
			buf[i] = (u8)(i * 13);
		assert_int_equal(FAKE_RUN(x86_store_bytes(cpu, X86_DS, BASE + 1, buf, 4096)), X86_UNWIND_NONE);
		assert_int_equal(FAKE_RUN(x86_load_bytes(cpu, X86_DS, BASE + 1, back, 4096)), X86_UNWIND_NONE);
		assert_memory_equal(buf, back, 4096);
		pte[1] = 0;
		x86_tlb_flush_all(cpu);
		assert_int_equal(FAKE_RUN(x86_probe_write(cpu, X86_DS, BASE + 100, 3996)), X86_UNWIND_NONE);
		assert_int_equal(FAKE_RUN(x86_probe_write(cpu, X86_DS, BASE + 100, 3997)), X86_UNWIND_FAULT);
		assert_int_equal(cpu->fault.payload, BASE + PAGE_SIZE);
		assert_int_equal(cpu->fault.error, 2);
		assert_int_equal(FAKE_RUN(x86_probe_read(cpu, X86_DS, BASE + 100, 3997)), X86_UNWIND_FAULT);
		assert_int_equal(cpu->fault.error, 0);
	}
}

static void test_canonical(void **state)
{
	static const struct { u64 lin; unsigned seg; bool la57; int vector; } rows[] = {
		{ 1ull << 47, X86_DS, false, X86_GP }, { 1ull << 47, X86_SS, false, X86_SS_FAULT },
		{ (1ull << 47) - 1, X86_DS, false, X86_GP },	/* straddles */
		{ ~0ull << 47, X86_DS, false, X86_PF }, { (~0ull << 47) - 1, X86_DS, false, X86_GP },
		{ ~0ull - 3, X86_DS, false, X86_PF },		/* wraps to 0 */
		{ 1ull << 47, X86_DS, true, X86_PF }, { 1ull << 56, X86_DS, true, X86_GP },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		setup();
		if (rows[i].la57) {
			u64 top = fake_page();

			fake_ptr(top)[0] = (cpu->cr3 & PAGE_MASK) | UWP;
			cpu->cr3 = top;
			cpu->cr4 |= CR4_LA57;
			x86_tlb_switch(cpu);
		}
		assert_int_equal(FAKE_RUN(x86_load64(cpu, rows[i].seg, rows[i].lin)), X86_UNWIND_FAULT);
		if (cpu->fault.vector != rows[i].vector)
			fail_msg("row %u: vector %u", i, cpu->fault.vector);
		if (rows[i].vector != X86_PF)
			assert_int_equal(cpu->fault.error, 0);
	}
}

static void test_segments(void **state)
{
	enum { RO = 0x91, RW = 0x93, DOWN = 0x97, XO = 0x99, XR = 0x9b, DB = 0x4000, NUL = X86_AR_UNUSABLE };
	static const struct {
		u32 ar, limit;
		u64 ea;
		unsigned size, seg;
		bool write, real;
		int vector;	/* 0 = allowed */
	} rows[] = {
		{ RW, 0xfff, 0xffc, 4, X86_DS, true, false, 0 }, { RW, 0xfff, 0xffd, 4, X86_DS, true, false, X86_GP },
		{ RW, 0xfff, 0xffd, 4, X86_SS, true, false, X86_SS_FAULT },
		{ RW, 0xffffffff, 0xfffffffd, 4, X86_DS, true, false, 0 },
		{ RW, 0xfffffffe, 0xffffffff, 1, X86_DS, true, false, X86_GP },
		{ RO, 0xffff, 0, 4, X86_DS, false, false, 0 }, { RO, 0xffff, 0, 4, X86_DS, true, false, X86_GP },
		{ XR, 0xffff, 0, 4, X86_CS, false, false, 0 }, { XR, 0xffff, 0, 4, X86_CS, true, false, X86_GP },
		{ XO, 0xffff, 0, 4, X86_CS, false, false, X86_GP }, { NUL, 0xffff, 0, 1, X86_ES, false, false, X86_GP },
		{ DOWN, 0xfff, 0xfff, 1, X86_DS, false, false, X86_GP }, { DOWN, 0xfff, 0x1000, 1, X86_DS, false, false, 0 },
		{ DOWN, 0xfff, 0xffff, 1, X86_DS, false, false, 0 }, { DOWN, 0xfff, 0xffff, 2, X86_DS, false, false, X86_GP },
		{ DOWN | DB, 0xfff, 0xffff, 2, X86_DS, false, false, 0 },
		{ DOWN | DB, 0xfff, 0xfffffffe, 4, X86_DS, false, false, X86_GP },
		/* real mode: limits, no types */
		{ XR, 0xffff, 0x10, 2, X86_CS, true, true, 0 }, { RW, 0xffff, 0xffff, 2, X86_DS, false, true, X86_GP },
		{ RW, 0xffff, 0xffff, 2, X86_SS, false, true, X86_SS_FAULT },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		volatile u64 lin = 0;
		int kind;

		cpu = fake_cpu();
		cpu->mode = rows[i].real ? X86_MODE_REAL : X86_MODE_PROT;
		cpu->seg[rows[i].seg] = (struct x86_segment){ .base = 0xfffff000, .limit = rows[i].limit, .ar = rows[i].ar };
		cpu->seg_base[rows[i].seg] = 0xfffff000;
		kind = FAKE_RUN(lin = x86_lin_check(cpu, rows[i].seg, rows[i].ea, rows[i].size, rows[i].write));
		if ((kind ? cpu->fault.vector : 0) != rows[i].vector)
			fail_msg("row %u: vector %d", i, kind ? cpu->fault.vector : 0);
		if (!kind)
			assert_int_equal(lin, (0xfffff000 + rows[i].ea) & 0xffffffff);
	}
}

static void test_alignment(void **state)
{
	static const struct { unsigned len; u64 off; bool bytes, ac; } rows[] = {
		{ 1, 1, false, false }, { 2, 1, false, true }, { 2, 2, false, false }, { 4, 2, false, true },
		{ 8, 4, false, true }, { 8, 8, false, false }, { 10, 4, true, true }, { 10, 8, true, false },
		{ 16, 1, true, false }, { 32, 1, true, false }, { 6, 2, true, true }, { 28, 2, true, true },
		{ 28, 4, true, false }, { 512, 1, true, false },
	};
	u8 buf[512];

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		int kind;

		setup();
		pte[1] = 0;
		use(X86_MMU_USER_ALIGN, 3);
		kind = FAKE_RUN(
			if (rows[i].bytes)
				x86_load_bytes(cpu, X86_DS, BASE + rows[i].off, buf, rows[i].len);
			else
				x86_load_slow(cpu, X86_DS, BASE + rows[i].off, rows[i].len));
		if (!!kind != rows[i].ac)
			fail_msg("row %u", i);
		if (rows[i].ac)
			assert_int_equal(cpu->fault.vector, X86_AC);
		/* It beats the page fault, but not the canonical check. */
		if (rows[i].ac && !rows[i].bytes) {
			FAKE_RUN(x86_load_slow(cpu, X86_DS, BASE + PAGE_SIZE + rows[i].off, rows[i].len));
			assert_int_equal(cpu->fault.vector, X86_AC);
			FAKE_RUN(x86_load_slow(cpu, X86_DS, (1ull << 47) + rows[i].off, rows[i].len));
			assert_int_equal(cpu->fault.vector, X86_GP);
		}
	}
	/* Not for the processor's own accesses; and the page table is still the user's. */
	assert_int_equal(FAKE_RUN(x86_sys_load(cpu, BASE + 1, 8)), X86_UNWIND_NONE);
	pte[0] &= ~PTE_U;
	x86_tlb_flush_all(cpu);
	assert_int_equal(FAKE_RUN(x86_load_slow(cpu, X86_DS, BASE, 8)), X86_UNWIND_FAULT);
	assert_int_equal(cpu->fault.error, 5);
}

static void test_implicit(void **state)
{
	setup();
	pte[0] &= ~PTE_U;
	pte[1] &= ~PTE_W;
	use(X86_MMU_USER, 3);
	*fake_ptr(page[0]) = 5;
	/* U = 0 in the code, whatever the CPL. */
	assert_int_equal(FAKE_RUN(assert_int_equal(x86_sys_load(cpu, BASE, 8), 5)), X86_UNWIND_NONE);
	assert_int_equal(FAKE_RUN(x86_sys_store(cpu, BASE + PAGE_SIZE, 1, 4)), X86_UNWIND_FAULT);
	assert_int_equal(cpu->fault.error, 3);
	assert_int_equal(FAKE_RUN(x86_store_cpl(cpu, X86_SS, BASE, 1, 8, 0)), X86_UNWIND_NONE);
	assert_int_equal(FAKE_RUN(x86_store_cpl(cpu, X86_SS, BASE, 1, 8, 3)), X86_UNWIND_FAULT);
	assert_int_equal(cpu->fault.error, 7);
	/* SMAP whatever AC says. */
	cpu->cr4 |= CR4_SMAP;
	x86_tlb_switch(cpu);
	use(X86_MMU_KERNEL_AC, 0);
	assert_int_equal(FAKE_RUN(x86_load64(cpu, X86_DS, BASE + 2 * PAGE_SIZE)), X86_UNWIND_NONE);
	assert_int_equal(FAKE_RUN(x86_sys_load(cpu, BASE + 2 * PAGE_SIZE, 8)), X86_UNWIND_FAULT);
	assert_int_equal(cpu->fault.error, 1);
}

static void test_watch(void **state)
{
	setup();
	load(BASE);
	cpu->dr[2] = BASE + 0x40;
	cpu->dr7 = BIT(4) | 1ull << 24;	/* L2, write, 1 byte */
	x86_tlb_watch_update(cpu);
	assert_null(x86_hit_read(cpu, BASE, 8));
	store(BASE + 0x40, 1);
	assert_int_equal(fake.watch_hits, 1);
	assert_int_equal(fake.watch_lin, BASE + 0x40);
	assert_true(fake.watch_write);
	load(BASE);
	assert_int_equal(fake.watch_hits, 2);
	assert_null(x86_hit_read(cpu, BASE, 8));
	/* Other pages stay fast. */
	store(BASE + PAGE_SIZE, 1);
	assert_non_null(x86_hit_write(cpu, BASE + PAGE_SIZE, 8));
	/* A faulting access hits nothing; instruction breakpoints do not count. */
	pte[0] = 0;
	fake.watch_hits = 0;
	assert_int_equal(fault(BASE + 0x40, true), 2);
	assert_int_equal(fake.watch_hits, 0);
	pte[0] = page[0] | UWP;
	cpu->dr7 = BIT(4);
	x86_tlb_watch_update(cpu);
	store(BASE, 1);
	assert_non_null(x86_hit_write(cpu, BASE, 8));
}

static void test_code_pages(void **state)
{
	setup();
	store(BASE, 1);
	fake.code_page = page[0];
	x86_tlb_drop_writes(cpu);
	assert_null(x86_hit_write(cpu, BASE, 8));
	assert_non_null(x86_hit_read(cpu, BASE, 8));
	store(BASE, 2);
	assert_int_equal(fake.code_stores, 1);
	assert_null(x86_hit_write(cpu, BASE, 8));
	/* Read-modify-write tells as well. */
	{
		struct x86_rmw m;

		assert_int_equal(FAKE_RUN(x86_rmw(cpu, &m, X86_DS, BASE, 8)), X86_UNWIND_NONE);
		assert_null(m.p);
		assert_int_equal(m.old, 2);
		assert_int_equal(FAKE_RUN(x86_rmw_write(cpu, &m, 3)), X86_UNWIND_NONE);
		assert_int_equal(fake.code_stores, 2);
		assert_int_equal(FAKE_RUN(x86_rmw(cpu, &m, X86_DS, BASE, 8)), X86_UNWIND_NONE);
		assert_true(x86_rmw_cmpxchg(cpu, &m, 4));
		assert_int_equal(fake.code_stores, 3);
		assert_int_equal(*fake_ptr(page[0]), 4);
	}
	/* No code there any more: back to the fast path without a walk. */
	fake.code_page = ~0ull;
	pte[0] = 0;
	store(BASE, 5);
	assert_non_null(x86_hit_write(cpu, BASE, 8));
	assert_int_equal(fake.code_stores, 3);
}

/* More write tags than are remembered one by one: all go nevertheless. */
static void test_many_writes(void **state)
{
	setup();
	for (unsigned i = 0; i < 2 * X86_WRITTEN; i++) {
		x86_tlb_flush_page(cpu, BASE + i % NPAGES * PAGE_SIZE);
		store(BASE + i % NPAGES * PAGE_SIZE, i);
	}
	assert_non_null(x86_hit_write(cpu, BASE, 8));
	x86_tlb_drop_writes(cpu);
	for (unsigned i = 0; i < NPAGES; i++) {
		assert_null(x86_hit_write(cpu, BASE + i * PAGE_SIZE, 8));
		assert_non_null(x86_hit_read(cpu, BASE + i * PAGE_SIZE, 8));
	}
}

/* Entries that were never filled hit nowhere, non-canonical addresses included, in any context. */
static void test_empty(void **state)
{
	static const u64 upper[] = { 0, 1, 0xffffff, 0xfffff, 0x8000000, 0xfffffffff };

	setup();
	for (unsigned ctx = 0; ctx < X86_CTX_MAX; ctx++) {
		cpu->tlb_ctx_page[cpu->mmu_idx] = (u64)ctx << PAGE_SHIFT;
		for (unsigned i = 0; i < ARRAY_SIZE(upper); i++) {
			u64 near = upper[i] << 28 | ((0u - ctx) & 0xffff) << PAGE_SHIFT;

			assert_null(x86_hit_read(cpu, near, 1));
			assert_null(x86_hit_write(cpu, near, 1));
			assert_null(x86_hit_read(cpu, -cpu->tlb_ctx_page[cpu->mmu_idx], 1));
		}
	}
}

static void test_rmw(void **state)
{
	static const unsigned sizes[] = { 1, 2, 4, 8 };

	setup();
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		unsigned size = sizes[i];
		u64 mask = size == 8 ? ~0ull : BIT(size * 8) - 1, val = 0x1122334455667788 & mask;

		/* Inside a page, and across where the size allows. */
		for (u64 off = PAGE_SIZE - 2 * size; off < PAGE_SIZE + size; off++) {
			struct x86_rmw m;
			u64 got = 0;

			memset((void *)page[0], 0xff, PAGE_SIZE);
			memset((void *)page[1], 0xff, PAGE_SIZE);
			assert_int_equal(FAKE_RUN(got = x86_rmw(cpu, &m, X86_DS, BASE + off, size)), 0);
			assert_int_equal(got, mask);
			assert_int_equal(FAKE_RUN(x86_rmw_write(cpu, &m, val)), 0);
			assert_int_equal(FAKE_RUN(got = x86_rmw(cpu, &m, X86_DS, BASE + off, size)), 0);
			assert_int_equal(got, val);
			/* Lost: what is there now; then won. */
			m.old = 1;
			assert_false(x86_rmw_cmpxchg(cpu, &m, 2));
			assert_int_equal(m.old, val);
			assert_true(x86_rmw_cmpxchg(cpu, &m, 7));
			assert_int_equal(FAKE_RUN(got = x86_rmw(cpu, &m, X86_DS, BASE + off, size)), 0);
			assert_int_equal(got, 7);
			assert_int_equal(*(u8 *)(page[0] + PAGE_SIZE - 2 * size - 1), 0xff);
		}
	}
	/* Needs write permission and sets D even if nothing changes. */
	pte[2] = page[2] | PTE_P | PTE_U;
	assert_int_equal(FAKE_RUN(struct x86_rmw m; x86_rmw(cpu, &m, X86_DS, BASE + 2 * PAGE_SIZE, 4)), X86_UNWIND_FAULT);
	assert_int_equal(cpu->fault.error, 3);
	pte[2] |= PTE_W;
	assert_int_equal(FAKE_RUN(struct x86_rmw m; x86_rmw(cpu, &m, X86_DS, BASE + 2 * PAGE_SIZE, 4)), 0);
	assert_true(pte[2] & PTE_D);
	{
		u64 old[2] = { 1, 2 }, val[2] = { 3, 4 };

		memset((void *)page[2], 0, 64);
		assert_false(x86_cmpxchg16(cpu, X86_DS, BASE + 2 * PAGE_SIZE + 16, old, val));
		assert_int_equal(old[0] | old[1], 0);
		assert_true(x86_cmpxchg16(cpu, X86_DS, BASE + 2 * PAGE_SIZE + 16, old, val));
		assert_int_equal(fake_ptr(page[2])[2], 3);
		assert_int_equal(fake_ptr(page[2])[3], 4);
		old[0] = 3;
		assert_true(x86_sys_cmpxchg(cpu, BASE + 2 * PAGE_SIZE + 16, old, 9, 1));
		assert_int_equal(fake_ptr(page[2])[2], 9);
	}
}

/* ---- The bus ---- */

static struct { unsigned reads, writes, locked, max_len; enum x86_bus_result answer; } bus;

static enum x86_bus_result bus_read(void *ctx, u64 pa, void *buf, unsigned len)
{
	bus.reads++;
	bus.max_len = max(bus.max_len, len);
	assert_true((pa & ~PAGE_MASK) + len <= PAGE_SIZE);
	memcpy(buf, (void *)pa, len);
	return pa == page[3] ? bus.answer : X86_BUS_OK;
}

static enum x86_bus_result bus_write(void *ctx, u64 pa, const void *buf, unsigned len)
{
	bus.writes++;
	bus.max_len = max(bus.max_len, len);
	memcpy((void *)pa, buf, len);
	return X86_BUS_OK;
}

static enum x86_bus_result bus_cmpxchg(void *ctx, u64 pa, void *old, const void *val, unsigned len)
{
	bus.locked++;
	if (memcmp((void *)pa, old, len))
		memcpy(old, (void *)pa, len);
	else
		memcpy((void *)pa, val, len);
	return X86_BUS_OK;
}

static void test_bus(void **state)
{
	static const struct x86_bus_ops ops = { .read = bus_read, .write = bus_write, .cmpxchg = bus_cmpxchg };
	u8 buf[256];
	u64 spa = 0;
	struct x86_rmw m;

	setup();
	cpu->bus = &ops;
	memset(&bus, 0, sizeof(bus));
	bus.answer = X86_BUS_RETRY;
	store(BASE, 7);
	assert_int_equal(bus.locked, 4);	/* A and D flags */
	assert_null(x86_hit_read(cpu, BASE, 8));
	pte[0] = page[1] | UWP;			/* nothing is kept */
	assert_int_equal(load(BASE), 0);
	assert_int_equal(FAKE_RUN(x86_load_bytes(cpu, X86_DS, BASE, buf, 256)), 0);
	assert_int_equal(bus.max_len, 64);
	assert_int_equal(FAKE_RUN(x86_load64(cpu, X86_DS, BASE + 3 * PAGE_SIZE)), X86_UNWIND_BUS_RETRY);
	bus.answer = X86_BUS_ERROR;
	assert_int_equal(FAKE_RUN(x86_load64(cpu, X86_DS, BASE + 3 * PAGE_SIZE)), X86_UNWIND_BUS_FAIL);
	/* Locked operations stay locked. */
	bus.locked = 0;
	pte[0] |= PTE_A | PTE_D;
	assert_int_equal(FAKE_RUN(x86_rmw(cpu, &m, X86_DS, BASE, 4)), 0);
	assert_true(x86_rmw_cmpxchg(cpu, &m, 5));
	assert_int_equal(bus.locked, 1);
	m.old = 4;
	assert_false(x86_rmw_cmpxchg(cpu, &m, 6));
	assert_int_equal(m.old, 5);
	/* A fetch asks for one instruction at most, the page is the guest's. */
	bus.max_len = 0;
	*(u8 *)(page[1] + 0xffe) = 0x90;
	{
		const u8 *p = NULL;

		assert_int_equal(FAKE_RUN(p = x86_fetch_page(cpu, BASE + 0xffe, &spa)), 0);
		assert_int_equal(p[0xffe], 0x90);
		assert_int_equal(spa, page[1]);
	}
	assert_int_equal(bus.max_len, 8);	/* page-table entries; of the page only 2 bytes */
	cpu->bus = NULL;
}

/* ---- Memory that is gone ---- */

static void test_host_faults(void **state)
{
	u64 hole, v = 0;
	struct x86_cpu *before;

	/* The framework's own handlers are in place by now: chain to them. */
	assert_int_equal(x86_install_fault_handler(), 0);
	setup();
	hole = (u64)mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pte[0] = hole | UWP;
	store(BASE, 1);
	assert_non_null(x86_hit_write(cpu, BASE, 8));
	munmap((void *)hole, PAGE_SIZE);
	before = x86_access_begin(cpu);
	/* By the fast path, many times: no signal stays blocked. */
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(FAKE_RUN(x86_store64(cpu, X86_DS, BASE + 8 * i, 2)), X86_UNWIND_BUS_ERROR);
		assert_int_equal(cpu->fault.payload, hole + 8 * i);
	}
	/* Page tables can go, too. */
	*pde = hole | UWP;
	x86_tlb_flush_all(cpu);
	assert_int_equal(FAKE_RUN(x86_load64(cpu, X86_DS, BASE)), X86_UNWIND_BUS_ERROR);
	assert_int_equal(cpu->fault.payload, hole);
	/* EPT tables: the walk's section is left. */
	cpu->vmx.non_root = true;
	cpu->vmx.eptp = hole | 3 << 3 | 6;
	assert_int_equal(FAKE_RUN(x86_load64(cpu, X86_DS, BASE)), X86_UNWIND_BUS_ERROR);
	assert_false(cpu->mmu->in_epoch);
	x86_access_end(cpu, before);
	/* Root-mode software's own accesses. */
	assert_int_equal(x86_phys_read(SPA(hole), &v, 8), -EFAULT);
	assert_int_equal(x86_phys_write(SPA(hole + PAGE_SIZE - 4), &v, 8), -EFAULT);
	assert_int_equal(x86_phys_read(SPA(hole + PAGE_SIZE - 4), &v, 8), -EFAULT);
	assert_int_equal(x86_phys_write(SPA(hole + PAGE_SIZE), &v, 8), 0);
	assert_int_equal(x86_phys_cmpxchg(SPA(hole), &v, &v, 4), -EFAULT);
	assert_int_equal(x86_phys_read(SPA(16), &v, 8), -EFAULT);
	assert_int_equal(x86_phys_read(SPA(~0ull), &v, 8), -EFAULT);
	munmap((void *)(hole + PAGE_SIZE), PAGE_SIZE);
}

static int teardown(void **state)
{
	fake_free();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flushes),	    cmocka_unit_test(test_pcids),
		cmocka_unit_test(test_shared),	    cmocka_unit_test(test_no_flush),
		cmocka_unit_test(test_modes),	    cmocka_unit_test(test_large),
		cmocka_unit_test(test_fetch),	    cmocka_unit_test(test_crossing),
		cmocka_unit_test(test_canonical),   cmocka_unit_test(test_segments),
		cmocka_unit_test(test_alignment),   cmocka_unit_test(test_implicit),
		cmocka_unit_test(test_watch),	    cmocka_unit_test(test_code_pages),
		cmocka_unit_test(test_many_writes), cmocka_unit_test(test_empty),
		cmocka_unit_test(test_rmw),	    cmocka_unit_test(test_bus),
		cmocka_unit_test(test_host_faults),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
