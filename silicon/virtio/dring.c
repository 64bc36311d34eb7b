// SPDX-License-Identifier: MIT
/*
 * Split virtqueues from the device's side: chains, copies, used entries and the
 * two ways of suppressing notifications.
 *
 * The driver may change everything while we look: an index or descriptor is
 * read once, checked, and the copy is used.
 */
#include "silicon/dring.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/bits.h"

/* Layout of both rings: flags, index, entries, and the other side's event index. */
#define RING_FLAGS 0
#define RING_IDX 2
#define RING_ENTRIES 4
#define AVAIL_ENTRY 2u
#define USED_ENTRY 8u

/* ---- Lists of buffers ---- */

u64 dring_iov_length(const struct dring_iov *iov)
{
	u64 len = 0;

	for (u32 i = iov->i; i < iov->used; i++)
		len += iov->seg[i].len;
	return len - (iov->i < iov->used ? iov->consumed : 0);
}

/* How many bytes are left in the current entry; steps over those that are used up. */
static u32 iov_left(struct dring_iov *iov)
{
	while (iov->i < iov->used && iov->consumed == iov->seg[iov->i].len) {
		iov->i++;
		iov->consumed = 0;
	}
	return iov->i < iov->used ? iov->seg[iov->i].len - iov->consumed : 0;
}

u64 dring_iov_advance(struct dring_iov *iov, u64 len)
{
	u64 done = 0;
	u32 left;

	while (done < len && (left = iov_left(iov)) != 0) {
		u32 n = min((u64)left, len - done);

		iov->consumed += n;
		done += n;
	}
	iov_left(iov);
	return done;
}

void dring_iov_rewind(struct dring_iov *iov)
{
	iov->i = 0;
	iov->consumed = 0;
}

void dring_iov_free(struct dring_iov *iov)
{
	free(iov->seg);
	*iov = (struct dring_iov){ 0 };
}

static void iov_empty(struct dring_iov *iov)
{
	if (!iov)
		return;
	dring_iov_rewind(iov);
	iov->used = 0;
}

static int iov_add(struct dring_iov *iov, u64 addr, u32 len)
{
	if (iov->used == iov->max) {
		u32 max = iov->max ? 2 * iov->max : 16;
		struct dring_seg *seg = reallocarray(iov->seg, max, sizeof(*seg));

		if (!seg)
			return -ENOMEM;
		iov->seg = seg;
		iov->max = max;
	}
	iov->seg[iov->used++] = (struct dring_seg){ addr, len };
	return 0;
}

/* ---- The ring ---- */

int dring_setup(struct dring *v, u32 num, u64 desc, u64 avail, u64 used, u16 position)
{
	if (!num || num > DRING_MAX_NUM || (num & (num - 1)))
		return -EINVAL;
	if (!is_aligned(desc, 16) || !is_aligned(avail, 2) || !is_aligned(used, 4))
		return -EINVAL;
	v->num = num;
	v->desc = desc;
	v->avail = avail;
	v->used = used;
	v->last_avail = v->last_used = v->signalled = position;
	return 0;
}

static u64 used_event(const struct dring *v)
{
	return v->avail + RING_ENTRIES + AVAIL_ENTRY * v->num;
}

static u64 avail_event(const struct dring *v)
{
	return v->used + RING_ENTRIES + USED_ENTRY * v->num;
}

/* The table that a chain is in: the ring's own or, for its last part, an indirect one. */
struct table {
	u64 base;
	u32 num;
	bool indirect;
};

/*
 * Source: VIRTIO 1.1 "Indirect Descriptors": none inside another, none with a
 * next one; its write flag has no meaning.
 */
static int enter_indirect(const struct dring *v, struct table *t, const struct vring_desc *d)
{
	if (!v->indirect || t->indirect || (d->flags & VRING_DESC_F_NEXT))
		return -EINVAL;
	if (!d->len || d->len % sizeof(*d))
		return -EINVAL;
	*t = (struct table){ .base = d->addr, .num = d->len / sizeof(*d), .indirect = true };
	return 0;
}

