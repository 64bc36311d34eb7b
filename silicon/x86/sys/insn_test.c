/* SPDX-License-Identifier: MIT */
/* Fast system calls, ports, CPUID, and the small system instructions. */
#include "silicon/x86/sys/test_machine.h"

#define HLT 0xf4

/* ---- Fast system calls ---- */

static void set_syscall(struct machine *m)
{
	/* SYSCALL: CS = 08H (SS = 10H); SYSRET: 32-bit 28H, SS 30H, 64-bit 38H. */
	m->cpu->star = (u64)0x2b << 48 | (u64)SEL_KCODE << 32 | DATA_AT;
	m->cpu->lstar = DATA_AT;
	m->cpu->cstar = DATA_AT + 0x100;
	m->cpu->fmask = RFLAGS_IF | RFLAGS_TF;
	poke(DATA_AT, HLT, 1);
	poke(DATA_AT + 0x100, HLT, 1);
	m->cpu->efer |= EFER_SCE;
}

static void syscall_in_64_bit_mode(void **state)
{
	struct machine m;

	machine_start(&m, "intel", LONG64, 3);
	set_syscall(&m);
	x86_set_rflags(m.cpu, RFLAGS_1 | RFLAGS_IF | RFLAGS_CF);
	RUN(&m, 0x0f, 0x05);
	assert_int_equal(m.cpu->rip, DATA_AT + 1);
	assert_int_equal(m.cpu->gpr[X86_RCX], USER_CODE_AT + 2);
	assert_int_equal(m.cpu->gpr[X86_R11], RFLAGS_1 | RFLAGS_IF | RFLAGS_CF);
	assert_int_equal(x86_get_rflags(m.cpu), RFLAGS_1 | RFLAGS_CF);
	assert_int_equal(m.cpu->cpl, 0);
	assert_int_equal(m.cpu->seg[X86_CS].sel, SEL_KCODE);
	assert_int_equal(m.cpu->seg[X86_CS].ar, 0xa09b);
	assert_int_equal(m.cpu->seg[X86_SS].ar, 0xc093);
	assert_int_equal(m.cpu->gpr[X86_RSP], USER_STACK_TOP);
	machine_stop(&m);

	/* With TF in FMASK no trap follows. */
	machine_start(&m, "intel", LONG64, 3);
	set_syscall(&m);
	x86_set_rflags(m.cpu, RFLAGS_1 | RFLAGS_TF);
	RUN(&m, 0x0f, 0x05);
	assert_int_equal(m.cpu->rip, DATA_AT + 1);
	machine_stop(&m);

	machine_start(&m, "intel", LONG64, 3);
	set_syscall(&m);
	m.cpu->efer &= ~EFER_SCE;
	assert_int_equal(RUN(&m, 0x0f, 0x05), X86_UD);
	machine_stop(&m);
}

