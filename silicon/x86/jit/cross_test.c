/* SPDX-License-Identifier: MIT */
/*
 * Instructions across a page end, by the interpreter and by translations that run on: at each
 * split, while either page is rewritten, the second one mapped elsewhere or not at all, and
 * translations of fetches are flushed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "silicon/x86/sys/sys.h"
#include "silicon/x86/jit/test_pair.h"

#define FIRST (T_MEM + 0x2000)
#define SECOND (FIRST + PAGE_SIZE)
#define OTHER (T_MEM + 0x5000)		/* mapped as SECOND now and then */
#define ROUNDS 20

static struct x86_cpu *cpus[2];		/* interpreter, translator */

/* Behind each there is a RET, and 20h further on MOV AL, 5; RET. */
static const struct {
	const char *hex;
	bool value;			/* the last byte is one that may be anything */
} insns[] = {
	{ "b8 11 22 33 44", true },				/* mov eax, imm */
	{ "48 b8 11 22 33 44 55 66 77 08", true },		/* mov rax, imm */
	{ "48 05 01 02 03 04", true },				/* add rax, imm */
	{ "48 8b 04 25 00 80 00 20", false },			/* mov rax, [T_DATA] */
	{ "48 01 1c 25 08 80 00 20", false },			/* add [T_DATA + 8], rbx */
	{ "f0 48 0f c1 04 25 10 80 00 20", false },		/* lock xadd [T_DATA + 16], rax */
	{ "0f 10 04 25 00 80 00 20", false },			/* movups xmm0, [T_DATA] */
	{ "e9 20 00 00 00", false },				/* jmp */
	{ "0f 84 20 00 00 00", false }, { "0f 85 20 00 00 00", false },	/* jz, jnz */
	{ "e8 20 00 00 00", false },				/* call */
	{ "c2 00 00", false },					/* ret 0 */
	{ "0f 20 d8", false }, { "0f 0b", false },		/* mov rax, cr3; ud2 */
	{ "8b 04 25 00 00 00 30", false },			/* mov eax, [not present] */
};

/* What a round does before the call; @x: that instruction's last byte, of the second page and of the first. */
enum change { NONE, REWRITE_TAIL, REWRITE_HEAD, DATA, REMAP, RELOAD_CR3, NR_CHANGES };

static unsigned change(u8 *p, enum change c, u64 last, u64 first)
{
	u32 pte = (u32)(u64)test_pte(SECOND), invlpg = (u32)SECOND;
	unsigned n = 0;

	switch (c) {
	case NONE:
	case NR_CHANGES:
		break;
	case REWRITE_TAIL:		/* inc byte [last] */
		n = test_hex(p, "fe 04 25");
		memcpy(p + n, &last, 4);
		return n + 4;
	case REWRITE_HEAD:		/* xor byte [first], 0 */
		n = test_hex(p, "80 34 25");
		memcpy(p + n, &first, 4);
		return n + 5;
	case DATA:			/* mov [SECOND + 0x800], rbx */
		return test_hex(p, "48 89 1c 25 00 38 00 20");
	case REMAP:			/* xor qword [pte], r14; invlpg [SECOND] */
		n = test_hex(p, "4c 31 34 25");
		memcpy(p + n, &pte, 4);
		n += 4 + test_hex(p + n + 4, "0f 01 3c 25");
		memcpy(p + n, &invlpg, 4);
		return n + 4;
	case RELOAD_CR3:		/* mov rdx, cr3; mov cr3, rdx */
		return test_hex(p, "0f 20 da 0f 22 da");
	}
	return n;
}

/* again: change; call; add rbx, rax; dec r15; jnz again; hlt */
static void program(u64 target, enum change c, u64 last, u64 first)
{
	u8 *p = test_mem(T_CODE);
	unsigned n = change(p, c, last, first);
	s32 rel = (s32)(target - (T_CODE + n + 5)), back;

	p[n] = 0xe8;
	memcpy(p + n + 1, &rel, 4);
	n += 5 + test_hex(p + n + 5, "48 01 c3 41 ff cf 0f 85");
	back = -(s32)(n + 4);
	memcpy(p + n, &back, 4);
	p[n + 4] = 0xf4;
}

