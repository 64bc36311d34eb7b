/* SPDX-License-Identifier: MIT */
/*
 * System calls, SWAPGS, SMAP windows and STI: small programs that go through both privilege
 * levels, by the interpreter and by translations. The whole state must be the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "silicon/x86/jit/jit.h"
#include "silicon/x86/sys/sys.h"
#include "silicon/x86/test_cpu.h"

#define T_ENTRY (T_MEM + 0x2000)	/* of system calls */
#define T_USER (T_MEM + 0x3000)
#define STAR (0x0013ull << 48 | 0x0008ull << 32)
#define LINUX_FMASK 0x257fd5ull
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_FMASK 0xc0000084u
#define MSR_KERNEL_GS_BASE 0xc0000102u

static struct x86_cpu *cpus[2];		/* interpreter, translator */

struct program {
	const char *name;
	const char *kernel;	/* at T_CODE, CPL 0 */
	const char *entry;	/* at T_ENTRY */
	const char *user;	/* at T_USER, CPL 3 */
	bool at_user;		/* begins there */
	u64 fmask, rflags, rcx, r11, efer_off;
	enum x86_run_result result;
};

static const struct program programs[] = {
	/* user: mov eax, 7; sub eax, 8; syscall -> entry: swapgs; mov rbx, gs:[0]; pushfq; pop rdx; swapgs; hlt */
	{ "syscall", NULL, "0f 01 f8 65 48 8b 1c 25 00 00 00 00 9c 5a 0f 01 f8 f4", "b8 07 00 00 00 83 e8 08 0f 05",
	  true, LINUX_FMASK, 0x246, 0, 0, 0, X86_RUN_HALT },
	/* A mask that leaves arithmetic flags and AC alone: the handler's way. */
	{ "syscall, no mask", NULL, "9c 5a f4", "b8 07 00 00 00 83 e8 08 0f 05", true, 0x200, 0x246, 0, 0, 0, X86_RUN_HALT },
	{ "syscall, disabled", NULL, "f4", "0f 05", true, LINUX_FMASK, 0x246, 0, 0, EFER_SCE, X86_RUN_SHUTDOWN },
	/* A loop of calls: user: mov ebx, 1000; L: mov eax, ebx; and eax, 7; syscall; dec ebx; jnz L; mov ecx, 1; syscall(9).
	 * entry: cmp eax, 9; je halt; add rsi, rax; sysret; halt: hlt */
	{ "there and back", NULL, "83 f8 09 74 06 48 01 c6 48 0f 07 f4",
	  "bb e8 03 00 00 89 d8 83 e0 07 0f 05 ff cb 75 f5 b8 09 00 00 00 0f 05", true, LINUX_FMASK, 0x246, 0, 0, 0, X86_RUN_HALT },
	/* cmp of nothing: sysret with every arithmetic flag; user: pushfq is allowed; syscall; entry halts */
	{ "sysret flags", "48 0f 07", "f4", "9c 0f 05", false, LINUX_FMASK, 0x2, T_USER, 0x8d7, 0, X86_RUN_HALT },
	{ "sysret flags 2", "48 0f 07", "f4", "9c 0f 05", false, LINUX_FMASK, 0x2, T_USER, 0x200602, 0, X86_RUN_HALT },
	/* AC without CR0.AM: no alignment checks. */
	{ "sysret AC", "48 0f 07", "f4", "9c 48 8b 04 24 0f 05", false, LINUX_FMASK, 0x2, T_USER, 0x40ed7, 0, X86_RUN_HALT },
	{ "sysret TF", "48 0f 07", "f4", "90 90 0f 05", false, LINUX_FMASK, 0x2, T_USER, 0x302, 0, X86_RUN_SHUTDOWN },
	{ "sysret, not canonical", "48 0f 07", "f4", "f4", false, LINUX_FMASK, 0x2, 0x800000000000, 0x202, 0, X86_RUN_SHUTDOWN },
	{ "sysret, disabled", "48 0f 07", "f4", "f4", false, LINUX_FMASK, 0x2, T_USER, 0x202, EFER_SCE, X86_RUN_SHUTDOWN },
	{ "user swapgs", NULL, "f4", "0f 01 f8 0f 05", true, LINUX_FMASK, 0x246, 0, 0, 0, X86_RUN_SHUTDOWN },
	{ "user stac", NULL, "f4", "0f 01 cb 0f 05", true, LINUX_FMASK, 0x246, 0, 0, 0, X86_RUN_SHUTDOWN },
	{ "user sti", NULL, "f4", "fb 90 0f 05", true, LINUX_FMASK, 0x246, 0, 0, 0, X86_RUN_SHUTDOWN },
	/* stac; stac; cmp eax, eax; clac; clac; pushfq; pop rdx; stac; pushfq; pop rsi; hlt */
	{ "stac", "0f 01 cb 0f 01 cb 39 c0 0f 01 ca 0f 01 ca 9c 5a 0f 01 cb 9c 5e f4", NULL, NULL, false, 0, 0x2, 0, 0, 0, X86_RUN_HALT },
	/* cmp eax, 1; sti; nop; pushfq; pop rdx; sti; sti; cli; pushfq; pop rsi; hlt */
	{ "sti", "83 f8 01 fb 90 9c 5a fb fb fa 9c 5e f4", NULL, NULL, false, 0, 0x2, 0, 0, 0, X86_RUN_HALT },
	/* sti; hlt; and sti before an access that faults */
	{ "sti hlt", "83 f8 01 fb f4", NULL, NULL, false, 0, 0x2, 0, 0, 0, X86_RUN_HALT },
	{ "sti fault", "83 f8 01 fb 8b 04 25 00 00 00 30 f4", NULL, NULL, false, 0, 0x2, 0, 0, 0, X86_RUN_SHUTDOWN },
	{ "sti jump", "fb eb 01 f4 9c 5a f4", NULL, NULL, false, 0, 0x2, 0, 0, 0, X86_RUN_HALT },
	/* mov eax, 0x1234; mov cr2, rax; mov rdx, cr2; mov rsi, cr0; mov rdi, cr3; mov r12, cr2; hlt */
	{ "cr", "b8 34 12 00 00 0f 22 d0 0f 20 d2 0f 20 c6 0f 20 df 41 0f 20 d4 f4", NULL, NULL, false, 0, 0x2, 0, 0, 0, X86_RUN_HALT },
	/* user: mov rax, cr2 */
	{ "user cr", NULL, "f4", "0f 20 d0 0f 05", true, LINUX_FMASK, 0x246, 0, 0, 0, X86_RUN_SHUTDOWN },
};