static void trap20_sysret(void **state)
{
	struct machine m;

	/* RF and VM of R11 are not loaded. */
	machine_start(&m, "intel", LONG64, 0);
	set_syscall(&m);
	m.cpu->gpr[X86_RCX] = USER_CODE_AT;
	m.cpu->gpr[X86_R11] = RFLAGS_1 | RFLAGS_RF | RFLAGS_VM | RFLAGS_IF | RFLAGS_ID;
	poke(USER_CODE_AT, 0xfeeb, 2);
	RUN(&m, 0x48, 0x0f, 0x07);
	assert_int_equal(x86_get_rflags(m.cpu), RFLAGS_1 | RFLAGS_IF | RFLAGS_ID);
	assert_int_equal(m.cpu->cpl, 3);
	assert_int_equal(m.cpu->seg[X86_CS].sel, 0x3b);
	assert_int_equal(m.cpu->mode, X86_MODE_64);
	assert_int_equal(m.cpu->seg[X86_SS].sel, 0x33);
	machine_stop(&m);

	/* To compatibility mode. */
	machine_start(&m, "intel", LONG64, 0);
	set_syscall(&m);
	m.cpu->gpr[X86_RCX] = 0x1200000000 | USER_CODE_AT;
	m.cpu->gpr[X86_R11] = RFLAGS_1;
	poke(USER_CODE_AT, 0xfeeb, 2);
	RUN(&m, 0x0f, 0x07);
	assert_int_equal(m.cpu->mode, X86_MODE_COMPAT);
	assert_int_equal(m.cpu->rip, USER_CODE_AT);
	machine_stop(&m);

	/* A bad RCX: Intel at CPL 0 on the user's stack, AMD at the fetch at CPL 3. */
	for (unsigned amd = 0; amd < 2; amd++) {
		machine_start(&m, amd ? "amd" : "intel", LONG64, 0);
		set_syscall(&m);
		m.cpu->gpr[X86_RCX] = 0x900000000000;
		m.cpu->gpr[X86_R11] = RFLAGS_1;
		assert_int_equal(RUN(&m, 0x48, 0x0f, 0x07), X86_GP);
		assert_int_equal(machine_frame(&m, 2) & 3, amd ? 3 : 0);
		assert_int_equal(machine_frame(&m, 1), amd ? 0x900000000000 : CODE_AT);
		machine_stop(&m);
	}

	/* TF traps at once, before the first user instruction. */
	machine_start(&m, "intel", LONG64, 0);
	set_syscall(&m);
	m.cpu->gpr[X86_RCX] = USER_CODE_AT;
	m.cpu->gpr[X86_R11] = RFLAGS_1 | RFLAGS_TF;
	poke(USER_CODE_AT, 0x9090, 2);
	assert_int_equal(RUN(&m, 0x48, 0x0f, 0x07), X86_DB);
	assert_int_equal(machine_frame(&m, 0), USER_CODE_AT);
	machine_stop(&m);

	/* The hidden part of SS: flat on Intel, untouched on AMD. */
	for (unsigned amd = 0; amd < 2; amd++) {
		machine_start(&m, amd ? "amd" : "intel", LONG64, 0);
		set_syscall(&m);
		seg_load_null_ss(m.cpu, 0);
		m.cpu->gpr[X86_RCX] = USER_CODE_AT;
		m.cpu->gpr[X86_R11] = RFLAGS_1;
		poke(USER_CODE_AT, 0xfeeb, 2);
		RUN(&m, 0x48, 0x0f, 0x07);
		assert_int_equal(!!(m.cpu->seg[X86_SS].ar & X86_AR_UNUSABLE), amd);
		machine_stop(&m);
	}

	machine_start(&m, "intel", LONG64, 3);
	set_syscall(&m);
	assert_int_equal(RUN(&m, 0x48, 0x0f, 0x07), X86_GP);
	machine_stop(&m);
}

static void trap21_vendors_differ_in_modes(void **state)
{
	struct machine m;

	/* SYSCALL in compatibility and legacy mode. */
	machine_start(&m, "intel", COMPAT, 3);
	set_syscall(&m);
	assert_int_equal(RUN(&m, 0x0f, 0x05), X86_UD);
	machine_stop(&m);
	machine_start(&m, "amd", COMPAT, 3);
	set_syscall(&m);
	RUN(&m, 0x0f, 0x05);
	assert_int_equal(m.cpu->rip, DATA_AT + 0x101);
	assert_int_equal(m.cpu->mode, X86_MODE_64);
	machine_stop(&m);
	machine_start(&m, "amd", PROT32, 3);
	set_syscall(&m);
	x86_set_rflags(m.cpu, RFLAGS_1 | RFLAGS_IF);
	RUN(&m, 0x0f, 0x05);
	assert_int_equal(m.cpu->rip, DATA_AT + 1);
	assert_int_equal(m.cpu->gpr[X86_RCX], USER_CODE_AT + 2);
	assert_false(m.cpu->rflags & RFLAGS_IF);
	assert_int_equal(m.cpu->mode, X86_MODE_PROT);
	machine_stop(&m);

	/* SYSENTER in long mode. */
	for (unsigned amd = 0; amd < 2; amd++) {
		machine_start(&m, amd ? "amd" : "intel", LONG64, 3);
		m.cpu->sysenter_cs = SEL_KCODE;
		m.cpu->sysenter_esp = STACK_TOP;
		m.cpu->sysenter_eip = DATA_AT;
		poke(DATA_AT, HLT, 1);
		if (amd) {
			assert_int_equal(RUN(&m, 0x0f, 0x34), X86_UD);
		} else {
			x86_set_rflags(m.cpu, RFLAGS_1 | RFLAGS_IF);
			RUN(&m, 0x0f, 0x34);
			assert_int_equal(m.cpu->rip, DATA_AT + 1);
			assert_int_equal(m.cpu->gpr[X86_RSP], STACK_TOP);
			assert_int_equal(m.cpu->mode, X86_MODE_64);
			assert_false(m.cpu->rflags & RFLAGS_IF);
		}
		machine_stop(&m);
	}
}

