// SPDX-License-Identifier: MIT
/*
 * ioctls of a queue, and kicks.
 *
 * A kick eventfd is watched by the parent if it can, else by one thread of the
 * node, which watches for edges and never reads: a read could block on a
 * descriptor that its owner drains at the same time, and Linux does not read
 * either.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "vdpa/vhost/vhost_priv.h"

#define STOP_EVENT UINT32_MAX
#define KICK_EVENTS 16

static bool is_packed(const struct vhost_vdpa *v)
{
	return v->features & VHOST_F_RING_PACKED;
}

/* ---- Kicks ---- */

static void *kicker(void *arg)
{
	struct vhost_vdpa *v = arg;
	struct epoll_event ev[KICK_EVENTS];

	for (;;) {
		int n = epoll_wait(v->epoll, ev, KICK_EVENTS, -1);

		for (int i = 0; i < n; i++) {
			if (ev[i].data.u32 == STOP_EVENT)
				return NULL;
			v->dev->ops->kick_vq(v->dev, (u16)ev[i].data.u32);
		}
	}
}

static int start_kicker(struct vhost_vdpa *v)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = STOP_EVENT };
	int err = 0;

	if (v->has_kicker)
		return 0;
	v->epoll = epoll_create1(EPOLL_CLOEXEC);
	v->stop = eventfd(0, EFD_CLOEXEC);
	if (v->epoll < 0 || v->stop < 0 || epoll_ctl(v->epoll, EPOLL_CTL_ADD, v->stop, &ev) < 0)
		err = -errno;
	if (!err)
		err = -pthread_create(&v->kicker, NULL, kicker, v);
	if (err) {
		if (v->epoll >= 0)
			close(v->epoll);
		if (v->stop >= 0)
			close(v->stop);
		v->epoll = v->stop = -1;
		return err;
	}
	v->has_kicker = true;
	return 0;
}

static void stop_kicker(struct vhost_vdpa *v)
{
	if (!v->has_kicker)
		return;
	eventfd_write(v->stop, 1);
	pthread_join(v->kicker, NULL);
	close(v->epoll);
	close(v->stop);
	v->epoll = v->stop = -1;
	v->has_kicker = false;
}

static int parent_watches(struct vhost_vdpa *v, u16 idx, int fd)
{
	int ret;

	if (!v->dev->ops->set_vq_kickfd)
		return -EOPNOTSUPP;
	vhost_dev_lock(v);
	ret = v->dev->ops->set_vq_kickfd(v->dev, idx, fd);
	vhost_dev_unlock(v);
	return ret;
}

