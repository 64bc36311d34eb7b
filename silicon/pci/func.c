// SPDX-License-Identifier: MIT
/*
 * Configuration space and memory windows of a PCI function.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "silicon/pci.h"

static void put16(u8 *p, u16 v)
{
	memcpy(p, &v, 2);
}

static void put32(u8 *p, u32 v)
{
	memcpy(p, &v, 4);
}

static u32 get32(const u8 *p)
{
	u32 v;

	memcpy(&v, p, 4);
	return v;
}

/* ---- Set-up ---- */

void pci_func_init(struct pci_func *f, const struct pci_slot *slot, const struct pci_ids *ids)
{
	memset(f, 0, sizeof(*f));
	f->slot = slot;
	f->next_free = 0x40;
	put16(f->config + PCI_VENDOR_ID, ids->vendor);
	put16(f->config + PCI_DEVICE_ID, ids->device);
	put32(f->config + PCI_CLASS_REVISION, ids->class << 8 | 1);
	put16(f->config + PCI_SUBSYSTEM_VENDOR_ID, ids->subvendor);
	put16(f->config + PCI_SUBSYSTEM_ID, ids->subdevice);
	put16(f->config + PCI_STATUS, PCI_STATUS_CAP_LIST);
	put16(f->writable + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	f->writable[PCI_CACHE_LINE_SIZE] = f->writable[PCI_INTERRUPT_LINE] = 0xff;
}

void pci_func_add_bar(struct pci_func *f, unsigned nr, const struct pci_bar *bar)
{
	u64 mask = ~(bar->size - 1);
	u8 at = PCI_BASE_ADDRESS_0 + 4 * nr;

	BUG_ON((nr & 1) || nr >= PCI_BARS || bar->size < 16 || (bar->size & (bar->size - 1)));
	f->bar[nr] = *bar;
	put32(f->config + at, PCI_BASE_ADDRESS_MEM_TYPE_64);
	put32(f->writable + at, mask);
	put32(f->writable + at + 4, mask >> 32);
}

u8 pci_func_add_cap(struct pci_func *f, const void *cap, u8 len)
{
	u8 at = f->next_free;

	BUG_ON(at + len > PCI_CONFIG_SIZE);
	memcpy(f->config + at, cap, len);
	f->config[at + PCI_CAP_LIST_NEXT] = 0;
	f->config[f->last_cap ? f->last_cap + PCI_CAP_LIST_NEXT : PCI_CAPABILITY_LIST] = at;
	f->last_cap = at;
	f->next_free = round_up(at + len, 4);
	return at;
}

void pci_func_reset(struct pci_func *f)
{
	for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++)
		f->config[i] &= ~f->writable[i];
	for (unsigned i = 0; i < f->msix_count; i++)
		f->msix[i] = (struct pci_msix_entry){ .ctrl = PCI_MSIX_ENTRY_CTRL_MASKBIT };
	f->msix_pending = 0;
	f->nr_out = 0;
}

/* ---- Configuration ---- */

static bool config_access_ok(u16 off, unsigned size)
{
	return (size == 1 || size == 2 || size == 4) && is_aligned(off, size) && off + size <= PCI_CONFIG_SIZE;
}

u32 pci_config_read(const struct pci_func *f, u16 off, unsigned size)
{
	u32 v = 0;

	if (!config_access_ok(off, size))
		return ~0u;
	memcpy(&v, f->config + off, size);
	return v;
}

static void send_unmasked(struct pci_func *f);

void pci_config_write(struct pci_func *f, u16 off, unsigned size, u32 v)
{
	if (!config_access_ok(off, size))
		return;
	for (unsigned i = 0; i < size; i++) {
		u8 *p = &f->config[off + i], w = f->writable[off + i];

		*p = (*p & ~w) | ((u8)(v >> 8 * i) & w);
	}
	send_unmasked(f);
}

