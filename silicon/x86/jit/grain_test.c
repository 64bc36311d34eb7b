/* SPDX-License-Identifier: MIT */
/*
 * Stores to data on a page of code, by the interpreter and by translations: all widths, at and
 * across ends of granules, beside code that is decoded and rewritten meanwhile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "silicon/x86/decode/codepage.h"
#include "silicon/x86/jit/test_gen.h"
#include "silicon/x86/jit/test_pair.h"

#define RUNS 600
#define PAGE (T_MEM + 0x4000)		/* f(), and data */
#define SIZE (2 * PAGE_SIZE)		/* what a store may reach */

static struct x86_cpu *cpus[2];		/* interpreter, translator */
static u8 got[2][SIZE];

/* With [rdi + disp8] as destination: up to the displacement, and an immediate behind it. */
static const struct { const char *hex; u8 imm; } stores[] = {
	{ "88 47", 0 }, { "66 89 47", 0 }, { "89 47", 0 }, { "48 89 47", 0 },	/* mov */
	{ "c6 47", 1 }, { "c7 47", 4 }, { "48 c7 47", 4 },
	{ "00 47", 0 }, { "48 01 47", 0 }, { "80 77", 1 }, { "ff 47", 0 }, { "f7 5f", 0 },	/* add, xor, inc, neg */
	{ "87 57", 0 }, { "f0 48 0f c1 57", 0 }, { "0f b1 57", 0 },		/* xchg, xadd, cmpxchg */
	{ "0f 92 47", 0 }, { "d3 47", 0 }, { "0f ab 57", 0 }, { "8f 47", 0 },	/* setb, rol, bts, pop */
	{ "0f 11 47", 0 }, { "0f 29 47", 0 }, { "f3 0f 7f 47", 0 }, { "66 0f d6 47", 0 },	/* movups, movaps, movdqu, movq */
	{ "c5 fe 7f 47", 0 }, { "c5 f8 11 47", 0 },				/* vmovdqu, vmovups */
	{ "64 89 47", 0 }, { "67 89 47", 0 },					/* mov fs:, 32-bit address */
};

/*
 * again: some stores; call f; add rax, r8; add rdi, r9; dec esi; jnz again; hlt. Sometimes a
 * store goes to f()'s constant.
 */
static unsigned program(u8 *p)
{
	unsigned n = 0, back;

	for (unsigned k = 1 + rnd(4); k; k--) {
		unsigned i = rnd(ARRAY_SIZE(stores));

		n += test_hex(p + n, stores[i].hex);
		p[n++] = (u8)(rnd(3) ? rnd(64) : rnd(3) * 16);
		for (unsigned b = stores[i].imm; b; b--)
			p[n++] = (u8)rnd(256);
	}
	if (!rnd(4))	/* push rdx; pop rdx, with the stack there */
		n += test_hex(p + n, "48 87 e7 52 5a 48 87 e7");
	if (!rnd(6))	/* mov [rbx + 1], al */
		n += test_hex(p + n, "88 43 01");
	n += test_hex(p + n, "ff d3 4c 01 c0 4c 01 cf ff ce 0f 85");
	back = n + 4;
	*(x86_mem_u32 *)(p + n) = -back;
	p[back] = 0xf4;
	return back + 1;
}

static enum x86_run_result run(struct x86_cpu *cpu, const struct x86_state *s, const u8 *p, unsigned len,
			       struct x86_state *end)
{
	enum x86_run_result r;

	memcpy(test_mem(T_CODE), p, len);
	for (unsigned i = 0; i < SIZE; i++)
		*test_mem(PAGE + i) = (u8)(i * 7);
	test_hex(test_mem(PAGE), "b8 01 02 03 04 c3");
	test_hex(test_mem(PAGE + 0x400), "b8 00 00 00 00 c3");
	/* POP goes up from T_STACK. */
	memset(test_mem(T_STACK - PAGE_SIZE), 0, 2 * PAGE_SIZE);
	x86_set_state(cpu, s);
	cpu->slow = 0;
	cpu->activity = X86_ACT_ACTIVE;
	x86_decode_recheck(cpu);
	r = x86_run(cpu, 0);
	memset(end, 0, sizeof(*end));
	x86_get_state(cpu, end);
	return r;
}

