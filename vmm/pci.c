// SPDX-License-Identifier: MIT
/*
 * PCI bus: configuration space, BAR placement, INTA. MSI-X is in pci_msix.c.
 * Source: PCI Local Bus Specification 3.0 "Configuration Space".
 */
#include "vmm/pci.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "vmm/layout.h"
#include "vmm/pci_msix.h"

#define ADDR_ENABLE 0x80000000u
#define CAP_FIRST 0x40

/*
 * INTA's level follows what the device wants, unless MSI-X or the command register say no. irq_lock
 * held.
 */
static void intx_update(struct pci_dev *d)
{
	u16 command = pci_get16(d->cfg + PCI_COMMAND);
	bool on = d->intx_level && !(command & PCI_COMMAND_INTX_DISABLE) && !pci_msix_enabled(d);

	if (d->intx_level)
		d->cfg[PCI_STATUS] |= PCI_STATUS_INTERRUPT;
	else
		d->cfg[PCI_STATUS] &= (u8)~PCI_STATUS_INTERRUPT;
	if (on == d->intx_driven)
		return;
	d->intx_driven = on;
	irq_shared(d->bus->irqs, IRQ_PCI_FIRST + d->slot % IRQ_NR_PCI, on);
}

void pci_intx(struct pci_dev *d, bool level)
{
	pthread_mutex_lock(&d->irq_lock);
	if (level != d->intx_level) {
		d->intx_level = level;
		intx_update(d);
	}
	pthread_mutex_unlock(&d->irq_lock);
}

static u64 bar_addr(const struct pci_dev *d, unsigned i)
{
	return pci_get32(d->cfg + PCI_BASE_ADDRESS_0 + 4 * i) & PCI_BASE_ADDRESS_MEM_MASK;
}

/* Make the bus agree with BARs and the memory-decoding bit. */
static void bars_update(struct pci_dev *d)
{
	bool decode = pci_get16(d->cfg + PCI_COMMAND) & PCI_COMMAND_MEMORY;

	for (unsigned i = 0; i < PCI_NR_BARS; i++) {
		struct pci_bar *bar = &d->bar[i];
		u64 addr = bar_addr(d, i);

		if (!bar->size || (bar->mapped && decode && bar->range.start == addr))
			continue;
		if (bar->mapped) {
			iobus_remove(d->bus->mmio, &bar->range);
			bar->mapped = false;
		}
		if (!decode)
			continue;
		bar->range.start = addr;
		bar->range.len = bar->size;
		/*
		 * Refused if it overlaps another device's: on hardware both would answer. The
		 * guest sees all ones there until it moves one of them.
		 */
		bar->mapped = iobus_add(d->bus->mmio, &bar->range) == 0;
	}
}

static bool overlaps(unsigned off, unsigned len, unsigned first, unsigned bytes)
{
	return off < first + bytes && first < off + len;
}

static void cfg_write(struct pci_dev *d, unsigned off, const u8 *data, unsigned len)
{
	/*
	 * Interrupts, raised by other threads, look at the command register and at MSI-X's flags.
	 */
	pthread_mutex_lock(&d->irq_lock);
	for (unsigned i = 0; i < len; i++) {
		u8 mask = d->wmask[off + i];

		d->cfg[off + i] = (u8)((d->cfg[off + i] & ~mask) | (data[i] & mask));
	}
	intx_update(d);
	pthread_mutex_unlock(&d->irq_lock);
	if (overlaps(off, len, PCI_COMMAND, 2) ||
	    overlaps(off, len, PCI_BASE_ADDRESS_0, 4 * PCI_NR_BARS))
		bars_update(d);
	if (d->msix_cap && overlaps(off, len, d->msix_cap + PCI_MSIX_FLAGS, 2))
		msix_flags_changed(d);
	if (d->cfg_write)
		d->cfg_write(d, off, len);
}

static void cfg_read(struct pci_dev *d, unsigned off, u8 *data, unsigned len)
{
	if (d->cfg_read)
		d->cfg_read(d, off, len);
	pthread_mutex_lock(&d->irq_lock);
	memcpy(data, d->cfg + off, len);
	pthread_mutex_unlock(&d->irq_lock);
}

