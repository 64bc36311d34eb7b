/* SPDX-License-Identifier: MIT */
/*
 * Code pages: the process-wide half of keeping decoded blocks fresh.
 *
 * Two tables indexed by address bits, never allocated, shared without locks:
 *
 *   page[]     is the page marked as code; a sequence word that every store to a
 *              marked page advances
 *   granule[]  a sequence number for each 128 bytes of it, and whether code was ever
 *              decoded there; it counts stores only then, so that data beside code
 *              costs neither
 *
 * A block remembers both. Unequal page words send it to compare its granules, so
 * that stores to other code of the page cost a comparison and not a new decoding.
 * Two pages that share an entry disturb each other's speed, never their correctness.
 *
 * Whoever decodes says so in the granule word before it reads the bytes; whoever
 * stores looks there after the bytes are in memory, with a fence between the two on
 * either side. One of them sees the other.
 *
 * A granule that is stored to often and was never decoded is a *grain* of the processor
 * (cpu->grain): it is stored to as if its page held no code. Who decodes there for the first
 * time takes grains back as marking takes write tags back.
 *
 * Marking. The first decoder of a page marks it and then waits until every
 * processor inside a run loop has dropped its write tags (X86_EV_CODE_PAGE), unless
 * none has been given for that page since the last time all were dropped;
 * a waiting processor serves its own event, also while it waits for the lock of
 * the list, so two of them cannot wait for each other for ever. Only then are
 * the page's bytes read. From there on each store takes the slow path and ends
 * here, after the bytes are in memory.
 *
 * Unmarking. A page that once held code and is now plain data would be slow for
 * ever. After UNMARK_STORES stores without a decoding in between, the mark goes,
 * *then* the kill half of the sequence word advances: whoever decoded before
 * that compares its bytes and marks the page anew at its next entry.
 */
#include "silicon/x86/decode/codepage.h"

#include <sched.h>

#include "silicon/x86/decode/decode.h"
#include "silicon/x86/cpulist.h"
#include "silicon/x86/jit/jit.h"
#include "silicon/x86/mmu/mem.h"

#define PAGE_BITS 20
#define GRANULE_BITS 22
#define UNMARK_STORES 256
#define GRAIN_STORES 32
#define UNMARK_STORES_TRANSLATED 65536	/* unmarking costs all translations of the page */

/* MARKING: no new write tags, old ones may exist still. */
enum { PLAIN, MARKING, MARKED };

static struct code_page {
	_Atomic u64 seq;		/* kills in 63:32, stores in 31:0 */
	_Atomic u32 mark;
	_Atomic u32 stores;		/* since the last decoding */
	_Atomic bool translated;	/* some processor may have translations of it */
	_Atomic u64 writable;		/* 1 + handshakes begun before the last write tag for it was given */
	_Atomic u64 grains;		/* the same of grains */
} pages[1u << PAGE_BITS];
static _Atomic u32 granules[1u << GRANULE_BITS];	/* stores in 31:1 */
#define DECODED 1u		/* never taken back: costs speed only */
static _Atomic u32 translated[1u << GRANULE_BITS];	/* translations that cover some of it, of all processors */
static _Atomic u64 handshakes;		/* begun */
static _Atomic u64 handshakes_done;	/* the last that has ended: write tags from before it are gone */

static struct code_page *page_of(u64 spa)
{
	return &pages[(spa >> PAGE_SHIFT) & ((1u << PAGE_BITS) - 1)];
}

static _Atomic u32 *granule_of(u64 spa)
{
	return &granules[(spa >> X86_GRANULE_SHIFT) & ((1u << GRANULE_BITS) - 1)];
}

bool x86_codepage_test(u64 spa)
{
	return atomic_load(&page_of(spa)->mark) != PLAIN;
}

/* @given: what is given may be there until the next handshake. */
static void note_given(_Atomic u64 *given)
{
	u64 now = atomic_load(&handshakes) + 1, seen = atomic_load(given);

	while (seen < now && !atomic_compare_exchange_weak(given, &seen, now))
		;
}

