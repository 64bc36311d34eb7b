// SPDX-License-Identifier: MIT
/*
 * ioctls of a node, in the order of Linux: those of vDPA answer anybody who has
 * the descriptor; the common ones of vhost, queues included, only the owner.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/virtio_config.h>

#include "base/log.h"
#include "vdpa/callback.h"
#include "vdpa/vhost/vhost_priv.h"

#define MAX_MEM_REGIONS 64
#define ENOTSUPP 524	/* Linux-internal, and leaked by its mmap */

/* ---- Arguments ---- */

int vhost_arg(const struct vhost_call *c, void *to, size_t size)
{
	if (c->in_len < size)
		return -EFAULT;
	memcpy(to, c->in, size);
	return 0;
}

void vhost_reply(struct vhost_call *c, const void *from, size_t size)
{
	BUG_ON(size > sizeof(c->out));
	memcpy(c->out, from, size);
	c->out_len = (u32)size;
}

static bool is_eventfd(int fd)
{
	char path[32], to[32];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, to, sizeof(to));
	return n == 20 && !memcmp(to, "anon_inode:[eventfd]", 20);
}

int vhost_take_eventfd(int fd, int *to)
{
	*to = -1;
	if (fd < 0)
		return 0;
	if (fcntl(fd, F_GETFD) < 0)
		return -EBADF;
	if (!is_eventfd(fd))
		return -EINVAL;
	*to = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return *to < 0 ? -errno : 0;
}

/* The int in an argument that names a descriptor: -1 is "none", other negatives name nothing. */
int vhost_arg_eventfd(const struct vhost_call *c, int named, int *to)
{
	*to = -1;
	if (named == VHOST_FILE_UNBIND)
		return 0;
	return c->fd < 0 ? -EBADF : vhost_take_eventfd(c->fd, to);
}

static void signal_fd(void *arg)
{
	const struct vdpa_callback cb = { .eventfd = (int)(long)arg };

	vdpa_callback_run(&cb);
}

struct vdpa_callback vhost_callback(int fd)
{
	return (struct vdpa_callback){
		.fn = fd >= 0 ? signal_fd : NULL, .arg = (void *)(long)fd, .eventfd = fd,
	};
}

/* ---- The device ---- */

u8 vhost_get_status(struct vhost_vdpa *v)
{
	u8 status;

	vhost_dev_lock(v);
	status = v->dev->ops->get_status(v->dev);
	vhost_dev_unlock(v);
	return status;
}

static long get_u64(struct vhost_vdpa *v, struct vhost_call *c, u64 (*get)(struct vdpa_device *d))
{
	u64 value;

	vhost_dev_lock(v);
	value = get(v->dev);
	vhost_dev_unlock(v);
	vhost_reply(c, &value, sizeof(value));
	return 0;
}

static long get_u32(struct vhost_vdpa *v, struct vhost_call *c, u32 (*get)(struct vdpa_device *d))
{
	u32 value;

	vhost_dev_lock(v);
	value = get(v->dev);
	vhost_dev_unlock(v);
	vhost_reply(c, &value, sizeof(value));
	return 0;
}

static long reply_u32(struct vhost_call *c, u32 value)
{
	vhost_reply(c, &value, sizeof(value));
	return 0;
}

static long set_status(struct vhost_vdpa *v, struct vhost_call *c)
{
	u8 status, old = vhost_get_status(v);
	int err = vhost_arg(c, &status, sizeof(status));

	if (err)
		return err;
	/* Bits are only taken away all at once. */
	if (status && (old & ~status))
		return -EINVAL;
	if (!status)
		return vdpa_reset(v->dev);
	vdpa_set_status(v->dev, status);
	return 0;
}

static long set_features(struct vhost_vdpa *v, struct vhost_call *c)
{
	u64 features;
	int err;

	if (vhost_get_status(v) & VIRTIO_CONFIG_S_FEATURES_OK)
		return -EBUSY;
	err = vhost_arg(c, &features, sizeof(features));
	if (err)
		return err;
	if (vdpa_set_features(v->dev, features))
		return -EINVAL;
	vhost_dev_lock(v);
	v->features = v->dev->ops->get_driver_features(v->dev);
	vhost_dev_unlock(v);
	return 0;
}

