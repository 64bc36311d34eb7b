/* SPDX-License-Identifier: MIT */
/* Event delivery in every mode: frames, error codes, double faults, NMI. */
#include "silicon/x86/sys/test_machine.h"

#define UD2 0x0f, 0x0b
#define HLT 0xf4
#define GATE 0x8e		/* P, DPL 0, 32/64-bit interrupt gate */

static void start(struct machine *m, enum test_mode mode, unsigned cpl)
{
	machine_start(m, "intel", mode, cpl);
}

static void trap11_fault_pushes_rf_in_each_mode(void **state)
{
	static const struct { enum test_mode mode; unsigned cpl; } rows[] = {
		{ REAL, 0 }, { VM86, 3 }, { PROT16, 0 }, { PROT32, 0 }, { PROT32, 3 },
		{ COMPAT, 0 }, { COMPAT, 3 }, { LONG64, 0 }, { LONG64, 3 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct machine m;
		u64 rip, flags;
		u16 cs;

		start(&m, rows[i].mode, rows[i].cpl);
		rip = m.cpu->rip;
		flags = x86_get_rflags(m.cpu);
		cs = m.cpu->seg[X86_CS].sel;
		assert_int_equal(RUN(&m, UD2), X86_UD);
		assert_int_equal(machine_frame(&m, 0), rip);
		assert_int_equal(machine_frame(&m, 1), cs);
		/* Real mode pushes 16 bits, which RF is not in. */
		assert_int_equal(machine_frame(&m, 2), rows[i].mode == REAL ? flags : flags | RFLAGS_RF);
		assert_int_equal(m.cpu->cpl, 0);
		assert_false(m.cpu->rflags & (RFLAGS_RF | RFLAGS_VM | RFLAGS_IF));
		machine_stop(&m);
	}
}

static void trap11_trap_pushes_no_rf(void **state)
{
	struct machine m;

	start(&m, LONG64, 0);
	machine_gate(&m, X86_BP, SEL_KCODE64, HANDLERS_AT + X86_BP * 16, 0xee, 0);
	x86_set_rflags(m.cpu, RFLAGS_1 | RFLAGS_RF);
	assert_int_equal(RUN(&m, 0xcc), X86_BP);
	assert_int_equal(machine_frame(&m, 0), CODE_AT + 1);
	assert_int_equal(machine_frame(&m, 2), RFLAGS_1);
	machine_stop(&m);
}

static void trap13_ext_bit(void **state)
{
	static const struct { enum test_mode mode; } rows[] = { { PROT32 }, { LONG64 } };

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct machine m;

		/* External interrupt: EXT = 1. */
		start(&m, rows[i].mode, 0);
		if (rows[i].mode == LONG64)
			machine_gdt(SEL_NOT_PRESENT_CODE, make_desc(0, 0xfffff, 0x1b, 0xa));
		machine_gate(&m, 0x20, SEL_NOT_PRESENT_CODE, 0, GATE, 0);
		x86_set_rflags(m.cpu, RFLAGS_1 | RFLAGS_IF);
		x86_raise_intr(m.cpu, 0x20);
		assert_int_equal(RUN(&m, 0x90, HLT), X86_NP);
		assert_int_equal(machine_frame(&m, 0), SEL_NOT_PRESENT_CODE | 1);
		machine_stop(&m);

		/* INT n: EXT = 0. */
		start(&m, rows[i].mode, 0);
		if (rows[i].mode == LONG64)
			machine_gdt(SEL_NOT_PRESENT_CODE, make_desc(0, 0xfffff, 0x1b, 0xa));
		machine_gate(&m, 0x20, SEL_NOT_PRESENT_CODE, 0, GATE, 0);
		assert_int_equal(RUN(&m, 0xcd, 0x20), X86_NP);
		assert_int_equal(machine_frame(&m, 0), SEL_NOT_PRESENT_CODE);
		machine_stop(&m);

		/* A null CS in the gate of an exception: #GP(EXT). */
		start(&m, rows[i].mode, 0);
		machine_gate(&m, X86_UD, 0, 0, GATE, 0);
		assert_int_equal(RUN(&m, UD2), X86_GP);
		assert_int_equal(machine_frame(&m, 0), 1);
		machine_stop(&m);

		/* A gate that is not present: #NP names the IDT entry. */
		start(&m, rows[i].mode, 0);
		machine_gate(&m, X86_UD, SEL_KCODE, 0, 0x0e, 0);
		assert_int_equal(RUN(&m, UD2), X86_NP);
		assert_int_equal(machine_frame(&m, 0), X86_UD * 8 + 2 + 1);
		machine_stop(&m);

		/* A type that is no gate. */
		start(&m, rows[i].mode, 0);
		machine_gate(&m, X86_UD, SEL_KCODE, 0, 0x89, 0);
		assert_int_equal(RUN(&m, UD2), X86_GP);
		assert_int_equal(machine_frame(&m, 0), X86_UD * 8 + 2 + 1);
		machine_stop(&m);
	}
}

