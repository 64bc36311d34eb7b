// SPDX-License-Identifier: MIT
/*
 * Split virtqueues.
 * Source: VIRTIO 1.1 "Split Virtqueues".
 */
#include "vmm/virtq.h"

#include <linux/virtio_ring.h>
#include <string.h>

#include "base/bits.h"

/* Ring layout: flags, idx, then the entries, then the event index of the other side. */
#define RING_FLAGS 0
#define RING_IDX 2
#define RING_ENTRIES 4
#define AVAIL_EVENT(q) (RING_ENTRIES + 2u * (q)->size)
#define USED_EVENT(q) (RING_ENTRIES + 8u * (q)->size)

static u16 load16(const u8 *p, int order)
{
	return order == __ATOMIC_ACQUIRE ? __atomic_load_n((const u16 *)p, __ATOMIC_ACQUIRE) :
					   __atomic_load_n((const u16 *)p, __ATOMIC_RELAXED);
}

void virtq_reset(struct virtq *q, u16 max)
{
	memset(q, 0, sizeof(*q));
	q->size = max;
}

const char *virtq_enable(struct virtq *q, const struct vmm_mem *mem)
{
	if (!q->size || q->size > VIRTQ_MAX_SIZE || (q->size & (q->size - 1)))
		return "queue size is no power of two";
	if (!is_aligned(q->desc, 16) || !is_aligned(q->avail, 2) || !is_aligned(q->used, 4))
		return "ring address is not aligned";
	q->desc_p = mem_ptr(mem, q->desc, 16ull * q->size);
	q->avail_p = mem_ptr(mem, q->avail, AVAIL_EVENT(q) + 2);
	q->used_p = mem_ptr(mem, q->used, USED_EVENT(q) + 2);
	if (!q->desc_p || !q->avail_p || !q->used_p)
		return "ring is not in RAM";
	q->last_avail = q->used_idx = q->signalled = 0;
	q->enabled = true;
	return NULL;
}

/* Walk of one descriptor table: the queue's own or an indirect one. */
struct walk {
	const u8 *table;
	u32 size;
	bool indirect;
};

static void read_desc(const struct walk *w, u32 i, struct vring_desc *d)
{
	/* One copy, so that what is checked is what is used. */
	mem_dma(d, w->table + 16ull * i, sizeof(*d));
	__asm__ volatile("" : "+m"(*d));
}

/* Add a buffer to the chain; NULL or what is wrong. */
static const char *add_buffer(struct virtq_chain *c, const struct vmm_mem *mem,
			      const struct vring_desc *d)
{
	bool in = d->flags & VRING_DESC_F_WRITE;
	void *p = mem_ptr(mem, d->addr, d->len);

	if (!p)
		return "buffer is not in RAM";
	if (c->nr_out + c->nr_in == VIRTQ_MAX_SIZE)
		return "chain is too long";
	if (!in && c->nr_in)
		return "readable buffer after a writable one";
	c->iov[c->nr_out + c->nr_in] = (struct iovec){ .iov_base = p, .iov_len = d->len };
	if (in) {
		c->nr_in++;
		c->in_len += d->len;
	} else {
		c->nr_out++;
		c->out_len += d->len;
	}
	return NULL;
}

/* Enter an indirect table. */
static const char *enter_indirect(const struct virtq *q, const struct vmm_mem *mem,
				  const struct vring_desc *d, struct walk *w)
{
	if (!q->indirect)
		return "indirect descriptor without the feature";
	if (w->indirect)
		return "indirect descriptor in an indirect table";
	if (d->flags & VRING_DESC_F_NEXT)
		return "indirect descriptor with a next one";
	if (!d->len || d->len % 16)
		return "indirect table of odd size";
	w->table = mem_ptr(mem, d->addr, d->len);
	if (!w->table)
		return "indirect table is not in RAM";
	w->size = d->len / 16;
	w->indirect = true;
	return NULL;
}

static const char *walk_chain(const struct virtq *q, const struct vmm_mem *mem,
			      struct virtq_chain *c)
{
	struct walk w = { .table = q->desc_p, .size = q->size };
	struct vring_desc d;
	u32 i = c->head, steps = 0;
	const char *why;

