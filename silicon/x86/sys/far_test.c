/* SPDX-License-Identifier: MIT */
/* Segment loads, far transfers, IRET, task switch, descriptor instructions. */
#include "silicon/x86/sys/test_machine.h"

#define HLT 0xf4

static void start(struct machine *m, enum test_mode mode, unsigned cpl)
{
	machine_start(m, "intel", mode, cpl);
}

/* mov sreg, eax with @sel: the vector and error code, or -1. */
static int load(struct machine *m, unsigned sreg, u16 sel, u32 *code)
{
	u8 insn[] = { 0x8e, (u8)(0xc0 | sreg << 3) };
	int v;

	m->cpu->gpr[X86_RAX] = sel;
	machine_code(m, insn, sizeof(insn));
	v = machine_run(m, 10);
	*code = (u32)machine_frame(m, 0);
	return v;
}

static void trap6_segment_loads(void **state)
{
	static const struct {
		enum test_mode mode;
		u8 cpl, sreg;
		u16 sel;
		int vector;
		u32 code;
	} rows[] = {
		/* SS: RPL = CPL, writable data, DPL = CPL, then present. */
		{ PROT32, 0, X86_SS, SEL_KDATA, -1, 0 },
		{ PROT32, 0, X86_SS, SEL_KDATA | 1, X86_GP, SEL_KDATA },
		{ PROT32, 0, X86_SS, SEL_UDATA, X86_GP, SEL_UDATA & ~3 },
		{ PROT32, 0, X86_SS, SEL_KCODE, X86_GP, SEL_KCODE },
		{ PROT32, 0, X86_SS, SEL_RO_DATA, X86_GP, SEL_RO_DATA },
		{ PROT32, 0, X86_SS, SEL_NOT_PRESENT_DATA, X86_SS_FAULT, SEL_NOT_PRESENT_DATA },
		{ PROT32, 0, X86_SS, 0, X86_GP, 0 },
		{ LONG64, 0, X86_SS, 0, -1, 0 },
		{ LONG64, 0, X86_SS, 1, X86_GP, 0 },
		{ LONG64, 3, X86_SS, 3, X86_GP, 0 },
		/* Data. */
		{ PROT32, 0, X86_DS, 0, -1, 0 },
		{ PROT32, 0, X86_DS, SEL_UDATA, -1, 0 },
		{ PROT32, 0, X86_DS, SEL_KDATA | 3, X86_GP, SEL_KDATA },
		{ PROT32, 3, X86_DS, SEL_KDATA, X86_GP, SEL_KDATA },
		{ PROT32, 3, X86_DS, SEL_CONF, -1, 0 },
		{ PROT32, 0, X86_DS, SEL_XONLY, X86_GP, SEL_XONLY },
		{ PROT32, 0, X86_ES, SEL_TSS, X86_GP, SEL_TSS },
		{ PROT32, 0, X86_FS, SEL_NOT_PRESENT_DATA, X86_NP, SEL_NOT_PRESENT_DATA },
		{ PROT32, 0, X86_GS, 0xfff3, X86_GP, 0xfff0 },
		{ PROT32, 0, X86_GS, SEL_LDT_DATA, -1, 0 },
		{ PROT32, 0, X86_GS, 0x804, X86_GP, 0x804 },
		{ LONG64, 3, X86_DS, SEL_KDATA, X86_GP, SEL_KDATA },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct machine m;
		u32 code;

		start(&m, rows[i].mode, rows[i].cpl);
		if (rows[i].vector >= 0) {
			assert_int_equal(load(&m, rows[i].sreg, rows[i].sel, &code), rows[i].vector);
			assert_int_equal(code, rows[i].code);
		} else {
			load(&m, rows[i].sreg, rows[i].sel, &code);
			/* HLT at CPL 3 is a #GP; by then the load is done. */
			if (rows[i].cpl == 0)
				assert_int_equal(m.cpu->seg[rows[i].sreg].sel, rows[i].sel);
		}
		machine_stop(&m);
	}
}

static void null_ldt_and_accessed_bit(void **state)
{
	struct machine m;
	u32 code;

	start(&m, PROT32, 0);
	m.cpu->seg[X86_LDTR].ar = X86_AR_UNUSABLE;
	assert_int_equal(load(&m, X86_DS, 7, &code), X86_GP);
	assert_int_equal(code, 4);
	machine_stop(&m);

	start(&m, PROT32, 0);
	machine_gdt(SEL_FREE, make_desc(0x1234, 0xff, 0x92, 4));
	load(&m, X86_FS, SEL_FREE, &code);
	assert_int_equal(machine_get_gdt(SEL_FREE) >> 40 & 0xff, 0x93);
	assert_int_equal(m.cpu->seg[X86_FS].base, 0x1234);
	assert_int_equal(m.cpu->seg[X86_FS].limit, 0xff);
	assert_int_equal(m.cpu->seg[X86_FS].ar, 0x4093);
	machine_stop(&m);

	/* Real mode keeps limit and rights: "big real mode". */
	start(&m, REAL, 0);
	m.cpu->seg[X86_DS] = (struct x86_segment){ 0, 0xffffffff, 0xc093, 0 };
	load(&m, X86_DS, 0x1234, &code);
	assert_int_equal(m.cpu->seg[X86_DS].base, 0x12340);
	assert_int_equal(m.cpu->seg[X86_DS].limit, 0xffffffff);
	machine_stop(&m);

	/* A null FS clears the base on both models. */
	for (unsigned i = 0; i < 2; i++) {
		machine_start(&m, i ? "amd" : "intel", LONG64, 0);
		m.cpu->seg[X86_FS].base = 0x123456789;
		load(&m, X86_FS, 0, &code);
		assert_int_equal(m.cpu->seg[X86_FS].base, 0);
		machine_stop(&m);
	}
}

