/* SPDX-License-Identifier: MIT */
/* Breakpoints, single step, shadows: SDM vol. 3B "Debug Exceptions". */
#include "silicon/x86/sys/test_machine.h"

#define NOP 0x90
#define HLT 0xf4
#define MOV_SS_AX 0x8e, 0xd0

static void start(struct machine *m, enum test_mode mode, u64 flags)
{
	machine_start(m, "intel", mode, 0);
	x86_set_rflags(m->cpu, RFLAGS_1 | flags);
	m->cpu->gpr[X86_RAX] = SEL_KDATA;
}

/* Where the first #DB came: offset from the code, or -1. */
#define DB_AT(m, ...) (RUN(m, __VA_ARGS__) == X86_DB ? (int)(machine_frame(m, 0) - CODE_AT) : -1)

static void trap25_tf_is_sampled_at_the_start(void **state)
{
	struct machine m;

	start(&m, PROT32, RFLAGS_TF);
	assert_int_equal(DB_AT(&m, NOP, NOP), 1);
	assert_int_equal(m.cpu->dr6, 0xffff4ff0);
	assert_true(machine_frame(&m, 2) & RFLAGS_TF);
	assert_false(m.cpu->rflags & RFLAGS_TF);
	machine_stop(&m);

	/* POPF that sets TF: after the next instruction. push 0x102; popf; nop; nop */
	start(&m, PROT32, 0);
	assert_int_equal(DB_AT(&m, 0x68, 0x02, 0x01, 0x00, 0x00, 0x9d, NOP, NOP), 7);
	machine_stop(&m);

	/* POPF that clears it: traps once more. */
	start(&m, PROT32, RFLAGS_TF);
	poke(STACK_TOP - 4, 2, 4);
	m.cpu->gpr[X86_RSP] = STACK_TOP - 4;
	assert_int_equal(DB_AT(&m, 0x9d, NOP, NOP), 1);
	assert_false(machine_frame(&m, 2) & RFLAGS_TF);
	machine_stop(&m);

	/* Every iteration of a REP: rep outsb */
	start(&m, PROT32, RFLAGS_TF);
	m.cpu->gpr[X86_RCX] = 3;
	m.cpu->gpr[X86_RSI] = DATA_AT;
	assert_int_equal(DB_AT(&m, 0xf3, 0x6e, NOP), 0);
	assert_true(machine_frame(&m, 2) & RFLAGS_RF);
	assert_int_equal(m.cpu->gpr[X86_RCX], 2);
	machine_stop(&m);

	/* Not in the handler of INT n; the image keeps it. */
	start(&m, PROT32, RFLAGS_TF);
	assert_int_equal(RUN(&m, 0xcd, 0x30), 0x30);
	assert_true(machine_frame(&m, 2) & RFLAGS_TF);
	machine_stop(&m);

	/* An instruction that faults does not trap. */
	start(&m, PROT32, RFLAGS_TF);
	assert_int_equal(RUN(&m, 0x0f, 0x0b), X86_UD);
	machine_stop(&m);

	/* HLT does not keep the processor halted. */
	start(&m, PROT32, RFLAGS_TF);
	assert_int_equal(DB_AT(&m, HLT, NOP), 1);
	machine_stop(&m);
}

static void trap7_mov_ss_shadows_debug_traps(void **state)
{
	struct machine m;

	start(&m, PROT32, RFLAGS_TF);
	assert_int_equal(DB_AT(&m, MOV_SS_AX, NOP, NOP), 3);
	machine_stop(&m);

	/* Of two only the first shields. */
	start(&m, PROT32, RFLAGS_TF);
	assert_int_equal(DB_AT(&m, MOV_SS_AX, MOV_SS_AX, NOP), 4);
	machine_stop(&m);

	/* The STI shadow does not. */
	start(&m, PROT32, RFLAGS_TF);
	assert_int_equal(DB_AT(&m, 0xfb, NOP, NOP), 1);
	machine_stop(&m);

	/* A data breakpoint that MOV SS itself hits is held ... mov ss, [DATA_AT] */
	start(&m, PROT32, 0);
	poke(DATA_AT, SEL_KDATA, 2);
	x86_set_dr(m.cpu, 0, DATA_AT);
	x86_set_dr(m.cpu, 7, 0x70001);	/* DR0: 2 bytes, read or write */
	assert_int_equal(DB_AT(&m, 0x8e, 0x15, 0x00, 0x00, 0x05, 0x00, NOP, NOP), 7);
	assert_int_equal(m.cpu->dr6, 0xffff0ff1);
	machine_stop(&m);

	/* ... and reported at the first instruction of the handler of INT n. */
	start(&m, PROT32, 0);
	poke(DATA_AT, SEL_KDATA, 2);
	x86_set_dr(m.cpu, 0, DATA_AT);
	x86_set_dr(m.cpu, 7, 0x70001);
	assert_int_equal(RUN(&m, 0x8e, 0x15, 0x00, 0x00, 0x05, 0x00, 0xcd, 0x30), X86_DB);
	assert_int_equal(machine_frame(&m, 0), HANDLERS_AT + 0x30 * 16);
	machine_stop(&m);
}

