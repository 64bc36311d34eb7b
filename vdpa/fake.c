// SPDX-License-Identifier: MIT
/* The device of the tests; see fake.h. */
#include "vdpa/fake.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define ACCESS_PLATFORM (1ull << 33)

static struct fake *to_fake(struct vdpa_device *d)
{
	return container_of(d, struct fake, dev);
}

static int set_vq_address(struct vdpa_device *d, u16 vq, const struct vdpa_vq_addr *a)
{
	to_fake(d)->vq[vq].addr = *a;
	return 0;
}

static void set_vq_num(struct vdpa_device *d, u16 vq, u32 num)
{
	to_fake(d)->vq[vq].num = num;
}

static void kick_vq(struct vdpa_device *d, u16 vq)
{
	atomic_fetch_add(&to_fake(d)->vq[vq].kicks, 1);
}

static void set_vq_cb(struct vdpa_device *d, u16 vq, const struct vdpa_callback *cb)
{
	to_fake(d)->vq[vq].cb = *cb;
}

static void set_vq_ready(struct vdpa_device *d, u16 vq, bool ready)
{
	to_fake(d)->vq[vq].ready = ready;
}

static bool get_vq_ready(struct vdpa_device *d, u16 vq)
{
	return to_fake(d)->vq[vq].ready;
}

static int set_vq_state(struct vdpa_device *d, u16 vq, const struct vdpa_vq_state *s)
{
	to_fake(d)->vq[vq].state = *s;
	return 0;
}

static int get_vq_state(struct vdpa_device *d, u16 vq, struct vdpa_vq_state *s)
{
	*s = to_fake(d)->vq[vq].state;
	return 0;
}

static u32 get_vq_align(struct vdpa_device *d)
{
	return 4096;
}

static u32 get_vq_group(struct vdpa_device *d, u16 vq)
{
	return to_fake(d)->group_of[vq];
}

static u16 get_vq_num_max(struct vdpa_device *d)
{
	return to_fake(d)->num_max;
}

static u16 get_vq_num_min(struct vdpa_device *d)
{
	return to_fake(d)->num_min;
}

static u64 get_device_features(struct vdpa_device *d)
{
	return ACCESS_PLATFORM | 1ull << 32 | 1ull << 34 | 1ull << 5;
}

static int set_driver_features(struct vdpa_device *d, u64 features)
{
	struct fake *f = to_fake(d);

	if (f->features_err)
		return f->features_err;
	if (!(features & ACCESS_PLATFORM))
		return -EINVAL;
	f->features = features & get_device_features(d);
	return 0;
}

static u64 get_driver_features(struct vdpa_device *d)
{
	return to_fake(d)->features;
}

static void set_config_cb(struct vdpa_device *d, const struct vdpa_callback *cb)
{
	to_fake(d)->config_cb = *cb;
}

static u32 get_device_id(struct vdpa_device *d)
{
	return 1;
}

static u32 get_vendor_id(struct vdpa_device *d)
{
	return 0xfa4e;
}

static u8 get_status(struct vdpa_device *d)
{
	return to_fake(d)->status;
}

static void set_status(struct vdpa_device *d, u8 status)
{
	BUG_ON(!status);
	to_fake(d)->status = status;
}

static int reset(struct vdpa_device *d)
{
	struct fake *f = to_fake(d);

	f->resets++;
	f->status = 0;
	f->features = 0;
	f->suspended = false;
	for (unsigned i = 0; i < FAKE_VQS; i++) {
		f->vq[i].ready = false;
		f->vq[i].num = 0;
		f->vq[i].state = (struct vdpa_vq_state){ 0 };
	}
	return f->reset_err;
}

static int suspend(struct vdpa_device *d)
{
	to_fake(d)->suspended = true;
	return 0;
}

static int resume(struct vdpa_device *d)
{
	to_fake(d)->suspended = false;
	return 0;
}

static size_t get_config_size(struct vdpa_device *d)
{
	return FAKE_CONFIG;
}

static void get_config(struct vdpa_device *d, u32 off, void *buf, u32 len)
{
	BUG_ON(off + len > FAKE_CONFIG);
	memcpy(buf, to_fake(d)->config + off, len);
}

