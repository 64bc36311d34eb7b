// SPDX-License-Identifier: MIT
/*
 * Virtio over PCI. BAR 0 holds the four register blocks, a page each; BAR 1
 * holds MSI-X. Source: VIRTIO 1.1 "Virtio Over PCI Bus".
 */
#include "vmm/virtio_pci.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>

#include "abi/kvm.h"
#include "base/bits.h"
#include "base/log.h"

#define PCI_VENDOR_VIRTIO 0x1af4
#define PCI_DEVICE_VIRTIO 0x1040	/* + virtio id */

#define BAR_REGS 0
#define BAR_MSIX 1
#define REGS_COMMON 0x0000
#define REGS_ISR 0x1000
#define REGS_DEVICE 0x2000
#define REGS_NOTIFY 0x3000
#define REGS_SIZE 0x4000
#define NOTIFY_STRIDE 4

#define ISR_QUEUE 1
#define ISR_CONFIG 2
#define NO_VECTOR VIRTIO_MSI_NO_VECTOR

static struct virtio_pci *of_pci(struct pci_dev *d)
{
	return container_of(d, struct virtio_pci, pci);
}

/* ---- ioeventfds: notifications without an exit to this process's vCPU loop ---- */

static void ioeventfd_call(struct virtio_pci *p, unsigned q, u64 addr, u32 flags)
{
	struct kvm_ioeventfd e = {
		.addr = addr,
		/* Length 0 takes any width where KVM can; drivers write 16 bits. */
		.len = p->vmm->cap_any_length ? 0 : 2,
		.fd = p->vdev->kick_fd[q],
		.flags = flags,
	};
	long ret = p->vmm->sys->ioctl(p->vmm->vm_fd, KVM_IOEVENTFD, (unsigned long)&e);

	/* Without it the access exits and regs_mmio() does the same. */
	if (ret < 0)
		log_warn("KVM_IOEVENTFD for virtio-%s: %s", p->vdev->ops->name,
			 strerror((int)-ret));
	else
		p->ioeventfd[q] = flags & KVM_IOEVENTFD_FLAG_DEASSIGN ? 0 : addr;
}

/* Make KVM agree with the queues and the BAR. vdev->lock held. */
static void ioeventfds_update(struct virtio_pci *p)
{
	if (!p->vmm->cap_ioeventfd)
		return;
	for (unsigned q = 0; q < p->vdev->ops->nr_queues; q++) {
		u64 want = p->vdev->vq[q].enabled && p->notify_base
				   ? p->notify_base + q * NOTIFY_STRIDE
				   : 0;

		if (p->ioeventfd[q] == want)
			continue;
		if (p->ioeventfd[q])
			ioeventfd_call(p, q, p->ioeventfd[q], KVM_IOEVENTFD_FLAG_DEASSIGN);
		if (want)
			ioeventfd_call(p, q, want, 0);
	}
}

/* ---- Interrupts ---- */

static void virtio_pci_raise(struct virtio_dev *vdev, int q)
{
	struct virtio_pci *p = vdev->transport;
	u16 vector = q < 0 ? p->config_vector : p->vector[q];

	if (q < 0)
		p->generation++;
	if (pci_msix_enabled(&p->pci)) {
		if (vector != NO_VECTOR)
			pci_msix_fire(&p->pci, vector);
		return;
	}
	p->isr |= q < 0 ? ISR_CONFIG | ISR_QUEUE : ISR_QUEUE;
	pci_intx(&p->pci, true);
}

/* ---- Common configuration structure ---- */

static struct virtq *selected(struct virtio_pci *p)
{
	return p->queue_select < p->vdev->ops->nr_queues ? &p->vdev->vq[p->queue_select] : NULL;
}

