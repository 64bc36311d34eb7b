/* SPDX-License-Identifier: MIT */
/* The chip: registers, queues, and what its two personalities do with chains. */
#ifndef SILICON_VIRTIO_VFUNC_H
#define SILICON_VIRTIO_VFUNC_H

#include <pthread.h>

#include "silicon/virtio_func.h"

#define VFUNC_CONFIG_MAX 128
#define VFUNC_QUEUE_MAX DRING_MAX_NUM
#define VFUNC_NO_VECTOR 0xffff
/* Chains of one queue before the lock is let go. */
#define VFUNC_BUDGET 32

struct vfunc_queue {
	struct dring ring;
	struct dring_iov out, in;
	u64 desc, driver, device;
	u16 size, vector;
	bool enabled;
	bool broken;		/* a chain could not be fetched; only a reset helps */
	u32 lm;			/* position, as long as not enabled */
};

struct vfunc_kind {
	u32 config_size;
	u64 features;
	/* Serve queues; lock held. True: there is more. */
	bool (*work)(struct vfunc *v);
};

struct vfunc {
	struct pci_func pci;
	struct vfunc_config c;
	const struct vfunc_kind *kind;
	pthread_mutex_t lock;
	pthread_t chip;
	bool has_chip, stop, kicked;
	int wake;
	int bells;			/* file of BAR 2 */
	u8 *bell;
	bool watch_bells;
	/* Registers */
	u32 device_select, driver_select, queue_select;
	u64 features, driver_features;
	u16 config_vector;
	u8 status, isr, generation;
	u8 config[VFUNC_CONFIG_MAX];
	struct vfunc_queue q[VFUNC_MAX_QUEUES];
	u8 *media;			/* ramdisk, or a frame on its way */
};

/* Give a chain back, and the interrupt if the driver wants one. False: the queue is broken. */
bool vfunc_complete(struct vfunc *v, unsigned q, u16 head, u32 len);
/* 1: a chain was taken; 0: none. A wrong one breaks the queue. Lock held. */
int vfunc_take(struct vfunc *v, unsigned q, u16 *head, bool out, bool in);

extern const struct vfunc_kind vfunc_net, vfunc_blk;

#endif
