/* SPDX-License-Identifier: MIT */
/*
 * A device's ring (silicon/dring.h) behind an IOTLB that others change.
 *
 * A chain is fetched, a buffer copied and an entry completed under the IOTLB's
 * lock, so each of these sees one state of the table. The ring itself belongs
 * to the caller, whose lock for it comes before the IOTLB's; nothing here
 * takes any other.
 */
#ifndef VDPA_VRINGH_H
#define VDPA_VRINGH_H

#include <pthread.h>

#include "silicon/dring.h"
#include "vdpa/iotlb.h"

struct vringh {
	struct dring ring;
	pthread_mutex_t *lock;		/* of the IOTLB */
};

/* @lock covers @iotlb and what it leads to. The ring is then to be set up with dring_setup(). */
void vringh_init(struct vringh *v, struct vdpa_iotlb *iotlb, pthread_mutex_t *lock);
/* From now on through another table, of the same lock. */
void vringh_set_iotlb(struct vringh *v, struct vdpa_iotlb *iotlb);

/* As the dring_ functions of these names. The driver's addresses are IOVAs. */
int __must_check vringh_getdesc(struct vringh *v, struct dring_iov *r, struct dring_iov *w, u16 *head);
ssize_t __must_check vringh_pull(struct vringh *v, struct dring_iov *r, void *buf, size_t len);
ssize_t __must_check vringh_push(struct vringh *v, struct dring_iov *w, const void *buf, size_t len);
int __must_check vringh_complete(struct vringh *v, u16 head, u32 len);
int __must_check vringh_need_notify(struct vringh *v);
int __must_check vringh_notify_enable(struct vringh *v);
void vringh_notify_disable(struct vringh *v);

/* The IOTLB as a port of silicon/: ctx is the struct vdpa_iotlb, whose lock the caller holds. */
extern const struct dring_port vringh_iotlb_port;

#endif
