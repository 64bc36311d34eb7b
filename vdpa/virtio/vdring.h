/* SPDX-License-Identifier: MIT */
/*
 * Split virtqueue, driver side. Source: VIRTIO 1.1 "Split Virtqueues".
 *
 * The device can write every byte of the ring's memory and is not trusted:
 * what was posted is remembered in private memory, nothing is read back from
 * descriptors or the available ring, and of the used ring each value is read
 * once and checked. A device that answers what was not asked, or with more
 * bytes than it was given, makes the ring broken for good.
 *
 * Not thread-safe: the queue's lock covers it.
 */
#ifndef VDPA_VIRTIO_VDRING_H
#define VDPA_VIRTIO_VDRING_H

#include "base/types.h"

struct vdma;
struct vdring;

struct vdring_sg { u64 iova; u32 len; };

struct vdring_cfg {
	u16 num;		/* a power of two */
	u32 align;
	bool event_idx, indirect;
	u16 indirect_max;	/* pieces that one indirect table takes */
};

/* Memory comes from @m. NULL and errno. */
struct vdring *vdring_new(struct vdma *m, const struct vdring_cfg *c);
void vdring_free(struct vdring *r);
/* Addresses for the device. */
void vdring_addr(const struct vdring *r, u64 *desc, u64 *avail, u64 *used);

/*
 * Post a request of @out pieces that the device reads, then @in that it writes.
 * 0; -ENOSPC: no room now; -EINVAL: no piece, or more than would ever fit; -EIO: broken.
 */
int vdring_add(struct vdring *r, const struct vdring_sg *sg, unsigned out, unsigned in, void *token);
/* Show what was posted to the device. True if it wants to be kicked. */
bool vdring_publish(struct vdring *r);
/* How far it was shown; wraps. Without the queue's lock. */
u16 vdring_published(const struct vdring *r);
/* 1 with a finished request and the bytes that the device says it wrote; 0: none; -EIO: broken. */
int vdring_get(struct vdring *r, void **token, u32 *len);
/* There seems to be a finished request, or the ring is broken. Without the queue's lock. */
bool vdring_pending(const struct vdring *r);
/*
 * The same without looking whether there is one finished: the device is asked, but who sleeps looks by
 * vdring_irq_on() first.
 */
void vdring_irq_wish(struct vdring *r);
/* Ask for an interrupt at the next finished request. False if one is finished already. */
bool vdring_irq_on(struct vdring *r);
/* Take back what the device will not answer any more: the token of one request, NULL when there is none. */
void *vdring_detach(struct vdring *r);

u16 vdring_size(const struct vdring *r);
unsigned vdring_in_flight(const struct vdring *r);
/* Why it is broken, or NULL. */
const char *vdring_broken(const struct vdring *r);

#endif