static size_t config_size(struct vhost_vdpa *v)
{
	size_t size;

	vhost_dev_lock(v);
	size = v->dev->ops->get_config_size(v->dev);
	vhost_dev_unlock(v);
	return size;
}

static long config(struct vhost_vdpa *v, struct vhost_call *c, bool set)
{
	struct { u32 off, len; } h;
	size_t size = config_size(v);
	int err = vhost_arg(c, &h, sizeof(h));

	if (err)
		return err;
	if (!h.len || h.off > size || h.len > size - h.off || h.len > sizeof(c->out))
		return -EINVAL;
	if (!set) {
		vdpa_get_config(v->dev, h.off, c->out, h.len);
		c->out_len = h.len;
		return 0;
	}
	if (c->in_len - sizeof(h) < h.len)
		return -EFAULT;
	vdpa_set_config(v->dev, h.off, (const u8 *)c->in + sizeof(h), h.len);
	return 0;
}

static long set_config_call(struct vhost_vdpa *v, struct vhost_call *c)
{
	struct vdpa_callback cb;
	int named, fd, old, err = vhost_arg(c, &named, sizeof(named));

	if (err)
		return err;
	/* A descriptor that is refused takes the old one away nevertheless, as Linux does. */
	err = vhost_arg_eventfd(c, named, &fd);
	old = v->config_call;
	v->config_call = fd;
	cb = vhost_callback(fd);
	vhost_dev_lock(v);
	v->dev->ops->set_config_cb(v->dev, &cb);
	vhost_dev_unlock(v);
	if (old >= 0)
		close(old);
	return err;
}

static u64 backend_features(const struct vhost_vdpa *v)
{
	const struct vdpa_config_ops *ops = v->dev->ops;

	return 1ull << VHOST_BACKEND_F_IOTLB_MSG_V2 | 1ull << VHOST_BACKEND_F_IOTLB_BATCH |
	       1ull << VHOST_BACKEND_F_IOTLB_ASID | (u64)!!ops->suspend << VHOST_BACKEND_F_SUSPEND |
	       (u64)!!ops->resume << VHOST_BACKEND_F_RESUME;
}

static long set_backend_features(struct vhost_vdpa *v, struct vhost_call *c)
{
	u64 features;
	int err = vhost_arg(c, &features, sizeof(features));

	if (err)
		return err;
	if (features & ~backend_features(v))
		return -EOPNOTSUPP;
	v->backend_features = features;
	return 0;
}

static long run_op(struct vhost_vdpa *v, int (*op)(struct vdpa_device *d))
{
	long ret;

	if (!op)
		return -EOPNOTSUPP;
	vhost_dev_lock(v);
	ret = op(v->dev);
	vhost_dev_unlock(v);
	return ret;
}

static long get_vring_num(struct vhost_vdpa *v, struct vhost_call *c)
{
	u16 num;

	vhost_dev_lock(v);
	num = v->dev->ops->get_vq_num_max(v->dev);
	vhost_dev_unlock(v);
	vhost_reply(c, &num, sizeof(num));
	return 0;
}

static long get_iova_range(struct vhost_vdpa *v, struct vhost_call *c)
{
	struct vhost_vdpa_iova_range range = { .first = v->first, .last = v->last };

	vhost_reply(c, &range, sizeof(range));
	return 0;
}

/* ---- Common vhost ---- */

static long set_owner(struct vhost_vdpa *v, struct vhost_call *c)
{
	if (v->owner)
		return -EBUSY;
	v->owner = c->pid;
	return 0;
}

/* No use for a table of memory here, but a well-formed one is accepted. */
static long set_mem_table(struct vhost_call *c)
{
	struct { u32 nregions, padding; } h;
	int err = vhost_arg(c, &h, sizeof(h));

	if (err)
		return err;
	if (h.padding)
		return -EOPNOTSUPP;
	return h.nregions > MAX_MEM_REGIONS ? -E2BIG : 0;
}

