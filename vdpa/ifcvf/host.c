// SPDX-License-Identifier: MIT
/*
 * Bus, IOMMU domain and interrupts of one simulated function.
 *
 * Locks: irqs, then the function's own, then the domain's. The function sends
 * its messages with its lock free.
 */
#include "vdpa/ifcvf/host.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/bits.h"
#include "vdpa/vringh.h"

/* Where windows go, and where interrupt messages go. */
#define WINDOWS 0xe0000000ull
#define MSI 0xfee00000ull
#define DOMAIN_ENTRIES 65536

struct host {
	struct pci_slot slot;
	struct vfunc *func;
	u64 window[PCI_BARS], window_size[PCI_BARS];
	pthread_mutex_t domain_lock;
	struct vdpa_iotlb *domain;
	pthread_mutex_t irq_lock;
	struct { void (*fn)(void *arg); void *arg; } irq[PCI_MSIX_MAX];
};

/* ---- The function's way out ---- */

static int dma_read(void *ctx, u64 addr, void *buf, size_t len)
{
	struct host *h = ctx;
	int err;

	pthread_mutex_lock(&h->domain_lock);
	err = vringh_iotlb_port.read(h->domain, addr, buf, len);
	pthread_mutex_unlock(&h->domain_lock);
	return err;
}

static int dma_write(void *ctx, u64 addr, const void *buf, size_t len)
{
	struct host *h = ctx;
	int err;

	pthread_mutex_lock(&h->domain_lock);
	err = vringh_iotlb_port.write(h->domain, addr, buf, len);
	pthread_mutex_unlock(&h->domain_lock);
	return err;
}

static int dma_load16(void *ctx, u64 addr, u16 *v)
{
	struct host *h = ctx;
	int err;

	pthread_mutex_lock(&h->domain_lock);
	err = vringh_iotlb_port.load16(h->domain, addr, v);
	pthread_mutex_unlock(&h->domain_lock);
	return err;
}

static int dma_store16(void *ctx, u64 addr, u16 v)
{
	struct host *h = ctx;
	int err;

	pthread_mutex_lock(&h->domain_lock);
	err = vringh_iotlb_port.store16(h->domain, addr, v);
	pthread_mutex_unlock(&h->domain_lock);
	return err;
}

/* A stray message, to an address or vector that is nobody's, is lost. */
static void message(void *ctx, u64 addr, u32 data)
{
	struct host *h = ctx;

	if (addr != MSI || data >= PCI_MSIX_MAX)
		return;
	pthread_mutex_lock(&h->irq_lock);
	if (h->irq[data].fn)
		h->irq[data].fn(h->irq[data].arg);
	pthread_mutex_unlock(&h->irq_lock);
}

/* ---- What the driver calls ---- */

struct vfunc *host_func(struct host *h)
{
	return h->func;
}

u32 host_config_read(struct host *h, u16 off, unsigned size)
{
	return vfunc_config_read(h->func, off, size);
}

void host_config_write(struct host *h, u16 off, unsigned size, u32 v)
{
	vfunc_config_write(h->func, off, size, v);
}

u64 host_read(struct host *h, u64 addr, unsigned size)
{
	u64 v;

	vfunc_mem_read(h->func, addr, size, &v);
	return v;
}

void host_write(struct host *h, u64 addr, unsigned size, u64 v)
{
	vfunc_mem_write(h->func, addr, size, v);
}

u64 host_window(struct host *h, unsigned bar, u64 *size)
{
	*size = bar < PCI_BARS ? h->window_size[bar] : 0;
	return *size ? h->window[bar] : 0;
}

int host_map(struct host *h, const struct vdpa_map *m)
{
	int err;

	pthread_mutex_lock(&h->domain_lock);
	err = vdpa_iotlb_add(h->domain, m);
	pthread_mutex_unlock(&h->domain_lock);
	return err;
}

void host_unmap(struct host *h, u64 start, u64 last)
{
	pthread_mutex_lock(&h->domain_lock);
	vdpa_iotlb_del(h->domain, start, last);
	pthread_mutex_unlock(&h->domain_lock);
}

u64 host_msi_address(void)
{
	return MSI;
}

void host_irq_lock(struct host *h)
{
	pthread_mutex_lock(&h->irq_lock);
}

void host_irq_unlock(struct host *h)
{
	pthread_mutex_unlock(&h->irq_lock);
}

void host_set_irq(struct host *h, unsigned vector, void (*fn)(void *arg), void *arg)
{
	host_irq_lock(h);
	h->irq[vector].fn = fn;
	h->irq[vector].arg = arg;
	host_irq_unlock(h);
}

/* ---- Enumeration ---- */

static u64 bar_registers(struct host *h, unsigned bar)
{
	u16 at = PCI_BASE_ADDRESS_0 + 4 * bar;

	return (u64)host_config_read(h, at + 4, 4) << 32 | (host_config_read(h, at, 4) & PCI_BASE_ADDRESS_MEM_MASK);
}

/* Size each window by writing ones, and give it an address. Source: PCI 3.0 "Base Addresses". */
static void assign_windows(struct host *h)
{
	u64 next = WINDOWS;

	for (unsigned bar = 0; bar < PCI_BARS; bar += 2) {
		u16 at = PCI_BASE_ADDRESS_0 + 4 * bar;
		u64 mask;

		host_config_write(h, at, 4, ~0u);
		host_config_write(h, at + 4, 4, ~0u);
		mask = bar_registers(h, bar);
		if (!mask)
			continue;
		h->window_size[bar] = ~mask + 1;
		h->window[bar] = round_up(next, h->window_size[bar]);
		host_config_write(h, at, 4, h->window[bar]);
		host_config_write(h, at + 4, 4, h->window[bar] >> 32);
		next = h->window[bar] + h->window_size[bar];
	}
}

struct host *host_new(const struct vfunc_config *c)
{
	struct host *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->slot = (struct pci_slot){
		.dma = { .read = dma_read, .write = dma_write, .load16 = dma_load16, .store16 = dma_store16 },
		.message = message, .ctx = h,
	};
	pthread_mutex_init(&h->domain_lock, NULL);
	pthread_mutex_init(&h->irq_lock, NULL);
	h->domain = vdpa_iotlb_new(DOMAIN_ENTRIES);
	h->func = h->domain ? vfunc_new(c, &h->slot) : NULL;
	if (!h->func) {
		vdpa_iotlb_free(h->domain);
		free(h);
		return NULL;
	}
	assign_windows(h);
	return h;
}

void host_reset(struct host *h)
{
	vfunc_function_reset(h->func);
	assign_windows(h);
}

void host_free(struct host *h)
{
	vfunc_free(h->func);
	vdpa_iotlb_free(h->domain);
	pthread_mutex_destroy(&h->domain_lock);
	pthread_mutex_destroy(&h->irq_lock);
	free(h);
}
