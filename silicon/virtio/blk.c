// SPDX-License-Identifier: MIT
/*
 * The block personality: a ramdisk behind any number of queues.
 *
 * Source: VIRTIO 1.1 "Block Device", "Device Operation".
 */
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "base/bits.h"
#include "silicon/virtio/vfunc.h"

#define SECTOR 512u

static u8 transfer(struct vfunc *v, struct vfunc_queue *q, u64 sector, u64 len, bool read)
{
	ssize_t n;
	u8 *at;

	if (len % SECTOR || sector > v->c.sectors || len / SECTOR > v->c.sectors - sector)
		return VIRTIO_BLK_S_IOERR;
	at = v->media + sector * SECTOR;
	n = read ? dring_push(&q->ring, &q->in, at, len) : dring_pull(&q->ring, &q->out, at, len);
	return n == (ssize_t)len ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
}

/* @room: writable bytes before the status. */
static u8 execute(struct vfunc *v, struct vfunc_queue *q, const struct virtio_blk_outhdr *h, u64 room, u32 *written)
{
	static const char id[VIRTIO_BLK_ID_BYTES] = "C5000X-PL";
	u8 status;

	switch (h->type) {
	case VIRTIO_BLK_T_IN:
		status = transfer(v, q, h->sector, room, true);
		*written = status == VIRTIO_BLK_S_OK ? room : 0;
		return status;
	case VIRTIO_BLK_T_OUT:
		return transfer(v, q, h->sector, dring_iov_length(&q->out), false);
	case VIRTIO_BLK_T_FLUSH:
		return VIRTIO_BLK_S_OK;
	case VIRTIO_BLK_T_GET_ID:
		*written = min(room, (u64)sizeof(id));
		return dring_push(&q->ring, &q->in, id, *written) == (ssize_t)*written ? VIRTIO_BLK_S_OK :
											  VIRTIO_BLK_S_IOERR;
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

static bool serve(struct vfunc *v, unsigned i)
{
	struct vfunc_queue *q = &v->q[i];
	struct virtio_blk_outhdr hdr;
	u32 written = 0;
	u8 status;
	u64 room;
	u16 head;

	if (vfunc_take(v, i, &head, true, true) != 1)
		return false;
	room = dring_iov_length(&q->in);
	if (!room || dring_pull(&q->ring, &q->out, &hdr, sizeof(hdr)) != sizeof(hdr))
		return vfunc_complete(v, i, head, 0);
	room--;
	status = execute(v, q, &hdr, room, &written);
	dring_iov_rewind(&q->in);
	dring_iov_advance(&q->in, room);
	if (dring_push(&q->ring, &q->in, &status, 1) != 1)
		written = 0;
	return vfunc_complete(v, i, head, written + 1);
}

static bool work(struct vfunc *v)
{
	bool more = false;

	for (unsigned i = 0; i < v->c.queues; i++) {
		unsigned n = 0;

		while (n < VFUNC_BUDGET && serve(v, i))
			n++;
		more |= n == VFUNC_BUDGET;
	}
	return more;
}

const struct vfunc_kind vfunc_blk = {
	.config_size = sizeof(struct virtio_blk_config),
	.features = BIT(VIRTIO_BLK_F_BLK_SIZE) | BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_MQ) |
		    BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_F_ANY_LAYOUT) |
		    BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_ACCESS_PLATFORM) | BIT(VIRTIO_F_ORDER_PLATFORM),
	.work = work,
};
