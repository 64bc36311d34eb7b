/* SPDX-License-Identifier: MIT */
/*
 * A daemon's wait for its driver's next request, made in the place of an
 * interrupt (VQ_INJECT_IRQ). A driver that looks at its ring, instead of
 * sleeping for the interrupt, has the next request posted within the time of a
 * few hundred instructions; a daemon that looks again then finds it, instead
 * of going to sleep and being woken. Nothing but the ring is looked at, which
 * has both signs by the rules of virtio: the available index, and used_event,
 * by which the driver says that it has seen what it was to be told of.
 */
#ifndef VDPA_CLIENT_VDUSE_SPIN_H
#define VDPA_CLIENT_VDUSE_SPIN_H

#include "base/types.h"

/* Of a queue. Zeroed: there is nothing to look at. Its owner's lock covers it. */
struct vduse_spin {
	const volatile u16 *avail;	/* flags, idx, ring[num], used_event; read-only */
	u16 num;
	void *map;
	size_t map_len;
	unsigned skip, backoff;		/* injections without a look: to go, and the last number */
	unsigned run;			/* looks of use in a row */
};

/*
 * The queue has @num entries and its available ring is at @iova of the domain @fd, which stays the caller's.
 * Without success nothing is looked at.
 */
void vduse_spin_init(struct vduse_spin *s, int fd, u64 iova, u32 num);
void vduse_spin_exit(struct vduse_spin *s);

/* True if the driver has seen what the interrupt is for: it needs none. */
bool vduse_spin(struct vduse_spin *s);

#endif
