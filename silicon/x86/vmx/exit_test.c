/* SPDX-License-Identifier: MIT */
/*
 * Instructions that exit: code bytes and controls in, reason, qualification, length and
 * instruction information out. SDM vol. 3C "VMX Non-Root Operation", "VM Exits".
 */
#include "silicon/x86/vmx/testkit.h"

enum mode { KERNEL, USER, PROTECTED, REAL };
#define NO_EXIT 0xffff	/* the HLT behind the code exits */
#define FAULT(vector) (0x1000 + (vector))

struct row {
	const char *name;
	u8 code[16];
	enum mode mode;
	u32 proc, proc2;	/* controls on top of the kit's */
	u32 reason;
	u64 qual;
	u8 len;
	u32 info;		/* instruction information; ~0 = not defined */
};
#define NOINFO 0xffffffffu
/* Memory operand [RCX] of 64-bit code, DS; no index. */
#define INFO_RCX (2u << 7 | 3u << 15 | 1u << 22 | 1u << 23)

/* RAX = 0xaaaa..., RCX = TK_DATA, RDX = 0x60, RBX = TK_DATA + 8, RSI = RDI = TK_DATA. */
static const struct row rows[] = {
	{ "CPUID", { 0x0f, 0xa2 }, KERNEL, 0, 0, VMX_EXIT_CPUID, 0, 2, NOINFO },
	{ "CPUID at CPL 3", { 0x0f, 0xa2 }, USER, 0, 0, VMX_EXIT_CPUID, 0, 2, NOINFO },
	{ "CPUID with prefixes", { 0x66, 0x2e, 0x48, 0x0f, 0xa2 }, KERNEL, 0, 0, VMX_EXIT_CPUID, 0, 5, NOINFO },
	{ "HLT", { 0xf4 }, KERNEL, 0, 0, VMX_EXIT_HLT, 0, 1, NOINFO },
	{ "HLT at CPL 3 faults first", { 0xf4 }, USER, 0, 0, FAULT(X86_GP), 0, 0, NOINFO },
	{ "INVD", { 0x0f, 0x08 }, KERNEL, 0, 0, VMX_EXIT_INVD, 0, 2, NOINFO },
	{ "WBINVD", { 0x0f, 0x09 }, KERNEL, 0, PROC2_WBINVD_EXITING, VMX_EXIT_WBINVD, 0, 2, NOINFO },
	{ "WBINVD without control", { 0x0f, 0x09, 0xf4 }, KERNEL, 0, 0, NO_EXIT, 0, 0, NOINFO },
	{ "INVLPG", { 0x0f, 0x01, 0x39 }, KERNEL, PROC_INVLPG_EXITING, 0, VMX_EXIT_INVLPG, TK_DATA, 3, NOINFO },
	{ "INVLPG at CPL 3", { 0x0f, 0x01, 0x39 }, USER, PROC_INVLPG_EXITING, 0, FAULT(X86_GP), 0, 0, NOINFO },
	{ "RDPMC", { 0x0f, 0x33 }, KERNEL, PROC_RDPMC_EXITING, 0, VMX_EXIT_RDPMC, 0, 2, NOINFO },
	{ "RDPMC at CPL 3, PCE 0", { 0x0f, 0x33 }, USER, PROC_RDPMC_EXITING, 0, FAULT(X86_GP), 0, 0, NOINFO },
	{ "RDTSC", { 0x0f, 0x31 }, KERNEL, PROC_RDTSC_EXITING, 0, VMX_EXIT_RDTSC, 0, 2, NOINFO },
	{ "RDTSC native", { 0x0f, 0x31, 0xf4 }, KERNEL, 0, 0, NO_EXIT, 0, 0, NOINFO },
	{ "RDTSCP", { 0x0f, 0x01, 0xf9 }, KERNEL, PROC_RDTSC_EXITING, 0, VMX_EXIT_RDTSCP, 0, 3, NOINFO },
	{ "RDRAND ECX", { 0x0f, 0xc7, 0xf1 }, KERNEL, 0, PROC2_RDRAND_EXITING, VMX_EXIT_RDRAND, 0, 3, 1u << 3 | 1u << 11 },
	{ "RDSEED R10", { 0x49, 0x0f, 0xc7, 0xfa }, KERNEL, 0, PROC2_RDSEED_EXITING, VMX_EXIT_RDSEED, 0, 4,
		10u << 3 | 2u << 11 },
	{ "PAUSE", { 0xf3, 0x90 }, USER, PROC_PAUSE_EXITING, 0, VMX_EXIT_PAUSE_INSTRUCTION, 0, 2, NOINFO },
	{ "XSETBV, OSXSAVE 0", { 0x0f, 0x01, 0xd1 }, KERNEL, 0, 0, FAULT(X86_UD), 0, 0, NOINFO },
	{ "GETSEC, SMXE 0", { 0x0f, 0x37 }, KERNEL, 0, 0, FAULT(X86_UD), 0, 0, NOINFO },

	{ "MOV CR3, RAX", { 0x0f, 0x22, 0xd8 }, KERNEL, PROC_CR3_LOAD_EXITING, 0, VMX_EXIT_CR_ACCESS, 0x003, 3, NOINFO },
	{ "MOV CR3 at CPL 3", { 0x0f, 0x22, 0xd8 }, USER, PROC_CR3_LOAD_EXITING, 0, FAULT(X86_GP), 0, 0, NOINFO },
	{ "MOV R9, CR3", { 0x41, 0x0f, 0x20, 0xd9 }, KERNEL, PROC_CR3_STORE_EXITING, 0, VMX_EXIT_CR_ACCESS, 0x913, 4, NOINFO },
	{ "MOV CR8, RDX", { 0x44, 0x0f, 0x22, 0xc2 }, KERNEL, PROC_CR8_LOAD_EXITING, 0, VMX_EXIT_CR_ACCESS, 0x208, 4, NOINFO },
	{ "MOV RSI, CR8", { 0x44, 0x0f, 0x20, 0xc6 }, KERNEL, PROC_CR8_STORE_EXITING, 0, VMX_EXIT_CR_ACCESS, 0x618, 4, NOINFO },
	{ "MOV CR1: no such register", { 0x0f, 0x22, 0xc8 }, KERNEL, PROC_CR3_LOAD_EXITING, 0, FAULT(X86_UD), 0, 0, NOINFO },
	{ "MOV DR7, RBX", { 0x0f, 0x23, 0xfb }, KERNEL, PROC_MOV_DR_EXITING, 0, VMX_EXIT_DR_ACCESS, 0x307, 3, NOINFO },
	{ "MOV RBX, DR6 at CPL 3: exit first", { 0x0f, 0x21, 0xf3 }, USER, PROC_MOV_DR_EXITING, 0, VMX_EXIT_DR_ACCESS, 0x316, 3, NOINFO },
	{ "MOV RBX, DR4, DE 1: exit first", { 0x0f, 0x21, 0xe3 }, KERNEL, PROC_MOV_DR_EXITING, 0, VMX_EXIT_DR_ACCESS, 0x314, 3, NOINFO },

	{ "IN AL, 60h", { 0xe4, 0x60 }, KERNEL, PROC_UNCOND_IO_EXITING, 0, VMX_EXIT_IO_INSTRUCTION, 0x600048, 2, NOINFO },
	{ "OUT DX, AL", { 0xee }, KERNEL, PROC_UNCOND_IO_EXITING, 0, VMX_EXIT_IO_INSTRUCTION, 0x600000, 1, NOINFO },
	{ "OUT DX, EAX", { 0xef }, KERNEL, PROC_UNCOND_IO_EXITING, 0, VMX_EXIT_IO_INSTRUCTION, 0x600003, 1, NOINFO },
	{ "IN AX, DX", { 0x66, 0xed }, KERNEL, PROC_UNCOND_IO_EXITING, 0, VMX_EXIT_IO_INSTRUCTION, 0x600009, 2, NOINFO },
	{ "REP OUTSB", { 0xf3, 0x6e }, KERNEL, PROC_UNCOND_IO_EXITING, 0, VMX_EXIT_IO_INSTRUCTION, 0x600030, 2,
		2u << 7 | 3u << 15 },
	{ "FS OUTSW, 32-bit address", { 0x67, 0x64, 0x66, 0x6f }, KERNEL, PROC_UNCOND_IO_EXITING, 0,
		VMX_EXIT_IO_INSTRUCTION, 0x600011, 4, 1u << 7 | 4u << 15 },
	{ "INSD", { 0x6d }, KERNEL, PROC_UNCOND_IO_EXITING, 0, VMX_EXIT_IO_INSTRUCTION, 0x60001b, 1, 2u << 7 },
	{ "OUT at CPL 3: IOPL first", { 0xee }, USER, PROC_UNCOND_IO_EXITING, 0, FAULT(X86_GP), 0, 0, NOINFO },
	{ "bitmaps override unconditional", { 0xee, 0xf4 }, KERNEL, PROC_UNCOND_IO_EXITING | PROC_USE_IO_BITMAPS, 0,
		NO_EXIT, 0, 0, NOINFO },

	{ "SGDT [RCX]", { 0x0f, 0x01, 0x01 }, KERNEL, 0, PROC2_DTABLE_EXITING, VMX_EXIT_GDTR_IDTR, 0, 3,
		INFO_RCX | 1u << 11 },
	{ "LIDT [RIP+10h]", { 0x0f, 0x01, 0x1d, 0x10, 0, 0, 0 }, KERNEL, 0, PROC2_DTABLE_EXITING, VMX_EXIT_GDTR_IDTR,
		TK_CODE + 7 + 0x10, 7, 2u << 7 | 3u << 15 | 1u << 11 | 1u << 22 | 1u << 27 | 3u << 28 },
	{ "SIDT [RCX+RBX*4-8] at CPL 3", { 0x0f, 0x01, 0x4c, 0x99, 0xf8 }, USER, 0, PROC2_DTABLE_EXITING,
		VMX_EXIT_GDTR_IDTR, (u64)-8, 5, 2u | 2u << 7 | 3u << 15 | 3u << 18 | 1u << 23 | 1u << 11 | 1u << 28 },
	{ "LGDT at CPL 3", { 0x0f, 0x01, 0x11 }, USER, 0, PROC2_DTABLE_EXITING, FAULT(X86_GP), 0, 0, NOINFO },
	{ "SLDT EDX", { 0x0f, 0x00, 0xc2 }, KERNEL, 0, PROC2_DTABLE_EXITING, VMX_EXIT_LDTR_TR, 0, 3, NOINFO },
	{ "LTR [RCX]", { 0x0f, 0x00, 0x19 }, KERNEL, 0, PROC2_DTABLE_EXITING, VMX_EXIT_LDTR_TR, 0, 3, INFO_RCX | 3u << 28 },
	{ "SLDT in real mode", { 0x0f, 0x00, 0xc2 }, REAL, 0, PROC2_DTABLE_EXITING, FAULT(X86_UD), 0, 0, NOINFO },
	{ "INVPCID RDX, [RCX]", { 0x66, 0x0f, 0x38, 0x82, 0x11 }, KERNEL, PROC_INVLPG_EXITING, 0, VMX_EXIT_INVPCID, 0, 5,
		INFO_RCX | 2u << 28 },
	{ "INVPCID at CPL 3", { 0x66, 0x0f, 0x38, 0x82, 0x11 }, USER, PROC_INVLPG_EXITING, 0, FAULT(X86_GP), 0, 0, NOINFO },

	{ "RDMSR outside the bitmap", { 0xb9, 0, 0, 0, 0x40, 0x0f, 0x32 }, KERNEL, 0, 0, VMX_EXIT_MSR_READ, 0, 2, NOINFO },
	{ "WRMSR outside the bitmap", { 0xb9, 0, 0, 0, 0x40, 0x0f, 0x30 }, KERNEL, 0, 0, VMX_EXIT_MSR_WRITE, 0, 2, NOINFO },
	{ "RDMSR at CPL 3", { 0x0f, 0x32 }, USER, 0, 0, FAULT(X86_GP), 0, 0, NOINFO },

	{ "VMCALL", { 0x0f, 0x01, 0xc1 }, KERNEL, 0, 0, VMX_EXIT_VMCALL, 0, 3, NOINFO },
	{ "VMCALL in real mode", { 0x0f, 0x01, 0xc1 }, REAL, 0, 0, VMX_EXIT_VMCALL, 0, 3, NOINFO },
	{ "VMLAUNCH", { 0x0f, 0x01, 0xc2 }, KERNEL, 0, 0, VMX_EXIT_VMLAUNCH, 0, 3, NOINFO },
	{ "VMRESUME", { 0x0f, 0x01, 0xc3 }, KERNEL, 0, 0, VMX_EXIT_VMRESUME, 0, 3, NOINFO },
	{ "VMXOFF", { 0x0f, 0x01, 0xc4 }, KERNEL, 0, 0, VMX_EXIT_VMXOFF, 0, 3, NOINFO },
	{ "VMXOFF in real mode", { 0x0f, 0x01, 0xc4 }, REAL, 0, 0, FAULT(X86_UD), 0, 0, NOINFO },
	{ "VMXON [RCX]", { 0xf3, 0x0f, 0xc7, 0x31 }, KERNEL, 0, 0, VMX_EXIT_VMXON, 0, 4, INFO_RCX },
	{ "VMCLEAR [RCX+7Fh]", { 0x66, 0x0f, 0xc7, 0x71, 0x7f }, KERNEL, 0, 0, VMX_EXIT_VMCLEAR, 0x7f, 5, INFO_RCX },
	{ "VMPTRLD [RCX]", { 0x0f, 0xc7, 0x31 }, KERNEL, 0, 0, VMX_EXIT_VMPTRLD, 0, 3, INFO_RCX },
	{ "VMPTRST [RCX]", { 0x0f, 0xc7, 0x39 }, KERNEL, 0, 0, VMX_EXIT_VMPTRST, 0, 3, INFO_RCX },
	{ "VMREAD RBX, RDX", { 0x0f, 0x78, 0xd3 }, KERNEL, 0, 0, VMX_EXIT_VMREAD, 0, 3, 3u << 3 | 1u << 10 | 2u << 28 },
	{ "VMWRITE RDX, [RCX]", { 0x0f, 0x79, 0x11 }, KERNEL, 0, 0, VMX_EXIT_VMWRITE, 0, 3, INFO_RCX | 2u << 28 },
	{ "INVEPT RDX, [RCX]", { 0x66, 0x0f, 0x38, 0x80, 0x11 }, KERNEL, 0, 0, VMX_EXIT_INVEPT, 0, 5, INFO_RCX | 2u << 28 },
	{ "INVVPID R9, [RCX]", { 0x66, 0x44, 0x0f, 0x38, 0x81, 0x09 }, KERNEL, 0, 0, VMX_EXIT_INVVPID, 0, 6,
		INFO_RCX | 9u << 28 },
	{ "VMFUNC without control", { 0x0f, 0x01, 0xd4 }, KERNEL, 0, 0, FAULT(X86_UD), 0, 0, NOINFO },
	{ "INT3", { 0xcc }, KERNEL, 0, 0, FAULT(X86_BP), 0, 0, NOINFO },
	{ "UD2 in protected mode", { 0x0f, 0x0b }, PROTECTED, 0, 0, FAULT(X86_UD), 0, 0, NOINFO },
};

