/* SPDX-License-Identifier: MIT */
/* Replay: guest/run code_stress   (or: userkvm boot -i none -c 4 -k build/guest/code_stress) */
/* Four processors: code that is mapped away, patched while others execute it, and more of it than a cache holds. */
#include "kit/kit.h"

#define CPUS 4

typedef u32 code_fn(void);

static volatile u32 wrong;

/* Three NOPs, so that the immediate is aligned; MOV EAX, imm32; RET */
static void put_return(u8 *at, u32 value)
{
	memcpy(at, "\x90\x90\x90\xb8", 4);
	memcpy(at + 4, &value, 4);
	at[8] = 0xc3;
}

static u32 call(const u8 *at)
{
	return ((code_fn *)(u64)at)();
}

static void everywhere(void (*fn)(void *))
{
	wrong = 0;
	for (u32 i = 1; i < CPUS; i++)
		run_on(i, fn, NULL);
	fn(NULL);
	for (u32 i = 1; i < CPUS; i++)
		wait_idle(i);
}

/* ---- Mappings that change ---- */

static u8 frames[4][4096] __attribute__((aligned(4096)));
static u8 views[CPUS][4096] __attribute__((aligned(4096)));

/* Each its own page, among frames that all share: other code at the same address, and back. */
static void remap(void *arg)
{
	u32 me = this_cpu()->id;
	u8 *view = views[me];
	u64 *pte = pte_of(view), before = *pte;

	for (u32 i = 0; i < 1500; i++) {
		u32 k = (i * 7 + me) & 3;

		if (i & 1) {
			*pte = 0;
			invlpg(view);
		}
		*pte = (before & 0xfff) | (u64)frames[k];
		invlpg(view);
		if (call(view) != k || call(view + 4096 - 16) != k + 10)
			wrong++;
	}
	*pte = before;
	invlpg(view);
}

/* ---- Patching ---- */

static u8 slots[CPUS][64] __attribute__((aligned(4096)));
static volatile u32 version[CPUS];

/* A new version is seen after a serializing instruction: SDM "Handling Self- and Cross-Modifying Code". */
static void patch(void *arg)
{
	u32 me = this_cpu()->id;

	for (u32 i = 1; i <= 400; i++) {
		*(volatile u32 *)(slots[me] + 4) = i;
		version[me] = i;
		for (u32 k = 0; k < CPUS; k++) {
			u32 at_least = version[k], got;

			cpuid(0, 0);
			got = call(slots[k]);
			if (got < at_least || (k == me && got != i))
				wrong++;
		}
	}
}

/* ---- More code than is kept ---- */

#define FUNCTIONS 8192
static u8 many[FUNCTIONS][64] __attribute__((aligned(4096)));

static void rewrite(void *arg)
{
	u32 me = this_cpu()->id, mine = FUNCTIONS / CPUS;

	for (u32 round = 1; round <= 3; round++) {
		for (u32 i = me * mine; i < (me + 1) * mine; i += 16)
			*(volatile u32 *)(many[i] + 4) = i + round;
		for (u32 i = 0; i < FUNCTIONS; i++) {
			u32 got = call(many[(i + me * mine) % FUNCTIONS]) - (i + me * mine) % FUNCTIONS;

			/* Rewritten are those of a multiple of 16; one's own at once. */
			if (i < mine ? got != (i % 16 ? 0 : round) : got > 3)
				wrong++;
		}
	}
}

int main(void)
{
	if (!start_cpus(CPUS)) {
		report("four processors", false);
		return 0;
	}
	for (u32 k = 0; k < 4; k++) {
		put_return(frames[k], k);
		put_return(frames[k] + 4096 - 16, k + 10);
	}
	everywhere(remap);
	report("code pages that are mapped away and back", wrong == 0);
	for (u32 k = 0; k < CPUS; k++)
		put_return(slots[k], 0);
	everywhere(patch);
	report_deviant("code that four processors patch and execute", "TCG executes stale translations", wrong == 0);
	for (u32 i = 0; i < FUNCTIONS; i++)
		put_return(many[i], i);
	everywhere(rewrite);
	report_deviant("more functions than a small cache holds, some rewritten", "TCG executes stale translations", wrong == 0);
	return 0;
}
