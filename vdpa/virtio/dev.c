// SPDX-License-Identifier: MIT
/* Bringing up a virtio device through a session. */
#include "vdpa/virtio/dev.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "vdpa/vduse/page.h"

#define RING_FEATURES \
	(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_ACCESS_PLATFORM) | BIT(VIRTIO_RING_F_INDIRECT_DESC) | \
	 BIT(VIRTIO_RING_F_EVENT_IDX))

/* Features that stand on another one, in Linux' words: VIRTIO 1.1 "Feature bit requirements". */
static const struct { u32 id; u8 feature, needs; } requirements[] = {
	{ VIRTIO_ID_NET, VIRTIO_NET_F_CTRL_RX, VIRTIO_NET_F_CTRL_VQ },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_CTRL_RX_EXTRA, VIRTIO_NET_F_CTRL_VQ },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_CTRL_VLAN, VIRTIO_NET_F_CTRL_VQ },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_GUEST_ANNOUNCE, VIRTIO_NET_F_CTRL_VQ },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_MQ, VIRTIO_NET_F_CTRL_VQ },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_CTRL_MAC_ADDR, VIRTIO_NET_F_CTRL_VQ },
};

static int call(struct vdev *v, enum vdpa_virtio_op op, u32 vq, u64 a, int fd, u64 *out)
{
	const struct vdpa_virtio_req q = {.op = op, .vq = vq, .v = {a}};
	struct vdpa_virtio_rep r;
	int ret = v->s->call(v->s, &q, fd, &r);

	if (!ret && out)
		*out = r.v[0];
	return ret;
}

int vdev_get_status(struct vdev *v, u8 *status)
{
	u64 s = 0;
	int ret = call(v, VDPA_VIRTIO_GET_STATUS, 0, 0, -1, &s);

	*status = (u8)s;
	return ret;
}

/* Add status bits and see that they stay. */
static int add_status(struct vdev *v, u8 bits)
{
	u8 status;
	int ret = vdev_get_status(v, &status);

	if (!ret)
		ret = call(v, VDPA_VIRTIO_SET_STATUS, 0, status | bits, -1, NULL);
	if (!ret)
		ret = vdev_get_status(v, &status);
	if (!ret && (status & bits) != bits)
		ret = -EPROTO;
	return ret;
}

struct vdpa_session *vdev_session(const char *name, int cancel_fd, char err[256])
{
	struct vdpa_session *s = vdpa_session_remote();

	if (!s)
		snprintf(err, 256, "vdpa device %s: no hub: %s", name, strerror(errno));
	else if (cancel_fd > 0)
		s->cancel_by(s, cancel_fd);
	return s;
}

void vdev_opened(struct vdev *v)
{
	if (v->s->cancel_by)
		v->s->cancel_by(v->s, -1);
}

static int open_device(struct vdev *v, const char *name, u32 id)
{
	struct vdpa_virtio_req q = {.op = VDPA_VIRTIO_OPEN, .v = {id}};
	struct vdpa_virtio_rep r;
	int ret;

	if (strlen(name) >= sizeof(q.data))
		return -ENODEV;
	memcpy(q.data, name, strlen(name));
	ret = v->s->call(v->s, &q, -1, &r);
	if (ret)
		return ret;
	v->device_id = (u32)r.v[0];
	v->nvqs = (u32)r.v[1];
	v->num_max = (u16)r.v[2];
	v->num_min = (u16)r.v[3];
	v->align = (u32)max(r.v[4], (u64)1);
	v->config_size = (u32)r.v[5];
	v->dma = vdma_new(v->s, r.fds[0]);
	if (!v->dma)
		ret = -errno;
	if (!ret && r.fds[1] >= 0) {
		void *p = mmap(NULL, v->nvqs * sizeof(*v->page), PROT_READ, MAP_SHARED, r.fds[1], 0);

		/* Without it kicks go through the hub. */
		v->page = p == MAP_FAILED ? NULL : p;
	}
	close(r.fds[0]);
	if (r.fds[1] >= 0)
		close(r.fds[1]);
	return ret;
}