static void set_mode(struct tk *t, enum mode mode)
{
	if (mode == USER)
		tk_user(t);
	else if (mode == PROTECTED)
		tk_protected(t);
	else if (mode == REAL)
		tk_real(t);
}

static void set_gprs(struct tk *t)
{
	u64 *r = x86_gprs(t->cpu);

	r[X86_RAX] = 0xaaaaaaaaaaaaaaaa;
	r[X86_RCX] = TK_DATA;
	r[X86_RDX] = 0x60;
	r[X86_RBX] = TK_DATA + 8;
	r[X86_RSI] = r[X86_RDI] = TK_DATA;
}

static void check(const struct row *r)
{
	struct tk *t = tk_new();
	u32 reason;

	set_mode(t, r->mode);
	set_gprs(t);
	tk_or(t, VMCS_PROC_BASED_CTLS, r->proc);
	tk_or(t, VMCS_PROC_BASED_CTLS2, r->proc2);
	tk_set(t, VMCS_EXCEPTION_BITMAP, 0xffffffff);
	tk_code(t, r->code, sizeof(r->code));
	tk_enter(t);
	reason = (u32)tk_get(t, VMCS_EXIT_REASON);
	if (r->reason >= 0x1000 && r->reason != NO_EXIT) {
		if (reason != VMX_EXIT_EXCEPTION_NMI ||
		    (tk_get(t, VMCS_EXIT_INTR_INFO) & 0xff) != r->reason - 0x1000)
			fail_msg("%s: reason %u, info %#llx", r->name, reason,
				 (unsigned long long)tk_get(t, VMCS_EXIT_INTR_INFO));
	} else if (r->reason == NO_EXIT) {
		if (reason != VMX_EXIT_HLT)
			fail_msg("%s: reason %u", r->name, reason);
	} else {
		u64 qual = tk_get(t, VMCS_EXIT_QUALIFICATION);
		u32 info = (u32)tk_get(t, VMCS_EXIT_INSN_INFO);

		if (reason != r->reason || qual != r->qual || tk_get(t, VMCS_EXIT_INSN_LEN) != r->len ||
		    (r->info != NOINFO && info != r->info))
			fail_msg("%s: reason %u, qualification %#llx, length %llu, info %#x (want %#x)", r->name,
				 reason, (unsigned long long)qual,
				 (unsigned long long)tk_get(t, VMCS_EXIT_INSN_LEN), info, r->info);
		assert_int_equal(tk_get(t, VMCS_EXIT_INTR_INFO) & INTR_VALID, 0);
		assert_int_equal(tk_get(t, VMCS_IDT_VECTORING_INFO) & INTR_VALID, 0);
	}
	tk_free(t);
}