static void trap14_long_mode_aligns_the_stack(void **state)
{
	struct machine m;

	start(&m, LONG64, 0);
	m.cpu->gpr[X86_RSP] = STACK_TOP - 3;
	assert_int_equal(RUN(&m, UD2), X86_UD);
	assert_int_equal(m.cpu->gpr[X86_RSP], STACK_TOP - 16 - 40);
	assert_int_equal(machine_frame(&m, 3), STACK_TOP - 3);
	assert_int_equal(machine_frame(&m, 4), SEL_KDATA);
	machine_stop(&m);

	/* IST at the same privilege level; SS stays. */
	start(&m, LONG64, 0);
	poke(TSS_AT + 36, IST_TOP + 8, 8);
	machine_gate(&m, X86_UD, SEL_KCODE64, HANDLERS_AT + X86_UD * 16, GATE, 1);
	assert_int_equal(RUN(&m, UD2), X86_UD);
	assert_int_equal(m.cpu->gpr[X86_RSP], IST_TOP - 40);
	assert_int_equal(m.cpu->seg[X86_SS].sel, SEL_KDATA);
	machine_stop(&m);

	/* A change of level loads a null SS. */
	start(&m, LONG64, 3);
	assert_int_equal(RUN(&m, UD2), X86_UD);
	assert_int_equal(m.cpu->gpr[X86_RSP], STACK2_TOP - 40);
	assert_int_equal(m.cpu->seg[X86_SS].sel, 0);
	assert_true(m.cpu->seg[X86_SS].ar & X86_AR_UNUSABLE);
	assert_int_equal(machine_frame(&m, 4), SEL_UDATA);
	machine_stop(&m);

	/* Not canonical: #SS with EXT, so its handler needs another stack. */
	start(&m, LONG64, 3);
	poke(TSS_AT + 4, 0x900000000000ull, 8);
	machine_gate(&m, X86_SS_FAULT, SEL_KCODE64, HANDLERS_AT + X86_SS_FAULT * 16, GATE, 1);
	assert_int_equal(RUN(&m, UD2), X86_SS_FAULT);
	assert_int_equal(machine_frame(&m, 0), 1);
	machine_stop(&m);
}

static void trap15_implicit_accesses_have_u_clear(void **state)
{
	struct machine m;

	/* The inner stack. */
	start(&m, LONG64, 3);
	poke(TSS_AT + 4, NOT_PRESENT_AT + 0x800, 8);
	machine_gate(&m, X86_PF, SEL_KCODE64, HANDLERS_AT + X86_PF * 16, GATE, 1);
	assert_int_equal(RUN(&m, UD2), X86_PF);
	assert_int_equal(machine_frame(&m, 0), 2);
	assert_int_equal(m.cpu->cr2, NOT_PRESENT_AT + 0x7f8);
	machine_stop(&m);

	/* The LDT. mov ds, eax */
	start(&m, LONG64, 3);
	m.cpu->seg[X86_LDTR].base = NOT_PRESENT_AT;
	m.cpu->gpr[X86_RAX] = SEL_LDT_DATA | 3;
	assert_int_equal(RUN(&m, 0x8e, 0xd8), X86_PF);
	assert_int_equal(machine_frame(&m, 0), 0);
	assert_int_equal(m.cpu->cr2, NOT_PRESENT_AT);
	machine_stop(&m);

	/* The accessed bit of a descriptor in a read-only page. */
	start(&m, LONG64, 3);
	m.cpu->seg[X86_LDTR].base = READ_ONLY_AT;
	poke(READ_ONLY_AT, make_desc(0, 0xfffff, 0xf2, 0xc), 8);
	m.cpu->gpr[X86_RAX] = SEL_LDT_DATA | 3;
	assert_int_equal(RUN(&m, 0x8e, 0xd8), X86_PF);
	assert_int_equal(machine_frame(&m, 0), 3);
	assert_int_equal(m.cpu->seg[X86_DS].sel, SEL_UDATA);
	machine_stop(&m);
}

