/* SPDX-License-Identifier: MIT */
/*
 * For tests: a driver that writes rings by hand into memory of its own, and so
 * can also write wrong ones. Not part of the product.
 */
#ifndef VDPA_SIM_TESTDRV_H
#define VDPA_SIM_TESTDRV_H

#include <linux/virtio_ring.h>

#include "vdpa/vdpa.h"

/* Shared memory that the device sees at TD_IOVA. */
#define TD_IOVA 0x40000000ull

struct td_mem {
	int fd;
	u8 *p;
	size_t size;
	struct vdpa_mem *mem;
};

void td_mem_open(struct td_mem *m, size_t size);
void td_mem_close(struct td_mem *m);
/* All of it, or a part, as an IOTLB entry. */
struct vdpa_map td_map(const struct td_mem *m, u64 off, u64 len, u8 perm);

/* One split ring at offset @at of the memory: descriptors, avail, used. */
struct td_ring {
	struct td_mem *m;
	u16 num;
	u64 desc, avail, used;		/* IOVAs */
	u16 avail_idx, used_seen, next_desc;
};

#define TD_RING_SIZE(num) (16u * (num) + 8u + 2u * (num) + 8u + 8u * (num) + 64u)

void td_ring_init(struct td_ring *q, struct td_mem *m, u64 at, u16 num);
/* Empty again, with both indexes at @idx. */
void td_ring_reset(struct td_ring *q, u16 idx);
void *td_ptr(const struct td_mem *m, u64 iova);

struct td_buf {
	u64 iova;
	u32 len;
};

void td_desc(struct td_ring *q, u16 i, u64 iova, u32 len, u16 flags, u16 next);
/* Put head @head into the ring; the device sees it. */
void td_offer(struct td_ring *q, u16 head);
/* Chain the next @out + @in descriptors, readable ones first, and offer them. Returns the head. */
u16 td_add(struct td_ring *q, const struct td_buf *buf, unsigned out, unsigned in);
/* Take the next used entry, if any. */
bool td_used(struct td_ring *q, u32 *id, u32 *len);
/* The same, waiting up to @ms. */
bool td_wait_used(struct td_ring *q, u32 *id, u32 *len, unsigned ms);
u16 td_used_idx(const struct td_ring *q);
void td_set_used_event(struct td_ring *q, u16 idx);
u16 td_avail_event(const struct td_ring *q);

/* ---- A device on the bus ---- */

/* Status up to FEATURES_OK. Returns 0, or set_driver_features' error. */
int td_negotiate(struct vdpa_device *d, u64 features);
/* Program queue @vq from @q, from @idx on, and make it ready. @cbfd: eventfd to be signalled, or -1. */
void td_queue(struct vdpa_device *d, u16 vq, const struct td_ring *q, u16 idx, int cbfd);
void td_driver_ok(struct vdpa_device *d);
/* Map @map in address space 0, by whichever operation the device has. @table: what is mapped so far. */
int td_dma_map(struct vdpa_device *d, u32 asid, struct vdpa_iotlb *table, const struct vdpa_map *map);
int td_dma_unmap(struct vdpa_device *d, u32 asid, struct vdpa_iotlb *table, u64 start, u64 last);
u16 td_vq_position(struct vdpa_device *d, u16 vq);

#endif
