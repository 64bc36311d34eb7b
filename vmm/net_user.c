// SPDX-License-Identifier: MIT
/*
 * The default network: libslirp, a network of the machine's own with DHCP, NAT
 * and port forwards. 10.0.2.0/24: gateway .2, name server .3, the guest .15.
 * libslirp is not thread-safe: all calls are made under the card's lock.
 */
#include "vmm/net_user.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libslirp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

#define MAX_WAITING 512
#define MAX_SLEEP_MS 3600000u

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

struct net_user {
	Slirp *slirp;
	/* Frames that the guest has not taken yet, oldest first. */
	struct net_packet *head, **tail;
	unsigned count;
	struct net_timer *timers;
	/* Between poll_fill and poll_done. */
	struct pollfd *fds;
	unsigned nr_fds, max_fds;
	const struct pollfd *results;
};

/* ---- libslirp's callbacks ---- */

static ssize_t net_send_packet(const void *buf, size_t len, void *opaque)
{
	struct net_user *n = opaque;
	struct net_packet *p;

	/* TCP retransmits what is dropped here. */
	if (n->count == MAX_WAITING)
		return (ssize_t)len;
	p = malloc(sizeof(*p) + len);
	if (!p)
		return (ssize_t)len;
	p->next = NULL;
	p->len = len;
	memcpy(p->data, buf, len);
	*n->tail = p;
	n->tail = &p->next;
	n->count++;
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
	struct net_user *n = opaque;
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
	struct net_user *n = opaque;

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
	/* Whoever calls libslirp polls anew afterwards. */
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

/* ---- The card's thread ---- */

static int net_add_poll(int fd, int events, void *opaque)
{
	struct net_user *n = opaque;
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
	const struct net_user *n = opaque;
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

static unsigned user_poll_fill(void *net, struct pollfd *fds, unsigned max, unsigned want, int *timeout_ms)
{
	struct net_user *n = net;
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

static void run_timers(struct net_user *n)
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

static void user_poll_done(void *net, const struct pollfd *fds, unsigned nr, bool error)
{
	struct net_user *n = net;

	n->results = fds;
	slirp_pollfds_poll(n->slirp, error, net_get_revents, n);
	run_timers(n);
}

static bool user_send(void *net, const void *frame, size_t len)
{
	struct net_user *n = net;

	slirp_input(n->slirp, frame, (int)len);
	return true;
}

static size_t user_receive(void *net, void *frame, size_t room)
{
	struct net_user *n = net;
	struct net_packet *p = n->head;
	size_t len;

	if (!p)
		return 0;
	len = p->len <= room ? p->len : 0;
	memcpy(frame, p->data, len);
	n->head = p->next;
	if (!n->head)
		n->tail = &n->head;
	n->count--;
	free(p);
	return len;
}

/* ---- Set-up ---- */

static struct in_addr ip(const char *s)
{
	struct in_addr a;

	BUG_ON(inet_pton(AF_INET, s, &a) != 1);
	return a;
}

static int add_hostfwd(struct net_user *n, const struct vmm_hostfwd *f, char err[256])
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

static void user_close(void *net)
{
	struct net_user *n = net;
	u8 none;

	slirp_cleanup(n->slirp);
	while (n->head)
		user_receive(n, &none, 0);
	while (n->timers)
		net_timer_free(n->timers, n);
	free(n);
}

static void *user_open(const struct vmm_config *vc, int cancel_fd, struct vmm_net_info *info, char err[256])
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
	struct net_user *n = calloc(1, sizeof(*n));
	int ret = 0;

	if (!n) {
		snprintf(err, 256, "network: %s", strerror(ENOMEM));
		return NULL;
	}
	/* Locally administered; each machine has a network of its own. */
	*info = (struct vmm_net_info){ .mac = { 0x52, 0x54, 0x00, 0x75, 0x6b, 0x01 }, .link_up = true };
	n->tail = &n->head;
	n->slirp = slirp_new(&cfg, &net_callbacks, n);
	if (!n->slirp) {
		snprintf(err, 256, "network: libslirp does not start");
		free(n);
		errno = EIO;
		return NULL;
	}
	for (unsigned i = 0; i < vc->nr_hostfwds && !ret; i++)
		ret = add_hostfwd(n, &vc->hostfwds[i], err);
	if (!ret)
		return n;
	user_close(n);
	errno = -ret;
	return NULL;
}

const struct vmm_net_ops net_user_ops = {
	.open = user_open,
	.close = user_close,
	.send = user_send,
	.receive = user_receive,
	.poll_fill = user_poll_fill,
	.poll_done = user_poll_done,
};
