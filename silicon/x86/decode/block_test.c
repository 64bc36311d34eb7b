/* SPDX-License-Identifier: MIT */
/* Decoded blocks stay true to memory: self-modifying, foreign and external writes, remapping, modes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "silicon/x86/decode/codepage.h"
#include "silicon/x86/test_cpu.h"

#define LIMIT 100000		/* instructions: a test that loops for ever is wrong */
#define ALIAS (T_MEM + 0x40000)	/* linear address that tests map elsewhere */

static struct x86_cpu *cpu;

static void code(u64 at, const char *hex)
{
	test_hex(test_mem(at), hex);
}

static void go(u64 rip)
{
	cpu->rip = rip;
	cpu->activity = X86_ACT_ACTIVE;		/* the last run ended with HLT */
	cpu->slow = 0;
	assert_int_equal(x86_run(cpu, LIMIT), X86_RUN_HALT);
}

static void test_budget(void **state)
{
	test_mode(cpu, X86_MODE_64, 8);
	code(T_CODE, "ff c0 ff c0 ff c0 eb f8");	/* inc eax x 3; jmp */
	for (unsigned n = 1; n < 200; n++) {
		cpu->rip = T_CODE;
		cpu->gpr[X86_RAX] = 0;
		assert_int_equal(x86_run(cpu, n), X86_RUN_BUDGET);
		assert_int_equal(cpu->gpr[X86_RAX], n - n / 4);
		assert_int_equal(cpu->rip, T_CODE + (n % 4) * 2);
	}
}

/* mov byte [next + 1], 0x42; mov eax, 0x11; hlt: the very next instruction is rewritten. */
static void test_next_instruction(void **state)
{
	test_mode(cpu, X86_MODE_64, 8);
	for (unsigned i = 0; i < 3; i++) {
		code(T_CODE, "c6 05 01 00 00 00 42 b8 11 00 00 00 f4");
		x86_tlb_flush_all(cpu);
		go(T_CODE);
		assert_int_equal(cpu->gpr[X86_RAX], 0x42);
		cpu->gpr[X86_RAX] = 0;
		go(T_CODE);
		assert_int_equal(cpu->gpr[X86_RAX], 0x42);
	}
}

/* A function that a store rewrites through another linear address of its page. */
static void test_alias(void **state)
{
	test_mode(cpu, X86_MODE_64, 8);
	*test_pte(ALIAS) = (T_MEM + 0x2000) | 7;
	code(T_MEM + 0x2000, "b8 01 00 00 00 c3");	/* mov eax, 1; ret */
	/* call f; mov ebx, eax; mov byte [ALIAS + 1], 2; call f; hlt */
	code(T_CODE, "e8 fb 0f 00 00 89 c3 c6 04 25 01 00 04 20 02 e8 ec 0f 00 00 f4");
	go(T_CODE);
	assert_int_equal(cpu->gpr[X86_RBX], 1);
	assert_int_equal(cpu->gpr[X86_RAX], 2);
}

/* Writes that bypass the MMU count from the next flush of translations on. */
static void test_external_write(void **state)
{
	test_mode(cpu, X86_MODE_64, 8);
	code(T_CODE, "b8 01 00 00 00 f4");
	go(T_CODE);
	test_mem(T_CODE)[1] = 2;
	x86_tlb_flush_page(cpu, T_CODE);
	go(T_CODE);
	assert_int_equal(cpu->gpr[X86_RAX], 2);
}

static void test_remap(void **state)
{
	test_mode(cpu, X86_MODE_64, 8);
	code(T_MEM + 0x2000, "b8 01 00 00 00 f4");
	code(T_MEM + 0x3000, "b8 02 00 00 00 f4");
	for (unsigned i = 0; i < 6; i++) {
		*test_pte(ALIAS) = (T_MEM + 0x2000 + (i & 1) * 0x1000) | 7;
		x86_tlb_flush_page(cpu, ALIAS);
		go(ALIAS);
		assert_int_equal(cpu->gpr[X86_RAX], 1 + (i & 1));
	}
}

