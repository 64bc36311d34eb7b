// SPDX-License-Identifier: MIT
/*
 * The virtio function's registers, its doorbells and its thread.
 *
 * One lock covers the chip. Interrupt messages leave after it is released,
 * because who receives one may read our registers.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "silicon/virtio/vfunc.h"

/* BAR 0 */
#define COMMON 0x0000u
#define COMMON_SIZE 56u
#define ISR 0x1000u
#define DEVICE 0x2000u
#define MSIX_TABLE 0x8000u
#define MSIX_PBA 0xc000u
#define BAR0_SIZE 0x10000u
/* BAR 4 */
#define LM_SIZE 0x1000u

#define ISR_QUEUE 1
#define ISR_CONFIG 2
#define NO_BELL 0xffff
/* How often mapped doorbells are looked at: after traffic, and at rest. */
#define BELL_BUSY_NS 100000
#define BELL_IDLE_NS 2000000
#define BELL_BUSY_ROUNDS 200

static struct vfunc *to_vfunc(struct pci_func *f)
{
	return container_of(f, struct vfunc, pci);
}

static void lock(struct vfunc *v)
{
	pthread_mutex_lock(&v->lock);
}

static void unlock_and_send(struct vfunc *v)
{
	struct pci_msg msg[PCI_MSIX_MAX];
	unsigned n = pci_take_messages(&v->pci, msg);

	pthread_mutex_unlock(&v->lock);
	pci_send(&v->pci, msg, n);
}

/* ---- Interrupts; lock held ---- */

static void raise_queue(struct vfunc *v, struct vfunc_queue *q)
{
	v->isr |= ISR_QUEUE;
	if (q->vector != VFUNC_NO_VECTOR)
		pci_msix_raise(&v->pci, q->vector);
}

/* "Device Configuration Interrupt": the bit is set in every mode of interrupts. */
static void raise_config(struct vfunc *v)
{
	v->isr |= ISR_CONFIG;
	if (v->config_vector != VFUNC_NO_VECTOR)
		pci_msix_raise(&v->pci, v->config_vector);
}

/* ---- Queues; lock held ---- */

