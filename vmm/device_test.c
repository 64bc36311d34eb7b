// SPDX-License-Identifier: MIT
/* Devices as a guest sees them: ports, PCI configuration, virtio requests. */
#include "vmm/fake_kvm.h"

#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/serial_reg.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>

#include "base/log.h"
#include "vmm/guest_log.h"
#include "vmm/layout.h"
#include "vmm/machine.h"
#include "vmm/pci.h"
#include "vmm/rtc.h"
#include "vmm/serial.h"
#include "vmm/term.h"

/* ---- Access ---- */

static u32 in(struct iobus *b, u64 addr, unsigned len)
{
	u32 v = 0;

	iobus_access(b, addr, (u8 *)&v, len, false);
	return v;
}

static void out(struct iobus *b, u64 addr, unsigned len, u32 v)
{
	iobus_access(b, addr, (u8 *)&v, len, true);
}

/* ---- Serial port ---- */

struct serial_fix {
	struct iobus pio;
	struct serial s;
	bool irq;
	char sent[64];
	unsigned nr_sent;
};

static void sf_irq(void *ctx, bool level)
{
	((struct serial_fix *)ctx)->irq = level;
}

static void sf_output(void *ctx, u8 byte)
{
	struct serial_fix *f = ctx;

	f->sent[f->nr_sent++ % sizeof(f->sent)] = (char)byte;
}

