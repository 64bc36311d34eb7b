/* SPDX-License-Identifier: MIT */
/* Page-table helpers for the one-to-one mapping. */
#include "kit.h"

extern u64 kit_pd[];

static u8 pool[64][4096] __attribute__((aligned(4096)));
static u32 pool_used;

void *alloc_page(void)
{
	u32 n = __atomic_fetch_add(&pool_used, 1, __ATOMIC_RELAXED);

	if (n >= ARRAY_SIZE(pool))
		die("out of pages");
	memset(pool[n], 0, 4096);
	return pool[n];
}

u64 *pte_of(const volatile void *lin)
{
	u64 a = (u64)lin, *pde = &kit_pd[a >> 21], *pt;

	if (*pde & PTE_PS) {
		u64 base = *pde & ~0x1fffffull;

		pt = alloc_page();
		for (u64 i = 0; i < 512; i++)
			pt[i] = base | i << 12 | PTE_RW;
		*pde = (u64)pt | PTE_RW | PTE_U;
		write_cr3(read_cr3());
	}
	pt = (u64 *)(*pde & ~0xfffull);
	return &pt[a >> 12 & 511];
}

void pte_change(const volatile void *lin, u64 set, u64 clear)
{
	u64 *pte = pte_of(lin);

	*pte = (*pte & ~clear) | set;
	invlpg(lin);
}