static void instructions(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		check(&rows[i]);
}

/* ---- Bitmaps ---- */

static void io_bitmaps(void **state)
{
	static const struct { u16 bit, port; u8 opcode; bool exits; } cases[] = {
		{ 0x60, 0x60, 0xee, true }, { 0x61, 0x60, 0xee, false }, { 0x61, 0x60, 0xef, true },
		{ 0x63, 0x60, 0xef, true }, { 0x64, 0x60, 0xef, false }, { 0x8000, 0x8000, 0xee, true },
		{ 0x8000, 0x7ffd, 0xef, true }, { 0xffff, 0xfffe, 0xee, false }, { 0, 0xfffd, 0xef, true },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct tk *t = tk_new();
		u8 *map = cases[i].bit & 0x8000 ? t->io_b : t->io_a;
		const u8 code[] = { cases[i].opcode, 0xf4 };

		map[(cases[i].bit & 0x7fff) / 8] = (u8)(1 << (cases[i].bit & 7));
		tk_or(t, VMCS_PROC_BASED_CTLS, PROC_USE_IO_BITMAPS);
		x86_gprs(t->cpu)[X86_RDX] = cases[i].port;
		tk_code(t, code, sizeof(code));
		tk_enter(t);
		tk_expect(t, cases[i].exits ? VMX_EXIT_IO_INSTRUCTION : VMX_EXIT_HLT);
		tk_free(t);
	}
}

