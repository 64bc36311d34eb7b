/* SPDX-License-Identifier: MIT */
/* Counters in root mode: what they count, when they overflow, who may read them. */
#include <unistd.h>

#include "silicon/x86/sys/test_machine.h"

#define PMC(n) (0xc1u + (n))
#define A_PMC(n) (0x4c1u + (n))
#define EVTSEL(n) (0x186u + (n))
#define FIXED(n) (0x309u + (n))
#define FIXED_CTRL 0x38du
#define STATUS 0x38eu
#define GLOBAL_CTRL 0x38fu
#define OVF_CTRL 0x390u
#define DEBUGCTL 0x1d9u

#define USR (1u << 16)
#define OS (1u << 17)
#define EDGE (1u << 18)
#define INT (1u << 20)
#define EN (1u << 22)
#define INV (1u << 23)
#define CMASK(n) ((u32)(n) << 24)
#define ALL (USR | OS | EN)
#define CYCLES 0x3cu
#define INSNS 0xc0u
#define BRANCHES 0xc4u

#define ALL_ON 0x7000000ffull
#define TOP (1ull << 48)
#define PMI 0x50

static void set(struct machine *m, u32 msr, u64 v)
{
	assert_int_equal(x86_wrmsr(m->cpu, msr, v), 0);
}

static u64 get(struct machine *m, u32 msr)
{
	u64 v = 0;

	assert_int_equal(x86_rdmsr(m->cpu, msr, &v), 0);
	return v;
}

static void start(struct machine *m, unsigned cpl)
{
	machine_start(m, "intel", LONG64, cpl);
	set(m, GLOBAL_CTRL, 0);
}

/* mov ecx, 1000; 1: nop; dec ecx; jnz 1b; hlt */
#define LOOPS 1000u
static const u8 loop_code[] = { 0xb9, LOOPS & 0xff, LOOPS >> 8, 0, 0, 0x90, 0xff, 0xc9, 0x75, 0xfb };
#define LOOP_INSNS (1 + 3 * LOOPS + 1)

/* Out of the HLT, to other code. */
static void restart(struct machine *m)
{
	m->cpu->rip = CODE_AT;
	m->cpu->activity = X86_ACT_ACTIVE;
	m->cpu->slow &= ~(u32)X86_SLOW_HALTED;
	x86_pmu_wake(m->cpu);
	x86_code_changed(m->cpu);
}

static void again(struct machine *m)
{
	restart(m);
	machine_code(m, loop_code, sizeof(loop_code));
	machine_run(m, 0);
	assert_int_equal(m->result, X86_RUN_HALT);
}

/* ---- What is counted ---- */

static void a_loop_is_counted_exactly(void **state)
{
	static const struct { u32 sel; u64 count; } rows[] = {
		{ INSNS | ALL, LOOP_INSNS }, { BRANCHES | ALL, LOOPS },
		{ INSNS | OS | EN, LOOP_INSNS }, { INSNS | USR | EN, 0 }, { INSNS | USR | OS, 0 },
		{ INSNS | EN, 0 },
		/* One at most in a cycle, never two in a row. */
		{ INSNS | ALL | CMASK(1), LOOP_INSNS }, { INSNS | ALL | CMASK(2), 0 },
		{ INSNS | ALL | EDGE, LOOP_INSNS }, { BRANCHES | ALL | EDGE | CMASK(1), LOOPS },
		{ INSNS | ALL | EDGE | INV | CMASK(1), LOOP_INSNS }, { INSNS | ALL | INV, LOOP_INSNS },
		{ CYCLES | ALL | CMASK(2), 0 }, { CYCLES | ALL | INV | CMASK(1), 0 },
		/* Not there, and not architectural. */
		{ 0x412e | ALL, 0 }, { 0x00c5 | ALL, 0 }, { 0x00c2 | ALL, 0 },
	};
	struct machine m;

	start(&m, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		unsigned n = i % X86_PMU_GP;

		set(&m, GLOBAL_CTRL, 0);
		set(&m, PMC(n), 5);
		set(&m, EVTSEL(n), rows[i].sel);
		set(&m, GLOBAL_CTRL, BIT(n));
		again(&m);
		assert_int_equal(get(&m, PMC(n)), 5 + rows[i].count);
		assert_int_equal(get(&m, A_PMC(n)), 5 + rows[i].count);
		set(&m, EVTSEL(n), 0);
	}
	machine_stop(&m);
}

