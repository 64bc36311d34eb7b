// SPDX-License-Identifier: MIT
/*
 * Bounce buffers by the buddy method: a block of order n has 2^n pages and
 * splits into two of order n-1; when both are free they become one again. All
 * bookkeeping is in private memory, since the device can write all of the file.
 */
#include "vdpa/virtio/dma.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "vdpa/virtio/magazine.h"
#include "vdpa/virtio/session.h"

#define NO_PAGE UINT32_MAX
#define ORDERS 19	/* up to 1 GiB */
#define QUICK_ORDERS MAGAZINE_ORDERS	/* up to 128 KiB */

/* State of the block that begins at a page. */
struct block {
	u32 next, prev;		/* free list of its order */
	u8 order;
	bool free;
};

struct vdma {
	struct vdpa_session *s;
	u8 *base;
	u64 bounce_size, iova_size;
	size_t max;
	pthread_mutex_t lock;
	struct block *blocks;
	u32 pages;
	u32 head[ORDERS];
	/*
	 * Small blocks wait for the next mapping of that size, not united: first with the thread that had them, then
	 * in a stack of their order for all threads. No lock is taken for them: @quick is the topmost one and, above it, the number of changes, without which a block that
	 * has gone and come back would look like one that stayed.
	 */
	_Atomic u64 quick[QUICK_ORDERS];
	_Atomic u32 *below;	/* by page: the block under it in its stack */
	struct magazines mags;
};

static void push(struct vdma *m, u32 page, u8 order)
{
	struct block *b = &m->blocks[page];

	*b = (struct block){.next = m->head[order], .prev = NO_PAGE, .order = order, .free = true};
	if (b->next != NO_PAGE)
		m->blocks[b->next].prev = page;
	m->head[order] = page;
}

static void unlink_block(struct vdma *m, u32 page)
{
	struct block *b = &m->blocks[page];

	if (b->next != NO_PAGE)
		m->blocks[b->next].prev = b->prev;
	if (b->prev != NO_PAGE)
		m->blocks[b->prev].next = b->next;
	else
		m->head[b->order] = b->next;
	b->free = false;
}

/* Order of the smallest block that holds @len bytes. */
static u8 order_of(size_t len)
{
	return len <= PAGE_SIZE ? 0 : (u8)(64 - __builtin_clzll((len - 1) >> PAGE_SHIFT));
}

static u32 take(struct vdma *m, u8 order)
{
	u8 o = order;
	u32 page;

	while (o < ORDERS && m->head[o] == NO_PAGE)
		o++;
	if (o == ORDERS)
		return NO_PAGE;
	page = m->head[o];
	unlink_block(m, page);
	while (o > order) {
		o--;
		push(m, page + (1u << o), o);
	}
	m->blocks[page].order = order;
	return page;
}

static void give(struct vdma *m, u32 page)
{
	u8 order = m->blocks[page].order;

	while (order + 1 < ORDERS) {
		u32 buddy = page ^ (1u << order);

		/* The buddy may reach past the end, or be page 0's, which is never free. */
		if (buddy + (1u << order) > m->pages || !m->blocks[buddy].free ||
		    m->blocks[buddy].order != order)
			break;
		unlink_block(m, buddy);
		page &= ~(1u << order);
		order++;
	}
	push(m, page, order);
}

static u64 quick_top(u64 before, u32 page)
{
	return ((before >> 32) + 1) << 32 | page;
}

static u32 quick_pop(struct vdma *m, unsigned order)
{
	u64 top = atomic_load_explicit(&m->quick[order], memory_order_acquire);
	u32 page;

	do {
		page = (u32)top;
		if (page == NO_PAGE)
			break;
	} while (!atomic_compare_exchange_weak_explicit(
		&m->quick[order], &top, quick_top(top, atomic_load_explicit(&m->below[page], memory_order_relaxed)),
		memory_order_acquire, memory_order_acquire));
	return page;
}

static void quick_push(struct vdma *m, unsigned order, u32 page)
{
	u64 top = atomic_load_explicit(&m->quick[order], memory_order_relaxed);

	do
		atomic_store_explicit(&m->below[page], (u32)top, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(&m->quick[order], &top, quick_top(top, page), memory_order_release,
						      memory_order_relaxed));
}

static u32 alloc_block(struct vdma *m, u8 order)
{
	u32 page = NO_PAGE, small;

	if (order < QUICK_ORDERS) {
		page = magazine_take(&m->mags, order);
		if (page == NO_PAGE)
			page = quick_pop(m, order);
	}
	if (page != NO_PAGE)
		return page;
	pthread_mutex_lock(&m->lock);
	page = take(m, order);
	if (page == NO_PAGE) {
		magazines_drain(&m->mags);
		for (unsigned o = 0; o < QUICK_ORDERS; o++)
			while ((small = quick_pop(m, o)) != NO_PAGE)
				give(m, small);
		page = take(m, order);
	}
	pthread_mutex_unlock(&m->lock);
	return page;
}

static void free_block(struct vdma *m, u32 page)
{
	u8 order = m->blocks[page].order;

	if (order < QUICK_ORDERS) {
		if (!magazine_keep(&m->mags, order, page))
			quick_push(m, order, page);
		return;
	}
	pthread_mutex_lock(&m->lock);
	give(m, page);
	pthread_mutex_unlock(&m->lock);
}

static void from_magazine(struct magazines *g, unsigned order, u32 page)
{
	quick_push(container_of(g, struct vdma, mags), order, page);
}

