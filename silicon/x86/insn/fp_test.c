// SPDX-License-Identifier: MIT
/*
 * FP and vector instructions: availability faults, exceptions, upper lanes, the
 * x87 stack and environments, XSAVE formats. The bulk of the arithmetic is
 * compared with the host by tests/diff; here is what that cannot reach.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <cpuid.h>
#include <string.h>

#include "base/bits.h"
#include "silicon/x86/insn/fp_fake.h"
#include "silicon/x86/insn/fp_state.h"
#include "silicon/x86/insn/vec.h"
#include "silicon/x86/flags.h"

#define FPU (fake_cpu->fpu)
#define NF FAKE_NO_FAULT

static int setup(void **state)
{
	fake_reset();
	return 0;
}

/* ---- May it run? ---- */

enum { C_X87, C_WAIT, C_MMX, C_SSE, C_AVX, C_FXSAVE, C_XSAVE, NR_CLASSES };

static u8 run_class(int class)
{
	switch (class) {
	case C_X87: return FAKE_RUN(NULL, 0xd9, 0xd0);				/* fnop */
	case C_WAIT: return FAKE_RUN(NULL, 0x9b);
	case C_MMX: return FAKE_RUN(NULL, 0x0f, 0xef, 0xc0);			/* pxor mm0, mm0 */
	case C_SSE: return FAKE_RUN(NULL, 0x0f, 0x57, 0xc0);			/* xorps xmm0, xmm0 */
	case C_AVX: return FAKE_RUN(NULL, 0xc5, 0xf8, 0x57, 0xc0);		/* vxorps */
	case C_FXSAVE: return FAKE_RUN(fake_arena, 0x0f, 0xae, 0x03);
	default: return FAKE_RUN(fake_arena, 0x0f, 0xae, 0x23);			/* xsave */
	}
}

static void test_availability(void **state)
{
	static const struct {
		const char *what;
		u64 cr0_set, cr0_clear, cr4_clear, xcr0;
		u16 fsw;
		u8 vector[NR_CLASSES];
	} rows[] = {
		/*                                                          x87    wait   mmx    sse    avx   fxsave xsave */
		{ "all on", 0, 0, 0, 7, 0,                         { NF, NF, NF, NF, NF, NF, NF } },
		{ "EM", CR0_EM, 0, 0, 7, 0,                        { X86_NM, NF, X86_UD, X86_UD, NF, X86_NM, NF } },
		{ "TS", CR0_TS, 0, 0, 7, 0,                        { X86_NM, X86_NM, X86_NM, X86_NM, X86_NM, X86_NM, X86_NM } },
		{ "TS, MP = 0", CR0_TS, CR0_MP, 0, 7, 0,           { X86_NM, NF, X86_NM, X86_NM, X86_NM, X86_NM, X86_NM } },
		{ "OSFXSR = 0", 0, 0, CR4_OSFXSR, 7, 0,            { NF, NF, NF, X86_UD, NF, NF, NF } },
		{ "OSFXSR = 0, TS", CR0_TS, 0, CR4_OSFXSR, 7, 0,   { X86_NM, X86_NM, X86_NM, X86_UD, X86_NM, X86_NM, X86_NM } },
		{ "OSXSAVE = 0", 0, 0, CR4_OSXSAVE, 7, 0,          { NF, NF, NF, NF, X86_UD, NF, X86_UD } },
		{ "XCR0 without AVX", 0, 0, 0, 3, 0,               { NF, NF, NF, NF, X86_UD, NF, NF } },
		{ "XCR0 without AVX, TS", CR0_TS, 0, 0, 3, 0,      { X86_NM, X86_NM, X86_NM, X86_NM, X86_UD, X86_NM, X86_NM } },
		{ "pending x87 error", 0, 0, 0, 7, 0x8081,         { X86_MF, X86_MF, X86_MF, NF, NF, NF, NF } },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		for (int c = 0; c < NR_CLASSES; c++) {
			u8 got;

			fake_reset();
			fake_cpu->cr0 = (fake_cpu->cr0 & ~rows[i].cr0_clear) | rows[i].cr0_set;
			fake_cpu->cr4 &= ~rows[i].cr4_clear;
			fake_cpu->xcr0 = rows[i].xcr0;
			FPU.fsw = rows[i].fsw;
			if (rows[i].fsw)
				FPU.fcw = 0x37e;
			got = run_class(c);
			if (got != rows[i].vector[c])
				print_error("%s, class %d\n", rows[i].what, c);
			assert_int_equal(got, rows[i].vector[c]);
		}
	}
}

static void test_alignment(void **state)
{
	static const struct { const char *what; u8 code[6]; u8 len; u8 vector; } rows[] = {
		{ "movaps load", { 0x0f, 0x28, 0x03 }, 3, X86_GP },
		{ "movaps store", { 0x0f, 0x29, 0x03 }, 3, X86_GP },
		{ "movups load", { 0x0f, 0x10, 0x03 }, 3, NF },
		{ "addps", { 0x0f, 0x58, 0x03 }, 3, X86_GP },
		{ "addss", { 0xf3, 0x0f, 0x58, 0x03 }, 4, NF },
		{ "vaddps", { 0xc5, 0xf8, 0x58, 0x03 }, 4, NF },
		{ "vaddps ymm", { 0xc5, 0xfc, 0x58, 0x03 }, 4, NF },
		{ "vmovaps ymm", { 0xc5, 0xfc, 0x28, 0x03 }, 4, X86_GP },
		{ "movntdq", { 0x66, 0x0f, 0xe7, 0x03 }, 4, X86_GP },
		{ "pcmpistri", { 0x66, 0x0f, 0x3a, 0x63, 0x03, 0 }, 6, NF },
		{ "fxsave", { 0x0f, 0xae, 0x03 }, 3, X86_GP },
		{ "paddb mm", { 0x0f, 0xfc, 0x03 }, 3, NF },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		fake_reset();
		if (fake_run(rows[i].code, rows[i].len, fake_arena + 8) != rows[i].vector)
			fail_msg("%s", rows[i].what);
	}
	fake_reset();
	/* 16-aligned is enough for FXSAVE and MOVAPS, not for XSAVE or 32 bytes. */
	assert_int_equal(FAKE_RUN(fake_arena + 16, 0x0f, 0xae, 0x03), NF);
	assert_int_equal(FAKE_RUN(fake_arena + 16, 0x0f, 0xae, 0x23), X86_GP);
	assert_int_equal(FAKE_RUN(fake_arena + 16, 0xc5, 0xfc, 0x28, 0x03), X86_GP);
}

