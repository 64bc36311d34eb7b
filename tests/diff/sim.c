// SPDX-License-Identifier: MIT
/*
 * The simulated side: a processor in 64-bit mode with a GDT, TSS, IDT and page
 * tables of its own, whose gates all lead to HLT at CPL 0. The pushed frame
 * tells what happened.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "silicon/x86.h"
#include "tests/diff/diff.h"

#define KERNEL 0x40000000ul	/* linear address of the tables and the CPL-0 stack */
#define KPAGES 8
#define MAX_INSNS 100000	/* of a case: far more than any has */
#define GDT_OFF 0x0
#define TSS_OFF 0x200
#define IDT_OFF 0x1000
#define STUB_OFF 0x2000		/* 256 HLTs: the address tells the vector */
#define STACK_OFF 0x4000	/* top of the CPL-0 stack */

#define SEL_KCS 0x08
#define SEL_CS32 0x20
#define SEL_SS 0x28
#define SEL_CS64 0x30
#define SEL_TSS 0x40

static struct x86_cpu *cpus[DIFF_NR_ENGINES];
static u8 *kernel, *code, *data;
static u64 *pml4;

static void *pages(unsigned n)
{
	void *p = mmap(NULL, n * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

/* Map one page; bit 0 P, 1 W, 2 U. Tables are made as needed. */
static void map(u64 lin, void *host, u64 bits)
{
	u64 *t = pml4;

	for (int shift = 39; shift > 12; shift -= 9) {
		u64 *e = &t[lin >> shift & 511];

		if (!*e)
			*e = (u64)pages(1) | 7;
		t = (u64 *)(*e & ~0xffful);
	}
	t[lin >> 12 & 511] = (u64)host | bits;
}

static void put64(u8 *p, u64 v)
{
	memcpy(p, &v, 8);
}

static void build_tables(void)
{
	static const struct { u16 sel; u64 desc; } gdt[] = {
		{ SEL_KCS, 0x00af9b000000ffff },
		{ SEL_KCS + 8, 0x00cf93000000ffff },
		{ SEL_CS32, 0x00cffb000000ffff },
		{ SEL_SS, 0x00cff3000000ffff },
		{ SEL_CS64, 0x00affb000000ffff },
	};
	u64 tss = KERNEL + TSS_OFF;

	for (unsigned i = 0; i < ARRAY_SIZE(gdt); i++)
		put64(kernel + GDT_OFF + gdt[i].sel, gdt[i].desc);
	put64(kernel + GDT_OFF + SEL_TSS, 0x0000890000000067 | (tss & 0xffffff) << 16 | (tss >> 24 & 0xff) << 56);
	put64(kernel + GDT_OFF + SEL_TSS + 8, tss >> 32);
	put64(kernel + TSS_OFF + 4, KERNEL + STACK_OFF);
	for (unsigned v = 0; v < 256; v++) {
		u64 at = KERNEL + STUB_OFF + v * 16;
		u8 *gate = kernel + IDT_OFF + v * 16;

		put64(gate, (at & 0xffff) | (u64)SEL_KCS << 16 | 0xee00ull << 32 | (at >> 16 & 0xffff) << 48);
		put64(gate + 8, at >> 32);
		kernel[STUB_OFF + v * 16] = 0xf4;
	}
}

/* One memory for all engines. */
static void build_memory(void)
{
	u8 *ro;

	pml4 = pages(1);
	kernel = pages(KPAGES);
	code = pages(2);
	data = pages(DIFF_DATA_PAGES);
	ro = pages(1);
	diff_fill(1, ro, PAGE_SIZE);
	for (unsigned i = 0; i < KPAGES; i++)
		map(KERNEL + i * PAGE_SIZE, kernel + i * PAGE_SIZE, 3);
	for (unsigned i = 0; i < 2; i++)
		map(DIFF_CODE + i * PAGE_SIZE, code + i * PAGE_SIZE, 7);
	for (unsigned i = 0; i < DIFF_DATA_PAGES; i++)
		map(DIFF_DATA + i * PAGE_SIZE, data + i * PAGE_SIZE, 7);
	map(DIFF_RO, ro, 5);
	memset(code, 0xcc, 2 * PAGE_SIZE);
	build_tables();
}

int diff_sim_init(const char *model, enum diff_engine engine)
{
	const struct x86_model *m = x86_model_find(model);

	if (!pml4)
		build_memory();
	/* Every block is translated before it is executed, unless the caller wants it otherwise. */
	setenv("USERKVM_JIT_HOT", "0", 0);
	cpus[engine] = m ? x86_cpu_new(m, engine) : NULL;
	return !cpus[engine] || x86_set_engine(cpus[engine], engine == DIFF_JIT ? X86_ENGINE_JIT : X86_ENGINE_INTERP) ? -1 : 0;
}

static void seg(struct x86_state *s, enum x86_seg n, u16 sel, u32 ar)
{
	s->seg[n] = (struct x86_segment){ .limit = 0xffffffff, .ar = ar, .sel = sel };
}

static void load(struct x86_cpu *cpu, const struct diff_case *c)
{
	struct x86_state s = { 0 };
	u8 area[4096] __attribute__((aligned(64))) = { 0 };
	u64 bv = 7;

	memcpy(s.gpr, c->in.gpr, sizeof(s.gpr));
	s.rip = c->in.rip;
	s.rflags = c->in.rflags;
	seg(&s, X86_CS, (c->bits32 ? SEL_CS32 : SEL_CS64) | 3, c->bits32 ? 0xc0fb : 0xa0fb);
	seg(&s, X86_SS, SEL_SS | 3, 0xc0f3);
	if (c->bits32) {
		seg(&s, X86_DS, SEL_SS | 3, 0xc0f3);
		seg(&s, X86_ES, SEL_SS | 3, 0xc0f3);
	} else {
		seg(&s, X86_DS, 0, X86_AR_UNUSABLE);
		seg(&s, X86_ES, 0, X86_AR_UNUSABLE);
	}
	seg(&s, X86_FS, 0, X86_AR_UNUSABLE);
	seg(&s, X86_GS, 0, X86_AR_UNUSABLE);
	seg(&s, X86_LDTR, 0, X86_AR_UNUSABLE);
	s.seg[X86_TR] = (struct x86_segment){ .base = KERNEL + TSS_OFF, .limit = 0x67, .ar = 0x8b, .sel = SEL_TSS };
	s.gdtr = (struct x86_dtable){ KERNEL + GDT_OFF, 0x4f };
	s.idtr = (struct x86_dtable){ KERNEL + IDT_OFF, 0xfff };
	s.cr0 = 0x80050033;
	s.cr3 = (u64)pml4;
	s.cr4 = 0x1506f0;	/* PSE PAE MCE PGE OSFXSR OSXMMEXCPT FSGSBASE OSXSAVE SMEP */
	s.efer = 0xd01;
	s.dr6 = 0xffff0ff0;
	s.dr7 = 0x400;
	x86_set_state(cpu, &s);

	memcpy(area, &c->in.fcw, 2);
	memcpy(area + 2, &c->in.fsw, 2);
	area[4] = c->in.ftw;
	memcpy(area + 24, &c->in.mxcsr, 4);
	for (int i = 0; i < 8; i++)
		memcpy(area + 32 + i * 16, c->in.st[i], 10);
	for (int i = 0; i < 16; i++) {
		memcpy(area + 160 + i * 16, c->in.ymm[i], 16);
		memcpy(area + 576 + i * 16, c->in.ymm[i] + 16, 16);
	}
	memcpy(area + 512, &bv, 8);
	if (x86_set_xcr0(cpu, 7) || x86_xrstor_area(cpu, area, 7))
		abort();
}

int diff_sim_run(enum diff_engine engine, const struct diff_case *c, struct diff_result *r)
{
	struct x86_cpu *cpu = cpus[engine];
	struct x86_state s;
	u8 area[4096] __attribute__((aligned(64)));
	u64 frame[6], bv;
	bool has_error;
	u8 *top = kernel + STACK_OFF;

	diff_fill(c->data_seed, data, DIFF_DATA_SIZE);
	memcpy(code + (c->in.rip - DIFF_CODE), c->code, c->len);
	memset(code + (c->in.rip - DIFF_CODE) + c->len, 0xcc, 16);
	load(cpu, c);
	/* Without a limit translated blocks are chained; the caller has a watchdog. */
	if (x86_run(cpu, engine == DIFF_JIT ? 0 : MAX_INSNS) != X86_RUN_HALT)
		return -1;
	x86_get_state(cpu, &s);
	if (s.rip < KERNEL + STUB_OFF || s.rip > KERNEL + STUB_OFF + 255 * 16 + 1)
		return -1;
	r->vector = (u8)((s.rip - 1 - KERNEL - STUB_OFF) / 16);
	has_error = r->vector == 8 || (r->vector >= 10 && r->vector <= 14) || r->vector == 17;
	memcpy(frame, top - 40, 40);
	memcpy(r->out.gpr, s.gpr, sizeof(s.gpr));
	r->out.rip = frame[0];
	r->out.rflags = frame[2];
	r->out.gpr[X86_RSP] = frame[3];
	r->error = 0;
	if (has_error) {
		memcpy(&bv, top - 48, 8);
		r->error = (u32)bv;
	}
	r->cr2 = r->vector == 14 ? s.cr2 : 0;
	memset(code + (c->in.rip - DIFF_CODE), 0xcc, c->len + 16u);

	x86_xsave_area(cpu, area, 7);
	memcpy(&bv, area + 512, 8);
	memset(&r->out.ymm, 0, sizeof(r->out.ymm));
	memset(&r->out.st, 0, sizeof(r->out.st));
	r->out.fcw = 0x37f;
	r->out.fsw = 0;
	r->out.ftw = 0;
	memcpy(&r->out.mxcsr, area + 24, 4);
	if (bv & 1) {
		memcpy(&r->out.fcw, area, 2);
		memcpy(&r->out.fsw, area + 2, 2);
		r->out.ftw = area[4];
		for (int i = 0; i < 8; i++)
			memcpy(r->out.st[i], area + 32 + i * 16, 10);
	}
	for (int i = 0; i < 16; i++) {
		if (bv & 2)
			memcpy(r->out.ymm[i], area + 160 + i * 16, 16);
		if (bv & 4)
			memcpy(r->out.ymm[i] + 16, area + 576 + i * 16, 16);
	}
	memcpy(r->data, data, DIFF_DATA_SIZE);
	return 0;
}