static void shadows_hold_interrupts(void **state)
{
	struct machine m;

	/* sti; nop; nop: taken after the nop. */
	start(&m, PROT32, 0);
	x86_raise_intr(m.cpu, 0x50);
	assert_int_equal(RUN(&m, 0xfb, NOP, NOP), 0x50);
	assert_int_equal(machine_frame(&m, 0), CODE_AT + 2);
	machine_stop(&m);

	/* sti; hlt: wakes it. */
	start(&m, PROT32, 0);
	x86_raise_intr(m.cpu, 0x50);
	assert_int_equal(RUN(&m, 0xfb, HLT, NOP), 0x50);
	assert_int_equal(machine_frame(&m, 0), CODE_AT + 2);
	machine_stop(&m);

	/* IF was set: STI casts no shadow. */
	start(&m, PROT32, RFLAGS_IF);
	machine_code(&m, "\xfb\x90\x90\xf4", 4);
	assert_int_equal(x86_run(m.cpu, 1), X86_RUN_BUDGET);
	x86_raise_intr(m.cpu, 0x50);
	assert_int_equal(machine_run(&m, 10), 0x50);
	assert_int_equal(machine_frame(&m, 0), CODE_AT + 1);
	machine_stop(&m);

	/* mov ss, ax holds NMIs too. */
	start(&m, PROT32, RFLAGS_IF);
	machine_code(&m, "\x8e\xd0\x90\x90\xf4", 5);
	assert_int_equal(x86_run(m.cpu, 1), X86_RUN_BUDGET);
	x86_raise_nmi(m.cpu);
	x86_raise_intr(m.cpu, 0x50);
	assert_int_equal(machine_run(&m, 10), X86_NMI);
	assert_int_equal(machine_frame(&m, 0), CODE_AT + 3);
	machine_stop(&m);

	/* #DB first, then the interrupt if the handler has IF = 1: here it has not. */
	start(&m, PROT32, RFLAGS_TF | RFLAGS_IF);
	machine_code(&m, "\x90\x90\xf4", 3);
	machine_gate(&m, X86_DB, SEL_KCODE, HANDLERS_AT + X86_DB * 16, 0x8f, 0);
	assert_int_equal(x86_run(m.cpu, 1), X86_RUN_BUDGET);
	x86_raise_intr(m.cpu, 0x50);
	assert_int_equal(machine_run(&m, 10), 0x50);
	assert_int_equal(machine_frame(&m, 0), HANDLERS_AT + X86_DB * 16);
	machine_stop(&m);
}

static void trap11_instruction_breakpoint(void **state)
{
	struct machine m;

	start(&m, PROT32, 0);
	x86_set_dr(m.cpu, 1, CODE_AT + 1);
	x86_set_dr(m.cpu, 7, 4);
	assert_int_equal(DB_AT(&m, NOP, NOP, NOP), 1);
	assert_int_equal(m.cpu->dr6, 0xffff0ff2);
	assert_false(machine_frame(&m, 2) & RFLAGS_RF);
	machine_stop(&m);

	/* RF suppresses it for one instruction. */
	start(&m, PROT32, RFLAGS_RF);
	x86_set_dr(m.cpu, 1, CODE_AT);
	x86_set_dr(m.cpu, 7, 4);
	assert_int_equal(RUN(&m, 0xeb, 0xfe), X86_DB);	/* jmp . */
	assert_int_equal(m.cpu->insn_count, 2);		/* jmp, hlt */
	machine_stop(&m);

	/* IRET loads RF for its target, also if it ran with RF set itself. */
	start(&m, PROT32, RFLAGS_RF);
	poke(STACK_TOP - 12, CODE_AT + 1, 4);
	poke(STACK_TOP - 8, SEL_KCODE, 4);
	poke(STACK_TOP - 4, RFLAGS_1 | RFLAGS_RF, 4);
	m.cpu->gpr[X86_RSP] = STACK_TOP - 12;
	x86_set_dr(m.cpu, 1, CODE_AT + 1);
	x86_set_dr(m.cpu, 7, 4);
	assert_int_equal(RUN(&m, 0xcf, NOP, 0xeb, 0xfd), X86_DB);	/* iret; nop; jmp to the nop */
	assert_int_equal(m.cpu->insn_count, 4);
	machine_stop(&m);

	/* Not under the shadow of MOV SS. */
	start(&m, PROT32, 0);
	x86_set_dr(m.cpu, 1, CODE_AT + 2);
	x86_set_dr(m.cpu, 7, 4);
	assert_int_equal(DB_AT(&m, MOV_SS_AX, NOP, NOP), -1);
	machine_stop(&m);
}