/* jmp or call far to sel:off from 32-bit code. */
static int far_to(struct machine *m, bool call, u16 sel, u32 off)
{
	u8 insn[7] = { call ? 0x9a : 0xea };

	memcpy(insn + 1, &off, 4);
	memcpy(insn + 5, &sel, 2);
	machine_code(m, insn, sizeof(insn));
	return machine_run(m, 10);
}

static void far_jumps(void **state)
{
	static const struct { enum test_mode mode; u8 cpl; u16 sel; u32 off; int vector; u32 code; } rows[] = {
		{ PROT32, 0, 0, 0, X86_GP, 0 },
		{ PROT32, 0, 0x7f8, 0, X86_GP, 0x7f8 },
		{ PROT32, 0, SEL_KDATA, 0, X86_GP, SEL_KDATA },
		{ PROT32, 0, SEL_KCODE | 1, 0, X86_GP, SEL_KCODE },
		{ PROT32, 3, SEL_KCODE, 0, X86_GP, SEL_KCODE },
		{ PROT32, 0, SEL_UCODE & ~3, 0, X86_GP, SEL_UCODE & ~3 },
		{ PROT32, 0, SEL_NOT_PRESENT_CODE, 0, X86_NP, SEL_NOT_PRESENT_CODE },
		{ PROT32, 0, SEL_KCODE16, 0x10000, X86_GP, 0 },
		{ COMPAT, 0, SEL_TSS, 0, X86_GP, SEL_TSS },
		{ COMPAT, 0, SEL_FREE, 0, X86_GP, SEL_FREE },	/* L and D */
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		for (unsigned call = 0; call < 2; call++) {
			struct machine m;
			u64 rsp;

			start(&m, rows[i].mode, rows[i].cpl);
			machine_gdt(SEL_FREE, make_desc(0, 0xfffff, 0x9b, 0xe));
			rsp = m.cpu->gpr[X86_RSP];
			assert_int_equal(far_to(&m, call, rows[i].sel, rows[i].off), rows[i].vector);
			assert_int_equal(machine_frame(&m, 0), rows[i].code);
			if (rows[i].cpl == 0 && rows[i].mode == PROT32)
				assert_int_equal(m.cpu->gpr[X86_RSP], rsp - 16);	/* nothing else was pushed */
			machine_stop(&m);
		}
	}
}

static void far_call_and_return(void **state)
{
	struct machine m;

	/* call far to 16-bit code; retf there pops 16 bits each unless 66. */
	start(&m, PROT32, 0);
	poke(CODE_AT + 0x100, 0xcb66, 2);	/* o32 retf */
	assert_int_equal(far_to(&m, true, SEL_KCODE16, 0x100), -1);
	assert_int_equal(m.cpu->rip, CODE_AT + 8);
	assert_int_equal(m.cpu->seg[X86_CS].sel, SEL_KCODE);
	assert_int_equal(m.cpu->gpr[X86_RSP], STACK_TOP);
	machine_stop(&m);

	/* Conforming code keeps the CPL. */
	start(&m, PROT32, 3);
	poke(DATA_AT, 0xfeeb, 2);
	far_to(&m, false, SEL_CONF, DATA_AT);
	assert_int_equal(m.cpu->rip, DATA_AT);
	assert_int_equal(m.cpu->cpl, 3);
	assert_int_equal(m.cpu->seg[X86_CS].sel, SEL_CONF | 3);
	machine_stop(&m);

	/* Its pushes are the program's own: #AC. */
	start(&m, PROT32, 3);
	m.cpu->cr0 |= CR0_AM;
	x86_set_rflags(m.cpu, RFLAGS_1 | RFLAGS_AC);
	x86_update_mode(m.cpu);
	m.cpu->gpr[X86_RSP] = USER_STACK_TOP - 1;
	assert_int_equal(far_to(&m, true, SEL_CONF, DATA_AT), X86_AC);
	machine_stop(&m);

	/* retf imm16 to an outer level adds the immediate to both stacks and drops DS. */
	start(&m, PROT32, 0);
	m.cpu->gpr[X86_RSP] = STACK_TOP - 24;
	poke(STACK_TOP - 24, USER_CODE_AT, 4);
	poke(STACK_TOP - 20, SEL_UCODE, 4);
	poke(STACK_TOP - 8, USER_STACK_TOP - 8, 4);
	poke(STACK_TOP - 4, SEL_UDATA, 4);
	poke(USER_CODE_AT, 0xfeeb, 2);
	RUN(&m, 0xca, 0x08, 0x00);
	assert_int_equal(m.cpu->cpl, 3);
	assert_int_equal(m.cpu->gpr[X86_RSP], USER_STACK_TOP);
	assert_int_equal(m.cpu->seg[X86_SS].sel, SEL_UDATA);
	assert_int_equal(m.cpu->seg[X86_DS].sel, 0);
	assert_true(m.cpu->seg[X86_DS].ar & X86_AR_UNUSABLE);
	machine_stop(&m);

	/* Its SS not present: #SS(ss). */
	start(&m, PROT32, 0);
	machine_gdt(SEL_FREE, make_desc(0, 0xfffff, 0x73, 0xc));
	m.cpu->gpr[X86_RSP] = STACK_TOP - 16;
	poke(STACK_TOP - 16, USER_CODE_AT, 4);
	poke(STACK_TOP - 12, SEL_UCODE, 4);
	poke(STACK_TOP - 4, SEL_FREE | 3, 4);
	assert_int_equal(RUN(&m, 0xcb), X86_SS_FAULT);
	assert_int_equal(machine_frame(&m, 0), SEL_FREE);
	machine_stop(&m);

	/* Real mode: 16-bit offset and segment. */
	start(&m, REAL, 0);
	RUN(&m, 0x9a, 0x00, 0x01, CODE_AT >> 4 & 0xff, CODE_AT >> 12);
	assert_int_equal(m.cpu->seg[X86_CS].sel, CODE_AT >> 4);
	assert_int_equal(peek(CODE_AT + 0xf000 - 4, 2), 5);
	machine_stop(&m);
}