/* ---- SIMD exceptions ---- */

/* op xmm0, xmm1 (ps); two elements given, the others 1.0. */
static void test_simd_exceptions(void **state)
{
	static const u32 one = 0x3f800000, two = 0x40000000, max = 0x7f7fffff, tiny = 0x00800000, half = 0x3f000000,
			 den = 1, snan = 0x7f800001, zero = 0;
	const struct { u8 opcode; u32 a0, b0, a1, b1, mxcsr; u8 vector; u32 out; } rows[] = {
		{ 0x5e, one, zero, one, one, 0x1f80, NF, 0x1f84 },		/* divps: ZE masked */
		{ 0x5e, one, zero, one, one, 0x1d80, X86_XM, 0x1d84 },
		{ 0x5e, one, zero, snan, one, 0x1d80, X86_XM, 0x1d85 },	/* all pre-computation flags */
		{ 0x5e, one, zero, max, half, 0x1d80, X86_XM, 0x1d84 },	/* no overflow flag beside an unmasked ZE */
		{ 0x59, max, two, one, one, 0x1f80, NF, 0x1fa8 },		/* mulps: OE PE */
		{ 0x59, max, two, den, zero, 0x1e80, X86_XM, 0x1e82 },	/* DE unmasked only */
		{ 0x59, tiny, half, one, one, 0x1f80, NF, 0x1f80 },		/* exact denormal: no UE */
		{ 0x59, tiny, half, one, one, 0x1780, X86_XM, 0x1790 },	/* but with UE unmasked */
		{ 0x59, tiny, half, one, one, 0x9780, X86_XM, 0x9790 },	/* FTZ is inactive then */
		{ 0x59, tiny, half, one, one, 0x9f80, NF, 0x9fb0 },		/* FTZ: UE PE */
		{ 0x59, den, two, one, one, 0x1fc0, NF, 0x1fc0 },		/* DAZ: no DE */
		{ 0x59, max, two, one, one, 0x1b80, X86_XM, 0x1b88 },	/* OE unmasked: exact but for its exponent */
		{ 0x59, max, max, one, one, 0x1b80, X86_XM, 0x1ba8 },
		{ 0x59, tiny + 1, half, one, one, 0x1780, X86_XM, 0x1790 },	/* likewise UE */
		{ 0x58, max, max, one, den, 0x1b80, X86_XM, 0x1baa },	/* addps: PE of the other element, DE */
		{ 0x58, snan, one, one, one, 0x1f00, X86_XM, 0x1f01 },	/* IE */
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct x86_ymm before;
		u8 got;

		fake_reset();
		FPU.mxcsr = rows[i].mxcsr;
		for (unsigned k = 0; k < 8; k++)
			FPU.ymm[0].d[k] = FPU.ymm[1].d[k] = one;
		FPU.ymm[0].d[0] = rows[i].a0;
		FPU.ymm[1].d[0] = rows[i].b0;
		FPU.ymm[0].d[3] = rows[i].a1;
		FPU.ymm[1].d[3] = rows[i].b1;
		before = FPU.ymm[0];
		got = FAKE_RUN(NULL, 0x0f, rows[i].opcode, 0xc1);
		if (got != rows[i].vector || FPU.mxcsr != rows[i].out)
			fail_msg("row %u: vector %u mxcsr %x", i, got, FPU.mxcsr);
		if (got != NF)
			assert_memory_equal(&before, &FPU.ymm[0], 32);
	}
	/* DPPS: the product's unmasked PE comes before the sum's DE. */
	fake_reset();
	FPU.ymm[0].d[0] = FPU.ymm[1].d[0] = 0x3f800001;
	FPU.ymm[0].d[1] = 0x00000001;
	FPU.ymm[1].d[1] = one;
	FPU.mxcsr = 0x0e80;
	assert_int_equal(FAKE_RUN(NULL, 0x66, 0x0f, 0x3a, 0x40, 0xc1, 0x11), X86_XM);
	assert_int_equal(FPU.mxcsr, 0x0ea0);
	/* Without CR4.OSXMMEXCPT the same is #UD. */
	fake_reset();
	FPU.mxcsr = 0x1d80;
	FPU.ymm[0].d[0] = one;
	fake_cpu->cr4 &= ~CR4_OSXMMEXCPT;
	assert_int_equal(FAKE_RUN(NULL, 0xf3, 0x0f, 0x5e, 0xc1), X86_UD);
	assert_int_equal(FPU.mxcsr, 0x1d84);
}

