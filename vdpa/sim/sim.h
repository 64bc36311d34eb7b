/* SPDX-License-Identifier: MIT */
/*
 * The simulators vdpasim_net and vdpasim_blk: devices without hardware, for
 * tests and for trying things out. A ramdisk; a network card in loopback.
 */
#ifndef VDPA_SIM_SIM_H
#define VDPA_SIM_SIM_H

#include "vdpa/vdpa.h"

/* What are module parameters elsewhere; for devices created from then on. */
struct vdpasim_params {
	bool batch_mapping;		/* set_map of whole tables instead of dma_map and dma_unmap */
	unsigned max_iotlb_entries;	/* of each address space; below 2 devices cannot be created */
};

#define VDPASIM_PARAMS_DEFAULT \
	((struct vdpasim_params){ .batch_mapping = true, .max_iotlb_entries = VDPA_IOTLB_ENTRIES })

/* Register both management devices. -EEXIST. */
int __must_check vdpasim_register(const struct vdpasim_params *p);
/*
 * The same with the parameters that the environment gives: VDPASIM_BATCH_MAPPING (0 or 1) and
 * VDPASIM_MAX_IOTLB_ENTRIES. -EINVAL: one is no number.
 */
int __must_check vdpasim_init(void);
/* Delete their devices and take them away. */
void vdpasim_exit(void);

#endif
