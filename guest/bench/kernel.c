// SPDX-License-Identifier: MIT
/* What the kernel does for a program: calls, processes, page tables, signals; and code that changes. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "guest/bench/bench.h"

u64 bench_getppid(u64 n)
{
	u64 ok = 0;

	for (u64 i = 0; i < n * 100; i++)
		ok += syscall(SYS_getppid) >= 0;
	return ok;
}

u64 bench_clockgettime(u64 n)
{
	u64 t = 0;

	for (u64 i = 0; i < n * 100; i++)
		t = bench_now();
	return t;
}

/* ---- Two processes take turns ---- */

struct turns { int to[2], from[2]; };

static void answer(void *arg)
{
	struct turns *t = arg;
	u32 v;

	while (read(t->to[0], &v, 4) == 4 && v) {
		v++;
		if (write(t->from[1], &v, 4) != 4)
			break;
	}
}

static u64 take_turns(u64 n, unsigned cpu)
{
	struct turns t;
	u32 v = 0, right = 0, stop = 0;
	int child;

	if (pipe(t.to) || pipe(t.from))
		bench_skip("pipe");
	child = bench_spawn(cpu, answer, &t);
	for (u64 i = 1; i <= n; i++) {
		u32 sent = (u32)i;

		if (write(t.to[1], &sent, 4) != 4 || read(t.from[0], &v, 4) != 4)
			bench_skip("pipe broke");
		right += v == sent + 1;
	}
	if (write(t.to[1], &stop, 4) != 4)
		bench_skip("pipe broke");
	bench_join(child);
	for (int i = 0; i < 2; i++) {
		close(t.to[i]);
		close(t.from[i]);
	}
	return right;
}

/* The child starts on each call: ten round trips beside it. */
u64 bench_pipe(u64 n)
{
	return take_turns(n * 10, 0);
}

u64 bench_pipe_xcpu(u64 n)
{
	return take_turns(n * 10, 1);
}

/* ---- Processes ---- */

static u64 children(u64 n, bool exec)
{
	u64 ok = 0;

	while (n--) {
		int status = -1, pid = fork();

		if (!pid) {
			if (exec)
				execl(bench_self, bench_self, "-x", NULL);
			_exit(exec ? 1 : 7);
		}
		waitpid(pid, &status, 0);
		ok += WIFEXITED(status) && WEXITSTATUS(status) == 7;
	}
	return ok;
}

u64 bench_fork(u64 n)
{
	return children(n, false);
}

u64 bench_forkexec(u64 n)
{
	return children(n, true);
}

/* ---- Page tables ---- */

u64 bench_pgfault(u64 n)
{
	u64 sum = 0;

	while (n--) {
		u8 *p = mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED)
			bench_skip("mmap");
		madvise(p, 64 * 4096, MADV_NOHUGEPAGE);
		for (u32 i = 0; i < 64; i++) {
			sum += p[i * 4096] + 1u;
			p[i * 4096] = 1;
		}
		munmap(p, 64 * 4096);
	}
	return sum;
}

u64 bench_mprotect(u64 n)
{
	u8 *p = bench_arena();
	u64 sum = 0;

	p[0] = 1;
	for (u64 i = 0; i < n * 10; i++) {
		mprotect(p, 4096, PROT_READ);
		sum += p[0];
		mprotect(p, 4096, PROT_READ | PROT_WRITE);
		p[0] = (u8)i;
	}
	return sum;
}

static volatile u64 faults;

#ifdef __x86_64__
#define REG_IP REG_RIP
#else
#define REG_IP REG_EIP
#endif

/* The load is two bytes long: go on behind it. */
static void on_fault(int sig, siginfo_t *info, void *ctx)
{
	ucontext_t *uc = ctx;

	(void)sig, (void)info;
	faults++;
	uc->uc_mcontext.gregs[REG_IP] += 2;
}

u64 bench_sigsegv(u64 n)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	u8 *p = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	sigaction(SIGSEGV, &sa, NULL);
	faults = 0;
	for (u64 i = 0; i < n * 10; i++)
		__asm__ volatile("mov (%0), %%eax" :: "D"(p) : "rax", "memory");
	signal(SIGSEGV, SIG_DFL);
	munmap(p, 4096);
	return faults;
}

/* ---- Code that changes, and data beside code ---- */

/* mov $imm32, %eax; ret */
static u8 *code_page(void)
{
	static u8 *p;

	if (!p) {
		p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			bench_skip("no page that is writable and executable");
		memcpy(p, "\xb8\0\0\0\0\xc3", 6);
	}
	return p;
}

u64 bench_smc(u64 n)
{
	u8 *p = code_page();
	u32 (*fn)(void) = (u32 (*)(void))(void *)p;
	u64 sum = 0;

	for (u32 i = 0; i < n * 10; i++) {
		memcpy(p + 1, &i, 4);
		BARRIER();
		sum += fn();
	}
	return sum;
}

u64 bench_smcdata(u64 n)
{
	u8 *p = code_page();
	u32 (*fn)(void) = (u32 (*)(void))(void *)p;
	u64 sum = 0;

	memcpy(p + 1, "\x03\0\0\0", 4);
	for (u64 i = 0; i < n * 100; i++) {
		*(volatile u64 *)(p + 2048) = i;
		sum += fn();
	}
	return sum;
}
