/* SPDX-License-Identifier: MIT */
/*
 * The vhost IOTLB: an interval map [start, last] -> memory and permission.
 * Used by vhost-vdpa, the simulators and VDUSE, one per address space.
 *
 * Not thread-safe: the owner's lock covers it. Linux "drivers/vhost" semantics:
 * entries never overlap, a lookup returns the lowest one that touches the
 * range, and a mapping of the whole 64-bit space is kept as two halves.
 */
#ifndef VDPA_IOTLB_H
#define VDPA_IOTLB_H

#include "base/list.h"
#include "base/types.h"
#include "vdpa/mem.h"

enum vdpa_perm { VDPA_RO = 1, VDPA_WO = 2, VDPA_RW = 3 };	/* as the device sees it */

#define VDPA_IOTLB_ENTRIES 2048		/* default limit: module parameter max_iotlb_entries */

struct vdpa_map {
	u64 start, last;
	u8 perm;		/* enum vdpa_perm */
	struct vdpa_mem *mem;	/* NULL: nothing behind it that we could reach */
	u64 off;		/* of @start in @mem */
};

struct vdpa_iotlb;

/* @limit entries, 0 = no limit. NULL when memory is short. */
struct vdpa_iotlb *vdpa_iotlb_new(unsigned limit);
void vdpa_iotlb_free(struct vdpa_iotlb *t);

/*
 * Takes a reference to @m->mem. -EFAULT: last < start. -EEXIST: overlaps an
 * entry. -ENOSPC: limit reached; then nothing was changed. -ENOMEM.
 */
int __must_check vdpa_iotlb_add(struct vdpa_iotlb *t, const struct vdpa_map *m);
/* Remove every entry that touches the range, whole. Returns how many. */
unsigned vdpa_iotlb_del(struct vdpa_iotlb *t, u64 start, u64 last);
/* The lowest entry that touches the range, or NULL. Valid until the next change. */
const struct vdpa_map *vdpa_iotlb_find(const struct vdpa_iotlb *t, u64 start, u64 last);
const struct vdpa_map *vdpa_iotlb_next(const struct vdpa_iotlb *t, const struct vdpa_map *m);
unsigned vdpa_iotlb_count(const struct vdpa_iotlb *t);
/* Replace all of @t by a copy of @from: 0, or -errno with @t unchanged. */
int __must_check vdpa_iotlb_copy(struct vdpa_iotlb *t, const struct vdpa_iotlb *from);

/*
 * Copy between @buf and IOVAs, over any number of entries. -EINVAL: a byte is
 * not mapped; -EPERM: mapped without the permission (@perm); -EFAULT: the memory is gone.
 */
int __must_check vdpa_iotlb_read(const struct vdpa_iotlb *t, u64 iova, void *buf, size_t len);
int __must_check vdpa_iotlb_write(const struct vdpa_iotlb *t, u64 iova, const void *buf, size_t len);

#endif
