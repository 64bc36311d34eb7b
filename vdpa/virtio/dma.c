// SPDX-License-Identifier: MIT
/*
 * Bounce buffers by the buddy method: a block of order n has 2^n pages and
 * splits into two of order n-1; when both are free they become one again. All
 * bookkeeping is in private memory, since the device can write all of the file.
 */
#include "vdpa/virtio/dma.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "vdpa/virtio/session.h"

#define NO_PAGE UINT32_MAX
#define ORDERS 19	/* up to 1 GiB */

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
	pthread_mutex_t lock;
	struct block *blocks;
	u32 pages, used;
	u32 head[ORDERS];
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
	u64 n = (len + PAGE_SIZE - 1) >> PAGE_SHIFT;
	u8 order = 0;

	while ((1ull << order) < n)
		order++;
	return order;
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
	m->used += 1u << order;
	return page;
}

static void give(struct vdma *m, u32 page)
{
	u8 order = m->blocks[page].order;

	m->used -= 1u << order;
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

/* All but page 0 is free: in the largest blocks that are aligned. */
static void fill(struct vdma *m)
{
	u32 page = 1;

	for (unsigned o = 0; o < ORDERS; o++)
		m->head[o] = NO_PAGE;
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
	if (!m->blocks)
		goto fail;
	m->base = mmap(NULL, m->iova_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (m->base == MAP_FAILED) {
		ret = -errno;
		free(m->blocks);
		goto fail;
	}
	pthread_mutex_init(&m->lock, NULL);
	fill(m);
	return m;
fail:
	free(m);
	errno = -ret;
	return NULL;
}

void vdma_free(struct vdma *m)
{
	munmap(m->base, m->iova_size);
	pthread_mutex_destroy(&m->lock);
	free(m->blocks);
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
	size_t n = PAGE_SIZE;

	/* The block of page 0 is never whole, and blocks lie at multiples of their size. */
	while (n * 4 <= m->bounce_size && order_of(n * 2) < ORDERS)
		n *= 2;
	return n;
}

u64 vdma_in_use(struct vdma *m)
{
	u64 n;

	pthread_mutex_lock(&m->lock);
	n = (u64)m->used << PAGE_SHIFT;
	pthread_mutex_unlock(&m->lock);
	return n;
}

u64 vdma_map(struct vdma *m, const struct iovec *iov, unsigned nr, size_t len, enum vdma_dir dir)
{
	u32 page;
	u8 *to;

	if (len > vdma_max(m))
		return 0;
	pthread_mutex_lock(&m->lock);
	page = take(m, order_of(len));
	pthread_mutex_unlock(&m->lock);
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
	pthread_mutex_lock(&m->lock);
	give(m, (u32)(iova >> PAGE_SHIFT));
	pthread_mutex_unlock(&m->lock);
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
