/* SPDX-License-Identifier: MIT */
/* The machine of test_machine.h. */
#include "silicon/x86/sys/test_machine.h"

#include <sys/mman.h>

#define RAM_BASE 0x10000ul
#define RAM_SIZE 0x100000ul

#define HANDLER_SIZE 16

void machine_gdt(u16 sel, u64 desc)
{
	poke(GDT_AT + (sel & ~7u), desc, 8);
}

u64 machine_get_gdt(u16 sel)
{
	return peek(GDT_AT + (sel & ~7u), 8);
}

static bool long_mode(enum test_mode mode)
{
	return mode == COMPAT || mode == LONG64;
}

void machine_gate(struct machine *m, u8 vector, u16 sel, u32 off, u8 access, unsigned ist)
{
	u64 v = (off & 0xffff) | (u64)sel << 16 | (u64)ist << 32 | (u64)access << 40 |
		(u64)(off >> 16) << 48;

	if (m->mode == REAL) {
		poke(IDT_AT + vector * 4u, off | (u32)sel << 16, 4);
	} else if (long_mode(m->mode)) {
		poke(IDT_AT + vector * 16u, v, 8);
		poke(IDT_AT + vector * 16u + 8, 0, 8);
	} else {
		poke(IDT_AT + vector * 8u, v, 8);
	}
}

static void build_gdt(enum test_mode mode)
{
	static const struct { u16 sel; u8 access, flags; } flat[] = {
		{ SEL_KCODE, 0x9b, 0xc }, { SEL_KDATA, 0x93, 0xc },
		{ SEL_UCODE, 0xfb, 0xc }, { SEL_UDATA, 0xf3, 0xc },
		{ SEL_KCODE64, 0x9b, 0xa }, { SEL_UCODE64, 0xfb, 0xa },
		{ SEL_CONF, 0x9f, 0xc }, { SEL_NOT_PRESENT_DATA, 0x13, 0xc },
		{ SEL_NOT_PRESENT_CODE, 0x1b, 0xc }, { SEL_RO_DATA, 0x91, 0xc },
		{ SEL_XONLY, 0x99, 0xc },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(flat); i++)
		machine_gdt(flat[i].sel, make_desc(0, 0xfffff, flat[i].access, flat[i].flags));
	machine_gdt(SEL_KCODE16, make_desc(CODE_AT, 0xffff, 0x9b, 0));
	machine_gdt(SEL_KDATA16, make_desc(CODE_AT, 0xffff, 0x93, 0));
	machine_gdt(SEL_TSS, make_desc(TSS_AT, 0x7ff, 0x8b, 0));
	machine_gdt(SEL_LDT, make_desc(LDT_AT, 0xff, 0x82, 0));
	if (!long_mode(mode))
		machine_gdt(SEL_TSS2, make_desc(TSS2_AT, 0x67, 0x89, 0));
	poke(LDT_AT, make_desc(0, 0xfffff, 0xf3, 0xc), 8);
}

static void build_tss(enum test_mode mode)
{
	if (long_mode(mode)) {
		poke(TSS_AT + 4, STACK2_TOP, 8);
		poke(TSS_AT + 36, IST_TOP, 8);
	} else {
		poke(TSS_AT + 4, STACK2_TOP, 4);
		poke(TSS_AT + 8, SEL_KDATA, 4);
	}
	poke(TSS_AT + 102, 0x200, 2);
	memset((void *)(TSS_AT + 0x200ul), 0xff, 0x400);
}

static u16 handler_cs(enum test_mode mode)
{
	return mode == REAL ? HANDLERS_AT >> 4 : long_mode(mode) ? SEL_KCODE64 : SEL_KCODE;
}

static void build_idt(struct machine *m)
{
	for (unsigned v = 0; v < 256; v++) {
		u32 at = v * HANDLER_SIZE + (m->mode == REAL ? 0 : HANDLERS_AT);

		poke(HANDLERS_AT + v * HANDLER_SIZE, 0xf4, 1);
		/* INT 30H-3FH may be called from user code. */
		machine_gate(m, (u8)v, handler_cs(m->mode), at, v >= 0x30 && v < 0x40 ? 0xee : 0x8e, 0);
	}
}

/* Identity mapping of the first 2 MiB in 4 KiB pages, all user-accessible but two. */
static void build_paging(void)
{
	poke(PML4_AT, PDPT_AT | 7, 8);
	poke(PDPT_AT, PD_AT | 7, 8);
	poke(PD_AT, PT_AT | 7, 8);
	for (u64 i = 0; i < 512; i++)
		poke(PT_AT + i * 8, i << 12 | 7, 8);
	poke(PT_AT + (READ_ONLY_AT >> 12) * 8, READ_ONLY_AT | 5, 8);
	poke(PT_AT + (NOT_PRESENT_AT >> 12) * 8, 0, 8);
}