/* mov eax, imm32 with two bytes on the next page, which is remapped, rewritten, made absent. */
static void test_crossing(void **state)
{
	test_mode(cpu, X86_MODE_64, 8);
	*test_pte(ALIAS) = (T_MEM + 0x2000) | 7;
	*test_pte(ALIAS + PAGE_SIZE) = (T_MEM + 0x3000) | 7;
	code(T_MEM + 0x2ffd, "b8 01 00");
	code(T_MEM + 0x3000, "02 00 f4");
	code(T_MEM + 0x4000, "03 00 f4");
	x86_tlb_flush_all(cpu);
	go(ALIAS + 0xffd);
	assert_int_equal(cpu->gpr[X86_RAX], 0x20001);

	*test_pte(ALIAS + PAGE_SIZE) = (T_MEM + 0x4000) | 7;
	x86_tlb_flush_page(cpu, ALIAS + PAGE_SIZE);
	go(ALIAS + 0xffd);
	assert_int_equal(cpu->gpr[X86_RAX], 0x30001);

	test_mem(T_MEM + 0x4000)[0] = 4;
	go(ALIAS + 0xffd);
	assert_int_equal(cpu->gpr[X86_RAX], 0x40001);

	*test_pte(ALIAS + PAGE_SIZE) = 0;
	x86_tlb_flush_page(cpu, ALIAS + PAGE_SIZE);
	cpu->rip = ALIAS + 0xffd;
	assert_int_equal(test_step(cpu), X86_PF);
	assert_int_equal(cpu->fault.payload, ALIAS + PAGE_SIZE);
}

/*
 * Data beside code: the mark of the page comes and goes as stores pile up, and
 * a store to the code is seen at any time. The loop at T_CODE adds f() to RBX and
 * stores to the data on f's page; every 700th round rewrites f's constant.
 */
static void test_data_beside_code(void **state)
{
	u64 want = 0;

	test_mode(cpu, X86_MODE_64, 8);
	code(T_MEM + 0x2000, "b8 00 00 00 00 c3");
	/* call f; add rbx, rax; mov [f + 0x800], rbx; hlt */
	code(T_CODE, "e8 fb 0f 00 00 48 01 c3 48 89 1c 25 00 28 00 20 f4");
	/* mov [f + 1], cl; hlt */
	code(T_CODE + 0x100, "88 0c 25 01 20 00 20 f4");
	cpu->gpr[X86_RBX] = 0;
	for (unsigned i = 0; i < 4200; i++) {
		if (i % 700 == 699) {
			cpu->gpr[X86_RCX] = i / 700;
			go(T_CODE + 0x100);
		}
		go(T_CODE);
		want += (i + 1) / 700 ? (i + 1) / 700 - 1 : 0;
		assert_int_equal(cpu->gpr[X86_RBX], want);
	}
}

/* The same bytes mean other instructions in another mode. */
static void test_modes(void **state)
{
	static const char bytes[] = "48 ff c0 f4";	/* inc rax, or dec eax; inc eax */

	test_mode(cpu, X86_MODE_64, 8);
	code(T_CODE, bytes);
	cpu->gpr[X86_RAX] = 0xffffffff;
	go(T_CODE);
	assert_int_equal(cpu->gpr[X86_RAX], 0x100000000);

	test_mode(cpu, X86_MODE_COMPAT, 4);
	code(T_CODE, bytes);
	cpu->gpr[X86_RAX] = 7;
	go(T_CODE);
	assert_int_equal(cpu->gpr[X86_RAX], 7);
}

/* Behind the last byte that the CS limit allows: #GP(0), not a fetch. */
static void test_cs_limit(void **state)
{
	test_mode(cpu, X86_MODE_REAL, 2);
	code(T_MEM + 0xfffd, "b8 34 12");
	cpu->rip = 0xfffd;
	assert_int_equal(x86_run(cpu, 1), X86_RUN_BUDGET);
	assert_int_equal(cpu->gpr[X86_RAX], 0x1234);
	cpu->rip = 0xfffe;
	code(T_MEM + 0xfffe, "b8 34");
	assert_int_equal(test_step(cpu), X86_GP);
}

/*
 * More blocks than the arena holds: every round makes another instruction of the first byte of
 * "mov eax, 0x90909090; ret", nop, so that nothing of the block is left.
 */