static void into_and_out_of_64_bit_mode(void **state)
{
	struct machine m;

	/* jmp far 38:DATA_AT; there inc of a 64-bit register (48 ff c0) and hlt */
	start(&m, COMPAT, 0);
	poke(DATA_AT, 0xf4c0ff48, 4);
	m.cpu->gpr[X86_RAX] = 0xffffffff;
	far_to(&m, false, SEL_KCODE64, DATA_AT);
	assert_int_equal(m.cpu->mode, X86_MODE_64);
	assert_int_equal(m.cpu->gpr[X86_RAX], 0x100000000);
	machine_stop(&m);

	/* jmp far m16:64 (REX.W on Intel), far to a hole: #GP(0) on the jump. */
	start(&m, LONG64, 0);
	poke(DATA_AT, 0x900000000000, 8);
	poke(DATA_AT + 8, SEL_KCODE64, 2);
	m.cpu->gpr[X86_RBX] = DATA_AT;
	assert_int_equal(RUN(&m, 0x48, 0xff, 0x2b), X86_GP);
	assert_int_equal(machine_frame(&m, 0), 0);
	assert_int_equal(machine_frame(&m, 1), CODE_AT);
	machine_stop(&m);

	/* AMD ignores REX.W: m16:32. */
	machine_start(&m, "amd", LONG64, 0);
	poke(DATA_AT, USER_DATA_AT, 4);
	poke(DATA_AT + 4, SEL_KCODE64, 2);
	poke(USER_DATA_AT, HLT, 1);
	m.cpu->gpr[X86_RBX] = DATA_AT;
	RUN(&m, 0x48, 0xff, 0x2b);
	assert_int_equal(m.cpu->rip, USER_DATA_AT + 1);
	machine_stop(&m);

	/* call far m16:32 from 64-bit mode pushes 4 bytes each. */
	start(&m, LONG64, 0);
	poke(DATA_AT, USER_DATA_AT, 4);
	poke(DATA_AT + 4, SEL_KCODE64, 2);
	poke(USER_DATA_AT, HLT, 1);
	m.cpu->gpr[X86_RBX] = DATA_AT;
	RUN(&m, 0xff, 0x1b);
	assert_int_equal(m.cpu->gpr[X86_RSP], STACK_TOP - 8);
	machine_stop(&m);
}

