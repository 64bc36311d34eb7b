// SPDX-License-Identifier: MIT
/*
 * Messages to the daemon. A message is on its sender's stack, in one of two
 * lists until it is answered or withdrawn. It counts as sent once it is in the
 * socket, so the daemon's readiness is the socket's own. A daemon that goes
 * takes nothing with it: what it had not answered is sent to the next one.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "vdpa/vduse/priv.h"

#define SLICE_NS 200000000	/* how often a waiter looks whether it still has a caller */

struct vduse_msg {
	struct list node;
	struct vduse_dev_request req;
	struct vduse_dev_response resp;
	bool done;
	pthread_cond_t cond;
};

int vduse_msg_init(struct vduse_dev *d)
{
	list_init(&d->send);
	list_init(&d->recv);
	d->timeout = VDUSE_MSG_TIMEOUT;
	d->sock = -1;
	return 0;
}

/* Move what fits into the socket. Lock held. */
static void pump(struct vduse_dev *d)
{
	struct list *p, *n;

	if (d->sock < 0 || d->broken)
		return;
	list_for_each_safe(p, n, &d->send) {
		struct vduse_msg *m = list_entry(p, struct vduse_msg, node);

		if (send(d->sock, &m->req, sizeof(m->req), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			return;
		list_del(p);
		list_add_tail(p, &d->recv);
	}
}

static void finish(struct vduse_msg *m, u32 result)
{
	list_del(&m->node);
	m->resp.result = result;
	m->done = true;
	pthread_cond_signal(&m->cond);
}

/* The daemon did not answer in time: nothing that it says counts any more. Lock held. */
static void set_broken(struct vduse_dev *d)
{
	log_warn("vduse %s: no answer from its daemon within %u s: the device is broken", d->name, d->timeout);
	d->broken = true;
	while (!list_empty(&d->send))
		finish(list_entry(d->send.next, struct vduse_msg, node), VDUSE_REQ_RESULT_FAILED);
	while (!list_empty(&d->recv))
		finish(list_entry(d->recv.next, struct vduse_msg, node), VDUSE_REQ_RESULT_FAILED);
}

/* Who asked does not wait any more: killed, as a signal would end the wait in a kernel. */
static bool caller_gone(void)
{
	struct pollfd p = {.fd = vdpa_caller};

	return vdpa_caller >= 0 && poll(&p, 1, 0) == 1 && (p.revents & POLLHUP);
}

static bool later(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec >= b->tv_nsec;
}

/* Until the answer, the time-out, or the caller's end: 0, -ETIMEDOUT, -EINTR. Lock held. */
static int wait_answer(struct vduse_dev *d, struct vduse_msg *m)
{
	struct timespec now, until, slice;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += d->timeout;
	while (!m->done) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (d->timeout && later(&now, &until))
			return -ETIMEDOUT;
		if (caller_gone())
			return -EINTR;
		slice = now;
		slice.tv_nsec += SLICE_NS;
		if (slice.tv_nsec >= 1000000000) {
			slice.tv_nsec -= 1000000000;
			slice.tv_sec++;
		}
		if (d->timeout && later(&slice, &until))
			slice = until;
		pthread_cond_timedwait(&m->cond, &d->lock, &slice);
	}
	return 0;
}

int vduse_msg_send(struct vduse_dev *d, struct vduse_dev_request *req, struct vduse_dev_response *resp)
{
	struct vduse_msg m = {.req = *req};
	pthread_condattr_t ca;
	int ret;

	pthread_condattr_init(&ca);
	pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	pthread_cond_init(&m.cond, &ca);
	pthread_condattr_destroy(&ca);
	list_init(&m.node);

	pthread_mutex_lock(&d->lock);
	if (d->broken) {
		m.done = true;
		m.resp.result = VDUSE_REQ_RESULT_FAILED;
	} else {
		m.req.request_id = d->next_id++;
		list_add_tail(&m.node, &d->send);
		pump(d);
	}
	ret = wait_answer(d, &m);
	if (ret == -ETIMEDOUT)
		set_broken(d);
	else if (ret)
		/* Only this one is withdrawn; a late answer finds nothing. */
		finish(&m, VDUSE_REQ_RESULT_FAILED);
	pthread_mutex_unlock(&d->lock);
	pthread_cond_destroy(&m.cond);
	if (resp)
		*resp = m.resp;
	return m.resp.result == VDUSE_REQ_RESULT_OK ? 0 : -EIO;
}

ssize_t vduse_write(struct vduse_dev *d, const void *buf, size_t len)
{
	struct vduse_dev_response r;
	struct list *p;
	ssize_t ret = -ENOENT;

	if (len < sizeof(r))
		return -EINVAL;
	memcpy(&r, buf, sizeof(r));
	for (unsigned i = 0; i < ARRAY_SIZE(r.reserved); i++)
		if (r.reserved[i])
			return -EINVAL;
	pthread_mutex_lock(&d->lock);
	list_for_each(p, &d->recv) {
		struct vduse_msg *m = list_entry(p, struct vduse_msg, node);

		if (m->req.request_id != r.request_id)
			continue;
		m->resp = r;
		finish(m, r.result);
		ret = sizeof(r);
		break;
	}
	pump(d);
	pthread_mutex_unlock(&d->lock);
	return ret;
}

/* Replies that come through the socket itself, such as by io_uring. */
static void *reader(void *arg)
{
	struct vduse_dev *d = arg;
	struct vduse_dev_response r;
	int sock;

	pthread_mutex_lock(&d->lock);
	sock = d->sock;
	pthread_mutex_unlock(&d->lock);
	for (;;) {
		ssize_t n = recv(sock, &r, sizeof(r), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return NULL;
		if (vduse_write(d, &r, (size_t)n) < 0)
			log_debug("vduse %s: bad reply dropped", d->name);
	}
}

int vduse_msg_connect(struct vduse_dev *d)
{
	int sv[2], ret;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return -errno;
	d->sock = sv[0];
	ret = pthread_create(&d->reader, NULL, reader, d);
	if (ret) {
		close(sv[0]);
		close(sv[1]);
		d->sock = -1;
		return -ret;
	}
	pump(d);
	return sv[1];
}

void vduse_msg_disconnect(struct vduse_dev *d)
{
	int sock = d->sock;

	d->sock = -1;
	/* Unanswered ones go first, in their order. */
	while (!list_empty(&d->recv)) {
		struct list *last = d->recv.prev;

		list_del(last);
		list_add_after(last, &d->send);
	}
	shutdown(sock, SHUT_RDWR);
	pthread_mutex_unlock(&d->lock);
	pthread_join(d->reader, NULL);
	pthread_mutex_lock(&d->lock);
	close(sock);
}
