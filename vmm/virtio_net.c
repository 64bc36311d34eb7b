// SPDX-License-Identifier: MIT
/*
 * Network device. libslirp is not thread-safe: all calls are made under the
 * device's lock, nearly all in the device's thread. The guest's network is
 * 10.0.2.0/24: gateway .2, name server .3, the guest .15.
 * Source: VIRTIO 1.1 "Network Device".
 */
#include "vmm/virtio_net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libslirp.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "base/bits.h"
#include "base/log.h"

#define QUEUE_SIZE 256
#define HDR_LEN sizeof(struct virtio_net_hdr_v1)
#define MAX_FRAME 65550
#define MAX_WAITING 512
#define MAX_SLEEP_MS 3600000u
enum { RX, TX };

struct net_packet {
	struct net_packet *next;
	size_t len;
	u8 data[];
};

struct net_timer {
	struct net_timer *next;
	SlirpTimerCb cb;
	void *cb_opaque;
	s64 expires_ms;		/* -1 = not armed */
};

static struct virtio_net *of_dev(struct virtio_dev *d)
{
	return container_of(d, struct virtio_net, vdev);
}

/* ---- To the guest ---- */

/* True if the frame went into a buffer or has to be dropped; false to wait for buffers. */
static bool rx_deliver(struct virtio_net *n, const void *frame, size_t len)
{
	const struct virtio_net_hdr_v1 hdr = { .num_buffers = 1 };
	struct virtq_chain c;

	if (!virtio_pop(&n->vdev, RX, &c))
		return !virtio_running(&n->vdev);
	if (c.in_len < HDR_LEN + len) {
		/* Without mergeable buffers the driver must offer room for a whole frame. */
		virtio_broken(&n->vdev, "receive buffer too small");
		return true;
	}
	virtq_write(&c, 0, &hdr, sizeof(hdr));
	virtq_write(&c, HDR_LEN, frame, len);
	virtio_push(&n->vdev, RX, &c, (u32)(HDR_LEN + len));
	return true;
}

static void rx_flush_waiting(struct virtio_net *n)
{
	struct net_packet *p;

	while ((p = n->rx_head) && rx_deliver(n, p->data, p->len)) {
		n->rx_head = p->next;
		if (!n->rx_head)
			n->rx_tail = &n->rx_head;
		n->rx_count--;
		free(p);
	}
}

static void rx_drop_waiting(struct virtio_net *n)
{
	struct net_packet *p;

	while ((p = n->rx_head)) {
		n->rx_head = p->next;
		free(p);
	}
	n->rx_tail = &n->rx_head;
	n->rx_count = 0;
}

/* ---- libslirp's callbacks ---- */

static ssize_t net_send_packet(const void *buf, size_t len, void *opaque)
{
	struct virtio_net *n = opaque;
	struct net_packet *p;

	if (!n->rx_head && rx_deliver(n, buf, len))
		return (ssize_t)len;
	/* TCP retransmits what is dropped here. */
	if (n->rx_count == MAX_WAITING)
		return (ssize_t)len;
	p = malloc(sizeof(*p) + len);
	if (!p)
		return (ssize_t)len;
	p->next = NULL;
	p->len = len;
	memcpy(p->data, buf, len);
	*n->rx_tail = p;
	n->rx_tail = &p->next;
	n->rx_count++;
	return (ssize_t)len;
}

static void net_guest_error(const char *msg, void *opaque)
{
	log_debug("network: %s", msg);
}

static s64 clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

static int64_t net_clock_get_ns(void *opaque)
{
	return clock_ns();
}

static void *net_timer_new(SlirpTimerCb cb, void *cb_opaque, void *opaque)
{
	struct virtio_net *n = opaque;
	struct net_timer *t = calloc(1, sizeof(*t));

	/* libslirp has no way to be told. */
	BUG_ON(!t);
	t->cb = cb;
	t->cb_opaque = cb_opaque;
	t->expires_ms = -1;
	t->next = n->timers;
	n->timers = t;
	return t;
}

