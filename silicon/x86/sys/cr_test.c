/* SPDX-License-Identifier: MIT */
/* Control registers, EFER, XCR0, MSRs, reset. */
#include "silicon/x86/sys/test_machine.h"

static void start(struct machine *m, enum test_mode mode)
{
	machine_start(m, "intel", mode, 0);
}

/* mov crN, rax in 64-bit mode: the vector, or -1. */
static int mov_cr(struct machine *m, unsigned n, u64 v)
{
	u8 code[] = { 0x0f, 0x22, (u8)(0xc0 | n << 3) };

	m->cpu->gpr[X86_RAX] = v;
	machine_code(m, code, sizeof(code));
	return machine_run(m, 10);
}

static void trap2_bits_without_their_feature(void **state)
{
	const u64 cr4 = CR4_PAE;
	static const u64 good[] = {
		CR4_VME, CR4_PVI, CR4_TSD, CR4_DE, CR4_PSE, CR4_MCE, CR4_PGE, CR4_PCE, CR4_OSFXSR,
		CR4_OSXMMEXCPT, CR4_UMIP, CR4_VMXE, CR4_FSGSBASE, CR4_OSXSAVE, CR4_PKE,
	};
	static const u64 bad[] = {
		CR4_SMXE, BIT(15), BIT(19), BIT(23), BIT(24), BIT(25), BIT(28), BIT(32), BIT(63),
	};
	struct machine m;

	for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
		start(&m, LONG64);
		assert_int_equal(mov_cr(&m, 4, cr4 | good[i]), -1);
		assert_int_equal(m.cpu->cr4, cr4 | good[i]);
		machine_stop(&m);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		start(&m, LONG64);
		assert_int_equal(mov_cr(&m, 4, cr4 | bad[i]), X86_GP);
		assert_int_equal(m.cpu->cr4, cr4);
		machine_stop(&m);
	}

	/* The rest of the features are removed: their bits go too. */
	start(&m, LONG64);
	m.cpu->feat[X86_W_1C] &= ~(1u << 17);	/* PCID */
	assert_int_equal(mov_cr(&m, 4, cr4 | CR4_PCIDE), X86_GP);
	machine_stop(&m);
	start(&m, LONG64);
	assert_int_equal(mov_cr(&m, 4, cr4 | CR4_PCIDE), -1);
	machine_stop(&m);

	/* EFER and XCR0 */
	start(&m, LONG64);
	assert_false(x86_write_efer(m.cpu, m.cpu->efer | BIT(12)));
	assert_false(x86_write_efer(m.cpu, m.cpu->efer | BIT(1)));
	assert_false(x86_write_efer(m.cpu, m.cpu->efer & ~EFER_LME));	/* while paging */
	assert_true(x86_write_efer(m.cpu, m.cpu->efer & ~(EFER_NXE | EFER_LMA)));
	assert_true(m.cpu->efer & EFER_LMA);
	assert_int_equal(x86_set_xcr0(m.cpu, 0), -1);
	assert_int_equal(x86_set_xcr0(m.cpu, 5), -1);		/* AVX without SSE */
	assert_int_equal(x86_set_xcr0(m.cpu, 0xe7), -1);
	assert_int_equal(x86_set_xcr0(m.cpu, 0x207), 0);
	machine_stop(&m);
}

