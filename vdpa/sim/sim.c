// SPDX-License-Identifier: MIT
/*
 * The simulators as parents: their registration data.
 */
#include "vdpa/sim/sim.h"

#include <errno.h>
#include <limits.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/log.h"
#include "vdpa/sim/core.h"

static struct vdpasim_params params;

static int add_blk(struct vdpa_mgmtdev *m, const char *name, const struct vdpa_dev_attrs *a)
{
	return vdpasim_create(m, &vdpasim_blk_type, &params, name, a);
}

static int add_net(struct vdpa_mgmtdev *m, const char *name, const struct vdpa_dev_attrs *a)
{
	return vdpasim_create(m, &vdpasim_net_type, &params, name, a);
}

static void del(struct vdpa_mgmtdev *m, struct vdpa_device *d)
{
	vdpa_unregister(d);
}

/* As Linux 6.1 reports them: nothing of what the block simulator has. */
static struct vdpa_mgmtdev blk = {
	.name = "vdpasim_blk", .classes = BIT(VIRTIO_ID_BLOCK), .dev_add = add_blk, .dev_del = del,
};
static struct vdpa_mgmtdev net = {
	.name = "vdpasim_net", .classes = BIT(VIRTIO_ID_NET),
	.attr_mask = VDPA_ATTR_MAC | VDPA_ATTR_MTU | VDPA_ATTR_FEATURES,
	.dev_add = add_net, .dev_del = del,
};

int vdpasim_register(const struct vdpasim_params *p)
{
	int err;

	params = *p;
	net.features = vdpasim_net_type.features;
	net.max_vqs = vdpasim_net_type.nvqs;
	err = vdpa_mgmtdev_register(&net);
	if (err)
		return err;
	err = vdpa_mgmtdev_register(&blk);
	if (err)
		vdpa_mgmtdev_unregister(&net);
	return err;
}

static int number(const char *name, unsigned max, unsigned def, unsigned *out)
{
	const char *text = getenv(name);
	char *end;
	unsigned long v;

	*out = def;
	if (!text)
		return 0;
	v = strtoul(text, &end, 0);
	if (end == text || *end || v > max) {
		log_error("vdpa: %s=%s is no number up to %u", name, text, max);
		return -EINVAL;
	}
	*out = v;
	return 0;
}

int vdpasim_init(void)
{
	struct vdpasim_params p;
	unsigned batch;
	int err = number("VDPASIM_BATCH_MAPPING", 1, 1, &batch);

	if (!err)
		err = number("VDPASIM_MAX_IOTLB_ENTRIES", INT_MAX, VDPA_IOTLB_ENTRIES, &p.max_iotlb_entries);
	if (err)
		return err;
	p.batch_mapping = batch;
	return vdpasim_register(&p);
}

void vdpasim_exit(void)
{
	vdpa_mgmtdev_unregister(&blk);
	vdpa_mgmtdev_unregister(&net);
}
