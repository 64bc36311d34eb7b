// SPDX-License-Identifier: MIT
/* /dev/vduse/NAME: the daemon's ioctls. */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "vdpa/vduse/priv.h"

static bool is_eventfd(int fd)
{
	char path[40], target[32];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return false;
	target[n] = '\0';
	return !strcmp(target, "anon_inode:[eventfd]");
}

static bool zero(const void *p, size_t len)
{
	const u8 *b = p;

	while (len--)
		if (*b++)
			return false;
	return true;
}

/* The region that [start, last] leads to. NULL: none. Foreign memory never gets into a table. */
static const struct vdpa_map *region(struct vduse_dev *d, u32 asid, u64 start, u64 last)
{
	if (start > last || asid >= d->nas || !d->as[asid])
		return NULL;
	return vdpa_iotlb_find(d->as[asid], start, last);
}

static long get_fd(struct vduse_dev *d, u32 asid, struct vduse_iotlb_entry *e, int *out_fd)
{
	const struct vdpa_map *m = region(d, asid, e->start, e->last);
	u64 off;
	int fd;

	if (!m)
		return -EINVAL;
	fd = vdpa_mem_file(m->mem, m->off, &off);
	if (fd < 0)
		return fd;
	fd = fcntl(fd, F_DUPFD, 0);
	if (fd < 0)
		return -errno;
	e->offset = off;
	e->start = m->start;
	e->last = m->last;
	e->perm = m->perm;
	*out_fd = fd;
	return 0;
}

static long iotlb_get_fd(struct vduse_dev *d, void *arg, int *out_fd)
{
	struct vduse_iotlb_entry e;
	long ret;

	memcpy(&e, arg, sizeof(e));
	ret = get_fd(d, 0, &e, out_fd);
	memcpy(arg, &e, sizeof(e));
	return ret;
}

static long iotlb_get_fd2(struct vduse_dev *d, void *arg, int *out_fd)
{
	struct vduse_iotlb_entry_v2 e;
	long ret;

	memcpy(&e, arg, sizeof(e));
	if (!zero(e.reserved, sizeof(e.reserved)))
		return -EINVAL;
	ret = get_fd(d, e.asid, &e.v1, out_fd);
	memcpy(arg, &e, sizeof(e));
	return ret;
}

/* Before API version 1 there is no such field, and its word is reserved. */
static bool asid_ok(const struct vduse_dev *d, u32 asid)
{
	return d->api_version >= VDUSE_API_1 ? asid < d->nas : !asid;
}

static long iotlb_get_info(struct vduse_dev *d, void *arg)
{
	struct vduse_iova_info_api1 i;
	const struct vdpa_map *m;

	memcpy(&i, arg, sizeof(i));
	if (!zero(i.reserved, sizeof(i.reserved)) || !asid_ok(d, i.asid))
		return -EINVAL;
	m = region(d, i.asid, i.start, i.last);
	if (!m)
		return -EINVAL;
	i.start = m->start;
	i.last = m->last;
	i.capability = 0;
	if (d->vdpa && d->domain.bounce_live && m->mem == d->domain.mem && m->start == 0 &&
	    m->last == d->domain.bounce_size - 1)
		i.capability |= VDUSE_IOVA_CAP_UMEM;
	memcpy(arg, &i, sizeof(i));
	return 0;
}

static long set_config(struct vduse_dev *d, const u8 *arg, size_t len)
{
	struct vduse_config_data c;

	memcpy(&c, arg, sizeof(c));
	if (c.offset > d->config_size || !c.length || c.length > d->config_size - c.offset)
		return -EINVAL;
	if (len < sizeof(c) + c.length)
		return -EFAULT;
	memcpy(d->config + c.offset, arg + sizeof(c), c.length);
	return 0;
}

static long inject_config_irq(struct vduse_dev *d)
{
	if (!(d->status & VIRTIO_CONFIG_S_DRIVER_OK))
		return -EINVAL;
	vduse_call(d, &d->config_cb, &d->config_calls);
	return 0;
}