/* VCVTPS2PH knows no FTZ, and its tiny results are those of 11 significant bits. */
static void test_half_exceptions(void **state)
{
	const struct { u32 a0, a1, mxcsr; u8 vector; u32 out; } rows[] = {
		{ 0x37c00000, 0, 0x1f80, NF, 0x1f80 },		/* 0x1.8p-16: exact */
		{ 0x37c00000, 0, 0x1780, X86_XM, 0x1790 },	/* but with UE unmasked */
		{ 0x37c00800, 0, 0x1780, X86_XM, 0x17b0 },	/* inexact as well */
		{ 0x37c00000, 0x3f800800, 0x1780, X86_XM, 0x17b0 },	/* PE of the other element */
		{ 0x47ffe000, 0, 0x1b80, X86_XM, 0x1b88 },	/* too large, and exact but for its exponent */
		{ 0x47ffe000, 0, 0x9f80, NF, 0x9fa8 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		u8 got;

		fake_reset();
		FPU.mxcsr = rows[i].mxcsr;
		FPU.ymm[1] = (struct x86_ymm){ .d = { rows[i].a0, rows[i].a1 } };
		got = FAKE_RUN(NULL, 0xc4, 0xe3, 0x79, 0x1d, 0xc8, 0x00);	/* vcvtps2ph $0, %xmm1, %xmm0 */
		if (got != rows[i].vector || FPU.mxcsr != rows[i].out)
			fail_msg("row %u: vector %u mxcsr %x", i, got, FPU.mxcsr);
	}
}

static void test_mxcsr_reserved(void **state)
{
	*(u32 *)fake_arena = 0x10000;
	assert_int_equal(FAKE_RUN(fake_arena, 0x0f, 0xae, 0x13), X86_GP);
	*(u32 *)fake_arena = 0xffff;
	assert_int_equal(FAKE_RUN(fake_arena, 0x0f, 0xae, 0x13), NF);
	assert_int_equal(FPU.mxcsr, 0xffff);
	assert_int_equal(FAKE_RUN(fake_arena + 4, 0x0f, 0xae, 0x1b), NF);
	assert_int_equal(*(u32 *)(fake_arena + 4), 0xffff);
}

/* ---- Upper lanes ---- */

static void test_upper_lanes(void **state)
{
	static const struct { const char *what; u8 code[6]; u8 len; bool keeps; } rows[] = {
		{ "paddd xmm0, xmm1", { 0x66, 0x0f, 0xfe, 0xc1 }, 4, true },
		{ "vpaddd xmm0, xmm0, xmm1", { 0xc5, 0xf9, 0xfe, 0xc1 }, 4, false },
		{ "movss xmm0, [rbx]", { 0xf3, 0x0f, 0x10, 0x03 }, 4, true },
		{ "vmovss xmm0, [rbx]", { 0xc5, 0xfa, 0x10, 0x03 }, 4, false },
		{ "movd xmm0, eax", { 0x66, 0x0f, 0x6e, 0xc0 }, 4, true },
		{ "addss xmm0, xmm1", { 0xf3, 0x0f, 0x58, 0xc1 }, 4, true },
		{ "vaddss xmm0, xmm0, xmm1", { 0xc5, 0xfa, 0x58, 0xc1 }, 4, false },
		{ "aesenc xmm0, xmm1", { 0x66, 0x0f, 0x38, 0xdc, 0xc1 }, 5, true },
		{ "sha1msg1 xmm0, xmm1", { 0x0f, 0x38, 0xc9, 0xc1 }, 4, true },
		{ "pcmpistrm xmm0, xmm1, 0", { 0x66, 0x0f, 0x3a, 0x62, 0xc1, 0 }, 6, true },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		fake_reset();
		for (unsigned k = 0; k < 8; k++)
			FPU.ymm[0].d[k] = FPU.ymm[1].d[k] = 0x3f800000 + k;
		assert_int_equal(fake_run(rows[i].code, rows[i].len, fake_arena), NF);
		if ((FPU.ymm[0].q[3] != 0) != rows[i].keeps)
			fail_msg("%s", rows[i].what);
	}
	/* VZEROUPPER reaches all registers in 64-bit mode, eight elsewhere. */
	for (int m = 0; m < 2; m++) {
		fake_reset();
		if (m) {
			fake_cpu->mode = X86_MODE_COMPAT;
			fake_cpu->code_size = 4;
		}
		FPU.ymm[7].q[2] = FPU.ymm[8].q[2] = 1;
		assert_int_equal(FAKE_RUN(NULL, 0xc5, 0xf8, 0x77), NF);
		assert_int_equal(FPU.ymm[7].q[2], 0);
		assert_int_equal(FPU.ymm[8].q[2], m);
	}
}

/* ---- Known answers ---- */

static void set_xmm(unsigned n, u64 high, u64 low)
{
	FPU.ymm[n].q[0] = low;
	FPU.ymm[n].q[1] = high;
}

static void test_known_answers(void **state)
{
	/* PCLMULQDQ example of the Intel white paper on carry-less multiplication. */
	set_xmm(1, 0x7b5b546573745665, 0x63746f725d53475d);
	set_xmm(2, 0x4869285368617929, 0x5b477565726f6e5d);
	assert_int_equal(FAKE_RUN(NULL, 0xc4, 0xe3, 0x71, 0x44, 0xc2, 0x00), NF);
	assert_true(FPU.ymm[0].q[1] == 0x1d4d84c85c3440c0 && FPU.ymm[0].q[0] == 0x929633d5d36f0451);

	/* AESENC example of the Intel AES-NI white paper. */
	set_xmm(1, 0x7b5b546573745665, 0x63746f725d53475d);
	set_xmm(2, 0x4869285368617929, 0x5b477565726f6e5d);
	assert_int_equal(FAKE_RUN(NULL, 0x66, 0x0f, 0x38, 0xdc, 0xca), NF);
	assert_true(FPU.ymm[1].q[1] == 0xa8311c2f9fdba3c5 && FPU.ymm[1].q[0] == 0x8b104b58ded7e595);

	/* PCMPISTRI, equal any: first of "aeiou" in "Hello". */
	memset(&FPU.ymm[1], 0, 32);
	memset(&FPU.ymm[2], 0, 32);
	memcpy(&FPU.ymm[1], "aeiou", 5);
	memcpy(&FPU.ymm[2], "Hello", 5);
	assert_int_equal(FAKE_RUN(NULL, 0x66, 0x0f, 0x3a, 0x63, 0xca, 0x00), NF);
	assert_int_equal(fake_cpu->gpr[X86_RCX], 1);
	assert_int_equal(x86_get_arith(fake_cpu), RFLAGS_CF | RFLAGS_ZF | RFLAGS_SF);
	/* Most significant index, negated. */
	assert_int_equal(FAKE_RUN(NULL, 0x66, 0x0f, 0x3a, 0x63, 0xca, 0x50), NF);
	assert_int_equal(fake_cpu->gpr[X86_RCX], 15);

	/* COMISS of unordered operands: ZF PF CF, IE for a quiet NaN. */
	FPU.ymm[1].d[0] = 0x7fc00000;
	assert_int_equal(FAKE_RUN(NULL, 0x0f, 0x2f, 0xca), NF);
	assert_int_equal(x86_get_arith(fake_cpu), RFLAGS_ZF | RFLAGS_PF | RFLAGS_CF);
	assert_int_equal(FPU.mxcsr, 0x1f81);
}

/* ---- Bodies in C against the host's instructions ---- */

static void test_soft_bodies(void **state)
{
	static const struct { const char *name; u8 code[6]; u8 len; u16 imms; } rows[] = {
		{ "aesenc", { 0x66, 0x0f, 0x38, 0xdc, 0xca }, 5, 1 },
		{ "aesenclast", { 0x66, 0x0f, 0x38, 0xdd, 0xca }, 5, 1 },
		{ "aesdec", { 0x66, 0x0f, 0x38, 0xde, 0xca }, 5, 1 },
		{ "aesdeclast", { 0x66, 0x0f, 0x38, 0xdf, 0xca }, 5, 1 },
		{ "aesimc", { 0x66, 0x0f, 0x38, 0xdb, 0xca }, 5, 1 },
		{ "vaesenc", { 0xc4, 0xe2, 0x61, 0xdc, 0xca }, 5, 1 },
		{ "aeskeygenassist", { 0x66, 0x0f, 0x3a, 0xdf, 0xca }, 5, 256 },
		{ "pclmulqdq", { 0x66, 0x0f, 0x3a, 0x44, 0xca }, 5, 256 },
		{ "sha1msg1", { 0x0f, 0x38, 0xc9, 0xca }, 4, 1 },
		{ "sha1msg2", { 0x0f, 0x38, 0xca, 0xca }, 4, 1 },
		{ "sha1nexte", { 0x0f, 0x38, 0xc8, 0xca }, 4, 1 },
		{ "sha1rnds4", { 0x0f, 0x3a, 0xcc, 0xca }, 4, 256 },
		{ "sha256msg1", { 0x0f, 0x38, 0xcc, 0xca }, 4, 1 },
		{ "sha256msg2", { 0x0f, 0x38, 0xcd, 0xca }, 4, 1 },
		{ "sha256rnds2", { 0x0f, 0x38, 0xcb, 0xca }, 4, 1 },
	};
	u64 seed = 1;

	/* On a host without the instruction both runs are the C body: nothing to compare. */
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		for (unsigned k = 0; k < 256; k++) {
			u8 code[7];
			struct x86_fpu in, soft;
			unsigned len = rows[i].len;

			memcpy(code, rows[i].code, len);
			if (rows[i].imms > 1)
				code[len++] = (u8)k;
			fake_reset();
			for (unsigned r = 0; r < 4; r++)
				for (unsigned q = 0; q < 4; q++)
					FPU.ymm[r].q[q] = seed = seed * 6364136223846793005 + 1442695040888963407;
			in = FPU;
			x86_vec_force_soft = true;
			assert_int_equal(fake_run(code, len, NULL), NF);
			x86_vec_force_soft = false;
			soft = FPU;
			FPU = in;
			assert_int_equal(fake_run(code, len, NULL), NF);
			if (memcmp(&soft, &FPU, sizeof(soft)))
				fail_msg("%s, immediate %u", rows[i].name, k);
		}
	}
	/* SHA-256 of nothing but two rounds on known words: independent of the host. */
	x86_vec_force_soft = true;
	fake_reset();
	set_xmm(1, 0x3c6ef372a54ff53a, 0x1f83d9ab5be0cd19);	/* CDGH of the initial hash */
	set_xmm(2, 0x6a09e667bb67ae85, 0x510e527f9b05688c);	/* ABEF */
	FPU.ymm[0].d[0] = 0x61626380u + 0x428a2f98u;		/* "abc", padded, and K0, K1 */
	FPU.ymm[0].d[1] = 0x71374491;
	assert_int_equal(FAKE_RUN(NULL, 0x0f, 0x38, 0xcb, 0xca), NF);
	x86_vec_force_soft = false;
	/* FIPS 180-4 example "abc", after t = 1: A 5a6ad9ad, B 5d6aebcd, E 78ce7989, F fa2a4622. */
	assert_int_equal(FPU.ymm[1].d[3], 0x5a6ad9ad);
	assert_int_equal(FPU.ymm[1].d[2], 0x5d6aebcd);
	assert_int_equal(FPU.ymm[1].d[1], 0x78ce7989);
	assert_int_equal(FPU.ymm[1].d[0], 0xfa2a4622);
}