static void call_gates(void **state)
{
	struct machine m;

	/* From CPL 3 through a 32-bit gate with two parameters. */
	start(&m, PROT32, 3);
	machine_gdt(SEL_GATE, (u64)(DATA_AT & 0xffff) | (u64)SEL_KCODE << 16 | 2ull << 32 | 0xecull << 40 |
		    (u64)(DATA_AT >> 16) << 48);
	m.cpu->gpr[X86_RSP] = USER_STACK_TOP - 8;
	poke(USER_STACK_TOP - 8, 0x1111, 4);
	poke(USER_STACK_TOP - 4, 0x2222, 4);
	poke(DATA_AT, HLT, 1);
	far_to(&m, true, SEL_GATE | 3, 0xdead);
	assert_int_equal(m.cpu->rip, DATA_AT + 1);
	assert_int_equal(m.cpu->cpl, 0);
	assert_int_equal(m.cpu->seg[X86_SS].sel, SEL_KDATA);
	assert_int_equal(m.cpu->gpr[X86_RSP], STACK2_TOP - 24);
	assert_int_equal(machine_frame(&m, 0), USER_CODE_AT + 7);
	assert_int_equal(machine_frame(&m, 1), SEL_UCODE);
	assert_int_equal(machine_frame(&m, 2), 0x1111);
	assert_int_equal(machine_frame(&m, 3), 0x2222);
	assert_int_equal(machine_frame(&m, 4), USER_STACK_TOP - 8);
	assert_int_equal(machine_frame(&m, 5), SEL_UDATA);
	machine_stop(&m);

	/* JMP may not raise the privilege; gate DPL; a gate that is not present. */
	static const struct { bool call; u8 access; int vector; u32 code; } rows[] = {
		{ false, 0xec, X86_GP, SEL_KCODE },
		{ true, 0x8c, X86_GP, SEL_GATE },
		{ true, 0x6c, X86_NP, SEL_GATE },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		start(&m, PROT32, 3);
		machine_gdt(SEL_GATE, (u64)SEL_KCODE << 16 | (u64)rows[i].access << 40);
		assert_int_equal(far_to(&m, rows[i].call, SEL_GATE | 3, 0), rows[i].vector);
		assert_int_equal(machine_frame(&m, 0), rows[i].code);
		machine_stop(&m);
	}

	/* Long mode: 16 bytes, 64-bit target, null SS, 8-byte pushes; from compatibility mode. */
	start(&m, COMPAT, 3);
	machine_gdt(SEL_GATE, (u64)(DATA_AT & 0xffff) | (u64)SEL_KCODE64 << 16 | 0xecull << 40 |
		    (u64)(DATA_AT >> 16) << 48);
	machine_gdt(SEL_GATE + 8, 0);
	poke(DATA_AT, HLT, 1);
	far_to(&m, true, SEL_GATE | 3, 0);
	assert_int_equal(m.cpu->mode, X86_MODE_64);
	assert_int_equal(m.cpu->gpr[X86_RSP], STACK2_TOP - 32);
	assert_int_equal(m.cpu->seg[X86_SS].sel, 0);
	assert_int_equal(machine_frame(&m, 3), SEL_UDATA);
	machine_stop(&m);

	/* Its type bits in the fourth dword must be 0; its target must be 64-bit code. */
	start(&m, COMPAT, 3);
	machine_gdt(SEL_GATE, (u64)SEL_KCODE64 << 16 | 0xecull << 40);
	machine_gdt(SEL_GATE + 8, BIT(40));
	assert_int_equal(far_to(&m, true, SEL_GATE | 3, 0), X86_GP);
	assert_int_equal(machine_frame(&m, 0), SEL_GATE);
	machine_stop(&m);
	start(&m, COMPAT, 3);
	machine_gdt(SEL_GATE, (u64)SEL_KCODE << 16 | 0xecull << 40);
	machine_gdt(SEL_GATE + 8, 0);
	assert_int_equal(far_to(&m, true, SEL_GATE | 3, 0), X86_GP);
	assert_int_equal(machine_frame(&m, 0), SEL_KCODE);
	machine_stop(&m);
}

/* An IRET frame of @n items of @size bytes below STACK_TOP. */
static void iret_frame(struct machine *m, unsigned size, unsigned n, const u64 *item)
{
	m->cpu->gpr[X86_RSP] = STACK_TOP - n * size;
	for (unsigned i = 0; i < n; i++)
		poke(STACK_TOP - (n - i) * size, item[i], size);
}

static void iret_rules(void **state)
{
	struct machine m;
	u64 user32[] = { USER_CODE_AT, SEL_UCODE, RFLAGS_1 | RFLAGS_IF | RFLAGS_IOPL, 0x1000, SEL_UDATA };
	u64 user64[] = { USER_CODE_AT, SEL_UCODE64, RFLAGS_1 | RFLAGS_VM, USER_STACK_TOP, SEL_UDATA };
	u64 same64[] = { DATA_AT, SEL_KCODE64, RFLAGS_1, 0x123456, 0 };
	u64 vm86[] = { 0x10, 0x7000, RFLAGS_1 | RFLAGS_VM, 0xfff0, 0x3000, 0x11, 0x22, 0x33, 0x44 };

	start(&m, PROT32, 0);
	iret_frame(&m, 4, 5, user32);
	poke(USER_CODE_AT, 0xfeeb, 2);
	RUN(&m, 0xcf);
	assert_int_equal(m.cpu->cpl, 3);
	assert_int_equal(m.cpu->gpr[X86_RSP], 0x1000);
	assert_int_equal(m.cpu->rflags & (RFLAGS_IF | RFLAGS_IOPL), RFLAGS_IF | RFLAGS_IOPL);
	assert_true(m.cpu->seg[X86_DS].ar & X86_AR_UNUSABLE);
	machine_stop(&m);

	/* Long mode ignores VM in the image. */
	start(&m, LONG64, 0);
	iret_frame(&m, 8, 5, user64);
	poke(USER_CODE_AT, 0xfeeb, 2);
	RUN(&m, 0x48, 0xcf);
	assert_int_equal(m.cpu->mode, X86_MODE_64);
	assert_int_equal(m.cpu->cpl, 3);
	assert_int_equal(m.cpu->gpr[X86_RSP], USER_STACK_TOP);
	machine_stop(&m);

	/* From 64-bit mode SS:RSP is popped at the same level too; a null SS is good. */
	start(&m, LONG64, 0);
	iret_frame(&m, 8, 5, same64);
	poke(DATA_AT, HLT, 1);
	RUN(&m, 0x48, 0xcf);
	assert_int_equal(m.cpu->gpr[X86_RSP], 0x123456);
	assert_int_equal(m.cpu->rip, DATA_AT + 1);
	machine_stop(&m);

	/* NT in long mode. */
	start(&m, LONG64, 0);
	iret_frame(&m, 8, 5, same64);
	m.cpu->rflags |= RFLAGS_NT;
	assert_int_equal(RUN(&m, 0x48, 0xcf), X86_GP);
	assert_int_equal(machine_frame(&m, 0), 0);
	machine_stop(&m);

	/* Not canonical: on the IRET. */
	start(&m, LONG64, 0);
	same64[0] = 0x900000000000;
	iret_frame(&m, 8, 5, same64);
	assert_int_equal(RUN(&m, 0x48, 0xcf), X86_GP);
	assert_int_equal(machine_frame(&m, 1), CODE_AT);
	machine_stop(&m);

	/* To virtual-8086 mode: nine doublewords. */
	start(&m, PROT32, 0);
	iret_frame(&m, 4, 9, vm86);
	poke(0x70010, 0xfeeb, 2);
	RUN(&m, 0xcf);
	assert_int_equal(m.cpu->mode, X86_MODE_VM86);
	assert_int_equal(m.cpu->seg[X86_GS].sel, 0x44);
	assert_int_equal(m.cpu->seg[X86_SS].base, 0x30000);
	assert_int_equal(m.cpu->gpr[X86_RSP], 0xfff0);
	machine_stop(&m);

	/* At CPL 3 neither IOPL nor (IOPL 0) IF change. */
	start(&m, PROT32, 3);
	m.cpu->gpr[X86_RSP] = USER_STACK_TOP - 12;
	poke(USER_STACK_TOP - 12, USER_CODE_AT + 1, 4);
	poke(USER_STACK_TOP - 8, SEL_UCODE, 4);
	poke(USER_STACK_TOP - 4, RFLAGS_1 | RFLAGS_IF | RFLAGS_IOPL | RFLAGS_AC, 4);
	RUN(&m, 0xcf, 0xeb, 0xfe);
	assert_int_equal(x86_get_rflags(m.cpu), RFLAGS_1 | RFLAGS_AC);
	machine_stop(&m);

	/* VM86 with IOPL < 3 */
	start(&m, VM86, 3);
	m.cpu->rflags &= ~RFLAGS_IOPL;
	assert_int_equal(RUN(&m, 0xcf), X86_GP);
	machine_stop(&m);
}

