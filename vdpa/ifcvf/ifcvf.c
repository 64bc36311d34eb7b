// SPDX-License-Identifier: MIT
/*
 * The driver's operations, and its management device.
 *
 * The chip has no IOMMU of its own: mappings go into the domain that the host
 * keeps for the function. Operations come with the device's lock held, so the
 * registers need no other; callbacks are covered by the host's interrupt lock.
 */
#include "vdpa/ifcvf/ifcvf.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "vdpa/ifcvf/hw.h"

struct ifcvf {
	struct vdpa_mgmtdev mgmt;
	char address[16];
	struct ifcvf_hw hw;
	pthread_mutex_t lock;		/* of @in_use */
	bool in_use;			/* one device per function */
};

struct adapter {
	struct vdpa_device vdpa;
	struct ifcvf *f;
};

static struct ifcvf_hw *hw_of(struct vdpa_device *d)
{
	return &container_of(d, struct adapter, vdpa)->f->hw;
}

/* ---- Queues ---- */

static int set_vq_address(struct vdpa_device *d, u16 vq, const struct vdpa_vq_addr *a)
{
	hw_of(d)->vring[vq].addr = *a;
	return 0;
}

static void set_vq_num(struct vdpa_device *d, u16 vq, u32 num)
{
	hw_of(d)->vring[vq].num = num;
}

static void kick_vq(struct vdpa_device *d, u16 vq)
{
	ifcvf_kick(hw_of(d), vq);
}

static void set_vq_cb(struct vdpa_device *d, u16 vq, const struct vdpa_callback *cb)
{
	struct ifcvf_hw *hw = hw_of(d);

	host_irq_lock(hw->host);
	hw->vring[vq].cb = *cb;
	host_irq_unlock(hw->host);
}

static void set_vq_ready(struct vdpa_device *d, u16 vq, bool ready)
{
	hw_of(d)->vring[vq].ready = ready;
}

static bool get_vq_ready(struct vdpa_device *d, u16 vq)
{
	return hw_of(d)->vring[vq].ready;
}

static int set_vq_state(struct vdpa_device *d, u16 vq, const struct vdpa_vq_state *s)
{
	ifcvf_set_position(hw_of(d), vq, s->split.avail);
	return 0;
}

static int get_vq_state(struct vdpa_device *d, u16 vq, struct vdpa_vq_state *s)
{
	s->split.avail = ifcvf_get_position(hw_of(d), vq);
	return 0;
}

static u32 get_vq_align(struct vdpa_device *d)
{
	return IFCVF_QUEUE_ALIGN;
}

static u16 get_vq_num_max(struct vdpa_device *d)
{
	return IFCVF_QUEUE_MAX;
}

static int get_doorbell(struct vdpa_device *d, u16 vq, int *fd, u64 *off)
{
	struct ifcvf_hw *hw = hw_of(d);

	/* What a queue is given is as long as the distance to the next one, and only a page can be mapped. */
	if (hw->notify_multiplier && hw->notify_multiplier != PAGE_SIZE)
		return -EOPNOTSUPP;
	*fd = vfunc_doorbell_file(host_func(hw->host));
	*off = hw->notify_off + hw->vring[vq].doorbell;
	return *fd < 0 ? -EOPNOTSUPP : 0;
}

/* ---- Features, status, configuration ---- */

static u64 get_device_features(struct vdpa_device *d)
{
	return hw_of(d)->features;
}

static int set_driver_features(struct vdpa_device *d, u64 features)
{
	if (features && !(features & BIT(VIRTIO_F_ACCESS_PLATFORM)))
		return -EINVAL;
	hw_of(d)->req_features = features;
	return 0;
}

static u64 get_driver_features(struct vdpa_device *d)
{
	return hw_of(d)->req_features;
}

static void set_config_cb(struct vdpa_device *d, const struct vdpa_callback *cb)
{
	struct ifcvf_hw *hw = hw_of(d);

	host_irq_lock(hw->host);
	hw->config_cb = *cb;
	host_irq_unlock(hw->host);
}

static u32 get_device_id(struct vdpa_device *d)
{
	return hw_of(d)->type;
}

static u32 get_vendor_id(struct vdpa_device *d)
{
	return hw_of(d)->vendor;
}

static u8 get_status(struct vdpa_device *d)
{
	return ifcvf_get_status(hw_of(d));
}

static void set_status(struct vdpa_device *d, u8 status)
{
	struct ifcvf_hw *hw = hw_of(d);
	u8 old = ifcvf_get_status(hw);

	if (status == old)
		return;
	if ((status & VIRTIO_CONFIG_S_DRIVER_OK) && !(old & VIRTIO_CONFIG_S_DRIVER_OK)) {
		/* Refused: the status says so. */
		(void)!ifcvf_start(hw, status);
		return;
	}
	if (!(status & VIRTIO_CONFIG_S_DRIVER_OK) && (old & VIRTIO_CONFIG_S_DRIVER_OK))
		ifcvf_stop(hw);
	ifcvf_set_status(hw, status);
}

static void drop_state(struct ifcvf_hw *hw)
{
	ifcvf_stop(hw);
	hw->req_features = 0;
	host_irq_lock(hw->host);
	for (u16 i = 0; i < hw->nr_queues; i++) {
		struct ifcvf_vring *vr = &hw->vring[i];

		vr->ready = false;
		vr->num = 0;
		vr->addr = (struct vdpa_vq_addr){ 0 };
		vr->cb = VDPA_NO_CALLBACK;
	}
	host_irq_unlock(hw->host);
}