static void fixed_counters(void **state)
{
	struct machine m;

	start(&m, 0);
	set(&m, FIXED_CTRL, 0x333);
	set(&m, FIXED(0), 7);
	again(&m);
	/* Enabled here, but not globally. */
	assert_int_equal(get(&m, FIXED(0)), 7);
	assert_int_equal(get(&m, FIXED(1)), 0);
	set(&m, GLOBAL_CTRL, ALL_ON);
	again(&m);
	assert_int_equal(get(&m, FIXED(0)), 7 + LOOP_INSNS);
	assert_true(get(&m, FIXED(1)) > 0);
	assert_true(get(&m, FIXED(2)) > 0);
	set(&m, FIXED_CTRL, 0x222);
	again(&m);
	assert_int_equal(get(&m, FIXED(0)), 7 + LOOP_INSNS);
	machine_stop(&m);
}

/* WRMSR that begins does not count, the one that ends does. */
static void guest_begins_and_ends(void **state)
{
	struct machine m;

	start(&m, 0);
	set(&m, FIXED_CTRL, 3);
	/*
	 * mov ecx, 38fh; xor eax, eax; mov edx, 1; wrmsr; nop x 3; xor edx, edx; jmp +0; wrmsr; nop; hlt
	 */
	assert_int_equal(RUN(&m, 0xb9, 0x8f, 3, 0, 0, 0x31, 0xc0, 0xba, 1, 0, 0, 0, 0x0f, 0x30, 0x90, 0x90, 0x90,
			     0x31, 0xd2, 0xeb, 0, 0x0f, 0x30, 0x90), -1);
	assert_int_equal(m.result, X86_RUN_HALT);
	assert_int_equal(get(&m, FIXED(0)), 6);
	machine_stop(&m);
}

static void repeated_is_one(void **state)
{
	struct machine m;

	start(&m, 0);
	set(&m, FIXED_CTRL, 3);
	set(&m, GLOBAL_CTRL, ALL_ON);
	m.cpu->gpr[X86_RSI] = DATA_AT;
	m.cpu->gpr[X86_RDI] = DATA_AT + 0x100;
	/* mov ecx, 50; rep movsb; mov ecx, 5; rep lodsb; single steps would not change it */
	RUN(&m, 0xb9, 50, 0, 0, 0, 0xf3, 0xa4, 0xb9, 5, 0, 0, 0, 0xf3, 0xac);
	assert_int_equal(get(&m, FIXED(0)), 5);
	/* One iteration at a time, each step a trap to a handler: HLT is the second instruction. */
	restart(&m);
	x86_set_rflags(m.cpu, RFLAGS_1 | RFLAGS_TF);
	m.cpu->gpr[X86_RCX] = 3;
	m.cpu->gpr[X86_RSI] = DATA_AT;
	m.cpu->gpr[X86_RDI] = DATA_AT + 0x100;
	set(&m, FIXED(0), 0);
	assert_int_equal(RUN(&m, 0xf3, 0xa4), X86_DB);
	assert_int_equal(m.cpu->gpr[X86_RCX], 2);
	assert_int_equal(get(&m, FIXED(0)), 1);		/* the handler's HLT */
	machine_stop(&m);
}

static void levels(void **state)
{
	struct machine m;

	start(&m, 3);
	set(&m, EVTSEL(0), INSNS | USR | EN);
	set(&m, EVTSEL(1), INSNS | OS | EN);
	set(&m, EVTSEL(2), BRANCHES | USR | EN);
	set(&m, EVTSEL(3), CYCLES | USR | EN);
	set(&m, EVTSEL(4), CYCLES | OS | EN);
	set(&m, FIXED_CTRL, 2);
	set(&m, GLOBAL_CTRL, ALL_ON);
	/* nop x 4; int 30h, whose handler is a HLT */
	assert_int_equal(RUN(&m, 0x90, 0x90, 0x90, 0x90, 0xcd, 0x30), 0x30);
	assert_int_equal(get(&m, PMC(0)), 5);
	assert_int_equal(get(&m, PMC(1)), 1);
	assert_int_equal(get(&m, PMC(2)), 1);
	assert_int_equal(get(&m, FIXED(0)), 5);
	assert_true(get(&m, PMC(3)) > 0);
	assert_true(get(&m, PMC(4)) > 0);
	machine_stop(&m);
}

/* What faults does not retire. */
static void faults_do_not_count(void **state)
{
	struct machine m;

	start(&m, 0);
	set(&m, FIXED_CTRL, 3);
	set(&m, GLOBAL_CTRL, ALL_ON);
	assert_int_equal(RUN(&m, 0x90, 0x90, 0x0f, 0x0b), X86_UD);
	assert_int_equal(get(&m, FIXED(0)), 3);
	machine_stop(&m);
}

