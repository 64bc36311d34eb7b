// SPDX-License-Identifier: MIT
/*
 * VDUSE and virtio-vdpa as files of the hub: remote calls become the functions
 * of vduse.h and session.h. A device that exists holds the hub.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vdpa/client/vduse.h"
#include "vdpa/hub/hub.h"
#include "vdpa/virtio/session.h"
#include "vdpa/vduse/vduse.h"

int vduse_hub_init(void);
int virtio_hub_init(void);

/* ---- /dev/vduse/control ---- */

static int control_open(struct hub_file *f, const struct vdpa_msg *req, struct vdpa_msg *rep)
{
	f->priv = calloc(1, sizeof(struct vduse_control));
	return f->priv ? 0 : -ENOMEM;
}

static bool has_net_admin(pid_t pid)
{
	unsigned long long caps = 0;
	char path[40], line[128];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "CapEff: %llx", &caps) == 1)
			break;
	fclose(f);
	return caps >> CAP_NET_ADMIN & 1;
}

/*
 * Linux asks for CAP_NET_ADMIN since a network device's daemon reaches the host's network. What a hub
 * has reaches nothing but what its user has, so the user is its administrator, unless told otherwise.
 */
static bool net_admin_wanted(void)
{
	const char *s = getenv("VDUSE_NET_ADMIN");

	return s && !strcmp(s, "capability");
}

static s64 control_ioctl(struct vduse_control *c, const struct vdpa_msg *req, struct vdpa_msg *rep)
{
	u32 nr = (u32)req->head.value;
	s64 ret;

	if (nr == VDUSE_CREATE_DEV && net_admin_wanted())
		c->no_net_admin = !has_net_admin(req->pid);
	memcpy(rep->data, req->data, req->head.len);
	/* What is only given back has no bytes in the request. */
	rep->head.len = max(req->head.len, nr == VDUSE_GET_API_VERSION ? (u32)sizeof(u64) : 0u);
	ret = vduse_control_ioctl(c, nr, rep->data, rep->head.len);
	if (ret == -EBUSY) {
		hub_settle();
		ret = vduse_control_ioctl(c, nr, rep->data, rep->head.len);
	}
	if (!ret && nr == VDUSE_CREATE_DEV)
		hub_hold();
	if (!ret && nr == VDUSE_DESTROY_DEV)
		hub_unhold();
	return ret;
}

static s64 control_call(struct hub_file *f, const struct vdpa_msg *req, struct vdpa_msg *rep)
{
	struct vduse_name_arg a;
	unsigned seconds;
	int ret;

	switch (req->head.op) {
	case VDPA_OP_IOCTL:
		return control_ioctl(f->priv, req, rep);
	case VDUSE_OP_GET_TIMEOUT:
	case VDUSE_OP_SET_TIMEOUT:
	case VDUSE_OP_SET_BOUNCE:
		if (req->head.len != sizeof(a))
			return -EINVAL;
		memcpy(&a, req->data, sizeof(a));
		a.name[sizeof(a.name) - 1] = '\0';
		if (req->head.op == VDUSE_OP_SET_TIMEOUT)
			return a.value > UINT32_MAX ? -EINVAL : vduse_set_msg_timeout(a.name, (unsigned)a.value);
		if (req->head.op == VDUSE_OP_SET_BOUNCE)
			return vduse_set_bounce_size(a.name, a.value);
		ret = vduse_get_msg_timeout(a.name, &seconds);
		return ret ? ret : (s64)seconds;
	default:
		return -ENOTTY;
	}
}

static void control_release(struct hub_file *f)
{
	free(f->priv);
}

static const struct hub_file_ops control_ops = {
	.kind = VDPA_FILE_VDUSE_CONTROL,
	.open = control_open,
	.call = control_call,
	.release = control_release,
};

/* ---- /dev/vduse/NAME ---- */

