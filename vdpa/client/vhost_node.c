// SPDX-License-Identifier: MIT
/*
 * /dev/vhost-vdpa-N in a program: remote calls to the hub. The descriptor that
 * the program has is the life of the hub's file, so it may be passed on, kept
 * over exec, or closed by the program's death, and works wherever it ends up.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "abi/vhost.h"
#include "base/log.h"
#include "vdpa/client/maps.h"
#include "vdpa/client/vhost_wire.h"
#include "vfs/user.h"
#include "vfs/vfs.h"

#define VHOST_MAJOR 511	/* as the first that Linux gives out dynamically */

/* Numbers without a row are taken for queue calls, which begin with an index. */
#define QUEUE_INDEX 4

#define PLAIN(r) \
	{ .req = (r), .in = _IOC_DIR(r) & _IOC_WRITE ? (s16)_IOC_SIZE(r) : 0, .out = _IOC_DIR(r) & _IOC_READ ? (s16)_IOC_SIZE(r) : 0, \
	  .fd_at = -1, .len_at = -1 }
#define FILE_AT(r, at) { .req = (r), .in = (s16)_IOC_SIZE(r), .fd_at = (at), .len_at = -1 }

static const struct vdpa_ioctl_rule rules[] = {
	PLAIN(VHOST_GET_FEATURES),
	PLAIN(VHOST_SET_FEATURES),
	PLAIN(VHOST_SET_OWNER),
	PLAIN(VHOST_SET_MEM_TABLE),
	PLAIN(VHOST_SET_LOG_BASE),
	PLAIN(VHOST_SET_LOG_FD),
	PLAIN(VHOST_SET_VRING_NUM),
	PLAIN(VHOST_SET_VRING_ADDR),
	PLAIN(VHOST_SET_VRING_BASE),
	PLAIN(VHOST_GET_VRING_BASE),
	FILE_AT(VHOST_SET_VRING_KICK, 4),
	FILE_AT(VHOST_SET_VRING_CALL, 4),
	FILE_AT(VHOST_SET_VRING_ERR, 4),
	PLAIN(VHOST_SET_VRING_BUSYLOOP_TIMEOUT),
	/* Its number says that nothing comes back. */
	{ .req = VHOST_GET_VRING_BUSYLOOP_TIMEOUT, .in = 8, .out = 8, .fd_at = -1, .len_at = -1 },
	PLAIN(VHOST_SET_BACKEND_FEATURES),
	PLAIN(VHOST_GET_BACKEND_FEATURES),
	PLAIN(VHOST_VDPA_GET_DEVICE_ID),
	PLAIN(VHOST_VDPA_GET_STATUS),
	PLAIN(VHOST_VDPA_SET_STATUS),
	{ .req = VHOST_VDPA_GET_CONFIG, .in = 8, .fd_at = -1, .len_at = 4, .tail_out = true },
	{ .req = VHOST_VDPA_SET_CONFIG, .in = 8, .fd_at = -1, .len_at = 4, .tail_in = true },
	PLAIN(VHOST_VDPA_SET_VRING_ENABLE),
	PLAIN(VHOST_VDPA_GET_VRING_NUM),
	FILE_AT(VHOST_VDPA_SET_CONFIG_CALL, 0),
	PLAIN(VHOST_VDPA_GET_IOVA_RANGE),
	PLAIN(VHOST_VDPA_GET_CONFIG_SIZE),
	PLAIN(VHOST_VDPA_GET_VQS_COUNT),
	PLAIN(VHOST_VDPA_GET_GROUP_NUM),
	PLAIN(VHOST_VDPA_GET_AS_NUM),
	PLAIN(VHOST_VDPA_GET_VRING_GROUP),
	PLAIN(VHOST_VDPA_SET_GROUP_ASID),
	PLAIN(VHOST_VDPA_SUSPEND),
	PLAIN(VHOST_VDPA_RESUME),
	PLAIN(VHOST_VDPA_GET_VRING_DESC_GROUP),
	PLAIN(VHOST_VDPA_GET_VRING_SIZE),
	{ 0 },
};

static long node_ioctl(struct vfs_file *f, u32 req, unsigned long arg)
{
	return vdpa_chan_ioctl(f->priv, rules, QUEUE_INDEX, req, arg);
}

static ssize_t node_read(struct vfs_file *f, void *buf, size_t len)
{
	return -EINVAL;
}

/* The range of an UPDATE as the program has it mapped. */
static void add_pieces(struct vdpa_msg *m, struct vhost_wire_write *w, bool opened[VDPA_MSG_FDS])
{
	struct vhost_wire_piece pieces[VHOST_WIRE_PIECES];
	struct vhost_iotlb_msg msg;

	if (w->len < 8 + sizeof(msg))
		return;
	memcpy(&msg, w->msg + 8, sizeof(msg));
	if (msg.type != VHOST_IOTLB_UPDATE || !msg.size || msg.uaddr + (msg.size - 1) < msg.uaddr)
		return;
	w->npieces = vdpa_maps_pieces(msg.uaddr, msg.size, pieces, VHOST_WIRE_PIECES, m->fds, opened, &m->nfds);
	if (!w->npieces) {
		/* Nothing is mapped there: a piece of no length makes the hub refuse. */
		pieces[0] = (struct vhost_wire_piece){ .fd = -1 };
		w->npieces = 1;
	}
	memcpy(m->data + sizeof(*w), pieces, w->npieces * sizeof(*pieces));
}