static u32 common_read(struct virtio_pci *p, unsigned off)
{
	struct virtio_dev *d = p->vdev;
	const struct virtq *q = selected(p);

	switch (off) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		return p->device_feature_select;
	case VIRTIO_PCI_COMMON_DF:
		return p->device_feature_select < 2 ?
			(u32)(virtio_offered(d) >> (32 * p->device_feature_select)) : 0;
	case VIRTIO_PCI_COMMON_GFSELECT:
		return p->driver_feature_select;
	case VIRTIO_PCI_COMMON_GF:
		return p->driver_feature_select < 2 ?
			(u32)(d->driver_features >> (32 * p->driver_feature_select)) : 0;
	case VIRTIO_PCI_COMMON_MSIX:
		return p->config_vector;
	case VIRTIO_PCI_COMMON_NUMQ:
		return d->ops->nr_queues;
	case VIRTIO_PCI_COMMON_STATUS:
		return d->status;
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		return p->generation;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		return p->queue_select;
	}
	/* What follows belongs to the selected queue; size 0 says that there is none. */
	if (!q)
		return 0;
	switch (off) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		return q->size;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		return p->vector[p->queue_select];
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		return q->enabled;
	case VIRTIO_PCI_COMMON_Q_NOFF:
		return p->queue_select;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
		return (u32)q->desc;
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		return (u32)(q->desc >> 32);
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
		return (u32)q->avail;
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		return (u32)(q->avail >> 32);
	case VIRTIO_PCI_COMMON_Q_USEDLO:
		return (u32)q->used;
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		return (u32)(q->used >> 32);
	}
	return 0;
}

static u64 set_half(u64 v, bool high, u32 half)
{
	return high ? (u32)v | (u64)half << 32 : (v & ~0xffffffffull) | half;
}

/* A vector that the device does not have reads back as none. */
static u16 checked_vector(const struct virtio_pci *p, u32 v)
{
	return v < p->pci.nr_vectors ? (u16)v : NO_VECTOR;
}

static void queue_enable(struct virtio_pci *p, struct virtq *q)
{
	const char *why;

	/* "The driver MUST NOT write a 0"; enabling twice changes nothing. */
	if (q->enabled)
		return;
	if (!(p->vdev->status & VIRTIO_CONFIG_S_FEATURES_OK)) {
		virtio_broken(p->vdev, "queue enabled before the features were agreed on");
		return;
	}
	q->indirect = virtio_has(p->vdev, VIRTIO_RING_F_INDIRECT_DESC);
	q->event_idx = virtio_has(p->vdev, VIRTIO_RING_F_EVENT_IDX);
	why = virtq_enable(q, p->vdev->mem);
	if (why)
		virtio_broken(p->vdev, why);
	else
		ioeventfds_update(p);
}

static void set_status(struct virtio_pci *p, u8 status)
{
	virtio_set_status(p->vdev, status);
	if (p->vdev->status)
		return;
	/* Reset. */
	p->config_vector = NO_VECTOR;
	for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
		p->vector[i] = NO_VECTOR;
	p->device_feature_select = p->driver_feature_select = 0;
	p->queue_select = 0;
	p->isr = 0;
	pci_intx(&p->pci, false);
	ioeventfds_update(p);
}

static void queue_write(struct virtio_pci *p, struct virtq *q, unsigned off, u32 v)
{
	if (off == VIRTIO_PCI_COMMON_Q_MSIX) {
		p->vector[p->queue_select] = checked_vector(p, v);
		return;
	}
	/* The rest is fixed while the queue runs. */
	if (q->enabled)
		return;
	switch (off) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		/* Kept only if valid; the driver reads it back, and enabling checks again. */
		if (v && v <= p->vdev->ops->queue_size)
			q->size = (u16)v;
		break;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		if (v == 1)
			queue_enable(p, q);
		break;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		q->desc = set_half(q->desc, off == VIRTIO_PCI_COMMON_Q_DESCHI, v);
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		q->avail = set_half(q->avail, off == VIRTIO_PCI_COMMON_Q_AVAILHI, v);
		break;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		q->used = set_half(q->used, off == VIRTIO_PCI_COMMON_Q_USEDHI, v);
		break;
	}
}

static void common_write(struct virtio_pci *p, unsigned off, u32 v)
{
	struct virtio_dev *d = p->vdev;
	struct virtq *q = selected(p);

	switch (off) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		p->device_feature_select = v;
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		p->driver_feature_select = v;
		break;
	case VIRTIO_PCI_COMMON_GF:
		if (p->driver_feature_select < 2 && !(d->status & VIRTIO_CONFIG_S_FEATURES_OK))
			d->driver_features =
				set_half(d->driver_features, p->driver_feature_select, v);
		break;
	case VIRTIO_PCI_COMMON_MSIX:
		p->config_vector = checked_vector(p, v);
		break;
	case VIRTIO_PCI_COMMON_STATUS:
		set_status(p, (u8)v);
		break;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		p->queue_select = (u16)v;
		break;
	default:
		if (q)
			queue_write(p, q, off, v);
		break;
	}
}

