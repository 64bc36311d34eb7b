/* SPDX-License-Identifier: MIT */
/*
 * Ports and a PCI function that exist for virtual machines: how a guest tells
 * its end or its panic.
 *
 *	F4H	debug exit, 4 ports: a write of v ends the machine with exit
 *		status (v << 1 | 1) & 255, as QEMU's isa-debug-exit
 *	80H	POST code: writes are accepted and kept, reads return the last one
 *	pvpanic	PCI 1b36:0011, one byte register: events that the guest reports
 */
#ifndef VMM_EXITDEV_H
#define VMM_EXITDEV_H

#include "vmm/machine.h"
#include "vmm/pci.h"

struct exitdev {
	struct vmm *vmm;
	struct iobus_range post, debug_exit;
	_Atomic u8 post_code;
	struct pci_dev pvpanic;
	/* The guest reported a panic; called in a vCPU's thread. */
	void (*panicked)(void *ctx);
	void *panicked_ctx;
};

int exitdev_init(struct exitdev *e, struct vmm *vmm, struct pci_bus *bus);
void exitdev_exit(struct exitdev *e);

#endif
