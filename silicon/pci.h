/* SPDX-License-Identifier: MIT */
/*
 * A PCI function as its slot sees it: configuration space, memory windows,
 * MSI-X. What is behind the windows belongs to the device.
 *
 * Not thread-safe: the device has one lock and its entry points take it.
 * Source: PCI Local Bus Specification 3.0 "Configuration Space", "MSI-X
 * Capability and Table Structure".
 */
#ifndef SILICON_PCI_H
#define SILICON_PCI_H

#include "base/types.h"
#include "silicon/dring.h"

#define PCI_BARS 6
#define PCI_CONFIG_SIZE 256
#define PCI_MSIX_MAX 64

/* The way out of a function. */
struct pci_slot {
	struct dring_port dma;
	/* A memory write that is an interrupt message. Called with no lock of the function held. */
	void (*message)(void *ctx, u64 addr, u32 data);
	void *ctx;		/* of all of these */
};

struct pci_func;

struct pci_bar {
	u64 size;		/* power of two; 0: not there */
	/* Bytes at @off, of @size 1, 2, 4 or 8, naturally aligned. */
	u64 (*read)(struct pci_func *f, u64 off, unsigned size);
	void (*write)(struct pci_func *f, u64 off, unsigned size, u64 v);
};

struct pci_msix_entry {
	u64 addr;
	u32 data;
	u32 ctrl;
};

struct pci_func {
	const struct pci_slot *slot;
	u8 config[PCI_CONFIG_SIZE];
	u8 writable[PCI_CONFIG_SIZE];	/* bits that software may write */
	u8 last_cap;			/* 0: none yet */
	u8 next_free;			/* for capabilities */
	struct pci_bar bar[PCI_BARS];	/* even ones, of 64 bits */
	u8 msix_cap;
	u16 msix_count;
	struct pci_msix_entry msix[PCI_MSIX_MAX];
	u64 msix_pending;
	/* Messages to be sent when the device's lock is free. */
	struct pci_msg { u64 addr; u32 data; } out[PCI_MSIX_MAX];
	unsigned nr_out;
};

struct pci_ids {
	u16 vendor, device, subvendor, subdevice;
	u32 class;		/* 24 bits */
};

void pci_func_init(struct pci_func *f, const struct pci_slot *slot, const struct pci_ids *ids);
/* A window of 64 bits at BAR @nr (even). */
void pci_func_add_bar(struct pci_func *f, unsigned nr, const struct pci_bar *bar);
/* Append a capability of @len bytes, its next pointer filled in. Returns its place. */
u8 pci_func_add_cap(struct pci_func *f, const void *cap, u8 len);
void pci_func_add_msix(struct pci_func *f, unsigned count, unsigned bar, u32 table, u32 pba);
/* The function's reset: what software had written is gone. */
void pci_func_reset(struct pci_func *f);

/* Configuration accesses of 1, 2 or 4 bytes, naturally aligned. */
u32 pci_config_read(const struct pci_func *f, u16 off, unsigned size);
void pci_config_write(struct pci_func *f, u16 off, unsigned size, u32 v);
u64 pci_bar_address(const struct pci_func *f, unsigned nr);

/* Memory accesses to an address that the slot routes here. False: no window answers. */
bool pci_mem_read(struct pci_func *f, u64 addr, unsigned size, u64 *v);
bool pci_mem_write(struct pci_func *f, u64 addr, unsigned size, u64 v);

/* ---- For the device ---- */

/* Table and pending bits, as windows of the device's BAR show them. */
u64 pci_msix_table_read(struct pci_func *f, u64 off, unsigned size);
void pci_msix_table_write(struct pci_func *f, u64 off, unsigned size, u64 v);
u64 pci_msix_pba_read(const struct pci_func *f, u64 off, unsigned size);
bool pci_func_msix_enabled(const struct pci_func *f);
/* Queue the message of @vector, or keep it pending while that is masked. */
void pci_msix_raise(struct pci_func *f, unsigned vector);
/* Take the queued messages, to be sent by pci_send() once the lock is free. Returns how many. */
unsigned pci_take_messages(struct pci_func *f, struct pci_msg out[PCI_MSIX_MAX]);
void pci_send(const struct pci_func *f, const struct pci_msg *msg, unsigned n);
/* DMA of the function: the slot's, as long as it is bus master. Context: the function. */
extern const struct dring_port pci_dma_port;

#endif