static int dev_open(struct hub_file *f, const struct vdpa_msg *req, struct vdpa_msg *rep)
{
	char name[VDUSE_NAME_MAX] = "";
	struct vduse_dev *d;
	int ret, sock, page;

	if (req->head.len >= sizeof(name))
		return -ENODEV;
	memcpy(name, req->data, req->head.len);
	ret = vduse_open(name, &d, &sock);
	if (ret == -EBUSY) {
		hub_settle();
		ret = vduse_open(name, &d, &sock);
	}
	if (ret)
		return ret;
	page = fcntl(vduse_page_fd(d), F_DUPFD_CLOEXEC, 0);
	if (page < 0) {
		ret = -errno;
		close(sock);
		vduse_close(d);
		return ret;
	}
	f->priv = d;
	hub_reply_fd(rep, sock);
	hub_reply_fd(rep, page);
	return 0;
}

static s64 dev_ioctl(struct vduse_dev *d, const struct vdpa_msg *req, struct vdpa_msg *rep)
{
	u32 nr = (u32)req->head.value, seq;
	int in_fd = req->nfds == 1 ? req->fds[0] : -1, out_fd;
	s64 ret;

	memcpy(rep->data, req->data, req->head.len);
	rep->head.len = max(req->head.len, nr == VDUSE_DEV_GET_FEATURES ? (u32)sizeof(u64) : 0u);
	ret = vduse_ioctl(d, nr, rep->data, rep->head.len, in_fd, &out_fd, &seq);
	if (out_fd >= 0)
		hub_reply_fd(rep, out_fd);
	if (nr == VDUSE_VQ_INJECT_IRQ) {
		rep->head.len = 0;
		hub_reply(rep, &seq, sizeof(seq));
	}
	return ret;
}

static s64 dev_call(struct hub_file *f, const struct vdpa_msg *req, struct vdpa_msg *rep)
{
	struct vduse_dev *d = f->priv;
	int fd;

	switch (req->head.op) {
	case VDPA_OP_IOCTL:
		return dev_ioctl(d, req, rep);
	case VDPA_OP_WRITE:
		return vduse_write(d, req->data, req->head.len);
	case VDUSE_OP_LOOK:
		vduse_look(d);
		return 0;
	case VDUSE_OP_DOMAIN:
		fd = vduse_domain_fd(d);
		if (fd >= 0)
			fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (fd < 0)
			return -EINVAL;
		hub_reply_fd(rep, fd);
		return 0;
	default:
		return -ENOTTY;
	}
}

static void dev_release(struct hub_file *f)
{
	vduse_close(f->priv);
}

static const struct hub_file_ops dev_ops = {
	.kind = VDPA_FILE_VDUSE,
	.open = dev_open,
	.call = dev_call,
	.release = dev_release,
};

/* ---- virtio-vdpa sessions ---- */

static int session_open(struct hub_file *f, const struct vdpa_msg *req, struct vdpa_msg *rep)
{
	f->priv = vdpa_virtio_conn_new();
	return f->priv ? 0 : -ENOMEM;
}

static s64 session_call(struct hub_file *f, const struct vdpa_msg *req, struct vdpa_msg *rep)
{
	struct vdpa_virtio_req q;
	struct vdpa_virtio_rep r;
	int ret;

	if (req->head.op != VDPA_OP_FIRST || req->head.len != sizeof(q))
		return -ENOTTY;
	memcpy(&q, req->data, sizeof(q));
	ret = vdpa_virtio_serve(f->priv, &q, req->nfds == 1 ? req->fds[0] : -1, &r);
	/* Which of the two are there is told by the numbers, which mean nothing else to the client. */
	for (unsigned i = 0; i < ARRAY_SIZE(r.fds); i++)
		if (r.fds[i] >= 0)
			hub_reply_fd(rep, r.fds[i]);
	hub_reply(rep, &r, sizeof(r));
	return ret;
}

static void session_release(struct hub_file *f)
{
	vdpa_virtio_conn_free(f->priv);
}

static const struct hub_file_ops session_ops = {
	.kind = VDPA_FILE_VIRTIO,
	.open = session_open,
	.call = session_call,
	.release = session_release,
};

int vduse_hub_init(void)
{
	hub_file_register(&control_ops);
	hub_file_register(&dev_ops);
	return vduse_init();
}

int virtio_hub_init(void)
{
	hub_file_register(&session_ops);
	return vdpa_virtio_init();
}