static void sysenter_and_sysexit(void **state)
{
	struct machine m;

	machine_start(&m, "intel", PROT32, 3);
	assert_int_equal(RUN(&m, 0x0f, 0x34), X86_GP);	/* no CS in the MSR */
	machine_stop(&m);

	machine_start(&m, "intel", PROT32, 0);
	m.cpu->sysenter_cs = SEL_KCODE;
	m.cpu->gpr[X86_RDX] = USER_CODE_AT;
	m.cpu->gpr[X86_RCX] = USER_STACK_TOP;
	poke(USER_CODE_AT, 0xfeeb, 2);
	RUN(&m, 0x0f, 0x35);
	assert_int_equal(m.cpu->cpl, 3);
	assert_int_equal(m.cpu->seg[X86_CS].sel, (SEL_KCODE + 16) | 3);
	assert_int_equal(m.cpu->seg[X86_SS].sel, (SEL_KCODE + 24) | 3);
	assert_int_equal(m.cpu->gpr[X86_RSP], USER_STACK_TOP);
	machine_stop(&m);

	machine_start(&m, "intel", LONG64, 0);
	m.cpu->sysenter_cs = SEL_KCODE;
	m.cpu->gpr[X86_RDX] = USER_CODE_AT;
	m.cpu->gpr[X86_RCX] = 0x900000000000;
	assert_int_equal(RUN(&m, 0x48, 0x0f, 0x35), X86_GP);
	machine_stop(&m);
}

static void fs_and_gs(void **state)
{
	struct machine m;

	machine_start(&m, "intel", LONG64, 0);
	m.cpu->kernel_gs_base = 0x1111;
	m.cpu->seg[X86_GS].base = 0x2222;
	RUN(&m, 0x0f, 0x01, 0xf8);
	assert_int_equal(m.cpu->seg_base[X86_GS], 0x1111);
	assert_int_equal(m.cpu->kernel_gs_base, 0x2222);
	machine_stop(&m);
	machine_start(&m, "intel", LONG64, 3);
	assert_int_equal(RUN(&m, 0x0f, 0x01, 0xf8), X86_GP);
	machine_stop(&m);
	machine_start(&m, "intel", PROT32, 0);
	assert_int_equal(RUN(&m, 0x0f, 0x01, 0xf8), X86_UD);
	machine_stop(&m);

	/* wrfsbase rax; rdfsbase ecx */
	machine_start(&m, "intel", LONG64, 0);
	m.cpu->cr4 |= CR4_FSGSBASE;
	m.cpu->gpr[X86_RAX] = 0x123456789a;
	RUN(&m, 0xf3, 0x48, 0x0f, 0xae, 0xd0, 0xf3, 0x0f, 0xae, 0xc1);
	assert_int_equal(m.cpu->seg[X86_FS].base, 0x123456789a);
	assert_int_equal(m.cpu->gpr[X86_RCX], 0x3456789a);
	machine_stop(&m);
	machine_start(&m, "intel", LONG64, 0);
	m.cpu->cr4 |= CR4_FSGSBASE;
	m.cpu->gpr[X86_RAX] = BIT(63);
	assert_int_equal(RUN(&m, 0xf3, 0x48, 0x0f, 0xae, 0xd0), X86_GP);
	machine_stop(&m);
	machine_start(&m, "intel", LONG64, 0);
	assert_int_equal(RUN(&m, 0xf3, 0x48, 0x0f, 0xae, 0xd0), X86_UD);
	machine_stop(&m);
}

/* ---- Ports ---- */

