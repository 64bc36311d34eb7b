// SPDX-License-Identifier: MIT
/* vhost-vdpa nodes as files of the hub: remote calls to vhost.h and back. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vdpa/client/vhost_wire.h"
#include "vdpa/hub/hub.h"
#include "vdpa/vhost/vhost.h"

static int open_node(struct hub_file *f, const struct vdpa_msg *req, struct vdpa_msg *rep)
{
	u32 n;

	if (req->head.len != sizeof(n))
		return -EINVAL;
	memcpy(&n, req->data, sizeof(n));
	f->priv = vhost_vdpa_open(n);
	if (!f->priv && errno == EBUSY) {
		/* Whoever has just closed it may open it again. */
		hub_settle();
		f->priv = vhost_vdpa_open(n);
	}
	return f->priv ? 0 : -errno;
}

static s64 call_ioctl(struct vhost_vdpa *v, const struct vdpa_msg *req, struct vdpa_msg *rep)
{
	struct vhost_call c = {
		.req = (u32)req->head.value, .pid = req->pid, .in = req->data, .in_len = req->head.len,
		.fd = req->nfds == 1 ? req->fds[0] : -1,
	};
	long ret = vhost_vdpa_ioctl(v, &c);

	if (ret >= 0)
		hub_reply(rep, c.out, c.out_len);
	return ret;
}

static s64 call_write(struct vhost_vdpa *v, const struct vdpa_msg *req)
{
	struct vhost_piece pieces[VHOST_WIRE_PIECES];
	struct vhost_wire_write w;

	if (req->head.len < sizeof(w))
		return -EINVAL;
	memcpy(&w, req->data, sizeof(w));
	if (w.len > sizeof(w.msg) || w.npieces > VHOST_WIRE_PIECES ||
	    req->head.len != sizeof(w) + w.npieces * sizeof(struct vhost_wire_piece))
		return -EINVAL;
	for (u32 i = 0; i < w.npieces; i++) {
		struct vhost_wire_piece p;

		memcpy(&p, req->data + sizeof(w) + i * sizeof(p), sizeof(p));
		if (p.fd >= (s32)req->nfds)
			return -EINVAL;
		pieces[i] = (struct vhost_piece){
			.len = p.len, .off = p.off, .uaddr = p.uaddr, .writable = p.writable,
			.fd = p.fd < 0 ? -1 : req->fds[p.fd],
		};
	}
	return vhost_vdpa_write(v, req->pid, w.msg, w.len, pieces, w.npieces);
}

static s64 call_doorbell(struct vhost_vdpa *v, const struct vdpa_msg *req, struct vdpa_msg *rep)
{
	struct vhost_wire_doorbell d;
	u64 off;
	int fd;

	if (req->head.len != sizeof(d))
		return -EINVAL;
	memcpy(&d, req->data, sizeof(d));
	fd = vhost_vdpa_doorbell(v, d.vq, d.len, d.prot, d.flags, &off);
	if (fd < 0)
		return fd;
	hub_reply(rep, &off, sizeof(off));
	hub_reply_fd(rep, fd);
	return 0;
}

static s64 call_node(struct hub_file *f, const struct vdpa_msg *req, struct vdpa_msg *rep)
{
	switch (req->head.op) {
	case VDPA_OP_IOCTL:
		return call_ioctl(f->priv, req, rep);
	case VDPA_OP_WRITE:
		return call_write(f->priv, req);
	case VHOST_OP_DOORBELL:
		return call_doorbell(f->priv, req, rep);
	default:
		return -ENOTTY;
	}
}

static void release_node(struct hub_file *f)
{
	vhost_vdpa_release(f->priv);
}

static const struct hub_file_ops node_ops = {
	.kind = VDPA_FILE_VHOST, .open = open_node, .call = call_node, .release = release_node,
};

static bool has_node(const char *rest)
{
	unsigned want, n[256], count = vhost_vdpa_nodes(n, 256);
	char *end;

	want = (unsigned)strtoul(rest, &end, 10);
	for (unsigned i = 0; i < count && i < 256; i++)
		if (*rest && !*end && n[i] == want)
			return true;
	return false;
}

int vhost_file_init(void);
int vhost_file_init(void)
{
	hub_file_register(&node_ops);
	hub_node_register("vhost-vdpa-", has_node);
	return vhost_vdpa_init();
}
