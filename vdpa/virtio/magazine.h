/* SPDX-License-Identifier: MIT */
/*
 * Free blocks kept by thread: a mapping that ends leaves its block to the next
 * one of that size in the same thread, and neither takes a lock or a locked
 * instruction. Somebody who finds no room elsewhere takes all of them back.
 */
#ifndef VDPA_VIRTIO_MAGAZINE_H
#define VDPA_VIRTIO_MAGAZINE_H

#include <stdatomic.h>

#include "base/list.h"
#include "base/types.h"

#define MAGAZINE_ORDERS 6	/* sizes of blocks that are kept */
#define MAGAZINE_NONE UINT32_MAX
/* Blocks of a size that are kept: together 256 KiB at most. */
#define MAGAZINE_DEPTH(order) (64u >> (order))

/* The magazines of one allocator. */
struct magazines {
	u64 id;				/* never used again */
	bool on;			/* false: the kernel cannot help, nothing is kept */
	_Atomic bool draining;
	struct list all;
	/* Takes a block back. From any thread, with locks of this file held. */
	void (*back)(struct magazines *g, unsigned order, u32 page);
};

void magazines_init(struct magazines *g, void (*back)(struct magazines *g, unsigned order, u32 page));
/* No thread uses @g any more, now or later. Blocks that are kept are forgotten. */
void magazines_exit(struct magazines *g);

/* Give back what all threads keep. One caller at a time. */
void magazines_drain(struct magazines *g);
/* Pages that are kept. For tests: nobody takes or keeps meanwhile. */
u64 magazines_pages(struct magazines *g);

/* ---- The path of every mapping ---- */

/* Of one thread and one allocator. Relaxed atomics: @inside and @draining order them, see magazine.c. */
struct magazine {
	u64 id;				/* the allocator's */
	_Atomic bool inside;
	_Atomic u32 nr[MAGAZINE_ORDERS];
	_Atomic u32 block[MAGAZINE_ORDERS][MAGAZINE_DEPTH(0)];
	struct magazines *g;		/* NULL: the allocator has gone */
	struct list node;		/* of the allocator's */
	struct magazine *next;		/* of the thread's */
};

/* The one that this thread used last, or NULL. */
extern _Thread_local struct magazine *magazine_last;
/* This thread's, which is made if need be. NULL: there can be none. */
struct magazine *magazine_find(struct magazines *g);

/* The magazine is the caller's until magazine_leave(); NULL: do without. */
static inline struct magazine *magazine_enter(struct magazines *g)
{
	struct magazine *m = magazine_last;

	if (!m || m->id != g->id) {
		m = magazine_find(g);
		if (!m)
			return NULL;
	}
	atomic_store_explicit(&m->inside, true, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
	if (!atomic_load_explicit(&g->draining, memory_order_acquire))
		return m;
	atomic_store_explicit(&m->inside, false, memory_order_release);
	return NULL;
}

static inline void magazine_leave(struct magazine *m)
{
	atomic_store_explicit(&m->inside, false, memory_order_release);
}

/* A block of this thread's, or MAGAZINE_NONE. */
static inline u32 magazine_take(struct magazines *g, unsigned order)
{
	struct magazine *m = magazine_enter(g);
	u32 page = MAGAZINE_NONE, nr;

	if (!m)
		return page;
	nr = atomic_load_explicit(&m->nr[order], memory_order_relaxed);
	if (nr) {
		page = atomic_load_explicit(&m->block[order][nr - 1], memory_order_relaxed);
		atomic_store_explicit(&m->nr[order], nr - 1, memory_order_relaxed);
	}
	magazine_leave(m);
	return page;
}

/* False: there is no room for it here. */
static inline bool magazine_keep(struct magazines *g, unsigned order, u32 page)
{
	struct magazine *m = magazine_enter(g);
	u32 nr;

	if (!m)
		return false;
	nr = atomic_load_explicit(&m->nr[order], memory_order_relaxed);
	if (nr < MAGAZINE_DEPTH(order)) {
		atomic_store_explicit(&m->block[order][nr], page, memory_order_relaxed);
		atomic_store_explicit(&m->nr[order], nr + 1, memory_order_relaxed);
	}
	magazine_leave(m);
	return nr < MAGAZINE_DEPTH(order);
}

#endif
