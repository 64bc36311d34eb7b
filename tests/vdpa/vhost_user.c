// SPDX-License-Identifier: MIT
/*
 * A virtio session over vhost-user, so that the same block driver can be
 * measured against the same daemon's vhost-user-blk export. No more of the
 * protocol than that needs. Source: QEMU "Vhost-user Protocol".
 */
#include "tests/vdpa/vhost_user.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bits.h"
#include "tests/vdpa/own_memory.h"

enum {
	GET_FEATURES = 1, SET_FEATURES = 2, SET_OWNER = 3, SET_MEM_TABLE = 5, SET_VRING_NUM = 8, SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10, SET_VRING_KICK = 12, SET_VRING_CALL = 13, GET_PROTOCOL_FEATURES = 15,
	SET_PROTOCOL_FEATURES = 16, SET_VRING_ENABLE = 18, GET_CONFIG = 24,
};

#define PROTOCOL_FEATURES BIT(30)
#define PROTOCOL_CONFIG BIT(9)
#define PROTOCOL_MQ BIT(0)
/* Addresses of "user space" as the daemon is told: any base will do. */
#define USER_BASE (1ull << 40)

struct msg {
	u32 request, flags, size;
	union {
		u64 v;
		struct { u32 index, num; } state;
		struct { u32 index, flags; u64 desc, used, avail, log; } addr;
		struct { u32 n, pad; u64 gpa, size, user, off; } mem;
		struct { u32 off, size, flags; u8 data[256]; } config;
	} __attribute__((packed));
} __attribute__((packed));

struct vu {
	struct vdpa_session s;
	int sock;
	struct own_memory mem;
	u8 status;
	u16 queues, depth;
};

static int send_msg(struct vu *v, struct msg *m, u32 request, u32 size, int fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = {m, 12 + size};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};

	m->request = request;
	m->flags = 1;
	m->size = size;
	if (fd >= 0) {
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.align), &fd, sizeof(fd));
		h.msg_control = &control;
		h.msg_controllen = sizeof(control);
	}
	return sendmsg(v->sock, &h, MSG_NOSIGNAL) == (ssize_t)iov.iov_len ? 0 : -EIO;
}

static int ask(struct vu *v, struct msg *m, u32 request, u32 size)
{
	int ret = send_msg(v, m, request, size, -1);

	if (!ret && recv(v->sock, m, 12, MSG_WAITALL) != 12)
		ret = -EIO;
	if (!ret && (m->size > sizeof(*m) - 12 || recv(v->sock, &m->v, m->size, MSG_WAITALL) != (ssize_t)m->size))
		ret = -EIO;
	return ret;
}

static int op_open(struct vu *v, struct vdpa_virtio_rep *r)
{
	struct msg m = { 0 };
	int ret = send_msg(v, &m, SET_OWNER, 0, -1);

	if (!ret)
		ret = ask(v, &m, GET_PROTOCOL_FEATURES, 0);
	m.v &= PROTOCOL_CONFIG | PROTOCOL_MQ;
	if (!ret)
		ret = send_msg(v, &m, SET_PROTOCOL_FEATURES, 8, -1);
	m.mem.n = 1;
	m.mem.pad = 0;
	m.mem.gpa = 0;
	m.mem.size = v->mem.dom.iova_size;
	m.mem.user = USER_BASE;
	m.mem.off = 0;
	if (!ret)
		ret = send_msg(v, &m, SET_MEM_TABLE, sizeof(m.mem), v->mem.dom.fd);
	r->v[0] = VIRTIO_ID_BLOCK;
	r->v[1] = v->queues;
	r->v[2] = v->depth;
	r->v[3] = 1;
	r->v[4] = 4096;
	r->v[5] = 60;
	r->fds[0] = dup(v->mem.dom.fd);
	return ret;
}

static int op_vq_setup(struct vu *v, const struct vdpa_virtio_req *q)
{
	struct msg m = {.state = {q->vq, (u32)q->v[0]}};
	int ret = send_msg(v, &m, SET_VRING_NUM, 8, -1);

	m.state.num = 0;
	if (!ret)
		ret = send_msg(v, &m, SET_VRING_BASE, 8, -1);
	m.addr.index = q->vq;
	m.addr.flags = 0;
	m.addr.desc = USER_BASE + q->v[1];
	m.addr.avail = USER_BASE + q->v[2];
	m.addr.used = USER_BASE + q->v[3];
	m.addr.log = 0;
	return ret ? ret : send_msg(v, &m, SET_VRING_ADDR, sizeof(m.addr), -1);
}

static int vu_call(struct vdpa_session *s, const struct vdpa_virtio_req *q, int fd, struct vdpa_virtio_rep *r)
{
	struct vu *v = container_of(s, struct vu, s);
	struct msg m = { 0 };
	int ret = 0;

	memset(r, 0, sizeof(*r));
	r->fds[0] = r->fds[1] = -1;
	switch (q->op) {
	case VDPA_VIRTIO_OPEN:
		return op_open(v, r);
	case VDPA_VIRTIO_RESET:
		v->status = 0;
		return 0;
	case VDPA_VIRTIO_GET_STATUS:
		r->v[0] = v->status;
		return 0;
	case VDPA_VIRTIO_SET_STATUS:
		v->status = (u8)q->v[0];
		return 0;
	case VDPA_VIRTIO_GET_FEATURES:
		ret = ask(v, &m, GET_FEATURES, 0);
		r->v[0] = m.v;
		return ret;
	case VDPA_VIRTIO_SET_FEATURES:
		m.v = q->v[0] | PROTOCOL_FEATURES;
		return send_msg(v, &m, SET_FEATURES, 8, -1);
	case VDPA_VIRTIO_GET_CONFIG:
		m.config.off = (u32)q->v[0];
		m.config.size = (u32)q->v[1];
		ret = ask(v, &m, GET_CONFIG, 12 + (u32)q->v[1]);
		memcpy(r->data, m.config.data, q->v[1]);
		return ret;
	case VDPA_VIRTIO_CONFIG_FD:
		return 0;
	case VDPA_VIRTIO_VQ_SETUP:
		return op_vq_setup(v, q);
	case VDPA_VIRTIO_VQ_CALL_FD:
		m.v = q->vq;
		return send_msg(v, &m, SET_VRING_CALL, 8, fd);
	case VDPA_VIRTIO_VQ_KICK_FD:
		m.v = q->vq;
		return send_msg(v, &m, SET_VRING_KICK, 8, fd);
	case VDPA_VIRTIO_VQ_READY:
		m.state.index = q->vq;
		m.state.num = (u32)q->v[0];
		return send_msg(v, &m, SET_VRING_ENABLE, 8, -1);
	default:
		return own_memory_call(&v->mem, q, r);
	}
}

static void vu_close(struct vdpa_session *s)
{
	struct vu *v = container_of(s, struct vu, s);

	close(v->sock);
	own_memory_exit(&v->mem);
	free(v);
}

struct vdpa_session *vhost_user_session(const char *path, u16 queues, u16 depth)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct vu *v = calloc(1, sizeof(*v));

	v->s = (struct vdpa_session){.call = vu_call, .close = vu_close};
	v->queues = queues;
	v->depth = depth;
	v->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	strncpy(a.sun_path, path, sizeof(a.sun_path) - 1);
	if (own_memory_init(&v->mem) ||
	    connect(v->sock, (struct sockaddr *)&a, sizeof(a)) < 0)
		return NULL;	/* of a benchmark that ends then */
	return &v->s;
}
