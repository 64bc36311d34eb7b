// SPDX-License-Identifier: MIT
/*
 * Finding and programming the hardware of an ifcvf function.
 *
 * Source: VIRTIO 1.1 "Virtio Over PCI Bus", "Device Initialization"; for the
 * region in BAR 4, Intel's N3000 and C5000X-PL.
 */
#include "vdpa/ifcvf/hw.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <linux/virtio_pci.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"

#define LM_BAR 4
#define NO_VECTOR 0xffff
/* A capability list that is longer has a loop. */
#define MAX_CAPS 48

static const u16 ids[][4] = {
	/* vendor, device, subsystem vendor, subsystem */
	{ 0x1af4, 0x1041, 0x8086, 0x001a },	/* N3000, network */
	{ 0x1af4, 0x1000, 0x8086, 0x0001 },	/* C5000X-PL, network */
	{ 0x1af4, 0x1001, 0x8086, 0x0002 },	/* C5000X-PL, block */
};

static u16 config16(struct host *h, u16 off)
{
	return host_config_read(h, off, 2);
}

bool ifcvf_claims(struct host *h)
{
	u16 id[4] = {
		config16(h, PCI_VENDOR_ID), config16(h, PCI_DEVICE_ID),
		config16(h, PCI_SUBSYSTEM_VENDOR_ID), config16(h, PCI_SUBSYSTEM_ID),
	};

	for (unsigned i = 0; i < ARRAY_SIZE(ids); i++)
		if (!memcmp(id, ids[i], sizeof(id)))
			return true;
	return false;
}

/* ---- Registers ---- */

static u64 get(struct ifcvf_hw *hw, unsigned off, unsigned size)
{
	return host_read(hw->host, hw->common + off, size);
}

static void set(struct ifcvf_hw *hw, unsigned off, unsigned size, u64 v)
{
	host_write(hw->host, hw->common + off, size, v);
}

static void set64(struct ifcvf_hw *hw, unsigned lo, u64 v)
{
	set(hw, lo, 4, (u32)v);
	set(hw, lo + 4, 4, v >> 32);
}

u8 ifcvf_get_status(struct ifcvf_hw *hw)
{
	return get(hw, VIRTIO_PCI_COMMON_STATUS, 1);
}

void ifcvf_set_status(struct ifcvf_hw *hw, u8 status)
{
	set(hw, VIRTIO_PCI_COMMON_STATUS, 1, status);
}

static u64 lm_address(const struct ifcvf_hw *hw, u16 vq)
{
	return hw->lm + VFUNC_LM_RING + VFUNC_LM_PAIR * (vq / 2) + 4 * (vq % 2);
}

u16 ifcvf_get_position(struct ifcvf_hw *hw, u16 vq)
{
	return host_read(hw->host, lm_address(hw, vq), 4);
}

void ifcvf_set_position(struct ifcvf_hw *hw, u16 vq, u16 position)
{
	host_write(hw->host, lm_address(hw, vq), 4, position);
}

void ifcvf_kick(struct ifcvf_hw *hw, u16 vq)
{
	host_write(hw->host, hw->notify + hw->vring[vq].doorbell, 2, vq);
}

u32 ifcvf_get_generation(struct ifcvf_hw *hw)
{
	return get(hw, VIRTIO_PCI_COMMON_CFGGENERATION, 1);
}

void ifcvf_read_config(struct ifcvf_hw *hw, u32 off, void *buf, u32 len)
{
	u32 before, after = ifcvf_get_generation(hw);
	u8 *p = buf;

	do {
		before = after;
		for (u32 i = 0; i < len; i++)
			p[i] = host_read(hw->host, hw->device + off + i, 1);
		after = ifcvf_get_generation(hw);
	} while (before != after);
}

void ifcvf_write_config(struct ifcvf_hw *hw, u32 off, const void *buf, u32 len)
{
	const u8 *p = buf;

	for (u32 i = 0; i < len; i++)
		host_write(hw->host, hw->device + off + i, 1, p[i]);
}

/* ---- Probe ---- */