static ssize_t node_write(struct vfs_file *f, const void *buf, size_t len)
{
	struct vdpa_msg m = { .head.op = VDPA_OP_WRITE };
	struct vhost_wire_write w = { .len = (u32)min(len, (size_t)VHOST_WIRE_MSG) };
	bool opened[VDPA_MSG_FDS] = { false };
	int sent[VDPA_MSG_FDS];
	unsigned nsent;
	s64 ret;

	if (vfs_user_read(w.msg, (unsigned long)buf, w.len))
		return -EFAULT;
	add_pieces(&m, &w, opened);
	memcpy(m.data, &w, sizeof(w));
	m.head.len = (u32)(sizeof(w) + w.npieces * sizeof(struct vhost_wire_piece));
	nsent = m.nfds;
	memcpy(sent, m.fds, sizeof(sent));
	ret = vdpa_chan_call(f->priv, &m);
	for (unsigned i = 0; i < nsent; i++)
		if (opened[i])
			close(sent[i]);
	return ret;
}

/* mmap of a doorbell: what the hub gives for it. */
static int node_map_fd(struct vfs_file *f, size_t len, int prot, int flags, off_t *off)
{
	struct vdpa_msg m = { .head = { .op = VHOST_OP_DOORBELL, .len = sizeof(struct vhost_wire_doorbell) } };
	const struct vhost_wire_doorbell d = {
		.vq = (u64)*off >> PAGE_SHIFT, .len = len, .prot = prot, .flags = flags,
	};
	s64 ret;
	u64 at;

	memcpy(m.data, &d, sizeof(d));
	ret = vdpa_chan_call(f->priv, &m);
	if (ret < 0)
		return (int)ret;
	if (m.nfds != 1 || m.head.len != sizeof(at)) {
		vdpa_msg_close_fds(&m);
		return -EIO;
	}
	memcpy(&at, m.data, sizeof(at));
	*off = (off_t)at;
	return m.fds[0];
}

static void node_release(struct vfs_file *f)
{
	vdpa_chan_free(f->priv);
}

static const struct vfs_file_ops node_ops = {
	.ioctl = node_ioctl, .read = node_read, .write = node_write, .map_fd = node_map_fd,
	.release = node_release,
};

/* Where Yama restricts who may reach into a process, the hub may reach into ours, for private memory. */
static void allow_hub(int life)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (!getsockopt(life, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		prctl(PR_SET_PTRACER, (unsigned long)cred.pid, 0, 0, 0);
}

static bool parse_number(const char *rest, u32 *n)
{
	char back[16];

	*n = (u32)strtoul(rest, NULL, 10);
	snprintf(back, sizeof(back), "%u", *n);
	return !strcmp(back, rest);
}

static int node_open(const struct vfs_node *node, const char *rest, struct vfs_file *f, int flags)
{
	struct vdpa_msg m = { .head = { .value = VDPA_FILE_VHOST, .len = sizeof(u32) } };
	int life;
	u32 n;

	if (!parse_number(rest, &n))
		return -ENOENT;
	memcpy(m.data, &n, sizeof(n));
	/* Without a hub there is no device. */
	life = vdpa_hub_open_running(&m);
	if (life < 0)
		return life;
	f->priv = vdpa_chan_new(life);
	if (!f->priv) {
		close(life);
		return -ENOMEM;
	}
	f->ops = &node_ops;
	f->any_process = true;
	allow_hub(life);
	return life;
}

static bool node_has(const struct vfs_node *node, const char *rest)
{
	struct vdpa_msg m = { .head.value = VDPA_FILE_NODES };
	int fd;

	m.head.len = (u32)snprintf((char *)m.data, sizeof(m.data), "vhost-vdpa-%s", rest);
	if (m.head.len >= sizeof(m.data))
		return false;
	fd = vdpa_hub_open_running(&m);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* A node that was opened elsewhere. */
static int node_adopt(int fd)
{
	struct vdpa_msg m = { .head.op = VDPA_OP_KIND };
	struct vdpa_chan *c;
	int ret = -ENOTTY;

	if (!vdpa_hub_owns(fd))
		return -ENOTTY;
	c = vdpa_chan_new(fd);
	if (!c)
		return -ENOMEM;
	if (vdpa_chan_call(c, &m) == VDPA_FILE_VHOST)
		ret = vfs_file_adopt(&node_ops, c, fd);
	if (ret < 0)
		vdpa_chan_free(c);
	else
		allow_hub(fd);
	return min(ret, 0);
}

static const struct vfs_node vhost_node = {
	.path = "/dev/vhost-vdpa-", .open_at = node_open, .has = node_has,
	.rdev = VHOST_MAJOR << 8,
};

/* The host's file with our class of devices in it: programs find out by their major number what a node is. */
static char *devices_text(void)
{
	static const char title[] = "Character devices:\n";
	char host[16384], *text;
	FILE *f = fopen("/proc/devices", "re");
	size_t n = f ? fread(host, 1, sizeof(host) - 1, f) : 0;
	int ret;

	if (f)
		fclose(f);
	host[n] = '\0';
	if (strncmp(host, title, strlen(title)))
		return NULL;
	ret = asprintf(&text, "%s%3d vhost-vdpa\n%s", title, VHOST_MAJOR, host + strlen(title));
	return ret < 0 ? NULL : text;
}

static const struct vfs_node devices_node = {
	.path = "/proc/devices", .text = "Character devices:\n\nBlock devices:\n", .make_text = devices_text,
};

static void register_vhost(void)
{
	if (!vfs_register_node(&vhost_node))
		vfs_set_adopter(VHOST_VIRTIO, node_adopt);
	if (vfs_register_node(&devices_node))
		log_error("vhost-vdpa: /proc/devices stays the host's");
}
VFS_NODES(register_vhost);