static void cycles_are_time_that_is_not_slept(void **state)
{
	struct machine m;
	u64 tsc0, c;

	start(&m, 0);
	set(&m, EVTSEL(0), CYCLES | ALL);
	set(&m, EVTSEL(1), 0x100 | CYCLES | ALL);
	set(&m, EVTSEL(2), CYCLES | ALL | EDGE);
	set(&m, EVTSEL(3), INSNS | ALL | INV | CMASK(1));
	set(&m, EVTSEL(4), INSNS | ALL);
	tsc0 = x86_rdtsc(m.cpu);
	set(&m, GLOBAL_CTRL, 0x1f);
	again(&m);
	c = get(&m, PMC(0));
	assert_true(c > LOOPS && c <= x86_rdtsc(m.cpu) - tsc0);
	usleep(1000);
	assert_int_equal(get(&m, PMC(0)), c);
	assert_int_equal(get(&m, PMC(1)), c);
	assert_int_equal(get(&m, PMC(2)), 0);
	assert_in_range(get(&m, PMC(3)), 1, c);
	again(&m);
	assert_true(get(&m, PMC(0)) > c);
	assert_int_equal(get(&m, PMC(2)), 1);
	assert_int_equal(get(&m, PMC(4)), 2 * LOOP_INSNS);
	machine_stop(&m);
}

/* ---- Overflow ---- */

/* The interrupt comes behind the very instruction at which the counter wraps. */
static void overflow_is_exact(void **state)
{
	struct machine m;

	for (unsigned left = 1; left < 200; left += left < 12 ? 1 : 37) {
		unsigned phase = (left - 2) % 3;	/* 0: NOP was the last, 1: DEC, 2: JNZ */
		u64 want = left == 1 ? 5 : phase == 0 ? 6 : phase == 1 ? 8 : 5;

		start(&m, 0);
		m.cpu->rflags |= RFLAGS_IF;
		x86_set_lvtpc(m.cpu, PMI);
		set(&m, FIXED_CTRL, 0xb);
		set(&m, FIXED(0), TOP - left);
		set(&m, GLOBAL_CTRL, ALL_ON);
		machine_code(&m, loop_code, sizeof(loop_code));
		assert_int_equal(machine_run(&m, 0), PMI);
		assert_int_equal(machine_frame(&m, 0), CODE_AT + want);
		assert_int_equal(get(&m, STATUS), BIT(32));
		assert_int_equal(get(&m, FIXED(0)), 1);		/* the handler's HLT */
		assert_int_equal(x86_get_lvtpc(m.cpu), PMI | 1u << 16);
		machine_stop(&m);
	}
}

static void branches_overflow_exactly(void **state)
{
	struct machine m;

	start(&m, 0);
	m.cpu->rflags |= RFLAGS_IF;
	x86_set_lvtpc(m.cpu, PMI);
	set(&m, EVTSEL(1), BRANCHES | ALL | INT);
	set(&m, A_PMC(1), TOP - 321);
	set(&m, GLOBAL_CTRL, 2);
	machine_code(&m, loop_code, sizeof(loop_code));
	assert_int_equal(machine_run(&m, 0), PMI);
	assert_int_equal(machine_frame(&m, 0), CODE_AT + 5);
	assert_int_equal(m.cpu->gpr[X86_RCX], LOOPS - 321);
	assert_int_equal(get(&m, STATUS), 2);
	machine_stop(&m);
}

static void cycles_overflow(void **state)
{
	static const u8 forever[] = { 0xeb, 0xfe };
	struct machine m;
	u64 tsc;

	start(&m, 0);
	m.cpu->rflags |= RFLAGS_IF;
	x86_set_lvtpc(m.cpu, PMI);
	set(&m, FIXED_CTRL, 0xb0);
	set(&m, FIXED(1), TOP - 1000000);
	machine_code(&m, forever, sizeof(forever));
	tsc = x86_rdtsc(m.cpu);
	set(&m, GLOBAL_CTRL, ALL_ON);
	assert_int_equal(machine_run(&m, 0), PMI);
	assert_true(x86_rdtsc(m.cpu) - tsc >= 1000000);
	assert_int_equal(get(&m, STATUS), BIT(33));
	machine_stop(&m);
}