/* All but page 0 is free: in the largest blocks that are aligned. */
static void fill(struct vdma *m)
{
	u32 page = 1;

	for (unsigned o = 0; o < ORDERS; o++)
		m->head[o] = NO_PAGE;
	for (unsigned o = 0; o < QUICK_ORDERS; o++)
		atomic_store(&m->quick[o], NO_PAGE);
	while (page < m->pages) {
		u8 order = 0;

		while (order + 1 < ORDERS && !(page & (1u << order)) && page + (2u << order) <= m->pages)
			order++;
		push(m, page, order);
		page += 1u << order;
	}
}

struct vdma *vdma_new(struct vdpa_session *s, int fd)
{
	const struct vdpa_virtio_req q = {.op = VDPA_VIRTIO_DMA_INFO};
	struct vdma *m = calloc(1, sizeof(*m));
	struct vdpa_virtio_rep r;
	int ret;

	if (!m)
		return NULL;
	ret = s->call(s, &q, -1, &r);
	if (ret)
		goto fail;
	m->s = s;
	m->bounce_size = r.v[0];
	m->iova_size = r.v[1];
	m->pages = (u32)(m->bounce_size >> PAGE_SHIFT);
	ret = -ENOMEM;
	m->blocks = calloc(m->pages, sizeof(*m->blocks));
	m->below = calloc(m->pages, sizeof(*m->below));
	if (!m->blocks || !m->below)
		goto fail;
	m->base = mmap(NULL, m->iova_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (m->base == MAP_FAILED) {
		ret = -errno;
		goto fail;
	}
	pthread_mutex_init(&m->lock, NULL);
	magazines_init(&m->mags, from_magazine);
	fill(m);
	/* The block of page 0 is never whole, and blocks lie at multiples of their size. */
	m->max = PAGE_SIZE;
	while (m->max * 4 <= m->bounce_size && order_of(m->max * 2) < ORDERS)
		m->max *= 2;
	return m;
fail:
	free(m->blocks);
	free(m->below);
	free(m);
	errno = -ret;
	return NULL;
}

void vdma_free(struct vdma *m)
{
	magazines_exit(&m->mags);
	munmap(m->base, m->iova_size);
	pthread_mutex_destroy(&m->lock);
	free(m->blocks);
	free(m->below);
	free(m);
}

int vdma_start(struct vdma *m)
{
	const struct vdpa_virtio_req q = {.op = VDPA_VIRTIO_DMA_BOUNCE};
	struct vdpa_virtio_rep r;

	return m->s->call(m->s, &q, -1, &r);
}

size_t vdma_max(const struct vdma *m)
{
	return m->max;
}

u64 vdma_in_use(struct vdma *m)
{
	u64 n = m->pages - 1 - magazines_pages(&m->mags);

	pthread_mutex_lock(&m->lock);
	for (unsigned o = 0; o < ORDERS; o++)
		for (u32 page = m->head[o]; page != NO_PAGE; page = m->blocks[page].next)
			n -= 1u << o;
	for (unsigned o = 0; o < QUICK_ORDERS; o++)
		for (u32 page = (u32)atomic_load(&m->quick[o]); page != NO_PAGE; page = atomic_load(&m->below[page]))
			n -= 1u << o;
	pthread_mutex_unlock(&m->lock);
	return n << PAGE_SHIFT;
}

u64 vdma_map(struct vdma *m, const struct iovec *iov, unsigned nr, size_t len, enum vdma_dir dir)
{
	u32 page;
	u8 *to;

	if (len > vdma_max(m))
		return 0;
	page = alloc_block(m, order_of(len));
	if (page == NO_PAGE)
		return 0;
	to = m->base + ((u64)page << PAGE_SHIFT);
	if (dir != VDMA_FROM_DEVICE) {
		for (unsigned i = 0; i < nr; i++) {
			memcpy(to, iov[i].iov_base, iov[i].iov_len);
			to += iov[i].iov_len;
		}
	}
	return (u64)page << PAGE_SHIFT;
}

void vdma_unmap(struct vdma *m, u64 iova, const struct iovec *iov, unsigned nr, size_t len, enum vdma_dir dir)
{
	const u8 *from = m->base + iova;

	(void)len;
	if (dir != VDMA_TO_DEVICE) {
		for (unsigned i = 0; i < nr; i++) {
			memcpy(iov[i].iov_base, from, iov[i].iov_len);
			from += iov[i].iov_len;
		}
	}
	free_block(m, (u32)(iova >> PAGE_SHIFT));
}

void *vdma_alloc(struct vdma *m, size_t size, u64 *iova)
{
	const struct vdpa_virtio_req q = {.op = VDPA_VIRTIO_DMA_ALLOC, .v = {size}};
	struct vdpa_virtio_rep r;
	int ret = m->s->call(m->s, &q, -1, &r);

	if (!ret && (r.v[0] >= m->iova_size || size > m->iova_size - r.v[0]))
		ret = -EIO;
	if (ret) {
		errno = -ret;
		return NULL;
	}
	*iova = r.v[0];
	return m->base + r.v[0];
}

void vdma_release(struct vdma *m, u64 iova, size_t size)
{
	const struct vdpa_virtio_req q = {.op = VDPA_VIRTIO_DMA_FREE, .v = {iova, size}};
	struct vdpa_virtio_rep r;

	/* A device that has gone took its memory along. */
	(void)m->s->call(m->s, &q, -1, &r);
}