static void net_timer_free(void *timer, void *opaque)
{
	struct virtio_net *n = opaque;

	for (struct net_timer **p = &n->timers; *p; p = &(*p)->next) {
		if (*p == timer) {
			*p = (*p)->next;
			free(timer);
			return;
		}
	}
}

static void net_timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
	struct net_timer *t = timer;

	t->expires_ms = expire_ms;
}

static void net_poll_fd(int fd, void *opaque)
{
	/* Descriptors are collected anew before each poll. */
}

static void net_notify_thread(void *opaque)
{
	struct virtio_net *n = opaque;

	/* A kick without buffers only makes the thread go round. */
	eventfd_write(n->vdev.kick_fd[RX], 1);
}

static const SlirpCb net_callbacks = {
	.send_packet = net_send_packet,
	.guest_error = net_guest_error,
	.clock_get_ns = net_clock_get_ns,
	.timer_new = net_timer_new,
	.timer_free = net_timer_free,
	.timer_mod = net_timer_mod,
	.register_poll_fd = net_poll_fd,
	.unregister_poll_fd = net_poll_fd,
	.notify = net_notify_thread,
};

/* ---- The device's thread ---- */

static int net_add_poll(int fd, int events, void *opaque)
{
	struct virtio_net *n = opaque;
	short e = 0;

	if (n->nr_fds == n->max_fds)
		return -1;
	e |= events & SLIRP_POLL_IN ? POLLIN : 0;
	e |= events & SLIRP_POLL_OUT ? POLLOUT : 0;
	e |= events & SLIRP_POLL_PRI ? POLLPRI : 0;
	n->fds[n->nr_fds] = (struct pollfd){ .fd = fd, .events = e };
	return (int)n->nr_fds++;
}

static int net_get_revents(int idx, void *opaque)
{
	const struct virtio_net *n = opaque;
	int r, e = 0;

	if (idx < 0 || (unsigned)idx >= n->nr_fds)
		return 0;
	r = n->results[idx].revents;
	e |= r & POLLIN ? SLIRP_POLL_IN : 0;
	e |= r & POLLOUT ? SLIRP_POLL_OUT : 0;
	e |= r & POLLPRI ? SLIRP_POLL_PRI : 0;
	e |= r & POLLERR ? SLIRP_POLL_ERR : 0;
	e |= r & POLLHUP ? SLIRP_POLL_HUP : 0;
	return e;
}

static unsigned net_poll_fill(struct virtio_dev *d, struct pollfd *fds, unsigned max,
			      int *timeout_ms)
{
	struct virtio_net *n = of_dev(d);
	u32 timeout = UINT32_MAX;
	s64 now = clock_ns() / 1000000;

	n->fds = fds;
	n->nr_fds = 0;
	n->max_fds = max;
	slirp_pollfds_fill(n->slirp, &timeout, net_add_poll, n);
	for (const struct net_timer *t = n->timers; t; t = t->next) {
		s64 left = max(t->expires_ms - now, 0ll);

		if (t->expires_ms >= 0 && left < timeout)
			timeout = (u32)left;
	}
	if (timeout != UINT32_MAX)
		*timeout_ms = (int)min(timeout, MAX_SLEEP_MS);
	return n->nr_fds;
}

static void run_timers(struct virtio_net *n)
{
	s64 now = clock_ns() / 1000000;

	for (struct net_timer *t = n->timers, *next; t; t = next) {
		next = t->next;
		if (t->expires_ms >= 0 && t->expires_ms <= now) {
			t->expires_ms = -1;
			t->cb(t->cb_opaque);
		}
	}
}

static void net_poll_done(struct virtio_dev *d, const struct pollfd *fds, unsigned nr, bool error)
{
	struct virtio_net *n = of_dev(d);

	n->results = fds;
	slirp_pollfds_poll(n->slirp, error, net_get_revents, n);
	run_timers(n);
	rx_flush_waiting(n);
	virtio_flush(d, RX);
}