static bool live(const struct vfunc *v)
{
	return (v->status & VIRTIO_CONFIG_S_DRIVER_OK) && !(v->status & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void break_queue(struct vfunc *v, struct vfunc_queue *q)
{
	q->broken = true;
	if (v->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	v->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	raise_config(v);
}

int vfunc_take(struct vfunc *v, unsigned i, u16 *head, bool out, bool in)
{
	struct vfunc_queue *q = &v->q[i];
	int ret;

	if (!q->enabled || q->broken || !live(v))
		return 0;
	do {
		ret = dring_getdesc(&q->ring, out ? &q->out : NULL, in ? &q->in : NULL, head);
		/* Nothing there: ask for the next kick, and look again. */
	} while (ret == 0 && (ret = dring_notify_enable(&q->ring)) == 1);
	if (ret < 0) {
		break_queue(v, q);
		return 0;
	}
	return ret;
}

bool vfunc_complete(struct vfunc *v, unsigned i, u16 head, u32 len)
{
	struct vfunc_queue *q = &v->q[i];
	int ret = dring_complete(&q->ring, head, len);

	if (!ret)
		ret = dring_need_notify(&q->ring);
	if (ret < 0) {
		break_queue(v, q);
		return false;
	}
	if (ret)
		raise_queue(v, q);
	return true;
}

static void enable_queue(struct vfunc *v, struct vfunc_queue *q)
{
	if (q->enabled)
		return;
	q->ring.port = &pci_dma_port;
	q->ring.ctx = &v->pci;
	q->ring.event_idx = v->driver_features & BIT(VIRTIO_RING_F_EVENT_IDX);
	q->ring.indirect = v->driver_features & BIT(VIRTIO_RING_F_INDIRECT_DESC);
	q->broken = false;
	q->enabled = !dring_setup(&q->ring, q->size, q->desc, q->driver, q->device, (u16)q->lm);
}

/* Device reset. The positions stay readable. */
static void reset_device(struct vfunc *v)
{
	for (unsigned i = 0; i < v->c.queues; i++) {
		struct vfunc_queue *q = &v->q[i];

		if (q->enabled)
			q->lm = q->ring.last_avail;
		q->enabled = q->broken = false;
		q->size = VFUNC_QUEUE_MAX;
		q->vector = VFUNC_NO_VECTOR;
		q->desc = q->driver = q->device = 0;
	}
	v->status = v->isr = 0;
	v->driver_features = 0;
	v->config_vector = VFUNC_NO_VECTOR;
	v->device_select = v->driver_select = v->queue_select = 0;
	v->kicked = false;
}

static void write_status(struct vfunc *v, u8 s)
{
	if (!s) {
		reset_device(v);
		return;
	}
	/* "Device Initialization": a set that we do not offer is not accepted. */
	if ((s & VIRTIO_CONFIG_S_FEATURES_OK) && (v->driver_features & ~v->features))
		s &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	v->status = s | (v->status & VIRTIO_CONFIG_S_NEEDS_RESET);
	v->kicked = true;
}

/* ---- Common configuration ---- */

static u64 common_read(struct vfunc *v, u64 off, unsigned size)
{
	const struct vfunc_queue *q = v->queue_select < v->c.queues ? &v->q[v->queue_select] : NULL;

	switch (off | size << 8) {
	case VIRTIO_PCI_COMMON_DFSELECT | 4 << 8: return v->device_select;
	case VIRTIO_PCI_COMMON_DF | 4 << 8:
		return v->device_select < 2 ? (u32)(v->features >> 32 * v->device_select) : 0;
	case VIRTIO_PCI_COMMON_GFSELECT | 4 << 8: return v->driver_select;
	case VIRTIO_PCI_COMMON_GF | 4 << 8:
		return v->driver_select < 2 ? (u32)(v->driver_features >> 32 * v->driver_select) : 0;
	case VIRTIO_PCI_COMMON_MSIX | 2 << 8: return v->config_vector;
	case VIRTIO_PCI_COMMON_NUMQ | 2 << 8: return v->c.queues;
	case VIRTIO_PCI_COMMON_STATUS | 1 << 8: return v->status;
	case VIRTIO_PCI_COMMON_CFGGENERATION | 1 << 8: return v->generation;
	case VIRTIO_PCI_COMMON_Q_SELECT | 2 << 8: return v->queue_select;
	}
	/* "queue_size": 0 means that there is no such queue. */
	if (!q)
		return 0;
	switch (off | size << 8) {
	case VIRTIO_PCI_COMMON_Q_SIZE | 2 << 8: return q->size;
	case VIRTIO_PCI_COMMON_Q_MSIX | 2 << 8: return q->vector;
	case VIRTIO_PCI_COMMON_Q_ENABLE | 2 << 8: return q->enabled;
	case VIRTIO_PCI_COMMON_Q_NOFF | 2 << 8: return v->queue_select;
	case VIRTIO_PCI_COMMON_Q_DESCLO | 4 << 8: return (u32)q->desc;
	case VIRTIO_PCI_COMMON_Q_DESCHI | 4 << 8: return q->desc >> 32;
	case VIRTIO_PCI_COMMON_Q_AVAILLO | 4 << 8: return (u32)q->driver;
	case VIRTIO_PCI_COMMON_Q_AVAILHI | 4 << 8: return q->driver >> 32;
	case VIRTIO_PCI_COMMON_Q_USEDLO | 4 << 8: return (u32)q->device;
	case VIRTIO_PCI_COMMON_Q_USEDHI | 4 << 8: return q->device >> 32;
	}
	return 0;
}

/* A vector that the table does not have is refused: it reads back as none. */
static u16 vector_of(const struct vfunc *v, u64 val)
{
	return val < v->pci.msix_count ? val : VFUNC_NO_VECTOR;
}

static void set_half(u64 *reg, bool high, u32 val)
{
	*reg = high ? (u64)val << 32 | (u32)*reg : (*reg & ~(u64)UINT32_MAX) | val;
}

static void queue_write(struct vfunc *v, struct vfunc_queue *q, u64 off, unsigned size, u64 val)
{
	if ((off | size << 8) == (VIRTIO_PCI_COMMON_Q_MSIX | 2 << 8)) {
		q->vector = vector_of(v, val);
		return;
	}
	/* The rest is fixed once the queue is enabled. */
	if (q->enabled)
		return;
	switch (off | size << 8) {
	case VIRTIO_PCI_COMMON_Q_SIZE | 2 << 8:
		if (val && val <= VFUNC_QUEUE_MAX && !(val & (val - 1)))
			q->size = val;
		break;
	case VIRTIO_PCI_COMMON_Q_ENABLE | 2 << 8:
		if (val == 1 && (v->status & VIRTIO_CONFIG_S_FEATURES_OK))
			enable_queue(v, q);
		break;
	case VIRTIO_PCI_COMMON_Q_DESCLO | 4 << 8: set_half(&q->desc, false, val); break;
	case VIRTIO_PCI_COMMON_Q_DESCHI | 4 << 8: set_half(&q->desc, true, val); break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO | 4 << 8: set_half(&q->driver, false, val); break;
	case VIRTIO_PCI_COMMON_Q_AVAILHI | 4 << 8: set_half(&q->driver, true, val); break;
	case VIRTIO_PCI_COMMON_Q_USEDLO | 4 << 8: set_half(&q->device, false, val); break;
	case VIRTIO_PCI_COMMON_Q_USEDHI | 4 << 8: set_half(&q->device, true, val); break;
	}
}

static void common_write(struct vfunc *v, u64 off, unsigned size, u64 val)
{
	switch (off | size << 8) {
	case VIRTIO_PCI_COMMON_DFSELECT | 4 << 8: v->device_select = val; return;
	case VIRTIO_PCI_COMMON_GFSELECT | 4 << 8: v->driver_select = val; return;
	case VIRTIO_PCI_COMMON_GF | 4 << 8:
		/* Fixed once they are agreed upon. */
		if (v->driver_select < 2 && !(v->status & VIRTIO_CONFIG_S_FEATURES_OK))
			set_half(&v->driver_features, v->driver_select, val);
		return;
	case VIRTIO_PCI_COMMON_MSIX | 2 << 8: v->config_vector = vector_of(v, val); return;
	case VIRTIO_PCI_COMMON_STATUS | 1 << 8: write_status(v, val); return;
	case VIRTIO_PCI_COMMON_Q_SELECT | 2 << 8: v->queue_select = val; return;
	}
	if (v->queue_select < v->c.queues)
		queue_write(v, &v->q[v->queue_select], off, size, val);
}

/* ---- Windows ---- */

static u64 bar0_read(struct pci_func *f, u64 off, unsigned size)
{
	struct vfunc *v = to_vfunc(f);
	u64 val = 0;

	if (off < COMMON_SIZE)
		return common_read(v, off, size);
	if (off == ISR) {
		val = v->isr;
		v->isr = 0;
		return val;
	}
	if (off >= DEVICE && off + size <= DEVICE + v->kind->config_size) {
		memcpy(&val, v->config + (off - DEVICE), size);
		return val;
	}
	if (off >= MSIX_PBA)
		return pci_msix_pba_read(f, off - MSIX_PBA, size);
	if (off >= MSIX_TABLE)
		return pci_msix_table_read(f, off - MSIX_TABLE, size);
	return 0;
}

static void bar0_write(struct pci_func *f, u64 off, unsigned size, u64 val)
{
	struct vfunc *v = to_vfunc(f);

	/* The device configuration has nothing that a driver of version 1 may write. */
	if (off < COMMON_SIZE)
		common_write(v, off, size, val);
	else if (off >= MSIX_TABLE && off < MSIX_PBA)
		pci_msix_table_write(f, off - MSIX_TABLE, size, val);
}

static u64 bell_read(struct pci_func *f, u64 off, unsigned size)
{
	return 0;
}

static void bell_write(struct pci_func *f, u64 off, unsigned size, u64 val)
{
	/* Whichever bell rings, the chip looks at all of its queues. */
	to_vfunc(f)->kicked = true;
}

static struct vfunc_queue *lm_queue(struct vfunc *v, u64 off, unsigned size)
{
	u64 at = off - VFUNC_LM_RING, nr = 2 * (at / VFUNC_LM_PAIR) + at % VFUNC_LM_PAIR / 4;

	if (off < VFUNC_LM_RING || size != 4 || at % VFUNC_LM_PAIR > 4 || nr >= v->c.queues)
		return NULL;
	return &v->q[nr];
}

static u64 lm_read(struct pci_func *f, u64 off, unsigned size)
{
	const struct vfunc_queue *q = lm_queue(to_vfunc(f), off, size);

	if (!q)
		return 0;
	return q->enabled ? q->ring.last_avail : q->lm;
}

static void lm_write(struct pci_func *f, u64 off, unsigned size, u64 val)
{
	struct vfunc_queue *q = lm_queue(to_vfunc(f), off, size);

	if (q && !q->enabled)
		q->lm = val;
}

/* ---- The chip's thread ---- */

/* Mapped doorbells that were stored to. Lock held. */
static bool poll_bells(struct vfunc *v)
{
	bool rung = false;

	for (unsigned i = 0; i < v->c.queues; i++) {
		u16 *bell = (u16 *)(v->bell + (u64)i * v->c.notify_multiplier);

		if (__atomic_load_n(bell, __ATOMIC_RELAXED) != NO_BELL)
			rung |= __atomic_exchange_n(bell, NO_BELL, __ATOMIC_ACQ_REL) != NO_BELL;
	}
	return rung;
}

static void *chip(void *arg)
{
	struct vfunc *v = arg;
	unsigned quiet = 0;

	for (;;) {
		struct pollfd p = { .fd = v->wake, .events = POLLIN };
		bool more, stop, watch;
		eventfd_t n;

		lock(v);
		stop = v->stop;
		watch = v->watch_bells && live(v);
		if (watch && poll_bells(v))
			v->kicked = true;
		more = !stop && v->kicked && live(v);
		if (more) {
			v->kicked = v->kind->work(v);
			more = v->kicked;
			quiet = 0;
		}
		unlock_and_send(v);
		if (stop)
			return NULL;
		if (more)
			continue;
		if (watch) {
			struct timespec t = { .tv_nsec = quiet < BELL_BUSY_ROUNDS ? BELL_BUSY_NS : BELL_IDLE_NS };

			quiet++;
			ppoll(&p, 1, &t, NULL);
		} else {
			poll(&p, 1, -1);
		}
		eventfd_read(v->wake, &n);
	}
}

static void wake(struct vfunc *v)
{
	eventfd_write(v->wake, 1);
}

/* ---- The bus ---- */

u32 vfunc_config_read(struct vfunc *v, u16 off, unsigned size)
{
	u32 val;

	lock(v);
	val = pci_config_read(&v->pci, off, size);
	unlock_and_send(v);
	return val;
}

void vfunc_config_write(struct vfunc *v, u16 off, unsigned size, u32 val)
{
	lock(v);
	pci_config_write(&v->pci, off, size, val);
	unlock_and_send(v);
}

bool vfunc_mem_read(struct vfunc *v, u64 addr, unsigned size, u64 *val)
{
	bool ok;

	lock(v);
	ok = pci_mem_read(&v->pci, addr, size, val);
	unlock_and_send(v);
	return ok;
}

bool vfunc_mem_write(struct vfunc *v, u64 addr, unsigned size, u64 val)
{
	bool ok, kicked;

	lock(v);
	ok = pci_mem_write(&v->pci, addr, size, val);
	kicked = v->kicked;
	unlock_and_send(v);
	if (kicked)
		wake(v);
	return ok;
}

void vfunc_function_reset(struct vfunc *v)
{
	lock(v);
	reset_device(v);
	for (unsigned i = 0; i < v->c.queues; i++)
		v->q[i].lm = 0;
	pci_func_reset(&v->pci);
	unlock_and_send(v);
}

int vfunc_doorbell_file(struct vfunc *v)
{
	if (v->c.notify_multiplier % PAGE_SIZE)
		return -ENODEV;
	lock(v);
	v->watch_bells = true;
	unlock_and_send(v);
	wake(v);
	return v->bells;
}

void vfunc_change_config(struct vfunc *v, u32 off, const void *buf, u32 len)
{
	BUG_ON(off > v->kind->config_size || len > v->kind->config_size - off);
	lock(v);
	memcpy(v->config + off, buf, len);
	v->generation++;
	raise_config(v);
	unlock_and_send(v);
}

void vfunc_change_features(struct vfunc *v, u64 features)
{
	lock(v);
	v->features = features;
	unlock_and_send(v);
}

void vfunc_poke_config(struct vfunc *v, u16 off, u8 val)
{
	lock(v);
	v->pci.config[off % PCI_CONFIG_SIZE] = val;
	unlock_and_send(v);
}

/* ---- Making one ---- */

/* Source: VIRTIO 1.1 "Virtio Structure PCI Capabilities". */
static void add_virtio_cap(struct vfunc *v, u8 type, u8 bar, u32 off, u32 len)
{
	struct virtio_pci_notify_cap cap = {
		.cap = { .cap_vndr = PCI_CAP_ID_VNDR, .cap_len = sizeof(struct virtio_pci_cap), .cfg_type = type,
			 .bar = bar, .offset = off, .length = len },
		.notify_off_multiplier = v->c.notify_multiplier,
	};

	if (type == VIRTIO_PCI_CAP_NOTIFY_CFG)
		cap.cap.cap_len = sizeof(cap);
	pci_func_add_cap(&v->pci, &cap, cap.cap.cap_len);
}

static u64 bells_size(const struct vfunc *v)
{
	u64 need = max((u64)v->c.queues * v->c.notify_multiplier, PAGE_SIZE), size = PAGE_SIZE;

	while (size < need)
		size *= 2;
	return size;
}

static void add_registers(struct vfunc *v)
{
	struct pci_bar regs = { .size = BAR0_SIZE, .read = bar0_read, .write = bar0_write };
	struct pci_bar bells = { .size = bells_size(v), .read = bell_read, .write = bell_write };
	struct pci_bar lm = { .size = LM_SIZE, .read = lm_read, .write = lm_write };

	pci_func_add_bar(&v->pci, 0, &regs);
	pci_func_add_bar(&v->pci, 2, &bells);
	pci_func_add_bar(&v->pci, 4, &lm);
	add_virtio_cap(v, VIRTIO_PCI_CAP_COMMON_CFG, 0, COMMON, COMMON_SIZE);
	add_virtio_cap(v, VIRTIO_PCI_CAP_NOTIFY_CFG, 2, 0, bells.size);
	add_virtio_cap(v, VIRTIO_PCI_CAP_ISR_CFG, 0, ISR, 1);
	add_virtio_cap(v, VIRTIO_PCI_CAP_DEVICE_CFG, 0, DEVICE, v->kind->config_size);
	pci_func_add_msix(&v->pci, v->c.vectors, 0, MSIX_TABLE, MSIX_PBA);
}

static const struct {
	struct pci_ids ids;
	const struct vfunc_kind *kind;
} models[] = {
	[VFUNC_N3000_NET] = { { 0x1af4, 0x1041, 0x8086, 0x001a, 0x020000 }, &vfunc_net },
	[VFUNC_C5000X_NET] = { { 0x1af4, 0x1000, 0x8086, 0x0001, 0x020000 }, &vfunc_net },
	[VFUNC_C5000X_BLK] = { { 0x1af4, 0x1001, 0x8086, 0x0002, 0x010000 }, &vfunc_blk },
};

static void fill_config(struct vfunc *v)
{
	if (v->kind == &vfunc_net) {
		struct virtio_net_config c = {
			.status = VIRTIO_NET_S_LINK_UP, .max_virtqueue_pairs = v->c.queues / 2, .mtu = 1500,
		};

		memcpy(c.mac, v->c.mac, sizeof(c.mac));
		memcpy(v->config, &c, sizeof(c));
	} else {
		struct virtio_blk_config c = { .capacity = v->c.sectors, .blk_size = 512, .num_queues = v->c.queues };

		memcpy(v->config, &c, sizeof(c));
	}
}

struct vfunc *vfunc_new(const struct vfunc_config *c, const struct pci_slot *slot)
{
	struct vfunc *v = calloc(1, sizeof(*v));
	u64 media;

	if (!v)
		return NULL;
	BUG_ON(!c->queues || c->queues > VFUNC_MAX_QUEUES || !c->vectors || c->vectors > PCI_MSIX_MAX);
	v->c = *c;
	v->kind = models[c->model].kind;
	v->features = v->kind->features;
	v->bells = -1;
	pthread_mutex_init(&v->lock, NULL);
	pci_func_init(&v->pci, slot, &models[c->model].ids);
	add_registers(v);
	fill_config(v);
	reset_device(v);

	media = v->kind == &vfunc_blk ? c->sectors * 512 : 2 * PAGE_SIZE;
	v->media = mmap(NULL, media, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	v->bell = MAP_FAILED;
	v->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	v->bells = memfd_create("doorbells", MFD_CLOEXEC);
	if (v->media == MAP_FAILED || v->wake < 0 || v->bells < 0 || ftruncate(v->bells, bells_size(v)))
		goto fail;
	v->bell = mmap(NULL, bells_size(v), PROT_READ | PROT_WRITE, MAP_SHARED, v->bells, 0);
	if (v->bell == MAP_FAILED)
		goto fail;
	memset(v->bell, 0xff, bells_size(v));
	if (pthread_create(&v->chip, NULL, chip, v))
		goto fail;
	v->has_chip = true;
	return v;
fail:
	vfunc_free(v);
	return NULL;
}

void vfunc_free(struct vfunc *v)
{
	if (v->has_chip) {
		lock(v);
		v->stop = true;
		unlock_and_send(v);
		wake(v);
		pthread_join(v->chip, NULL);
	}
	for (unsigned i = 0; i < v->c.queues; i++) {
		dring_iov_free(&v->q[i].out);
		dring_iov_free(&v->q[i].in);
	}
	if (v->bell != MAP_FAILED)
		munmap(v->bell, bells_size(v));
	if (v->bells >= 0)
		close(v->bells);
	if (v->wake >= 0)
		close(v->wake);
	if (v->media != MAP_FAILED)
		munmap(v->media, v->kind == &vfunc_blk ? v->c.sectors * 512 : 2 * PAGE_SIZE);
	pthread_mutex_destroy(&v->lock);
	free(v);
}