/* The structure that a vendor capability at @at tells of, unless it lies outside its window. */
static u64 structure(struct host *h, u16 at, u32 *len, u64 *in_window)
{
	u8 bar = host_config_read(h, at + VIRTIO_PCI_CAP_BAR, 1);
	u64 off = host_config_read(h, at + VIRTIO_PCI_CAP_OFFSET, 4), size, base;

	*len = host_config_read(h, at + VIRTIO_PCI_CAP_LENGTH, 4);
	*in_window = off;
	base = host_window(h, bar, &size);
	return !size || off + *len > size ? 0 : base + off;
}

static void find_vendor_cap(struct ifcvf_hw *hw, u16 at)
{
	u32 len;
	u64 off, addr = structure(hw->host, at, &len, &off);

	if (!addr)
		return;
	switch (host_config_read(hw->host, at + VIRTIO_PCI_CAP_CFG_TYPE, 1)) {
	case VIRTIO_PCI_CAP_COMMON_CFG:
		hw->common = addr;
		break;
	case VIRTIO_PCI_CAP_NOTIFY_CFG:
		hw->notify = addr;
		hw->notify_off = off;
		hw->notify_multiplier = host_config_read(hw->host, at + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);
		break;
	case VIRTIO_PCI_CAP_ISR_CFG:
		hw->isr = addr;
		break;
	case VIRTIO_PCI_CAP_DEVICE_CFG:
		hw->device = addr;
		hw->config_size = len;
		break;
	}
}

