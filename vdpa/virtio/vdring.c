// SPDX-License-Identifier: MIT
/* Split virtqueue, driver side. */
#include "vdpa/virtio/vdring.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "vdpa/virtio/dma.h"

/* What is known of the descriptor of that number, in private memory. */
struct slot {
	void *token;
	u32 in_len;		/* bytes that the device may write */
	u16 count;		/* descriptors of the chain; 0: not a head in flight */
	u16 next;		/* chain, or list of free ones */
	bool busy;
};

struct vdring {
	struct vdma *m;
	struct vdring_cfg cfg;
	size_t size;
	u64 iova;
	u8 *mem;
	struct vring_desc *desc;
	_Atomic u16 *avail;	/* flags, idx, ring[num], used_event */
	_Atomic u16 *used_hdr;	/* flags, idx */
	struct vring_used_elem *used;
	_Atomic u16 *avail_event;
	struct vring_desc *tables;	/* indirect: cfg.indirect_max for each head */
	u64 tables_iova;

	struct slot *slots;
	u16 free_head, nr_free, in_flight;
	u16 avail_idx, published, last_used;
	const char *broken;
};

static size_t avail_off(const struct vdring_cfg *c)
{
	return (size_t)c->num * sizeof(struct vring_desc);
}

static size_t used_off(const struct vdring_cfg *c)
{
	return round_up(avail_off(c) + (3u + c->num) * sizeof(u16), max(c->align, 4u));
}

static size_t tables_off(const struct vdring_cfg *c)
{
	return round_up(used_off(c) + 3 * sizeof(u16) + (size_t)c->num * sizeof(struct vring_used_elem), 16);
}

struct vdring *vdring_new(struct vdma *m, const struct vdring_cfg *c)
{
	struct vdring *r;

	if (!c->num || (c->num & (c->num - 1)) || (c->align & (c->align - 1)) ||
	    (c->indirect && !c->indirect_max)) {
		errno = EINVAL;
		return NULL;
	}
	r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->m = m;
	r->cfg = *c;
	r->slots = calloc(c->num, sizeof(*r->slots));
	if (!r->slots)
		goto fail;
	r->size = tables_off(c);
	if (c->indirect)
		r->size += (size_t)c->num * c->indirect_max * sizeof(struct vring_desc);
	r->mem = vdma_alloc(m, r->size, &r->iova);
	if (!r->mem)
		goto fail;
	r->desc = (void *)r->mem;
	r->avail = (void *)(r->mem + avail_off(c));
	r->used_hdr = (void *)(r->mem + used_off(c));
	r->used = (void *)(r->used_hdr + 2);
	r->avail_event = (void *)(r->used + c->num);
	r->tables = (void *)(r->mem + tables_off(c));
	r->tables_iova = r->iova + tables_off(c);
	for (u16 i = 0; i < c->num; i++)
		r->slots[i].next = i + 1;
	r->nr_free = c->num;
	return r;
fail:
	free(r->slots);
	free(r);
	return NULL;
}

void vdring_free(struct vdring *r)
{
	vdma_release(r->m, r->iova, r->size);
	free(r->slots);
	free(r);
}

void vdring_addr(const struct vdring *r, u64 *desc, u64 *avail, u64 *used)
{
	*desc = r->iova;
	*avail = r->iova + avail_off(&r->cfg);
	*used = r->iova + used_off(&r->cfg);
}

static int broken(struct vdring *r, const char *why)
{
	if (!r->broken)
		log_warn("virtqueue: device %s", why);
	r->broken = why;
	return -EIO;
}

static void put_desc(struct vring_desc *d, const struct vdring_sg *sg, u16 flags, u16 next)
{
	d->addr = sg->iova;
	d->len = sg->len;
	d->flags = flags;
	d->next = next;
}

static void post_indirect(struct vdring *r, u16 head, const struct vdring_sg *sg, unsigned out, unsigned n)
{
	size_t first = (size_t)head * r->cfg.indirect_max;
	struct vring_desc *t = r->tables + first;
	const struct vdring_sg table = {
		.iova = r->tables_iova + first * sizeof(*t),
		.len = n * (u32)sizeof(*t),
	};

	for (unsigned i = 0; i < n; i++)
		put_desc(&t[i], &sg[i],
			 (u16)((i < out ? 0 : VRING_DESC_F_WRITE) | (i + 1 < n ? VRING_DESC_F_NEXT : 0)),
			 (u16)(i + 1));
	put_desc(&r->desc[head], &table, VRING_DESC_F_INDIRECT, 0);
}

static void post_chain(struct vdring *r, u16 head, const struct vdring_sg *sg, unsigned out, unsigned n)
{
	u16 at = head;

	for (unsigned i = 0; i < n; i++) {
		bool more = i + 1 < n;

		put_desc(&r->desc[at], &sg[i],
			 (u16)((i < out ? 0 : VRING_DESC_F_WRITE) | (more ? VRING_DESC_F_NEXT : 0)),
			 more ? r->slots[at].next : 0);
		at = r->slots[at].next;
	}
}

