/* SPDX-License-Identifier: MIT */
/*
 * Parent ifcvf: virtio rings in hardware, on simulated N3000 and C5000X-PL
 * functions. Each function is a management device pci/<address>, from which
 * one vDPA device can be made.
 */
#ifndef VDPA_IFCVF_IFCVF_H
#define VDPA_IFCVF_IFCVF_H

#include "vdpa/vdpa.h"

struct host;
struct ifcvf;

/*
 * Drive the function in @h, found at @address ("0000:01:00.1"), and register its management
 * device. -ENODEV: not one of ours; the errors of ifcvf_probe(); -EEXIST. @h stays the caller's.
 */
int __must_check ifcvf_attach(struct host *h, const char *address, struct ifcvf **out);
/* Delete its device and take it away. */
void ifcvf_detach(struct ifcvf *f);

/*
 * Plug in the functions that the environment asks for (USERKVM_IFCVF: models separated by
 * commas, of "n3000-net", "c5000x-net", "c5000x-blk"; unset: c5000x-net). 0 or -errno.
 */
int __must_check ifcvf_init(void);
void ifcvf_exit(void);

#endif