static void test_arena(void **state)
{
	test_mode(cpu, X86_MODE_64, 8);
	code(T_MEM + 0x2000, "b8 90 90 90 90 c3");
	/* l: xor byte [f], 0x28; call f; dec ecx; jnz l; hlt */
	code(T_CODE, "80 34 25 00 20 00 20 28 e8 f3 0f 00 00 ff c9 75 ef f4");
	cpu->gpr[X86_RCX] = 120000;
	cpu->gpr[X86_RAX] = 0;
	cpu->rip = T_CODE;
	assert_int_equal(x86_run(cpu, 2000000), X86_RUN_HALT);
	assert_int_equal(cpu->gpr[X86_RCX], 0);
	assert_int_equal(cpu->gpr[X86_RAX], 0x90909090);
}

/* A constant that is rewritten before each use. */
static void test_constant(void **state)
{
	test_mode(cpu, X86_MODE_64, 8);
	code(T_MEM + 0x2000, "b8 00 00 00 00 c3");
	/* l: mov [f + 1], ecx; call f; cmp eax, ecx; jne bad; dec ecx; jnz l; hlt; bad: ud2 */
	code(T_CODE, "89 0c 25 01 20 00 20 e8 f4 0f 00 00 39 c8 75 05 ff c9 75 ec f4 0f 0b");
	cpu->gpr[X86_RCX] = 20000;
	cpu->rip = T_CODE;
	assert_int_equal(x86_run(cpu, 200000), X86_RUN_HALT);
	assert_int_equal(cpu->gpr[X86_RCX], 0);
}

/* A block that stores have changed into another: of the same shape or not. */
static void test_rewritten(void **state)
{
	static const struct {
		const char *before, *after; /* 16 bytes, the last that matters is HLT */
		u64 rax;		    /* 100 before */
		u8 len;			    /* up to the HLT that ends it */
	} rows[] = {
		{"b8 01 00 00 00 f4", "b8 02 00 00 80 f4", 0x80000002, 6},
		{"48 b8 01 00 00 00 00 00 00 00 f4", "48 b8 02 00 00 00 00 00 00 80 f4",
		 0x8000000000000002, 11},
		{"48 c7 c0 01 00 00 00 f4", "48 c7 c0 ff ff ff ff f4", ~0ull, 8},
		{"66 b8 01 00 f4", "66 b8 02 00 f4", 2, 5},
		{"b0 01 f4", "b0 02 f4", 2, 3},
		{"05 01 00 00 00 f4", "05 02 00 00 00 f4", 102, 6},
		{"48 2d 01 00 00 00 f4", "48 2d 02 00 00 00 f4", 98, 7},
		{"81 c0 01 00 00 00 f4", "81 c0 02 00 00 00 f4", 102, 7},
		{"81 c0 01 00 00 00 f4", "81 e8 01 00 00 00 f4", 99, 7},
		{"81 c0 01 00 00 00 f4", "81 e8 02 00 00 00 f4", 98, 7},
		{"b8 01 00 00 00 f4", "bb 02 00 00 00 f4", 100, 6},
		{"b8 01 00 00 00 f4", "05 02 00 00 00 f4", 102, 6},
		{"83 c0 01 f4", "83 c0 02 f4", 102, 4},
		{"01 c0 f4", "29 c0 f4", 0, 3},
		{"01 c0 ff c0 f4", "01 c0 ff c8 f4", 199, 5},
		{"01 c0 f4", "90 90 f4", 100, 3},
		{"90 90 90 f4", "01 c0 90 f4", 200, 4},
		{"90 90 f4", "90 f4 90", 100, 2},
		{"f4 90 90 f4", "90 01 c0 f4", 200, 4},
		{"e9 01 00 00 00 f4 ff c0 f4", "e9 03 00 00 00 f4 ff c0 f4", 100, 9},
		{"eb 00 f4 ff c0 f4", "eb 01 f4 ff c0 f4", 101, 6},
		{"0f 84 01 00 00 00 f4 ff c0 f4", "0f 85 01 00 00 00 f4 ff c0 f4", 101, 10},
		{"0f 85 00 00 00 00 f4 ff c0 f4", "0f 85 01 00 00 00 f4 ff c0 f4", 101, 10},
		{"8b 04 25 00 80 00 20 f4", "8b 04 25 04 80 00 20 f4", 8, 8},
		{"05 01 00 00 00 05 01 00 00 00 f4", "05 01 00 00 00 05 07 00 00 00 f4", 108, 11},
		{"b8 01 00 00 00 f4", "b8 01 00 00 00 f4", 1, 6},
	};

	test_mode(cpu, X86_MODE_64, 8);
	code(T_DATA, "07 00 00 00 08 00 00 00");
	/* mov [f], rdx; mov [f + 8], rsi; hlt */
	code(T_CODE, "48 89 14 25 00 20 00 20 48 89 34 25 08 20 00 20 f4");
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		u64 bytes[2][2] = {0};
		u8 hex[32];

		memcpy(bytes[0], hex, test_hex(hex, rows[i].before));
		memcpy(bytes[1], hex, test_hex(hex, rows[i].after));
		/* Often enough to be linked and translated in between. */
		for (unsigned n = 0; n < 40; n++) {
			const u64 *now = bytes[n % 4 == 3];

			cpu->gpr[X86_RDX] = now[0];
			cpu->gpr[X86_RSI] = now[1];
			go(T_CODE);
			cpu->gpr[X86_RAX] = 100;
			x86_set_arith(cpu, 0);
			go(T_MEM + 0x2000);
		}
		if (cpu->gpr[X86_RAX] != rows[i].rax || cpu->rip != T_MEM + 0x2000 + rows[i].len)
			fail_msg("%s: rax %#llx rip %#llx", rows[i].after,
				 (unsigned long long)cpu->gpr[X86_RAX],
				 (unsigned long long)cpu->rip);
	}
}

