/* SPDX-License-Identifier: MIT */
/* The vDPA netlink family's numbers, in Linux spelling: the system's own header (Debian 12: Linux 6.1). */
#ifndef ABI_VDPA_H
#define ABI_VDPA_H

#include <linux/vdpa.h>

#endif
