// SPDX-License-Identifier: MIT
/*
 * The machine's devices: which there are, how they are wired, and the loop of
 * the machine's own thread, which serves console input, timers and signals.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/log.h"
#include "vmm/acpi_pm.h"
#include "vmm/exitdev.h"
#include "vmm/guest_log.h"
#include "vmm/i8042.h"
#include "vmm/layout.h"
#include "vmm/machine.h"
#include "vmm/pci.h"
#include "vmm/rtc.h"
#include "vmm/serial.h"
#include "vmm/term.h"
#include "vmm/virtio_blk.h"
#include "vmm/virtio_console.h"
#include "vmm/virtio_net.h"
#include "vmm/virtio_pci.h"
#include "vmm/virtio_rng.h"

/* Time for a panicking kernel to print its trace before the machine ends. */
#define PANIC_GRACE_S 2
/* How often to look whether the guest is dead. */
#define PROBE_S 2
#define NR_SERIALS 3
/* Disks, network, console, entropy. */
#define MAX_TRANSPORTS (VMM_MAX_DISKS + 3)

struct serial_wire {
	struct vmm *vmm;
	unsigned irq;
};

struct machine_devices {
	struct pci_bus pci;
	struct serial serial[NR_SERIALS];
	struct serial_wire wire[NR_SERIALS];
	unsigned nr_serials;
	struct rtc rtc;
	struct i8042 i8042;
	struct acpi_pm pm;
	struct exitdev exitdev;

	struct virtio_blk blk[VMM_MAX_DISKS];
	struct virtio_net net;
	struct virtio_console console;
	struct virtio_rng rng;
	struct virtio_pci transport[MAX_TRANSPORTS];
	unsigned nr_transports;

	/* How far devices_init() came, for devices_exit(). */
	unsigned nr_blk;
	bool has_pci, has_rtc, has_i8042, has_pm, has_exitdev, has_net, has_console, has_rng;

	struct guest_log log;		/* COM1's output; under that port's lock */
	char status_line[32];		/* COM3 */
	unsigned status_len;

	int timeout_fd, panic_fd, probe_fd, signal_fd;
	int early_fd;			/* epoll: a signal or the time-out, while devices are opened */
	struct term_escape escape;
};

/* ---- Output ---- */

/* All of it, or the machine ends: nobody would see the guest. */
static void write_out(struct vmm *vmm, int fd, const u8 *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			struct pollfd p = { .fd = fd, .events = POLLOUT };

			/* Bounded, so that the end of the machine is noticed. */
			poll(&p, 1, 100);
			if (atomic_load(&vmm->ended))
				return;
			continue;
		}
		if (n < 0) {
			machine_end(vmm, VMM_END_ERROR, 0, "cannot write the console's output: %s",
				    strerror(errno));
			return;
		}
		data += n;
		len -= (size_t)n;
	}
}

static void arm_timer(int fd, unsigned seconds)
{
	const struct itimerspec its = { .it_value.tv_sec = seconds, .it_interval.tv_sec = seconds };

	timerfd_settime(fd, 0, &its, NULL);
}

static void com1_output(void *ctx, u8 byte)
{
	struct vmm *vmm = ctx;
	int fd = vmm->cfg->command ? vmm->cfg->log_fd : vmm->cfg->out_fd;

	if (fd >= 0)
		write_out(vmm, fd, &byte, 1);
	if (guest_log_byte(&vmm->dev->log, byte))
		arm_timer(vmm->dev->panic_fd, PANIC_GRACE_S);
}

static void com2_output(void *ctx, u8 byte)
{
	struct vmm *vmm = ctx;

	write_out(vmm, vmm->cfg->out_fd, &byte, 1);
}

/* "exit N": the command's status. */
static void com3_output(void *ctx, u8 byte)
{
	struct vmm *vmm = ctx;
	struct machine_devices *dev = vmm->dev;
	unsigned status;
	char end;

	if (byte != '\n') {
		if (byte != '\r' && dev->status_len < sizeof(dev->status_line) - 1)
			dev->status_line[dev->status_len++] = (char)byte;
		return;
	}
	dev->status_line[dev->status_len] = 0;
	dev->status_len = 0;
	if (sscanf(dev->status_line, "exit %3u%c", &status, &end) == 1 && status <= 255)
		machine_end(vmm, VMM_END_EXIT, (int)status, "command ended");
	else
		log_warn("the guest's init sent '%s' as a status", dev->status_line);
}

static void console_output(void *ctx, const u8 *data, size_t len)
{
	struct vmm *vmm = ctx;

	write_out(vmm, vmm->cfg->out_fd, data, len);
}

/* ---- Wires ---- */