	for (;;) {
		/* A loop revisits a descriptor, so it takes more steps than there are entries. */
		if (i >= w.size)
			return "descriptor index beyond the table";
		if (steps++ == w.size)
			return "descriptors form a loop";
		read_desc(&w, i, &d);
		if (d.flags & VRING_DESC_F_INDIRECT) {
			why = enter_indirect(q, mem, &d, &w);
			if (why)
				return why;
			i = steps = 0;
			continue;
		}
		why = add_buffer(c, mem, &d);
		if (why)
			return why;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return NULL;
		i = d.next;
	}
}

int virtq_pop(struct virtq *q, const struct vmm_mem *mem, struct virtq_chain *c, const char **why)
{
	u16 idx = load16(q->avail_p + RING_IDX, __ATOMIC_ACQUIRE);

	if (idx == q->last_avail)
		return 0;
	if ((u16)(idx - q->last_avail) > q->size) {
		*why = "available index runs ahead of the ring";
		return -1;
	}
	c->head = load16(q->avail_p + RING_ENTRIES + 2u * (q->last_avail & (q->size - 1)),
			 __ATOMIC_RELAXED);
	c->nr_out = c->nr_in = 0;
	c->out_len = c->in_len = 0;
	if (c->head >= q->size) {
		*why = "descriptor index beyond the table";
		return -1;
	}
	*why = walk_chain(q, mem, c);
	if (*why)
		return -1;
	q->last_avail++;
	/* With event indexes: notify again when the driver adds the next one. */
	if (q->event_idx)
		__atomic_store_n((u16 *)(q->used_p + USED_EVENT(q)), q->last_avail,
				 __ATOMIC_RELAXED);
	return 1;
}

void virtq_unpop(struct virtq *q)
{
	q->last_avail--;
}

void virtq_push(struct virtq *q, u16 head, u32 len)
{
	u8 *e = q->used_p + RING_ENTRIES + 8u * (q->used_idx & (q->size - 1));

	__atomic_store_n((u32 *)e, (u32)head, __ATOMIC_RELAXED);
	__atomic_store_n((u32 *)(e + 4), len, __ATOMIC_RELAXED);
	q->used_idx++;
	__atomic_store_n((u16 *)(q->used_p + RING_IDX), q->used_idx, __ATOMIC_RELEASE);
}

bool virtq_want_irq(struct virtq *q)
{
	u16 old = q->signalled, event;

	if (old == q->used_idx)
		return false;
	q->signalled = q->used_idx;
	/* The new index must be visible before the driver's wish is read. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!q->event_idx)
		return !(load16(q->avail_p + RING_FLAGS, __ATOMIC_RELAXED) &
			 VRING_AVAIL_F_NO_INTERRUPT);
	event = load16(q->avail_p + AVAIL_EVENT(q), __ATOMIC_RELAXED);
	return vring_need_event(event, q->used_idx, old);
}

bool virtq_set_notify(struct virtq *q, bool on)
{
	if (q->event_idx) {
		if (on)
			__atomic_store_n((u16 *)(q->used_p + USED_EVENT(q)), q->last_avail,
					 __ATOMIC_RELAXED);
	} else {
		__atomic_store_n((u16 *)(q->used_p + RING_FLAGS), on ? 0 : VRING_USED_F_NO_NOTIFY,
				 __ATOMIC_RELAXED);
	}
	if (!on)
		return false;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return load16(q->avail_p + RING_IDX, __ATOMIC_RELAXED) != q->last_avail;
}

static size_t copy_iov(const struct iovec *iov, unsigned nr, u64 off, void *buf, size_t len,
		       bool to_iov)
{
	size_t done = 0;

	for (unsigned i = 0; i < nr && done < len; i++) {
		size_t n;

		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		n = min(len - done, iov[i].iov_len - (size_t)off);
		if (to_iov)
			mem_dma((u8 *)iov[i].iov_base + off, (u8 *)buf + done, n);
		else
			mem_dma((u8 *)buf + done, (u8 *)iov[i].iov_base + off, n);
		done += n;
		off = 0;
	}
	return done;
}

size_t virtq_read(const struct virtq_chain *c, u64 off, void *buf, size_t len)
{
	return copy_iov(c->iov, c->nr_out, off, buf, len, false);
}

size_t virtq_write(const struct virtq_chain *c, u64 off, const void *buf, size_t len)
{
	return copy_iov(c->iov + c->nr_out, c->nr_in, off, (void *)buf, len, true);
}