static void net_notify(struct virtio_dev *d, unsigned q)
{
	struct virtio_net *n = of_dev(d);
	static _Thread_local u8 frame[MAX_FRAME];
	struct virtq_chain c;

	/* Receive buffers: poll_done(), which follows, uses them. */
	if (q == RX)
		return;
	while (virtio_pop(d, TX, &c)) {
		/* Without offloads the header says nothing. */
		if (c.out_len < HDR_LEN || c.out_len - HDR_LEN > sizeof(frame)) {
			virtio_broken(d, "frame without a header or too long");
			return;
		}
		slirp_input(n->slirp, frame, (int)virtq_read(&c, HDR_LEN, frame, sizeof(frame)));
		virtio_push(d, TX, &c, 0);
	}
	virtio_flush(d, TX);
}

static void net_config_read(struct virtio_dev *d, u8 *config)
{
	struct virtio_net_config c = { .status = VIRTIO_NET_S_LINK_UP };

	memcpy(c.mac, of_dev(d)->mac, sizeof(c.mac));
	memcpy(config, &c, sizeof(c));
}

static void net_reset(struct virtio_dev *d)
{
	rx_drop_waiting(of_dev(d));
}

static const struct virtio_ops net_ops = {
	.name = "net",
	.id = VIRTIO_ID_NET,
	.pci_class = 0x020000 << 8,
	.nr_queues = 2,
	.queue_size = QUEUE_SIZE,
	.config_len = sizeof(struct virtio_net_config),
	.config_read = net_config_read,
	.notify = net_notify,
	.reset = net_reset,
	.poll_fill = net_poll_fill,
	.poll_done = net_poll_done,
};

static struct in_addr ip(const char *s)
{
	struct in_addr a;

	BUG_ON(inet_pton(AF_INET, s, &a) != 1);
	return a;
}

static int add_hostfwd(struct virtio_net *n, const struct vmm_hostfwd *f, char err[256])
{
	struct in_addr host = { .s_addr = f->host_addr }, guest = { .s_addr = f->guest_addr };
	int ret;

	if (!f->guest_addr)
		guest = ip("10.0.2.15");
	errno = 0;
	if (slirp_add_hostfwd(n->slirp, f->udp, host, f->host_port, guest, f->guest_port) == 0)
		return 0;
	ret = errno ? -errno : -EADDRINUSE;
	snprintf(err, 256, "cannot forward host %s port %u: %s", f->udp ? "UDP" : "TCP",
		 f->host_port, strerror(-ret));
	return ret;
}

int virtio_net_init(struct virtio_net *n, const struct vmm_mem *mem, const struct vmm_hostfwd *fwd,
		    unsigned nr_fwd, char err[256])
{
	const SlirpConfig cfg = {
		.version = 1,
		.in_enabled = true,
		.vnetwork = ip("10.0.2.0"),
		.vnetmask = ip("255.255.255.0"),
		.vhost = ip("10.0.2.2"),
		.vdhcp_start = ip("10.0.2.15"),
		.vnameserver = ip("10.0.2.3"),
	};
	/* Locally administered; each machine has a network of its own. */
	static const u8 mac[6] = { 0x52, 0x54, 0x00, 0x75, 0x6b, 0x01 };
	int ret;

	memset(n, 0, sizeof(*n));
	memcpy(n->mac, mac, sizeof(mac));
	n->rx_tail = &n->rx_head;
	n->vdev.ops = &net_ops;
	n->vdev.mem = mem;
	n->vdev.features = BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS);
	ret = virtio_init(&n->vdev);
	if (ret) {
		snprintf(err, 256, "network: %s", strerror(-ret));
		return ret;
	}
	n->slirp = slirp_new(&cfg, &net_callbacks, n);
	if (!n->slirp) {
		snprintf(err, 256, "network: libslirp does not start");
		virtio_exit(&n->vdev);
		return -EIO;
	}
	for (unsigned i = 0; i < nr_fwd && !ret; i++)
		ret = add_hostfwd(n, &fwd[i], err);
	if (ret)
		virtio_net_exit(n);
	return ret;
}

void virtio_net_exit(struct virtio_net *n)
{
	slirp_cleanup(n->slirp);
	rx_drop_waiting(n);
	while (n->timers)
		net_timer_free(n->timers, n);
	virtio_exit(&n->vdev);
}