/* ---- Tasks ---- */

static void make_task2(u16 cs, u16 ss, u32 eip)
{
	poke(TSS2_AT + 32, eip, 4);
	poke(TSS2_AT + 36, RFLAGS_1, 4);
	poke(TSS2_AT + 40, 0xabcd, 4);		/* EAX */
	poke(TSS2_AT + 56, STACK2_TOP, 4);	/* ESP */
	poke(TSS2_AT + 72, SEL_KDATA, 4);
	poke(TSS2_AT + 76, cs, 4);
	poke(TSS2_AT + 80, ss, 4);
	poke(TSS2_AT + 84, SEL_KDATA, 4);
	poke(TASK2_CODE_AT, HLT, 1);
}

static void trap38_task_switch(void **state)
{
	struct machine m;

	/* call: link, NT, both busy; back by iret. */
	start(&m, PROT32, 0);
	make_task2(SEL_KCODE, SEL_KDATA, TASK2_CODE_AT);
	poke(TASK2_CODE_AT, 0xcf, 1);
	x86_set_dr(m.cpu, 7, 0x155);
	far_to(&m, true, SEL_TSS2, 0);
	assert_int_equal(m.cpu->rip, CODE_AT + 8);	/* back, and halted */
	assert_int_equal(m.cpu->seg[X86_TR].sel, SEL_TSS);
	assert_int_equal(peek(TSS2_AT, 2), SEL_TSS);
	assert_int_equal(machine_get_gdt(SEL_TSS2) >> 40 & 0xf, 9);
	assert_int_equal(machine_get_gdt(SEL_TSS) >> 40 & 0xf, 0xb);
	assert_int_equal(peek(TSS2_AT + 32, 4), TASK2_CODE_AT + 1);
	assert_false(peek(TSS2_AT + 36, 4) & RFLAGS_NT);
	assert_true(m.cpu->cr0 & CR0_TS);
	assert_int_equal(m.cpu->dr7, 0x400);
	machine_stop(&m);

	/* jmp: the old one becomes available, no link, registers of the new task. */
	start(&m, PROT32, 0);
	make_task2(SEL_KCODE, SEL_KDATA, TASK2_CODE_AT);
	far_to(&m, false, SEL_TSS2, 0);
	assert_int_equal(m.cpu->rip, TASK2_CODE_AT + 1);
	assert_int_equal(m.cpu->gpr[X86_RAX], 0xabcd);
	assert_int_equal(machine_get_gdt(SEL_TSS) >> 40 & 0xf, 9);
	assert_int_equal(machine_get_gdt(SEL_TSS2) >> 40 & 0xf, 0xb);
	assert_false(m.cpu->rflags & RFLAGS_NT);
	assert_int_equal(peek(TSS_AT + 32, 4), CODE_AT + 7);
	machine_stop(&m);

	/* A fault after the commit belongs to the new task. */
	start(&m, PROT32, 0);
	make_task2(SEL_NOT_PRESENT_CODE, SEL_KDATA, TASK2_CODE_AT);
	assert_int_equal(far_to(&m, false, SEL_TSS2, 0), X86_NP);
	assert_int_equal(machine_frame(&m, 0), SEL_NOT_PRESENT_CODE);
	assert_int_equal(machine_frame(&m, 1), TASK2_CODE_AT);
	assert_int_equal(m.cpu->seg[X86_TR].sel, SEL_TSS2);
	machine_stop(&m);

	/* Before it: the old task's. */
	static const struct { u64 desc; int vector; } rows[] = {
		{ 0, X86_GP }, { 0x8b, X86_GP }, { 0x09, X86_NP }, { 0x89, X86_TS },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		start(&m, PROT32, 0);
		make_task2(SEL_KCODE, SEL_KDATA, TASK2_CODE_AT);
		machine_gdt(SEL_TSS2, make_desc(TSS2_AT, rows[i].vector == X86_TS ? 0x66 : 0x67,
						(u8)rows[i].desc, 0));
		assert_int_equal(far_to(&m, false, SEL_TSS2, 0), rows[i].vector);
		assert_int_equal(machine_frame(&m, 0), SEL_TSS2);
		assert_int_equal(m.cpu->seg[X86_TR].sel, SEL_TSS);
		machine_stop(&m);
	}

	/* Through a task gate in the IDT, with an error code on the new stack. */
	start(&m, PROT32, 0);
	make_task2(SEL_KCODE, SEL_KDATA, TASK2_CODE_AT);
	machine_gate(&m, X86_NP, SEL_TSS2, 0, 0x85, 0);
	m.cpu->gpr[X86_RAX] = SEL_NOT_PRESENT_DATA;
	RUN(&m, 0x8e, 0xd8);
	assert_int_equal(m.cpu->rip, TASK2_CODE_AT + 1);
	assert_int_equal(m.cpu->gpr[X86_RSP], STACK2_TOP - 4);
	assert_int_equal(machine_frame(&m, 0), SEL_NOT_PRESENT_DATA);
	assert_int_equal(peek(TSS_AT + 32, 4), CODE_AT);	/* the faulting instruction */
	assert_true(peek(TSS_AT + 36, 4) & RFLAGS_RF);
	assert_true(m.cpu->rflags & RFLAGS_NT);
	machine_stop(&m);

	/* T flag: #DB before the first instruction. */
	start(&m, PROT32, 0);
	make_task2(SEL_KCODE, SEL_KDATA, TASK2_CODE_AT);
	poke(TSS2_AT + 100, 1, 2);
	assert_int_equal(far_to(&m, false, SEL_TSS2, 0), X86_DB);
	assert_int_equal(machine_frame(&m, 0), TASK2_CODE_AT);
	assert_int_equal(m.cpu->dr6, 0xffff8ff0);
	machine_stop(&m);

	/* A 16-bit TSS: upper halves all ones, FS and GS null. */
	start(&m, PROT32, 0);
	machine_gdt(SEL_TSS2, make_desc(TSS2_AT, 0x2b, 0x81, 0));
	poke(TSS2_AT + 14, 0x100, 2);
	poke(TSS2_AT + 16, 2, 2);
	poke(TSS2_AT + 18, 0x1234, 2);
	poke(TSS2_AT + 26, 0xe000, 2);
	poke(TSS2_AT + 36, SEL_KCODE16, 2);
	poke(TSS2_AT + 38, SEL_KDATA16, 2);
	poke(CODE_AT + 0x100, HLT, 1);
	far_to(&m, false, SEL_TSS2, 0);
	assert_int_equal(m.cpu->rip, 0x101);
	assert_int_equal(m.cpu->gpr[X86_RAX], 0xffff1234);
	assert_int_equal(m.cpu->seg[X86_FS].sel, 0);
	machine_stop(&m);
}