static long common_ioctl(struct vhost_vdpa *v, struct vhost_call *c)
{
	if (c->req == VHOST_SET_OWNER)
		return set_owner(v, c);
	if (!v->owner || v->owner != c->pid)
		return -EPERM;
	return c->req == VHOST_SET_MEM_TABLE ? set_mem_table(c) : vhost_vring_ioctl(v, c);
}

static long ioctl_locked(struct vhost_vdpa *v, struct vhost_call *c)
{
	const struct vdpa_config_ops *ops = v->dev->ops;

	switch (c->req) {
	case VHOST_VDPA_GET_DEVICE_ID:
		return get_u32(v, c, ops->get_device_id);
	case VHOST_VDPA_GET_STATUS: {
		u8 status = vhost_get_status(v);

		vhost_reply(c, &status, sizeof(status));
		return 0;
	}
	case VHOST_VDPA_SET_STATUS:
		return set_status(v, c);
	case VHOST_VDPA_GET_CONFIG:
		return config(v, c, false);
	case VHOST_VDPA_SET_CONFIG:
		return config(v, c, true);
	case VHOST_GET_FEATURES:
		return get_u64(v, c, ops->get_device_features);
	case VHOST_SET_FEATURES:
		return set_features(v, c);
	case VHOST_GET_BACKEND_FEATURES: {
		u64 features = backend_features(v);

		vhost_reply(c, &features, sizeof(features));
		return 0;
	}
	case VHOST_SET_BACKEND_FEATURES:
		return set_backend_features(v, c);
	case VHOST_VDPA_GET_VRING_NUM:
		return get_vring_num(v, c);
	case VHOST_VDPA_GET_GROUP_NUM:
		return reply_u32(c, v->dev->ngroups);
	case VHOST_VDPA_GET_AS_NUM:
		return reply_u32(c, v->dev->nas);
	case VHOST_VDPA_GET_VQS_COUNT:
		return reply_u32(c, v->dev->nvqs);
	case VHOST_VDPA_GET_CONFIG_SIZE:
		return reply_u32(c, (u32)config_size(v));
	case VHOST_VDPA_SET_CONFIG_CALL:
		return set_config_call(v, c);
	case VHOST_VDPA_GET_IOVA_RANGE:
		return get_iova_range(v, c);
	case VHOST_VDPA_SUSPEND:
		return run_op(v, ops->suspend);
	case VHOST_VDPA_RESUME:
		return run_op(v, ops->resume);
	case VHOST_SET_LOG_BASE:
	case VHOST_SET_LOG_FD:
		return -ENOTTY;
	default:
		return common_ioctl(v, c);
	}
}

long vhost_vdpa_ioctl(struct vhost_vdpa *v, struct vhost_call *c)
{
	long ret;

	c->out_len = 0;
	pthread_mutex_lock(&v->lock);
	ret = ioctl_locked(v, c);
	pthread_mutex_unlock(&v->lock);
	return ret;
}

int vhost_vdpa_doorbell(struct vhost_vdpa *v, u64 vq, size_t len, int prot, int flags, u64 *off)
{
	int fd, ret;

	if (len != PAGE_SIZE || !(flags & MAP_SHARED) || (prot & PROT_READ) || vq > UINT16_MAX)
		return -EINVAL;
	if (!v->dev->ops->get_doorbell)
		return -ENOTSUPP;
	if (vq >= v->dev->nvqs)
		return -EINVAL;
	vhost_dev_lock(v);
	ret = v->dev->ops->get_doorbell(v->dev, (u16)vq, &fd, off);
	vhost_dev_unlock(v);
	if (ret)
		return ret == -EOPNOTSUPP ? -ENOTSUPP : ret;
	if (*off & ~PAGE_MASK)
		return -EINVAL;
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? -errno : fd;
}