static void find_msix(struct ifcvf_hw *hw, u16 at)
{
	u32 table = host_config_read(hw->host, at + PCI_MSIX_TABLE, 4);
	u64 size, base = host_window(hw->host, table & PCI_MSIX_TABLE_BIR, &size);
	u16 count = (config16(hw->host, at + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_QSIZE) + 1;

	table &= PCI_MSIX_TABLE_OFFSET;
	if (!size || table + (u64)PCI_MSIX_ENTRY_SIZE * count > size)
		return;
	hw->msix_cap = at;
	hw->msix_table = base + table;
	/* The host has so many. */
	hw->nr_vectors = min(count, (u16)PCI_MSIX_MAX);
}

static int find_caps(struct ifcvf_hw *hw)
{
	struct host *h = hw->host;
	u8 at = host_config_read(h, PCI_CAPABILITY_LIST, 1) & ~3u;

	for (unsigned n = 0; at && n < MAX_CAPS; n++) {
		switch (host_config_read(h, at, 1)) {
		case PCI_CAP_ID_VNDR:
			find_vendor_cap(hw, at);
			break;
		case PCI_CAP_ID_MSIX:
			find_msix(hw, at);
			break;
		}
		at = host_config_read(h, at + PCI_CAP_LIST_NEXT, 1) & ~3u;
	}
	return hw->common && hw->notify && hw->isr && hw->device && hw->nr_vectors ? 0 : -EIO;
}

static int find_type(struct ifcvf_hw *hw)
{
	u16 device = config16(hw->host, PCI_DEVICE_ID);
	size_t size;

	hw->vendor = config16(hw->host, PCI_SUBSYSTEM_VENDOR_ID);
	/* Below 1040h are the transitional ids, with the type in the subsystem. */
	hw->type = device < 0x1040 ? config16(hw->host, PCI_SUBSYSTEM_ID) : device - 0x1040u;
	switch (hw->type) {
	case VIRTIO_ID_NET:
		size = sizeof(struct virtio_net_config);
		break;
	case VIRTIO_ID_BLOCK:
		size = sizeof(struct virtio_blk_config);
		break;
	default:
		return -EOPNOTSUPP;
	}
	hw->config_size = min(hw->config_size, size);
	return 0;
}

static u64 device_features(struct ifcvf_hw *hw)
{
	u64 f;

	set(hw, VIRTIO_PCI_COMMON_DFSELECT, 4, 0);
	f = get(hw, VIRTIO_PCI_COMMON_DF, 4);
	set(hw, VIRTIO_PCI_COMMON_DFSELECT, 4, 1);
	return f | get(hw, VIRTIO_PCI_COMMON_DF, 4) << 32;
}

int ifcvf_probe(struct ifcvf_hw *hw, struct host *h)
{
	u64 size;
	int err;

	memset(hw, 0, sizeof(*hw));
	hw->host = h;
	/* All three windows are the card's, so all must be there. */
	for (unsigned bar = 0; bar <= LM_BAR; bar += 2)
		if (!host_window(h, bar, &size))
			return -EIO;
	hw->lm = host_window(h, LM_BAR, &size);
	host_config_write(h, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	err = find_caps(hw);
	if (!err)
		err = find_type(hw);
	if (err)
		return err;
	hw->nr_queues = get(hw, VIRTIO_PCI_COMMON_NUMQ, 2);
	if (!hw->nr_queues || hw->nr_queues > IFCVF_MAX_QUEUES)
		return -EINVAL;
	if (VFUNC_LM_RING + VFUNC_LM_PAIR * ((hw->nr_queues + 1u) / 2) > size)
		return -EIO;
	hw->features = device_features(hw);
	hw->config_cb = VDPA_NO_CALLBACK;
	for (u16 i = 0; i < hw->nr_queues; i++) {
		set(hw, VIRTIO_PCI_COMMON_Q_SELECT, 2, i);
		hw->vring[i].doorbell = get(hw, VIRTIO_PCI_COMMON_Q_NOFF, 2) * hw->notify_multiplier;
		hw->vring[i].cb = VDPA_NO_CALLBACK;
	}
	return 0;
}

/* ---- Interrupts ---- */

enum ifcvf_irqs ifcvf_irq_mode(const struct ifcvf_hw *hw)
{
	if (hw->nr_vectors > hw->nr_queues)
		return IFCVF_IRQ_EACH;
	return hw->nr_vectors > 1 ? IFCVF_IRQ_TWO : IFCVF_IRQ_ONE;
}

static u16 queue_vector(const struct ifcvf_hw *hw, u16 vq)
{
	return ifcvf_irq_mode(hw) == IFCVF_IRQ_EACH ? vq : 0;
}

static u16 config_vector(const struct ifcvf_hw *hw)
{
	switch (ifcvf_irq_mode(hw)) {
	case IFCVF_IRQ_EACH: return hw->nr_queues;
	case IFCVF_IRQ_TWO: return 1;
	default: return 0;
	}
}

static void on_queue(void *arg)
{
	const struct ifcvf_vring *vr = arg;

	vdpa_callback_run(&vr->cb);
}

static void on_any_queue(void *arg)
{
	struct ifcvf_hw *hw = arg;

	for (u16 i = 0; i < hw->nr_queues; i++)
		vdpa_callback_run(&hw->vring[i].cb);
}

static void on_config(void *arg)
{
	struct ifcvf_hw *hw = arg;

	vdpa_callback_run(&hw->config_cb);
}

/* One vector for everything: the ISR register says whether it is the configuration. */
static void on_anything(void *arg)
{
	struct ifcvf_hw *hw = arg;

	if (host_read(hw->host, hw->isr, 1) & VIRTIO_PCI_ISR_CONFIG)
		on_config(hw);
	on_any_queue(hw);
}

static void set_entry(struct ifcvf_hw *hw, u16 vector, u32 ctrl)
{
	u64 e = hw->msix_table + PCI_MSIX_ENTRY_SIZE * vector;

	host_write(hw->host, e + PCI_MSIX_ENTRY_LOWER_ADDR, 4, (u32)host_msi_address());
	host_write(hw->host, e + PCI_MSIX_ENTRY_UPPER_ADDR, 4, host_msi_address() >> 32);
	host_write(hw->host, e + PCI_MSIX_ENTRY_DATA, 4, vector);
	host_write(hw->host, e + PCI_MSIX_ENTRY_VECTOR_CTRL, 4, ctrl);
}

static void irqs_on(struct ifcvf_hw *hw)
{
	u16 last = config_vector(hw);

	switch (ifcvf_irq_mode(hw)) {
	case IFCVF_IRQ_EACH:
		for (u16 i = 0; i < hw->nr_queues; i++)
			host_set_irq(hw->host, i, on_queue, &hw->vring[i]);
		host_set_irq(hw->host, last, on_config, hw);
		break;
	case IFCVF_IRQ_TWO:
		host_set_irq(hw->host, 0, on_any_queue, hw);
		host_set_irq(hw->host, 1, on_config, hw);
		break;
	case IFCVF_IRQ_ONE:
		host_set_irq(hw->host, 0, on_anything, hw);
		break;
	}
	for (u16 i = 0; i <= last; i++)
		set_entry(hw, i, 0);
	host_config_write(hw->host, hw->msix_cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	hw->irqs_on = true;
}

static void irqs_off(struct ifcvf_hw *hw)
{
	if (!hw->irqs_on)
		return;
	host_config_write(hw->host, hw->msix_cap + PCI_MSIX_FLAGS, 2, 0);
	for (u16 i = 0; i <= config_vector(hw); i++) {
		set_entry(hw, i, PCI_MSIX_ENTRY_CTRL_MASKBIT);
		host_set_irq(hw->host, i, NULL, NULL);
	}
	hw->irqs_on = false;
}

/* What was written must read back. */
static bool set_vector(struct ifcvf_hw *hw, unsigned off, u16 vector)
{
	set(hw, off, 2, vector);
	return get(hw, off, 2) == vector;
}

/* ---- Start and stop ---- */

static bool agree(struct ifcvf_hw *hw, u8 status)
{
	set(hw, VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	set(hw, VIRTIO_PCI_COMMON_GF, 4, (u32)hw->req_features);
	set(hw, VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	set(hw, VIRTIO_PCI_COMMON_GF, 4, hw->req_features >> 32);
	ifcvf_set_status(hw, status);
	return ifcvf_get_status(hw) & VIRTIO_CONFIG_S_FEATURES_OK;
}

static bool program_queues(struct ifcvf_hw *hw)
{
	if (!set_vector(hw, VIRTIO_PCI_COMMON_MSIX, config_vector(hw)))
		return false;
	for (u16 i = 0; i < hw->nr_queues && hw->vring[i].ready; i++) {
		const struct ifcvf_vring *vr = &hw->vring[i];

		set(hw, VIRTIO_PCI_COMMON_Q_SELECT, 2, i);
		if (!set_vector(hw, VIRTIO_PCI_COMMON_Q_MSIX, queue_vector(hw, i)))
			return false;
		set64(hw, VIRTIO_PCI_COMMON_Q_DESCLO, vr->addr.desc);
		set64(hw, VIRTIO_PCI_COMMON_Q_AVAILLO, vr->addr.driver);
		set64(hw, VIRTIO_PCI_COMMON_Q_USEDLO, vr->addr.device);
		set(hw, VIRTIO_PCI_COMMON_Q_SIZE, 2, vr->num);
		set(hw, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	}
	return true;
}

int ifcvf_start(struct ifcvf_hw *hw, u8 status)
{
	u8 ready = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

	irqs_on(hw);
	ifcvf_set_status(hw, 0);
	ifcvf_set_status(hw, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	ifcvf_set_status(hw, ready);
	ready |= VIRTIO_CONFIG_S_FEATURES_OK;
	if (!agree(hw, ready)) {
		log_info("vdpa: ifcvf: the device refuses features %#llx", (unsigned long long)hw->req_features);
		goto fail;
	}
	if (!program_queues(hw)) {
		log_info("vdpa: ifcvf: the device refuses an interrupt vector");
		goto fail;
	}
	ifcvf_set_status(hw, status);
	return 0;
fail:
	ifcvf_stop(hw);
	ifcvf_set_status(hw, VIRTIO_CONFIG_S_FAILED);
	return -EIO;
}

void ifcvf_stop(struct ifcvf_hw *hw)
{
	if (hw->irqs_on) {
		for (u16 i = 0; i < hw->nr_queues; i++) {
			set(hw, VIRTIO_PCI_COMMON_Q_SELECT, 2, i);
			set_vector(hw, VIRTIO_PCI_COMMON_Q_MSIX, NO_VECTOR);
		}
		set_vector(hw, VIRTIO_PCI_COMMON_MSIX, NO_VECTOR);
	}
	ifcvf_set_status(hw, 0);
	irqs_off(hw);
}