static void how_the_interrupt_is_delivered(void **state)
{
	static const struct { u32 lvt; bool wants; int vector; } rows[] = {
		{ PMI, true, PMI }, { PMI, false, -1 }, { 1u << 16 | PMI, true, -1 }, { 4u << 8, true, X86_NMI },
		{ 4u << 8 | PMI, true, X86_NMI }, { 4u << 8 | 1u << 16, true, -1 }, { 5, true, -1 },
	};
	struct machine m;

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		start(&m, 0);
		m.cpu->rflags |= RFLAGS_IF;
		x86_set_lvtpc(m.cpu, rows[i].lvt);
		set(&m, EVTSEL(0), INSNS | ALL | (rows[i].wants ? INT : 0));
		set(&m, PMC(0), (u64)-30);
		set(&m, GLOBAL_CTRL, 1);
		machine_code(&m, loop_code, sizeof(loop_code));
		assert_int_equal(machine_run(&m, 0), rows[i].vector);
		assert_int_equal(get(&m, STATUS), 1);
		set(&m, OVF_CTRL, 1);
		assert_int_equal(get(&m, STATUS), 0);
		machine_stop(&m);
	}
}

static void freeze(void **state)
{
	struct machine m;

	start(&m, 0);
	m.cpu->rflags |= RFLAGS_IF;
	x86_set_lvtpc(m.cpu, PMI);
	set(&m, DEBUGCTL, BIT(12));
	set(&m, EVTSEL(0), INSNS | ALL | INT);
	set(&m, EVTSEL(1), INSNS | ALL);
	set(&m, PMC(0), (u64)-30);
	set(&m, GLOBAL_CTRL, 3);
	machine_code(&m, loop_code, sizeof(loop_code));
	assert_int_equal(machine_run(&m, 0), PMI);
	assert_int_equal(get(&m, GLOBAL_CTRL), 0);
	assert_int_equal(get(&m, PMC(0)), 0);
	assert_int_equal(get(&m, PMC(1)), 30);
	machine_stop(&m);
}

/* ---- Registers ---- */

static void register_rules(void **state)
{
	static const struct { u32 msr; u64 v; bool ok; u64 reads; } rows[] = {
		{ PMC(0), 0x123456789, true, 0x23456789 }, { PMC(7), 0x80000000, true, 0xffff80000000 },
		{ PMC(0), ~0ull, true, 0xffffffffffff },
		{ A_PMC(0), 0xffffffffffff, true, 0xffffffffffff }, { A_PMC(7), TOP, false, 0 },
		{ A_PMC(3), 0x123456789, true, 0x123456789 },
		{ FIXED(2), 0x923456789abc, true, 0x923456789abc }, { FIXED(0), TOP, false, 0 },
		{ EVTSEL(0), 0xffdfffff, true, 0xffdfffff }, { EVTSEL(0), BIT(21), false, 0 },
		{ EVTSEL(7), BIT(32), false, 0 },
		{ FIXED_CTRL, 0xbbb, true, 0xbbb }, { FIXED_CTRL, 4, false, 0 }, { FIXED_CTRL, 0x1000, false, 0 },
		{ GLOBAL_CTRL, ALL_ON, true, ALL_ON }, { GLOBAL_CTRL, BIT(8), false, 0 },
		{ GLOBAL_CTRL, BIT(35), false, 0 },
		{ STATUS, 0, false, 0 }, { OVF_CTRL, ALL_ON | BIT(62) | BIT(63), true, 0 },
		{ OVF_CTRL, BIT(61), false, 0 }, { OVF_CTRL, BIT(8), false, 0 },
		{ 0x345, 0x2000, false, 0 },
		{ DEBUGCTL, BIT(11) | BIT(12), true, BIT(11) | BIT(12) }, { DEBUGCTL, BIT(14), false, 0 },
	};
	struct machine m;
	u64 v;

	machine_start(&m, "intel", LONG64, 0);
	assert_int_equal(get(&m, GLOBAL_CTRL), 0xff);
	assert_int_equal(get(&m, 0x345), 0x2000);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(x86_wrmsr(m.cpu, rows[i].msr, rows[i].v), rows[i].ok ? 0 : -1);
		if (rows[i].ok)
			assert_int_equal(get(&m, rows[i].msr), rows[i].reads);
	}
	for (u32 msr = PMC(8); msr < PMC(10); msr++)
		assert_int_equal(x86_rdmsr(m.cpu, msr, &v), -1);
	assert_int_equal(x86_rdmsr(m.cpu, A_PMC(8), &v), -1);
	assert_int_equal(x86_rdmsr(m.cpu, FIXED(3), &v), -1);
	/* INIT leaves them alone, RESET does not. */
	x86_cpu_init(m.cpu);
	assert_int_equal(get(&m, GLOBAL_CTRL), ALL_ON);
	x86_cpu_reset(m.cpu);
	assert_int_equal(get(&m, GLOBAL_CTRL), 0xff);
	assert_int_equal(get(&m, EVTSEL(0)), 0);
	assert_int_equal(get(&m, A_PMC(3)), 0);
	machine_stop(&m);

	machine_start(&m, "amd", LONG64, 0);
	assert_int_equal(x86_rdmsr(m.cpu, PMC(0), &v), -1);
	machine_stop(&m);
}

