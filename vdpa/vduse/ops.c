// SPDX-License-Identifier: MIT
/*
 * VDUSE as a parent on the bus: what a driver asks is answered from the copy
 * here; only status, a queue's position and changes of the memory go to the
 * daemon. `vdpa dev add` attaches a device whose queues are all set up.
 */
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "vdpa/vduse/priv.h"

static struct vduse_dev *of(struct vdpa_device *v)
{
	return container_of(v, struct vduse_vdpa, vdev)->d;
}

static struct vduse_dev *lock_of(struct vdpa_device *v)
{
	struct vduse_dev *d = of(v);

	pthread_mutex_lock(&d->lock);
	return d;
}

void vduse_signal(int eventfd)
{
	struct pollfd p = {.fd = eventfd, .events = POLLOUT};
	u64 one = 1;

	/* The other side has the eventfd too and may have filled it: never wait for it. */
	if (poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) && write(eventfd, &one, sizeof(one)) < 0)
		log_debug("vduse: eventfd: %s", strerror(errno));
}

void vduse_call(struct vduse_dev *d, const struct vdpa_callback *cb, unsigned *calls)
{
	struct vdpa_callback now = *cb;

	if (now.eventfd >= 0) {
		vduse_signal(now.eventfd);
		return;
	}
	if (!now.fn)
		return;
	++*calls;
	pthread_mutex_unlock(&d->lock);
	now.fn(now.arg);
	pthread_mutex_lock(&d->lock);
	if (!--*calls)
		pthread_cond_broadcast(&d->quiet);
}

static const struct vdpa_callback no_cb = {.eventfd = -1};

void vduse_local_reset(struct vduse_dev *d)
{
	if (d->vdpa)
		vdpa_domain_unbounce(&d->domain, d->as[0]);
	d->status = 0;
	d->driver_features = 0;
	d->generation++;
	d->config_cb = no_cb;
	while (d->config_calls)
		pthread_cond_wait(&d->quiet, &d->lock);
	for (u32 i = 0; i < d->nvqs; i++) {
		struct vduse_vq *q = &d->vqs[i];

		q->ready = false;
		q->kicked = false;
		q->num = 0;
		memset(&q->addr, 0, sizeof(q->addr));
		memset(&q->state, 0, sizeof(q->state));
		if (q->kickfd >= 0)
			close(q->kickfd);
		q->kickfd = -1;
		q->cb = no_cb;
		vduse_page_changed(&d->page[i].kick);
		vduse_page_changed(&d->page[i].irq);
		while (q->calls)
			pthread_cond_wait(&d->quiet, &d->lock);
	}
}

static int send_status(struct vduse_dev *d, u8 status)
{
	struct vduse_dev_request req = {.type = VDUSE_SET_STATUS, .s.status = status};

	return vduse_msg_send(d, &req, NULL);
}

static int op_reset(struct vdpa_device *v)
{
	struct vduse_dev *d = of(v);
	int ret = send_status(d, 0);

	pthread_mutex_lock(&d->lock);
	vduse_local_reset(d);
	pthread_mutex_unlock(&d->lock);
	return ret;
}

static u8 op_get_status(struct vdpa_device *v)
{
	struct vduse_dev *d = lock_of(v);
	u8 status;

	status = d->status;
	pthread_mutex_unlock(&d->lock);
	return status;
}

static void op_set_status(struct vdpa_device *v, u8 status)
{
	struct vduse_dev *d = of(v);

	/* A refusal is seen by reading the status back. */
	if (send_status(d, status))
		return;
	pthread_mutex_lock(&d->lock);
	d->status = status;
	for (u32 i = 0; i < d->nvqs; i++)
		vduse_page_changed(&d->page[i].irq);
	pthread_mutex_unlock(&d->lock);
}

static int op_set_vq_address(struct vdpa_device *v, u16 vq, const struct vdpa_vq_addr *a)
{
	struct vduse_dev *d = lock_of(v);

	d->vqs[vq].addr = *a;
	pthread_mutex_unlock(&d->lock);
	return 0;
}

static void op_set_vq_num(struct vdpa_device *v, u16 vq, u32 num)
{
	struct vduse_dev *d = lock_of(v);

	d->vqs[vq].num = num;
	pthread_mutex_unlock(&d->lock);
}

static void op_kick_vq(struct vdpa_device *v, u16 vq)
{
	struct vduse_dev *d = lock_of(v);
	struct vduse_vq *q = &d->vqs[vq];

	if (q->ready) {
		if (q->kickfd >= 0)
			vduse_signal(q->kickfd);
		else
			q->kicked = true;
	}
	pthread_mutex_unlock(&d->lock);
}

