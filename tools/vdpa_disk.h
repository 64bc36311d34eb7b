/* SPDX-License-Identifier: MIT */
/* vDPA block devices as disks of a machine: `userkvm boot -d vdpa:NAME`. */
#ifndef TOOLS_VDPA_DISK_H
#define TOOLS_VDPA_DISK_H

#include "vmm/vmm.h"

extern const struct vmm_disk_ops vdpa_disk_ops;

#endif