/* The order matters: the marker sets the mark first, then looks at @writable. */
bool x86_codepage_may_write(u64 spa)
{
	struct code_page *p = page_of(spa);

	note_given(&p->writable);
	return atomic_load(&p->mark) == PLAIN;
}

const _Atomic u64 *x86_codepage_seq(u64 spa)
{
	return &page_of(spa)->seq;
}

u32 x86_codepage_granule(u64 spa)
{
	return atomic_load(granule_of(spa));
}

/* Does the store overlap the block that @cpu is executing? */
static bool hits_current(const struct x86_cpu *cpu, u64 spa, unsigned len)
{
	const struct x86_block *b;

	if (!cpu || !cpu->op)
		return false;
	b = container_of(cpu->op_first, struct x86_block, op[0]);
	return spa < b->spa + b->len && b->spa < spa + len;
}

/* Data has been stored on a code page, in a granule that was not decoded. The order is that of
 * x86_codepage_may_write(). */
static void count_data(struct x86_cpu *cpu, struct code_page *p, u64 spa, unsigned len)
{
	u64 granule = spa & ~((1ull << X86_GRANULE_SHIFT) - 1), *g;

	if (!cpu || spa + len > granule + (1u << X86_GRANULE_SHIFT))
		return;
	g = &cpu->grain[(spa >> X86_GRANULE_SHIFT) % X86_GRAINS];
	if (*g == granule)
		return;
	if (*g - granule - 1 >= GRAIN_STORES) {
		*g = granule + 1;
	} else if (++*g - granule == GRAIN_STORES) {
		note_given(&p->grains);
		*g = atomic_load(granule_of(spa)) & DECODED ? 0 : granule;
	}
}

static void count_translations(u64 spa, unsigned len, u32 by)
{
	for (u64 a = spa >> X86_GRANULE_SHIFT; a <= (spa + len - 1) >> X86_GRANULE_SHIFT; a++)
		atomic_fetch_add(&translated[a & ((1u << GRANULE_BITS) - 1)], by);
}

void x86_codepage_translated(u64 spa, unsigned len)
{
	count_translations(spa, len, 1);
	atomic_store(&page_of(spa)->translated, true);
}

void x86_codepage_dropped(u64 spa, unsigned len)
{
	count_translations(spa, len, ~0u);
}

/* Count the store where code was decoded, if it was. */
static bool count_store(u64 spa, unsigned len)
{
	bool code = false;

	atomic_thread_fence(memory_order_seq_cst);
	for (u64 a = spa >> X86_GRANULE_SHIFT; a <= (spa + len - 1) >> X86_GRANULE_SHIFT; a++) {
		_Atomic u32 *g = granule_of(a << X86_GRANULE_SHIFT);

		if (atomic_load(g) & DECODED) {
			atomic_fetch_add(g, 2);
			code = true;
		}
	}
	return code;
}

/* @spa and @len of a store to decoded code. */
static void code_stored(struct x86_cpu *cpu, struct code_page *p, u64 spa, unsigned len)
{
	bool hit = false;

	/* Only the low half counts stores; it must not carry into the kills. */
	for (u64 s = atomic_load(&p->seq); ;) {
		u64 n = (s & ~0xffffffffull) | (u32)(s + 1);

		if (atomic_compare_exchange_weak(&p->seq, &s, n))
			break;
	}
	for (u64 a = spa >> X86_GRANULE_SHIFT; a <= (spa + len - 1) >> X86_GRANULE_SHIFT; a++)
		hit |= atomic_load(&translated[a & ((1u << GRANULE_BITS) - 1)]) != 0;
	if (hit)
		x86_jit_stored(cpu, spa, len, false);
	if (hits_current(cpu, spa, len))
		cpu->slow |= X86_SLOW_CODE;
}