static int walk(struct dring *v, u16 head, struct dring_iov *r, struct dring_iov *w)
{
	struct table t = { .base = v->desc, .num = v->num };
	u32 i = head, count = 0;

	for (;;) {
		struct vring_desc d;
		struct dring_iov *iov;
		int err;

		if (i >= t.num)
			return -EINVAL;
		err = v->port->read(v->ctx, t.base + sizeof(d) * i, &d, sizeof(d));
		if (err)
			return err;
		if (d.flags & VRING_DESC_F_INDIRECT) {
			err = enter_indirect(v, &t, &d);
			if (err)
				return err;
			i = 0;
			continue;
		}
		if (count++ == v->num)
			return -ELOOP;
		iov = d.flags & VRING_DESC_F_WRITE ? w : r;
		if (iov == r && w && w->used)
			return -EINVAL;
		if (!iov)
			return -EPROTO;
		err = iov_add(iov, d.addr, d.len);
		if (err)
			return err;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return 0;
		i = d.next;
	}
}

int dring_getdesc(struct dring *v, struct dring_iov *r, struct dring_iov *w, u16 *head)
{
	u16 idx, h;
	int err;

	iov_empty(r);
	iov_empty(w);
	err = v->port->load16(v->ctx, v->avail + RING_IDX, &idx);
	if (err)
		return err;
	if (idx == v->last_avail)
		return 0;
	if ((u16)(idx - v->last_avail) > v->num)
		return -EINVAL;
	err = v->port->load16(v->ctx, v->avail + RING_ENTRIES +
			      AVAIL_ENTRY * (v->last_avail & (v->num - 1u)), &h);
	if (err)
		return err;
	err = walk(v, h, r, w);
	if (err)
		return err;
	v->last_avail++;
	*head = h;
	return 1;
}

/* ---- Data ---- */

ssize_t dring_pull(struct dring *v, struct dring_iov *r, void *buf, size_t len)
{
	size_t done = 0;
	u32 left;

	while (done < len && (left = iov_left(r)) != 0) {
		size_t n = min((size_t)left, len - done);
		int err = v->port->read(v->ctx, r->seg[r->i].addr + r->consumed, (u8 *)buf + done, n);

		if (err)
			return err;
		r->consumed += n;
		done += n;
	}
	return done;
}

ssize_t dring_push(struct dring *v, struct dring_iov *w, const void *buf, size_t len)
{
	size_t done = 0;
	u32 left;

	while (done < len && (left = iov_left(w)) != 0) {
		size_t n = min((size_t)left, len - done);
		int err = v->port->write(v->ctx, w->seg[w->i].addr + w->consumed, (const u8 *)buf + done, n);

		if (err)
			return err;
		w->consumed += n;
		done += n;
	}
	return done;
}

/* ---- Completion and notifications ---- */

int dring_complete(struct dring *v, u16 head, u32 len)
{
	struct vring_used_elem e = { .id = head, .len = len };
	int err = v->port->write(v->ctx, v->used + RING_ENTRIES +
				 USED_ENTRY * (v->last_used & (v->num - 1u)), &e, sizeof(e));

	if (err)
		return err;
	err = v->port->store16(v->ctx, v->used + RING_IDX, v->last_used + 1);
	if (!err)
		v->last_used++;
	return err;
}

int dring_need_notify(struct dring *v)
{
	u16 old = v->signalled, now = v->last_used, x;
	int err;

	if (old == now)
		return 0;
	/* The driver writes its wish, then looks at the index: the index first, then its wish. */
	atomic_thread_fence(memory_order_seq_cst);
	err = v->port->load16(v->ctx, v->event_idx ? used_event(v) : v->avail + RING_FLAGS, &x);
	if (err)
		return err;
	v->signalled = now;
	if (v->event_idx)
		return (u16)(now - x - 1) < (u16)(now - old);
	return !(x & VRING_AVAIL_F_NO_INTERRUPT);
}

int dring_notify_enable(struct dring *v)
{
	u16 idx;
	int err;

	if (v->event_idx)
		err = v->port->store16(v->ctx, avail_event(v), v->last_avail);
	else
		err = v->port->store16(v->ctx, v->used + RING_FLAGS, 0);
	if (err)
		return err;
	atomic_thread_fence(memory_order_seq_cst);
	err = v->port->load16(v->ctx, v->avail + RING_IDX, &idx);
	return err ? err : idx != v->last_avail;
}

void dring_notify_disable(struct dring *v)
{
	/* With event indexes silence is the default: the driver kicks once past avail_event. */
	if (!v->event_idx)
		v->port->store16(v->ctx, v->used + RING_FLAGS, VRING_USED_F_NO_NOTIFY);
}