static struct x86_segment segment(u16 sel)
{
	struct desc d = { .lo = (u32)machine_get_gdt(sel), .hi = (u32)(machine_get_gdt(sel) >> 32) };

	return desc_segment(&d, sel);
}

static void set_protected(struct machine *m, unsigned cpl)
{
	struct x86_cpu *cpu = m->cpu;
	u16 data = cpl ? SEL_UDATA : m->mode == PROT16 ? SEL_KDATA16 : SEL_KDATA;
	u16 code = m->mode == PROT16 ? SEL_KCODE16 : m->mode == LONG64 ?
		   cpl ? SEL_UCODE64 : SEL_KCODE64 : cpl ? SEL_UCODE : SEL_KCODE;

	cpu->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_WP;
	if (long_mode(m->mode)) {
		cpu->cr0 |= CR0_PG;
		cpu->cr4 = CR4_PAE;
		cpu->cr3 = PML4_AT;
		cpu->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
	}
	for (unsigned i = 0; i < X86_NR_SREGS; i++)
		cpu->seg[i] = segment(data);
	cpu->seg[X86_CS] = segment(code);
	cpu->seg[X86_TR] = segment(SEL_TSS);
	cpu->seg[X86_LDTR] = segment(SEL_LDT);
	cpu->rip = m->mode == PROT16 ? 0 : cpl ? USER_CODE_AT : CODE_AT;
	cpu->gpr[X86_RSP] = m->mode == PROT16 ? 0xf000 : cpl ? USER_STACK_TOP : STACK_TOP;
	cpu->cpl = (u8)cpl;
}

void machine_start(struct machine *m, const char *model, enum test_mode mode, unsigned cpl)
{
	struct x86_cpu *cpu;
	void *ram = mmap((void *)RAM_BASE, RAM_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	assert_ptr_equal(ram, (void *)RAM_BASE);
	m->mode = mode;
	m->cpu = cpu = x86_cpu_new(x86_model_find(model), 0);
	assert_non_null(cpu);
	build_gdt(mode);
	build_tss(mode);
	build_idt(m);
	build_paging();
	cpu->gdtr = (struct x86_dtable){ GDT_AT, GDT_LIMIT };
	cpu->idtr = (struct x86_dtable){ IDT_AT, 0xfff };
	if (mode == REAL) {
		cpu->seg[X86_CS] = (struct x86_segment){ CODE_AT, 0xffff, 0x93, CODE_AT >> 4 };
		cpu->seg[X86_SS] = (struct x86_segment){ CODE_AT, 0xffff, 0x93, CODE_AT >> 4 };
		cpu->rip = 0;
		cpu->gpr[X86_RSP] = 0xf000;
	} else {
		set_protected(m, mode == VM86 ? 3 : cpl);
	}
	if (mode == VM86) {
		x86_set_rflags(cpu, RFLAGS_1 | RFLAGS_VM | RFLAGS_IOPL);
		for (unsigned i = 0; i < X86_NR_SREGS; i++)
			seg_load_vm86(cpu, i, CODE_AT >> 4);
		cpu->rip = 0;
		cpu->gpr[X86_RSP] = 0xf000;
	}
	x86_update_mode(cpu);
	x86_tlb_switch(cpu);
	x86_tlb_flush_all(cpu);
}

void machine_stop(struct machine *m)
{
	x86_cpu_free(m->cpu);
	munmap((void *)RAM_BASE, RAM_SIZE);
}

void machine_code(struct machine *m, const void *code, unsigned len)
{
	memcpy((void *)(m->cpu->seg_base[X86_CS] + m->cpu->rip), code, len);
	/* HLT behind it, so that a test that goes on by mistake stops. */
	poke(m->cpu->seg_base[X86_CS] + m->cpu->rip + len, 0xf4, 1);
}

int machine_run(struct machine *m, unsigned max)
{
	struct x86_cpu *cpu = m->cpu;
	u64 lin;

	m->result = x86_run(cpu, max);
	lin = cpu->seg_base[X86_CS] + cpu->rip;
	if (m->result != X86_RUN_HALT || lin < HANDLERS_AT || lin > HANDLERS_AT + 256 * HANDLER_SIZE)
		return -1;
	return (int)((lin - HANDLERS_AT) / HANDLER_SIZE);
}

u64 machine_frame(struct machine *m, unsigned n)
{
	unsigned size = long_mode(m->mode) ? 8 : m->mode == REAL ? 2 : 4;

	return peek(m->cpu->seg_base[X86_SS] + (m->cpu->gpr[X86_RSP] & m->cpu->sp_mask) + n * size, size);
}
