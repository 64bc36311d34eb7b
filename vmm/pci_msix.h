/* SPDX-License-Identifier: MIT */
/* MSI-X, for pci.c. */
#ifndef VMM_PCI_MSIX_H
#define VMM_PCI_MSIX_H

struct pci_dev;

/* The enable or function-mask bit of the capability was written. */
void msix_flags_changed(struct pci_dev *d);
void msix_free(struct pci_dev *d);

#endif
