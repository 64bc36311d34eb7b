// SPDX-License-Identifier: MIT
/*
 * /dev/vduse/control: creation and destruction of devices, opening them by
 * name. Owns the list of devices; its lock covers `connected` and `vdpa` of
 * each too, and is never held while the bus or a daemon is waited for.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "vdpa/vduse/priv.h"

#define API_MAX VDUSE_API_1
#define CONFIG_MAX PAGE_SIZE
#define VQS_MAX 0xffffu
#define GROUPS_MAX 0xffffu
#define SPACES_MAX 0xffffu
#define BOUNCE_MIN (1ull << 20)
#define BOUNCE_MAX (1ull << 30)

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct list devices = LIST_INIT(devices);

/* Which classes may be made, and which features would let a driver trust the daemon with more than data. */
static const struct {
	u32 id;
	u64 refused, wanted;
	bool net_admin;
} classes[] = {
	/* A writable cache mode is a configuration field that the driver writes. */
	{ VIRTIO_ID_BLOCK, .refused = BIT(VIRTIO_BLK_F_CONFIG_WCE) },
	/* A driver waits for the control queue without an end; before VERSION_1 it writes the configuration. */
	{ VIRTIO_ID_NET, .refused = BIT(VIRTIO_NET_F_CTRL_VQ), .wanted = BIT(VIRTIO_F_VERSION_1), .net_admin = true },
};

struct vduse_dev *vduse_lookup(const char *name)
{
	struct list *p;

	pthread_mutex_lock(&list_lock);
	list_for_each(p, &devices) {
		struct vduse_dev *d = list_entry(p, struct vduse_dev, node);

		if (!strcmp(d->name, name))
			return d;
	}
	return NULL;
}

void vduse_lock_list(void)
{
	pthread_mutex_lock(&list_lock);
}

void vduse_unlock_list(void)
{
	pthread_mutex_unlock(&list_lock);
}

/* Of API version 1: groups and address spaces; what is left of the reserved words is zero. */
static bool groups_ok(const struct vduse_dev_config_api1 *c, u64 api_version)
{
	for (unsigned i = 0; i < ARRAY_SIZE(c->reserved); i++)
		if (c->reserved[i])
			return false;
	if (api_version < VDUSE_API_1)
		return !c->ngroups && !c->nas;
	return c->ngroups && c->ngroups <= GROUPS_MAX && c->nas && c->nas <= SPACES_MAX;
}

static bool config_ok(const struct vduse_dev_config_api1 *c, u64 api_version)
{
	if (!groups_ok(c, api_version))
		return false;
	if (c->vq_align > PAGE_SIZE || c->config_size > CONFIG_MAX || c->vq_num > VQS_MAX || !c->name[0])
		return false;
	/* The driver must use the DMA interface, or it would give the daemon its own addresses. */
	if (!(c->features & BIT(VIRTIO_F_ACCESS_PLATFORM)))
		return false;
	for (unsigned i = 0; i < ARRAY_SIZE(classes); i++)
		if (classes[i].id == c->device_id)
			return !(c->features & classes[i].refused) &&
			       (c->features & classes[i].wanted) == classes[i].wanted;
	return false;
}

static bool needs_net_admin(u32 device_id)
{
	for (unsigned i = 0; i < ARRAY_SIZE(classes); i++)
		if (classes[i].id == device_id)
			return classes[i].net_admin;
	return false;
}

static void dev_free(struct vduse_dev *d)
{
	if (d->page)
		munmap(d->page, d->nvqs * sizeof(*d->page));
	if (d->page_fd >= 0)
		close(d->page_fd);
	for (u32 i = 0; d->as && i < d->nas; i++)
		if (d->as[i])
			vdpa_iotlb_free(d->as[i]);
	for (u32 i = 0; d->vqs && i < d->nvqs; i++)
		if (d->vqs[i].kickfd >= 0)
			close(d->vqs[i].kickfd);
	pthread_cond_destroy(&d->quiet);
	pthread_mutex_destroy(&d->lock);
	free(d->as);
	free(d->group_as);
	free(d->vqs);
	free(d->config);
	free(d);
}

