/* SPDX-License-Identifier: MIT */
/* Replay: guest/run smc   (or: userkvm boot -i none -c 2 -k build/guest/smc) */
/* Code that is written: by itself, by REP, across pages, through an alias, by another processor. */
#include "kit/kit.h"

static u8 code[2][4096] __attribute__((aligned(4096)));

typedef u32 code_fn(void);

/* MOV EAX, imm32; RET */
static void put_return(u8 *at, u32 value)
{
	at[0] = 0xb8;
	memcpy(at + 1, &value, 4);
	at[5] = 0xc3;
}

static u32 call(u8 *at)
{
	return ((code_fn *)at)();
}

static void by_store(void)
{
	bool ok = true;

	for (u32 i = 0; i < 1000; i++) {
		put_return(code[0], i);
		ok &= call(code[0]) == i;
	}
	report("a thousand versions of one function", ok);
	ok = true;
	for (u32 i = 0; i < 1000; i++) {
		*(volatile u32 *)(code[0] + 1) = i;
		ok &= call(code[0]) == i;
	}
	report("its immediate only", ok);
}

/* The instruction behind the store changes: a jump, which serializes on every processor, lies between. */
static void own_block(void)
{
	bool ok = true;

	for (u32 i = 0; i < 100; i++) {
		u32 got;

		asm volatile("movl %1, 2f+1(%%rip); jmp 1f; 1: cpuid; 2: mov $0x11111111, %%eax; mov %%eax, %0"
			     : "=m"(got) : "r"(i) : "rax", "rbx", "rcx", "rdx", "memory");
		ok &= got == i;
	}
	report("a few bytes ahead in the same code", ok);
}

static void by_string(void)
{
	u8 image[8];
	bool ok = true;

	for (u32 i = 0; i < 100; i++) {
		put_return(image, i + 5);
		memcpy(code[0] + 100, image, 6);
		ok &= call(code[0] + 100) == i + 5;
	}
	report("by REP MOVSB", ok);
}

/* An instruction that crosses the page: its second half is rewritten. */
static void crossing(void)
{
	u8 *at = code[0] + 4096 - 3;
	bool ok = true;

	for (u32 i = 0; i < 100; i++) {
		put_return(at, i << 16 | 0x1234);
		ok &= call(at) == (i << 16 | 0x1234);
		code[1][1] = (u8)(i + 1);	/* bits 31:24 of the immediate */
		ok &= call(at) >> 24 == (u8)(i + 1);
	}
	report("an instruction across two pages", ok);
}

static void through_alias(void)
{
	u8 *alias = user_ptr(code[0]);
	bool ok = true;

	for (u32 i = 0; i < 100; i++) {
		put_return(alias, i + 77);
		ok &= call(code[0]) == i + 77;
		put_return(code[0], i + 99);
		ok &= call(alias) == i + 99;
	}
	report("through another mapping of the page", ok);
}

/* The page is replaced by a remap: new bytes at the old address. */
static void remap(void)
{
	u64 *pte = pte_of(code[0]), zero = *pte;
	bool ok = true;

	put_return(code[0], 1);
	put_return(code[1], 2);
	for (u32 i = 0; i < 100; i++) {
		*pte = (zero & 0xfff) | (u64)code[1];
		invlpg(code[0]);
		ok &= call(code[0]) == 2;
		*pte = zero;
		invlpg(code[0]);
		ok &= call(code[0]) == 1;
	}
	report("another page at the same address", ok);
}

/* ---- Another processor ---- */

static volatile u32 version, seen, stop, wrong;

/* Call until told to stop; after each new version the result must be it. */
static void executor(void *arg)
{
	while (!stop) {
		u32 v = version, got;

		cpuid(0, 0);	/* serialize: SDM "Handling Self- and Cross-Modifying Code" */
		got = call(code[0] + 256);
		if (got < v)
			wrong++;
		seen = v;
	}
}

static void other_processor(void)
{
	put_return(code[0] + 256, 0);
	run_on(1, executor, NULL);
	for (u32 i = 1; i <= 500; i++) {
		*(volatile u32 *)(code[0] + 257) = i;
		version = i;
		if (!wait_for(seen >= i)) {
			wrong++;
			break;
		}
	}
	stop = 1;
	wait_idle(1);
	report_deviant("code modified by another processor", "TCG executes stale translations", wrong == 0);
}

int main(void)
{
	by_store();
	own_block();
	by_string();
	crossing();
	through_alias();
	remap();
	if (start_cpus(2))
		other_processor();
	else
		report("two processors", false);
	return 0;
}