static void cr0_rules(void **state)
{
	static const struct { enum test_mode mode; u64 set, clear; int vector; } rows[] = {
		{ LONG64, BIT(32), 0, X86_GP },
		{ LONG64, CR0_NW, 0, X86_GP },
		{ LONG64, CR0_NW | CR0_CD, 0, -1 },
		{ LONG64, 0, CR0_PE, X86_GP },
		{ LONG64, 0, CR0_PG, X86_GP },		/* in 64-bit mode */
		{ LONG64, BIT(6), 0, -1 },		/* undefined: ignored */
		{ LONG64, 0, CR0_ET, -1 },
		{ PROT32, CR0_PG, CR0_PE, X86_GP },
		{ COMPAT, 0, CR0_PG, -1 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct machine m;
		u64 old, v;

		start(&m, rows[i].mode);
		old = m.cpu->cr0;
		v = (old | rows[i].set) & ~rows[i].clear;
		assert_int_equal(mov_cr(&m, 0, v), rows[i].vector);
		if (rows[i].vector < 0)
			assert_int_equal(m.cpu->cr0, (v & ~BIT(6)) | CR0_ET);
		else
			assert_int_equal(m.cpu->cr0, old);
		if (rows[i].mode == COMPAT)
			assert_false(m.cpu->efer & EFER_LMA);
		machine_stop(&m);
	}
}

/* From protected mode to 64-bit mode: PAE, CR3, LME, PG, far jump. */
static void mode_switch(void **state)
{
	struct machine m;

	start(&m, PROT32);
	m.cpu->cr4 = CR4_PAE;
	m.cpu->cr3 = PML4_AT;
	m.cpu->efer = EFER_LME;
	assert_int_equal(mov_cr(&m, 0, m.cpu->cr0 | CR0_PG), -1);
	assert_true(m.cpu->efer & EFER_LMA);
	assert_int_equal(m.cpu->mode, X86_MODE_COMPAT);
	machine_stop(&m);

	/* A 16-bit TSS, an L bit in CS, or no PAE forbid it. */
	for (unsigned i = 0; i < 3; i++) {
		start(&m, PROT32);
		m.cpu->cr4 = i == 0 ? 0 : CR4_PAE;
		if (i == 1)
			m.cpu->seg[X86_TR].ar = 0x83;
		if (i == 2)
			m.cpu->seg[X86_CS].ar |= X86_AR_L;
		m.cpu->cr3 = PML4_AT;
		m.cpu->efer = EFER_LME;
		assert_int_equal(mov_cr(&m, 0, m.cpu->cr0 | CR0_PG), X86_GP);
		machine_stop(&m);
	}
	/* In long mode neither PAE nor LA57 change. */
	start(&m, LONG64);
	assert_int_equal(mov_cr(&m, 4, 0), X86_GP);
	machine_stop(&m);
	start(&m, LONG64);
	assert_int_equal(mov_cr(&m, 4, CR4_PAE | CR4_LA57), X86_GP);
	machine_stop(&m);
}

/* The way of a start-up trampoline, every step an instruction. */
static void from_real_mode_to_64_bit_mode(void **state)
{
	static const u8 real[] = {
		0x66, 0x0f, 0x01, 0x16, 0x00, 0x10,			/* lgdtl [1000H] */
		0xb8, 0x01, 0x00, 0x0f, 0x01, 0xf0,			/* mov ax, 1; lmsw ax */
		0x66, 0xea, 0x00, 0x00, DATA_AT >> 16, 0x00, SEL_KCODE, 0x00,	/* ljmpl */
	};
	static const u8 prot[] = {
		0x0f, 0x20, 0xe0, 0x83, 0xc8, 0x20, 0x0f, 0x22, 0xe0,	/* cr4 |= PAE */
		0xb8, 0x00, PML4_AT >> 8 & 0xff, PML4_AT >> 16, 0x00, 0x0f, 0x22, 0xd8,
		0xb9, 0x80, 0x00, 0x00, 0xc0, 0x0f, 0x32,		/* EFER |= LME */
		0x0d, 0x00, 0x01, 0x00, 0x00, 0x0f, 0x30,
		0x0f, 0x20, 0xc0, 0x0d, 0x00, 0x00, 0x00, 0x80, 0x0f, 0x22, 0xc0,	/* cr0 |= PG */
		0xea, 0x00, 0x80, USER_DATA_AT >> 16, 0x00, SEL_KCODE64, 0x00,
	};
	static const u8 long64[] = { 0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff, 0xf4 };	/* mov rax, -1; hlt */
	struct machine m;

	start(&m, REAL);
	m.cpu->seg[X86_DS].base = CODE_AT;
	m.cpu->gdtr.base = 0;
	x86_update_mode(m.cpu);
	poke(CODE_AT + 0x1000, GDT_LIMIT, 2);
	poke(CODE_AT + 0x1002, GDT_AT, 4);
	memcpy((void *)(u64)DATA_AT, prot, sizeof(prot));
	memcpy((void *)(u64)USER_DATA_AT, long64, sizeof(long64));
	machine_code(&m, real, sizeof(real));
	machine_run(&m, 100);
	assert_int_equal(m.result, X86_RUN_HALT);
	assert_int_equal(m.cpu->rip, USER_DATA_AT + sizeof(long64));
	assert_int_equal(m.cpu->mode, X86_MODE_64);
	assert_int_equal(m.cpu->gpr[X86_RAX], ~0ull);
	machine_stop(&m);
}

static void cr3_and_pcid(void **state)
{
	struct machine m;

	start(&m, LONG64);
	assert_int_equal(mov_cr(&m, 3, PML4_AT | BIT(46)), X86_GP);
	machine_stop(&m);
	start(&m, LONG64);
	assert_int_equal(mov_cr(&m, 3, PML4_AT | BIT(63)), X86_GP);
	machine_stop(&m);
	/* With PCIDE bit 63 says "do not flush" and is not stored. */
	start(&m, LONG64);
	m.cpu->cr4 |= CR4_PCIDE;
	assert_int_equal(mov_cr(&m, 3, PML4_AT | 5 | BIT(63)), -1);
	assert_int_equal(m.cpu->cr3, PML4_AT | 5);
	machine_stop(&m);
	/* PCIDE with a PCID in CR3 */
	start(&m, LONG64);
	m.cpu->cr3 |= 0x18;
	assert_int_equal(mov_cr(&m, 4, CR4_PAE | CR4_PCIDE), X86_GP);
	machine_stop(&m);
	/* CR8 */
	start(&m, LONG64);
	m.cpu->gpr[X86_RAX] = 0x1b;
	assert_int_equal(RUN(&m, 0x44, 0x0f, 0x22, 0xc0), X86_GP);
	machine_stop(&m);
	start(&m, LONG64);
	m.cpu->gpr[X86_RAX] = 0xb;
	RUN(&m, 0x44, 0x0f, 0x22, 0xc0, 0x44, 0x0f, 0x20, 0xc1);
	assert_int_equal(m.cpu->gpr[X86_RCX], 0xb);
	assert_int_equal(m.cpu->tpr, 0xb0);
	machine_stop(&m);
	/* CR1, CR5: #UD, before the privilege check */
	machine_start(&m, "intel", LONG64, 3);
	assert_int_equal(RUN(&m, 0x0f, 0x22, 0xe8), X86_UD);
	machine_stop(&m);
	machine_start(&m, "intel", LONG64, 3);
	assert_int_equal(RUN(&m, 0x0f, 0x20, 0xc0), X86_GP);
	machine_stop(&m);
}

static void trap37_pdptes_load_at_cr_writes(void **state)
{
	struct machine m;

	/* A reserved bit in a present one: #GP(0), nothing changed. */
	start(&m, PROT32);
	m.cpu->cr4 = CR4_PAE;
	m.cpu->cr3 = DATA_AT;
	poke(DATA_AT + 8, PD_AT | 1 | 2, 8);
	assert_int_equal(mov_cr(&m, 0, m.cpu->cr0 | CR0_PG), X86_GP);
	assert_false(m.cpu->cr0 & CR0_PG);
	machine_stop(&m);

	/* What memory says later is not seen. */
	start(&m, PROT32);
	m.cpu->cr4 = CR4_PAE;
	m.cpu->cr3 = DATA_AT;
	poke(DATA_AT, PD_AT | 1, 8);
	assert_int_equal(mov_cr(&m, 0, m.cpu->cr0 | CR0_PG), -1);
	assert_int_equal(m.cpu->pdpte[0], PD_AT | 1);
	poke(DATA_AT, 0, 8);
	assert_int_equal(m.cpu->pdpte[0], PD_AT | 1);
	machine_stop(&m);
}

static void lmsw_smsw_clts(void **state)
{
	struct machine m;

	/* lmsw cannot clear PE */
	start(&m, PROT32);
	m.cpu->gpr[X86_RAX] = 0xe;
	RUN(&m, 0x0f, 0x01, 0xf0);
	assert_int_equal(m.cpu->cr0 & 0xf, 0xf);
	machine_stop(&m);
	start(&m, PROT32);
	m.cpu->cr0 |= CR0_TS;
	RUN(&m, 0x0f, 0x06);
	assert_false(m.cpu->cr0 & CR0_TS);
	machine_stop(&m);
	machine_start(&m, "intel", PROT32, 3);
	assert_int_equal(RUN(&m, 0x0f, 0x06), X86_GP);
	machine_stop(&m);
	/* smsw to memory is 16 bits */
	start(&m, PROT32);
	poke(DATA_AT, ~0u, 4);
	m.cpu->gpr[X86_RBX] = DATA_AT;
	RUN(&m, 0x0f, 0x01, 0x23);
	assert_int_equal(peek(DATA_AT, 4), 0xffff0000 | (u16)m.cpu->cr0);
	machine_stop(&m);
}

/* ---- MSRs ---- */

static void trap3_addresses_in_msrs_are_canonical(void **state)
{
	static const u32 msrs[] = {
		0xc0000100, 0xc0000101, 0xc0000102, 0xc0000082, 0xc0000083, 0x175, 0x176,
	};
	struct machine m;

	start(&m, LONG64);
	for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
		u64 v;

		/* Against the processor's 57 bits, not CR4.LA57's 48. */
		assert_int_equal(x86_wrmsr(m.cpu, msrs[i], BIT(56)), -1);
		assert_int_equal(x86_wrmsr(m.cpu, msrs[i], BIT(63)), -1);
		assert_int_equal(x86_wrmsr(m.cpu, msrs[i], BIT(55)), 0);
		assert_int_equal(x86_rdmsr(m.cpu, msrs[i], &v), 0);
		assert_int_equal(v, BIT(55));
	}
	machine_stop(&m);

	/* AMD takes any SYSENTER address. */
	machine_start(&m, "amd", LONG64, 0);
	assert_int_equal(x86_wrmsr(m.cpu, 0x175, BIT(63)), 0);
	machine_stop(&m);
}