static void op_set_vq_cb(struct vdpa_device *v, u16 vq, const struct vdpa_callback *cb)
{
	struct vduse_dev *d = lock_of(v);
	struct vduse_vq *q = &d->vqs[vq];

	q->cb = cb ? *cb : no_cb;
	vduse_page_changed(&d->page[vq].irq);
	while (q->calls)
		pthread_cond_wait(&d->quiet, &d->lock);
	pthread_mutex_unlock(&d->lock);
}

static void op_set_vq_ready(struct vdpa_device *v, u16 vq, bool ready)
{
	struct vduse_dev *d = lock_of(v);

	d->vqs[vq].ready = ready;
	vduse_page_changed(&d->page[vq].kick);
	vduse_page_changed(&d->page[vq].irq);
	pthread_mutex_unlock(&d->lock);
}

static bool op_get_vq_ready(struct vdpa_device *v, u16 vq)
{
	struct vduse_dev *d = lock_of(v);
	bool ready;

	ready = d->vqs[vq].ready;
	pthread_mutex_unlock(&d->lock);
	return ready;
}

static int op_set_vq_state(struct vdpa_device *v, u16 vq, const struct vdpa_vq_state *s)
{
	struct vduse_dev *d = lock_of(v);

	d->vqs[vq].state = *s;
	pthread_mutex_unlock(&d->lock);
	return 0;
}

static int op_get_vq_state(struct vdpa_device *v, u16 vq, struct vdpa_vq_state *s)
{
	struct vduse_dev *d = of(v);
	struct vduse_dev_request req = {.type = VDUSE_GET_VQ_STATE, .vq_state.index = vq};
	struct vduse_dev_response resp;
	bool packed;
	int ret;

	ret = vduse_msg_send(d, &req, &resp);
	if (ret)
		return ret;
	pthread_mutex_lock(&d->lock);
	packed = d->driver_features & BIT(VIRTIO_F_RING_PACKED);
	pthread_mutex_unlock(&d->lock);
	if (packed) {
		s->packed.avail_wrap = resp.vq_state.packed.last_avail_counter & 1;
		s->packed.avail_idx = resp.vq_state.packed.last_avail_idx & 0x7fff;
		s->packed.used_wrap = resp.vq_state.packed.last_used_counter & 1;
		s->packed.used_idx = resp.vq_state.packed.last_used_idx & 0x7fff;
	} else {
		s->split.avail = resp.vq_state.split.avail_index;
	}
	return 0;
}

static u32 op_get_vq_align(struct vdpa_device *v)
{
	return of(v)->align;
}

static u16 op_get_vq_num_max(struct vdpa_device *v)
{
	struct vduse_dev *d = lock_of(v);
	u16 n = 0;

	for (u32 i = 0; i < d->nvqs; i++)
		n = max(n, d->vqs[i].num_max);
	pthread_mutex_unlock(&d->lock);
	return n;
}

static u64 op_get_device_features(struct vdpa_device *v)
{
	return of(v)->features;
}

static int op_set_driver_features(struct vdpa_device *v, u64 features)
{
	struct vduse_dev *d = lock_of(v);

	d->driver_features = features;
	pthread_mutex_unlock(&d->lock);
	return 0;
}

static u64 op_get_driver_features(struct vdpa_device *v)
{
	struct vduse_dev *d = lock_of(v);
	u64 f;

	f = d->driver_features;
	pthread_mutex_unlock(&d->lock);
	return f;
}

static void op_set_config_cb(struct vdpa_device *v, const struct vdpa_callback *cb)
{
	struct vduse_dev *d = lock_of(v);

	d->config_cb = cb ? *cb : no_cb;
	while (d->config_calls)
		pthread_cond_wait(&d->quiet, &d->lock);
	pthread_mutex_unlock(&d->lock);
}

static u32 op_get_device_id(struct vdpa_device *v)
{
	return of(v)->device_id;
}

static u32 op_get_vendor_id(struct vdpa_device *v)
{
	return of(v)->vendor_id;
}

static size_t op_get_config_size(struct vdpa_device *v)
{
	return of(v)->config_size;
}

static void op_get_config(struct vdpa_device *v, u32 off, void *buf, u32 len)
{
	struct vduse_dev *d = of(v);
	u32 n;

	memset(buf, 0, len);
	if (off >= d->config_size)
		return;
	n = min(len, d->config_size - off);
	pthread_mutex_lock(&d->lock);
	memcpy(buf, d->config + off, n);
	pthread_mutex_unlock(&d->lock);
}

/* Configuration space is the daemon's alone. */
static void op_set_config(struct vdpa_device *v, u32 off, const void *buf, u32 len)
{
	(void)v;
	(void)off;
	(void)buf;
	(void)len;
}

static u32 op_get_generation(struct vdpa_device *v)
{
	struct vduse_dev *d = lock_of(v);
	u32 g;

	g = d->generation;
	pthread_mutex_unlock(&d->lock);
	return g;
}

