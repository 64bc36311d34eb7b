/* SPDX-License-Identifier: MIT */
/*
 * One PCI bus behind a host bridge, configured by mechanism #1 (ports CF8H and
 * CFCH) or through memory (ECAM, LAYOUT_ECAM). Devices are single-function, with memory BARs, INTA and MSI-X.
 *
 * Lock order: bus->lock, then locks of devices. Config hooks run under
 * bus->lock; BAR handlers under none.
 */
#ifndef VMM_PCI_H
#define VMM_PCI_H

#include <pthread.h>

#include "base/types.h"
#include "vmm/iobus.h"
#include "vmm/irq.h"

#define PCI_NR_SLOTS 32
#define PCI_NR_BARS 6
#define PCI_CFG_SIZE 256

struct pci_bus;
struct pci_dev;

struct pci_bar {
	u64 size;		/* power of two, 0 = absent */
	struct iobus_range range;
	bool mapped;
};

struct pci_msix_vector {
	u64 addr;
	u32 data;
	bool masked, pending;
	int msi;		/* slot of irq.h, -1 until first used */
};

struct pci_dev {
	struct pci_bus *bus;
	unsigned slot;
	u8 cfg[PCI_CFG_SIZE];
	u8 wmask[PCI_CFG_SIZE];	/* bits that software can write */
	u8 cap_end;		/* first free byte for capabilities */
	u8 cap_last;
	struct pci_bar bar[PCI_NR_BARS];

	/* INTA */
	pthread_mutex_t irq_lock;
	bool intx_level;	/* wanted by the device */
	bool intx_driven;	/* on the pin */

	/* MSI-X, if the device has it; table and PBA in a BAR of their own */
	u8 msix_cap;
	unsigned nr_vectors;
	struct pci_msix_vector *vectors;

	/* Optional: before a config read is answered, after a write was stored. */
	void (*cfg_read)(struct pci_dev *d, unsigned off, unsigned len);
	void (*cfg_write)(struct pci_dev *d, unsigned off, unsigned len);
};

struct pci_bus {
	struct iobus *mmio, *pio;
	struct irqs *irqs;
	pthread_mutex_t lock;
	struct pci_dev *slots[PCI_NR_SLOTS];
	u64 next_bar;		/* allocation of BARs, as firmware would do */
	u32 address;
	struct iobus_range addr_ports, data_ports, ecam;
	struct pci_dev bridge;
	/* Called for a write of 06H to port CF9H, which lies inside the address port. */
	void (*reset)(void *ctx);
	void *reset_ctx;
};

int pci_init(struct pci_bus *b, struct iobus *pio, struct iobus *mmio, struct irqs *irqs);
void pci_exit(struct pci_bus *b);

struct pci_id {
	u16 vendor, device, subvendor, subdevice;
	u32 class_rev;		/* class code << 8 | revision */
};

/* Fill in the header. @d must be zeroed by the caller before. */
void pci_dev_init(struct pci_dev *d, const struct pci_id *id);
/* Reserve @size bytes of vendor or other capability; returns its offset. */
u8 pci_add_cap(struct pci_dev *d, u8 id, unsigned size);
/* Describe a 32-bit memory BAR. */
void pci_set_bar(struct pci_dev *d, unsigned bar, u64 size, unsigned width, iobus_fn fn, void *ctx);
/* MSI-X with @nr vectors in @bar. Returns 0 or -ENOMEM. */
int pci_add_msix(struct pci_dev *d, unsigned bar, unsigned nr);
/*
 * Put the device into the next free slot, with its BARs placed and memory
 * decoding on. Returns 0; -ENOSPC if slots or addresses are used up; -errno.
 */
int pci_attach(struct pci_bus *b, struct pci_dev *d);
/* Take it off the bus; no handler of it runs afterwards. Harmless if not attached. */
void pci_detach(struct pci_dev *d);

/* Level of INTA; reaches the pin if MSI-X is off and INTx not disabled. Any thread. */
void pci_intx(struct pci_dev *d, bool level);
bool pci_msix_enabled(struct pci_dev *d);
/* Fire vector @v; stays pending while masked. Any thread. */
void pci_msix_fire(struct pci_dev *d, unsigned v);

static inline u16 pci_get16(const u8 *p)
{
	return (u16)(p[0] | p[1] << 8);
}

static inline u32 pci_get32(const u8 *p)
{
	return (u32)pci_get16(p) | (u32)pci_get16(p + 2) << 16;
}

static inline void pci_put16(u8 *p, u16 v)
{
	p[0] = (u8)v;
	p[1] = (u8)(v >> 8);
}

static inline void pci_put32(u8 *p, u32 v)
{
	pci_put16(p, (u16)v);
	pci_put16(p + 2, (u16)(v >> 16));
}

#endif