static void trap8_apic_base_can_be_enabled_again(void **state)
{
	struct machine m;
	u64 v;

	start(&m, LONG64);
	assert_int_equal(x86_rdmsr(m.cpu, 0x1b, &v), 0);
	assert_int_equal(v, 0xfee00900);
	assert_int_equal(x86_wrmsr(m.cpu, 0x1b, 0xfee00100), 0);
	assert_int_equal(x86_wrmsr(m.cpu, 0x1b, 0xfee00900), 0);
	assert_int_equal(x86_wrmsr(m.cpu, 0x1b, 0xfee00500), -1);	/* EXTD without EN */
	assert_int_equal(x86_wrmsr(m.cpu, 0x1b, 0xfee00901), -1);
	assert_int_equal(x86_wrmsr(m.cpu, 0x1b, BIT(46) | 0x900), -1);
	machine_stop(&m);
}

static void trap29_tsc_writes_move_tsc_adjust(void **state)
{
	struct machine m;
	u64 v, now;

	start(&m, LONG64);
	now = x86_rdtsc(m.cpu);
	assert_int_equal(x86_wrmsr(m.cpu, 0x10, now + (1ull << 50)), 0);
	assert_int_equal(x86_rdmsr(m.cpu, 0x3b, &v), 0);
	assert_true(v <= 1ull << 50 && v > (1ull << 50) - (1ull << 40));
	assert_int_equal(x86_wrmsr(m.cpu, 0x3b, 0), 0);
	v = x86_rdtsc(m.cpu);
	assert_true(v >= now && v - now < 1ull << 40);
	assert_true(x86_tsc_khz() > 100000);
	machine_stop(&m);
}