/* The flush generation wraps: nothing from before may match again. */
static void test_generation_wrap(void **state)
{
	struct x86_jumps *j = (struct x86_jumps *)cpu->decode;

	test_mode(cpu, X86_MODE_64, 8);
	code(T_CODE, "b8 01 00 00 00 f4");
	j->gen = 0xfffffeull << 40;
	for (unsigned i = 1; i < 6; i++) {
		test_mem(T_CODE)[1] = (u8)i;
		x86_tlb_flush_all(cpu);
		go(T_CODE);
		assert_int_equal(cpu->gpr[X86_RAX], i);
		assert_true(j->gen != 0);
	}
}

/* ---- Two processors ---- */

static void *run_thread(void *arg)
{
	return (void *)(uintptr_t)x86_run(arg, 0);
}

/*
 * One calls f() until it returns what the other, having written data to that page
 * all the while, finally stores into f's code.
 */
static void test_cross_modifying(void **state)
{
	struct x86_cpu *other = x86_cpu_new(x86_model_find("intel"), 1);
	struct x86_state s;
	pthread_t thread;
	void *result;

	assert_non_null(other);
	for (unsigned round = 0; round < 20; round++) {
		test_mode(cpu, X86_MODE_64, 8);
		x86_get_state(cpu, &s);
		x86_set_state(other, &s);
		code(T_MEM + 0x2000, "b8 00 00 00 00 c3");
		/* call f; cmp eax, 7; jne; hlt */
		code(T_CODE, "e8 fb 0f 00 00 83 f8 07 75 f6 f4");
		/* mov ecx, 3000; l: mov [f + 0x800], ecx; dec ecx; jnz l; mov byte [f + 1], 7; hlt */
		code(T_MEM + 0x3000, "b9 b8 0b 00 00 89 0c 25 00 28 00 20 ff c9 75 f5 c6 04 25 01 20 00 20 07 f4");
		other->rip = T_CODE;
		other->gpr[X86_RSP] -= 0x800;
		cpu->rip = T_MEM + 0x3000;
		assert_int_equal(pthread_create(&thread, NULL, run_thread, other), 0);
		assert_int_equal(x86_run(cpu, 0), X86_RUN_HALT);
		pthread_join(thread, &result);
		assert_int_equal((uintptr_t)result, X86_RUN_HALT);
		assert_int_equal(other->gpr[X86_RAX], 7);
	}
	x86_cpu_free(other);
}

/*
 * One stores to data beside code for a while, until the other executes what is there; from then
 * on its stores are to code, and the other must see them.
 */