/* What a daemon can have is a file: memory without one is left out, and looking it up fails there. */
static int copy_files(struct vdpa_iotlb *to, const struct vdpa_iotlb *from)
{
	u64 off;

	for (const struct vdpa_map *m = vdpa_iotlb_find(from, 0, ~0ull); m; m = vdpa_iotlb_next(from, m)) {
		int ret;

		if (!m->mem || vdpa_mem_file(m->mem, m->off, &off) < 0)
			continue;
		ret = vdpa_iotlb_add(to, m);
		if (ret)
			return ret;
	}
	return 0;
}

static struct vdpa_iotlb *swap_iotlb(struct vduse_dev *d, u32 asid, struct vdpa_iotlb *t)
{
	struct vdpa_iotlb *old;

	pthread_mutex_lock(&d->lock);
	old = d->as[asid];
	d->as[asid] = t;
	pthread_mutex_unlock(&d->lock);
	return old;
}

/* All of an address space may have changed. */
static int send_update(struct vduse_dev *d, u32 asid)
{
	struct vduse_dev_request req = {.type = VDUSE_UPDATE_IOTLB, .iova = {.last = ~0ull}};
	const struct vduse_iova_range_v2 v2 = {.last = ~0ull, .asid = asid};

	if (d->api_version >= VDUSE_API_1)
		memcpy(req.padding, &v2, sizeof(v2));
	return vduse_msg_send(d, &req, NULL);
}

static int op_set_map(struct vdpa_device *v, u32 asid, const struct vdpa_iotlb *table)
{
	struct vduse_dev *d = of(v);
	struct vdpa_iotlb *t = vdpa_iotlb_new(VDPA_IOTLB_ENTRIES);
	int ret;

	if (!t)
		return -ENOMEM;
	ret = copy_files(t, table);
	if (!ret) {
		t = swap_iotlb(d, asid, t);
		ret = send_update(d, asid);
		if (ret)
			t = swap_iotlb(d, asid, t);
	}
	if (t)
		vdpa_iotlb_free(t);
	return ret;
}

static u32 op_get_vq_group(struct vdpa_device *v, u16 vq)
{
	struct vduse_dev *d = lock_of(v);
	u32 group;

	group = d->vqs[vq].group;
	pthread_mutex_unlock(&d->lock);
	return group;
}

static int set_group_asid(struct vduse_dev *d, u32 group, u32 asid)
{
	struct vduse_dev_request req = {.type = VDUSE_SET_VQ_GROUP_ASID};
	const struct vduse_vq_group_asid a = {group, asid};
	int ret;

	memcpy(req.padding, &a, sizeof(a));
	ret = vduse_msg_send(d, &req, NULL);
	if (ret)
		return ret;
	pthread_mutex_lock(&d->lock);
	d->group_as[group] = asid;
	pthread_mutex_unlock(&d->lock);
	return 0;
}

static int op_set_group_asid(struct vdpa_device *v, u32 group, u32 asid)
{
	struct vduse_dev *d = of(v);

	/* Daemons of version 0 do not know the message; they have one group and one space. */
	if (d->api_version < VDUSE_API_1)
		return -EINVAL;
	if (op_get_status(v) & VIRTIO_CONFIG_S_DRIVER_OK)
		return -EBUSY;
	return set_group_asid(d, group, asid);
}

static int op_get_page(struct vdpa_device *v)
{
	return of(v)->page_fd;
}

static int op_get_kickfd(struct vdpa_device *v, u16 vq, u32 *seq)
{
	struct vduse_dev *d = lock_of(v);
	int fd;

	*seq = atomic_load(&d->page[vq].kick);
	fd = d->vqs[vq].ready && d->vqs[vq].kickfd >= 0 ? d->vqs[vq].kickfd : -ENOENT;
	pthread_mutex_unlock(&d->lock);
	return fd;
}

/* In-process drivers have all their memory in the first address space: groups that a client moved come back. */
static int dma_info(struct vdpa_device *v, struct vdpa_dma_info *i)
{
	struct vduse_dev *d = of(v);

	for (u32 g = 0; g < d->ngroups; g++) {
		/* Only changed under the bus's lock of the device, which we have. */
		int ret = d->group_as[g] ? set_group_asid(d, g, 0) : 0;

		if (ret)
			return ret;
	}
	*i = (struct vdpa_dma_info){d->domain.fd, d->domain.bounce_size, d->domain.iova_size};
	return 0;
}

static int dma_bounce(struct vdpa_device *v)
{
	struct vduse_dev *d = lock_of(v);
	int ret;

	ret = vdpa_domain_bounce(&d->domain, d->as[0]);
	pthread_mutex_unlock(&d->lock);
	return ret;
}

static int dma_alloc(struct vdpa_device *v, u64 size, u64 *iova)
{
	struct vduse_dev *d = lock_of(v);
	int ret;

	ret = vdpa_domain_alloc(&d->domain, d->as[0], size, iova);
	pthread_mutex_unlock(&d->lock);
	return ret;
}

