// SPDX-License-Identifier: MIT
/* Memory of sessions that are not the hub's; see own_memory.h. */
#include "tests/vdpa/own_memory.h"

#include <errno.h>

#include "vdpa/iotlb.h"

int own_memory_init(struct own_memory *m)
{
	int ret;

	m->table = vdpa_iotlb_new(0);
	if (!m->table)
		return -ENOMEM;
	ret = vdpa_domain_init(&m->dom, VDPA_BOUNCE_SIZE, VDPA_IOVA_SIZE);
	if (ret)
		vdpa_iotlb_free(m->table);
	return ret;
}

void own_memory_exit(struct own_memory *m)
{
	vdpa_domain_exit(&m->dom);
	vdpa_iotlb_free(m->table);
}

int own_memory_call(struct own_memory *m, const struct vdpa_virtio_req *q, struct vdpa_virtio_rep *r)
{
	switch (q->op) {
	case VDPA_VIRTIO_GENERATION:
	case VDPA_VIRTIO_DMA_BOUNCE:
	case VDPA_VIRTIO_VQ_GET_READY:
		return 0;
	case VDPA_VIRTIO_DMA_INFO:
		r->v[0] = m->dom.bounce_size;
		r->v[1] = m->dom.iova_size;
		return 0;
	case VDPA_VIRTIO_DMA_ALLOC:
		return vdpa_domain_alloc(&m->dom, m->table, q->v[0], &r->v[0]);
	case VDPA_VIRTIO_DMA_FREE:
		return vdpa_domain_free(&m->dom, m->table, q->v[0], q->v[1]);
	default:
		return -EOPNOTSUPP;
	}
}