static void test_data_becomes_code(void **state)
{
	struct x86_cpu *other = x86_cpu_new(x86_model_find("intel"), 1);
	struct x86_state s;
	pthread_t thread;
	void *result;

	assert_non_null(other);
	for (unsigned round = 0; round < 10; round++) {
		u64 f = T_MEM + 0x2000 +
			round * 128; /* a granule of its own, as decoded ones stay that */

		test_mode(cpu, X86_MODE_64, 8);
		x86_get_state(cpu, &s);
		x86_set_state(other, &s);
		x86_decode_recheck(cpu);
		x86_decode_recheck(other);
		code(f, "b8 00 00 00 00 c3");
		code(T_MEM + 0x2fff, "f4");
		go(T_MEM + 0x2fff);
		/* l: inc dword [rbx + 1]; cmp byte [rdi], 0; je l; hlt */
		code(T_MEM + 0x3000, "ff 43 01 80 3f 00 74 f8 f4");
		/* w: cmp dword [rbx + 1], 1000; jb w; l: call rbx; cmp eax, 4000; jb l; mov byte
		 * [rdi], 1; hlt */
		code(T_CODE, "81 7b 01 e8 03 00 00 72 f7 ff d3 3d a0 0f 00 00 72 f7 c6 07 01 f4");
		other->rip = T_MEM + 0x3000;
		cpu->rip = T_CODE;
		cpu->gpr[X86_RBX] = other->gpr[X86_RBX] = f;
		cpu->gpr[X86_RDI] = other->gpr[X86_RDI] = T_DATA;
		cpu->activity = X86_ACT_ACTIVE;
		cpu->slow = 0;
		assert_int_equal(pthread_create(&thread, NULL, run_thread, other), 0);
		assert_int_equal(x86_run(cpu, 0), X86_RUN_HALT);
		pthread_join(thread, &result);
		assert_int_equal((uintptr_t)result, X86_RUN_HALT);
		assert_true((u32)cpu->gpr[X86_RAX] >= 4000);
	}
	x86_cpu_free(other);
}

/* Two processors that decode new pages at the same time wait for each other, not for ever. */
static void test_handshakes(void **state)
{
	struct x86_cpu *other = x86_cpu_new(x86_model_find("intel"), 1);
	struct x86_state s;
	pthread_t thread;
	void *result;

	test_mode(cpu, X86_MODE_64, 8);
	/* Pages of "jmp next page", half of them for each; the last one halts. */
	for (u64 a = T_MEM + 0x40000; a < T_MEM + 0xe0000; a += PAGE_SIZE)
		code(a, "e9 fb 1f 00 00");
	code(T_MEM + 0xe0000, "f4");
	code(T_MEM + 0xe1000, "f4");
	x86_get_state(cpu, &s);
	x86_set_state(other, &s);
	cpu->rip = T_MEM + 0x40000;
	other->rip = T_MEM + 0x41000;
	assert_int_equal(pthread_create(&thread, NULL, run_thread, other), 0);
	assert_int_equal(x86_run(cpu, 0), X86_RUN_HALT);
	pthread_join(thread, &result);
	assert_int_equal((uintptr_t)result, X86_RUN_HALT);
	x86_cpu_free(other);
}

static void test_lint(void **state)
{
	const char *wrong = x86_insn_table_lint();

	if (wrong)
		fail_msg("instruction table: %s", wrong);
}

static int setup(void **state)
{
	cpu = test_cpu_new();
	return 0;
}

static int teardown(void **state)
{
	test_cpu_free(cpu);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lint),
		cmocka_unit_test(test_budget),
		cmocka_unit_test(test_next_instruction),
		cmocka_unit_test(test_alias),
		cmocka_unit_test(test_external_write),
		cmocka_unit_test(test_remap),
		cmocka_unit_test(test_crossing),
		cmocka_unit_test(test_data_beside_code),
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_cs_limit),
		cmocka_unit_test(test_arena),
		cmocka_unit_test(test_constant),
		cmocka_unit_test(test_rewritten),
		cmocka_unit_test(test_generation_wrap),
		cmocka_unit_test(test_cross_modifying),
		cmocka_unit_test(test_data_becomes_code),
		cmocka_unit_test(test_handshakes),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