static void serial_irq(void *ctx, bool level)
{
	struct serial_wire *w = ctx;

	irq_line(&w->vmm->irqs, w->irq, level);
}

static void rtc_irq(void *ctx, bool level)
{
	irq_line(&((struct vmm *)ctx)->irqs, IRQ_RTC, level);
}

static void on_reset(void *ctx)
{
	machine_end(ctx, VMM_END_REBOOT, 0, "reset");
}

static void on_poweroff(void *ctx)
{
	machine_end(ctx, VMM_END_POWEROFF, 0, "power-off");
}

/* The kernel's own words usually come by the console, a little later. */
static void on_panic(void *ctx)
{
	arm_timer(((struct vmm *)ctx)->dev->panic_fd, PANIC_GRACE_S);
}

/* ---- Creation ---- */

static int fail(struct vmm *vmm, int ret, const char *what)
{
	machine_end(vmm, VMM_END_ERROR, 0, "%s: %s", what, strerror(-ret));
	return ret;
}

static int init_serials(struct vmm *vmm)
{
	static const struct {
		u16 port;
		unsigned irq;
		void (*output)(void *ctx, u8 byte);
	} ports[NR_SERIALS] = {
		{ PORT_COM1, IRQ_COM1, com1_output },
		{ PORT_COM2, IRQ_COM2, com2_output },
		{ PORT_COM3, IRQ_COM3, com3_output },
	};
	struct machine_devices *dev = vmm->dev;
	unsigned nr = vmm->cfg->command ? NR_SERIALS : 1;

	for (unsigned i = 0; i < nr; i++) {
		struct serial *s = &dev->serial[i];
		int ret;

		dev->wire[i] = (struct serial_wire){ .vmm = vmm, .irq = ports[i].irq };
		s->port = ports[i].port;
		s->irq = serial_irq;
		s->irq_ctx = &dev->wire[i];
		s->output = ports[i].output;
		s->output_ctx = vmm;
		ret = serial_init(s, &vmm->pio);
		if (ret)
			return fail(vmm, ret, "serial port");
		dev->nr_serials = i + 1;
	}
	return 0;
}

static int init_board(struct vmm *vmm)
{
	struct machine_devices *dev = vmm->dev;
	u64 low = mem_low_end(&vmm->mem);
	int ret;

	ret = init_serials(vmm);
	if (ret)
		return ret;
	dev->rtc.irq = rtc_irq;
	dev->rtc.irq_ctx = vmm;
	ret = rtc_init(&dev->rtc, &vmm->pio, low, vmm->mem.size - low);
	if (ret)
		return fail(vmm, ret, "real-time clock");
	dev->has_rtc = true;
	dev->i8042.reset = on_reset;
	dev->i8042.reset_ctx = vmm;
	ret = i8042_init(&dev->i8042, &vmm->pio);
	if (ret)
		return fail(vmm, ret, "keyboard controller");
	dev->has_i8042 = true;
	dev->pm.poweroff = on_poweroff;
	dev->pm.poweroff_ctx = vmm;
	ret = acpi_pm_init(&dev->pm, &vmm->pio);
	if (ret)
		return fail(vmm, ret, "ACPI registers");
	dev->has_pm = true;
	ret = pci_init(&dev->pci, &vmm->pio, &vmm->mmio, &vmm->irqs);
	if (ret)
		return fail(vmm, ret, "PCI bus");
	dev->has_pci = true;
	dev->pci.reset = on_reset;
	dev->pci.reset_ctx = vmm;
	dev->exitdev.panicked = on_panic;
	dev->exitdev.panicked_ctx = vmm;
	ret = exitdev_init(&dev->exitdev, vmm, &dev->pci);
	if (ret)
		return fail(vmm, ret, "exit device");
	dev->has_exitdev = true;
	return 0;
}

static void end_by_signal(struct vmm *vmm)
{
	struct signalfd_siginfo si;

	if (read(vmm->dev->signal_fd, &si, sizeof(si)) == sizeof(si))
		machine_end(vmm, VMM_END_SIGNAL, (int)si.ssi_signo, "%s", strsignal((int)si.ssi_signo));
}

static void end_by_timeout(struct vmm *vmm)
{
	u64 count;

	if (read(vmm->dev->timeout_fd, &count, sizeof(count)) == sizeof(count))
		machine_end(vmm, VMM_END_TIMEOUT, 0, "no end after %u s", vmm->cfg->timeout);
}

/* What could not be opened was perhaps given up, since the machine was to end. */
static int fail_open(struct vmm *vmm, int ret, const char *err)
{
	end_by_signal(vmm);
	end_by_timeout(vmm);
	machine_end(vmm, VMM_END_ERROR, 0, "%s", err);
	return ret;
}