static u16 command(const struct pci_func *f)
{
	return f->config[PCI_COMMAND] | f->config[PCI_COMMAND + 1] << 8;
}

u64 pci_bar_address(const struct pci_func *f, unsigned nr)
{
	const u8 *at = f->config + PCI_BASE_ADDRESS_0 + 4 * nr;

	return ((u64)get32(at + 4) << 32 | get32(at)) & ~15ull;
}

/* ---- Memory windows ---- */

static const struct pci_bar *decode(const struct pci_func *f, u64 addr, unsigned size, u64 *off)
{
	if (!(command(f) & PCI_COMMAND_MEMORY) || (size != 1 && size != 2 && size != 4 && size != 8) ||
	    !is_aligned(addr, size))
		return NULL;
	for (unsigned i = 0; i < PCI_BARS; i += 2) {
		u64 base = pci_bar_address(f, i);

		if (f->bar[i].size && addr >= base && addr - base < f->bar[i].size) {
			*off = addr - base;
			return &f->bar[i];
		}
	}
	return NULL;
}

bool pci_mem_read(struct pci_func *f, u64 addr, unsigned size, u64 *v)
{
	u64 off;
	const struct pci_bar *bar = decode(f, addr, size, &off);

	*v = bar ? bar->read(f, off, size) : ~0ull;
	return bar;
}

bool pci_mem_write(struct pci_func *f, u64 addr, unsigned size, u64 v)
{
	u64 off;
	const struct pci_bar *bar = decode(f, addr, size, &off);

	if (bar)
		bar->write(f, off, size, v);
	return bar;
}

/* ---- MSI-X ---- */

