// SPDX-License-Identifier: MIT
/*
 * Ring accesses through an IOTLB and its lock.
 */
#include "vdpa/vringh.h"

#include <errno.h>

/* ---- The IOTLB as a DMA port; lock held ---- */

static int port_read(void *ctx, u64 addr, void *buf, size_t len)
{
	return vdpa_iotlb_read(ctx, addr, buf, len);
}

static int port_write(void *ctx, u64 addr, const void *buf, size_t len)
{
	return vdpa_iotlb_write(ctx, addr, buf, len);
}

/* A word must be accessed at once, hence lie in one mapping. */
static int find_word(const struct vdpa_iotlb *t, u64 addr, u8 perm, struct vdpa_mem **mem, u64 *at)
{
	const struct vdpa_map *m = vdpa_iotlb_find(t, addr, addr);

	if (!m || !m->mem)
		return -EINVAL;
	if (!(m->perm & perm))
		return -EPERM;
	if (m->last == addr)
		return -ENOBUFS;
	*mem = m->mem;
	*at = m->off + (addr - m->start);
	return 0;
}

static int port_load16(void *ctx, u64 addr, u16 *v)
{
	struct vdpa_mem *mem;
	u64 at;
	int err = find_word(ctx, addr, VDPA_RO, &mem, &at);

	return err ? err : vdpa_mem_load16(mem, at, v);
}

static int port_store16(void *ctx, u64 addr, u16 v)
{
	struct vdpa_mem *mem;
	u64 at;
	int err = find_word(ctx, addr, VDPA_WO, &mem, &at);

	return err ? err : vdpa_mem_store16(mem, at, v);
}

const struct dring_port vringh_iotlb_port = {
	.read = port_read, .write = port_write, .load16 = port_load16, .store16 = port_store16,
};

/* ---- The ring ---- */

void vringh_init(struct vringh *v, struct vdpa_iotlb *iotlb, pthread_mutex_t *lock)
{
	*v = (struct vringh){ .ring = { .port = &vringh_iotlb_port, .ctx = iotlb }, .lock = lock };
}

void vringh_set_iotlb(struct vringh *v, struct vdpa_iotlb *iotlb)
{
	pthread_mutex_lock(v->lock);
	v->ring.ctx = iotlb;
	pthread_mutex_unlock(v->lock);
}

#define LOCKED(v, call) ({ \
	__typeof__(call) ret_; \
	pthread_mutex_lock((v)->lock); \
	ret_ = (call); \
	pthread_mutex_unlock((v)->lock); \
	ret_; \
})

int vringh_getdesc(struct vringh *v, struct dring_iov *r, struct dring_iov *w, u16 *head)
{
	return LOCKED(v, dring_getdesc(&v->ring, r, w, head));
}

ssize_t vringh_pull(struct vringh *v, struct dring_iov *r, void *buf, size_t len)
{
	return LOCKED(v, dring_pull(&v->ring, r, buf, len));
}

ssize_t vringh_push(struct vringh *v, struct dring_iov *w, const void *buf, size_t len)
{
	return LOCKED(v, dring_push(&v->ring, w, buf, len));
}

int vringh_complete(struct vringh *v, u16 head, u32 len)
{
	return LOCKED(v, dring_complete(&v->ring, head, len));
}

int vringh_need_notify(struct vringh *v)
{
	return LOCKED(v, dring_need_notify(&v->ring));
}

int vringh_notify_enable(struct vringh *v)
{
	return LOCKED(v, dring_notify_enable(&v->ring));
}

void vringh_notify_disable(struct vringh *v)
{
	pthread_mutex_lock(v->lock);
	dring_notify_disable(&v->ring);
	pthread_mutex_unlock(v->lock);
}