static int plug(struct vmm *vmm, struct virtio_dev *d)
{
	struct machine_devices *dev = vmm->dev;
	int ret = virtio_pci_init(&dev->transport[dev->nr_transports++], vmm, &dev->pci, d);

	return ret ? fail(vmm, ret, d->ops->name) : 0;
}

static int init_virtio(struct vmm *vmm)
{
	struct machine_devices *dev = vmm->dev;
	const struct vmm_config *cfg = vmm->cfg;
	char err[256];
	int ret;

	for (unsigned i = 0; i < cfg->nr_disks; i++) {
		ret = virtio_blk_init(&dev->blk[i], &vmm->mem, &cfg->disks[i], i, dev->early_fd, err);
		if (ret)
			return fail_open(vmm, ret, err);
		dev->nr_blk = i + 1;
		ret = plug(vmm, &dev->blk[i].vdev);
		if (ret)
			return ret;
	}
	if (cfg->net) {
		ret = virtio_net_init(&dev->net, &vmm->mem, cfg, dev->early_fd, err);
		if (ret)
			return fail_open(vmm, ret, err);
		dev->has_net = true;
		ret = plug(vmm, &dev->net.vdev);
		if (ret)
			return ret;
	}
	if (cfg->virtio_console) {
		dev->console.output = NULL;
		ret = virtio_console_init(&dev->console, &vmm->mem);
		if (ret)
			return fail(vmm, ret, "console");
		dev->console.output = console_output;
		dev->console.output_ctx = vmm;
		dev->has_console = true;
		ret = plug(vmm, &dev->console.vdev);
		if (ret)
			return ret;
	}
	ret = virtio_rng_init(&dev->rng, &vmm->mem);
	if (ret)
		return fail(vmm, ret, "entropy device");
	dev->has_rng = true;
	return plug(vmm, &dev->rng.vdev);
}

static int init_timers(struct vmm *vmm)
{
	struct machine_devices *dev = vmm->dev;
	struct epoll_event in = { .events = EPOLLIN };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	dev->timeout_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	dev->panic_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	dev->probe_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	dev->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	dev->early_fd = epoll_create1(EPOLL_CLOEXEC);
	if (dev->timeout_fd < 0 || dev->panic_fd < 0 || dev->probe_fd < 0 || dev->signal_fd < 0 ||
	    dev->early_fd < 0 || epoll_ctl(dev->early_fd, EPOLL_CTL_ADD, dev->signal_fd, &in) < 0 ||
	    epoll_ctl(dev->early_fd, EPOLL_CTL_ADD, dev->timeout_fd, &in) < 0)
		return fail(vmm, -errno, "timers");
	if (vmm->cfg->timeout)
		arm_timer(dev->timeout_fd, vmm->cfg->timeout);
	arm_timer(dev->probe_fd, PROBE_S);
	return 0;
}

int devices_init(struct vmm *vmm)
{
	struct machine_devices *dev = calloc(1, sizeof(*dev));
	int ret;

	if (!dev)
		return fail(vmm, -ENOMEM, "devices");
	vmm->dev = dev;
	dev->timeout_fd = dev->panic_fd = dev->probe_fd = dev->signal_fd = dev->early_fd = -1;
	ret = init_timers(vmm);
	if (!ret)
		ret = init_board(vmm);
	if (!ret)
		ret = init_virtio(vmm);
	return ret;
}

void devices_exit(struct vmm *vmm)
{
	struct machine_devices *dev = vmm->dev;

	if (!dev)
		return;
	while (dev->nr_transports)
		virtio_pci_exit(&dev->transport[--dev->nr_transports]);
	if (dev->has_rng)
		virtio_rng_exit(&dev->rng);
	if (dev->has_console)
		virtio_console_exit(&dev->console);
	if (dev->has_net)
		virtio_net_exit(&dev->net);
	while (dev->nr_blk)
		virtio_blk_exit(&dev->blk[--dev->nr_blk]);
	if (dev->has_exitdev)
		exitdev_exit(&dev->exitdev);
	if (dev->has_pci)
		pci_exit(&dev->pci);
	if (dev->has_pm)
		acpi_pm_exit(&dev->pm, &vmm->pio);
	if (dev->has_i8042)
		i8042_exit(&dev->i8042, &vmm->pio);
	if (dev->has_rtc)
		rtc_exit(&dev->rtc, &vmm->pio);
	while (dev->nr_serials)
		serial_exit(&dev->serial[--dev->nr_serials], &vmm->pio);
	if (dev->timeout_fd >= 0)
		close(dev->timeout_fd);
	if (dev->panic_fd >= 0)
		close(dev->panic_fd);
	if (dev->probe_fd >= 0)
		close(dev->probe_fd);
	if (dev->signal_fd >= 0)
		close(dev->signal_fd);
	if (dev->early_fd >= 0)
		close(dev->early_fd);
	free(dev);
	vmm->dev = NULL;
}

