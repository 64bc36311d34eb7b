/* SPDX-License-Identifier: MIT */
/*
 * The TDP MMU: EPT tables of a VM, built page by page as the guest faults.
 * Structures and rules that its files share.
 *
 * mmu->lock: faults, splitting, dirty-log work and the zapping of dead roots
 * hold it shared and change entries by compare-and-exchange only; removal of
 * memory and of roots is exclusive. Everybody who looks at a table page is in
 * an epoch section; so are the silicon's walks. A page taken out of a tree is
 * freed by epoch_defer() only, and the section in which it was taken out ends
 * after the TLB flush, so that a grace period includes the flush.
 *
 * Entries change under us at any time: hardware sets A and D, the fast path of
 * a fault restores W. So no entry that may be present is ever written by a
 * plain store.
 */
#ifndef KVM_X86_MMU_MMU_H
#define KVM_X86_MMU_MMU_H

#include "base/bits.h"
#include "base/epoch.h"
#include "base/list.h"
#include "base/rwlock.h"
#include "kvm/memslots.h"

/* ---- EPT entries as we make them. SDM "Format of EPT Entries" ---- */

#define SPTE_R BIT(0)
#define SPTE_W BIT(1)
#define SPTE_X BIT(2)
#define SPTE_WB (6ull << 3)
#define SPTE_IPAT BIT(6)
#define SPTE_PS BIT(7)
#define SPTE_A BIT(8)
#define SPTE_D BIT(9)
#define SPTE_PRESENT BIT(11)	/* ignored by hardware: a leaf or table of ours */
#define SPTE_MMU_W BIT(52)	/* ignored: W may be restored without the lock */
#define SPTE_ADDR BITS(47, 12)
/* Non-present and unique: an entry that another thread is working on. */
#define SPTE_FROZEN 0x5a0ull
/* W and X without R: misconfigured on purpose; the rest is the memslot generation. */
#define SPTE_MMIO (SPTE_W | SPTE_X)
#define SPTE_MMIO_GEN_SHIFT 12

#define TDP_LEVELS 4
#define TDP_ENTRIES 512

static inline u64 tdp_span(int level)	/* in pages */
{
	return 1ull << (9 * (level - 1));
}

static inline bool spte_present(u64 e)
{
	return e & SPTE_PRESENT;
}

static inline bool spte_leaf(u64 e, int level)
{
	return spte_present(e) && (level == 1 || (e & SPTE_PS));
}

static inline bool spte_table(u64 e, int level)
{
	return spte_present(e) && !spte_leaf(e, level);
}

static inline bool spte_mmio(u64 e)
{
	return (e & (SPTE_R | SPTE_W | SPTE_X | SPTE_PRESENT)) == SPTE_MMIO;
}

/* ---- Table pages: table.c ---- */

struct tdp_table {
	struct epoch_node node;
	struct list link;		/* roots, or the free list */
	struct hv_mmu *mmu;
	u64 gfn;			/* first page that it maps */
	_Atomic u32 refs;		/* of a root */
	_Atomic bool invalid;		/* of a root: no new mappings, vCPUs must reload */
	u8 level;
	u8 as_id;
};

struct tdp_pool {
	pthread_mutex_t lock;
	struct list free;
	struct tdp_arena *arenas;
	u64 in_use;			/* tables handed out: none may be left at the end */
};

void tdp_pool_init(struct tdp_pool *p);
void tdp_pool_destroy(struct tdp_pool *p);
/* A zeroed table; NULL: no memory. Never waits but for memory. */
struct tdp_table *tdp_table_new(struct hv_mmu *mmu, u64 gfn, int level, unsigned as_id);
/* At once, if nobody can have seen it; after a grace period. */
void tdp_table_free(struct tdp_table *t);
void tdp_table_defer_free(struct tdp_table *t);

u64 *tdp_entries(const struct tdp_table *t);
/* The table behind an entry. */
struct tdp_table *tdp_table_of(u64 spte);

/* ---- The MMU of a VM ---- */

struct hv_mmu {
	struct rwlock lock;
	struct hv_vm *vm;
	struct tdp_pool pool;
	pthread_mutex_t roots_lock;	/* the list only; nests inside lock */
	struct list roots;
	bool dying;			/* no vCPU is left to flush */
	bool pml;			/* dirty tracking by D flags and PML instead of W */