/* The positions stay in the card: drivers read them after a reset. */
static int reset(struct vdpa_device *d)
{
	drop_state(hw_of(d));
	return 0;
}

static size_t get_config_size(struct vdpa_device *d)
{
	return hw_of(d)->config_size;
}

static bool in_config(const struct ifcvf_hw *hw, u32 off, u32 len)
{
	return off <= hw->config_size && len <= hw->config_size - off;
}

static void get_config(struct vdpa_device *d, u32 off, void *buf, u32 len)
{
	struct ifcvf_hw *hw = hw_of(d);

	if (in_config(hw, off, len))
		ifcvf_read_config(hw, off, buf, len);
}

static void set_config(struct vdpa_device *d, u32 off, const void *buf, u32 len)
{
	struct ifcvf_hw *hw = hw_of(d);

	if (in_config(hw, off, len))
		ifcvf_write_config(hw, off, buf, len);
}

static u32 get_generation(struct vdpa_device *d)
{
	return ifcvf_get_generation(hw_of(d));
}

/* ---- Memory ---- */

static int dma_map(struct vdpa_device *d, u32 asid, const struct vdpa_map *m)
{
	return asid ? -EINVAL : host_map(hw_of(d)->host, m);
}

static int dma_unmap(struct vdpa_device *d, u32 asid, u64 start, u64 last)
{
	if (asid)
		return -EINVAL;
	host_unmap(hw_of(d)->host, start, last);
	return 0;
}

static void destroy(struct vdpa_device *d)
{
	struct adapter *a = container_of(d, struct adapter, vdpa);
	struct ifcvf *f = a->f;
	struct vdpa_callback none = VDPA_NO_CALLBACK;

	drop_state(&f->hw);
	host_irq_lock(f->hw.host);
	f->hw.config_cb = none;
	host_irq_unlock(f->hw.host);
	host_unmap(f->hw.host, 0, UINT64_MAX);
	free(a);
	pthread_mutex_lock(&f->lock);
	f->in_use = false;
	pthread_mutex_unlock(&f->lock);
}

static const struct vdpa_config_ops ops = {
	.set_vq_address = set_vq_address, .set_vq_num = set_vq_num, .kick_vq = kick_vq,
	.set_vq_cb = set_vq_cb, .set_vq_ready = set_vq_ready, .get_vq_ready = get_vq_ready,
	.set_vq_state = set_vq_state, .get_vq_state = get_vq_state, .get_vq_align = get_vq_align,
	.get_vq_num_max = get_vq_num_max, .get_device_features = get_device_features,
	.set_driver_features = set_driver_features, .get_driver_features = get_driver_features,
	.set_config_cb = set_config_cb, .get_device_id = get_device_id, .get_vendor_id = get_vendor_id,
	.get_status = get_status, .set_status = set_status, .reset = reset,
	.get_config_size = get_config_size, .get_config = get_config, .set_config = set_config,
	.get_generation = get_generation, .dma_map = dma_map, .dma_unmap = dma_unmap,
	.get_doorbell = get_doorbell, .free = destroy,
};

/* ---- Management device ---- */

static int dev_add(struct vdpa_mgmtdev *m, const char *name, const struct vdpa_dev_attrs *attrs)
{
	struct ifcvf *f = container_of(m, struct ifcvf, mgmt);
	struct adapter *a;
	bool taken;
	int err;

	pthread_mutex_lock(&f->lock);
	taken = f->in_use;
	f->in_use = true;
	pthread_mutex_unlock(&f->lock);
	if (taken)
		return vdpa_refuse(attrs, -EOPNOTSUPP, "ifcvf: the function has its device already");
	a = calloc(1, sizeof(*a));
	if (!a) {
		pthread_mutex_lock(&f->lock);
		f->in_use = false;
		pthread_mutex_unlock(&f->lock);
		return -ENOMEM;
	}
	a->f = f;
	vdpa_device_init(&a->vdpa, m, &ops, name, f->hw.nr_queues, 1, 1);
	err = vdpa_register(&a->vdpa);
	vdpa_put(&a->vdpa);
	return err;
}

static void dev_del(struct vdpa_mgmtdev *m, struct vdpa_device *d)
{
	vdpa_unregister(d);
}

int ifcvf_attach(struct host *h, const char *address, struct ifcvf **out)
{
	struct ifcvf *f;
	int err;

	if (!ifcvf_claims(h))
		return -ENODEV;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	err = ifcvf_probe(&f->hw, h);
	if (err)
		goto fail;
	snprintf(f->address, sizeof(f->address), "%s", address);
	pthread_mutex_init(&f->lock, NULL);
	f->mgmt = (struct vdpa_mgmtdev){
		.bus = "pci", .name = f->address, .classes = BIT(f->hw.type), .features = f->hw.features,
		.max_vqs = f->hw.nr_queues, .dev_add = dev_add, .dev_del = dev_del,
	};
	err = vdpa_mgmtdev_register(&f->mgmt);
	if (err)
		goto fail;
	*out = f;
	return 0;
fail:
	free(f);
	return err;
}

void ifcvf_detach(struct ifcvf *f)
{
	vdpa_mgmtdev_unregister(&f->mgmt);
	pthread_mutex_destroy(&f->lock);
	free(f);
}