static void trap24_implicit_accesses_ignore_ac(void **state)
{
	struct machine m;

	/* All pages are user pages: delivery reads the IDT under SMAP, whatever AC says. */
	start(&m, LONG64, 0);
	m.cpu->cr4 |= CR4_SMAP;
	x86_set_rflags(m.cpu, RFLAGS_1 | RFLAGS_AC);
	x86_update_mode(m.cpu);
	x86_tlb_switch(m.cpu);
	RUN(&m, UD2);
	assert_int_equal(m.result, X86_RUN_SHUTDOWN);
	machine_stop(&m);
}

static void trap40_double_fault_pairs(void **state)
{
	struct machine m;

	/* #PF while #GP is delivered: an ordinary #PF. hlt at CPL 3. */
	start(&m, LONG64, 3);
	poke(TSS_AT + 4, NOT_PRESENT_AT + 0x800, 8);
	machine_gate(&m, X86_PF, SEL_KCODE64, HANDLERS_AT + X86_PF * 16, GATE, 1);
	assert_int_equal(RUN(&m, HLT), X86_PF);
	machine_stop(&m);

	/* #NP while #GP is delivered: #DF with code 0. */
	start(&m, PROT32, 3);
	machine_gate(&m, X86_GP, SEL_KCODE, 0, 0x0e, 0);
	assert_int_equal(RUN(&m, HLT), X86_DF);
	assert_int_equal(machine_frame(&m, 0), 0);
	machine_stop(&m);

	/* #NP while #PF is delivered: #DF; CR2 is that of the #PF. mov eax, [NOT_PRESENT_AT] */
	start(&m, COMPAT, 0);
	machine_gate(&m, X86_PF, SEL_KCODE64, 0, 0x0e, 0);
	assert_int_equal(RUN(&m, 0xa1, 0x04, 0xf0, 0x07, 0x00), X86_DF);
	assert_int_equal(m.cpu->cr2, NOT_PRESENT_AT + 4);
	machine_stop(&m);

	/* A benign first event never makes #DF. */
	start(&m, PROT32, 0);
	machine_gate(&m, X86_UD, SEL_KCODE, 0, 0x0e, 0);
	assert_int_equal(RUN(&m, UD2), X86_NP);
	machine_stop(&m);

	/* A fault while #DF is delivered ends it all. */
	start(&m, PROT32, 0);
	machine_gate(&m, X86_GP, SEL_KCODE, 0, 0x0e, 0);
	machine_gate(&m, X86_DF, SEL_KCODE, 0, 0x0e, 0);
	m.cpu->gpr[X86_RAX] = 0xfff8;
	RUN(&m, 0x8e, 0xd8);
	assert_int_equal(m.result, X86_RUN_SHUTDOWN);
	machine_stop(&m);
}

