/* SPDX-License-Identifier: MIT */
/*
 * String instructions, REP MOVS and STOS above all, by the interpreter and by translations: any overlap, page ends, pages that
 * are missing or read-only, counts of none to some pages, both directions.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "silicon/x86/jit/test_gen.h"
#include "silicon/x86/jit/test_pair.h"

#define PAGES 8
#define RUNS 4000

static struct x86_cpu *cpus[2];		/* interpreter, translator */
static enum x86_mode mode;

struct result {
	u64 gpr[X86_NR_GPRS], rip, rflags, cr2;
	enum x86_run_result result;
	u8 data[PAGES * PAGE_SIZE];
};
static struct result got[2];
static u8 start_data[PAGES * PAGE_SIZE];

/* Near the begin or end of a page mostly. */
static u64 pointer(void)
{
	u64 at = T_DATA + rnd(PAGES) * PAGE_SIZE;

	return rnd(3) ? at + rnd(64) - 32 : at + rnd(PAGE_SIZE);
}

static u64 count(void)
{
	switch (rnd(5)) {
	case 0: return rnd(4);
	case 1: return rnd(64);
	case 2: return rnd(600);
	case 3: return rnd(9000);
	default: return 1ull << rnd(13);
	}
}

static void run(struct x86_cpu *cpu, const struct x86_state *s, struct result *r)
{
	struct x86_state end;

	x86_set_state(cpu, s);
	cpu->slow = 0;
	cpu->activity = X86_ACT_ACTIVE;
	memcpy(test_mem(T_DATA), start_data, sizeof(start_data));
	x86_decode_recheck(cpu);
	r->result = x86_run(cpu, 0);
	x86_get_state(cpu, &end);
	memcpy(r->gpr, end.gpr, sizeof(r->gpr));
	r->rip = end.rip;
	r->rflags = end.rflags;
	r->cr2 = end.cr2;
	memcpy(r->data, test_mem(T_DATA), sizeof(r->data));
}

static void test_rep(void **state)
{
	static const u8 opcodes[][4] = {
		{ 0xf3, 0xa4 }, { 0x66, 0xf3, 0xa5 }, { 0xf3, 0xa5 }, { 0xf3, 0x48, 0xa5 },
		{ 0xf3, 0xaa }, { 0x66, 0xf3, 0xab }, { 0xf3, 0xab }, { 0xf3, 0x48, 0xab }, { 0xf2, 0xa4 },
		{ 0x90, 0xa4 }, { 0x66, 0xa5 }, { 0x90, 0xa5 }, { 0x48, 0xa5 }, { 0x90, 0xaa }, { 0x66, 0xab }, { 0x90, 0xab },
		{ 0x48, 0xab }, { 0x90, 0xac }, { 0x66, 0xad }, { 0x90, 0xad }, { 0x48, 0xad }, { 0x90, 0xae }, { 0x66, 0xaf },
		{ 0x90, 0xaf }, { 0x48, 0xaf }, { 0x90, 0xa6 }, { 0x66, 0xa7 }, { 0x90, 0xa7 }, { 0x48, 0xa7 }, { 0x64, 0xa5 },
	};
	unsigned halted = 0;

	for (unsigned n = 0; n < RUNS; n++) {
		const u8 *op = opcodes[rnd(ARRAY_SIZE(opcodes))];
		unsigned len = op[2] ? 3 : 2;
		struct x86_state s;
		u8 *code = test_mem(T_CODE);

		x86_get_state(cpus[0], &s);
		for (unsigned i = 0; i < X86_NR_GPRS; i++)
			s.gpr[i] = (u64)rnd(~0u) << 32 | rnd(~0u);
		s.gpr[X86_RDI] = pointer();
		s.gpr[X86_RSI] = rnd(2) ? pointer() : s.gpr[X86_RDI] + rnd(40) - 20;
		s.gpr[X86_RCX] = count();
		if (mode != X86_MODE_64) {
			s.gpr[X86_RDI] |= (u64)rnd(4) << 40;
			s.gpr[X86_RSI] |= (u64)rnd(4) << 40;
			s.gpr[X86_RCX] |= (u64)rnd(4) << 40;
			s.seg[X86_ES].base = rnd(4) ? 0 : rnd(0x2000);
			s.seg[X86_ES].limit = rnd(8) ? 0xffffffff : (u32)T_DATA + 0x3fff;
		}
		s.rip = T_CODE;
		s.cr2 = 0;
		s.rflags = RFLAGS_1 | ((u64)rnd(1u << 12) & RFLAGS_ARITH) | (rnd(8) ? 0 : RFLAGS_DF);
		/* cmp r8d, r9d; REP; hlt: flags that can be computed again, or not. */
		memcpy(code, rnd(2) ? "\x45\x39\xc8" : "\x49\xff\xc0", 3);
		memcpy(code + 3, op, len);
		code[3 + len] = 0xf4;
		for (unsigned i = 0; i < sizeof(start_data); i += 8)
			*(u64 *)(start_data + i) = s.gpr[X86_R10] * (i + 1);
		for (unsigned i = 0; i < PAGES; i++) {
			u64 at = T_DATA + i * PAGE_SIZE;

			*test_pte(at) = at | (rnd(12) ? 7 : rnd(2) ? 5 : 0);
		}
		for (unsigned k = 0; k < 2; k++) {
			x86_tlb_flush_all(cpus[k]);
			run(cpus[k], &s, &got[k]);
		}
		halted += got[0].result == X86_RUN_HALT;
		if (memcmp(&got[0], &got[1], sizeof(got[0]))) {
			fprintf(stderr, "run %u: op %02x%02x%02x rdi %#llx rsi %#llx rcx %llu flags %#llx: results %d %d\n", n,
				op[0], op[1], op[2], (unsigned long long)s.gpr[X86_RDI], (unsigned long long)s.gpr[X86_RSI],
				(unsigned long long)s.gpr[X86_RCX], (unsigned long long)s.rflags, got[0].result, got[1].result);
			for (unsigned k = 0; k < 2; k++)
				fprintf(stderr, "  rdi %#llx rsi %#llx rcx %llu rip %#llx flags %#llx cr2 %#llx\n",
					(unsigned long long)got[k].gpr[X86_RDI], (unsigned long long)got[k].gpr[X86_RSI],
					(unsigned long long)got[k].gpr[X86_RCX], (unsigned long long)got[k].rip,
					(unsigned long long)got[k].rflags, (unsigned long long)got[k].cr2);
			for (unsigned i = 0; i < sizeof(got[0].data); i++)
				if (got[0].data[i] != got[1].data[i]) {
					fprintf(stderr, "  first at %#llx: %02x %02x\n",
						(unsigned long long)T_DATA + i, got[0].data[i], got[1].data[i]);
					break;
				}
			fail();
		}
	}
	assert_true(halted > RUNS / 4);
}