static void the_leaf_agrees(void **state)
{
	struct machine m;
	u32 r[4];

	machine_start(&m, "intel", LONG64, 0);
	x86_cpuid(m.cpu, 0xa, 0, r);
	assert_int_equal(r[0], 7 << 24 | X86_PMU_WIDTH << 16 | X86_PMU_GP << 8 | 2);
	assert_int_equal(r[1], BIT(3) | BIT(4) | BIT(6));
	assert_int_equal(r[3], X86_PMU_WIDTH << 5 | X86_PMU_FIXED);
	machine_stop(&m);
}

static void rdpmc(void **state)
{
	static const struct { u32 ecx; unsigned cpl; bool pce; bool ok; u64 v; } rows[] = {
		{ 0, 0, false, true, 0x9123456789ab }, { 0, 3, true, true, 0x9123456789ab },
		{ 0, 3, false, false, 0 }, { 7, 0, false, true, 0x42 }, { 8, 0, false, false, 0 },
		{ BIT(30), 0, false, true, 0x77 }, { BIT(30) | 2, 3, true, true, 0x99 },
		{ BIT(30) | 3, 0, false, false, 0 }, { BIT(31) | 7, 0, false, true, 0x42 },
		{ BIT(29), 0, false, false, 0 },
	};
	struct machine m;

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		start(&m, rows[i].cpl);
		if (rows[i].pce)
			m.cpu->cr4 |= CR4_PCE;
		set(&m, A_PMC(0), 0x9123456789ab);
		set(&m, PMC(7), 0x42);
		set(&m, FIXED(0), 0x77);
		set(&m, FIXED(2), 0x99);
		m.cpu->gpr[X86_RCX] = rows[i].ecx;
		m.cpu->gpr[X86_RAX] = m.cpu->gpr[X86_RDX] = ~0ull;
		/* rdpmc; int 30h */
		assert_int_equal(RUN(&m, 0x0f, 0x33, 0xcd, 0x30), rows[i].ok ? 0x30 : X86_GP);
		if (rows[i].ok) {
			assert_int_equal(m.cpu->gpr[X86_RAX], (u32)rows[i].v);
			assert_int_equal(m.cpu->gpr[X86_RDX], rows[i].v >> 32);
		} else {
			assert_int_equal(machine_frame(&m, 0), 0);
		}
		machine_stop(&m);
	}
}

/* RDPMC sees what retired before it, in the middle of a block too. */
static void rdpmc_is_exact(void **state)
{
	struct machine m;

	start(&m, 0);
	set(&m, FIXED_CTRL, 3);
	set(&m, GLOBAL_CTRL, ALL_ON);
	/* mov ecx, 40000000h; nop; nop; rdpmc; mov ebx, eax; nop; rdpmc */
	RUN(&m, 0xb9, 0, 0, 0, 0x40, 0x90, 0x90, 0x0f, 0x33, 0x89, 0xc3, 0x90, 0x0f, 0x33);
	assert_int_equal(m.cpu->gpr[X86_RBX], 3);
	assert_int_equal(m.cpu->gpr[X86_RAX], 6);
	machine_stop(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_loop_is_counted_exactly),
		cmocka_unit_test(fixed_counters),
		cmocka_unit_test(guest_begins_and_ends),
		cmocka_unit_test(repeated_is_one),
		cmocka_unit_test(levels),
		cmocka_unit_test(faults_do_not_count),
		cmocka_unit_test(cycles_are_time_that_is_not_slept),
		cmocka_unit_test(overflow_is_exact),
		cmocka_unit_test(branches_overflow_exactly),
		cmocka_unit_test(cycles_overflow),
		cmocka_unit_test(how_the_interrupt_is_delivered),
		cmocka_unit_test(freeze),
		cmocka_unit_test(register_rules),
		cmocka_unit_test(the_leaf_agrees),
		cmocka_unit_test(rdpmc),
		cmocka_unit_test(rdpmc_is_exact),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
