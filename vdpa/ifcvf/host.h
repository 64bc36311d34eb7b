/* SPDX-License-Identifier: MIT */
/*
 * The machine around one simulated function: a bus with memory windows, an
 * IOMMU domain that its DMA passes, and interrupt vectors.
 *
 * Thread-safe. A handler runs on the function's own thread; who takes a
 * handler away waits until it has returned.
 */
#ifndef VDPA_IFCVF_HOST_H
#define VDPA_IFCVF_HOST_H

#include "silicon/virtio_func.h"
#include "vdpa/iotlb.h"

struct host;

/* Plug a function in; its windows get addresses. NULL when memory is short. */
struct host *host_new(const struct vfunc_config *c);
void host_free(struct host *h);
/* Function-level reset; the windows are where they were. */
void host_reset(struct host *h);
struct vfunc *host_func(struct host *h);

u32 host_config_read(struct host *h, u16 off, unsigned size);
void host_config_write(struct host *h, u16 off, unsigned size, u32 v);
u64 host_read(struct host *h, u64 addr, unsigned size);
void host_write(struct host *h, u64 addr, unsigned size, u64 v);
/* Address and size of a window; 0 and 0 if there is none. */
u64 host_window(struct host *h, unsigned bar, u64 *size);

/* The domain, as vdpa_iotlb_add() and _del(). */
int __must_check host_map(struct host *h, const struct vdpa_map *m);
void host_unmap(struct host *h, u64 start, u64 last);

/* What to write into an MSI-X entry so that @vector's handler runs. */
u64 host_msi_address(void);
/* NULL: none. */
void host_set_irq(struct host *h, unsigned vector, void (*fn)(void *arg), void *arg);
/* Keep all handlers out, to change what they use. */
void host_irq_lock(struct host *h);
void host_irq_unlock(struct host *h);

#endif
