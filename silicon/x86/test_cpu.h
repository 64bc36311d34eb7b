/* SPDX-License-Identifier: MIT */
/*
 * For tests of whole instructions: a processor of a given mode over one megabyte
 * of memory at a fixed low address, mapped one to one, with a way to execute
 * single instructions and see the exception they raise.
 */
#ifndef SILICON_X86_TEST_CPU_H
#define SILICON_X86_TEST_CPU_H

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

#include "silicon/x86/decode/decode.h"
#include "silicon/x86/fault.h"
#include "silicon/x86/flags.h"
#include "silicon/x86/mmu/mem.h"

#define T_MEM 0x20000000ull
#define T_SIZE (1ul << 20)
#define T_CODE (T_MEM + 0x1000)
#define T_DATA (T_MEM + 0x8000)
#define T_STACK (T_MEM + 0x10000)	/* grows down from here */
#define T_TABLES (T_MEM + 0xf0000)	/* the last 64 KiB: page tables */
#define T_UNMAPPED 0x30000000ull	/* not present in 64-bit mode */

static inline u8 *test_mem(u64 addr)
{
	return (u8 *)addr;
}

/* 64-bit mode: 4 KiB pages over the memory, so that tests can change them. */
static inline u64 *test_pte(u64 lin)
{
	return (u64 *)(T_TABLES + 0x3000) + ((lin - T_MEM) >> PAGE_SHIFT);
}

static inline void test_tables(void)
{
	u64 *pml4 = (u64 *)T_TABLES, *pdpt = pml4 + 512, *pd = pdpt + 512;

	pml4[0] = (u64)pdpt | 7;
	pdpt[0] = (u64)pd | 7;
	pd[T_MEM >> 21] = (T_TABLES + 0x3000) | 7;
	for (u64 a = T_MEM; a < T_MEM + T_SIZE; a += PAGE_SIZE)
		*test_pte(a) = a | 7;
}

/* Put @cpu into @mode at CPL 0 with flat segments, RIP at T_CODE, RSP at T_STACK. */
static inline void test_mode(struct x86_cpu *cpu, enum x86_mode mode, unsigned code_size)
{
	struct x86_state s = { .rip = T_CODE, .rflags = RFLAGS_1 };
	u32 data = 0x93 | X86_AR_G | X86_AR_DB;

	memset((void *)T_MEM, 0, T_SIZE);
	s.gpr[X86_RSP] = T_STACK;
	for (unsigned i = 0; i < X86_NR_SREGS; i++)
		s.seg[i] = (struct x86_segment){ .limit = 0xffffffff, .ar = data, .sel = 0x10 };
	s.seg[X86_CS].ar = 0x9b | X86_AR_G | (code_size == 8 ? X86_AR_L : code_size == 4 ? X86_AR_DB : 0);
	s.seg[X86_LDTR].ar = X86_AR_UNUSABLE;
	s.seg[X86_TR] = (struct x86_segment){ .limit = 0x67, .ar = 0x8b };
	s.cr0 = CR0_ET | CR0_NE | (mode == X86_MODE_REAL ? 0 : CR0_PE);
	s.cr4 = CR4_OSFXSR | CR4_OSXSAVE;
	s.dr6 = 0xffff0ff0;
	s.dr7 = 0x400;
	if (mode == X86_MODE_64 || mode == X86_MODE_COMPAT) {
		test_tables();
		s.cr0 |= CR0_PG | CR0_WP;
		s.cr3 = T_TABLES;
		s.cr4 |= CR4_PAE;
		s.efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
	}
	if (mode == X86_MODE_REAL) {
		/* Bases so that offsets reach the test's memory. */
		for (unsigned i = 0; i < X86_NR_SREGS; i++)
			s.seg[i] = (struct x86_segment){ .limit = 0xffff, .ar = 0x93, .base = T_MEM };
		s.rip = T_CODE - T_MEM;
		s.gpr[X86_RSP] = 0xf000;
	}
	x86_set_state(cpu, &s);
}

static inline struct x86_cpu *test_cpu_new(void)
{
	void *p = mmap((void *)T_MEM, T_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	struct x86_cpu *cpu = x86_cpu_new(x86_model_find("intel"), 0);

	assert(p == (void *)T_MEM && cpu);
	return cpu;
}

static inline void test_cpu_free(struct x86_cpu *cpu)
{
	x86_cpu_free(cpu);
	munmap((void *)T_MEM, T_SIZE);
}

/* "0f af c3" to bytes. Returns their number. */
static inline unsigned test_hex(u8 *to, const char *hex)
{
	unsigned n = 0;

	for (; *hex; hex++) {
		unsigned v = 0;

		if (*hex == ' ')
			continue;
		for (unsigned i = 0; i < 2; i++, hex++)
			v = v << 4 | (unsigned)(*hex <= '9' ? *hex - '0' : *hex - 'a' + 10);
		hex--;
		to[n++] = (u8)v;
	}
	return n;
}

#define T_NO_FAULT (-1)
#define T_OTHER 1000		/* + enum x86_unwind */

/* Execute one instruction at RIP, uncached. Returns the vector raised or T_NO_FAULT. */
static inline int test_step(struct x86_cpu *cpu)
{
	struct x86_cpu *outer = x86_access_begin(cpu);
	sigjmp_buf here;
	volatile int r;

	cpu->unwind = &here;
	if (sigsetjmp(here, 0)) {
		r = cpu->fault.kind == X86_UNWIND_FAULT ? cpu->fault.vector : T_OTHER + cpu->fault.kind;
	} else {
		const struct x86_op *op = x86_decode_single(cpu);

		cpu->gpr[X86_REG_NEXT_RIP] = (cpu->rip + op->len) & cpu->ip_mask;
		op->fn(cpu, op);
		cpu->rip = cpu->gpr[X86_REG_NEXT_RIP];
		r = T_NO_FAULT;
	}
	cpu->unwind = NULL;
	x86_access_end(cpu, outer);
	return r;
}

#endif