/* Width of the field at @off; accesses of another width are not allowed and ignored. */
static unsigned common_width(unsigned off)
{
	switch (off) {
	case VIRTIO_PCI_COMMON_STATUS:
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		return 1;
	case VIRTIO_PCI_COMMON_MSIX:
	case VIRTIO_PCI_COMMON_NUMQ:
	case VIRTIO_PCI_COMMON_Q_SELECT:
	case VIRTIO_PCI_COMMON_Q_SIZE:
	case VIRTIO_PCI_COMMON_Q_MSIX:
	case VIRTIO_PCI_COMMON_Q_ENABLE:
	case VIRTIO_PCI_COMMON_Q_NOFF:
		return 2;
	default:
		return 4;
	}
}

static u32 get_le(const u8 *data, unsigned len)
{
	u32 v = 0;

	memcpy(&v, data, len);
	return v;
}

/* ---- BAR 0 ---- */

static void device_config(struct virtio_pci *p, unsigned off, u8 *data, unsigned len, bool is_write)
{
	struct virtio_dev *d = p->vdev;
	u8 config[PAGE_SIZE];

	if (is_write) {
		if (d->ops->config_write && off + len <= d->ops->config_len)
			d->ops->config_write(d, off, data, len);
		return;
	}
	memset(config, 0, sizeof(config));
	if (d->ops->config_read)
		d->ops->config_read(d, config);
	memcpy(data, config + off, len);
}

static void regs_mmio(void *ctx, u64 off, u8 *data, unsigned len, bool is_write)
{
	struct virtio_pci *p = ctx;
	unsigned block = (unsigned)off & ~(PAGE_SIZE - 1), reg = (unsigned)off & (PAGE_SIZE - 1);

	pthread_mutex_lock(&p->vdev->lock);
	switch (block) {
	case REGS_COMMON:
		if (reg >= sizeof(struct virtio_pci_common_cfg) || len != common_width(reg)) {
			if (!is_write)
				memset(data, 0, len);
		} else if (is_write) {
			common_write(p, reg, get_le(data, len));
		} else {
			u32 v = common_read(p, reg);

			memcpy(data, &v, len);
		}
		break;
	case REGS_ISR:
		if (is_write)
			break;
		/* Reading acknowledges. */
		memset(data, 0, len);
		if (reg == 0) {
			data[0] = p->isr;
			p->isr = 0;
			pci_intx(&p->pci, false);
		}
		break;
	case REGS_DEVICE:
		device_config(p, reg, data, len, is_write);
		break;
	case REGS_NOTIFY:
		/* The place tells the queue; the value repeats it. */
		if (is_write && reg / NOTIFY_STRIDE < p->vdev->ops->nr_queues)
			eventfd_write(p->vdev->kick_fd[reg / NOTIFY_STRIDE], 1);
		else if (!is_write)
			memset(data, 0, len);
		break;
	}
	pthread_mutex_unlock(&p->vdev->lock);
}

/* ---- Configuration space ---- */

/*
 * The access capability: a window on BAR 0 through configuration space. False if it is not usable
 * now.
 */
static bool cfg_window(struct virtio_pci *p, u32 *off, u32 *len, u8 **data)
{
	u8 *cap = p->pci.cfg + p->cfg_cap;

	*off = pci_get32(cap + offsetof(struct virtio_pci_cap, offset));
	*len = pci_get32(cap + offsetof(struct virtio_pci_cap, length));
	*data = cap + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data);
	return cap[offsetof(struct virtio_pci_cap, bar)] == BAR_REGS &&
	       (*len == 1 || *len == 2 || *len == 4) && is_aligned(*off, *len) &&
	       *off <= REGS_SIZE - *len;
}

static bool hits_window(struct virtio_pci *p, unsigned off, unsigned len)
{
	unsigned at = p->cfg_cap + (unsigned)offsetof(struct virtio_pci_cfg_cap, pci_cfg_data);

	return off < at + 4 && at < off + len;
}

static void virtio_pci_cfg_read(struct pci_dev *d, unsigned off, unsigned len)
{
	struct virtio_pci *p = of_pci(d);
	u32 at, n;
	u8 *data;

	if (hits_window(p, off, len) && cfg_window(p, &at, &n, &data))
		regs_mmio(p, at, data, n, false);
}