/* ---- Masked memory ---- */

static void test_gather_restart(void **state)
{
	/* vpgatherdd ymm0, [rbx + ymm1*4], ymm2: element 5 is in the faulting page. */
	u32 *base = (u32 *)(fake_arena + FAKE_ARENA_SIZE - 32);

	for (unsigned i = 0; i < 8; i++) {
		base[i] = 100 + i;
		FPU.ymm[1].d[i] = i;
		FPU.ymm[2].d[i] = 0x80000000;
		FPU.ymm[0].d[i] = 7;
	}
	FPU.ymm[1].d[5] = 8;
	FPU.ymm[2].d[2] = 0x7fffffff;
	assert_int_equal(FAKE_RUN(base, 0xc4, 0xe2, 0x6d, 0x90, 0x04, 0x8b), X86_PF);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(FPU.ymm[0].d[i], i < 5 && i != 2 ? 100 + i : 7);
		assert_int_equal(FPU.ymm[2].d[i] >> 31, i >= 5);
	}
	FPU.ymm[1].d[5] = 5;
	assert_int_equal(FAKE_RUN(base, 0xc4, 0xe2, 0x6d, 0x90, 0x04, 0x8b), NF);
	assert_int_equal(FPU.ymm[0].d[5], 105);
	assert_int_equal(FPU.ymm[0].d[2], 7);
	assert_int_equal(FPU.ymm[2].q[0] | FPU.ymm[2].q[1] | FPU.ymm[2].q[2] | FPU.ymm[2].q[3], 0);
	/* Destination, index and mask must differ. */
	assert_int_equal(FAKE_RUN(base, 0xc4, 0xe2, 0x7d, 0x90, 0x04, 0x8b), X86_UD);
}

