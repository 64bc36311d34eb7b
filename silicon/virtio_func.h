/* SPDX-License-Identifier: MIT */
/*
 * A PCI function that speaks VIRTIO with its registers and rings in hardware:
 * Intel's N3000 and C5000X-PL. Modern interface only. Beside what VIRTIO asks
 * for, BAR 4 has the position of each queue, for live migration.
 *
 * The network kind is in loopback: frames to its own, a multicast or the
 * broadcast address come back. The block kind is a ramdisk.
 *
 * All functions here are thread-safe. The chip works on a thread of its own.
 * Source: VIRTIO 1.1 "Virtio Over PCI Bus".
 */
#ifndef SILICON_VIRTIO_FUNC_H
#define SILICON_VIRTIO_FUNC_H

#include "silicon/pci.h"

#define VFUNC_MAX_QUEUES 32

/* BAR 4: position of queue q at VFUNC_LM_RING + 64 * (q / 2) + 4 * (q % 2), low 16 bits. */
#define VFUNC_LM_RING 0x20
#define VFUNC_LM_PAIR 0x40

enum vfunc_model { VFUNC_N3000_NET, VFUNC_C5000X_NET, VFUNC_C5000X_BLK };

struct vfunc_config {
	enum vfunc_model model;
	unsigned queues;		/* 1..VFUNC_MAX_QUEUES; network: pairs, so even */
	unsigned vectors;		/* MSI-X table, 1..PCI_MSIX_MAX */
	u32 notify_multiplier;		/* bytes from doorbell to doorbell, even; 0: one for all */
	u8 mac[6];
	u64 sectors;			/* of the ramdisk */
};

struct vfunc;

/* NULL when memory or threads are short. */
struct vfunc *vfunc_new(const struct vfunc_config *c, const struct pci_slot *slot);
void vfunc_free(struct vfunc *v);

/* What the bus does. */
u32 vfunc_config_read(struct vfunc *v, u16 off, unsigned size);
void vfunc_config_write(struct vfunc *v, u16 off, unsigned size, u32 val);
bool vfunc_mem_read(struct vfunc *v, u64 addr, unsigned size, u64 *val);
bool vfunc_mem_write(struct vfunc *v, u64 addr, unsigned size, u64 val);
void vfunc_function_reset(struct vfunc *v);
/*
 * The doorbell window, BAR 2, as a file, so that others can map it. From then on the chip looks
 * at the file while it runs: a mapped store raises no event. -ENODEV: doorbells share pages.
 */
int vfunc_doorbell_file(struct vfunc *v);

/* What happens to the card: a cable, a new size, a change of personality. Announced to the driver. */
void vfunc_change_config(struct vfunc *v, u32 off, const void *buf, u32 len);
void vfunc_change_features(struct vfunc *v, u64 features);
/* Change identity or capabilities behind the bus's back: for what a wrong card would look like. */
void vfunc_poke_config(struct vfunc *v, u16 off, u8 val);

#endif
