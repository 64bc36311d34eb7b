/* SPDX-License-Identifier: MIT */
/*
 * The engine lockstep must find translations that were damaged, and only them. A difference
 * ends the process, so each run has a process of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "silicon/x86/jit/cache.h"
#include "silicon/x86/test_cpu.h"

#define MARK 0x12345678u	/* an immediate that the tests find again in the translation */
#define FINE 0

static struct x86_cpu *cpu;
static char said[8192];

static struct x86_jit_trans *translation(u64 lin)
{
	for (unsigned i = 0; i < JIT_PAGE_HASH; i++)
		for (struct jit_page *p = cpu->jit->page[i]; p; p = p->next)
			for (struct x86_jit_trans *t = p->trans; t; t = t->in_page)
				if (t->lin == lin)
					return t;
	return NULL;
}

/* One bit of the first immediate MARK. */
static void damage(struct x86_jit_trans *t)
{
	const u32 mark = MARK;

	for (u32 i = 0; i + 4 <= t->size; i++)
		if (!memcmp(t->code + i, &mark, 4)) {
			t->code[i + 2] ^= 4;
			return;
		}
	_exit(99);
}

static void start(void)
{
	cpu->gpr[X86_RBX] = T_DATA;
	cpu->gpr[X86_RSI] = T_UNMAPPED;
	cpu->gpr[X86_RSP] = T_STACK;
	cpu->gpr[X86_RAX] = 1;
	cpu->gpr[X86_RCX] = 0x40000;
	cpu->rip = T_CODE;
	memset(test_mem(T_DATA), 0, 64);
	cpu->activity = X86_ACT_ACTIVE;
	cpu->slow = 0;
}

/* Run @hex, which ends in HLT, twice; the second time damaged. Returns the exit status, said[] is the log. */
static int run(const char *hex, bool harm)
{
	int fd[2], status;
	size_t n = 0;
	ssize_t got;
	pid_t pid;

	assert_int_equal(pipe(fd), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		dup2(fd[1], STDERR_FILENO);
		test_hex(test_mem(T_CODE), hex);
		start();
		x86_run(cpu, 0);
		if (harm)
			damage(translation(T_CODE));
		start();
		x86_run(cpu, 0);
		x86_cpu_free(cpu);
		_exit(FINE);
	}
	close(fd[1]);
	while ((got = read(fd[0], said + n, sizeof(said) - 1 - n)) > 0)
		n += (size_t)got;
	said[n] = 0;
	close(fd[0]);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect_difference(const char *hex, const char *text, const char *field)
{
	assert_int_equal(run(hex, false), FINE);
	assert_non_null(strstr(said, "lockstep: "));
	assert_null(strstr(said, "lockstep: 0 blocks were the same"));
	assert_int_equal(run(hex, true), X86_LOCKSTEP_EXIT);
	assert_non_null(strstr(said, "differ in the block at 0x20001000"));
	assert_non_null(strstr(said, text));
	assert_non_null(strstr(said, field));
}

/* add eax, MARK; jmp +0; hlt */
static void test_register(void **state)
{
	expect_difference("05 78 56 34 12 eb 00 f4", "add eax, 0x12345678",
			  "rax      interp 0000000012345679  jit 0000000012305679");
}

/* 32-bit code: inc eax; add eax, MARK; jmp +0; hlt */
static void test_32_bit(void **state)
{
	test_mode(cpu, X86_MODE_COMPAT, 4);
	expect_difference("40 05 78 56 34 12 eb 00 f4", "inc eax", "rax      interp 000000001234567a  jit 000000001230567a");
	test_mode(cpu, X86_MODE_64, 8);
}

static void test_flags(void **state)
{
	/* test ecx, MARK; jmp +0; hlt: the one bit that ECX has decides on ZF */
	expect_difference("f7 c1 78 56 34 12 eb 00 f4", "test ecx, 0x12345678", "rflags   interp");
	/* add dword [rbx], MARK; jmp +0; hlt */
	expect_difference("81 03 78 56 34 12 eb 00 f4", "add dword ptr [rbx], 0x12345678", "20008002 interp 34  jit 30");
}

/* mov dword [rbx], MARK; jmp +0; hlt */
static void test_memory(void **state)
{
	expect_difference("c7 03 78 56 34 12 eb 00 f4", "mov dword ptr [rbx], 0x12345678", "20008002 interp 34  jit 30");
}

/* Loads see the dry run's stores, memory does not: add [rbx], eax; mov ecx, [rbx]; lock xadd; push, pop; rep stosb. */
static void test_same(void **state)
{
	assert_int_equal(run("01 03 8b 0b f0 0f c1 03 50 59 01 03 eb 00 f4", false), FINE);
	assert_null(strstr(said, "lockstep: 0 blocks were the same"));
	assert_int_equal(run("b9 20 00 00 00 48 8d 3b f3 aa f3 0f 6f 03 f3 0f 7f 43 10 eb 00 f4", false), FINE);
	/* mov eax, MARK; mov [rsi], eax: both fault in the same way. */
	assert_int_equal(run("b8 78 56 34 12 89 06 eb 00 f4", false), FINE);
	assert_null(strstr(said, "lockstep: 0 blocks were the same"));
}

/* A block outside of the range is interpreted: nothing to compare. */
static void test_range(void **state)
{
	setenv("USERKVM_JIT_RANGE", "20002000-20002fff", 1);
	assert_int_equal(run("05 78 56 34 12 eb 00 f4", false), FINE);
	assert_non_null(strstr(said, "lockstep: 0 blocks were the same"));
	setenv("USERKVM_JIT_RANGE", "20001000-20001fff", 1);
	assert_int_equal(run("05 78 56 34 12 eb 00 f4", false), FINE);
	assert_null(strstr(said, "lockstep: 0 blocks were the same"));
	unsetenv("USERKVM_JIT_RANGE");
}

static int setup(void **state)
{
	setenv("USERKVM_JIT_HOT", "0", 1);
	setenv("USERKVM_JIT_STATS", "1", 1);
	cpu = test_cpu_new();
	test_mode(cpu, X86_MODE_64, 8);
	return x86_set_engine(cpu, X86_ENGINE_LOCKSTEP);
}

static int teardown(void **state)
{
	test_cpu_free(cpu);
	return 0;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_register),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_32_bit),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_same),
		cmocka_unit_test(test_range),
	};

	return cmocka_run_group_tests_name("lockstep", tests, setup, teardown);
}
