// SPDX-License-Identifier: MIT
/*
 * Memory of table pages. A table's address is what an EPT entry holds, so the
 * header must be found from it: tables live in 2 MiB arenas aligned to their
 * size, whose first pages hold the headers.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "kvm/x86/mmu/mmu.h"

#define ARENA_SIZE (2ul << 20)
#define ARENA_PAGES (ARENA_SIZE / PAGE_SIZE)

struct tdp_arena {
	struct tdp_arena *next;
	/* header[i] belongs to page i; those of the header pages themselves are unused */
	struct tdp_table header[ARENA_PAGES];
};

#define HEADER_PAGES ((sizeof(struct tdp_arena) + PAGE_SIZE - 1) / PAGE_SIZE)

/* A freed table decodes to a misconfiguration that no generation explains. */
#define POISON 0xdeadbeefdeadb006ull

void tdp_pool_init(struct tdp_pool *p)
{
	pthread_mutex_init(&p->lock, NULL);
	list_init(&p->free);
	p->arenas = NULL;
	p->in_use = 0;
}

void tdp_pool_destroy(struct tdp_pool *p)
{
	struct tdp_arena *a, *next;

	BUG_ON(p->in_use);
	for (a = p->arenas; a; a = next) {
		next = a->next;
		munmap(a, ARENA_SIZE);
	}
	pthread_mutex_destroy(&p->lock);
}

static bool grow(struct tdp_pool *p)
{
	struct tdp_arena *a;
	u8 *raw = mmap(NULL, 2 * ARENA_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	u64 base, head;

	if (raw == MAP_FAILED)
		return false;
	base = round_up((u64)raw, ARENA_SIZE);
	head = base - (u64)raw;
	if (head)
		munmap(raw, head);
	munmap((u8 *)base + ARENA_SIZE, ARENA_SIZE - head);
	a = (struct tdp_arena *)base;
	a->next = p->arenas;
	p->arenas = a;
	for (unsigned i = HEADER_PAGES; i < ARENA_PAGES; i++)
		list_add_tail(&a->header[i].link, &p->free);
	return true;
}

static struct tdp_arena *arena_of(u64 addr)
{
	return (struct tdp_arena *)round_down(addr, ARENA_SIZE);
}

u64 *tdp_entries(const struct tdp_table *t)
{
	struct tdp_arena *a = arena_of((u64)t);

	return (u64 *)((u64)a + (u64)(t - a->header) * PAGE_SIZE);
}

struct tdp_table *tdp_table_of(u64 spte)
{
	u64 addr = spte & SPTE_ADDR;

	return &arena_of(addr)->header[addr % ARENA_SIZE / PAGE_SIZE];
}

struct tdp_table *tdp_table_new(struct hv_mmu *mmu, u64 gfn, int level, unsigned as_id)
{
	struct tdp_pool *p = &mmu->pool;
	struct tdp_table *t = NULL;

	pthread_mutex_lock(&p->lock);
	if (!list_empty(&p->free) || grow(p)) {
		t = list_entry(p->free.next, struct tdp_table, link);
		list_del(&t->link);
		p->in_use++;
	}
	pthread_mutex_unlock(&p->lock);
	if (!t)
		return NULL;
	t->mmu = mmu;
	t->gfn = gfn;
	t->level = (u8)level;
	t->as_id = (u8)as_id;
	atomic_init(&t->refs, 0);
	atomic_init(&t->invalid, false);
	memset(tdp_entries(t), 0, PAGE_SIZE);
	return t;
}

void tdp_table_free(struct tdp_table *t)
{
	struct tdp_pool *p = &t->mmu->pool;
	u64 *e = tdp_entries(t);

	for (unsigned i = 0; i < TDP_ENTRIES; i++)
		e[i] = POISON;
	pthread_mutex_lock(&p->lock);
	/* Most recently used first: it is in the cache. */
	list_add_after(&t->link, &p->free);
	p->in_use--;
	pthread_mutex_unlock(&p->lock);
}

static void grace_over(struct epoch_node *n)
{
	tdp_table_free(container_of(n, struct tdp_table, node));
}

void tdp_table_defer_free(struct tdp_table *t)
{
	epoch_defer(&t->node, grace_over);
}