/* ---- LGDT and friends ---- */

static void trap10_table_bases_are_checked_at_load(void **state)
{
	static const struct { u8 insn[3]; } tables[] = { { { 0x0f, 0x01, 0x13 } }, { { 0x0f, 0x01, 0x1b } } };
	struct machine m;

	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
		/* Against 57 bits although LA57 is off. */
		static const struct { u64 base; int vector; } rows[] = {
			{ 0x0100000000000000, X86_GP }, { 0x00ff000000000000, -1 },
			{ 0xff00000000000000, -1 }, { 0xfe00000000000000, X86_GP },
		};
		for (unsigned j = 0; j < ARRAY_SIZE(rows); j++) {
			start(&m, LONG64, 0);
			poke(DATA_AT, 0x7f, 2);
			poke(DATA_AT + 2, rows[j].base, 8);
			m.cpu->gpr[X86_RBX] = DATA_AT;
			machine_code(&m, tables[i].insn, 3);
			assert_int_equal(machine_run(&m, 1), -1);
			if (rows[j].vector >= 0)
				assert_int_equal(machine_run(&m, 5), rows[j].vector);
			else
				assert_int_equal((i ? m.cpu->idtr : m.cpu->gdtr).base, rows[j].base);
			machine_stop(&m);
		}
	}

	/* lldt ax, ltr ax: base in the descriptor, error code = selector. */
	for (unsigned ltr = 0; ltr < 2; ltr++) {
		start(&m, LONG64, 0);
		machine_gdt(SEL_GATE, make_desc(0, 0xff, ltr ? 0x89 : 0x82, 0));
		machine_gdt(SEL_GATE + 8, 0x01000000);
		m.cpu->gpr[X86_RAX] = SEL_GATE;
		assert_int_equal(ltr ? RUN(&m, 0x0f, 0x00, 0xd8) : RUN(&m, 0x0f, 0x00, 0xd0), X86_GP);
		assert_int_equal(machine_frame(&m, 0), SEL_GATE);
		machine_stop(&m);
	}
}