static void test_masked_stores(void **state)
{
	u32 *end = (u32 *)(fake_arena + FAKE_ARENA_SIZE - 8);

	/* vpmaskmovd [rbx], xmm2, xmm0 over the end: enabled elements only. */
	FPU.ymm[0].d[0] = 1;
	FPU.ymm[0].d[1] = 2;
	FPU.ymm[2].d[0] = FPU.ymm[2].d[1] = 0x80000000;
	assert_int_equal(FAKE_RUN(end, 0xc4, 0xe2, 0x69, 0x8e, 0x03), NF);
	assert_int_equal(end[0], 1);
	assert_int_equal(end[1], 2);
	/* A third element faults and nothing is written. */
	FPU.ymm[0].d[0] = 9;
	FPU.ymm[2].d[2] = 0x80000000;
	assert_int_equal(FAKE_RUN(end, 0xc4, 0xe2, 0x69, 0x8e, 0x03), X86_PF);
	assert_int_equal(end[0], 1);
	/* No element: no access at all, not even to a non-canonical address. */
	memset(&FPU.ymm[2], 0x7f, 32);
	assert_int_equal(FAKE_RUN((void *)(1ull << 62), 0xc4, 0xe2, 0x69, 0x8e, 0x03), NF);
	assert_int_equal(FAKE_RUN((void *)(1ull << 62), 0xc4, 0xe2, 0x69, 0x8c, 0x03), NF);
}

/* ---- x87 ---- */

static void test_x87_stack(void **state)
{
	for (unsigned i = 0; i < 9; i++)
		assert_int_equal(FAKE_RUN(NULL, 0xd9, 0xe8), NF);	/* fld1 */
	assert_int_equal(FPU.fsw, 0x3a41);
	assert_int_equal(FPU.st[7].exp, 0xffff);
	assert_true(FPU.st[7].mant == 0xc000000000000000);
	/* FSTP of an empty register. */
	fake_reset();
	assert_int_equal(FAKE_RUN(fake_arena, 0xdd, 0x1b), NF);
	assert_int_equal(FPU.fsw, 0x0841);
	assert_true(*(u64 *)fake_arena == 0xfff8000000000000);
	/* Unmasked: nothing moves, ES and B tell, the next waiting instruction faults. */
	fake_reset();
	FPU.fcw = 0x37e;
	assert_int_equal(FAKE_RUN(fake_arena, 0xdd, 0x1b), NF);
	assert_int_equal(FPU.fsw, 0x80c1);
	assert_int_equal(FPU.fop, 0x51b);
	assert_true(FPU.fdp == (u64)fake_arena);
	assert_int_equal(*(u64 *)fake_arena, 0);
	assert_int_equal(FAKE_RUN(NULL, 0xd9, 0xe8), X86_MF);
	assert_int_equal(FAKE_RUN(NULL, 0xdf, 0xe0), NF);		/* fnstsw ax does not wait */
	assert_int_equal(fake_cpu->gpr[X86_RAX], 0x80c1);
	assert_int_equal(FAKE_RUN(NULL, 0xdb, 0xe2), NF);		/* fnclex */
	assert_int_equal(FPU.fsw, 0);
}

static void test_x87_unmasked_overflow(void **state)
{
	/* FMUL with OE unmasked delivers the result with its exponent 24576 too small. */
	FPU.fcw = 0x377;
	FPU.ftw = 0xff;
	FPU.st[0] = (x86_f80_t){ .mant = 1ull << 63, .exp = 0x7ffe };
	FPU.st[1] = (x86_f80_t){ .mant = 1ull << 63, .exp = 0x4fff };
	assert_int_equal(FAKE_RUN(NULL, 0xd8, 0xc9), NF);
	assert_int_equal(FPU.st[0].exp, 0x7ffe + 0x1000 - 24576);
	assert_int_equal(FPU.fsw, 0x8088);
}

