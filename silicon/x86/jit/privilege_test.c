/* SPDX-License-Identifier: MIT */
/*
 * System calls, SWAPGS, SMAP windows and STI: small programs that go through both privilege
 * levels, by the interpreter and by translations. The whole state must be the same.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "silicon/x86/jit/jit.h"
#include "silicon/x86/sys/sys.h"
#include "silicon/x86/jit/test_pair.h"

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
	u64 cr4; /* beside the usual */
};

static const struct program programs[] = {
	/* user: mov eax, 7; sub eax, 8; syscall -> entry: swapgs; mov rbx, gs:[0]; pushfq; pop rdx;
	   swapgs; hlt */
	{"syscall", NULL, "0f 01 f8 65 48 8b 1c 25 00 00 00 00 9c 5a 0f 01 f8 f4",
	 "b8 07 00 00 00 83 e8 08 0f 05", true, LINUX_FMASK, 0x246, 0, 0, 0, X86_RUN_HALT},
	/* A mask that leaves arithmetic flags and AC alone: the handler's way. */
	{"syscall, no mask", NULL, "9c 5a f4", "b8 07 00 00 00 83 e8 08 0f 05", true, 0x200, 0x246,
	 0, 0, 0, X86_RUN_HALT},
	{"syscall, disabled", NULL, "f4", "0f 05", true, LINUX_FMASK, 0x246, 0, 0, EFER_SCE,
	 X86_RUN_SHUTDOWN},
	/* A loop of calls: user: mov ebx, 1000; L: mov eax, ebx; and eax, 7; syscall; dec ebx; jnz
	 * L; mov ecx, 1; syscall(9). entry: cmp eax, 9; je halt; add rsi, rax; sysret; halt: hlt */
	{"there and back", NULL, "83 f8 09 74 06 48 01 c6 48 0f 07 f4",
	 "bb e8 03 00 00 89 d8 83 e0 07 0f 05 ff cb 75 f5 b8 09 00 00 00 0f 05", true, LINUX_FMASK,
	 0x246, 0, 0, 0, X86_RUN_HALT},
	/* cmp of nothing: sysret with every arithmetic flag; user: pushfq is allowed; syscall;
	   entry halts */
	{"sysret flags", "48 0f 07", "f4", "9c 0f 05", false, LINUX_FMASK, 0x2, T_USER, 0x8d7, 0,
	 X86_RUN_HALT},
	{"sysret flags 2", "48 0f 07", "f4", "9c 0f 05", false, LINUX_FMASK, 0x2, T_USER, 0x200602,
	 0, X86_RUN_HALT},
	/* AC without CR0.AM: no alignment checks. */
	{"sysret AC", "48 0f 07", "f4", "9c 48 8b 04 24 0f 05", false, LINUX_FMASK, 0x2, T_USER,
	 0x40ed7, 0, X86_RUN_HALT},
	{"sysret TF", "48 0f 07", "f4", "90 90 0f 05", false, LINUX_FMASK, 0x2, T_USER, 0x302, 0,
	 X86_RUN_SHUTDOWN},
	{"sysret, not canonical", "48 0f 07", "f4", "f4", false, LINUX_FMASK, 0x2, 0x800000000000,
	 0x202, 0, X86_RUN_SHUTDOWN},
	{"sysret, disabled", "48 0f 07", "f4", "f4", false, LINUX_FMASK, 0x2, T_USER, 0x202,
	 EFER_SCE, X86_RUN_SHUTDOWN},
	{"user swapgs", NULL, "f4", "0f 01 f8 0f 05", true, LINUX_FMASK, 0x246, 0, 0, 0,
	 X86_RUN_SHUTDOWN},
	{"user stac", NULL, "f4", "0f 01 cb 0f 05", true, LINUX_FMASK, 0x246, 0, 0, 0,
	 X86_RUN_SHUTDOWN},
	{"user sti", NULL, "f4", "fb 90 0f 05", true, LINUX_FMASK, 0x246, 0, 0, 0,
	 X86_RUN_SHUTDOWN},
	/* stac; stac; cmp eax, eax; clac; clac; pushfq; pop rdx; stac; pushfq; pop rsi; hlt */
	{"stac", "0f 01 cb 0f 01 cb 39 c0 0f 01 ca 0f 01 ca 9c 5a 0f 01 cb 9c 5e f4", NULL, NULL,
	 false, 0, 0x2, 0, 0, 0, X86_RUN_HALT},
	/* cmp eax, 1; sti; nop; pushfq; pop rdx; sti; sti; cli; pushfq; pop rsi; hlt */
	{"sti", "83 f8 01 fb 90 9c 5a fb fb fa 9c 5e f4", NULL, NULL, false, 0, 0x2, 0, 0, 0,
	 X86_RUN_HALT},
	/* sti; hlt; and sti before an access that faults */
	{"sti hlt", "83 f8 01 fb f4", NULL, NULL, false, 0, 0x2, 0, 0, 0, X86_RUN_HALT},
	{"sti fault", "83 f8 01 fb 8b 04 25 00 00 00 30 f4", NULL, NULL, false, 0, 0x2, 0, 0, 0,
	 X86_RUN_SHUTDOWN},
	{"sti jump", "fb eb 01 f4 9c 5a f4", NULL, NULL, false, 0, 0x2, 0, 0, 0, X86_RUN_HALT},
	/* mov eax, 0x1234; mov cr2, rax; mov rdx, cr2; mov rsi, cr0; mov rdi, cr3; mov r12, cr2;
	   hlt */
	{"cr", "b8 34 12 00 00 0f 22 d0 0f 20 d2 0f 20 c6 0f 20 df 41 0f 20 d4 f4", NULL, NULL,
	 false, 0, 0x2, 0, 0, 0, X86_RUN_HALT},
	/* mov rax, 0x334455667788; wrfsbase rax; rdfsbase rdx; rdfsbase esi; rdgsbase r12; wrgsbase
	   r12d; rdgsbase rdi; hlt */
	{"fsgsbase",
	 "48 b8 88 77 66 55 44 33 00 00 f3 48 0f ae d0 f3 48 0f ae c2 f3 0f ae c6 f3 49 0f ae cc "
	 "f3 41 0f ae dc "
	 "f3 48 0f ae cf f4",
	 NULL, NULL, false, 0, 0x8d7, 0, 0, 0, X86_RUN_HALT, CR4_FSGSBASE},
	/* or rax, -1; wrgsbase rax; rdgsbase r13; mov rdx, gs:[T_DATA + 1]; hlt */
	{"fsgsbase, upper half",
	 "48 83 c8 ff f3 48 0f ae d8 f3 49 0f ae cd 65 48 8b 14 25 01 80 00 20 f4", NULL, NULL,
	 false, 0, 0x2, 0, 0, 0, X86_RUN_HALT, CR4_FSGSBASE},
	/* mov rax, 0x800000000000; wrfsbase rax; hlt: canonical with five levels; and what never is
	 */
	{"fsgsbase, wide", "48 b8 00 00 00 00 00 80 00 00 f3 48 0f ae d0 f4", NULL, NULL, false, 0,
	 0x2, 0, 0, 0, X86_RUN_HALT, CR4_FSGSBASE},
	{"fsgsbase, not canonical", "48 b8 00 00 00 00 00 00 00 01 f3 48 0f ae d0 f4", NULL, NULL,
	 false, 0, 0x2, 0, 0, 0, X86_RUN_SHUTDOWN, CR4_FSGSBASE},
	{"fsgsbase, disabled", "f3 48 0f ae c2 f4", NULL, NULL, false, 0, 0x2, 0, 0, 0,
	 X86_RUN_SHUTDOWN},
	/* xor ecx, ecx; or rdx, -1; rdpkru; hlt */
	{"rdpkru", "31 c9 48 83 ca ff 0f 01 ee f4", NULL, NULL, false, 0, 0x2, 0, 0, 0,
	 X86_RUN_HALT, CR4_PKE},
	{"rdpkru, ecx", "b9 01 00 00 00 0f 01 ee f4", NULL, NULL, false, 0, 0x2, 0, 0, 0,
	 X86_RUN_SHUTDOWN, CR4_PKE},
	{"rdpkru, disabled", "31 c9 0f 01 ee f4", NULL, NULL, false, 0, 0x2, 0, 0, 0,
	 X86_RUN_SHUTDOWN},
	/* mov edi, T_DATA; mov rax, [rdi]; mov rdx, [rdi + 8]; mov ebx, 5; mov ecx, 6; cmp ebx, 7;
	 * lock cmpxchg16b [rdi]; pushf; pop r8; cmpxchg16b [rdi]; pushf; pop r9; mov r12, [rdi];
	 * mov r13, [rdi + 8]; hlt */
	{"cmpxchg16b",
	 "bf 00 80 00 20 48 8b 07 48 8b 57 08 bb 05 00 00 00 b9 06 00 00 00 83 fb 07 f0 48 0f c7 "
	 "0f 9c 41 58 "
	 "48 0f c7 0f 9c 41 59 4c 8b 27 4c 8b 6f 08 f4",
	 NULL, NULL, false, 0, 0x2, 0, 0, 0, X86_RUN_HALT},
	{"cmpxchg16b, not aligned", "bf 08 80 00 20 48 0f c7 0f f4", NULL, NULL, false, 0, 0x2, 0,
	 0, 0, X86_RUN_SHUTDOWN},
	{"cmpxchg16b, not there", "bf 00 00 00 30 48 0f c7 0f f4", NULL, NULL, false, 0, 0x2, 0, 0,
	 0, X86_RUN_SHUTDOWN},
	/* user: mov rax, cr2 */
	{"user cr", NULL, "f4", "0f 20 d0 0f 05", true, LINUX_FMASK, 0x246, 0, 0, 0,
	 X86_RUN_SHUTDOWN},
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
	s.cr4 |= p->cr4;
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

#ifndef __SANITIZE_THREAD__ /* it delivers no signal while translated code runs */
static void on_fault(int sig, siginfo_t *info, void *context)
{
	if (!x86_handle_host_fault(info->si_addr, context))
		abort();
}

/* CMPXCHG16B of memory that the host takes away: all registers are as before. */
static void test_vanished(void **state)
{
	static const struct program p = {"vanished",
					 "b9 06 00 00 00 48 0f c7 0f f4",
					 NULL,
					 NULL,
					 false,
					 0,
					 0x8d7,
					 0,
					 0,
					 0,
					 X86_RUN_BUS_ERROR,
					 0};
	struct sigaction act = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
	struct x86_state end[2];

	sigaction(SIGSEGV, &act, NULL);
	for (unsigned k = 0; k < 2; k++) {
		prepare(cpus[k], &p);
		/* The last time the translation hits the TLB. */
		for (unsigned n = 0; n < 3; n++) {
			cpus[k]->rip = T_CODE;
			cpus[k]->gpr[X86_RDI] = T_DATA;
			cpus[k]->gpr[X86_RAX] = cpus[k]->gpr[X86_RDX] = 7;
			x86_set_rflags(cpus[k], p.rflags);
			cpus[k]->slow = 0;
			cpus[k]->activity = X86_ACT_ACTIVE;
			if (n == 2)
				mprotect(test_mem(T_DATA), PAGE_SIZE, PROT_NONE);
			assert_int_equal(x86_run(cpus[k], 0),
					 n == 2 ? X86_RUN_BUS_ERROR : X86_RUN_HALT);
		}
		x86_get_state(cpus[k], &end[k]);
		mprotect(test_mem(T_DATA), PAGE_SIZE, PROT_READ | PROT_WRITE);
		assert_int_equal(end[k].rip, T_CODE + 5);
		assert_int_equal(end[k].gpr[X86_RCX], 6);
		assert_int_equal(end[k].gpr[X86_RAX], 7);
	}
	signal(SIGSEGV, SIG_DFL);
	assert_memory_equal(end[0].gpr, end[1].gpr, sizeof(end[0].gpr));
	assert_int_equal(end[0].rflags, end[1].rflags);
}
#endif

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
		cmocka_unit_test(test_programs),
#ifndef __SANITIZE_THREAD__
		cmocka_unit_test(test_vanished),
#endif
	};

	return cmocka_run_group_tests_name("jit privilege", tests, setup, teardown);
}