/* The page is written here and only read elsewhere: the seal leaves our own mapping as it is. */
static int page_init(struct vduse_dev *d)
{
	size_t size = d->nvqs * sizeof(*d->page);

	d->page_fd = memfd_create("vduse-page", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (d->page_fd < 0 || ftruncate(d->page_fd, (off_t)size) < 0)
		return -errno;
	if (!size)
		return 0;
	d->page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, d->page_fd, 0);
	if (d->page == MAP_FAILED) {
		d->page = NULL;
		return -errno;
	}
	if (fcntl(d->page_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0)
		return -errno;
	return 0;
}

static struct vduse_dev *dev_new(const struct vduse_control *ctl, const struct vduse_dev_config_api1 *c,
				 const void *space, int *err)
{
	struct vduse_dev *d = calloc(1, sizeof(*d));

	*err = -ENOMEM;
	if (!d)
		return NULL;
	memcpy(d->name, c->name, sizeof(d->name) - 1);
	d->api_version = ctl->api_version;
	d->device_id = c->device_id;
	d->vendor_id = c->vendor_id;
	d->nvqs = c->vq_num;
	d->align = c->vq_align;
	d->features = c->features;
	d->ngroups = max(c->ngroups, 1u);
	d->nas = max(c->nas, 1u);
	d->config_size = c->config_size;
	d->page_fd = -1;
	d->bounce_size = VDPA_BOUNCE_SIZE;
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->quiet, NULL);
	vduse_msg_init(d);
	d->config = malloc(max(c->config_size, 1u));
	d->vqs = calloc(max(c->vq_num, 1u), sizeof(*d->vqs));
	d->group_as = calloc(d->ngroups, sizeof(*d->group_as));
	d->as = calloc(d->nas, sizeof(*d->as));
	if (!d->config || !d->vqs || !d->group_as || !d->as)
		goto fail;
	d->as[0] = vdpa_iotlb_new(VDPA_IOTLB_ENTRIES);
	if (!d->as[0])
		goto fail;
	memcpy(d->config, space, c->config_size);
	for (u32 i = 0; i < d->nvqs; i++) {
		d->vqs[i].kickfd = -1;
		d->vqs[i].cb.eventfd = -1;
	}
	d->config_cb.eventfd = -1;
	*err = page_init(d);
	if (*err)
		goto fail;
	return d;
fail:
	dev_free(d);
	return NULL;
}

static long create(const struct vduse_control *ctl, const u8 *arg, size_t len)
{
	struct vduse_dev_config_api1 c;
	struct vduse_dev *d;
	int ret;

	memcpy(&c, arg, sizeof(c));
	if (!config_ok(&c, ctl->api_version))
		return -EINVAL;
	if (len < sizeof(c) + c.config_size)
		return -EFAULT;
	if (ctl->no_net_admin && needs_net_admin(c.device_id))
		return -EPERM;
	c.name[sizeof(c.name) - 1] = '\0';
	d = dev_new(ctl, &c, arg + sizeof(c), &ret);
	if (!d)
		return ret;
	ret = vduse_lookup(c.name) ? -EEXIST : 0;
	if (!ret)
		list_add_tail(&d->node, &devices);
	vduse_unlock_list();
	if (ret)
		dev_free(d);
	return ret;
}

static long destroy(char *name)
{
	struct vduse_dev *d;
	int ret = 0;

	name[VDUSE_NAME_MAX - 1] = '\0';
	d = vduse_lookup(name);
	if (!d)
		ret = -EINVAL;
	else if (d->vdpa || d->connected)
		ret = -EBUSY;
	else
		list_del(&d->node);
	vduse_unlock_list();
	if (!ret)
		dev_free(d);
	return ret;
}