static void software_interrupts_check_the_gate(void **state)
{
	struct machine m;

	start(&m, LONG64, 3);
	assert_int_equal(RUN(&m, 0xcd, 0x05), X86_GP);
	assert_int_equal(machine_frame(&m, 0), 0x2a);
	machine_stop(&m);

	start(&m, LONG64, 3);
	assert_int_equal(RUN(&m, 0xcd, 0x30), 0x30);
	assert_int_equal(machine_frame(&m, 0), USER_CODE_AT + 2);
	machine_stop(&m);

	/* INT 8 pushes no error code. */
	start(&m, PROT32, 0);
	assert_int_equal(RUN(&m, 0xcd, 0x08), 8);
	assert_int_equal(machine_frame(&m, 0), CODE_AT + 2);
	machine_stop(&m);

	/* ICEBP does not look at the gate's DPL. */
	start(&m, LONG64, 3);
	assert_int_equal(RUN(&m, 0xf1), X86_DB);
	assert_int_equal(machine_frame(&m, 0), USER_CODE_AT + 1);
	assert_int_equal(m.cpu->dr6, 0xffff0ff0);
	machine_stop(&m);

	/* In VM86 with IOPL < 3: #GP(0), before the IDT is looked at. */
	start(&m, VM86, 3);
	m.cpu->rflags &= ~RFLAGS_IOPL;
	assert_int_equal(RUN(&m, 0xcd, 0x30), X86_GP);
	assert_int_equal(machine_frame(&m, 0), 0);
	machine_stop(&m);

	/* VME: a clear bit of the redirection map sends it through the task's own table. */
	start(&m, VM86, 3);
	m.cpu->cr4 |= CR4_VME;
	m.cpu->rflags = (m.cpu->rflags & ~RFLAGS_IOPL) | RFLAGS_VIF;
	poke(TSS_AT + 102, 0x200, 2);
	poke(TSS_AT + 0x200 - 32 + 0x30 / 8, 0, 1);
	machine_code(&m, "\xcd\x30", 2);
	/* Linear address 0C0H is not memory here, so only the attempt shows. */
	machine_run(&m, 10);
	assert_int_equal(m.result, X86_RUN_BUS_ERROR);
	machine_stop(&m);
}

static void vm86_frame(void **state)
{
	struct machine m;

	start(&m, VM86, 3);
	seg_load_vm86(m.cpu, X86_FS, 0x1234);
	assert_int_equal(RUN(&m, UD2), X86_UD);
	assert_int_equal(machine_frame(&m, 3), 0xf000);
	assert_int_equal(machine_frame(&m, 4), CODE_AT >> 4);
	assert_int_equal(machine_frame(&m, 5), CODE_AT >> 4);	/* ES, DS, FS, GS */
	assert_int_equal(machine_frame(&m, 7), 0x1234);
	assert_int_equal(m.cpu->seg[X86_DS].sel, 0);
	assert_true(m.cpu->seg[X86_FS].ar & X86_AR_UNUSABLE);
	assert_int_equal(m.cpu->mode, X86_MODE_PROT);
	machine_stop(&m);

	/* Only to CPL 0. */
	start(&m, VM86, 3);
	machine_gate(&m, X86_UD, SEL_CONF, HANDLERS_AT, GATE, 0);
	assert_int_equal(RUN(&m, UD2), X86_GP);
	assert_int_equal(machine_frame(&m, 0), SEL_CONF | 1);
	machine_stop(&m);
}

static void gates_of_16_bits(void **state)
{
	struct machine m;

	start(&m, PROT16, 0);
	machine_gate(&m, 0x20, SEL_KCODE16, 0x100, 0x87, 0);	/* trap gate */
	poke(CODE_AT + 0x100, 0xf4, 1);
	x86_set_rflags(m.cpu, RFLAGS_1 | RFLAGS_IF);
	RUN(&m, 0xcd, 0x20);
	assert_int_equal(m.cpu->rip, 0x101);
	assert_int_equal(m.cpu->gpr[X86_RSP], 0xf000 - 6);
	assert_int_equal(peek(CODE_AT + 0xf000 - 6, 2), 2);
	assert_int_equal(peek(CODE_AT + 0xf000 - 4, 2), SEL_KCODE16);
	assert_true(m.cpu->rflags & RFLAGS_IF);
	machine_stop(&m);
}