	/*
	 * Invalidation against faults: a fault remembers the sequence before it
	 * looks up what it maps, and maps only if it has not moved and no
	 * invalidation of that host address is under way.
	 */
	_Atomic u64 inval_seq;
	unsigned inval_count;		/* these three under lock (exclusive to change) */
	u64 inval_start, inval_end;

	/* statistics */
	_Atomic u64 leaves[TDP_LEVELS + 1], tables;
};

/* No processor uses a translation any more that is gone from the tables. */
static inline void tdp_flush(struct hv_mmu *mmu)
{
	if (!mmu->dying)
		hv_flush_remote_tlbs(mmu->vm);
}

struct hv_vcpu_mmu {
	struct tdp_table *root;		/* referenced */
	unsigned as_id;
	struct tdp_table *cache[TDP_LEVELS];	/* tables for the next fault */
	unsigned nr_cached;
	struct hv_dirty_ring *ring;
};

/* ---- Changes of entries: spte.c ---- */

/* An entry as it was seen. */
struct tdp_ref {
	struct hv_mmu *mmu;
	u64 *ptr;
	u64 old;
	u64 gfn;
	int level;
	u8 as_id;			/* of the root */
};

static inline u64 tdp_read(const u64 *ptr)
{
	return __atomic_load_n(ptr, __ATOMIC_ACQUIRE);
}

/*
 * Replace r->old by @new if the entry still holds it. On success everything
 * that follows from the change is done: statistics, and tables that are gone
 * are taken apart. False: r->old is what is there now. @new leaves a flush
 * owing if permissions went away.
 */
bool tdp_change(struct tdp_ref *r, u64 new);
/* Make the entry 0, whatever it turns out to be, unless somebody else has it frozen. True: was present. */
bool tdp_zap(struct tdp_ref *r);

/* ---- Iterator: iter.c ---- */

/*
 * Pre-order over the entries of levels TDP_LEVELS..min_level that map any of
 * [first, end). Each step reads the entry anew: a table put there meanwhile is
 * entered, one taken away is not. In an epoch section.
 */
struct tdp_iter {
	struct tdp_ref e;		/* the entry; e.gfn is its first page */
	struct tdp_table *root;
	u64 *table[TDP_LEVELS + 1];
	u64 next;			/* first page not yet dealt with: where a restart goes on */
	u64 end;
	u64 yielded_at;
	int min_level;
	bool valid, yielded;
};

void tdp_iter_start(struct tdp_iter *it, struct tdp_table *root, int min_level, u64 first, u64 end);
void tdp_iter_next(struct tdp_iter *it);
/*
 * Give way if the lock is contended and there was progress since the last
 * time: flushes if @flush, leaves the section and the lock, takes both again.
 * True: it happened, the entry must not be used, nothing is owed; go on with
 * tdp_iter_next(), which starts again from the root.
 */
bool tdp_iter_yield(struct tdp_iter *it, bool flush, bool exclusive);

#define tdp_for_each(it, root, min_level, first, end) \
	for (tdp_iter_start(it, root, min_level, first, end); (it)->valid; tdp_iter_next(it))

/* ---- Roots and whole trees: mmu.c ---- */

/*
 * All roots of @as_id, dead ones too, safe across yields of mmu->lock: holds
 * a reference on the one returned, drops that of @prev. NULL ends.
 */
struct tdp_table *tdp_next_root(struct hv_mmu *mmu, struct tdp_table *prev, unsigned as_id);
void tdp_put_root(struct tdp_table *root);
/* Every root is dead from now on; returns when the vCPUs have left them and they are empty. */
void hv_mmu_invalidate_roots(struct hv_vm *vm);

/* ---- zap.c ---- */

/* Lock held exclusively, maybe given up in between. Flushes. */
void tdp_zap_range(struct tdp_table *root, u64 first, u64 end);
/* Lock held shared; the root is dead. Flushes. */
void tdp_zap_root(struct tdp_table *root);

/* ---- dirty tracking: protect.c ---- */

/*
 * Replace the leaf of a large page by @child, filled with smaller ones that
 * translate alike: no flush is owed. False: the entry changed, @child is unused.
 */
bool tdp_split(struct tdp_ref *r, struct tdp_table *child);

/* Mark what a PML buffer holds from entry @first on. */
void tdp_drain_pml(struct hv_vcpu *v, const u64 *buf, unsigned first);

/* ---- fault.c ---- */

/* The entry that links @child. */
u64 tdp_table_spte(const struct tdp_table *child);
/* The largest level at which @slot can map @gfn: alignment and extent alone. */
int tdp_max_level(const struct hv_memslot *slot, u64 gfn);

#endif