/* 4 KiB a function, 8 functions a device; ours have one, and no extended registers. */
static void ecam(void *ctx, u64 off, u8 *data, unsigned len, bool is_write)
{
	struct pci_bus *b = ctx;
	unsigned reg = off & 0xfff;
	struct pci_dev *d;

	pthread_mutex_lock(&b->lock);
	d = off >> 12 & 7 || reg + len > PCI_CFG_SIZE ? NULL : b->slots[off >> 15 & 31];
	if (d && is_write)
		cfg_write(d, reg, data, len);
	else if (d)
		cfg_read(d, reg, data, len);
	pthread_mutex_unlock(&b->lock);
}

/* CFCH..CFFH: a window of four bytes on the register that CF8H names. */
static void data_port(void *ctx, u64 off, u8 *data, unsigned len, bool is_write)
{
	struct pci_bus *b = ctx;
	struct pci_dev *d;
	u32 a;
	unsigned reg;

	pthread_mutex_lock(&b->lock);
	a = b->address;
	reg = (a & 0xfc) + (unsigned)off;
	/* Bus 0, function 0 only; anything else aborts: all ones. */
	d = (a & ADDR_ENABLE) && !(a & 0xff0700) ? b->slots[(a >> 11) & 31] : NULL;
	if (d && is_write)
		cfg_write(d, reg, data, len);
	else if (d)
		cfg_read(d, reg, data, len);
	pthread_mutex_unlock(&b->lock);
}

/* CF8H takes doublewords only; a byte at CF9H is the chipset's reset control register. */
static void addr_port(void *ctx, u64 off, u8 *data, unsigned len, bool is_write)
{
	struct pci_bus *b = ctx;

	if (off == 0 && len == 4) {
		pthread_mutex_lock(&b->lock);
		if (is_write)
			b->address = pci_get32(data) & 0x80fffffc;
		else
			pci_put32(data, b->address);
		pthread_mutex_unlock(&b->lock);
	} else if (off == PORT_RESET - PORT_PCI_ADDR && len == 1) {
		/* Bit 2 starts a reset, bit 1 makes it a hard one. */
		if (is_write && (data[0] & 4) && b->reset)
			b->reset(b->reset_ctx);
		else if (!is_write)
			data[0] = 0;
	}
}

int pci_init(struct pci_bus *b, struct iobus *pio, struct iobus *mmio, struct irqs *irqs)
{
	/* Red Hat's id of a generic host bridge: no driver binds, no quirk applies. */
	static const struct pci_id bridge = { .vendor = 0x1b36, .device = 0x0008,
		.subvendor = 0x1af4, .subdevice = 0x1100, .class_rev = 0x060000 << 8 };
	int ret;

	memset(b, 0, sizeof(*b));
	pthread_mutex_init(&b->lock, NULL);
	b->pio = pio;
	b->mmio = mmio;
	b->irqs = irqs;
	b->next_bar = LAYOUT_PCI_MMIO;
	b->addr_ports = (struct iobus_range){ .start = PORT_PCI_ADDR, .len = 4, .width = 4,
		.fn = addr_port, .ctx = b };
	b->data_ports = (struct iobus_range){ .start = PORT_PCI_DATA, .len = 4, .width = 4,
		.fn = data_port, .ctx = b };
	ret = iobus_add(pio, &b->addr_ports);
	if (ret)
		return ret;
	ret = iobus_add(pio, &b->data_ports);
	if (ret) {
		iobus_remove(pio, &b->addr_ports);
		return ret;
	}
	b->ecam = (struct iobus_range){ .start = LAYOUT_ECAM, .len = LAYOUT_ECAM_SIZE, .width = 4,
		.fn = ecam, .ctx = b };
	ret = iobus_add(mmio, &b->ecam);
	if (ret) {
		iobus_remove(pio, &b->data_ports);
		iobus_remove(pio, &b->addr_ports);
		return ret;
	}
	pci_dev_init(&b->bridge, &bridge);
	return pci_attach(b, &b->bridge);
}

void pci_exit(struct pci_bus *b)
{
	if (!b->pio)
		return;
	pci_detach(&b->bridge);
	iobus_remove(b->mmio, &b->ecam);
	iobus_remove(b->pio, &b->data_ports);
	iobus_remove(b->pio, &b->addr_ports);
	pthread_mutex_destroy(&b->lock);
	b->pio = NULL;
}

