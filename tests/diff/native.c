// SPDX-License-Identifier: MIT
/*
 * The host side: the state is loaded and read back through signal frames, so
 * the kernel does all the saving. INT3 enters the handler in the phase ENTER,
 * which puts the case's state into the frame and returns into the instruction;
 * whatever that raises comes back in the phase LEAVE.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "tests/diff/diff.h"

#define CS_64 0x33
#define CS_32 0x23
#define SS_USER 0x2b
#define XSTATE_BV 512	/* offset of the XSAVE header in the frame */
#define YMM_HI 576
#define FRAME_XFEATURES 464

static const int gregs[16] = {
	REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
	REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

static enum { IDLE, ENTER, LEAVE } phase;
static const struct diff_case *cur;
static struct diff_result *res;
static gregset_t saved_gregs;
static u8 saved_fp[16384];
static size_t fp_size;

static u8 *code_page, *data_pages;

static size_t frame_fp_size(const u8 *fp)
{
	u32 magic, size;

	memcpy(&magic, fp + FRAME_XFEATURES, 4);
	memcpy(&size, fp + FRAME_XFEATURES + 4, 4);
	return magic == 0x46505853 && size <= sizeof(saved_fp) ? size : 512;
}

static void load_fp(u8 *fp, const struct diff_state *s)
{
	u64 bv = 7;

	memcpy(fp, &s->fcw, 2);
	memcpy(fp + 2, &s->fsw, 2);
	fp[4] = s->ftw;
	memset(fp + 5, 0, 19);
	memcpy(fp + 24, &s->mxcsr, 4);
	for (int i = 0; i < 8; i++) {
		memset(fp + 32 + i * 16, 0, 16);
		memcpy(fp + 32 + i * 16, s->st[i], 10);
	}
	for (int i = 0; i < 16; i++) {
		memcpy(fp + 160 + i * 16, s->ymm[i], 16);
		memcpy(fp + YMM_HI + i * 16, s->ymm[i] + 16, 16);
	}
	memcpy(fp + XSTATE_BV, &bv, 8);
}

static void store_fp(const u8 *fp, struct diff_state *s)
{
	u64 bv;

	memcpy(&bv, fp + XSTATE_BV, 8);
	memset(s->st, 0, sizeof(s->st));
	memset(s->ymm, 0, sizeof(s->ymm));
	s->fcw = 0x37f;
	s->fsw = 0;
	s->ftw = 0;
	memcpy(&s->mxcsr, fp + 24, 4);
	if (bv & 1) {
		memcpy(&s->fcw, fp, 2);
		memcpy(&s->fsw, fp + 2, 2);
		s->ftw = fp[4];
		for (int i = 0; i < 8; i++)
			memcpy(s->st[i], fp + 32 + i * 16, 10);
	}
	for (int i = 0; i < 16; i++) {
		if (bv & 2)
			memcpy(s->ymm[i], fp + 160 + i * 16, 16);
		if (bv & 4)
			memcpy(s->ymm[i] + 16, fp + YMM_HI + i * 16, 16);
	}
}

static void on_signal(int sig, siginfo_t *info, void *ctx)
{
	ucontext_t *uc = ctx;
	greg_t *g = uc->uc_mcontext.gregs;
	u8 *fp = (u8 *)uc->uc_mcontext.fpregs;

	if (phase == ENTER) {
		memcpy(saved_gregs, g, sizeof(saved_gregs));
		fp_size = frame_fp_size(fp);
		memcpy(saved_fp, fp, fp_size);
		for (int i = 0; i < 16; i++)
			g[gregs[i]] = (greg_t)cur->in.gpr[i];
		g[REG_RIP] = (greg_t)cur->in.rip;
		g[REG_EFL] = (greg_t)cur->in.rflags;
		g[REG_CSGSFS] = (g[REG_CSGSFS] & ~(0xffffull | 0xffffull << 48)) |
				(cur->bits32 ? CS_32 : CS_64) | (u64)SS_USER << 48;
		load_fp(fp, &cur->in);
		phase = LEAVE;
		return;
	}
	if (phase != LEAVE) {
		fprintf(stderr, "diff: signal %d at %#llx outside a case\n", sig, g[REG_RIP]);
		_exit(99);
	}
	for (int i = 0; i < 16; i++)
		res->out.gpr[i] = (u64)g[gregs[i]];
	res->out.rip = (u64)g[REG_RIP];
	res->out.rflags = (u64)g[REG_EFL];
	res->vector = (u8)g[REG_TRAPNO];
	res->error = (u32)g[REG_ERR];
	res->cr2 = res->vector == 14 ? (u64)g[REG_CR2] : 0;
	store_fp(fp, &res->out);
	memcpy(g, saved_gregs, sizeof(saved_gregs));
	memcpy(fp, saved_fp, fp_size);
	phase = IDLE;
}

int diff_native_init(void)
{
	static const int sigs[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP };
	struct sigaction sa = { .sa_sigaction = on_signal,
				.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
	stack_t ss = { .ss_size = 256 * 1024 };

	ss.ss_sp = malloc(ss.ss_size);
	if (!ss.ss_sp || sigaltstack(&ss, NULL) < 0)
		return -1;
	for (unsigned i = 0; i < ARRAY_SIZE(sigs); i++)
		if (sigaction(sigs[i], &sa, NULL) < 0)
			return -1;
	code_page = mmap((void *)DIFF_CODE, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	data_pages = mmap((void *)DIFF_DATA, DIFF_DATA_SIZE + PAGE_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (code_page == MAP_FAILED || data_pages == MAP_FAILED)
		return -1;
	memset(code_page, 0xcc, 2 * PAGE_SIZE);
	diff_fill(1, (u8 *)DIFF_RO, PAGE_SIZE);
	mprotect((void *)DIFF_RO, PAGE_SIZE, PROT_READ);
	/* A 64-bit process starts with null selectors, which 32-bit code cannot use. */
	__asm__ volatile("mov %0, %%ds\n\tmov %0, %%es" :: "r"(SS_USER));
	return 0;
}

void diff_native_run(const struct diff_case *c, struct diff_result *r)
{
	diff_fill(c->data_seed, data_pages, DIFF_DATA_SIZE);
	memcpy((void *)c->in.rip, c->code, c->len);
	memset((u8 *)c->in.rip + c->len, 0xcc, 16);
	cur = c;
	res = r;
	phase = ENTER;
	__asm__ volatile("int3" ::: "memory");
	memset((void *)c->in.rip, 0xcc, c->len + 16u);
	memcpy(r->data, data_pages, DIFF_DATA_SIZE);
}