static int negotiate(struct vdev *v, u64 features, u64 without)
{
	u64 offered;
	int ret;

	ret = call(v, VDPA_VIRTIO_RESET, 0, 0, -1, NULL);
	if (!ret)
		ret = add_status(v, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	if (!ret)
		ret = add_status(v, VIRTIO_CONFIG_S_DRIVER);
	if (!ret)
		ret = call(v, VDPA_VIRTIO_GET_FEATURES, 0, 0, -1, &offered);
	if (ret)
		return ret;
	v->features = offered & (features | RING_FEATURES) & ~without;
	for (unsigned i = 0; i < ARRAY_SIZE(requirements); i++)
		if (requirements[i].id == v->device_id && !vdev_has(v, requirements[i].needs))
			v->features &= ~BIT(requirements[i].feature);
	if (!vdev_has(v, VIRTIO_F_VERSION_1))
		return -EPROTO;
	ret = call(v, VDPA_VIRTIO_SET_FEATURES, 0, v->features, -1, NULL);
	return ret ? ret : add_status(v, VIRTIO_CONFIG_S_FEATURES_OK);
}

struct vdev *vdev_open(struct vdpa_session *s, const char *name, u32 id, u64 features, u64 without, char err[256])
{
	struct vdev *v = calloc(1, sizeof(*v));
	const char *what = "";
	int ret = -ENOMEM;

	if (!v) {
		s->close(s);
		goto out;
	}
	v->s = s;
	v->config_fd = -1;
	ret = open_device(v, name, id);
	if (ret && ret != -ENXIO)
		goto fail;
	if (ret || v->device_id != id) {
		what = "another class of device";
		ret = -ENODEV;
		goto fail;
	}
	v->vqs = calloc(max(v->nvqs, 1u), sizeof(*v->vqs));
	v->config_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!v->vqs || v->config_fd < 0) {
		ret = -ENOMEM;
		goto fail;
	}
	ret = negotiate(v, features, without);
	if (!ret)
		ret = call(v, VDPA_VIRTIO_CONFIG_FD, 0, 0, v->config_fd, NULL);
	if (!ret)
		ret = vdma_start(v->dma);
	if (!ret)
		return v;
	what = ret == -EPROTO ? "the device refuses this driver" : ret == -EIO ? "no answer from its daemon" : "";
fail:
	vdev_close(v);
out:
	snprintf(err, 256, "vdpa device %s: %s", name, *what ? what : strerror(-ret));
	errno = -ret;
	return NULL;
}

static int vq_enable(struct vdev *v, struct vdev_vq *q, u16 num)
{
	struct vdpa_virtio_req req = {.op = VDPA_VIRTIO_VQ_SETUP, .vq = q->index, .v = {num}};
	struct vdpa_virtio_rep r;
	int ret;

	vdring_addr(q->ring, &req.v[1], &req.v[2], &req.v[3]);
	ret = v->s->call(v->s, &req, -1, &r);
	if (!ret)
		ret = call(v, VDPA_VIRTIO_VQ_CALL_FD, q->index, 0, q->call_fd, NULL);
	if (!ret && call(v, VDPA_VIRTIO_VQ_KICK_FD, q->index, 0, q->own_kick, NULL)) {
		/* The parent waits on nothing of ours. */
		close(q->own_kick);
		q->own_kick = -1;
	}
	return ret ? ret : call(v, VDPA_VIRTIO_VQ_READY, q->index, 1, -1, NULL);
}

int vdev_vq_init(struct vdev *v, u16 i, u16 num, u16 indirect_max)
{
	struct vdring_cfg c = {
		.align = v->align,
		.event_idx = vdev_has(v, VIRTIO_RING_F_EVENT_IDX),
		.indirect = vdev_has(v, VIRTIO_RING_F_INDIRECT_DESC) && indirect_max,
		.indirect_max = indirect_max,
	};
	struct vdev_vq *q;
	u64 ready;
	int ret;

	if (i >= v->nvqs || !v->num_max)
		return -ENOENT;
	ret = call(v, VDPA_VIRTIO_VQ_GET_READY, i, 0, -1, &ready);
	if (ret)
		return ret;
	if (ready)
		return -EBUSY;
	c.num = v->num_max;
	if (num && v->num_min != v->num_max)
		c.num = min(num, v->num_max);
	while (c.num & (c.num - 1))
		c.num &= c.num - 1;
	if (c.num < v->num_min)
		return -EINVAL;
	q = &v->vqs[i];
	q->index = i;
	q->kick_fd = -1;
	q->ring = vdring_new(v->dma, &c);
	if (!q->ring)
		return -errno;
	pthread_mutex_init(&q->lock, NULL);
	pthread_mutex_init(&q->kick_lock, NULL);
	q->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->own_kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->call_fd < 0 || q->own_kick < 0)
		return -errno;
	return vq_enable(v, q, c.num);
}