static void inner_stack_faults(void **state)
{
	static const struct { u16 ss; int vector; u32 code; } rows[] = {
		{ 0, X86_TS, 1 },
		{ SEL_UDATA, X86_TS, (SEL_UDATA & ~3) | 1 },
		{ SEL_KCODE, X86_TS, SEL_KCODE | 1 },
		{ SEL_NOT_PRESENT_DATA, X86_SS_FAULT, SEL_NOT_PRESENT_DATA | 1 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct machine m;

		/* SS0 is bad for the first event; a conforming handler needs no new stack. */
		start(&m, PROT32, 3);
		poke(TSS_AT + 8, rows[i].ss, 4);
		machine_gate(&m, (u8)rows[i].vector, SEL_CONF,
			     HANDLERS_AT + (unsigned)rows[i].vector * 16, GATE, 0);
		poke(HANDLERS_AT + (unsigned)rows[i].vector * 16u, 0xfeeb, 2);	/* jmp . : HLT would fault */
		RUN(&m, UD2);
		assert_int_equal(m.cpu->rip, HANDLERS_AT + rows[i].vector * 16);
		assert_int_equal(machine_frame(&m, 0), rows[i].code);
		machine_stop(&m);
	}

	/* A TSS too short to hold the stack pointer. */
	struct machine m;

	start(&m, PROT32, 3);
	m.cpu->seg[X86_TR].limit = 8;
	machine_gate(&m, X86_TS, SEL_CONF, HANDLERS_AT + X86_TS * 16, GATE, 0);
	poke(HANDLERS_AT + X86_TS * 16, 0xfeeb, 2);
	RUN(&m, UD2);
	assert_int_equal(machine_frame(&m, 0), SEL_TSS | 1);
	machine_stop(&m);
}

static void idt_limit(void **state)
{
	struct machine m;

	start(&m, LONG64, 0);
	m.cpu->idtr.limit = 0x20 * 16 - 1;
	assert_int_equal(RUN(&m, 0xcd, 0x20), X86_GP);
	assert_int_equal(machine_frame(&m, 0), 0x20 * 8 + 2);
	machine_stop(&m);

	start(&m, REAL, 0);
	m.cpu->idtr.limit = 0x20 * 4 - 1;
	assert_int_equal(RUN(&m, 0xcd, 0x20), X86_GP);
	assert_int_equal(machine_frame(&m, 0), 0);	/* IP: no error code */
	machine_stop(&m);

	start(&m, LONG64, 0);
	m.cpu->idtr.limit = 0;
	RUN(&m, UD2);
	assert_int_equal(m.result, X86_RUN_SHUTDOWN);
	machine_stop(&m);
}

static void trap22_iret_unblocks_nmi_even_when_it_faults(void **state)
{
	struct machine m;

	start(&m, LONG64, 0);
	x86_raise_nmi(m.cpu);
	assert_int_equal(RUN(&m, 0x90, 0x90), X86_NMI);
	assert_true(m.cpu->nmi_blocked);
	/* A second one waits. The handler goes on: hlt; nop; nop; iretq to itself with NT set */
	x86_raise_nmi(m.cpu);
	assert_int_equal(x86_run(m.cpu, 0), X86_RUN_HALT);
	m.cpu->activity = X86_ACT_ACTIVE;
	m.cpu->slow &= ~(u32)X86_SLOW_HALTED;
	m.cpu->rflags |= RFLAGS_NT;
	m.cpu->idtr.limit = 0xfff;
	assert_int_equal(RUN(&m, 0x48, 0xcf), X86_NMI);
	/* It came after the #GP(0) of IRET: its frame points at the handler of #GP. */
	assert_int_equal(machine_frame(&m, 0), HANDLERS_AT + X86_GP * 16);
	machine_stop(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(trap11_fault_pushes_rf_in_each_mode),
		cmocka_unit_test(trap11_trap_pushes_no_rf),
		cmocka_unit_test(trap13_ext_bit),
		cmocka_unit_test(trap14_long_mode_aligns_the_stack),
		cmocka_unit_test(trap15_implicit_accesses_have_u_clear),
		cmocka_unit_test(trap22_iret_unblocks_nmi_even_when_it_faults),
		cmocka_unit_test(trap24_implicit_accesses_ignore_ac),
		cmocka_unit_test(trap40_double_fault_pairs),
		cmocka_unit_test(software_interrupts_check_the_gate),
		cmocka_unit_test(vm86_frame),
		cmocka_unit_test(gates_of_16_bits),
		cmocka_unit_test(inner_stack_faults),
		cmocka_unit_test(idt_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