static int dma_free(struct vdpa_device *v, u64 iova, u64 size)
{
	struct vduse_dev *d = lock_of(v);
	int ret;

	ret = vdpa_domain_free(&d->domain, d->as[0], iova, size);
	pthread_mutex_unlock(&d->lock);
	return ret;
}

static const struct vdpa_dma_ops dma_ops = {
	.info = dma_info,
	.bounce = dma_bounce,
	.alloc = dma_alloc,
	.free = dma_free,
};

static void op_free(struct vdpa_device *v)
{
	struct vduse_vdpa *p = container_of(v, struct vduse_vdpa, vdev);
	struct vduse_dev *d = p->d;

	vduse_lock_list();
	pthread_mutex_lock(&d->lock);
	vduse_local_reset(d);
	for (u32 i = 0; i < d->nas; i++)
		if (d->as[i])
			vdpa_iotlb_del(d->as[i], 0, ~0ull);
	vdpa_domain_exit(&d->domain);
	d->umem.set = false;
	d->vdpa = NULL;
	pthread_mutex_unlock(&d->lock);
	vduse_unlock_list();
	free(p);
}

static const struct vdpa_config_ops vduse_ops = {
	.set_vq_address = op_set_vq_address,
	.set_vq_num = op_set_vq_num,
	.kick_vq = op_kick_vq,
	.set_vq_cb = op_set_vq_cb,
	.set_vq_ready = op_set_vq_ready,
	.get_vq_ready = op_get_vq_ready,
	.set_vq_state = op_set_vq_state,
	.get_vq_state = op_get_vq_state,
	.get_vq_align = op_get_vq_align,
	.get_vq_group = op_get_vq_group,
	.get_vq_num_max = op_get_vq_num_max,
	.get_device_features = op_get_device_features,
	.set_driver_features = op_set_driver_features,
	.get_driver_features = op_get_driver_features,
	.set_config_cb = op_set_config_cb,
	.get_device_id = op_get_device_id,
	.get_vendor_id = op_get_vendor_id,
	.get_status = op_get_status,
	.set_status = op_set_status,
	.reset = op_reset,
	.get_config_size = op_get_config_size,
	.get_config = op_get_config,
	.set_config = op_set_config,
	.get_generation = op_get_generation,
	.set_group_asid = op_set_group_asid,
	.set_map = op_set_map,
	.get_page = op_get_page,
	.get_kickfd = op_get_kickfd,
	.dma = &dma_ops,
	.free = op_free,
};

/* Claim the device for the bus, under the list's lock. */
static int attach(const char *name, struct vduse_vdpa *p, const struct vdpa_dev_attrs *a)
{
	struct vduse_dev *d = vduse_lookup(name);
	int ret = 0;

	if (!d) {
		ret = vdpa_refuse(a, -EINVAL, "vduse: no daemon has made a device of that name");
		goto out;
	}
	if (d->vdpa) {
		ret = -EEXIST;
		goto out;
	}
	pthread_mutex_lock(&d->lock);
	for (u32 i = 0; i < d->nvqs; i++)
		if (!d->vqs[i].num_max)
			ret = vdpa_refuse(a, -EINVAL, "vduse: its daemon has not set all queues up");
	if (!ret)
		ret = vdpa_domain_init(&d->domain, d->bounce_size, d->bounce_size + VDPA_COHERENT_SIZE);
	if (!ret) {
		d->was_attached = true;
		p->d = d;
		d->vdpa = p;
	}
	pthread_mutex_unlock(&d->lock);
out:
	vduse_unlock_list();
	return ret;
}

static int dev_add(struct vdpa_mgmtdev *m, const char *name, const struct vdpa_dev_attrs *a)
{
	struct vduse_vdpa *p = calloc(1, sizeof(*p));
	int ret;

	if (!p)
		return -ENOMEM;
	ret = attach(name, p, a);
	if (ret) {
		free(p);
		return ret;
	}
	vdpa_device_init(&p->vdev, m, &vduse_ops, name, p->d->nvqs, p->d->ngroups, p->d->nas);
	p->vdev.use_va = true;
	ret = vdpa_register(&p->vdev);
	if (ret)
		vdpa_put(&p->vdev);
	return ret;
}

static void dev_del(struct vdpa_mgmtdev *m, struct vdpa_device *v)
{
	vdpa_unregister(v);
	vdpa_put(v);	/* ours, of vdpa_device_init() */
}

struct vdpa_mgmtdev vduse_mgmt = {
	.name = "vduse",
	.classes = BIT(VIRTIO_ID_BLOCK) | BIT(VIRTIO_ID_NET),
	.dev_add = dev_add,
	.dev_del = dev_del,
};