/* @fd, -1 or a duplicate that becomes the queue's, instead of what there was. */
static int set_kick(struct vhost_vdpa *v, u16 idx, int fd)
{
	struct vhost_vq *vq = &v->vqs[idx];
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.u32 = idx };
	int err = 0;

	if (vq->watched)
		epoll_ctl(v->epoll, EPOLL_CTL_DEL, vq->kick, NULL);
	else if (vq->kick >= 0)
		err = parent_watches(v, idx, -1);
	if (vq->kick >= 0)
		close(vq->kick);
	vq->watched = false;
	vq->kick = fd;
	if (fd < 0)
		return 0;
	err = parent_watches(v, idx, fd);
	if (err != -EOPNOTSUPP)
		return err;
	/* One that is readable already shows at once. */
	err = start_kicker(v);
	if (!err && epoll_ctl(v->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
		err = -errno;
	vq->watched = !err;
	return err;
}

/* ---- Files ---- */

static void set_call(struct vhost_vdpa *v, u16 idx, int fd)
{
	struct vdpa_callback cb = vhost_callback(fd);
	int old = v->vqs[idx].call;

	v->vqs[idx].call = fd;
	vhost_dev_lock(v);
	v->dev->ops->set_vq_cb(v->dev, idx, &cb);
	vhost_dev_unlock(v);
	if (old >= 0)
		close(old);
}

static void set_err(struct vhost_vdpa *v, u16 idx, int fd)
{
	if (v->vqs[idx].err >= 0)
		close(v->vqs[idx].err);
	v->vqs[idx].err = fd;
}

static long vring_file(struct vhost_vdpa *v, struct vhost_call *c, u16 idx)
{
	struct vhost_vring_file file;
	int fd, err = vhost_arg(c, &file, sizeof(file));

	if (!err)
		err = vhost_arg_eventfd(c, file.fd, &fd);
	if (err)
		return err;
	if (c->req == VHOST_SET_VRING_KICK)
		return set_kick(v, idx, fd);
	if (c->req == VHOST_SET_VRING_CALL)
		set_call(v, idx, fd);
	else
		set_err(v, idx, fd);
	return 0;
}

void vhost_vring_release(struct vhost_vdpa *v)
{
	for (u32 i = 0; i < v->dev->nvqs; i++) {
		if (v->vqs[i].kick >= 0 && set_kick(v, (u16)i, -1))
			log_debug("vhost-vdpa-%u: queue %u keeps its kick eventfd", v->n, i);
		if (v->vqs[i].call >= 0)
			set_call(v, (u16)i, -1);
		set_err(v, (u16)i, -1);
		v->vqs[i] = (struct vhost_vq){ .kick = -1, .call = -1, .err = -1 };
	}
	stop_kicker(v);
}

/* ---- State ---- */

static long set_num(struct vhost_vdpa *v, u16 idx, u32 num)
{
	if (!num || num > UINT16_MAX || (num & (num - 1)))
		return -EINVAL;
	v->vqs[idx].num = num;
	vhost_dev_lock(v);
	v->dev->ops->set_vq_num(v->dev, idx, num);
	vhost_dev_unlock(v);
	return 0;
}

static long set_addr(struct vhost_vdpa *v, struct vhost_call *c, u16 idx)
{
	struct vhost_vring_addr a;
	int err = vhost_arg(c, &a, sizeof(a));

	if (err)
		return err;
	if (a.flags & ~(1u << VHOST_VRING_F_LOG))
		return -EOPNOTSUPP;
	if (a.used_user_addr & 3 || a.avail_user_addr & 1 || a.log_guest_addr & 3)
		return -EINVAL;
	const struct vdpa_vq_addr addr = {
		.desc = a.desc_user_addr, .driver = a.avail_user_addr, .device = a.used_user_addr,
	};

	vhost_dev_lock(v);
	err = v->dev->ops->set_vq_address(v->dev, idx, &addr);
	vhost_dev_unlock(v);
	return err ? -EINVAL : 0;
}

static long set_base(struct vhost_vdpa *v, u16 idx, u32 num)
{
	struct vhost_vq *vq = &v->vqs[idx];
	struct vdpa_vq_state s = { 0 };
	long ret;

	if (is_packed(v)) {
		vq->last_avail = (u16)num;
		vq->last_used = (u16)(num >> 16);
		s.packed.avail_idx = vq->last_avail & 0x7fff;
		s.packed.avail_wrap = vq->last_avail >> 15;
		s.packed.used_idx = vq->last_used & 0x7fff;
		s.packed.used_wrap = vq->last_used >> 15;
	} else {
		if (num > UINT16_MAX)
			return -EINVAL;
		vq->last_avail = (u16)num;
		s.split.avail = vq->last_avail;
	}
	vhost_dev_lock(v);
	ret = v->dev->ops->set_vq_state(v->dev, idx, &s);
	vhost_dev_unlock(v);
	return ret;
}

static long reply_state(struct vhost_call *c, u16 idx, u32 num)
{
	struct vhost_vring_state s = { .index = idx, .num = num };

	vhost_reply(c, &s, sizeof(s));
	return 0;
}

static long get_base(struct vhost_vdpa *v, struct vhost_call *c, u16 idx)
{
	struct vhost_vq *vq = &v->vqs[idx];
	struct vdpa_vq_state s = { 0 };
	int err;

	vhost_dev_lock(v);
	err = v->dev->ops->get_vq_state(v->dev, idx, &s);
	vhost_dev_unlock(v);
	if (err)
		return err;
	if (!is_packed(v)) {
		vq->last_avail = s.split.avail;
		return reply_state(c, idx, vq->last_avail);
	}
	vq->last_avail = (u16)((s.packed.avail_idx & 0x7fff) | (s.packed.avail_wrap ? 0x8000 : 0));
	vq->last_used = (u16)((s.packed.used_idx & 0x7fff) | (s.packed.used_wrap ? 0x8000 : 0));
	return reply_state(c, idx, vq->last_avail | (u32)vq->last_used << 16);
}

static long get_group(struct vhost_vdpa *v, struct vhost_call *c, u16 idx)
{
	u32 group;

	if (!v->dev->ops->get_vq_group)
		return -EOPNOTSUPP;
	vhost_dev_lock(v);
	group = v->dev->ops->get_vq_group(v->dev, idx);
	vhost_dev_unlock(v);
	return group >= v->dev->ngroups ? -EIO : reply_state(c, idx, group);
}

static long set_group_asid(struct vhost_vdpa *v, u32 group, u32 asid)
{
	long ret;

	if (group >= v->dev->ngroups || asid >= v->dev->nas)
		return -EINVAL;
	if (!v->dev->ops->set_group_asid)
		return -EOPNOTSUPP;
	vhost_dev_lock(v);
	ret = v->dev->ops->set_group_asid(v->dev, group, asid);
	vhost_dev_unlock(v);
	return ret;
}

static long set_enable(struct vhost_vdpa *v, u16 idx, u32 num)
{
	vhost_dev_lock(v);
	v->dev->ops->set_vq_ready(v->dev, idx, num != 0);
	vhost_dev_unlock(v);
	return 0;
}

/* Those whose argument is an index and a number. */
static long state_ioctl(struct vhost_vdpa *v, struct vhost_call *c, u16 idx)
{
	struct vhost_vring_state s;
	int err = vhost_arg(c, &s, sizeof(s));

	if (err)
		return err;
	switch (c->req) {
	case VHOST_SET_VRING_NUM:
		return set_num(v, idx, s.num);
	case VHOST_SET_VRING_BASE:
		return set_base(v, idx, s.num);
	case VHOST_GET_VRING_BASE:
		return get_base(v, c, idx);
	case VHOST_SET_VRING_BUSYLOOP_TIMEOUT:
		v->vqs[idx].busyloop = s.num;
		return 0;
	case VHOST_GET_VRING_BUSYLOOP_TIMEOUT:
		return reply_state(c, idx, v->vqs[idx].busyloop);
	case VHOST_VDPA_SET_VRING_ENABLE:
		return set_enable(v, idx, s.num);
	case VHOST_VDPA_GET_VRING_GROUP:
		return get_group(v, c, idx);
	case VHOST_VDPA_SET_GROUP_ASID:
		return set_group_asid(v, s.index, s.num);
	case VHOST_VDPA_GET_VRING_SIZE:
		return reply_state(c, idx, v->vqs[idx].num);
	default:	/* VHOST_VDPA_GET_VRING_DESC_GROUP: no parent keeps descriptors apart */
		return -EOPNOTSUPP;
	}
}

/* Whatever the number, the index comes first. For SET_GROUP_ASID it is a group's, and checked all the same. */
long vhost_vring_ioctl(struct vhost_vdpa *v, struct vhost_call *c)
{
	u32 idx;
	int err = vhost_arg(c, &idx, sizeof(idx));

	if (err)
		return err;
	if (idx >= v->dev->nvqs)
		return -ENOBUFS;
	switch (c->req) {
	case VHOST_SET_VRING_ADDR:
		return set_addr(v, c, (u16)idx);
	case VHOST_SET_VRING_KICK:
	case VHOST_SET_VRING_CALL:
	case VHOST_SET_VRING_ERR:
		return vring_file(v, c, (u16)idx);
	case VHOST_SET_VRING_NUM:
	case VHOST_SET_VRING_BASE:
	case VHOST_GET_VRING_BASE:
	case VHOST_SET_VRING_BUSYLOOP_TIMEOUT:
	case VHOST_GET_VRING_BUSYLOOP_TIMEOUT:
	case VHOST_VDPA_SET_VRING_ENABLE:
	case VHOST_VDPA_GET_VRING_GROUP:
	case VHOST_VDPA_SET_GROUP_ASID:
	case VHOST_VDPA_GET_VRING_SIZE:
	case VHOST_VDPA_GET_VRING_DESC_GROUP:
		return state_ioctl(v, c, (u16)idx);
	default:
		return -ENOTTY;
	}
}
