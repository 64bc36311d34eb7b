/* SPDX-License-Identifier: MIT */
/* Virtio over PCI, modern interface only. */
#ifndef VMM_VIRTIO_PCI_H
#define VMM_VIRTIO_PCI_H

#include "vmm/machine.h"
#include "vmm/pci.h"
#include "vmm/virtio.h"

struct virtio_pci {
	struct virtio_dev *vdev;
	struct vmm *vmm;
	struct pci_dev pci;
	u8 cfg_cap;		/* offset of the configuration access capability */

	/* Under vdev->lock. */
	u32 device_feature_select, driver_feature_select;
	u16 queue_select;
	u16 config_vector, vector[VIRTIO_MAX_QUEUES];
	u8 isr, generation;
	u64 notify_base;	/* where the notification registers are, 0 = not decoded */
	u64 ioeventfd[VIRTIO_MAX_QUEUES];	/* registered address, 0 = none */
};

/*
 * Put @vdev (initialised) on the PCI bus and start its thread. Returns 0 or
 * -errno; then virtio_pci_exit() is harmless and virtio_exit() still due.
 */
int virtio_pci_init(struct virtio_pci *p, struct vmm *vmm, struct pci_bus *bus,
		    struct virtio_dev *vdev);
/* Stop the thread and take the device off the bus. */
void virtio_pci_exit(struct virtio_pci *p);

#endif