static void test_stores(void **state)
{
	struct x86_state s, end[2];
	unsigned halted = 0;

	for (unsigned n = 0; n < RUNS; n++) {
		enum x86_run_result r[2];
		u8 p[256];
		unsigned len = program(p);

		x86_get_state(cpus[0], &s);
		for (unsigned i = 0; i < X86_NR_GPRS; i++)
			s.gpr[i] = (u64)rnd(~0u) << 32 | rnd(~0u);
		s.gpr[X86_RSP] = T_STACK;
		s.gpr[X86_RBX] = PAGE;
		s.gpr[X86_RSI] = 60 + rnd(60);
		s.gpr[X86_R9] = rnd(4) ? 0 : 1 + rnd(2);
		/* Near the end of a granule mostly, sometimes of the page. */
		s.gpr[X86_RDI] = PAGE + 256 + rnd(28) * 128 - (rnd(3) ? rnd(64) : 64);
		s.gpr[X86_RDX] = rnd(1024);
		s.seg[X86_FS].base = rnd(3) * 64;
		s.rip = T_CODE;
		s.rflags = RFLAGS_1 | ((u64)rnd(1u << 12) & RFLAGS_ARITH);
		for (unsigned k = 0; k < 2; k++) {
			r[k] = run(cpus[k], &s, p, len, &end[k]);
			memcpy(got[k], test_mem(PAGE), SIZE);
		}
		if (memcmp(got[0], got[1], SIZE)) {
			fprintf(stderr, "run %u: rdi %#llx fs %#llx:", n, (unsigned long long)s.gpr[X86_RDI],
				(unsigned long long)s.seg[X86_FS].base);
			for (unsigned i = 0; i < len; i++)
				fprintf(stderr, " %02x", p[i]);
			fprintf(stderr, "\n");
		}
		assert_memory_equal(got[0], got[1], SIZE);
		assert_memory_equal(end[0].gpr, end[1].gpr, sizeof(end[0].gpr));
		assert_int_equal(end[0].rflags, end[1].rflags);
		/* MOVAPS may fault. */
		assert_int_equal(r[0], r[1]);
		halted += r[0] == X86_RUN_HALT;
	}
	assert_true(halted > RUNS / 2);
}

/* What has become a grain is found as such, until code is decoded there. */
static void test_grain(void **state)
{
	u64 data = PAGE + 0x800;
	struct x86_state s, end;
	u8 p[64];
	/* l: mov [rdi], rsi; call rbx; dec esi; jnz l; hlt */
	unsigned len = test_hex(p, "48 89 37 ff d3 ff ce 75 f7 f4");

	for (unsigned k = 0; k < 2; k++) {
		/* Those around it have been decoded for the engine before. */
		data += 512;
		x86_get_state(cpus[k], &s);
		s.gpr[X86_RSP] = T_STACK;
		s.gpr[X86_RBX] = PAGE;
		s.gpr[X86_RDI] = data;
		s.gpr[X86_RSI] = 100;
		s.rip = T_CODE;
		assert_int_equal(run(cpus[k], &s, p, len, &end), X86_RUN_HALT);
		assert_true(x86_codepage_data(cpus[k], data, 8));
		assert_true(x86_codepage_data(cpus[k], data + 120, 8));
		assert_false(x86_codepage_data(cpus[k], data + 121, 8));
		assert_false(x86_codepage_data(cpus[k], data + 128, 8));
		/* f() is there now. */
		s.gpr[X86_RBX] = data + 8;
		memcpy(test_mem(data + 8), "\xb8\x05\0\0\0\xc3", 6);
		x86_set_state(cpus[k], &s);
		cpus[k]->slow = 0;
		cpus[k]->activity = X86_ACT_ACTIVE;
		assert_int_equal(x86_run(cpus[k], 0), X86_RUN_HALT);
		assert_int_equal(cpus[k]->gpr[X86_RAX], 5);
		assert_false(x86_codepage_data(cpus[k], data, 8));
	}
}

/* A store from the end of a grain into code behind it. */
static void test_end(void **state)
{
	struct x86_state s, end;
	u8 p[64];
	/* l: mov [rdi], rsi; mov [rbx - 3], r8; call rbx; add r8, r9; dec esi; jnz l; hlt */
	unsigned len = test_hex(p, "48 89 37 4c 89 43 fd ff d3 4d 01 c8 ff ce 75 f0 f4");

	for (unsigned k = 0; k < 2; k++) {
		x86_get_state(cpus[k], &s);
		s.gpr[X86_RSP] = T_STACK;
		s.gpr[X86_RBX] = PAGE + 0x400;
		s.gpr[X86_RDI] = PAGE + 0x3c0;
		s.gpr[X86_RSI] = 100;
		/* mov eax, 5; its next round's 6 */
		s.gpr[X86_R8] = 0x5b8000000ull;
		s.gpr[X86_R9] = 1ull << 32;
		s.rip = T_CODE;
		assert_int_equal(run(cpus[k], &s, p, len, &end), X86_RUN_HALT);
		assert_true(x86_codepage_data(cpus[k], PAGE + 0x3c0, 8));
		assert_int_equal(end.gpr[X86_RAX], 104);
	}
}

static int setup(void **state)
{
	int err = test_pair_new(cpus);

	test_mode(cpus[0], X86_MODE_64, 8);
	test_mode(cpus[1], X86_MODE_64, 8);
	return err || x86_set_xcr0(cpus[0], 7) || x86_set_xcr0(cpus[1], 7);
}

static int teardown(void **state)
{
	test_pair_free(cpus);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grain),
		cmocka_unit_test(test_end),
		cmocka_unit_test(test_stores),
	};

	/* Another seed than in CI, to look further. */
	if (argc > 1)
		seed = strtoull(argv[1], NULL, 0) | 1;
	return cmocka_run_group_tests_name("jit grain", tests, setup, teardown);
}
