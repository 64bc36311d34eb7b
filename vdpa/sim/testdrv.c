// SPDX-License-Identifier: MIT
/* For tests: rings written by hand, and the few steps of a driver. */
#include "vdpa/sim/testdrv.h"

#include <linux/virtio_config.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"

void td_mem_open(struct td_mem *m, size_t size)
{
	BUG_ON(vdpa_mem_init());
	m->fd = memfd_create("test", MFD_CLOEXEC);
	BUG_ON(m->fd < 0 || ftruncate(m->fd, size));
	m->size = size;
	m->p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
	BUG_ON(m->p == MAP_FAILED);
	m->mem = vdpa_mem_shared(m->fd, 0, size, true);
	BUG_ON(!m->mem);
}

void td_mem_close(struct td_mem *m)
{
	vdpa_mem_put(m->mem);
	munmap(m->p, m->size);
	close(m->fd);
}

struct vdpa_map td_map(const struct td_mem *m, u64 off, u64 len, u8 perm)
{
	return (struct vdpa_map){
		.start = TD_IOVA + off, .last = TD_IOVA + off + len - 1, .perm = perm, .mem = m->mem, .off = off,
	};
}

void *td_ptr(const struct td_mem *m, u64 iova)
{
	return m->p + (iova - TD_IOVA);
}

/* ---- Rings ---- */

static u16 *avail(const struct td_ring *q)
{
	return td_ptr(q->m, q->avail);
}

static u16 *used(const struct td_ring *q)
{
	return td_ptr(q->m, q->used);
}

void td_ring_init(struct td_ring *q, struct td_mem *m, u64 at, u16 num)
{
	*q = (struct td_ring){ .m = m, .num = num, .desc = TD_IOVA + at };
	q->avail = q->desc + 16u * num;
	q->used = round_up(q->avail + 6 + 2u * num, 4);
	td_ring_reset(q, 0);
}

void td_ring_reset(struct td_ring *q, u16 idx)
{
	memset(td_ptr(q->m, q->desc), 0, TD_RING_SIZE(q->num));
	q->avail_idx = q->used_seen = idx;
	q->next_desc = 0;
	avail(q)[1] = used(q)[1] = idx;
}

void td_desc(struct td_ring *q, u16 i, u64 iova, u32 len, u16 flags, u16 next)
{
	struct vring_desc d = { .addr = iova, .len = len, .flags = flags, .next = next };

	memcpy((u8 *)td_ptr(q->m, q->desc) + 16u * i, &d, sizeof(d));
}

void td_offer(struct td_ring *q, u16 head)
{
	avail(q)[2 + q->avail_idx % q->num] = head;
	__atomic_store_n(&avail(q)[1], ++q->avail_idx, __ATOMIC_RELEASE);
}

u16 td_add(struct td_ring *q, const struct td_buf *buf, unsigned out, unsigned in)
{
	u16 head = q->next_desc;

	for (unsigned k = 0; k < out + in; k++) {
		u16 i = (head + k) % q->num;

		td_desc(q, i, buf[k].iova, buf[k].len,
			(k >= out ? VRING_DESC_F_WRITE : 0) | (k + 1 < out + in ? VRING_DESC_F_NEXT : 0),
			(i + 1) % q->num);
	}
	q->next_desc = (head + out + in) % q->num;
	td_offer(q, head);
	return head;
}

u16 td_used_idx(const struct td_ring *q)
{
	return __atomic_load_n(&used(q)[1], __ATOMIC_ACQUIRE);
}

bool td_used(struct td_ring *q, u32 *id, u32 *len)
{
	struct vring_used_elem e;

	if (td_used_idx(q) == q->used_seen)
		return false;
	memcpy(&e, (u8 *)used(q) + 4 + 8u * (q->used_seen % q->num), sizeof(e));
	q->used_seen++;
	*id = e.id;
	*len = e.len;
	return true;
}

bool td_wait_used(struct td_ring *q, u32 *id, u32 *len, unsigned ms)
{
	struct timespec t = { .tv_nsec = 50000 };

	for (u64 n = 0; n < 20ull * ms; n++) {
		if (td_used(q, id, len))
			return true;
		nanosleep(&t, NULL);
	}
	return td_used(q, id, len);
}

void td_set_used_event(struct td_ring *q, u16 idx)
{
	avail(q)[2 + q->num] = idx;
}

u16 td_avail_event(const struct td_ring *q)
{
	return used(q)[2 + 4 * q->num];
}

/* ---- A device on the bus ---- */

int td_negotiate(struct vdpa_device *d, u64 features)
{
	int err;

	vdpa_set_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	vdpa_set_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	err = vdpa_set_features(d, features);
	if (!err)
		vdpa_set_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
				VIRTIO_CONFIG_S_FEATURES_OK);
	return err;
}

void td_queue(struct vdpa_device *d, u16 vq, const struct td_ring *q, u16 idx, int cbfd)
{
	struct vdpa_vq_addr a = { .desc = q->desc, .driver = q->avail, .device = q->used };
	struct vdpa_vq_state s = { .split.avail = idx };
	struct vdpa_callback cb = { .eventfd = cbfd };

	pthread_mutex_lock(&d->lock);
	BUG_ON(d->ops->set_vq_address(d, vq, &a));
	d->ops->set_vq_num(d, vq, q->num);
	BUG_ON(d->ops->set_vq_state(d, vq, &s));
	d->ops->set_vq_cb(d, vq, &cb);
	d->ops->set_vq_ready(d, vq, true);
	pthread_mutex_unlock(&d->lock);
}

void td_driver_ok(struct vdpa_device *d)
{
	pthread_mutex_lock(&d->lock);
	d->ops->set_status(d, d->ops->get_status(d) | VIRTIO_CONFIG_S_DRIVER_OK);
	pthread_mutex_unlock(&d->lock);
}

int td_dma_map(struct vdpa_device *d, u32 asid, struct vdpa_iotlb *table, const struct vdpa_map *map)
{
	int err = 0;

	pthread_mutex_lock(&d->lock);
	if (d->ops->dma_map) {
		err = d->ops->dma_map(d, asid, map);
	} else {
		err = vdpa_iotlb_add(table, map);
		if (!err) {
			err = d->ops->set_map(d, asid, table);
			if (err)
				vdpa_iotlb_del(table, map->start, map->last);
		}
	}
	pthread_mutex_unlock(&d->lock);
	return err;
}

int td_dma_unmap(struct vdpa_device *d, u32 asid, struct vdpa_iotlb *table, u64 start, u64 last)
{
	int err;

	pthread_mutex_lock(&d->lock);
	if (d->ops->dma_unmap) {
		err = d->ops->dma_unmap(d, asid, start, last);
	} else {
		vdpa_iotlb_del(table, start, last);
		err = d->ops->set_map(d, asid, table);
	}
	pthread_mutex_unlock(&d->lock);
	return err;
}

u16 td_vq_position(struct vdpa_device *d, u16 vq)
{
	struct vdpa_vq_state s = { 0 };

	pthread_mutex_lock(&d->lock);
	BUG_ON(d->ops->get_vq_state(d, vq, &s));
	pthread_mutex_unlock(&d->lock);
	return s.split.avail;
}