static void io_permission(void **state)
{
	static const struct { u8 cpl, iopl; u64 bits; u8 size; bool ok; } rows[] = {
		{ 0, 0, ~0ull, 1, true }, { 3, 3, ~0ull, 1, true }, { 3, 0, ~0ull, 1, false },
		{ 3, 0, 0, 1, true }, { 3, 0, 2, 1, true }, { 3, 0, 2, 2, false }, { 3, 0, 8, 4, false },
		{ 3, 0, 16, 4, true },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		u8 code[] = { 0x66, rows[i].size == 1 ? 0xec : 0xed };
		unsigned skip = rows[i].size == 2 ? 0 : 1;
		struct machine m;

		/* in al/ax/eax, dx; port 40H: bit 0 of byte 8 of the map */
		machine_start(&m, "intel", LONG64, rows[i].cpl);
		poke(TSS_AT + 0x200 + 8, rows[i].bits, 2);
		m.cpu->gpr[X86_RDX] = 0x40;
		m.cpu->gpr[X86_RAX] = 0;
		x86_set_rflags(m.cpu, RFLAGS_1 | (u64)rows[i].iopl << 12);
		machine_code(&m, code + skip, 2 - skip);
		assert_int_equal(x86_run(m.cpu, 1), X86_RUN_BUDGET);
		/* A floating bus reads all ones. */
		assert_int_equal(m.cpu->gpr[X86_RAX], rows[i].ok ? ~0ull >> (64 - rows[i].size * 8) : 0);
		machine_stop(&m);
	}

	/* The second byte must lie inside the TSS: port at the very end of the map. */
	struct machine m;

	for (unsigned i = 0; i < 2; i++) {
		machine_start(&m, "intel", LONG64, 3);
		memset((void *)(TSS_AT + 0x200ul), 0, 0x400);
		m.cpu->seg[X86_TR].limit = 0x200 + 8 + i;
		m.cpu->gpr[X86_RDX] = 0x40;
		m.cpu->gpr[X86_RAX] = 0;
		machine_code(&m, "\xec", 1);
		x86_run(m.cpu, 1);
		assert_int_equal(m.cpu->cpl, i ? 3 : 0);
		machine_stop(&m);
	}

	/* VM86 goes by the map alone, whatever IOPL says. */
	machine_start(&m, "intel", VM86, 3);
	m.cpu->gpr[X86_RDX] = 0x40;
	assert_int_equal(RUN(&m, 0xec), X86_GP);
	machine_stop(&m);
}

static void string_io(void **state)
{
	struct machine m;

	/* rep insw: three elements of all ones, DF */
	machine_start(&m, "intel", LONG64, 0);
	m.cpu->gpr[X86_RDI] = DATA_AT + 4;
	m.cpu->gpr[X86_RCX] = 3;
	m.cpu->rflags |= RFLAGS_DF;
	RUN(&m, 0xf3, 0x66, 0x6d);
	assert_int_equal(peek(DATA_AT, 8), 0x0000ffffffffffff);
	assert_int_equal(m.cpu->gpr[X86_RDI], DATA_AT - 2);
	assert_int_equal(m.cpu->gpr[X86_RCX], 0);
	machine_stop(&m);

	/* Count 0: no permission check, no access. */
	machine_start(&m, "intel", LONG64, 3);
	m.cpu->gpr[X86_RDI] = NOT_PRESENT_AT;
	m.cpu->gpr[X86_RCX] = 0;
	machine_code(&m, "\xf3\x6c", 2);
	assert_int_equal(x86_run(m.cpu, 1), X86_RUN_BUDGET);
	assert_int_equal(m.cpu->cpl, 3);
	machine_stop(&m);

	/* A fault in the middle keeps what is done. */
	machine_start(&m, "intel", LONG64, 0);
	m.cpu->gpr[X86_RDI] = NOT_PRESENT_AT - 2;
	m.cpu->gpr[X86_RCX] = 5;
	assert_int_equal(RUN(&m, 0xf3, 0x6c), X86_PF);
	assert_int_equal(machine_frame(&m, 0), 2);
	assert_int_equal(machine_frame(&m, 1), CODE_AT);
	assert_int_equal(m.cpu->gpr[X86_RCX], 3);
	assert_int_equal(m.cpu->gpr[X86_RDI], NOT_PRESENT_AT);
	machine_stop(&m);

	/* outs with fs: the source segment may be overridden; a bad source is #PF. */
	machine_start(&m, "intel", LONG64, 0);
	m.cpu->seg[X86_FS].base = m.cpu->seg_base[X86_FS] = NOT_PRESENT_AT;
	m.cpu->gpr[X86_RSI] = 8;
	assert_int_equal(RUN(&m, 0x64, 0x6e), X86_PF);
	assert_int_equal(m.cpu->cr2, NOT_PRESENT_AT + 8);
	machine_stop(&m);
}