static void lldt_and_ltr(void **state)
{
	struct machine m;

	start(&m, PROT32, 0);
	machine_gdt(SEL_FREE, make_desc(0x1000, 0x67, 0x89, 0));
	m.cpu->gpr[X86_RAX] = SEL_FREE;
	RUN(&m, 0x0f, 0x00, 0xd8);
	assert_int_equal(m.cpu->seg[X86_TR].sel, SEL_FREE);
	assert_int_equal(m.cpu->seg[X86_TR].ar, 0x8b);
	assert_int_equal(machine_get_gdt(SEL_FREE) >> 40 & 0xff, 0x8b);
	machine_stop(&m);

	static const struct { bool ltr; u16 sel; u8 access; int vector; } rows[] = {
		{ true, 0, 0, X86_GP }, { true, SEL_FREE, 0x8b, X86_GP }, { true, SEL_FREE, 0x09, X86_NP },
		{ true, SEL_FREE | 4, 0x89, X86_GP }, { false, SEL_FREE, 0x89, X86_GP },
		{ false, SEL_FREE, 0x02, X86_NP }, { false, 0x7f8, 0, X86_GP },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		start(&m, PROT32, 0);
		machine_gdt(SEL_FREE, make_desc(0x1000, 0x67, rows[i].access, 0));
		m.cpu->gpr[X86_RAX] = rows[i].sel;
		assert_int_equal(rows[i].ltr ? RUN(&m, 0x0f, 0x00, 0xd8) : RUN(&m, 0x0f, 0x00, 0xd0),
				 rows[i].vector);
		assert_int_equal(machine_frame(&m, 0), rows[i].sel);
		machine_stop(&m);
	}

	/* A null LDT is good; real mode has neither. */
	start(&m, PROT32, 0);
	m.cpu->gpr[X86_RAX] = 0;
	RUN(&m, 0x0f, 0x00, 0xd0);
	assert_true(m.cpu->seg[X86_LDTR].ar & X86_AR_UNUSABLE);
	machine_stop(&m);
	start(&m, REAL, 0);
	assert_int_equal(RUN(&m, 0x0f, 0x00, 0xd0), X86_UD);
	machine_stop(&m);
}

