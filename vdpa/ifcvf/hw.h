/* SPDX-License-Identifier: MIT */
/*
 * The registers of an ifcvf function, as its driver sees them: found at probe,
 * then used through the host's bus. Not thread-safe, but for the doorbell.
 */
#ifndef VDPA_IFCVF_HW_H
#define VDPA_IFCVF_HW_H

#include "vdpa/callback.h"
#include "vdpa/ifcvf/host.h"

#define IFCVF_MAX_QUEUES 17
#define IFCVF_QUEUE_MAX 32768
#define IFCVF_QUEUE_ALIGN 4096

struct ifcvf_vring {
	struct vdpa_vq_addr addr;
	u32 num;
	bool ready;
	struct vdpa_callback cb;
	u32 doorbell;			/* offset in the notification structure */
};

/* How vectors are dealt out. */
enum ifcvf_irqs { IFCVF_IRQ_EACH, IFCVF_IRQ_TWO, IFCVF_IRQ_ONE };

struct ifcvf_hw {
	struct host *host;
	u64 common, notify, isr, device;	/* addresses */
	u64 notify_off;				/* of the structure in its window */
	u32 notify_multiplier;
	u64 lm;
	u16 nr_queues, nr_vectors;
	u16 msix_cap;
	u64 msix_table;
	u32 type, vendor;
	size_t config_size;
	u64 features;				/* of the device */
	u64 req_features;			/* the driver's */
	struct ifcvf_vring vring[IFCVF_MAX_QUEUES];
	struct vdpa_callback config_cb;
	bool irqs_on;
};

/* Is it one of the cards that we drive? By all four ids. */
bool ifcvf_claims(struct host *h);
/* 0; -EIO: a capability is missing or wrong; -EOPNOTSUPP: a type of device that we do not drive; -EINVAL: queues. */
int __must_check ifcvf_probe(struct ifcvf_hw *hw, struct host *h);

u8 ifcvf_get_status(struct ifcvf_hw *hw);
void ifcvf_set_status(struct ifcvf_hw *hw, u8 status);
/*
 * Interrupts on, then the whole initialisation up to DRIVER_OK, in @status. -EIO: the
 * device refuses the features or a vector; then it is left reset, but for FAILED.
 */
int __must_check ifcvf_start(struct ifcvf_hw *hw, u8 status);
/* Reset; interrupts off. */
void ifcvf_stop(struct ifcvf_hw *hw);
void ifcvf_kick(struct ifcvf_hw *hw, u16 vq);
u16 ifcvf_get_position(struct ifcvf_hw *hw, u16 vq);
void ifcvf_set_position(struct ifcvf_hw *hw, u16 vq, u16 position);
/* @buf is from one generation. */
void ifcvf_read_config(struct ifcvf_hw *hw, u32 off, void *buf, u32 len);
void ifcvf_write_config(struct ifcvf_hw *hw, u32 off, const void *buf, u32 len);
u32 ifcvf_get_generation(struct ifcvf_hw *hw);
enum ifcvf_irqs ifcvf_irq_mode(const struct ifcvf_hw *hw);

#endif
