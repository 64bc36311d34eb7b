/* SPDX-License-Identifier: MIT */
/*
 * Sessions over another transport than the hub (vhost-user, vhost-vdpa) bring
 * the memory themselves: a domain whose file the other side gets whole.
 */
#ifndef TESTS_VDPA_OWN_MEMORY_H
#define TESTS_VDPA_OWN_MEMORY_H

#include "vdpa/vduse/domain.h"
#include "vdpa/virtio/session.h"

struct own_memory {
	struct vdpa_domain dom;
	struct vdpa_iotlb *table;	/* of the domain's allocator */
};

int own_memory_init(struct own_memory *m);	/* 0 or -errno */
void own_memory_exit(struct own_memory *m);
/* What such a session answers without the other side. -EOPNOTSUPP: not among that. */
int own_memory_call(struct own_memory *m, const struct vdpa_virtio_req *q, struct vdpa_virtio_rep *r);

#endif