static void lar_lsl_verr_verw(void **state)
{
	/* ecx = lar/lsl of eax; verr/verw ax */
	static const struct { u8 b1, b2, b3; u8 cpl; u16 sel; bool zf; u32 ecx; } rows[] = {
		{ 0x0f, 0x02, 0xc8, 3, SEL_UCODE64, true, 0x00affb00 },
		{ 0x0f, 0x02, 0xc8, 3, SEL_UDATA, true, 0x00cff300 },
		{ 0x0f, 0x02, 0xc8, 3, SEL_KDATA, false, 0x5555 },
		{ 0x0f, 0x02, 0xc8, 3, 0, false, 0x5555 },
		{ 0x0f, 0x02, 0xc8, 3, SEL_CONF, true, 0x00cf9f00 },
		{ 0x0f, 0x02, 0xc8, 0, SEL_TSS, true, 0x00008b00 },
		{ 0x0f, 0x03, 0xc8, 0, SEL_TSS, true, 0x7ff },
		{ 0x0f, 0x03, 0xc8, 3, SEL_UDATA, true, 0xffffffff },
		{ 0x0f, 0x03, 0xc8, 0, SEL_GATE, false, 0x5555 },
		{ 0x0f, 0x02, 0xc8, 0, SEL_GATE, true, 0x00008c00 },
		{ 0x0f, 0x00, 0xe0, 3, SEL_UDATA, true, 0x5555 },
		{ 0x0f, 0x00, 0xe0, 0, SEL_XONLY, false, 0x5555 },
		{ 0x0f, 0x00, 0xe8, 3, SEL_UDATA, true, 0x5555 },
		{ 0x0f, 0x00, 0xe8, 0, SEL_RO_DATA, false, 0x5555 },
		{ 0x0f, 0x00, 0xe8, 0, SEL_KCODE, false, 0x5555 },
		{ 0x0f, 0x00, 0xe8, 0, 0x7f8, false, 0x5555 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		u8 code[] = { rows[i].b1, rows[i].b2, rows[i].b3 };
		struct machine m;

		start(&m, PROT32, rows[i].cpl);
		machine_gdt(SEL_GATE, 0x8cull << 40);
		m.cpu->gpr[X86_RAX] = rows[i].sel;
		m.cpu->gpr[X86_RCX] = 0x5555;
		x86_set_rflags(m.cpu, RFLAGS_1 | RFLAGS_CF);
		machine_code(&m, code, sizeof(code));
		assert_int_equal(x86_run(m.cpu, 1), X86_RUN_BUDGET);
		assert_int_equal(x86_zf(m.cpu), rows[i].zf);
		assert_true(x86_cf(m.cpu));
		assert_int_equal(m.cpu->gpr[X86_RCX], rows[i].ecx);
		machine_stop(&m);
	}
}

static void umip_and_stores(void **state)
{
	static const u8 insns[][3] = {
		{ 0x0f, 0x01, 0x03 }, { 0x0f, 0x01, 0x0b }, { 0x0f, 0x00, 0xc0 },
		{ 0x0f, 0x00, 0xc8 }, { 0x0f, 0x01, 0xe0 },
	};
	struct machine m;

	for (unsigned i = 0; i < ARRAY_SIZE(insns); i++) {
		for (unsigned umip = 0; umip < 2; umip++) {
			start(&m, LONG64, 3);
			if (umip)
				m.cpu->cr4 |= CR4_UMIP;
			m.cpu->gpr[X86_RBX] = DATA_AT;
			m.cpu->gpr[X86_RAX] = ~0ull;
			machine_code(&m, insns[i], 3);
			assert_int_equal(x86_run(m.cpu, 1), X86_RUN_BUDGET);
			assert_int_equal(m.cpu->cpl, umip ? 0 : 3);
			if (!umip && i == 0)
				assert_int_equal(peek(DATA_AT + 2, 8), GDT_AT);
			if (!umip && i == 3)
				assert_int_equal(m.cpu->gpr[X86_RAX], SEL_TSS);	/* str eax: zero-extended */
			if (!umip && i == 4)
				assert_int_equal(m.cpu->gpr[X86_RAX], (u32)m.cpu->cr0);
			machine_stop(&m);
		}
	}
}

static void sreg_push_pop_and_pointers(void **state)
{
	struct machine m;

	/* push fs in 32-bit code writes two of four bytes */
	start(&m, PROT32, 0);
	poke(STACK_TOP - 4, 0xffffffff, 4);
	RUN(&m, 0x0f, 0xa0);
	assert_int_equal(m.cpu->gpr[X86_RSP], STACK_TOP - 4);
	assert_int_equal(peek(STACK_TOP - 4, 4), 0xffff0000 | SEL_KDATA);
	machine_stop(&m);
	machine_start(&m, "amd", PROT32, 0);
	poke(STACK_TOP - 4, 0xffffffff, 4);
	RUN(&m, 0x0f, 0xa0);
	assert_int_equal(peek(STACK_TOP - 4, 4), SEL_KDATA);
	machine_stop(&m);

	/* A pop that faults leaves ESP alone. */
	start(&m, PROT32, 0);
	m.cpu->gpr[X86_RSP] = STACK_TOP - 4;
	poke(STACK_TOP - 4, SEL_NOT_PRESENT_DATA, 4);
	assert_int_equal(RUN(&m, 0x1f), X86_NP);
	assert_int_equal(m.cpu->gpr[X86_RSP], STACK_TOP - 4 - 16);
	machine_stop(&m);

	/* mov eax, ds zero-extends; with 66 it keeps the rest. */
	start(&m, LONG64, 0);
	m.cpu->gpr[X86_RAX] = m.cpu->gpr[X86_RCX] = ~0ull;
	RUN(&m, 0x8c, 0xd8, 0x66, 0x8c, 0xd9);
	assert_int_equal(m.cpu->gpr[X86_RAX], SEL_KDATA);
	assert_int_equal(m.cpu->gpr[X86_RCX], (~0ull & ~0xffffull) | SEL_KDATA);
	machine_stop(&m);

	/* mov cs, ax and segment 6: #UD */
	start(&m, PROT32, 0);
	assert_int_equal(RUN(&m, 0x8e, 0xc8), X86_UD);
	machine_stop(&m);
	start(&m, PROT32, 0);
	assert_int_equal(RUN(&m, 0x8e, 0xf0), X86_UD);
	machine_stop(&m);

	/* lss esp, [ebx]; les with a bad selector changes nothing */
	start(&m, PROT32, 0);
	poke(DATA_AT, 0x31000, 4);
	poke(DATA_AT + 4, SEL_KDATA, 2);
	m.cpu->gpr[X86_RBX] = DATA_AT;
	RUN(&m, 0x0f, 0xb2, 0x23);
	assert_int_equal(m.cpu->gpr[X86_RSP], 0x31000);
	machine_stop(&m);
	start(&m, PROT32, 0);
	poke(DATA_AT + 4, SEL_NOT_PRESENT_DATA, 2);
	m.cpu->gpr[X86_RBX] = DATA_AT;
	m.cpu->gpr[X86_RAX] = 77;
	assert_int_equal(RUN(&m, 0xc4, 0x03), X86_NP);
	assert_int_equal(m.cpu->gpr[X86_RAX], 77);
	machine_stop(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(trap6_segment_loads),
		cmocka_unit_test(trap10_table_bases_are_checked_at_load),
		cmocka_unit_test(trap38_task_switch),
		cmocka_unit_test(null_ldt_and_accessed_bit),
		cmocka_unit_test(far_jumps),
		cmocka_unit_test(far_call_and_return),
		cmocka_unit_test(into_and_out_of_64_bit_mode),
		cmocka_unit_test(call_gates),
		cmocka_unit_test(iret_rules),
		cmocka_unit_test(lldt_and_ltr),
		cmocka_unit_test(lar_lsl_verr_verw),
		cmocka_unit_test(umip_and_stores),
		cmocka_unit_test(sreg_push_pop_and_pointers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