int vdev_start(struct vdev *v)
{
	return add_status(v, VIRTIO_CONFIG_S_DRIVER_OK);
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void vdev_stop(struct vdev *v)
{
	for (u32 i = 0; v->vqs && i < v->nvqs; i++)
		if (v->vqs[i].ring)
			(void)call(v, VDPA_VIRTIO_VQ_READY, i, 0, -1, NULL);
	if (v->vqs && call(v, VDPA_VIRTIO_RESET, 0, 0, -1, NULL))
		log_debug("virtio: reset failed");
}

void vdev_close(struct vdev *v)
{
	for (u32 i = 0; v->vqs && i < v->nvqs; i++) {
		struct vdev_vq *q = &v->vqs[i];

		if (!q->ring)
			continue;
		vdring_free(q->ring);
		close_fd(q->call_fd);
		close_fd(q->own_kick);
		close_fd(q->kick_fd);
		pthread_mutex_destroy(&q->lock);
		pthread_mutex_destroy(&q->kick_lock);
	}
	v->s->close(v->s);
	if (v->dma)
		vdma_free(v->dma);
	if (v->page)
		munmap((void *)v->page, v->nvqs * sizeof(*v->page));
	close_fd(v->config_fd);
	free(v->vqs);
	free(v);
}

void vdev_hurry(struct vdev *v, unsigned ms)
{
	if (v->s->hurry)
		v->s->hurry(v->s, ms);
}

bool vdev_has(const struct vdev *v, unsigned feature)
{
	return v->features & BIT(feature);
}

static void signal_fd(int fd)
{
	const u64 one = 1;

	/* A full counter is an event that nobody has taken yet. */
	if (write(fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_warn("virtio: kick: %s", strerror(errno));
}

void vdev_wake(struct vdev_vq *q)
{
	signal_fd(q->call_fd);
}

/* True if the parent's eventfd, which we have, was still the right one after it was signalled. */
static bool kick_direct(struct vdev *v, struct vdev_vq *q)
{
	u32 seq;

	if (!v->page || q->kick_fd < 0)
		return false;
	seq = atomic_load(&v->page[q->index].kick);
	if (seq != q->kick_seq)
		return false;
	signal_fd(q->kick_fd);
	return atomic_load(&v->page[q->index].kick) == seq;
}

void vdev_kick(struct vdev *v, struct vdev_vq *q)
{
	const struct vdpa_virtio_req req = {.op = VDPA_VIRTIO_VQ_KICK, .vq = q->index};
	struct vdpa_virtio_rep r;

	if (q->own_kick >= 0) {
		signal_fd(q->own_kick);
		return;
	}
	pthread_mutex_lock(&q->kick_lock);
	if (!kick_direct(v, q) && !v->s->call(v->s, &req, -1, &r)) {
		close_fd(q->kick_fd);
		q->kick_fd = r.fds[0];
		q->kick_seq = (u32)r.v[0];
	}
	pthread_mutex_unlock(&q->kick_lock);
}

static int config_part(struct vdev *v, u32 off, u8 *buf, u32 len)
{
	while (len) {
		u32 n = min(len, (u32)VDPA_VIRTIO_DATA);
		const struct vdpa_virtio_req q = {.op = VDPA_VIRTIO_GET_CONFIG, .v = {off, n}};
		struct vdpa_virtio_rep r;
		int ret = v->s->call(v->s, &q, -1, &r);

		if (ret)
			return ret;
		memcpy(buf, r.data, n);
		off += n;
		buf += n;
		len -= n;
	}
	return 0;
}

int vdev_config(struct vdev *v, u32 off, void *buf, u32 len)
{
	u64 before, after;
	int ret;

	/* A device that changes it all the time must not keep us here. */
	for (unsigned i = 0; i < 100; i++) {
		ret = call(v, VDPA_VIRTIO_GENERATION, 0, 0, -1, &before);
		if (!ret)
			ret = config_part(v, off, buf, len);
		if (!ret)
			ret = call(v, VDPA_VIRTIO_GENERATION, 0, 0, -1, &after);
		if (ret || before == after)
			return ret;
	}
	return -EAGAIN;
}