/* ---- CPUID ---- */

static void trap39_cpuid(void **state)
{
	struct machine m;
	u32 a[4], b[4];

	machine_start(&m, "intel", LONG64, 0);
	x86_cpuid(m.cpu, 0, 0, a);
	assert_memory_equal(&a[1], "Genu", 4);
	assert_int_equal(a[0], 0x1f);
	x86_cpuid(m.cpu, 1, 0, a);
	assert_int_equal(a[0], 0x806f8);
	assert_int_equal(a[2], 0x77fab22b);
	assert_int_equal(a[3], 0x1f8bfbff);
	x86_cpuid(m.cpu, 7, 0, a);
	assert_int_equal(a[1], 0x219c27eb);
	assert_int_equal(a[2] & ~(1u << 27), 0x0041000c);
	assert_int_equal(a[3], 0xbc000410);
	x86_cpuid(m.cpu, 0x80000001, 0, a);
	assert_int_equal(a[2], 0x121);
	assert_int_equal(a[3], 0x2c100800);
	x86_cpuid(m.cpu, 0x80000008, 0, a);
	assert_int_equal(a[0], 0x392e);

	/* Out of range: the highest basic leaf, with the subleaf asked for. */
	x86_cpuid(m.cpu, 0x1f, 1, a);
	x86_cpuid(m.cpu, 0x40000000, 1, b);
	assert_memory_equal(a, b, sizeof(a));
	x86_cpuid(m.cpu, 0x80000009, 1, b);
	assert_memory_equal(a, b, sizeof(a));
	/* 0BH, a subleaf that is none. */
	x86_cpuid(m.cpu, 0xb, 0x305, a);
	assert_int_equal(a[2], 5);
	assert_int_equal(a[0] | a[1], 0);

	/* Dynamic bits. */
	x86_cpuid(m.cpu, 1, 0, a);
	assert_false(a[2] & 1u << 27);
	m.cpu->cr4 |= CR4_OSXSAVE | CR4_PKE;
	x86_cpuid(m.cpu, 1, 0, a);
	assert_true(a[2] & 1u << 27);
	x86_cpuid(m.cpu, 7, 0, a);
	assert_true(a[2] & 1u << 4);
	x86_cpuid(m.cpu, 0xd, 0, a);
	assert_int_equal(a[0], 0x207);
	assert_int_equal(a[1], 0x240);
	assert_int_equal(a[2], 0xa88);
	assert_int_equal(x86_set_xcr0(m.cpu, 7), 0);
	x86_cpuid(m.cpu, 0xd, 0, a);
	assert_int_equal(a[1], 0x340);
	assert_int_equal(x86_set_xcr0(m.cpu, 0x207), 0);
	x86_cpuid(m.cpu, 0xd, 1, a);
	assert_int_equal(a[0], 0xf);
	assert_int_equal(a[1], 0x348);
	assert_int_equal(x86_wrmsr(m.cpu, 0x1b, 0xfee00000), 0);
	x86_cpuid(m.cpu, 1, 0, a);
	assert_false(a[3] & 1u << 9);
	/* TSC = crystal * numerator / denominator */
	x86_cpuid(m.cpu, 0x15, 0, a);
	assert_int_equal((u64)a[2] * a[1] / a[0] / 1000, x86_tsc_khz());
	machine_stop(&m);

	/* SYSCALL shows in 64-bit mode only; the instruction zero-extends. */
	machine_start(&m, "intel", COMPAT, 3);
	x86_cpuid(m.cpu, 0x80000001, 0, a);
	assert_int_equal(a[3], 0x2c100000);
	machine_stop(&m);
	machine_start(&m, "intel", LONG64, 0);
	m.cpu->gpr[X86_RAX] = 0xffffffff00000000;
	m.cpu->gpr[X86_RBX] = m.cpu->gpr[X86_RDX] = ~0ull;
	RUN(&m, 0x0f, 0xa2);
	assert_int_equal(m.cpu->gpr[X86_RAX], 0x1f);
	assert_int_equal(m.cpu->gpr[X86_RBX], 0x756e6547);
	machine_stop(&m);

	machine_start(&m, "amd", LONG64, 0);
	x86_cpuid(m.cpu, 0x40000000, 0, a);
	assert_int_equal(a[0] | a[1] | a[2] | a[3], 0);
	x86_cpuid(m.cpu, 1, 0, a);
	assert_int_equal(a[0], 0xa10f11);
	assert_int_equal(a[2], 0x76fa320b);
	assert_int_equal(a[3], 0x178bfbff);
	x86_cpuid(m.cpu, 0x80000001, 0, a);
	assert_false(a[2] & 4);		/* SVM */
	machine_stop(&m);
}