static void virtio_pci_cfg_write(struct pci_dev *d, unsigned off, unsigned len)
{
	struct virtio_pci *p = of_pci(d);
	u32 at, n;
	u8 *data;

	if (hits_window(p, off, len) && cfg_window(p, &at, &n, &data))
		regs_mmio(p, at, data, n, true);
	pthread_mutex_lock(&p->vdev->lock);
	p->notify_base = d->bar[BAR_REGS].mapped ? d->bar[BAR_REGS].range.start + REGS_NOTIFY : 0;
	ioeventfds_update(p);
	pthread_mutex_unlock(&p->vdev->lock);
}

static void add_cap(struct virtio_pci *p, u8 type, u32 offset, u32 length, unsigned size)
{
	u8 at = pci_add_cap(&p->pci, PCI_CAP_ID_VNDR, size);
	u8 *cap = p->pci.cfg + at;

	cap[offsetof(struct virtio_pci_cap, cap_len)] = (u8)size;
	cap[offsetof(struct virtio_pci_cap, cfg_type)] = type;
	cap[offsetof(struct virtio_pci_cap, bar)] = BAR_REGS;
	pci_put32(cap + offsetof(struct virtio_pci_cap, offset), offset);
	pci_put32(cap + offsetof(struct virtio_pci_cap, length), length);
	if (type == VIRTIO_PCI_CAP_NOTIFY_CFG)
		pci_put32(cap + offsetof(struct virtio_pci_notify_cap, notify_off_multiplier),
			  NOTIFY_STRIDE);
	if (type == VIRTIO_PCI_CAP_PCI_CFG) {
		u8 *w = p->pci.wmask + at;

		p->cfg_cap = at;
		w[offsetof(struct virtio_pci_cap, bar)] = 0xff;
		memset(w + offsetof(struct virtio_pci_cap, offset), 0xff, 8);
		memset(w + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data), 0xff, 4);
	}
}

int virtio_pci_init(struct virtio_pci *p, struct vmm *vmm, struct pci_bus *bus,
		    struct virtio_dev *vdev)
{
	const struct pci_id id = {
		.vendor = PCI_VENDOR_VIRTIO,
		.device = (u16)(PCI_DEVICE_VIRTIO + vdev->ops->id),
		.subvendor = PCI_VENDOR_VIRTIO,
		.subdevice = (u16)(PCI_DEVICE_VIRTIO + vdev->ops->id),
		.class_rev = vdev->ops->pci_class | 1,
	};
	int ret;

	memset(p, 0, sizeof(*p));
	p->vdev = vdev;
	p->vmm = vmm;
	p->config_vector = NO_VECTOR;
	for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
		p->vector[i] = NO_VECTOR;
	vdev->transport = p;
	vdev->raise = virtio_pci_raise;

	pci_dev_init(&p->pci, &id);
	add_cap(p, VIRTIO_PCI_CAP_COMMON_CFG, REGS_COMMON, sizeof(struct virtio_pci_common_cfg),
		sizeof(struct virtio_pci_cap));
	add_cap(p, VIRTIO_PCI_CAP_ISR_CFG, REGS_ISR, 1, sizeof(struct virtio_pci_cap));
	if (vdev->ops->config_len)
		add_cap(p, VIRTIO_PCI_CAP_DEVICE_CFG, REGS_DEVICE, vdev->ops->config_len,
			sizeof(struct virtio_pci_cap));
	add_cap(p, VIRTIO_PCI_CAP_NOTIFY_CFG, REGS_NOTIFY, vdev->ops->nr_queues * NOTIFY_STRIDE,
		sizeof(struct virtio_pci_notify_cap));
	add_cap(p, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, sizeof(struct virtio_pci_cfg_cap));
	pci_set_bar(&p->pci, BAR_REGS, REGS_SIZE, 4, regs_mmio, p);
	/* One vector for the configuration and one for each queue. */
	ret = pci_add_msix(&p->pci, BAR_MSIX, vdev->ops->nr_queues + 1);
	if (ret)
		return ret;
	p->pci.cfg_read = virtio_pci_cfg_read;
	p->pci.cfg_write = virtio_pci_cfg_write;
	ret = pci_attach(bus, &p->pci);
	if (ret)
		return ret;
	p->notify_base = p->pci.bar[BAR_REGS].range.start + REGS_NOTIFY;
	return virtio_start(vdev);
}

void virtio_pci_exit(struct virtio_pci *p)
{
	if (!p->vdev)
		return;
	virtio_stop(p->vdev);
	pthread_mutex_lock(&p->vdev->lock);
	p->notify_base = 0;
	ioeventfds_update(p);
	pthread_mutex_unlock(&p->vdev->lock);
	pci_detach(&p->pci);
}