static enum x86_run_result run(struct x86_cpu *cpu, unsigned i, unsigned split, enum change c, struct x86_state *end)
{
	u8 bytes[16] = { 0 };
	unsigned len = test_hex(bytes, insns[i].hex), tail = len - split;
	struct x86_state s;
	enum x86_run_result r;

	test_mode(cpu, X86_MODE_64, 8);
	for (u64 second = SECOND; second; second = second == SECOND ? OTHER : 0) {
		memcpy(test_mem(second), bytes + split, tail);
		test_hex(test_mem(second + tail), "c3");
		test_hex(test_mem(second + tail + 0x20), "b0 05 c3");
	}
	memcpy(test_mem(SECOND - split), bytes, split);
	if (insns[i].value)
		test_mem(OTHER)[tail - 1] ^= 0x35;
	test_hex(test_mem(T_DATA), "11 22 33 44 55 66 77 08");
	program(SECOND - split, c, SECOND + tail - 1, SECOND - split);
	x86_get_state(cpu, &s);
	s.gpr[X86_R15] = ROUNDS;
	s.gpr[X86_R14] = SECOND ^ OTHER;
	s.gpr[X86_RAX] = 3;
	x86_set_state(cpu, &s);
	cpu->slow = 0;
	cpu->activity = X86_ACT_ACTIVE;
	x86_tlb_flush_all(cpu);
	x86_decode_recheck(cpu);
	r = x86_run(cpu, 0);
	x86_get_state(cpu, end);
	return r;
}

static void same(const struct x86_state *a, const struct x86_state *b, unsigned i, unsigned split, unsigned c)
{
	if (!memcmp(a->gpr, b->gpr, sizeof(a->gpr)) && a->rip == b->rip && a->rflags == b->rflags && a->cr2 == b->cr2)
		return;
	fail_msg("%s split %u change %u: rax %llx %llx rbx %llx %llx rip %llx %llx flags %llx %llx cr2 %llx %llx",
		 insns[i].hex, split, c, (unsigned long long)a->gpr[X86_RAX], (unsigned long long)b->gpr[X86_RAX],
		 (unsigned long long)a->gpr[X86_RBX], (unsigned long long)b->gpr[X86_RBX], (unsigned long long)a->rip,
		 (unsigned long long)b->rip, (unsigned long long)a->rflags, (unsigned long long)b->rflags,
		 (unsigned long long)a->cr2, (unsigned long long)b->cr2);
}

static void test_splits(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(insns); i++) {
		u8 bytes[16];
		unsigned len = test_hex(bytes, insns[i].hex);

		for (unsigned split = 1; split < len; split++)
			for (unsigned c = 0; c < NR_CHANGES; c++) {
				enum x86_run_result r[2];
				struct x86_state end[2];

				if (c == REWRITE_TAIL && !insns[i].value)
					continue;
				for (unsigned k = 0; k < 2; k++)
					r[k] = run(cpus[k], i, split, (enum change)c, &end[k]);
				assert_int_equal(r[0], r[1]);
				same(&end[0], &end[1], i, split, c);
			}
	}
}

/* The second page goes away between two rounds: #PF with its address, at the instruction. */
static void test_absent(void **state)
{
	for (unsigned split = 1; split < 5; split++) {
		struct x86_state s, end[2];

		for (unsigned k = 0; k < 2; k++) {
			assert_int_equal(run(cpus[k], 0, split, NONE, &s), X86_RUN_HALT);
			*test_pte(SECOND) = 0;
			x86_tlb_flush_page(cpus[k], SECOND);
			s.rip = T_CODE;
			s.gpr[X86_R15] = ROUNDS;
			x86_set_state(cpus[k], &s);
			cpus[k]->slow = 0;
			cpus[k]->activity = X86_ACT_ACTIVE;
			assert_int_equal(x86_run(cpus[k], 0), X86_RUN_SHUTDOWN);
			x86_get_state(cpus[k], &end[k]);
			assert_int_equal(end[k].cr2, SECOND);
			assert_int_equal(end[k].rip, SECOND - split);
		}
		same(&end[0], &end[1], 0, split, NR_CHANGES);
	}
}

static int setup(void **state)
{
	return test_pair_new(cpus);
}

static int teardown(void **state)
{
	test_pair_free(cpus);
	return 0;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_splits),
		cmocka_unit_test(test_absent),
	};

	return cmocka_run_group_tests_name("jit cross", tests, setup, teardown);
}