static void test_x87_env(void **state)
{
	static const struct { u8 mode, code_size; u32 env[7]; unsigned size; } rows[] = {
		{ X86_MODE_64, 8, { 0xffff037f, 0xffff3800, 0xffff3fff, 0x00045678, 0x01230000, 0x0009abcd, 0xffff0000 }, 28 },
		{ X86_MODE_PROT, 2, { 0x3800037f, 0x56783fff, 0xabcd0000, 0 }, 14 },
		{ X86_MODE_REAL, 2, { 0x3800037f, 0x56783fff, 0xabcd4123, 0x9000 }, 14 },
		{ X86_MODE_REAL, 4, { 0xffff037f, 0xffff3800, 0xffff3fff, 0xffff5678, 0x00004123, 0xffffabcd, 0x00009000 }, 28 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		u8 fnstenv[] = { 0xd9, 0x33 }, fnstenv16[] = { 0x67, 0xd9, 0x33 };
		struct x86_fpu before;

		fake_reset();
		fake_cpu->mode = rows[i].mode;
		fake_cpu->code_size = rows[i].code_size;
		fake_cpu->seg_base[X86_DS] = 0;
		FAKE_RUN(NULL, 0xd9, 0xe8);
		FPU.fip = 0x45678;
		FPU.fdp = 0x9abcd;
		FPU.fop = 0x123;
		before = FPU;
		/* Addresses of the arena need 64 bits: build the operand by hand through the segment base. */
		if (rows[i].mode != X86_MODE_64) {
			fake_cpu->seg_read_ok = fake_cpu->seg_write_ok = 0x3f;
			fake_cpu->seg_base[X86_DS] = (u64)fake_arena;
			fake_cpu->gpr[X86_RBX] = fake_cpu->gpr[X86_RDI] = fake_cpu->gpr[X86_RBP] = 0;
			if (rows[i].code_size == 4)
				assert_int_equal(fake_run(fnstenv, 2, NULL), NF);
			else
				assert_int_equal(fake_run(fnstenv16, 3, NULL), NF);
		} else {
			assert_int_equal(fake_run(fnstenv, 2, fake_arena), NF);
		}
		if (memcmp(fake_arena, rows[i].env, rows[i].size))
			fail_msg("row %u", i);
		assert_int_equal(FPU.fcw, 0x37f);
		/* And back. */
		x86_fp_init(fake_cpu);
		if (rows[i].mode == X86_MODE_64 || rows[i].code_size == 4)
			assert_int_equal(FAKE_RUN(NULL, 0xd9, 0x23), NF);
		else
			assert_int_equal(FAKE_RUN(NULL, 0x67, 0xd9, 0x23), NF);
		assert_int_equal(FPU.fsw, before.fsw);
		assert_int_equal(FPU.ftw, before.ftw);
		assert_int_equal(FPU.fip, rows[i].size == 14 && rows[i].mode == X86_MODE_PROT ? 0x5678 : 0x45678);
	}
}

static void test_mmx_aliasing(void **state)
{
	FAKE_RUN(NULL, 0xd9, 0xe8);
	fake_cpu->gpr[X86_RAX] = 0x1122334455667788;
	assert_int_equal(FAKE_RUN(NULL, 0x48, 0x0f, 0x6e, 0xd0), NF);	/* movq mm2, rax */
	assert_int_equal(FPU.fsw, 0);
	assert_int_equal(FPU.ftw, 0xff);
	assert_int_equal(FPU.st[2].exp, 0xffff);
	assert_int_equal(FPU.st[7].exp, 0x3fff);
	/* packuswb, punpckhbw, pshufb and palignr see eight bytes. */
	assert_int_equal(FAKE_RUN(NULL, 0x0f, 0x68, 0xd2), NF);		/* punpckhbw mm2, mm2 */
	assert_true(FPU.st[2].mant == 0x1111222233334444);
	FPU.st[1].mant = 0x8081020380808180;
	assert_int_equal(FAKE_RUN(NULL, 0x0f, 0x38, 0x00, 0xd1), NF);	/* pshufb mm2, mm1 */
	assert_true(FPU.st[2].mant == 0x0000333300000000);
	FPU.st[1].mant = 0x0102030405060708;
	assert_int_equal(FAKE_RUN(NULL, 0x0f, 0x3a, 0x0f, 0xd1, 0x03), NF);	/* palignr mm2, mm1, 3 */
	assert_true(FPU.st[2].mant == 0x0000000102030405);
	assert_int_equal(FAKE_RUN(NULL, 0x0f, 0x77), NF);
	assert_int_equal(FPU.ftw, 0);
}

/* ---- FXSAVE and XSAVE ---- */

static void fill_state(void)
{
	for (unsigned i = 0; i < 16; i++)
		for (unsigned k = 0; k < 32; k++)
			FPU.ymm[i].b[k] = (u8)(i * 37 + k * 11 + 1);
	for (unsigned i = 0; i < 8; i++)
		FPU.st[i] = (x86_f80_t){ .mant = 0x8000000000000000 + i, .exp = (u16)(0x4000 + i) };
	FPU.fsw = 0x1800;	/* TOP = 3 */
	FPU.ftw = 0xf8;
	FPU.mxcsr = 0x1fa0;
	FPU.fip = 0x123456789abc;
	FPU.fdp = 0x876543210fed;
	FPU.fop = 0x7ab;
}

static void test_fxsave(void **state)
{
	u8 *a = fake_arena;

	fill_state();
	memset(a, 0xcc, 512);
	assert_int_equal(FAKE_RUN(a, 0x48, 0x0f, 0xae, 0x03), NF);	/* fxsave64 */
	assert_int_equal(*(u16 *)a, 0x37f);
	assert_int_equal(*(u16 *)(a + 2), 0x1800);
	assert_int_equal(a[4], 0xf8);
	assert_int_equal(*(u16 *)(a + 6), 0x7ab);
	assert_true(*(u64 *)(a + 8) == FPU.fip && *(u64 *)(a + 16) == FPU.fdp);
	assert_int_equal(*(u32 *)(a + 24), 0x1fa0);
	assert_int_equal(*(u32 *)(a + 28), 0xffff);
	assert_int_equal(*(u64 *)(a + 32) & 0xff, 3);		/* ST(0) is physical register 3 */
	assert_memory_equal(a + 160 + 15 * 16, &FPU.ymm[15], 16);
	assert_int_equal(a[464], 0xcc);
	memset(a, 0xcc, 512);
	assert_int_equal(FAKE_RUN(a, 0x0f, 0xae, 0x03), NF);
	assert_true(*(u64 *)(a + 8) == 0x56789abc);
	/* Without OSFXSR the XMM part stays out. */
	memset(a, 0xcc, 512);
	fake_cpu->cr4 &= ~CR4_OSFXSR;
	assert_int_equal(FAKE_RUN(a, 0x0f, 0xae, 0x03), NF);
	assert_int_equal(a[160], 0xcc);
	assert_int_equal(*(u32 *)(a + 24), 0xcccccccc);
	/* Restoring a status word recomputes ES. */
	fake_reset();
	*(u16 *)a = 0x37e;
	*(u16 *)(a + 2) = 1;
	*(u32 *)(a + 24) = 0x1f80;
	assert_int_equal(FAKE_RUN(a, 0x0f, 0xae, 0x0b), NF);
	assert_int_equal(FPU.fsw, 0x8081);
	*(u32 *)(a + 24) = 0x80000000;
	assert_int_equal(FAKE_RUN(a, 0x0f, 0xae, 0x0b), X86_GP);
}

static void set_mask(u64 mask)
{
	fake_cpu->gpr[X86_RAX] = (u32)mask;
	fake_cpu->gpr[X86_RDX] = mask >> 32;
}

static void test_xsave_formats(void **state)
{
	u8 *a = fake_arena;
	u64 *header = (u64 *)(a + 512);

	/* Standard: other bits of XSTATE_BV survive, init components lose theirs but are written. */
	fill_state();
	FPU.ymm[3].q[2] = 0;
	for (unsigned i = 0; i < 16; i++)
		FPU.ymm[i].q[2] = FPU.ymm[i].q[3] = 0;
	memset(a, 0xcc, 1024);
	set_mask(6);
	assert_int_equal(FAKE_RUN(a, 0x0f, 0xae, 0x23), NF);
	assert_true(header[0] == ((0xccccccccccccccccull & ~6ull) | 2));
	assert_true(header[1] == 0xcccccccccccccccc);
	assert_int_equal(a[0], 0xcc);			/* x87 not asked for */
	assert_int_equal(*(u32 *)(a + 24), 0x1fa0);
	assert_int_equal(a[576], 0);

	/* XSAVEOPT leaves an init component's memory alone. */
	memset(a, 0xcc, 1024);
	assert_int_equal(FAKE_RUN(a, 0x0f, 0xae, 0x33), NF);
	assert_int_equal(a[576], 0xcc);
	assert_memory_equal(a + 160, &FPU.ymm[0], 16);

	/* Compact: PKRU follows directly where AVX is not asked for. */
	fake_cpu->xcr0 = 0x207;
	fake_cpu->pkru = 0x55555554;
	memset(a, 0xcc, 1024);
	set_mask(0x203);
	assert_int_equal(FAKE_RUN(a, 0x0f, 0xc7, 0x23), NF);
	assert_true(header[0] == 0x203 && header[1] == (BIT(63) | 0x203));
	assert_int_equal(*(u64 *)(a + 576), 0x55555554);
	/* Round trip. */
	memset(header + 2, 0, 48);
	memset(&FPU, 0, sizeof(FPU));
	fake_cpu->pkru = 0;
	set_mask(~0ull);
	assert_int_equal(FAKE_RUN(a, 0x0f, 0xae, 0x2b), NF);
	assert_int_equal(fake_cpu->pkru, 0x55555554);
	assert_int_equal(FPU.mxcsr, 0x1fa0);
	assert_int_equal(FPU.fsw, 0x1800);
	assert_int_equal(FPU.ymm[5].b[0], 5 * 37 + 1);
	/* A compact image whose SSE part is init gives the default MXCSR. */
	header[0] = 1;
	assert_int_equal(FAKE_RUN(a, 0x0f, 0xae, 0x2b), NF);
	assert_int_equal(FPU.mxcsr, 0x1f80);
	assert_int_equal(FPU.ymm[5].b[0], 0);
	assert_int_equal(fake_cpu->pkru, 0);
}

/* The host saves the same state: byte for byte the same area. */
static void test_xsave_host(void **state)
{
	static u8 image[4096] __attribute__((aligned(64))), host[1024] __attribute__((aligned(64))),
		  old[1024] __attribute__((aligned(64)));
	static const struct { const char *name; u8 code[4]; } rows[] = {
		{ "xsave64", { 0x48, 0x0f, 0xae, 0x23 } },
		{ "xsaveopt64", { 0x48, 0x0f, 0xae, 0x33 } },
		{ "xsavec64", { 0x48, 0x0f, 0xc7, 0x23 } },
		{ "fxsave64", { 0x48, 0x0f, 0xae, 0x03 } },
	};
	u32 a, b, c, d;

	if (!__get_cpuid_count(0xd, 1, &a, &b, &c, &d) || (a & 3) != 3)
		skip();
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		for (u32 mask = 0; mask < 8; mask++) {
			u32 all = 7;

			fake_reset();
			fill_state();
			x86_xsave_area(fake_cpu, image, 7);
			memset(host, 0xcc, sizeof(host));
			memset(fake_arena, 0xcc, sizeof(host));
			set_mask(mask);
			assert_int_equal(fake_run(rows[i].code, 4, fake_arena), NF);
			/* The state of this process is put back before C code runs again. */
#define HOST(insn) \
	asm volatile("xsave64 %[old]; xrstor64 %[image]; mov %[mask], %%eax; " insn " %[host]; " \
		     "mov $7, %%eax; xrstor64 %[old]" \
		     : [host] "+m"(host), [old] "+m"(old), "+a"(all) : [image] "m"(image), [mask] "r"(mask), "d"(0) : "memory")
			memset(old, 0, sizeof(old));
			switch (i) {
			case 0: HOST("xsave64"); break;
			case 1: HOST("xsaveopt64"); break;
			case 2: HOST("xsavec64"); break;
			default: HOST("fxsave64"); break;
			}
			for (unsigned k = 0; k < sizeof(host); k++)
				if (host[k] != fake_arena[k])
					fail_msg("%s, mask %u: byte %u is %02x, the host has %02x", rows[i].name, mask,
						 k, fake_arena[k], host[k]);
		}
	}
}