static void msr_rules(void **state)
{
	static const struct { u32 msr; u64 v; int r; } rows[] = {
		{ 0x277, 0x0007040600070406, 0 }, { 0x277, 0x0007040600070402, -1 },
		{ 0x277, 0x0807040600070406, -1 }, { 0x2ff, 0xc06, 0 }, { 0x2ff, 0x1000, -1 },
		{ 0x2ff, 2, -1 }, { 0x200, 6, 0 }, { 0x200, 0x106, -1 }, { 0x201, BIT(46), -1 },
		{ 0x201, 0x800, 0 }, { 0x201, 0x400, -1 }, { 0x250, 0x0606060606060606, 0 },
		{ 0x250, 0x0706060606060606, -1 }, { 0x1d9, 2, 0 }, { 0x1d9, 1, -1 },
		{ 0x48, 7, 0 }, { 0x48, 8, -1 }, { 0x49, 1, 0 }, { 0x49, 2, -1 },
		{ 0x3a, 5, -1 },	/* locked */
		{ 0x480, 0, -1 }, { 0xfe, 0, -1 }, { 0x179, 0, -1 }, { 0x17b, 1, -1 }, { 0x17b, ~0ull, 0 },
		{ 0x400, ~0ull ^ BIT(0), 0 }, { 0x400, 6, -1 }, { 0x401, 0, 0 }, { 0x401, 1, -1 },
		{ 0xda0, 0, 0 }, { 0xda0, BIT(11), -1 }, { 0xc0000084, BIT(32), -1 },
		{ 0xc0000103, BIT(32), -1 }, { 0xc0000103, 5, 0 }, { 0x8b, 0, 0 }, { 0x12345, 0, -1 },
		{ 0x802, 0, -1 }, { 0xc0010015, 0, -1 },
	};
	struct machine m;
	u64 v;

	start(&m, LONG64);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(x86_wrmsr(m.cpu, rows[i].msr, rows[i].v), rows[i].r);
	assert_int_equal(x86_rdmsr(m.cpu, 0x49, &v), -1);	/* write-only */
	assert_int_equal(x86_rdmsr(m.cpu, 0x12345, &v), -1);
	assert_int_equal(x86_rdmsr(m.cpu, 0x480, &v), 0);
	machine_stop(&m);

	/* As instructions: #GP(0), CPL, both halves. */
	start(&m, LONG64);
	m.cpu->gpr[X86_RCX] = 0x12345;
	assert_int_equal(RUN(&m, 0x0f, 0x32), X86_GP);
	machine_stop(&m);
	start(&m, LONG64);
	m.cpu->gpr[X86_RCX] = 0xffffffff00000277;
	m.cpu->gpr[X86_RAX] = m.cpu->gpr[X86_RDX] = ~0ull;
	RUN(&m, 0x0f, 0x32);
	assert_int_equal(m.cpu->gpr[X86_RAX], 0x00070406);
	assert_int_equal(m.cpu->gpr[X86_RDX], 0x00070406);
	machine_stop(&m);
	machine_start(&m, "intel", LONG64, 3);
	m.cpu->gpr[X86_RCX] = 0x277;
	assert_int_equal(RUN(&m, 0x0f, 0x32), X86_GP);
	machine_stop(&m);
	machine_start(&m, "amd", LONG64, 0);
	assert_int_equal(x86_rdmsr(m.cpu, 0xc0010015, &v), 0);
	assert_int_equal(x86_rdmsr(m.cpu, 0x3a, &v), -1);
	machine_stop(&m);
}