int vdring_add(struct vdring *r, const struct vdring_sg *sg, unsigned out, unsigned in, void *token)
{
	unsigned n = out + in, need;
	bool indirect = r->cfg.indirect && n > 1 && n <= r->cfg.indirect_max;
	u64 in_len = 0;
	u16 head, last;

	if (r->broken)
		return -EIO;
	need = indirect ? 1 : n;
	if (!n || need > r->cfg.num)
		return -EINVAL;
	for (unsigned i = out; i < n; i++)
		in_len += sg[i].len;
	if (in_len > UINT32_MAX)
		return -EINVAL;
	if (need > r->nr_free)
		return -ENOSPC;

	head = last = r->free_head;
	if (indirect)
		post_indirect(r, head, sg, out, n);
	else
		post_chain(r, head, sg, out, n);
	for (unsigned i = 1; i < need; i++)
		last = r->slots[last].next;
	r->free_head = r->slots[last].next;
	r->nr_free -= (u16)need;
	r->in_flight++;
	r->slots[head].token = token;
	r->slots[head].in_len = (u32)in_len;
	r->slots[head].count = (u16)need;
	r->slots[head].busy = true;

	atomic_store_explicit(&r->avail[2 + (r->avail_idx & (r->cfg.num - 1))], head, memory_order_relaxed);
	r->avail_idx++;
	return 0;
}

bool vdring_publish(struct vdring *r)
{
	u16 old = r->published, now = r->avail_idx;

	if (old == now)
		return false;
	atomic_store_explicit(&r->avail[1], now, memory_order_release);
	__atomic_store_n(&r->published, now, __ATOMIC_RELAXED);
	/* The index must be out before the device's wish is read, or both sides wait. */
	atomic_thread_fence(memory_order_seq_cst);
	if (r->cfg.event_idx)
		return vring_need_event(atomic_load_explicit(r->avail_event, memory_order_relaxed), now, old);
	return !(atomic_load_explicit(&r->used_hdr[0], memory_order_relaxed) & VRING_USED_F_NO_NOTIFY);
}

u16 vdring_published(const struct vdring *r)
{
	return __atomic_load_n(&r->published, __ATOMIC_RELAXED);
}

/* Give a head's descriptors back and return its token. */
static void *retire(struct vdring *r, u16 head)
{
	struct slot *s = &r->slots[head];
	u16 last = head;

	for (unsigned i = 1; i < s->count; i++)
		last = r->slots[last].next;
	r->slots[last].next = r->free_head;
	r->free_head = head;
	r->nr_free += s->count;
	r->in_flight--;
	s->busy = false;
	s->count = 0;
	return s->token;
}

int vdring_get(struct vdring *r, void **token, u32 *len)
{
	const volatile struct vring_used_elem *e;
	u16 idx;
	u32 id;

	if (r->broken)
		return -EIO;
	idx = atomic_load_explicit(&r->used_hdr[1], memory_order_acquire);
	if (idx == r->last_used)
		return 0;
	if ((u16)(idx - r->last_used) > r->in_flight)
		return broken(r, "finished more requests than were posted");
	e = &r->used[r->last_used & (r->cfg.num - 1)];
	id = e->id;
	*len = e->len;
	if (id >= r->cfg.num)
		return broken(r, "finished a request with a number out of range");
	if (!r->slots[id].busy)
		return broken(r, "finished a request that was not in flight");
	if (*len > r->slots[id].in_len)
		return broken(r, "claims to have written more than it was given");
	__atomic_store_n(&r->last_used, (u16)(r->last_used + 1), __ATOMIC_RELAXED);
	*token = retire(r, (u16)id);
	return 1;
}

bool vdring_pending(const struct vdring *r)
{
	return atomic_load_explicit(&r->used_hdr[1], memory_order_relaxed) !=
	       __atomic_load_n(&r->last_used, __ATOMIC_RELAXED);
}

void vdring_irq_wish(struct vdring *r)
{
	if (r->cfg.event_idx)
		atomic_store_explicit(&r->avail[2 + r->cfg.num], r->last_used, memory_order_relaxed);
}

bool vdring_irq_on(struct vdring *r)
{
	if (r->cfg.event_idx)
		atomic_store_explicit(&r->avail[2 + r->cfg.num], r->last_used, memory_order_relaxed);
	else
		atomic_store_explicit(&r->avail[0], 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	return atomic_load_explicit(&r->used_hdr[1], memory_order_acquire) == r->last_used;
}

void *vdring_detach(struct vdring *r)
{
	for (u16 i = 0; i < r->cfg.num; i++)
		if (r->slots[i].busy)
			return retire(r, i);
	return NULL;
}

u16 vdring_size(const struct vdring *r)
{
	return r->cfg.num;
}

unsigned vdring_in_flight(const struct vdring *r)
{
	return r->in_flight;
}

const char *vdring_broken(const struct vdring *r)
{
	return r->broken;
}