static long vq_setup(struct vduse_dev *d, const void *arg)
{
	struct vduse_vq_config_api1 c;

	memcpy(&c, arg, sizeof(c));
	if (c.index >= d->nvqs || c.reserved1 || !zero(c.reserved2, sizeof(c.reserved2)))
		return -EINVAL;
	if (c.group >= d->ngroups || (d->api_version >= VDUSE_API_1 && (d->status & VIRTIO_CONFIG_S_DRIVER_OK)))
		return -EINVAL;
	d->vqs[c.index].num_max = c.max_size;
	d->vqs[c.index].group = c.group;
	return 0;
}

static long vq_get_info(struct vduse_dev *d, void *arg)
{
	struct vduse_vq_info i;
	const struct vduse_vq *q;

	memcpy(&i, arg, sizeof(i));
	if (i.index >= d->nvqs)
		return -EINVAL;
	q = &d->vqs[i.index];
	i.num = q->num;
	i.desc_addr = q->addr.desc;
	i.driver_addr = q->addr.driver;
	i.device_addr = q->addr.device;
	if (d->driver_features & BIT(VIRTIO_F_RING_PACKED))
		i.packed = (struct vduse_vq_state_packed){
			.last_avail_counter = q->state.packed.avail_wrap,
			.last_avail_idx = q->state.packed.avail_idx,
			.last_used_counter = q->state.packed.used_wrap,
			.last_used_idx = q->state.packed.used_idx,
		};
	else
		i.split.avail_index = q->state.split.avail;
	i.ready = q->ready;
	memcpy(arg, &i, sizeof(i));
	return 0;
}

static long vq_setup_kickfd(struct vduse_dev *d, const void *arg, int in_fd)
{
	struct vduse_vq_eventfd e;
	struct vduse_vq *q;
	int fd = -1;

	memcpy(&e, arg, sizeof(e));
	if (e.index >= d->nvqs)
		return -EINVAL;
	q = &d->vqs[e.index];
	if (e.fd >= 0) {
		if (in_fd < 0)
			return -EBADF;
		if (!is_eventfd(in_fd))
			return -EINVAL;
		fd = fcntl(in_fd, F_DUPFD_CLOEXEC, 0);
		if (fd < 0)
			return -errno;
	} else if (e.fd != VDUSE_EVENTFD_DEASSIGN) {
		return 0;
	}
	if (q->kickfd >= 0)
		close(q->kickfd);
	q->kickfd = fd;
	vduse_page_changed(&d->page[e.index].kick);
	if (fd >= 0 && q->ready && q->kicked) {
		q->kicked = false;
		vduse_signal(fd);
	}
	return 0;
}

static long vq_inject_irq(struct vduse_dev *d, const void *arg, int *out_fd, u32 *seq)
{
	struct vduse_vq *q;
	u32 index;

	memcpy(&index, arg, sizeof(index));
	if (index >= d->nvqs || !(d->status & VIRTIO_CONFIG_S_DRIVER_OK))
		return -EINVAL;
	q = &d->vqs[index];
	if (!q->ready)
		return 0;
	if (q->cb.eventfd >= 0) {
		*seq = atomic_load(&d->page[index].irq);
		*out_fd = fcntl(q->cb.eventfd, F_DUPFD_CLOEXEC, 0);
	}
	vduse_call(d, &q->cb, &q->calls);
	return 0;
}

/* Bounce memory is in the first address space. */
static long umem_reg(struct vduse_dev *d, const void *arg)
{
	struct vduse_iova_umem_api1 u;

	memcpy(&u, arg, sizeof(u));
	if (!zero(u.reserved, sizeof(u.reserved)) || !asid_ok(d, u.asid))
		return -EINVAL;
	if (!d->vdpa || u.asid || !d->domain.bounce_live || u.iova || u.size != d->domain.bounce_size ||
	    !is_aligned(u.uaddr, PAGE_SIZE))
		return -EINVAL;
	if (d->umem.set)
		return -EEXIST;
	d->umem.set = true;
	d->umem.uaddr = u.uaddr;
	return 0;
}