static void reset_and_init(void **state)
{
	struct machine m;
	struct x86_cpu *cpu;

	start(&m, LONG64);
	cpu = m.cpu;
	cpu->lstar = 1;
	cpu->xcr0 = 7;
	cpu->apic_base = 0xfee00800;	/* an AP */
	cpu->cr0 |= CR0_CD;
	x86_cpu_init(cpu);
	assert_int_equal(cpu->lstar, 1);
	assert_int_equal(cpu->xcr0, 7);
	assert_int_equal(cpu->cr0, CR0_CD | CR0_ET);
	assert_int_equal(cpu->efer, 0);
	assert_int_equal(cpu->activity, X86_ACT_WAIT_SIPI);
	x86_cpu_reset(cpu);
	assert_int_equal(cpu->lstar, 0);
	assert_int_equal(cpu->xcr0, 1);
	assert_int_equal(cpu->cr0, 0x60000010);
	assert_int_equal(cpu->seg[X86_CS].base + cpu->rip, 0xfffffff0);
	assert_int_equal(cpu->gpr[X86_RDX], 0x806f8);
	assert_int_equal(cpu->pat, 0x0007040600070406);
	assert_int_equal(cpu->dr6, 0xffff0ff0);
	assert_int_equal(cpu->dr7, 0x400);
	assert_int_equal(cpu->mode, X86_MODE_REAL);
	machine_stop(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(trap2_bits_without_their_feature),
		cmocka_unit_test(trap3_addresses_in_msrs_are_canonical),
		cmocka_unit_test(trap8_apic_base_can_be_enabled_again),
		cmocka_unit_test(trap29_tsc_writes_move_tsc_adjust),
		cmocka_unit_test(trap37_pdptes_load_at_cr_writes),
		cmocka_unit_test(cr0_rules),
		cmocka_unit_test(mode_switch),
		cmocka_unit_test(from_real_mode_to_64_bit_mode),
		cmocka_unit_test(cr3_and_pcid),
		cmocka_unit_test(lmsw_smsw_clts),
		cmocka_unit_test(msr_rules),
		cmocka_unit_test(reset_and_init),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
