/* SPDX-License-Identifier: MIT */
/*
 * The memory through which an in-process virtio driver reaches its device: one
 * memfd, whose offset is the IOVA.
 *
 *   [0, bounce_size)           bounce buffers. The driver's process hands these
 *                              out, copying in and out; page 0 is never used.
 *   [bounce_size, iova_size)   coherent memory: rings and tables, handed out here.
 *
 * The file is sealed against changes of its size, so that neither side can take
 * the memory away from the other. Pages come into being when they are touched,
 * as zeroes. Not thread-safe: the owner's lock covers it.
 */
#ifndef VDPA_VDUSE_DOMAIN_H
#define VDPA_VDUSE_DOMAIN_H

#include "base/types.h"

struct vdpa_iotlb;
struct vdpa_mem;

#define VDPA_BOUNCE_SIZE (64ull << 20)
#define VDPA_COHERENT_SIZE (64ull << 20)
#define VDPA_IOVA_SIZE (VDPA_BOUNCE_SIZE + VDPA_COHERENT_SIZE)

struct vdpa_domain {
	int fd;
	u64 bounce_size, iova_size;
	struct vdpa_mem *mem;		/* all of the file */
	u64 *used;			/* a bit a coherent page */
	bool bounce_live;		/* the bounce region is in the IOTLB */
};

/* Sizes are multiples of the page size, @bounce below @iova. 0 or -errno. */
int __must_check vdpa_domain_init(struct vdpa_domain *m, u64 bounce, u64 iova);
void vdpa_domain_exit(struct vdpa_domain *m);

/* The first streaming mapping since a reset: enter the bounce region into @t. 0 or -errno. */
int __must_check vdpa_domain_bounce(struct vdpa_domain *m, struct vdpa_iotlb *t);
/* Reset: the bounce region leaves @t. Its pages stay. */
void vdpa_domain_unbounce(struct vdpa_domain *m, struct vdpa_iotlb *t);

/* Zeroed coherent memory of @size bytes, in whole pages, as an entry of its own in @t. -ENOMEM; -EINVAL: 0 bytes. */
int __must_check vdpa_domain_alloc(struct vdpa_domain *m, struct vdpa_iotlb *t, u64 size, u64 *iova);
/* -EINVAL: no allocation of that address and size. */
int vdpa_domain_free(struct vdpa_domain *m, struct vdpa_iotlb *t, u64 iova, u64 size);

#endif