static void msr_bitmaps(void **state)
{
	static const struct { u32 msr; bool write; u16 byte; u8 bit; } cases[] = {
		{ 0x277, false, 0x277 / 8, 7 }, { 0x277, true, 0x800 + 0x277 / 8, 7 },
		{ 0xc0000102, false, 0x400 + 0x102 / 8, 2 }, { 0xc0000102, true, 0xc00 + 0x102 / 8, 2 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct tk *t = tk_new();
		const u8 code[] = { 0x0f, cases[i].write ? 0x30 : 0x32, 0xf4 };
		u64 *r = x86_gprs(t->cpu);

		r[X86_RCX] = cases[i].msr;
		r[X86_RAX] = 6;
		r[X86_RDX] = 0;
		tk_code(t, code, sizeof(code));
		tk_enter(t);
		tk_expect(t, VMX_EXIT_HLT);
		t->msr_bitmap[cases[i].byte] = (u8)(1 << cases[i].bit);
		r[X86_RCX] = cases[i].msr;
		tk_again(t);
		tk_expect(t, cases[i].write ? VMX_EXIT_MSR_WRITE : VMX_EXIT_MSR_READ);
		tk_free(t);
	}
}

/* ---- Control registers ---- */

static void cr_masks(void **state)
{
	struct tk *t = tk_new();
	u64 *r = x86_gprs(t->cpu);

	tk_set(t, VMCS_CR0_MASK, CR0_TS | CR0_NE);
	tk_set(t, VMCS_CR0_SHADOW, CR0_NE);
	/* MOV CR0, RAX; MOV RBX, CR0; HLT */
	tk_code(t, "\x0f\x22\xc0\x0f\x20\xc3\xf4", 7);
	r[X86_RAX] = CR0_PE | CR0_PG | CR0_NE | CR0_ET | CR0_AM;	/* TS as in the shadow: no exit */
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(r[X86_RBX], CR0_PE | CR0_PG | CR0_NE | CR0_ET | CR0_AM);
	assert_int_equal(tk_get(t, VMCS_GUEST_CR0), CR0_PE | CR0_PG | CR0_NE | CR0_ET | CR0_AM);
	r[X86_RAX] |= CR0_TS;
	tk_again(t);
	tk_expect(t, VMX_EXIT_CR_ACCESS);
	assert_int_equal(tk_get(t, VMCS_EXIT_QUALIFICATION), 0);
	/* The host owns NE: a value that differs from the shadow exits, so no #GP. */
	r[X86_RAX] = CR0_PE | CR0_PG | CR0_ET;
	tk_again(t);
	tk_expect(t, VMX_EXIT_CR_ACCESS);

	/* A real TS under a clear shadow: the guest sees 0, CLTS does nothing. */
	tk_set(t, VMCS_GUEST_CR0, CR0_PE | CR0_PG | CR0_NE | CR0_ET | CR0_TS);
	tk_code(t, "\x0f\x06\x0f\x20\xc3\xf4", 6);
	tk_again(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(r[X86_RBX] & CR0_TS, 0);
	assert_int_equal(tk_get(t, VMCS_GUEST_CR0) & CR0_TS, CR0_TS);
	tk_set(t, VMCS_CR0_SHADOW, CR0_NE | CR0_TS);
	tk_again(t);
	tk_expect(t, VMX_EXIT_CR_ACCESS);
	assert_int_equal(tk_get(t, VMCS_EXIT_QUALIFICATION), 2 << 4);

	/* LMSW AX: only bits that the host owns and that differ; PE is never cleared. */
	tk_set(t, VMCS_CR0_MASK, CR0_PE | CR0_MP);
	tk_set(t, VMCS_CR0_SHADOW, CR0_PE | CR0_MP);
	tk_code(t, "\x0f\x01\xf0\xf4", 4);
	r[X86_RAX] = CR0_MP | CR0_EM;
	tk_again(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(tk_get(t, VMCS_GUEST_CR0) & 0xf, CR0_PE | CR0_EM);
	r[X86_RAX] = 0xff00;
	tk_again(t);
	tk_expect(t, VMX_EXIT_CR_ACCESS);
	assert_int_equal(tk_get(t, VMCS_EXIT_QUALIFICATION), 3 << 4 | 0xff00u << 16);
	tk_free(t);
}

static void cr3_targets(void **state)
{
	struct tk *t = tk_new();
	u64 *r = x86_gprs(t->cpu);

	tk_or(t, VMCS_PROC_BASED_CTLS, PROC_CR3_LOAD_EXITING);
	tk_set(t, VMCS_CR3_TARGET_COUNT, 2);
	tk_set(t, VMCS_CR3_TARGET1, TK_PML4);
	tk_set(t, VMCS_CR3_TARGET2, 0x7000);
	tk_code(t, "\x0f\x22\xd8\xf4", 4);
	r[X86_RAX] = TK_PML4;
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	r[X86_RAX] = 0x7000;
	tk_again(t);
	tk_expect(t, VMX_EXIT_CR_ACCESS);
	tk_free(t);
}

/* ---- What an exit saves and loads ---- */

static void state_round_trip(void **state)
{
	struct tk *t = tk_new();
	struct x86_state s;
	struct vmcs before, *v = (struct vmcs *)t->vmcs;

	tk_set(t, VMCS_GUEST_FS_BASE, 0x123456789000);
	tk_set(t, VMCS_GUEST_SYSENTER_ESP, 0x1111);
	tk_set(t, VMCS_HOST_GS_BASE, 0x7777000);
	tk_set(t, VMCS_HOST_GS_SEL, 0x28);
	tk_set(t, VMCS_GUEST_RFLAGS, 0x246);
	t->mem[TK_CODE] = 0xf4;
	before = *v;
	tk_enter(t);
	/* Nothing of the guest area changes when the first instruction exits. */
	for (unsigned i = 0; i < VMCS_NR_SLOTS; i++)
		if (i != VS_EXIT_REASON && i != VS_EXIT_INSN_LEN && before.f[i] != v->f[i])
			fail_msg("field %u: %#llx -> %#llx", i, (unsigned long long)before.f[i],
				 (unsigned long long)v->f[i]);
	x86_get_state(t->cpu, &s);
	assert_int_equal(s.rip, TK_HOST_RIP);
	assert_int_equal(s.gpr[X86_RSP], TK_HOST_RSP);
	assert_int_equal(s.rflags, 2);
	assert_int_equal(s.dr7, 0x400);
	assert_int_equal(s.gdtr.limit, 0xffff);
	assert_int_equal(s.seg[X86_GS].base, 0x7777000);
	assert_int_equal(s.seg[X86_GS].ar, 0xc093);
	assert_int_equal(s.seg[X86_DS].ar & X86_AR_UNUSABLE, X86_AR_UNUSABLE);
	assert_int_equal(s.seg[X86_CS].ar, 0xa09b);
	assert_int_equal(s.seg[X86_TR].ar, 0x8b);
	assert_int_equal(s.seg[X86_TR].limit, 0x67);
	tk_free(t);
}

/* A guest switches from real mode to 64-bit mode by itself; exits keep "IA-32e mode guest" in step. */
static void unrestricted_mode_switch(void **state)
{
	struct tk *t = tk_new();
	static const u8 code[] = {
		0x66, 0xb8, 0x20, 0x20, 0, 0,		/* mov eax, PAE | VMXE */
		0x0f, 0x22, 0xe0,			/* mov cr4, eax */
		0x66, 0xb8, 0x00, 0x10, 0, 0,		/* mov eax, TK_PML4 */
		0x0f, 0x22, 0xd8,			/* mov cr3, eax */
		0x66, 0xb9, 0x80, 0, 0, 0xc0,		/* mov ecx, EFER */
		0x66, 0xb8, 0x00, 0x01, 0, 0,		/* mov eax, LME */
		0x66, 0x31, 0xd2, 0x0f, 0x30,		/* xor edx, edx; wrmsr */
		0x66, 0xb8, 0x21, 0, 0, 0x80,		/* mov eax, PG | NE | PE */
		0x0f, 0x22, 0xc0,			/* mov cr0, eax */
		0xf4,
	};

	tk_real(t);
	tk_code(t, code, sizeof(code));
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(tk_get(t, VMCS_GUEST_EFER) & (EFER_LMA | EFER_LME), EFER_LMA | EFER_LME);
	assert_int_equal(tk_get(t, VMCS_ENTRY_CTLS) & ENTRY_IA32E_GUEST, ENTRY_IA32E_GUEST);
	/* The saved state enters again. */
	tk_set(t, VMCS_GUEST_RIP, tk_get(t, VMCS_GUEST_RIP));
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	tk_free(t);
}

/* VMCS memory that vanishes is the caller's bus error, with the guest before its instruction. */
static void bus_error(void **state)
{
	struct tk *t = tk_new();
	spa_t bad = SPA(0);

	x86_install_fault_handler();
	/* MOV [RCX], EAX to a page whose memory is gone. */
	tk_code(t, "\x90\x89\x01\xf4", 4);
	x86_gprs(t->cpu)[X86_RCX] = TK_DATA + 8;
	*tk_epte(t, TK_DATA) = 0x10000 | 6 << 3 | 7;
	assert_int_equal(x86_vmenter(t->cpu, true, &bad), VMX_BUS_ERROR);
	assert_int_equal(bad.v, 0x10008);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE + 1);
	*tk_epte(t, TK_DATA) = ((u64)t->mem + TK_DATA) | 6 << 3 | 7;
	assert_int_equal(x86_invept(t->cpu, 2, (u64[2]){ 0 }), VMX_OK);
	t->launched = true;
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE + 3);
	tk_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(instructions),
		cmocka_unit_test(io_bitmaps),
		cmocka_unit_test(msr_bitmaps),
		cmocka_unit_test(cr_masks),
		cmocka_unit_test(cr3_targets),
		cmocka_unit_test(state_round_trip),
		cmocka_unit_test(unrestricted_mode_switch),
		cmocka_unit_test(bus_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
