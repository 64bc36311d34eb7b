// SPDX-License-Identifier: MIT
/* The buffer of dry runs: words of memory by address. */
#include "silicon/x86/mmu/dry.h"

#include <string.h>

#include "silicon/x86/mmu/phys.h"

void x86_dry_give_up(struct x86_cpu *cpu)
{
	x86_unwind(cpu, X86_UNWIND_NONE);
}

void x86_dry_reset(struct x86_dry *d)
{
	while (d->nr)
		d->slot[d->word[--d->nr].slot] = 0;
}

static struct x86_dry_word *word_at(struct x86_cpu *cpu, u64 at)
{
	struct x86_dry *d = cpu->dry;
	unsigned slot = (unsigned)((at >> 3) * 0x9e3779b97f4a7c15ull >> (64 - X86_DRY_BITS));
	struct x86_dry_word *w;

	for (; d->slot[slot]; slot = (slot + 1) % ARRAY_SIZE(d->slot))
		if (d->word[d->slot[slot] - 1].at == at)
			return &d->word[d->slot[slot] - 1];
	if (d->nr == X86_DRY_WORDS)
		x86_dry_give_up(cpu);
	w = &d->word[d->nr++];
	*w = (struct x86_dry_word){ .at = at, .slot = (u16)slot };
	d->slot[slot] = (u16)d->nr;
	return w;
}

void x86_dry_read(struct x86_cpu *cpu, u64 pa, void *buf, unsigned len)
{
	u8 *b = buf;

	x86_mem_copy(buf, (const void *)pa, len);
	for (unsigned i = 0; i < len; i++) {
		struct x86_dry_word *w = word_at(cpu, (pa + i) & ~7ull);
		unsigned n = (pa + i) & 7;

		if (w->stored >> n & 1) {
			b[i] = w->now[n];
		} else {
			w->seen[n] = b[i];
			w->loaded |= (u8)(1u << n);
		}
	}
}

void x86_dry_write(struct x86_cpu *cpu, u64 pa, const void *buf, unsigned len)
{
	const u8 *b = buf;

	for (unsigned i = 0; i < len; i++) {
		struct x86_dry_word *w = word_at(cpu, (pa + i) & ~7ull);
		unsigned n = (pa + i) & 7;

		w->now[n] = b[i];
		w->stored |= (u8)(1u << n);
	}
}