static void test_serial(void **state)
{
	struct serial_fix *f = calloc(1, sizeof(*f));
	struct iobus *b = &f->pio;
	const u16 p = PORT_COM1;

	iobus_init(b);
	f->s = (struct serial){
		.port = p, .irq = sf_irq, .irq_ctx = f, .output = sf_output, .output_ctx = f};
	assert_int_equal(serial_init(&f->s, b), 0);

	/* What Linux's probe looks at: IER's width, scratch, loopback, FIFO bits. */
	out(b, p + UART_IER, 1, 0xff);
	assert_int_equal(in(b, p + UART_IER, 1), 0x0f);
	out(b, p + UART_IER, 1, 0);
	out(b, p + UART_MCR, 1, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	assert_int_equal(in(b, p + UART_MSR, 1) & 0xf0, UART_MSR_DCD | UART_MSR_CTS);
	out(b, p + UART_TX, 1, 'L');
	assert_int_equal(f->nr_sent, 0);
	assert_int_equal(in(b, p + UART_RX, 1), 'L');
	out(b, p + UART_MCR, 1, 0);
	out(b, p + UART_FCR, 1, UART_FCR_ENABLE_FIFO);
	assert_int_equal(in(b, p + UART_IIR, 1) & 0xc0, 0xc0);
	out(b, p + UART_LCR, 1, UART_LCR_DLAB);
	out(b, p + UART_DLL, 1, 1);
	assert_int_equal(in(b, p + UART_DLL, 1), 1);
	out(b, p + UART_LCR, 1, UART_LCR_WLEN8);
	assert_int_equal(in(b, p + UART_LSR, 1), UART_LSR_THRE | UART_LSR_TEMT);

	/* Transmitter-empty interrupt: on enabling, after a byte, gone once identified. */
	out(b, p + UART_MCR, 1, UART_MCR_OUT2);
	out(b, p + UART_IER, 1, UART_IER_THRI);
	assert_true(f->irq);
	assert_int_equal(in(b, p + UART_IIR, 1) & 0xf, UART_IIR_THRI);
	assert_false(f->irq);
	assert_int_equal(in(b, p + UART_IIR, 1) & 0xf, UART_IIR_NO_INT);
	out(b, p + UART_TX, 1, 'x');
	assert_true(f->irq);
	assert_int_equal(f->sent[0], 'x');
	out(b, p + UART_IER, 1, UART_IER_RDI);
	assert_false(f->irq);

	/* Input: interrupt until the last byte is read. OUT2 gates it. */
	assert_int_equal(serial_input(&f->s, (const u8 *)"ab", 2), 2);
	assert_true(f->irq);
	out(b, p + UART_MCR, 1, 0);
	assert_false(f->irq);
	out(b, p + UART_MCR, 1, UART_MCR_OUT2);
	assert_int_equal(in(b, p + UART_RX, 1), 'a');
	assert_true(f->irq);
	assert_int_equal(in(b, p + UART_RX, 1), 'b');
	assert_false(f->irq);
	assert_int_equal(in(b, p + UART_LSR, 1) & UART_LSR_DR, 0);
	/*
	 * Nobody listens: input survives a driver's start, which clears the FIFO and reads stray
	 * bytes.
	 */
	out(b, p + UART_IER, 1, 0);
	assert_int_equal(serial_input(&f->s, (const u8 *)"cd", 2), 2);
	assert_int_equal(in(b, p + UART_LSR, 1) & UART_LSR_DR, 0);
	out(b, p + UART_MCR, 1, 0);
	out(b, p + UART_IER, 1, 0x0f);
	out(b, p + UART_IER, 1, 0);
	out(b, p + UART_MCR, 1, UART_MCR_OUT2);
	out(b, p + UART_FCR, 1, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	in(b, p + UART_RX, 1);
	out(b, p + UART_IER, 1, UART_IER_RDI);
	assert_true(f->irq);
	out(b, p + UART_FCR, 1, 0);
	out(b, p + UART_FCR, 1, UART_FCR_ENABLE_FIFO);
	assert_int_equal(in(b, p + UART_RX, 1), 'c');
	assert_int_equal(in(b, p + UART_RX, 1), 'd');
	/* A guest that polls gets it too. */
	out(b, p + UART_IER, 1, 0);
	out(b, p + UART_FCR, 1, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	assert_int_equal(serial_input(&f->s, (const u8 *)"e", 1), 1);
	for (unsigned i = 0; i < 100 && !(in(b, p + UART_LSR, 1) & UART_LSR_DR); i++)
		;
	assert_int_equal(in(b, p + UART_RX, 1), 'e');
	/* More than fits is left to the caller. */
	out(b, p + UART_TX, 1, 't');
	for (unsigned i = 0; i < SERIAL_INPUT_MAX; i++)
		assert_int_equal(serial_input(&f->s, (const u8 *)"z", 1), 1);
	assert_int_equal(serial_room(&f->s), 0);
	assert_int_equal(serial_input(&f->s, (const u8 *)"z", 1), 0);
	serial_exit(&f->s, b);
	iobus_exit(b);
	free(f);
}

/* ---- Clock ---- */

static u8 cmos(struct iobus *b, u8 i)
{
	out(b, PORT_CMOS, 1, i);
	return (u8)in(b, PORT_CMOS + 1, 1);
}

static void set_cmos(struct iobus *b, u8 i, u8 v)
{
	out(b, PORT_CMOS, 1, i);
	out(b, PORT_CMOS + 1, 1, v);
}

static void no_irq(void *ctx, bool level)
{
	*(unsigned *)ctx += level;
}

static void test_rtc(void **state)
{
	unsigned irqs = 0;
	struct rtc r = { .irq = no_irq, .irq_ctx = &irqs };
	struct iobus b;

	iobus_init(&b);
	assert_int_equal(rtc_init(&r, &b, 512ull << 20, 1ull << 30), 0);
	assert_int_equal(cmos(&b, 0xd), 0x80);
	assert_int_equal(cmos(&b, 0x34) | cmos(&b, 0x35) << 8, (512 - 16) * 16);
	assert_int_equal(cmos(&b, 0x5b) | cmos(&b, 0x5c) << 8, 1 << 14);
	/* Stop, set 1999-12-31 23:59:58 in BCD, run. */
	set_cmos(&b, 0xb, 0x82);
	set_cmos(&b, 0, 0x58);
	set_cmos(&b, 2, 0x59);
	set_cmos(&b, 4, 0x23);
	set_cmos(&b, 7, 0x31);
	set_cmos(&b, 8, 0x12);
	set_cmos(&b, 9, 0x99);
	set_cmos(&b, 0x32, 0x19);
	assert_int_equal(cmos(&b, 0xa) & 0x80, 0);
	set_cmos(&b, 0xb, 0x02);
	assert_int_equal(cmos(&b, 9), 0x99);
	assert_int_equal(cmos(&b, 0x32), 0x19);
	assert_int_equal(cmos(&b, 4), 0x23);
	assert_int_equal(cmos(&b, 6), 6);	/* a Friday */
	/* Binary, 12 hours: the same time in another form. */
	set_cmos(&b, 0xb, 0x04);
	assert_int_equal(cmos(&b, 4), 0x80 | 11);
	assert_int_equal(cmos(&b, 2), 59);
	/* Periodic interrupt, 8192 Hz. */
	set_cmos(&b, 0xa, 0x23);
	set_cmos(&b, 0xb, 0x46);
	for (unsigned i = 0; i < 1000 && !irqs; i++) {
		const struct timespec ts = { .tv_nsec = 100000 };

		nanosleep(&ts, NULL);
		rtc_timer(&r);
	}
	assert_true(irqs > 0);
	assert_int_equal(cmos(&b, 0xc) & 0xc0, 0xc0);
	/* Nonsense in every register breaks nothing. */
	for (unsigned v = 0; v < 256; v += 5)
		for (u8 i = 0; i < 0x34; i++)
			set_cmos(&b, i, (u8)v);
	set_cmos(&b, 0xb, 0);
	cmos(&b, 0xc);
	rtc_exit(&r, &b);
	iobus_exit(&b);
}

/* ---- PCI and virtio ---- */

#define DISK_SECTORS 64
#define DESC 0x200000u
#define AVAIL 0x201000u
#define USED 0x202000u
#define BUF 0x210000u

struct pci_fix {
	struct vmm_config cfg;
	struct vmm vmm;
	struct vmm_result result;
	char path[32];
};

static u32 cfg_addr(unsigned slot, unsigned reg)
{
	return 0x80000000u | slot << 11 | (reg & 0xfc);
}

static u32 cfg_in(struct vmm *m, unsigned slot, unsigned reg, unsigned len)
{
	out(&m->pio, PORT_PCI_ADDR, 4, cfg_addr(slot, reg));
	return in(&m->pio, PORT_PCI_DATA + (reg & 3), len);
}

static void cfg_out(struct vmm *m, unsigned slot, unsigned reg, unsigned len, u32 v)
{
	out(&m->pio, PORT_PCI_ADDR, 4, cfg_addr(slot, reg));
	out(&m->pio, PORT_PCI_DATA + (reg & 3), len, v);
}

static struct pci_fix *pf_open(bool readonly)
{
	struct pci_fix *f = calloc(1, sizeof(*f));
	int fd;

	memset(&fake, 0, sizeof(fake));
	fake.missing_cap = ~0ul;
	fake.no_irqfd = true;
	strcpy(f->path, "/tmp/userkvm-disk.XXXXXX");
	fd = mkstemp(f->path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, DISK_SECTORS * 512), 0);
	assert_int_equal(pwrite(fd, "sector one", 10, 512), 10);
	close(fd);
	f->cfg = (struct vmm_config){.sys = &fake_sys,
				     .cpus = 1,
				     .mem = 16ull << 20,
				     .nr_disks = 1,
				     .disks = {{f->path, readonly}},
				     .in_fd = -1,
				     .log_fd = -1,
				     .net = true};
	f->vmm = (struct vmm){ .cfg = &f->cfg, .sys = &fake_sys, .result = &f->result,
		.end_lock = PTHREAD_MUTEX_INITIALIZER, .end_fd = eventfd(0, EFD_NONBLOCK) };
	assert_int_equal(mem_init(&f->vmm.mem, f->cfg.mem), 0);
	iobus_init(&f->vmm.pio);
	iobus_init(&f->vmm.mmio);
	irqs_init(&f->vmm.irqs, &fake_sys, 0, false);
	if (devices_init(&f->vmm))
		fail_msg("%s", f->result.text);
	return f;
}

static void pf_close(struct pci_fix *f)
{
	devices_exit(&f->vmm);
	irqs_exit(&f->vmm.irqs);
	iobus_exit(&f->vmm.pio);
	iobus_exit(&f->vmm.mmio);
	mem_exit(&f->vmm.mem);
	close(f->vmm.end_fd);
	unlink(f->path);
	free(f);
}

static unsigned find_slot(struct vmm *m, u32 id)
{
	for (unsigned s = 0; s < 32; s++)
		if (cfg_in(m, s, 0, 4) == id)
			return s;
	fail_msg("no device %08x", id);
	return 0;
}

static void test_pci(void **state)
{
	struct pci_fix *f = pf_open(false);
	struct vmm *m = &f->vmm;
	unsigned blk = find_slot(m, 0x10421af4), n = 0;
	u32 bar, other;

	assert_int_equal(cfg_in(m, 0, 0, 4), 0x00081b36);
	assert_int_equal(cfg_in(m, 31, 0, 4), 0xffffffff);
	/* Another bus, another function: nothing there. */
	out(&m->pio, PORT_PCI_ADDR, 4, 0x80010000);
	assert_int_equal(in(&m->pio, PORT_PCI_DATA, 4), 0xffffffff);
	out(&m->pio, PORT_PCI_ADDR, 4, 0x80000100);
	assert_int_equal(in(&m->pio, PORT_PCI_DATA, 4), 0xffffffff);
	assert_int_equal(cfg_in(m, blk, PCI_CLASS_DEVICE, 2), 0x0100);
	/* Capabilities: five of virtio and MSI-X, the list ends. */
	for (u32 c = cfg_in(m, blk, PCI_CAPABILITY_LIST, 1); c; c = cfg_in(m, blk, c + 1, 1))
		assert_true(++n < 20);
	assert_int_equal(n, 6);
	/* BAR sizing and moving. */
	bar = cfg_in(m, blk, PCI_BASE_ADDRESS_0, 4);
	cfg_out(m, blk, PCI_COMMAND, 2, 0);
	cfg_out(m, blk, PCI_BASE_ADDRESS_0, 4, 0xffffffff);
	assert_int_equal(cfg_in(m, blk, PCI_BASE_ADDRESS_0, 4), 0xffffc000);
	cfg_out(m, blk, PCI_BASE_ADDRESS_0, 4, 0xd0000000);
	cfg_out(m, blk, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(in(&m->mmio, 0xd0000000 + VIRTIO_PCI_COMMON_NUMQ, 2), 1);
	assert_int_equal(in(&m->mmio, bar + VIRTIO_PCI_COMMON_NUMQ, 2), 0xffff);
	/* On top of another device: refused, until it is moved away. */
	other = cfg_in(m, find_slot(m, 0x10441af4), PCI_BASE_ADDRESS_0, 4);
	cfg_out(m, blk, PCI_BASE_ADDRESS_0, 4, other);
	cfg_out(m, blk, PCI_BASE_ADDRESS_0, 4, bar);
	assert_int_equal(in(&m->mmio, bar + VIRTIO_PCI_COMMON_NUMQ, 2), 1);
	pf_close(f);
}

struct blk_drv {
	struct vmm *m;
	unsigned slot;
	u64 regs;
	u16 avail_idx;
};

/* Start the disk as a driver does, with one queue of 8 and without MSI-X unless @msix. */
static void drv_start(struct blk_drv *d, struct vmm *m, bool msix)
{
	struct iobus *b = &m->mmio;
	u64 r;

	d->m = m;
	d->avail_idx = 0;
	d->slot = find_slot(m, 0x10421af4);
	d->regs = r = cfg_in(m, d->slot, PCI_BASE_ADDRESS_0, 4);
	out(b, r + VIRTIO_PCI_COMMON_STATUS, 1, 0);
	/* After the reset the device does not look at the rings any more. */
	memset(m->mem.host + DESC, 0, 0x3000);
	out(b, r + VIRTIO_PCI_COMMON_STATUS, 1, 3);
	out(b, r + VIRTIO_PCI_COMMON_DFSELECT, 4, 1);
	assert_int_equal(in(b, r + VIRTIO_PCI_COMMON_DF, 4) & 1, 1);
	out(b, r + VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	out(b, r + VIRTIO_PCI_COMMON_GF, 4, 1);
	out(b, r + VIRTIO_PCI_COMMON_STATUS, 1, 11);
	assert_int_equal(in(b, r + VIRTIO_PCI_COMMON_STATUS, 1), 11);
	out(b, r + VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	out(b, r + VIRTIO_PCI_COMMON_Q_SIZE, 2, 8);
	out(b, r + VIRTIO_PCI_COMMON_Q_DESCLO, 4, DESC);
	out(b, r + VIRTIO_PCI_COMMON_Q_AVAILLO, 4, AVAIL);
	out(b, r + VIRTIO_PCI_COMMON_Q_USEDLO, 4, USED);
	if (msix) {
		u64 table = cfg_in(m, d->slot, PCI_BASE_ADDRESS_1, 4);
		u32 cap = cfg_in(m, d->slot, PCI_CAPABILITY_LIST, 1);

		while (cfg_in(m, d->slot, cap, 1) != PCI_CAP_ID_MSIX)
			cap = cfg_in(m, d->slot, cap + 1, 1);
		out(b, table + 16, 4, 0xfee01000);
		out(b, table + 20, 4, 0);
		out(b, table + 24, 4, 0x55);
		cfg_out(m, d->slot, cap + 2, 2, PCI_MSIX_FLAGS_ENABLE);
		out(b, r + VIRTIO_PCI_COMMON_Q_MSIX, 2, 7);
		assert_int_equal(in(b, r + VIRTIO_PCI_COMMON_Q_MSIX, 2), 0xffff);
		out(b, r + VIRTIO_PCI_COMMON_Q_MSIX, 2, 1);
		assert_int_equal(in(b, r + VIRTIO_PCI_COMMON_Q_MSIX, 2), 1);
	}
	out(b, r + VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	out(b, r + VIRTIO_PCI_COMMON_STATUS, 1, 15);
	assert_int_equal(in(b, r + VIRTIO_PCI_COMMON_STATUS, 1), 15);
}

static bool wait_for(_Atomic unsigned *v, unsigned want)
{
	const struct timespec ts = { .tv_nsec = 100000 };

	for (unsigned i = 0; i < 50000 && atomic_load(v) != want; i++)
		nanosleep(&ts, NULL);
	return atomic_load(v) == want;
}

/* One request; returns its status byte once the used index moved. */
static u8 drv_request(struct blk_drv *d, u32 type, u64 sector, u32 len, bool to_disk)
{
	struct vring_desc *desc = (void *)(d->m->mem.host + DESC);
	struct virtio_blk_outhdr *h = (void *)(d->m->mem.host + BUF);
	u16 *avail = (void *)(d->m->mem.host + AVAIL), *used = (void *)(d->m->mem.host + USED);
	const struct timespec ts = { .tv_nsec = 100000 };

	*h = (struct virtio_blk_outhdr){ .type = type, .sector = sector };
	d->m->mem.host[BUF + 0x100] = 0xee;
	desc[0] = (struct vring_desc){ BUF, 16, VRING_DESC_F_NEXT, len ? 1 : 2 };
	desc[1] = (struct vring_desc){ BUF + 0x1000, len,
		VRING_DESC_F_NEXT | (to_disk ? 0 : VRING_DESC_F_WRITE), 2 };
	desc[2] = (struct vring_desc){ BUF + 0x100, 1, VRING_DESC_F_WRITE, 0 };
	avail[2 + d->avail_idx % 8] = 0;
	__atomic_store_n(&avail[1], ++d->avail_idx, __ATOMIC_RELEASE);
	out(&d->m->mmio, d->regs + 0x3000, 2, 0);
	for (unsigned i = 0;
	     i < 50000 && __atomic_load_n(&used[1], __ATOMIC_ACQUIRE) != d->avail_idx; i++)
		nanosleep(&ts, NULL);
	assert_int_equal(used[1], d->avail_idx);
	return d->m->mem.host[BUF + 0x100];
}

static void test_blk(void **state)
{
	struct pci_fix *f = pf_open(false);
	struct vmm *m = &f->vmm;
	struct blk_drv d;
	u8 *data = m->mem.host + BUF + 0x1000;
	unsigned pin;

	drv_start(&d, m, false);
	pin = IRQ_PCI_FIRST + d.slot % IRQ_NR_PCI;
	assert_int_equal(in(&m->mmio, d.regs + 0x2000, 4), DISK_SECTORS);
	assert_int_equal(drv_request(&d, VIRTIO_BLK_T_IN, 1, 512, false), VIRTIO_BLK_S_OK);
	assert_memory_equal(data, "sector one", 10);
	/* INTA until the ISR is read. */
	assert_true(wait_for(&fake.lines[pin], 1));
	assert_int_equal(in(&m->mmio, d.regs + 0x1000, 1), 1);
	assert_int_equal(fake.lines[pin], 0);
	memcpy(data, "written", 7);
	assert_int_equal(drv_request(&d, VIRTIO_BLK_T_OUT, 2, 1024, true), VIRTIO_BLK_S_OK);
	memset(data, 0, 512);
	assert_int_equal(drv_request(&d, VIRTIO_BLK_T_IN, 2, 512, false), VIRTIO_BLK_S_OK);
	assert_memory_equal(data, "written", 7);
	assert_int_equal(drv_request(&d, VIRTIO_BLK_T_FLUSH, 0, 0, true), VIRTIO_BLK_S_OK);
	assert_int_equal(drv_request(&d, VIRTIO_BLK_T_GET_ID, 0, 20, false), VIRTIO_BLK_S_OK);
	assert_memory_equal(data, "userkvm-disk0", 13);
	*(struct virtio_blk_discard_write_zeroes *)data =
		(struct virtio_blk_discard_write_zeroes){2, 1, 0};
	assert_int_equal(drv_request(&d, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, true), VIRTIO_BLK_S_OK);
	assert_int_equal(drv_request(&d, VIRTIO_BLK_T_IN, 2, 512, false), VIRTIO_BLK_S_OK);
	assert_int_equal(data[0], 0);
	/* Refused: beyond the end, wrapping, part of a sector, unknown type. */
	assert_int_equal(drv_request(&d, VIRTIO_BLK_T_IN, DISK_SECTORS, 512, false),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(drv_request(&d, VIRTIO_BLK_T_IN, DISK_SECTORS - 1, 1024, false),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(drv_request(&d, VIRTIO_BLK_T_OUT, ~0ull, 512, true), VIRTIO_BLK_S_IOERR);
	assert_int_equal(drv_request(&d, VIRTIO_BLK_T_IN, 0, 100, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(drv_request(&d, 99, 0, 0, true), VIRTIO_BLK_S_UNSUPP);
	*(struct virtio_blk_discard_write_zeroes *)data =
		(struct virtio_blk_discard_write_zeroes){ DISK_SECTORS, 1, 0 };
	assert_int_equal(drv_request(&d, VIRTIO_BLK_T_DISCARD, 0, 16, true), VIRTIO_BLK_S_IOERR);

	/* With MSI-X, after a reset. */
	drv_start(&d, m, true);
	assert_int_equal(drv_request(&d, VIRTIO_BLK_T_IN, 1, 512, false), VIRTIO_BLK_S_OK);
	/* Masked at first: pending, then fired by unmasking. */
	assert_int_equal(fake.msis, 0);
	out(&m->mmio, cfg_in(m, d.slot, PCI_BASE_ADDRESS_1, 4) + 16 + 12, 4, 0);
	assert_true(wait_for(&fake.msis, 1));
	assert_int_equal(fake.msi_addr, 0xfee01000);
	assert_int_equal(fake.msi_data, 0x55);
	assert_int_equal(drv_request(&d, VIRTIO_BLK_T_IN, 1, 512, false), VIRTIO_BLK_S_OK);
	assert_true(wait_for(&fake.msis, 2));
	assert_int_equal(fake.lines[pin], 0);
	pf_close(f);
}

static void test_blk_readonly(void **state)
{
	struct pci_fix *f = pf_open(true);
	struct blk_drv d;

	drv_start(&d, &f->vmm, false);
	assert_int_equal(drv_request(&d, VIRTIO_BLK_T_IN, 1, 512, false), VIRTIO_BLK_S_OK);
	assert_int_equal(drv_request(&d, VIRTIO_BLK_T_OUT, 1, 512, true), VIRTIO_BLK_S_IOERR);
	pf_close(f);
}

static void drop_line(void *ctx, enum log_level level, const char *line)
{
}

/* A driver that breaks the rules gets NEEDS_RESET, and a working device after a reset. */
static void test_virtio_rules(void **state)
{
	struct pci_fix *f = pf_open(false);
	struct vmm *m = &f->vmm;
	struct iobus *b = &m->mmio;
	struct blk_drv d;
	u64 r;
	_Atomic unsigned *pin;

	log_set_sink(drop_line, NULL);
	drv_start(&d, m, false);
	r = d.regs;
	pin = &fake.lines[IRQ_PCI_FIRST + d.slot % IRQ_NR_PCI];
	((struct vring_desc *)(m->mem.host + DESC))[0] = (struct vring_desc){ ~0ull, 16, 0, 0 };
	((u16 *)(m->mem.host + AVAIL))[1] = 1;
	out(b, r + 0x3000, 2, 0);
	assert_true(wait_for(pin, 1));
	assert_int_equal(in(b, r + VIRTIO_PCI_COMMON_STATUS, 1), 15 | VIRTIO_CONFIG_S_NEEDS_RESET);
	drv_start(&d, m, false);
	assert_int_equal(drv_request(&d, VIRTIO_BLK_T_IN, 1, 512, false), VIRTIO_BLK_S_OK);

	/* Features that were not offered: FEATURES_OK does not stick. */
	out(b, r + VIRTIO_PCI_COMMON_STATUS, 1, 0);
	out(b, r + VIRTIO_PCI_COMMON_STATUS, 1, 3);
	out(b, r + VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	out(b, r + VIRTIO_PCI_COMMON_GF, 4, 3);
	out(b, r + VIRTIO_PCI_COMMON_STATUS, 1, 11);
	assert_int_equal(in(b, r + VIRTIO_PCI_COMMON_STATUS, 1), 3);
	/* A legacy driver, without VERSION_1: the same. */
	out(b, r + VIRTIO_PCI_COMMON_GF, 4, 0);
	out(b, r + VIRTIO_PCI_COMMON_STATUS, 1, 11);
	assert_int_equal(in(b, r + VIRTIO_PCI_COMMON_STATUS, 1), 3);
	/* A queue outside RAM; a queue that does not exist; odd widths. */
	out(b, r + VIRTIO_PCI_COMMON_GF, 4, 1);
	out(b, r + VIRTIO_PCI_COMMON_STATUS, 1, 11);
	out(b, r + VIRTIO_PCI_COMMON_Q_DESCHI, 4, 0xffffffff);
	out(b, r + VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	assert_int_equal(in(b, r + VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	assert_true(in(b, r + VIRTIO_PCI_COMMON_STATUS, 1) & VIRTIO_CONFIG_S_NEEDS_RESET);
	out(b, r + VIRTIO_PCI_COMMON_Q_SELECT, 2, 0xffff);
	assert_int_equal(in(b, r + VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
	out(b, r + VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	assert_int_equal(in(b, r + VIRTIO_PCI_COMMON_DFSELECT, 1), 0);
	out(b, r + 0x3000 + 0xffc, 4, 1);
	/* Every register written with nonsense, also through configuration space. */
	for (u64 off = 0; off < 0x4000; off += 2)
		out(b, r + off, 4, (u32)(off * 0x9e3779b9u));
	for (unsigned off = 0x40; off < 0x100; off++)
		cfg_out(m, d.slot, off, 1, off * 37);
	cfg_out(m, d.slot, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	log_set_sink(NULL, NULL);
	pf_close(f);
}

/* ---- Console ---- */

static void test_term(void **state)
{
	static const struct {
		const char *in, *out;
		enum term_action action;
	} rows[] = {
		{ "plain", "plain", TERM_NONE },
		{ "a\001xb", "a", TERM_QUIT },
		{ "a\001hb", "ab", TERM_HELP },
		{ "\001a\001\001", "\001\001", TERM_NONE },
		{ "\001q", "\001q", TERM_NONE },
		{ "end\001", "end", TERM_NONE },
	};
	struct term_escape e = { 0 };
	u8 buf[64];
	unsigned n;

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		e.armed = false;
		assert_int_equal(term_filter(&e, (const u8 *)rows[i].in,
					     (unsigned)strlen(rows[i].in), buf, &n),
				 rows[i].action);
		assert_int_equal(n, strlen(rows[i].out));
		assert_memory_equal(buf, rows[i].out, n);
	}
	/* The two keys may come apart. */
	assert_true(e.armed);
	assert_int_equal(term_filter(&e, (const u8 *)"x", 1, buf, &n), TERM_QUIT);
}

static void test_guest_log(void **state)
{
	struct guest_log g = { 0 };
	unsigned hits = 0;

	for (unsigned i = 0; i < 5000; i++)
		hits += guest_log_byte(&g, 'x');
	hits += guest_log_byte(&g, '\n');
	assert_int_equal(hits, 0);
	for (const char *p = "Kernel panic - not syncing: one\nKernel panic - not syncing: two\n";
	     *p; p++)
		hits += guest_log_byte(&g, (u8)*p);
	assert_int_equal(hits, 1);
	assert_string_equal(g.panic, "one");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_serial),
		cmocka_unit_test(test_rtc),
		cmocka_unit_test(test_pci),
		cmocka_unit_test(test_blk),
		cmocka_unit_test(test_blk_readonly),
		cmocka_unit_test(test_virtio_rules),
		cmocka_unit_test(test_term),
		cmocka_unit_test(test_guest_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