long vduse_control_ioctl(struct vduse_control *c, u32 nr, void *arg, size_t len)
{
	u64 version;

	if (nr == (u32)VDUSE_GET_API_VERSION || nr == (u32)VDUSE_SET_API_VERSION ||
	    nr == (u32)VDUSE_CREATE_DEV || nr == (u32)VDUSE_DESTROY_DEV) {
		if (len < _IOC_SIZE(nr))
			return -EFAULT;
	}
	switch (nr) {
	case VDUSE_GET_API_VERSION:
		memcpy(arg, &c->api_version, sizeof(u64));
		return 0;
	case VDUSE_SET_API_VERSION:
		memcpy(&version, arg, sizeof(version));
		if (version > API_MAX)
			return -EINVAL;
		c->api_version = version;
		return 0;
	case VDUSE_CREATE_DEV:
		return create(c, arg, len);
	case VDUSE_DESTROY_DEV:
		return destroy(arg);
	default:
		return -EINVAL;
	}
}

int vduse_open(const char *name, struct vduse_dev **out, int *sock)
{
	struct vduse_dev *d = vduse_lookup(name);
	int ret = 0;

	if (!d) {
		ret = -ENODEV;
	} else if (d->connected) {
		ret = -EBUSY;
	} else {
		pthread_mutex_lock(&d->lock);
		ret = vduse_msg_connect(d);
		pthread_mutex_unlock(&d->lock);
	}
	if (ret >= 0) {
		*sock = ret;
		*out = d;
		d->connected = true;
		ret = 0;
	}
	vduse_unlock_list();
	return ret;
}

void vduse_close(struct vduse_dev *d)
{
	vduse_lock_list();
	pthread_mutex_lock(&d->lock);
	d->umem.set = false;
	vduse_msg_disconnect(d);
	pthread_mutex_unlock(&d->lock);
	d->connected = false;
	vduse_unlock_list();
}

int vduse_set_msg_timeout(const char *name, unsigned seconds)
{
	struct vduse_dev *d = vduse_lookup(name);

	if (d) {
		pthread_mutex_lock(&d->lock);
		d->timeout = seconds;
		pthread_mutex_unlock(&d->lock);
	}
	vduse_unlock_list();
	return d ? 0 : -ENODEV;
}

int vduse_get_msg_timeout(const char *name, unsigned *seconds)
{
	struct vduse_dev *d = vduse_lookup(name);

	if (d) {
		pthread_mutex_lock(&d->lock);
		*seconds = d->timeout;
		pthread_mutex_unlock(&d->lock);
	}
	vduse_unlock_list();
	return d ? 0 : -ENODEV;
}

int vduse_set_bounce_size(const char *name, u64 bytes)
{
	struct vduse_dev *d = vduse_lookup(name);
	int ret = 0;

	if (!d)
		ret = -ENODEV;
	else if (d->was_attached)
		ret = -EPERM;
	else if (bytes < BOUNCE_MIN || bytes > BOUNCE_MAX)
		ret = -EINVAL;
	else
		d->bounce_size = bytes & PAGE_MASK;
	vduse_unlock_list();
	return ret;
}

unsigned vduse_count(void)
{
	struct list *p;
	unsigned n = 0;

	pthread_mutex_lock(&list_lock);
	list_for_each(p, &devices)
		n++;
	pthread_mutex_unlock(&list_lock);
	return n;
}

int vduse_init(void)
{
	return vdpa_mgmtdev_register(&vduse_mgmt);
}

void vduse_exit(void)
{
	vdpa_mgmtdev_unregister(&vduse_mgmt);
	pthread_mutex_lock(&list_lock);
	while (!list_empty(&devices)) {
		struct vduse_dev *d = list_entry(devices.next, struct vduse_dev, node);

		list_del(&d->node);
		dev_free(d);
	}
	pthread_mutex_unlock(&list_lock);
}