void x86_codepage_store(struct x86_cpu *cpu, u64 spa, unsigned len)
{
	struct code_page *p = page_of(spa);
	bool page;
	u32 n_stores;

	if (atomic_load(&p->mark) == PLAIN)
		return;
	if (count_store(spa, len))
		code_stored(cpu, p, spa, len);
	else
		count_data(cpu, p, spa, len);
	page = atomic_load(&p->translated);
	/* Some may be lost. */
	n_stores = atomic_load_explicit(&p->stores, memory_order_relaxed) + 1;
	atomic_store_explicit(&p->stores, n_stores, memory_order_relaxed);
	if (n_stores >= (page ? UNMARK_STORES_TRANSLATED : UNMARK_STORES)) {
		atomic_store(&p->stores, 0);
		atomic_store(&p->mark, PLAIN);
		atomic_fetch_add(&p->seq, 1ull << 32);
		/* In this order: who translates says so, then looks whether the page is marked. */
		if (atomic_load(&p->translated)) {
			atomic_store(&p->translated, false);
			x86_jit_stored(cpu, spa, len, true);
			if (cpu && cpu->op)
				cpu->slow |= X86_SLOW_CODE;
		}
	}
}

void x86_codepage_serve(struct x86_cpu *cpu)
{
	u64 epoch;

	/* In this order: a request that comes in between sets the event again. */
	atomic_fetch_and(&cpu->events, ~(u32)X86_EV_CODE_PAGE);
	epoch = atomic_load(&handshakes);
	x86_tlb_drop_writes(cpu);
	/* Inside an instruction: the rest of its translation may rely on write tags. */
	if (cpu->op)
		cpu->slow |= X86_SLOW_CODE;
	atomic_store(&cpu->code_epoch, epoch);
}

/* Until @other cannot have write tags from before handshake @epoch. */
static void wait_for(struct x86_cpu *self, struct x86_cpu *other, u64 epoch)
{
	for (unsigned spins = 0; atomic_load(&other->running) &&
	     atomic_load(&other->code_epoch) < epoch; spins++) {
		if (atomic_load(&self->events) & X86_EV_CODE_PAGE)
			x86_codepage_serve(self);
		if (spins > 100)
			sched_yield();
	}
}

static void handshake(struct x86_cpu *self)
{
	u64 epoch;

	while (!x86_cpu_list_trylock()) {
		if (atomic_load(&self->events) & X86_EV_CODE_PAGE)
			x86_codepage_serve(self);
		sched_yield();
	}
	epoch = atomic_fetch_add(&handshakes, 1) + 1;
	x86_tlb_drop_writes(self);
	for (struct x86_cpu *c = x86_cpu_list(); c; c = c->next_cpu)
		if (c != self)
			x86_post(c, X86_EV_CODE_PAGE);
	/* The list stays locked: no processor can vanish while it is waited for. */
	for (struct x86_cpu *c = x86_cpu_list(); c; c = c->next_cpu)
		if (c != self)
			wait_for(self, c, epoch);
	atomic_store(&handshakes_done, epoch);
	x86_cpu_list_unlock();
}

void x86_codepage_mark(struct x86_cpu *cpu, u64 spa)
{
	struct code_page *p = page_of(spa);

	if (atomic_load_explicit(&p->stores, memory_order_relaxed))
		atomic_store_explicit(&p->stores, 0, memory_order_relaxed);
	while (atomic_load(&p->mark) != MARKED) {
		u32 marking = MARKING;

		atomic_store(&p->mark, MARKING);
		/* Most code was written long before, and no write tag is left of that. */
		if (atomic_load(&p->writable) > atomic_load(&handshakes_done))
			handshake(cpu);
		/* Fails if the page was unmarked meanwhile: write tags may be back. */
		atomic_compare_exchange_strong(&p->mark, &marking, MARKED);
	}
}

u32 x86_codepage_decode_granule(struct x86_cpu *cpu, u64 spa)
{
	u32 v = atomic_load(granule_of(spa));

	if (v & DECODED)
		return v;
	v = atomic_fetch_or(granule_of(spa), DECODED) | DECODED;
	if (atomic_load(&page_of(spa)->grains) > atomic_load(&handshakes_done))
		handshake(cpu);
	return v;
}

bool x86_codepage_marked(u64 spa)
{
	return atomic_load(&page_of(spa)->mark) == MARKED;
}