static void models(void **state)
{
	assert_string_equal(x86_model_name(0), "intel");
	assert_string_equal(x86_model_name(1), "amd");
	assert_null(x86_model_name(2));
	assert_null(x86_model_find("none"));
	assert_int_equal(x86_model_physbits(x86_model_find("intel")), 46);
	assert_int_equal(x86_model_linbits(x86_model_find("intel")), 57);
}

/* ---- The rest ---- */

static void privileged_instructions_at_cpl3(void **state)
{
	static const struct { u8 code[4]; int vector; } rows[] = {
		{ { 0xf4 }, X86_GP }, { { 0xfa }, X86_GP }, { { 0xfb }, X86_GP },
		{ { 0x0f, 0x08 }, X86_GP }, { { 0x0f, 0x09 }, X86_GP }, { { 0x0f, 0x30 }, X86_GP },
		{ { 0x0f, 0x01, 0x3b }, X86_GP }, { { 0x0f, 0x01, 0x13 }, X86_GP },
		{ { 0x0f, 0x00, 0xd0 }, X86_GP }, { { 0x0f, 0x01, 0xf0 }, X86_GP },
		{ { 0x0f, 0x23, 0xc0 }, X86_GP }, { { 0x0f, 0x22, 0xd8 }, X86_GP },
		{ { 0x0f, 0x33 }, X86_GP }, { { 0x0f, 0x01, 0xca }, X86_UD }, { { 0x0f, 0x01, 0xcb }, X86_UD },
		{ { 0x0f, 0x01, 0xc8 }, X86_UD }, { { 0x0f, 0x01, 0xc9 }, X86_UD },
		{ { 0x0f, 0xaa }, X86_UD }, { { 0x0f, 0x37 }, X86_UD },
		{ { 0x0f, 0x01, 0xee }, X86_UD },	/* rdpkru without CR4.PKE */
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct machine m;

		machine_start(&m, "intel", LONG64, 3);
		m.cpu->gpr[X86_RBX] = DATA_AT;
		machine_code(&m, rows[i].code, 4);
		assert_int_equal(machine_run(&m, 10), rows[i].vector);
		machine_stop(&m);
	}
}