void pci_dev_init(struct pci_dev *d, const struct pci_id *id)
{
	pthread_mutex_init(&d->irq_lock, NULL);
	pci_put16(d->cfg + PCI_VENDOR_ID, id->vendor);
	pci_put16(d->cfg + PCI_DEVICE_ID, id->device);
	pci_put32(d->cfg + PCI_CLASS_REVISION, id->class_rev);
	pci_put16(d->cfg + PCI_SUBSYSTEM_VENDOR_ID, id->subvendor);
	pci_put16(d->cfg + PCI_SUBSYSTEM_ID, id->subdevice);
	pci_put16(d->wmask + PCI_COMMAND,
		  PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	d->wmask[PCI_CACHE_LINE_SIZE] = 0xff;
	d->wmask[PCI_INTERRUPT_LINE] = 0xff;
	d->cap_end = CAP_FIRST;
}

u8 pci_add_cap(struct pci_dev *d, u8 id, unsigned size)
{
	u8 at = d->cap_end;

	BUG_ON(at + size > PCI_CFG_SIZE);
	d->cfg[at + PCI_CAP_LIST_ID] = id;
	if (d->cap_last)
		d->cfg[d->cap_last + PCI_CAP_LIST_NEXT] = at;
	else
		d->cfg[PCI_CAPABILITY_LIST] = at;
	d->cfg[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	d->cap_last = at;
	d->cap_end = (u8)round_up(at + size, 4);
	return at;
}

void pci_set_bar(struct pci_dev *d, unsigned bar, u64 size, unsigned width, iobus_fn fn, void *ctx)
{
	/* Not below a page, so that a guest never has two devices in one. */
	size = max(size, (u64)PAGE_SIZE);
	BUG_ON(size & (size - 1));
	d->bar[bar].size = size;
	d->bar[bar].range = (struct iobus_range){.len = size, .width = width, .fn = fn, .ctx = ctx};
	pci_put32(d->wmask + PCI_BASE_ADDRESS_0 + 4 * bar, (u32)~(size - 1));
}

int pci_attach(struct pci_bus *b, struct pci_dev *d)
{
	int ret = 0;

	pthread_mutex_lock(&b->lock);
	for (d->slot = 0; d->slot < PCI_NR_SLOTS && b->slots[d->slot]; d->slot++)
		;
	if (d->slot == PCI_NR_SLOTS) {
		ret = -ENOSPC;
		goto out;
	}
	for (unsigned i = 0; i < PCI_NR_BARS; i++) {
		u64 at = round_up(b->next_bar, d->bar[i].size ? d->bar[i].size : 1);

		if (!d->bar[i].size)
			continue;
		if (at + d->bar[i].size > LAYOUT_PCI_MMIO_END) {
			ret = -ENOSPC;
			goto out;
		}
		pci_put32(d->cfg + PCI_BASE_ADDRESS_0 + 4 * i, (u32)at);
		b->next_bar = at + d->bar[i].size;
	}
	d->bus = b;
	b->slots[d->slot] = d;
	if (d != &b->bridge) {
		d->cfg[PCI_INTERRUPT_PIN] = 1;
		d->cfg[PCI_INTERRUPT_LINE] = (u8)(IRQ_PCI_FIRST + d->slot % IRQ_NR_PCI);
		pci_put16(d->cfg + PCI_COMMAND, PCI_COMMAND_MEMORY);
		bars_update(d);
	}
out:
	pthread_mutex_unlock(&b->lock);
	return ret;
}

void pci_detach(struct pci_dev *d)
{
	struct pci_bus *b = d->bus;

	if (b) {
		pthread_mutex_lock(&b->lock);
		for (unsigned i = 0; i < PCI_NR_BARS; i++)
			if (d->bar[i].mapped)
				iobus_remove(b->mmio, &d->bar[i].range);
		b->slots[d->slot] = NULL;
		pthread_mutex_unlock(&b->lock);
		pci_intx(d, false);
	}
	msix_free(d);
	d->bus = NULL;
}
