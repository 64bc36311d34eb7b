/* SPDX-License-Identifier: MIT */
/* CPL 3: the user alias of memory and the way in. */
#include "kit.h"

void user_init(void);
extern void enter_user(u64 rip, u64 arg, u64 rsp, u64 cs, u64 *kernel_rsp);
extern u64 kit_pml4[];

static u64 user_pdpt[512] __attribute__((aligned(4096)));
static u64 user_pd[512] __attribute__((aligned(4096)));
static u8 user_stack[8192] __attribute__((aligned(4096)));

/* The first GiB again, at USER_SHIFT (PML4 entry 1), with U/S = 1. */
void user_init(void)
{
	for (u64 i = 0; i < 512; i++)
		user_pd[i] = i << 21 | PTE_RW | PTE_U | PTE_PS;
	user_pdpt[0] = (u64)user_pd | PTE_RW | PTE_U;
	kit_pml4[1] = (u64)user_pdpt | PTE_RW | PTE_U;
}

/* Where a user function returns to. */
static void __attribute__((naked)) user_return(void)
{
	asm("int $0x80");
}

struct fault run_user(void (*fn)(u64 arg), u64 arg)
{
	struct cpu *c = this_cpu();
	u64 *stack = user_ptr(user_stack + sizeof(user_stack));

	stack[-1] = (u64)user_ptr(user_return);
	enter_user((u64)user_ptr(fn), arg, (u64)&stack[-1], SEL_UCS64, &c->user_return);
	return c->user_fault;
}