static void put(u64 at, const char *hex)
{
	if (hex)
		test_hex(test_mem(at), hex);
}

static void prepare(struct x86_cpu *cpu, const struct program *p)
{
	struct x86_state s;

	test_mode(cpu, X86_MODE_64, 8);
	put(T_CODE, p->kernel);
	put(T_ENTRY, p->entry);
	put(T_USER, p->user);
	memcpy(test_mem(T_DATA), "\x11\x22\x33\x44\x55\x66\x77\x88", 8);
	x86_get_state(cpu, &s);
	s.efer &= ~p->efer_off;
	s.rflags = p->rflags;
	s.gpr[X86_RCX] = p->rcx;
	s.gpr[X86_R11] = p->r11;
	s.seg[X86_GS].base = 0x1234;
	if (p->at_user) {
		s.rip = T_USER;
		s.seg[X86_CS].ar |= 3u << X86_AR_DPL_SHIFT;
		s.seg[X86_SS].ar |= 3u << X86_AR_DPL_SHIFT;
		s.seg[X86_CS].sel = s.seg[X86_SS].sel = 0x1b;
	}
	x86_set_state(cpu, &s);
	*test_pte(T_CODE) = T_CODE | 3;
	*test_pte(T_ENTRY) = T_ENTRY | 3;
	*test_pte(T_DATA) = T_DATA | 3;
	assert_true(x86_msr_write(cpu, MSR_STAR, STAR));
	assert_true(x86_msr_write(cpu, MSR_LSTAR, T_ENTRY));
	assert_true(x86_msr_write(cpu, MSR_FMASK, p->fmask));
	assert_true(x86_msr_write(cpu, MSR_KERNEL_GS_BASE, T_DATA));
	cpu->slow = 0;
	cpu->activity = X86_ACT_ACTIVE;
	x86_tlb_flush_all(cpu);
	x86_decode_recheck(cpu);
}

#define SAME(f) \
	do { \
		if (memcmp(&s[0].f, &s[1].f, sizeof(s[0].f))) { \
			fprintf(stderr, "%s: " #f " differs\n", p->name); \
			bad = true; \
		} \
	} while (0)

static void test_programs(void **state)
{
	bool bad = false;

	for (unsigned i = 0; i < ARRAY_SIZE(programs); i++) {
		const struct program *p = &programs[i];
		struct x86_state s[2];
		u8 mem[2][0x2000];

		/* Twice, so that what the first run has linked is used. */
		for (unsigned k = 0; k < 4; k++) {
			struct x86_cpu *cpu = cpus[k & 1];
			enum x86_run_result r;

			prepare(cpu, p);
			r = x86_run(cpu, k < 2 ? 0 : 100000);
			if (r != p->result)
				fprintf(stderr, "%s: result %d by engine %u\n", p->name, r, k & 1);
			bad |= r != p->result;
			memset(&s[k & 1], 0, sizeof(s[0]));
			x86_get_state(cpu, &s[k & 1]);
			memcpy(mem[k & 1], test_mem(T_STACK - sizeof(mem[0])), sizeof(mem[0]));
			if (!(k & 1))
				continue;
			SAME(gpr);
			SAME(rip);
			SAME(rflags);
			SAME(seg);
			SAME(cr2);
			SAME(interruptibility);
			if (memcmp(mem[0], mem[1], sizeof(mem[0]))) {
				fprintf(stderr, "%s: the stack differs\n", p->name);
				bad = true;
			}
		}
	}
	assert_false(bad);
}

static int setup(void **state)
{
	setenv("USERKVM_JIT_HOT", "0", 1);
	cpus[0] = test_cpu_new();
	cpus[1] = x86_cpu_new(x86_model_find("intel"), 1);
	return x86_set_engine(cpus[0], X86_ENGINE_INTERP) || x86_set_engine(cpus[1], X86_ENGINE_JIT);
}

static int teardown(void **state)
{
	x86_cpu_free(cpus[1]);
	test_cpu_free(cpus[0]);
	return 0;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_programs),
	};

	return cmocka_run_group_tests_name("jit privilege", tests, setup, teardown);
}
