// SPDX-License-Identifier: MIT
/*
 * Messages to the daemon. A message is on its sender's stack, in one of two
 * lists until it is answered or withdrawn: unsent, or in the socket and beyond.
 * It can be answered once the daemon has read it, which the socket tells. A
 * daemon that goes takes nothing with it: what it had not answered is sent to
 * the next one.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "vdpa/vduse/priv.h"

#define TURN_REPLIES 64		/* replies past the API that are looked at in one go */
#define TURN_PAUSE_US 100
#define SLICE_NS 200000000	/* how often a waiter looks whether it still has a caller */

struct vduse_msg {
	struct list node;
	struct vduse_dev_request req;
	struct vduse_dev_response resp;
	u64 nr;			/* of those sent, from 1 */
	bool done;
	pthread_cond_t cond;
};

int vduse_msg_init(struct vduse_dev *d)
{
	list_init(&d->send);
	list_init(&d->recv);
	d->timeout = VDUSE_MSG_TIMEOUT;
	return 0;
}

/* Show whether there is something to answer. Lock held. */
static void settle(struct vduse_dev *d)
{
	u64 read;

	if (!d->connected_sock || d->broken)
		return;
	read = vduse_sock_read(&d->sock);
	/* In the order in which they were sent. */
	vduse_sock_writable(&d->sock, !list_empty(&d->recv) &&
			    list_entry(d->recv.next, struct vduse_msg, node)->nr <= read);
}

/* Move what fits into the socket. Lock held. */
static void pump(struct vduse_dev *d)
{
	struct list *p, *n;

	if (!d->connected_sock || d->broken)
		return;
	list_for_each_safe(p, n, &d->send) {
		struct vduse_msg *m = list_entry(p, struct vduse_msg, node);

		if (!vduse_sock_send(&d->sock, &m->req, sizeof(m->req)))
			break;
		m->nr = d->sock.sent;
		list_del(p);
		list_add_tail(p, &d->recv);
	}
	settle(d);
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
	if (d->connected_sock)
		vduse_sock_break(&d->sock);
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
	else if (ret) {
		/* Only this one is withdrawn; a late answer finds nothing. */
		finish(&m, VDUSE_REQ_RESULT_FAILED);
		settle(d);
	}
	pthread_mutex_unlock(&d->lock);
	pthread_cond_destroy(&m.cond);
	if (resp)
		*resp = m.resp;
	return m.resp.result == VDUSE_REQ_RESULT_OK ? 0 : -EIO;
}

/* Lock held. */
static ssize_t reply(struct vduse_dev *d, const void *buf, size_t len)
{
	struct vduse_dev_response r;
	struct list *p;
	u64 read;

	if (len < sizeof(r))
		return -EINVAL;
	memcpy(&r, buf, sizeof(r));
	for (unsigned i = 0; i < ARRAY_SIZE(r.reserved); i++)
		if (r.reserved[i])
			return -EINVAL;
	if (list_empty(&d->recv))
		return -ENOENT;
	read = vduse_sock_read(&d->sock);
	list_for_each(p, &d->recv) {
		struct vduse_msg *m = list_entry(p, struct vduse_msg, node);

		if (m->req.request_id != r.request_id || m->nr > read)
			continue;
		m->resp = r;
		finish(m, r.result);
		pump(d);
		return sizeof(r);
	}
	return -ENOENT;
}

ssize_t vduse_write(struct vduse_dev *d, const void *buf, size_t len)
{
	ssize_t ret;

	pthread_mutex_lock(&d->lock);
	ret = reply(d, buf, len);
	pthread_mutex_unlock(&d->lock);
	return ret;
}

void vduse_look(struct vduse_dev *d)
{
	pthread_mutex_lock(&d->lock);
	if (d->broken)
		vduse_sock_break(&d->sock);
	else
		settle(d);
	pthread_mutex_unlock(&d->lock);
}

enum turn { TURN_WAIT, TURN_AGAIN, TURN_END };

/*
 * Replies that come through the socket itself, such as by io_uring, and messages that were read so: room
 * in our end becomes an event. A daemon that floods it does not keep the lock. Lock held.
 */
static enum turn run_socket(struct vduse_dev *d)
{
	struct vduse_dev_response r;
	unsigned i;
	ssize_t n;

	if (!d->connected_sock)
		return TURN_END;
	/* What is left in a broken one's socket makes its error. */
	for (i = 0; i < TURN_REPLIES && !d->broken && (n = recv(d->sock.hub, &r, sizeof(r), MSG_DONTWAIT)) >= 0; i++)
		if (reply(d, &r, (size_t)n) < 0)
			log_debug("vduse %s: bad reply dropped", d->name);
	settle(d);
	return i == TURN_REPLIES ? TURN_AGAIN : TURN_WAIT;
}

static void *reader(void *arg)
{
	enum turn turn = TURN_WAIT;
	struct vduse_dev *d = arg;
	struct epoll_event e;

	while (turn != TURN_END) {
		if (turn == TURN_WAIT && epoll_wait(d->epoll, &e, 1, -1) < 0 && errno != EINTR)
			return NULL;
		pthread_mutex_lock(&d->lock);
		turn = run_socket(d);
		pthread_mutex_unlock(&d->lock);
		/* Who waits for the lock gets it, however many replies are still there. */
		if (turn == TURN_AGAIN)
			usleep(TURN_PAUSE_US);
	}
	return NULL;
}

static int start_reader(struct vduse_dev *d)
{
	struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET};
	int ret;

	d->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (d->epoll < 0)
		return -errno;
	ret = epoll_ctl(d->epoll, EPOLL_CTL_ADD, d->sock.hub, &e) < 0 ? -errno : -pthread_create(&d->reader, NULL, reader, d);
	if (ret)
		close(d->epoll);
	return ret;
}

int vduse_msg_connect(struct vduse_dev *d)
{
	int fd = vduse_sock_open(&d->sock), ret;

	if (fd < 0)
		return fd;
	d->connected_sock = true;
	ret = start_reader(d);
	if (ret) {
		close(fd);
		vduse_sock_close(&d->sock);
		d->connected_sock = false;
		return ret;
	}
	if (d->broken)
		vduse_sock_break(&d->sock);
	pump(d);
	return fd;
}

void vduse_msg_disconnect(struct vduse_dev *d)
{
	/* Unanswered ones go first, in their order. */
	while (!list_empty(&d->recv)) {
		struct list *last = d->recv.prev;

		list_del(last);
		list_add_after(last, &d->send);
	}
	d->connected_sock = false;
	shutdown(d->sock.hub, SHUT_RDWR);
	pthread_mutex_unlock(&d->lock);
	pthread_join(d->reader, NULL);
	pthread_mutex_lock(&d->lock);
	close(d->epoll);
	vduse_sock_close(&d->sock);
}
