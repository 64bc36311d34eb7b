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

/* Several processors may ask for parts of the same large page at once: the first one's table stays. */
static u64 split(u64 *pde, u64 large)
{
	u64 *pt = alloc_page(), base = large & ~0x1fffffull;

	for (u64 i = 0; i < 512; i++)
		pt[i] = base | i << 12 | PTE_RW;
	while (large & PTE_PS) {
		u64 table = (u64)pt | PTE_RW | PTE_U;

		/* The walker of another may have set the accessed bit since. */
		if (__atomic_compare_exchange_n(pde, &large, table, false, __ATOMIC_ACQ_REL,
						__ATOMIC_ACQUIRE))
			large = table;
	}
	write_cr3(read_cr3());
	return large;
}

u64 *pte_of(const volatile void *lin)
{
	u64 a = (u64)lin, *pde = &kit_pd[a >> 21], entry = __atomic_load_n(pde, __ATOMIC_ACQUIRE);

	if (entry & PTE_PS)
		entry = split(pde, entry);
	return &((u64 *)(entry & ~0xfffull))[a >> 12 & 511];
}

void pte_change(const volatile void *lin, u64 set, u64 clear)
{
	u64 *pte = pte_of(lin);

	*pte = (*pte & ~clear) | set;
	invlpg(lin);
}
