// SPDX-License-Identifier: MIT
/*
 * Generic netlink for programs that look for the family "vdpa", so that the
 * unmodified management tool works. A netlink socket is the kernel's until it
 * asks the controller for that family: then a session of the hub takes its
 * descriptor's place. Sockets that look for anything else are never touched.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/genetlink.h>
#include <linux/netlink.h>

#include "abi/vdpa.h"
#include "vdpa/client/mgmt_wire.h"
#include "vfs/vfs.h"

struct socket {
	struct vdpa_chan *chan;
	pthread_mutex_t lock;
	struct vdpa_msg peeked;
	bool has_peeked;
};

static size_t gather(const struct msghdr *m, void *to, size_t room)
{
	size_t len = 0;

	for (size_t i = 0; i < m->msg_iovlen; i++) {
		size_t part = min(m->msg_iov[i].iov_len, room - len);

		memcpy((char *)to + len, m->msg_iov[i].iov_base, part);
		len += part;
		if (part < m->msg_iov[i].iov_len)
			return room + 1;
	}
	return len;
}

static ssize_t nl_sendmsg(struct vfs_file *f, const struct msghdr *m, int flags)
{
	struct vdpa_msg msg = { .head.op = MGMT_OP_SEND };
	struct socket *s = f->priv;
	size_t len = gather(m, msg.data, sizeof(msg.data));
	s64 ret;

	if (len > sizeof(msg.data))
		return -EMSGSIZE;
	msg.head.len = (u32)len;
	ret = vdpa_chan_call(s->chan, &msg);
	return ret < 0 ? (ssize_t)ret : (ssize_t)len;
}

/* Lock held: the next datagram is in @s->peeked. */
static int fetch(struct socket *s)
{
	s64 ret;

	if (s->has_peeked)
		return 0;
	s->peeked.head = (struct vdpa_msg_head){ .op = MGMT_OP_RECEIVE };
	s->peeked.nfds = 0;
	ret = vdpa_chan_call(s->chan, &s->peeked);
	s->has_peeked = ret >= 0;
	return (int)min(ret, (s64)0);
}

static size_t scatter(struct msghdr *m, const void *from, size_t len)
{
	size_t at = 0;

	for (size_t i = 0; i < m->msg_iovlen && at < len; i++) {
		size_t part = min(m->msg_iov[i].iov_len, len - at);

		memcpy(m->msg_iov[i].iov_base, (const char *)from + at, part);
		at += part;
	}
	return at;
}

static ssize_t nl_recvmsg(struct vfs_file *f, struct msghdr *m, int flags)
{
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	struct socket *s = f->priv;
	size_t len, copied;
	int err;

	pthread_mutex_lock(&s->lock);
	err = fetch(s);
	if (err) {
		pthread_mutex_unlock(&s->lock);
		return err;
	}
	len = s->peeked.head.len;
	copied = scatter(m, s->peeked.data, len);
	if (!(flags & MSG_PEEK))
		s->has_peeked = false;
	pthread_mutex_unlock(&s->lock);
	if (m->msg_name)
		memcpy(m->msg_name, &kernel, min((size_t)m->msg_namelen, sizeof(kernel)));
	m->msg_namelen = sizeof(kernel);
	m->msg_controllen = 0;
	m->msg_flags = copied < len ? MSG_TRUNC : 0;
	return (ssize_t)(flags & MSG_TRUNC ? len : copied);
}

static ssize_t nl_write(struct vfs_file *f, const void *buf, size_t len)
{
	struct iovec iov = { (void *)(uintptr_t)buf, len };
	const struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	return nl_sendmsg(f, &m, 0);
}

static ssize_t nl_read(struct vfs_file *f, void *buf, size_t len)
{
	struct iovec iov = { buf, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	return nl_recvmsg(f, &m, 0);
}

static long nl_ioctl(struct vfs_file *f, u32 req, unsigned long arg)
{
	return -ENOTTY;
}

static void nl_release(struct vfs_file *f)
{
	struct socket *s = f->priv;

	vdpa_chan_free(s->chan);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static const struct vfs_file_ops nl_ops = {
	.ioctl = nl_ioctl, .read = nl_read, .write = nl_write, .sendmsg = nl_sendmsg, .recvmsg = nl_recvmsg,
	.release = nl_release,
};

/* "Which number has the family vdpa?" */
static bool asks_for_vdpa(const struct msghdr *m)
{
	_Alignas(NLMSG_ALIGNTO) u8 buf[512];
	size_t len = gather(m, buf, sizeof(buf)), at = NLMSG_HDRLEN + GENL_HDRLEN;
	const struct nlmsghdr *h = (const struct nlmsghdr *)buf;
	const struct genlmsghdr *g = (const struct genlmsghdr *)(buf + NLMSG_HDRLEN);

	if (len > sizeof(buf) || len < at || h->nlmsg_type != GENL_ID_CTRL || g->cmd != CTRL_CMD_GETFAMILY)
		return false;
	while (len - at >= NLA_HDRLEN) {
		const struct nlattr *a = (const struct nlattr *)(buf + at);

		if (a->nla_len < NLA_HDRLEN || a->nla_len > len - at)
			return false;
		if (a->nla_type == CTRL_ATTR_FAMILY_NAME)
			return a->nla_len == NLA_HDRLEN + sizeof(VDPA_GENL_NAME) &&
			       !memcmp(buf + at + NLA_HDRLEN, VDPA_GENL_NAME, sizeof(VDPA_GENL_NAME));
		at += min((size_t)NLA_ALIGN(a->nla_len), len - at);
	}
	return false;
}

static int adopt(int fd, const struct msghdr *m)
{
	struct vdpa_msg open_msg = { .head.value = VDPA_FILE_MGMT };
	struct socket *s;
	int life, cloexec, err;

	if (!asks_for_vdpa(m))
		return -ENOTTY;
	life = vdpa_hub_open(&open_msg);
	if (life < 0)
		return life;
	s = calloc(1, sizeof(*s));
	if (s)
		s->chan = vdpa_chan_new(life);
	if (!s || !s->chan) {
		free(s);
		close(life);
		return -ENOMEM;
	}
	pthread_mutex_init(&s->lock, NULL);
	cloexec = fcntl(fd, F_GETFD) & FD_CLOEXEC ? O_CLOEXEC : 0;
	err = dup3(life, fd, cloexec) < 0 ? -errno : vfs_file_adopt(&nl_ops, s, fd);
	close(life);
	if (err < 0) {
		vdpa_chan_free(s->chan);
		free(s);
		return err;
	}
	return 0;
}

static void register_netlink(void)
{
	vfs_set_message_adopter(AF_NETLINK, adopt);
}
VFS_NODES(register_netlink);
