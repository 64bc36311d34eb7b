// SPDX-License-Identifier: MIT
/*
 * Channels: the calls of one process to one file of the hub.
 *
 * A channel belongs to the process that made it. A child by fork() has a copy,
 * and makes a socket pair of its own with the first call; the parent's goes on
 * undisturbed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/ioctl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vdpa/client/rpc.h"
#include "vfs/user.h"

struct vdpa_chan {
	pthread_mutex_t lock;
	pid_t pid;		/* whose the lock and the socket are */
	int life;
	_Atomic int sock;	/* set under the lock */
	_Atomic unsigned patience_ms;
	_Atomic int cancel_fd;
};

/* Lock held. */
static int attach(struct vdpa_chan *c)
{
	struct vdpa_msg m = { .head.op = VDPA_OP_ATTACH, .nfds = 1 };
	int pair[2], err, on = 1;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	/* Ours to do: the hub could be late for the first call. */
	setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
	m.fds[0] = pair[1];
	err = vdpa_msg_send(c->life, &m);
	close(pair[1]);
	if (err) {
		close(pair[0]);
		return err;
	}
	atomic_store(&c->sock, pair[0]);
	return 0;
}

struct vdpa_chan *vdpa_chan_new(int life)
{
	struct vdpa_chan *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->sock = -1;
	c->cancel_fd = -1;
	c->pid = getpid();
	pthread_mutex_init(&c->lock, NULL);
	c->life = fcntl(life, F_DUPFD_CLOEXEC, 3);
	if (c->life < 0) {
		int err = errno;

		free(c);
		errno = err;
		return NULL;
	}
	return c;
}

void vdpa_chan_free(struct vdpa_chan *c)
{
	if (c->sock >= 0)
		close(c->sock);
	close(c->life);
	free(c);
}

static void cut(struct vdpa_chan *c)
{
	int sock = atomic_load(&c->sock);

	shutdown(c->life, SHUT_RDWR);
	if (sock >= 0)
		shutdown(sock, SHUT_RDWR);
}

void vdpa_chan_hurry(struct vdpa_chan *c, unsigned ms)
{
	if (ms)
		atomic_store(&c->patience_ms, ms);
	else
		cut(c);
}

void vdpa_chan_cancel_by(struct vdpa_chan *c, int fd)
{
	atomic_store(&c->cancel_fd, fd);
}

/* Until there is an answer, which counts although the caller may have changed its mind: 0, -EINTR, -EAGAIN: too late. */
static int await(struct vdpa_chan *c, int cancel_fd, unsigned ms)
{
	struct pollfd p[] = {{.fd = c->sock, .events = POLLIN}, {.fd = cancel_fd, .events = POLLIN}};
	int n;

	do
		n = poll(p, ARRAY_SIZE(p), ms ? (int)ms : -1);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (p[0].revents)
		return 0;
	return n ? -EINTR : -EAGAIN;
}

static int exchange(struct vdpa_chan *c, struct vdpa_msg *m)
{
	unsigned ms = atomic_load(&c->patience_ms);
	int cancel_fd = atomic_load(&c->cancel_fd), err = c->sock < 0 ? attach(c) : 0;

	if (!err)
		err = vdpa_msg_send(c->sock, m);
	if (!err && (ms || cancel_fd >= 0))
		err = await(c, cancel_fd, ms);
	if (!err)
		err = vdpa_msg_recv(c->sock, m);
	/* Late answers would be taken for those to the next calls. */
	if (err == -EAGAIN || err == -EINTR)
		cut(c);
	return err;
}

s64 vdpa_chan_call(struct vdpa_chan *c, struct vdpa_msg *m)
{
	int err, cancel;

	if (c->pid != getpid()) {
		/* A child has one thread, and the lock as it happened to be. */
		pthread_mutex_init(&c->lock, NULL);
		if (c->sock >= 0)
			close(c->sock);
		c->sock = -1;
		c->pid = getpid();
	}
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	pthread_mutex_lock(&c->lock);
	err = exchange(c, m);
	pthread_mutex_unlock(&c->lock);
	pthread_setcancelstate(cancel, &cancel);
	/* A descriptor that is none is the caller's mistake; all else is the hub's end. */
	if (err)
		return err == -EBADF || err == -EINTR ? err : -EIO;
	return m->head.value;
}

static const struct vdpa_ioctl_rule *find_rule(const struct vdpa_ioctl_rule *r, u32 req)
{
	for (; r->req; r++)
		if (r->req == req)
			return r;
	return NULL;
}

/* What the number says. */
static struct vdpa_ioctl_rule plain(u32 req, int other)
{
	s16 size = (s16)_IOC_SIZE(req);

	return (struct vdpa_ioctl_rule){
		.req = req,
		.in = (s16)(other >= 0 ? other : _IOC_DIR(req) & _IOC_WRITE ? size : 0),
		.out = _IOC_DIR(req) & _IOC_READ ? size : 0,
		.fd_at = -1,
		.len_at = -1,
	};
}

/* Bytes behind the argument. One that is too long for a message is sent without: the hub refuses the length. */
static u32 tail_len(const struct vdpa_msg *m, const struct vdpa_ioctl_rule *r)
{
	u32 len;

	if (r->len_at < 0)
		return 0;
	memcpy(&len, m->data + r->len_at, sizeof(len));
	return len <= VDPA_MSG_DATA - (u32)r->in ? len : 0;
}

long vdpa_chan_ioctl(struct vdpa_chan *c, const struct vdpa_ioctl_rule *rules, int other, u32 req,
		     unsigned long arg)
{
	struct vdpa_msg m = { .head = { .op = VDPA_OP_IOCTL, .value = req } };
	const struct vdpa_ioctl_rule *known = find_rule(rules, req);
	struct vdpa_ioctl_rule r = known ? *known : plain(req, other);
	u32 tail, fixed = (u32)max(r.in, r.out);
	s64 ret;

	if (fixed > VDPA_MSG_DATA)
		return -ENOTTY;
	if (vfs_user_read(m.data, arg, (size_t)r.in))
		return -EFAULT;
	m.head.len = (u32)r.in;
	tail = tail_len(&m, &r);
	if (r.tail_in) {
		if (vfs_user_read(m.data + r.in, arg + (unsigned long)r.in, tail))
			return -EFAULT;
		m.head.len += tail;
	}
	if (r.fd_at >= 0) {
		memcpy(&m.fds[0], m.data + r.fd_at, sizeof(int));
		m.nfds = m.fds[0] >= 0;
	}
	ret = vdpa_chan_call(c, &m);
	if (ret >= 0 && !r.tail_out && m.head.len && vfs_user_write(arg, m.data, min(m.head.len, (u32)r.out)))
		ret = -EFAULT;
	else if (ret >= 0 && r.tail_out && vfs_user_write(arg + (unsigned long)r.in, m.data, min(m.head.len, tail)))
		ret = -EFAULT;
	if (ret >= 0 && m.nfds == 1)
		return m.fds[0];
	if (ret != -EIO && ret != -EBADF)
		vdpa_msg_close_fds(&m);
	return ret;
}