static void interrupt_flag_and_its_virtual_one(void **state)
{
	struct machine m;

	/* PVI at CPL 3: CLI and STI move VIF; with VIP STI is #GP. */
	machine_start(&m, "intel", PROT32, 3);
	m.cpu->cr4 = CR4_PVI;
	machine_code(&m, "\xfb\xfa\xeb\xfe", 4);
	x86_run(m.cpu, 1);
	assert_true(m.cpu->rflags & RFLAGS_VIF);
	x86_run(m.cpu, 1);
	assert_false(m.cpu->rflags & RFLAGS_VIF);
	assert_false(m.cpu->rflags & RFLAGS_IF);
	machine_stop(&m);
	machine_start(&m, "intel", PROT32, 3);
	m.cpu->cr4 = CR4_PVI;
	m.cpu->rflags |= RFLAGS_VIP;
	assert_int_equal(RUN(&m, 0xfb), X86_GP);
	machine_stop(&m);

	/* VME: 16-bit PUSHF shows VIF as IF and IOPL 3; POPF writes VIF. */
	machine_start(&m, "intel", VM86, 3);
	m.cpu->cr4 = CR4_VME;
	m.cpu->rflags = (m.cpu->rflags & ~RFLAGS_IOPL) | RFLAGS_VIF;
	machine_code(&m, "\x9c\xeb\xfe", 3);
	x86_run(m.cpu, 1);
	assert_int_equal(peek(CODE_AT + 0xf000 - 2, 2), RFLAGS_1 | RFLAGS_IF | RFLAGS_IOPL);
	machine_stop(&m);
	machine_start(&m, "intel", VM86, 3);
	m.cpu->cr4 = CR4_VME;
	m.cpu->rflags &= ~RFLAGS_IOPL;
	poke(CODE_AT + 0xf000 - 2, RFLAGS_IF, 2);
	m.cpu->gpr[X86_RSP] = 0xf000 - 2;
	machine_code(&m, "\x9d\xeb\xfe", 3);
	x86_run(m.cpu, 1);
	assert_true(m.cpu->rflags & RFLAGS_VIF);
	assert_false(m.cpu->rflags & RFLAGS_IF);
	machine_stop(&m);

	/* stac, clac: AC, and #UD at CPL 3 */
	machine_start(&m, "intel", LONG64, 0);
	machine_code(&m, "\x0f\x01\xcb\x0f\x01\xca\xf4", 7);
	x86_run(m.cpu, 1);
	assert_int_equal(m.cpu->mmu_idx, X86_MMU_KERNEL_AC);
	x86_run(m.cpu, 1);
	assert_int_equal(m.cpu->mmu_idx, X86_MMU_KERNEL);
	machine_stop(&m);
}

static void tsc_and_pid(void **state)
{
	struct machine m;

	machine_start(&m, "intel", LONG64, 3);
	m.cpu->cr4 |= CR4_TSD;
	assert_int_equal(RUN(&m, 0x0f, 0x31), X86_GP);
	machine_stop(&m);
	machine_start(&m, "intel", LONG64, 3);
	m.cpu->tsc_aux = 0x77;
	m.cpu->gpr[X86_RCX] = m.cpu->gpr[X86_RDX] = ~0ull;
	machine_code(&m, "\x0f\x01\xf9\xf3\x0f\xc7\xfb\xeb\xfe", 9);	/* rdtscp; rdpid rbx */
	x86_run(m.cpu, 2);
	assert_int_equal(m.cpu->gpr[X86_RCX], 0x77);
	assert_int_equal(m.cpu->gpr[X86_RBX], 0x77);
	assert_true(m.cpu->gpr[X86_RDX] >> 32 == 0);
	machine_stop(&m);
}

static void tlb_instructions(void **state)
{
	struct machine m;

	/* A changed entry is seen after INVLPG. mov al, [rbx]; invlpg [rbx]; mov cl, [rbx] */
	machine_start(&m, "intel", LONG64, 0);
	poke(DATA_AT, 1, 1);
	poke(USER_DATA_AT, 2, 1);
	m.cpu->gpr[X86_RBX] = DATA_AT;
	machine_code(&m, "\x8a\x03\x0f\x01\x3b\x8a\x0b\xf4", 8);
	x86_run(m.cpu, 1);
	poke(PT_AT + (DATA_AT >> 12) * 8, USER_DATA_AT | 7, 8);
	x86_run(m.cpu, 2);
	assert_int_equal((u8)m.cpu->gpr[X86_RAX], 1);
	assert_int_equal((u8)m.cpu->gpr[X86_RCX], 2);
	machine_stop(&m);

	/* invpcid rax, [rbx] */
	static const struct { u64 type, d0, d1; bool pcide; int vector; } rows[] = {
		{ 0, 0, DATA_AT, false, -1 }, { 0, 1, DATA_AT, false, X86_GP }, { 0, 1, DATA_AT, true, -1 },
		{ 0, 0, 0x900000000000, false, X86_GP }, { 1, 5, 0, true, -1 }, { 1, 5, 0, false, X86_GP },
		{ 2, 0, 0, false, -1 }, { 3, 0x1000, 0, false, X86_GP }, { 3, 0, 0, false, -1 },
		{ 4, 0, 0, false, X86_GP }, { BIT(32), 0, 0, false, X86_GP },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		machine_start(&m, "intel", LONG64, 0);
		m.cpu->cr4 |= rows[i].pcide ? CR4_PCIDE : 0;
		x86_tlb_switch(m.cpu);
		poke(DATA_AT, rows[i].d0, 8);
		poke(DATA_AT + 8, rows[i].d1, 8);
		m.cpu->gpr[X86_RAX] = rows[i].type;
		m.cpu->gpr[X86_RBX] = DATA_AT;
		assert_int_equal(RUN(&m, 0x66, 0x0f, 0x38, 0x82, 0x03), rows[i].vector);
		machine_stop(&m);
	}

	/* INVLPG of a register: #UD; of an address that is not canonical: nothing. */
	machine_start(&m, "intel", PROT32, 0);
	assert_int_equal(RUN(&m, 0x0f, 0x01, 0xfb), X86_UD);
	machine_stop(&m);
	machine_start(&m, "intel", LONG64, 0);
	m.cpu->gpr[X86_RBX] = 0x900000000000;
	assert_int_equal(RUN(&m, 0x0f, 0x01, 0x3b), -1);
	machine_stop(&m);
}