static void test_xrstor_checks(void **state)
{
	static const struct { const char *what; u64 bv, comp; unsigned set; u8 vector; } rows[] = {
		{ "standard", 7, 0, 0, NF },
		{ "component outside XCR0", 8, 0, 0, X86_GP },
		{ "XCOMP_BV without bit 63", 0, 2, 0, X86_GP },
		{ "standard, byte 16", 0, 0, 528, X86_GP },
		{ "standard, byte 24 is not looked at", 0, 0, 536, NF },
		{ "standard, byte 63 is not looked at", 0, 0, 575, NF },
		{ "compact", 3, BIT(63) | 7, 0, NF },
		{ "compact, component outside XCR0", 0, BIT(63) | 8, 0, X86_GP },
		{ "compact, XSTATE_BV outside XCOMP_BV", 4, BIT(63) | 3, 0, X86_GP },
		{ "compact, byte 16", 3, BIT(63) | 7, 528, X86_GP },
		{ "compact, byte 63", 3, BIT(63) | 7, 575, X86_GP },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		fake_reset();
		*(u32 *)(fake_arena + 24) = 0x1f80;
		*(u64 *)(fake_arena + 512) = rows[i].bv;
		*(u64 *)(fake_arena + 520) = rows[i].comp;
		if (rows[i].set)
			fake_arena[rows[i].set] = 1;
		set_mask(~0ull);
		if (FAKE_RUN(fake_arena, 0x0f, 0xae, 0x2b) != rows[i].vector)
			fail_msg("%s", rows[i].what);
	}
	/* MXCSR is checked when AVX alone is asked for and no component is in use. */
	fake_reset();
	*(u32 *)(fake_arena + 24) = 0x10000;
	set_mask(4);
	assert_int_equal(FAKE_RUN(fake_arena, 0x0f, 0xae, 0x2b), X86_GP);
	set_mask(1);
	assert_int_equal(FAKE_RUN(fake_arena, 0x0f, 0xae, 0x2b), NF);
	/* XRSTORS: CPL 0, compact only. */
	fake_reset();
	set_mask(7);
	assert_int_equal(FAKE_RUN(fake_arena, 0x0f, 0xc7, 0x1b), X86_GP);
	fake_cpu->cpl = 0;
	assert_int_equal(FAKE_RUN(fake_arena, 0x0f, 0xc7, 0x1b), X86_GP);
	*(u64 *)(fake_arena + 520) = BIT(63);
	assert_int_equal(FAKE_RUN(fake_arena, 0x0f, 0xc7, 0x1b), NF);
}