void pci_func_add_msix(struct pci_func *f, unsigned count, unsigned bar, u32 table, u32 pba)
{
	u8 cap[12] = { PCI_CAP_ID_MSIX };

	BUG_ON(!count || count > PCI_MSIX_MAX);
	put16(cap + PCI_MSIX_FLAGS, count - 1);
	put32(cap + PCI_MSIX_TABLE, table | bar);
	put32(cap + PCI_MSIX_PBA, pba | bar);
	f->msix_count = count;
	f->msix_cap = pci_func_add_cap(f, cap, sizeof(cap));
	put16(f->writable + f->msix_cap + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	pci_func_reset(f);
}

static u16 msix_flags(const struct pci_func *f)
{
	const u8 *p = f->config + f->msix_cap + PCI_MSIX_FLAGS;

	return f->msix_cap ? p[0] | p[1] << 8 : 0;
}

bool pci_func_msix_enabled(const struct pci_func *f)
{
	return msix_flags(f) & PCI_MSIX_FLAGS_ENABLE;
}

static bool masked(const struct pci_func *f, unsigned vector)
{
	return (msix_flags(f) & PCI_MSIX_FLAGS_MASKALL) ||
	       (f->msix[vector].ctrl & PCI_MSIX_ENTRY_CTRL_MASKBIT);
}

static void queue_message(struct pci_func *f, unsigned vector)
{
	/* One per vector is enough: they are edges, and none was sent since the last. */
	for (unsigned i = 0; i < f->nr_out; i++)
		if (f->out[i].addr == f->msix[vector].addr && f->out[i].data == f->msix[vector].data)
			return;
	if (f->nr_out < PCI_MSIX_MAX)
		f->out[f->nr_out++] = (struct pci_msg){ f->msix[vector].addr, f->msix[vector].data };
}

void pci_msix_raise(struct pci_func *f, unsigned vector)
{
	if (vector >= f->msix_count || !pci_func_msix_enabled(f))
		return;
	if (masked(f, vector))
		f->msix_pending |= BIT(vector);
	else
		queue_message(f, vector);
}

/* After anything that may have taken a mask away. */
static void send_unmasked(struct pci_func *f)
{
	if (!f->msix_pending || !pci_func_msix_enabled(f))
		return;
	for (unsigned i = 0; i < f->msix_count; i++) {
		if (!(f->msix_pending & BIT(i)) || masked(f, i))
			continue;
		f->msix_pending &= ~BIT(i);
		queue_message(f, i);
	}
}

/* The entries as software lays them out: dwords address low and high, data, control. */
static u32 *msix_dword(struct pci_func *f, u64 off)
{
	struct pci_msix_entry *e = &f->msix[off / PCI_MSIX_ENTRY_SIZE];

	switch (off % PCI_MSIX_ENTRY_SIZE) {
	case PCI_MSIX_ENTRY_LOWER_ADDR:
		return (u32 *)&e->addr;
	case PCI_MSIX_ENTRY_UPPER_ADDR:
		return (u32 *)&e->addr + 1;
	case PCI_MSIX_ENTRY_DATA:
		return &e->data;
	default:
		return &e->ctrl;
	}
}

/* Software has to use whole dwords or pairs of them. */
static bool table_access_ok(const struct pci_func *f, u64 off, unsigned size)
{
	return size >= 4 && off + size <= (u64)PCI_MSIX_ENTRY_SIZE * f->msix_count;
}

u64 pci_msix_table_read(struct pci_func *f, u64 off, unsigned size)
{
	u64 v;

	if (!table_access_ok(f, off, size))
		return 0;
	v = *msix_dword(f, off);
	return size == 8 ? v | (u64)*msix_dword(f, off + 4) << 32 : v;
}

void pci_msix_table_write(struct pci_func *f, u64 off, unsigned size, u64 v)
{
	if (!table_access_ok(f, off, size))
		return;
	for (unsigned i = 0; i < size; i += 4) {
		u64 at = off + i;
		u32 keep = at % PCI_MSIX_ENTRY_SIZE == PCI_MSIX_ENTRY_VECTOR_CTRL ? PCI_MSIX_ENTRY_CTRL_MASKBIT :
			   at % PCI_MSIX_ENTRY_SIZE == PCI_MSIX_ENTRY_LOWER_ADDR ? ~3u : ~0u;

		*msix_dword(f, at) = (u32)(v >> 8 * i) & keep;
	}
	send_unmasked(f);
}

u64 pci_msix_pba_read(const struct pci_func *f, u64 off, unsigned size)
{
	return off < 8 && size >= 4 ? f->msix_pending >> 8 * off : 0;
}

unsigned pci_take_messages(struct pci_func *f, struct pci_msg out[PCI_MSIX_MAX])
{
	unsigned n = f->nr_out;

	memcpy(out, f->out, n * sizeof(*out));
	f->nr_out = 0;
	return n;
}

void pci_send(const struct pci_func *f, const struct pci_msg *msg, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		f->slot->message(f->slot->ctx, msg[i].addr, msg[i].data);
}

/* ---- DMA ---- */

static bool is_master(const struct pci_func *f)
{
	return command(f) & PCI_COMMAND_MASTER;
}

static int dma_read(void *ctx, u64 addr, void *buf, size_t len)
{
	const struct pci_func *f = ctx;

	return is_master(f) ? f->slot->dma.read(f->slot->ctx, addr, buf, len) : -EPERM;
}

static int dma_write(void *ctx, u64 addr, const void *buf, size_t len)
{
	const struct pci_func *f = ctx;

	return is_master(f) ? f->slot->dma.write(f->slot->ctx, addr, buf, len) : -EPERM;
}

static int dma_load16(void *ctx, u64 addr, u16 *v)
{
	const struct pci_func *f = ctx;

	return is_master(f) ? f->slot->dma.load16(f->slot->ctx, addr, v) : -EPERM;
}

static int dma_store16(void *ctx, u64 addr, u16 v)
{
	const struct pci_func *f = ctx;

	return is_master(f) ? f->slot->dma.store16(f->slot->ctx, addr, v) : -EPERM;
}

const struct dring_port pci_dma_port = {
	.read = dma_read, .write = dma_write, .load16 = dma_load16, .store16 = dma_store16,
};
