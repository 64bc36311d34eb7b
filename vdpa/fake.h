/* SPDX-License-Identifier: MIT */
/* A vDPA device for tests: keeps what it is told, fails when it is told. Linked into tests only. */
#ifndef VDPA_FAKE_H
#define VDPA_FAKE_H

#include "vdpa/vdpa.h"

#define FAKE_VQS 3
#define FAKE_AS 2
#define FAKE_CONFIG 24

struct fake {
	struct vdpa_device dev;
	struct vdpa_config_ops ops;	/* a copy: tests take operations away */
	/* What the next operations answer. */
	int reset_err, map_err, features_err;
	u16 num_max, num_min;
	u32 group_of[FAKE_VQS];
	u64 iova_first, iova_last;
	/* What was said. */
	struct fake_vq {
		struct vdpa_vq_addr addr;
		struct vdpa_callback cb;
		struct vdpa_vq_state state;
		u32 num;
		bool ready;
		_Atomic unsigned kicks;
	} vq[FAKE_VQS];
	struct vdpa_callback config_cb;
	u64 features;
	u8 status;
	bool suspended;
	u32 asid_of[FAKE_AS];
	u8 config[FAKE_CONFIG];
	struct vdpa_iotlb *seen[FAKE_AS];	/* as the device sees it */
	unsigned resets, maps, unmaps;		/* maps: set_map or dma_map calls */
	_Atomic unsigned *freed;		/* counted up by free */
};

/*
 * A device with one reference. With set_map; fake_use_dma_map() before it is registered
 * gives it dma_map and dma_unmap instead. vdpa_put() frees it.
 */
struct fake *fake_new(struct vdpa_mgmtdev *m, const char *name);
void fake_use_dma_map(struct fake *f);
/* Call the driver's callback, if it has set one. */
void fake_vq_interrupt(struct fake *f, u16 vq);
void fake_config_interrupt(struct fake *f);

#endif
