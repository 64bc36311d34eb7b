/* SPDX-License-Identifier: MIT */
/* vDPA network devices as a machine's network: `userkvm boot -n vdpa:NAME`. */
#ifndef TOOLS_VDPA_NET_H
#define TOOLS_VDPA_NET_H

#include "vmm/vmm.h"

extern const struct vmm_net_ops vdpa_net_ops;

#endif
