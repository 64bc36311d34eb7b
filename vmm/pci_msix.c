// SPDX-License-Identifier: MIT
/*
 * MSI-X: vector table, pending bits, masking. The table's BAR holds the table
 * in its first half and the pending-bit array in its second.
 * Source: PCI Local Bus Specification 3.0 "MSI-X Capability and Table Structures".
 */
#include "vmm/pci_msix.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "vmm/pci.h"

static u16 msix_flags(const struct pci_dev *d)
{
	return d->msix_cap ? pci_get16(d->cfg + d->msix_cap + PCI_MSIX_FLAGS) : 0;
}

bool pci_msix_enabled(struct pci_dev *d)
{
	return msix_flags(d) & PCI_MSIX_FLAGS_ENABLE;
}

/* Fire what is pending and no longer masked. irq_lock held. */
static void msix_deliver(struct pci_dev *d, struct pci_msix_vector *v)
{
	u16 flags = msix_flags(d);

	if (!v->pending || v->masked || !(flags & PCI_MSIX_FLAGS_ENABLE) ||
	    (flags & PCI_MSIX_FLAGS_MASKALL))
		return;
	if (v->msi < 0)
		v->msi = irq_msi_alloc(d->bus->irqs);
	if (v->msi < 0) {
		log_error("no message slot for a PCI device: %s", strerror(-v->msi));
		return;
	}
	irq_msi_set(d->bus->irqs, v->msi, v->addr, v->data);
	v->pending = false;
	irq_msi_fire(d->bus->irqs, v->msi);
}

void msix_flags_changed(struct pci_dev *d)
{
	pthread_mutex_lock(&d->irq_lock);
	for (unsigned i = 0; i < d->nr_vectors; i++)
		msix_deliver(d, &d->vectors[i]);
	pthread_mutex_unlock(&d->irq_lock);
}

void pci_msix_fire(struct pci_dev *d, unsigned v)
{
	if (v >= d->nr_vectors)
		return;
	pthread_mutex_lock(&d->irq_lock);
	d->vectors[v].pending = true;
	msix_deliver(d, &d->vectors[v]);
	pthread_mutex_unlock(&d->irq_lock);
}

static u32 table_read(const struct pci_msix_vector *v, unsigned reg)
{
	switch (reg) {
	case PCI_MSIX_ENTRY_LOWER_ADDR:
		return (u32)v->addr;
	case PCI_MSIX_ENTRY_UPPER_ADDR:
		return (u32)(v->addr >> 32);
	case PCI_MSIX_ENTRY_DATA:
		return v->data;
	default:
		return v->masked ? PCI_MSIX_ENTRY_CTRL_MASKBIT : 0;
	}
}

static void table_write(struct pci_msix_vector *v, unsigned reg, u32 val)
{
	switch (reg) {
	case PCI_MSIX_ENTRY_LOWER_ADDR:
		v->addr = (v->addr & ~0xffffffffull) | (val & ~3u);
		break;
	case PCI_MSIX_ENTRY_UPPER_ADDR:
		v->addr = (u32)v->addr | (u64)val << 32;
		break;
	case PCI_MSIX_ENTRY_DATA:
		v->data = val;
		break;
	default:
		v->masked = val & PCI_MSIX_ENTRY_CTRL_MASKBIT;
		break;
	}
}

/* Only aligned doublewords and quadwords are allowed; the bus splits the latter. */
static void msix_mmio(void *ctx, u64 off, u8 *data, unsigned len, bool is_write)
{
	struct pci_dev *d = ctx;
	u64 pba =
		d->bar[pci_get32(d->cfg + d->msix_cap + PCI_MSIX_TABLE) & PCI_MSIX_TABLE_BIR].size /
		2;
	unsigned idx = (unsigned)(off / PCI_MSIX_ENTRY_SIZE);

	if (len != 4 || (off & 3))
		return;
	pthread_mutex_lock(&d->irq_lock);
	if (idx < d->nr_vectors) {
		struct pci_msix_vector *v = &d->vectors[idx];

		if (is_write) {
			table_write(v, off % PCI_MSIX_ENTRY_SIZE, pci_get32(data));
			msix_deliver(d, v);
		} else {
			pci_put32(data, table_read(v, off % PCI_MSIX_ENTRY_SIZE));
		}
	} else if (off >= pba && !is_write) {
		u32 bits = 0;

		for (unsigned i = 0; i < 32; i++) {
			u64 n = (off - pba) * 8 + i;

			if (n < d->nr_vectors && d->vectors[n].pending)
				bits |= 1u << i;
		}
		pci_put32(data, bits);
	}
	pthread_mutex_unlock(&d->irq_lock);
}

int pci_add_msix(struct pci_dev *d, unsigned bar, unsigned nr)
{
	u64 half = PAGE_SIZE / 2;
	u8 *cap;

	d->vectors = calloc(nr, sizeof(*d->vectors));
	if (!d->vectors)
		return -ENOMEM;
	d->nr_vectors = nr;
	for (unsigned i = 0; i < nr; i++) {
		d->vectors[i].masked = true;
		d->vectors[i].msi = -1;
	}
	while (half < nr * PCI_MSIX_ENTRY_SIZE)
		half *= 2;
	pci_set_bar(d, bar, half * 2, 4, msix_mmio, d);
	d->msix_cap = pci_add_cap(d, PCI_CAP_ID_MSIX, PCI_CAP_MSIX_SIZEOF);
	cap = d->cfg + d->msix_cap;
	pci_put16(cap + PCI_MSIX_FLAGS, (u16)(nr - 1));
	pci_put16(d->wmask + d->msix_cap + PCI_MSIX_FLAGS,
		  PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	pci_put32(cap + PCI_MSIX_TABLE, bar);
	pci_put32(cap + PCI_MSIX_PBA, (u32)half | bar);
	return 0;
}

void msix_free(struct pci_dev *d)
{
	for (unsigned i = 0; i < d->nr_vectors; i++)
		if (d->vectors[i].msi >= 0)
			irq_msi_free(d->bus->irqs, d->vectors[i].msi);
	free(d->vectors);
	d->vectors = NULL;
	d->nr_vectors = 0;
}