static long umem_dereg(struct vduse_dev *d, void *arg)
{
	struct vduse_iova_umem_api1 u;

	memcpy(&u, arg, sizeof(u));
	if (!zero(u.reserved, sizeof(u.reserved)) || !asid_ok(d, u.asid))
		return -EINVAL;
	if (!d->umem.set || u.asid)
		return -ENOENT;
	if (!d->vdpa || u.iova || u.size != d->domain.bounce_size)
		return -EINVAL;
	d->umem.set = false;
	/* The struct does not have to name it; who gives the memory back needs it. */
	u.uaddr = d->umem.uaddr;
	memcpy(arg, &u, sizeof(u));
	return 0;
}

static bool known(const struct vduse_dev *d, u32 nr)
{
	switch (nr) {
	case VDUSE_IOTLB_GET_FD:
	case VDUSE_DEV_GET_FEATURES:
	case VDUSE_DEV_SET_CONFIG:
	case VDUSE_DEV_INJECT_CONFIG_IRQ:
	case VDUSE_VQ_SETUP:
	case VDUSE_VQ_GET_INFO:
	case VDUSE_VQ_SETUP_KICKFD:
	case VDUSE_VQ_INJECT_IRQ:
	case VDUSE_IOTLB_REG_UMEM:
	case VDUSE_IOTLB_DEREG_UMEM:
	case VDUSE_IOTLB_GET_INFO:
		return true;
	case VDUSE_IOTLB_GET_FD2:
		return d->api_version >= VDUSE_API_1;
	default:
		return false;
	}
}

static long dispatch(struct vduse_dev *d, u32 nr, void *arg, size_t len, int in_fd, int *out_fd, u32 *seq)
{
	if (!known(d, nr))
		return -ENOTTY;
	if (len < _IOC_SIZE(nr))
		return -EFAULT;
	switch (nr) {
	case VDUSE_IOTLB_GET_FD:
		return iotlb_get_fd(d, arg, out_fd);
	case VDUSE_IOTLB_GET_FD2:
		return iotlb_get_fd2(d, arg, out_fd);
	case VDUSE_DEV_GET_FEATURES:
		memcpy(arg, &d->driver_features, sizeof(u64));
		return 0;
	case VDUSE_DEV_SET_CONFIG:
		return set_config(d, arg, len);
	case VDUSE_DEV_INJECT_CONFIG_IRQ:
		return inject_config_irq(d);
	case VDUSE_VQ_SETUP:
		return vq_setup(d, arg);
	case VDUSE_VQ_GET_INFO:
		return vq_get_info(d, arg);
	case VDUSE_VQ_SETUP_KICKFD:
		return vq_setup_kickfd(d, arg, in_fd);
	case VDUSE_VQ_INJECT_IRQ:
		return vq_inject_irq(d, arg, out_fd, seq);
	case VDUSE_IOTLB_REG_UMEM:
		return umem_reg(d, arg);
	case VDUSE_IOTLB_DEREG_UMEM:
		return umem_dereg(d, arg);
	case VDUSE_IOTLB_GET_INFO:
		return iotlb_get_info(d, arg);
	default:
		return -ENOTTY;
	}
}

long vduse_ioctl(struct vduse_dev *d, u32 nr, void *arg, size_t len, int in_fd, int *out_fd, u32 *seq)
{
	long ret;

	*out_fd = -1;
	*seq = 0;
	pthread_mutex_lock(&d->lock);
	ret = d->broken ? -EPERM : dispatch(d, nr, arg, len, in_fd, out_fd, seq);
	pthread_mutex_unlock(&d->lock);
	return ret;
}

int vduse_page_fd(struct vduse_dev *d)
{
	return d->page_fd;
}

int vduse_domain_fd(struct vduse_dev *d)
{
	int fd;

	pthread_mutex_lock(&d->lock);
	fd = d->vdpa && d->domain.bounce_live ? d->domain.fd : -EINVAL;
	pthread_mutex_unlock(&d->lock);
	return fd;
}