/* The C interface, as a hypervisor uses it. */
static void test_xsave_area(void **state)
{
	static u8 area[4096];
	struct x86_fpu before;

	fill_state();
	fake_cpu->pkru = 12;
	before = FPU;
	x86_xsave_area(fake_cpu, area, ~0ull);
	assert_int_equal(*(u64 *)(area + 512), 0x207);
	assert_int_equal(*(u64 *)(area + 520), 0);
	assert_int_equal(*(u32 *)(area + 0xa80), 12);
	memset(&FPU, 0, sizeof(FPU));
	fake_cpu->pkru = 0;
	assert_int_equal(x86_xrstor_area(fake_cpu, area, ~0ull), 0);
	assert_int_equal(fake_cpu->pkru, 12);
	assert_memory_equal(&FPU.ymm, &before.ymm, sizeof(before.ymm));
	assert_memory_equal(&FPU.st, &before.st, sizeof(before.st));
	assert_int_equal(FPU.mxcsr, before.mxcsr);
	assert_int_equal(FPU.ftw, before.ftw);
	*(u32 *)(area + 24) = 0x10000;
	assert_int_equal(x86_xrstor_area(fake_cpu, area, ~0ull), -1);
	*(u64 *)(area + 520) = BIT(63);
	assert_int_equal(x86_xrstor_area(fake_cpu, area, 1), -1);
}

static void test_xgetbv(void **state)
{
	assert_int_equal(FAKE_RUN(NULL, 0x0f, 0x01, 0xd0), NF);
	assert_int_equal(fake_cpu->gpr[X86_RAX], 7);
	fake_cpu->gpr[X86_RCX] = 1;
	FPU.ymm[0].b[20] = 1;
	assert_int_equal(FAKE_RUN(NULL, 0x0f, 0x01, 0xd0), NF);
	assert_int_equal(fake_cpu->gpr[X86_RAX], 4);
	fake_cpu->gpr[X86_RCX] = 2;
	assert_int_equal(FAKE_RUN(NULL, 0x0f, 0x01, 0xd0), X86_GP);
	/* XSETBV: CPL 0, ECX = 0, a legal value. */
	fake_cpu->gpr[X86_RCX] = 0;
	set_mask(3);
	assert_int_equal(FAKE_RUN(NULL, 0x0f, 0x01, 0xd1), X86_GP);
	fake_cpu->cpl = 0;
	assert_int_equal(FAKE_RUN(NULL, 0x0f, 0x01, 0xd1), NF);
	assert_int_equal(fake_cpu->xcr0, 3);
	set_mask(2);
	assert_int_equal(FAKE_RUN(NULL, 0x0f, 0x01, 0xd1), X86_GP);
	fake_cpu->cr4 &= ~CR4_OSXSAVE;
	assert_int_equal(FAKE_RUN(NULL, 0x0f, 0x01, 0xd1), X86_UD);
	assert_int_equal(FAKE_RUN(NULL, 0x0f, 0x01, 0xd0), X86_UD);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_availability, setup),
		cmocka_unit_test_setup(test_alignment, setup),
		cmocka_unit_test_setup(test_simd_exceptions, setup),
		cmocka_unit_test_setup(test_half_exceptions, setup),
		cmocka_unit_test_setup(test_mxcsr_reserved, setup),
		cmocka_unit_test_setup(test_upper_lanes, setup),
		cmocka_unit_test_setup(test_known_answers, setup),
		cmocka_unit_test_setup(test_soft_bodies, setup),
		cmocka_unit_test_setup(test_gather_restart, setup),
		cmocka_unit_test_setup(test_masked_stores, setup),
		cmocka_unit_test_setup(test_x87_stack, setup),
		cmocka_unit_test_setup(test_x87_unmasked_overflow, setup),
		cmocka_unit_test_setup(test_x87_env, setup),
		cmocka_unit_test_setup(test_mmx_aliasing, setup),
		cmocka_unit_test_setup(test_fxsave, setup),
		cmocka_unit_test_setup(test_xsave_formats, setup),
		cmocka_unit_test_setup(test_xsave_host, setup),
		cmocka_unit_test_setup(test_xrstor_checks, setup),
		cmocka_unit_test_setup(test_xsave_area, setup),
		cmocka_unit_test_setup(test_xgetbv, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