/* What is not restored before each run is out of reach. */
static void enter_mode(enum x86_mode m, unsigned code_size)
{
	mode = m;
	for (unsigned k = 0; k < 2; k++)
		test_mode(cpus[k], m, code_size);
	for (u64 a = T_MEM; a < T_MEM + T_SIZE; a += PAGE_SIZE)
		if (a != T_CODE)
			*test_pte(a) = 0;
}

static void test_32_bit(void **state)
{
	enter_mode(X86_MODE_COMPAT, 4);
	test_rep(state);
	enter_mode(X86_MODE_64, 8);
}

#ifndef __SANITIZE_THREAD__	/* it delivers no signal while translated code runs */
static void on_fault(int sig, siginfo_t *info, void *context)
{
	if (!x86_handle_host_fault(info->si_addr, context))
		abort();
}

/* Memory that the host takes away in the middle: the registers are those of the last whole run. */
static void test_vanished(void **state)
{
	static const u8 code[] = { 0xf3, 0xa4, 0xf4 };
	struct sigaction act = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };
	struct x86_state s, end[2];

	sigaction(SIGSEGV, &act, NULL);
	for (unsigned i = 0; i < PAGES; i++)
		*test_pte(T_DATA + i * PAGE_SIZE) = (T_DATA + i * PAGE_SIZE) | 7;
	memcpy(test_mem(T_CODE), code, sizeof(code));
	x86_get_state(cpus[0], &s);
	s.rip = T_CODE;
	s.rflags = RFLAGS_1;
	for (unsigned k = 0; k < 2; k++) {
		x86_tlb_flush_all(cpus[k]);
		for (unsigned n = 0; n < 3; n++) {
			s.gpr[X86_RSI] = T_DATA + 100;
			s.gpr[X86_RDI] = T_DATA + 2 * PAGE_SIZE - 0x200;
			s.gpr[X86_RCX] = 0x500;
			x86_set_state(cpus[k], &s);
			cpus[k]->activity = X86_ACT_ACTIVE;
			cpus[k]->slow = 0;
			x86_decode_recheck(cpus[k]);
			if (n == 2)
				mprotect(test_mem(T_DATA + 2 * PAGE_SIZE), PAGE_SIZE, PROT_NONE);
			assert_int_equal(x86_run(cpus[k], 0), n == 2 ? X86_RUN_BUS_ERROR : X86_RUN_HALT);
		}
		x86_get_state(cpus[k], &end[k]);
		mprotect(test_mem(T_DATA + 2 * PAGE_SIZE), PAGE_SIZE, PROT_READ | PROT_WRITE);
		assert_int_equal(end[k].rip, T_CODE);
		assert_int_equal(end[k].gpr[X86_RCX], 0x300);
	}
	signal(SIGSEGV, SIG_DFL);
	assert_memory_equal(end[0].gpr, end[1].gpr, sizeof(end[0].gpr));
}
#endif

static int setup(void **state)
{
	int err = test_pair_new(cpus);

	enter_mode(X86_MODE_64, 8);
	return err;
}

static int teardown(void **state)
{
	test_pair_free(cpus);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rep),
		cmocka_unit_test(test_32_bit),
#ifndef __SANITIZE_THREAD__
		cmocka_unit_test(test_vanished),
#endif
	};

	/* Another seed than in CI, to look further. */
	if (argc > 1)
		seed = strtoull(argv[1], NULL, 0) | 1;
	return cmocka_run_group_tests_name("jit string", tests, setup, teardown);
}