/* ---- The machine's own thread ---- */

static unsigned input_room(struct vmm *vmm)
{
	return vmm->dev->has_console ? virtio_console_room(&vmm->dev->console) :
				       serial_room(&vmm->dev->serial[0]);
}

/* Returns false at the end of input. */
static bool read_input(struct vmm *vmm, bool tty, unsigned room)
{
	struct machine_devices *dev = vmm->dev;
	u8 raw[256], buf[sizeof(raw) + 1];
	enum term_action action = TERM_NONE;
	unsigned len;
	ssize_t n;

	/* One byte less than there is room for: the filter may add one. */
	n = read(vmm->cfg->in_fd, raw, min((unsigned)sizeof(raw), room - 1));
	if (n < 0)
		return errno == EINTR || errno == EAGAIN;
	if (n == 0)
		return false;
	len = (unsigned)n;
	if (tty)
		action = term_filter(&dev->escape, raw, len, buf, &len);
	else
		memcpy(buf, raw, len);
	if (dev->has_console)
		virtio_console_input(&dev->console, buf, len);
	else
		serial_input(&dev->serial[0], buf, len);
	if (action == TERM_QUIT)
		machine_end(vmm, VMM_END_QUIT, 0, "left by Ctrl-A x");
	if (action == TERM_HELP)
		fprintf(stderr, "\r\nCtrl-A x  leave, the machine ends\r\nCtrl-A a  send Ctrl-A\r\n"
			"Ctrl-A h  this help\r\n");
	return true;
}

void devices_loop(struct vmm *vmm)
{
	enum { END, SIGNAL, TIMEOUT, PANIC, PROBE, RTC, INPUT, NR };
	struct machine_devices *dev = vmm->dev;
	bool input = vmm->cfg->in_fd >= 0, tty = input && isatty(vmm->cfg->in_fd);

	while (!atomic_load(&vmm->ended)) {
		unsigned room = input ? input_room(vmm) : 0;
		struct pollfd fds[NR] = {
			[END] = { .fd = vmm->end_fd, .events = POLLIN },
			[SIGNAL] = { .fd = dev->signal_fd, .events = POLLIN },
			[TIMEOUT] = { .fd = dev->timeout_fd, .events = POLLIN },
			[PANIC] = { .fd = dev->panic_fd, .events = POLLIN },
			[PROBE] = { .fd = dev->probe_fd, .events = POLLIN },
			[RTC] = { .fd = dev->rtc.timer_fd, .events = POLLIN },
			[INPUT] = { .fd = room > 1 ? vmm->cfg->in_fd : -1, .events = POLLIN },
		};

		/* Without room look again soon: the guest does not tell when it reads. */
		if (poll(fds, NR, input && room <= 1 ? 20 : -1) < 0)
			continue;
		if (fds[SIGNAL].revents)
			end_by_signal(vmm);
		if (fds[TIMEOUT].revents)
			end_by_timeout(vmm);
		if (fds[PANIC].revents)
			machine_end(vmm, VMM_END_PANIC, 0, "guest kernel panicked");
		if (fds[PROBE].revents) {
			u64 count;

			if (read(dev->probe_fd, &count, sizeof(count)) == sizeof(count))
				vcpus_probe(vmm);
		}
		if (fds[RTC].revents)
			rtc_timer(&dev->rtc);
		if (fds[INPUT].revents)
			input = read_input(vmm, tty, room);
	}
}

void devices_abandon(struct vmm *vmm)
{
	for (unsigned i = 0; i < vmm->dev->nr_transports; i++) {
		struct virtio_dev *d = vmm->dev->transport[i].vdev;

		if (!d->ops->abandon)
			continue;
		/* At work on a request, it has its lock, which a vCPU wants that reads a register. */
		if (pthread_mutex_trylock(&d->lock))
			d->ops->abandon(d);
		else
			pthread_mutex_unlock(&d->lock);
	}
}

bool devices_any_output(struct vmm *vmm)
{
	return vmm->dev && vmm->dev->log.any;
}

bool devices_panic_text(struct vmm *vmm, char *buf, size_t len)
{
	struct machine_devices *dev = vmm->dev;

	if (!dev || !dev->log.panic[0])
		return false;
	snprintf(buf, len, "%s", dev->log.panic);
	return true;
}
