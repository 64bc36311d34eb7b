/* SPDX-License-Identifier: MIT */
/*
 * Interrupts into the guest: pins of KVM's PIC and IOAPIC, and messages (MSI).
 * A message goes through an irqfd and a routing entry where KVM has both, and
 * through KVM_SIGNAL_MSI otherwise.
 */
#ifndef VMM_IRQ_H
#define VMM_IRQ_H

#include <pthread.h>

#include "base/types.h"
#include "vmm/vmm.h"

#define IRQ_MAX_MSI 256

struct irq_msi {
	bool used, routed;
	int fd;			/* eventfd of the irqfd, -1 without irqfds */
	u64 addr;
	u32 data;
};

struct irqs {
	const struct vmm_sys *sys;
	int vm_fd;
	bool irqfd;
	pthread_mutex_t lock;
	struct irq_msi msi[IRQ_MAX_MSI];
	/* Devices that share a pin: the pin is the OR of their lines. */
	u16 asserted[24];
};

void irqs_init(struct irqs *q, const struct vmm_sys *sys, int vm_fd, bool irqfd);
void irqs_exit(struct irqs *q);

/* Drive a pin that belongs to one device. */
void irq_line(struct irqs *q, unsigned gsi, bool level);
/* Add or drop one device's assertion of a shared pin; the caller tracks its own level. */
void irq_shared(struct irqs *q, unsigned gsi, bool assert);

/* A message slot. Returns its number or -ENOSPC, -errno. */
int irq_msi_alloc(struct irqs *q);
void irq_msi_free(struct irqs *q, int msi);
/* Set address and data of a slot; a no-op if unchanged. */
void irq_msi_set(struct irqs *q, int msi, u64 addr, u32 data);
void irq_msi_fire(struct irqs *q, int msi);

#endif