static void set_config(struct vdpa_device *d, u32 off, const void *buf, u32 len)
{
	BUG_ON(off + len > FAKE_CONFIG);
	memcpy(to_fake(d)->config + off, buf, len);
}

static void get_iova_range(struct vdpa_device *d, u64 *first, u64 *last)
{
	*first = to_fake(d)->iova_first;
	*last = to_fake(d)->iova_last;
}

static int set_group_asid(struct vdpa_device *d, u32 group, u32 asid)
{
	to_fake(d)->asid_of[group] = asid;
	return 0;
}

static int set_map(struct vdpa_device *d, u32 asid, const struct vdpa_iotlb *table)
{
	struct fake *f = to_fake(d);

	f->maps++;
	return f->map_err ? f->map_err : vdpa_iotlb_copy(f->seen[asid], table);
}

static int dma_map(struct vdpa_device *d, u32 asid, const struct vdpa_map *m)
{
	struct fake *f = to_fake(d);

	f->maps++;
	return f->map_err ? f->map_err : vdpa_iotlb_add(f->seen[asid], m);
}

static int dma_unmap(struct vdpa_device *d, u32 asid, u64 start, u64 last)
{
	struct fake *f = to_fake(d);

	f->unmaps++;
	vdpa_iotlb_del(f->seen[asid], start, last);
	return 0;
}

static void fake_free(struct vdpa_device *d)
{
	struct fake *f = to_fake(d);

	for (unsigned i = 0; i < FAKE_AS; i++)
		vdpa_iotlb_free(f->seen[i]);
	if (f->freed)
		atomic_fetch_add(f->freed, 1);
	free(f);
}

static const struct vdpa_config_ops fake_ops = {
	.set_vq_address = set_vq_address,
	.set_vq_num = set_vq_num,
	.kick_vq = kick_vq,
	.set_vq_cb = set_vq_cb,
	.set_vq_ready = set_vq_ready,
	.get_vq_ready = get_vq_ready,
	.set_vq_state = set_vq_state,
	.get_vq_state = get_vq_state,
	.get_vq_align = get_vq_align,
	.get_vq_group = get_vq_group,
	.get_vq_num_max = get_vq_num_max,
	.get_vq_num_min = get_vq_num_min,
	.get_device_features = get_device_features,
	.set_driver_features = set_driver_features,
	.get_driver_features = get_driver_features,
	.set_config_cb = set_config_cb,
	.get_device_id = get_device_id,
	.get_vendor_id = get_vendor_id,
	.get_status = get_status,
	.set_status = set_status,
	.reset = reset,
	.suspend = suspend,
	.resume = resume,
	.get_config_size = get_config_size,
	.get_config = get_config,
	.set_config = set_config,
	.get_iova_range = get_iova_range,
	.set_group_asid = set_group_asid,
	.set_map = set_map,
	.free = fake_free,
};

struct fake *fake_new(struct vdpa_mgmtdev *m, const char *name)
{
	struct fake *f = calloc(1, sizeof(*f));

	BUG_ON(!f);
	f->ops = fake_ops;
	vdpa_device_init(&f->dev, m, &f->ops, name, FAKE_VQS, FAKE_AS, FAKE_AS);
	f->num_max = 256;
	f->num_min = 1;
	f->iova_last = UINT64_MAX;
	f->group_of[FAKE_VQS - 1] = 1;
	for (unsigned i = 0; i < FAKE_AS; i++) {
		f->seen[i] = vdpa_iotlb_new(0);
		BUG_ON(!f->seen[i]);
	}
	return f;
}

void fake_use_dma_map(struct fake *f)
{
	f->ops.set_map = NULL;
	f->ops.dma_map = dma_map;
	f->ops.dma_unmap = dma_unmap;
}

/* Under the lock that set_vq_cb is called with: so the callback is not gone meanwhile. */
static void call_back(struct fake *f, const struct vdpa_callback *cb)
{
	pthread_mutex_lock(&f->dev.lock);
	if (cb->fn)
		cb->fn(cb->arg);
	pthread_mutex_unlock(&f->dev.lock);
}

void fake_vq_interrupt(struct fake *f, u16 vq)
{
	call_back(f, &f->vq[vq].cb);
}

void fake_config_interrupt(struct fake *f)
{
	call_back(f, &f->config_cb);
}