static void data_and_io_breakpoints(void **state)
{
	/* mov [DATA_AT + n], al is A2 moffs32; mov al, [...] is A0. */
	static const struct { u8 op; u16 dr7_high; u8 at; int hit; } rows[] = {
		{ 0xa2, 0x1, 0, 5 },	/* write, 1 byte */
		{ 0xa0, 0x1, 0, -1 },	/* a read does not match "write" */
		{ 0xa0, 0x3, 0, 5 },
		{ 0xa2, 0xd, 3, 5 },	/* 4 bytes: any of them */
		{ 0xa2, 0xd, 4, -1 },
		{ 0xa2, 0x9, 7, 5 },	/* 8 bytes */
		{ 0xa2, 0x0, 0, -1 },	/* an execution breakpoint */
	};
	struct machine m;

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		u8 code[] = { rows[i].op, rows[i].at, 0, DATA_AT >> 16, 0, NOP, HLT };

		start(&m, PROT32, 0);
		x86_set_dr(m.cpu, 3, DATA_AT);
		x86_set_dr(m.cpu, 7, 0xc0 | (u64)rows[i].dr7_high << 28);
		machine_code(&m, code, sizeof(code));
		if (rows[i].hit < 0) {
			assert_int_equal(machine_run(&m, 10), -1);
		} else {
			assert_int_equal(machine_run(&m, 10), X86_DB);
			assert_int_equal(machine_frame(&m, 0), CODE_AT + rows[i].hit);
			assert_int_equal(m.cpu->dr6, 0xffff0ff8);
		}
		machine_stop(&m);
	}

	/* Merged with a single step: one #DB with both. */
	start(&m, PROT32, RFLAGS_TF);
	x86_set_dr(m.cpu, 3, DATA_AT);
	x86_set_dr(m.cpu, 7, 0x100000c0);
	assert_int_equal(DB_AT(&m, 0xa2, 0x00, 0x00, 0x05, 0x00, NOP), 5);
	assert_int_equal(m.cpu->dr6, 0xffff4ff8);
	machine_stop(&m);

	/* I/O only with CR4.DE. out 0x80, al */
	for (unsigned de = 0; de < 2; de++) {
		start(&m, PROT32, 0);
		m.cpu->cr4 = de ? CR4_DE : 0;
		x86_set_dr(m.cpu, 3, 0x80);
		x86_set_dr(m.cpu, 7, 0x200000c0);
		assert_int_equal(DB_AT(&m, 0xe6, 0x80, NOP), de ? 2 : -1);
		machine_stop(&m);
	}
}

static void debug_registers(void **state)
{
	struct machine m;

	/* mov dr7, eax: bit 10 reads 1; 12, 14, 15 read 0 */
	start(&m, PROT32, 0);
	m.cpu->gpr[X86_RAX] = 0xffffdc00;
	RUN(&m, 0x0f, 0x23, 0xf8);
	assert_int_equal(m.cpu->dr7, 0xffff0c00);
	machine_stop(&m);

	start(&m, PROT32, 0);
	m.cpu->gpr[X86_RAX] = 0xffffffff;
	RUN(&m, 0x0f, 0x23, 0xf0);
	assert_int_equal(m.cpu->dr6, 0xffffeff0 | 0xe00f);
	machine_stop(&m);

	/* Bits 63:32 */
	start(&m, LONG64, 0);
	m.cpu->gpr[X86_RAX] = BIT(32);
	assert_int_equal(RUN(&m, 0x0f, 0x23, 0xf8), X86_GP);
	machine_stop(&m);

	/* DR4: alias or #UD by CR4.DE; DR8: #UD */
	start(&m, PROT32, 0);
	RUN(&m, 0x0f, 0x21, 0xe0);
	assert_int_equal(m.cpu->gpr[X86_RAX], 0xffff0ff0);
	machine_stop(&m);
	start(&m, PROT32, 0);
	m.cpu->cr4 = CR4_DE;
	assert_int_equal(RUN(&m, 0x0f, 0x21, 0xe0), X86_UD);
	machine_stop(&m);
	start(&m, LONG64, 0);
	assert_int_equal(RUN(&m, 0x44, 0x0f, 0x21, 0xc0), X86_UD);
	machine_stop(&m);

	/* GD: #DB as a fault, GD cleared, BD set */
	start(&m, PROT32, 0);
	x86_set_dr(m.cpu, 7, DR7_GD);
	assert_int_equal(DB_AT(&m, NOP, 0x0f, 0x21, 0xc0), 1);
	assert_int_equal(m.cpu->dr6, 0xffff2ff0);
	assert_int_equal(m.cpu->dr7, 0x400);
	machine_stop(&m);

	/* BTF: no trap before the branch is taken. */
	start(&m, PROT32, RFLAGS_TF);
	m.cpu->debugctl = DEBUGCTL_BTF;
	assert_int_equal(DB_AT(&m, NOP, NOP, 0xeb, 0x01, NOP, NOP), 5);
	assert_int_equal(m.cpu->debugctl, 0);
	machine_stop(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(trap7_mov_ss_shadows_debug_traps),
		cmocka_unit_test(trap11_instruction_breakpoint),
		cmocka_unit_test(trap25_tf_is_sampled_at_the_start),
		cmocka_unit_test(shadows_hold_interrupts),
		cmocka_unit_test(data_and_io_breakpoints),
		cmocka_unit_test(debug_registers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