static void monitor_and_mwait(void **state)
{
	static const struct { u8 code[5]; u64 rax, rcx; unsigned cpl; int vector; } rows[] = {
		{ { 0x0f, 0x01, 0xc8, 0xf4 }, DATA_AT, 0, 0, -1 },
		{ { 0x0f, 0x01, 0xc8, 0xf4 }, DATA_AT, 1, 0, X86_GP },
		{ { 0x0f, 0x01, 0xc8, 0xf4 }, 0x900000000000, 0, 0, X86_GP },
		{ { 0x67, 0x0f, 0x01, 0xc8, 0xf4 }, BIT(40) | DATA_AT, 0, 0, -1 },
		{ { 0x0f, 0x01, 0xc8, 0xf4 }, DATA_AT, 0, 3, X86_UD },
		{ { 0x0f, 0x01, 0xc9, 0xf4 }, 0, 0, 0, -1 },
		{ { 0x0f, 0x01, 0xc9, 0xf4 }, 0, 1, 0, -1 },
		{ { 0x0f, 0x01, 0xc9, 0xf4 }, 0, 2, 0, X86_GP },
		{ { 0x0f, 0x01, 0xc9, 0xf4 }, 0, 0, 3, X86_UD },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct machine m;

		machine_start(&m, "intel", LONG64, rows[i].cpl);
		m.cpu->gpr[X86_RAX] = rows[i].rax;
		m.cpu->gpr[X86_RCX] = rows[i].rcx;
		machine_code(&m, rows[i].code, 5);
		assert_int_equal(machine_run(&m, 10), rows[i].vector);
		machine_stop(&m);
	}
}

static void protection_keys(void **state)
{
	struct machine m;

	/* wrpkru; rdpkru */
	machine_start(&m, "intel", LONG64, 0);
	m.cpu->cr4 |= CR4_PKE;
	m.cpu->gpr[X86_RAX] = 0x1234;
	RUN(&m, 0x0f, 0x01, 0xef, 0x31, 0xc0, 0x0f, 0x01, 0xee);
	assert_int_equal(m.cpu->gpr[X86_RAX], 0x1234);
	machine_stop(&m);
	for (unsigned i = 0; i < 2; i++) {
		machine_start(&m, "intel", LONG64, 0);
		m.cpu->cr4 |= CR4_PKE;
		m.cpu->gpr[i ? X86_RCX : X86_RDX] = 1;
		assert_int_equal(RUN(&m, 0x0f, 0x01, 0xef), X86_GP);
		machine_stop(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(trap20_sysret),
		cmocka_unit_test(trap21_vendors_differ_in_modes),
		cmocka_unit_test(trap39_cpuid),
		cmocka_unit_test(syscall_in_64_bit_mode),
		cmocka_unit_test(sysenter_and_sysexit),
		cmocka_unit_test(fs_and_gs),
		cmocka_unit_test(io_permission),
		cmocka_unit_test(string_io),
		cmocka_unit_test(models),
		cmocka_unit_test(privileged_instructions_at_cpl3),
		cmocka_unit_test(interrupt_flag_and_its_virtual_one),
		cmocka_unit_test(tsc_and_pid),
		cmocka_unit_test(tlb_instructions),
		cmocka_unit_test(monitor_and_mwait),
		cmocka_unit_test(protection_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
