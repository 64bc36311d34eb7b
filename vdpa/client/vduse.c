// SPDX-License-Identifier: MIT
/*
 * /dev/vduse/control and /dev/vduse/NAME in a daemon's process.
 *
 * The descriptor of NAME is the daemon's end of the message socket, so reading
 * and every kind of waiting are the kernel's own. An interrupt goes straight to
 * the driver's eventfd while the device's page says that nothing has changed.
 *
 * Memory that the daemon registers becomes the bounce memory by being replaced:
 * its pages are mapped from the domain's file for as long as it is registered.
 */
#include "vdpa/client/vduse.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/bits.h"
#include "vdpa/client/maps.h"
#include "vdpa/client/nodes.h"
#include "vdpa/client/vduse_spin.h"
#include "vdpa/vduse.h"
#include "vdpa/vduse/page.h"
#include "vfs/user.h"
#include "vfs/vfs.h"

#define RULE(nr, in_, out_) { .req = (nr), .in = (in_), .out = (out_), .fd_at = -1, .len_at = -1 }

static const struct vdpa_ioctl_rule control_rules[] = {
	RULE(VDUSE_GET_API_VERSION, 0, 8),
	RULE(VDUSE_SET_API_VERSION, 8, 0),
	{ .req = VDUSE_CREATE_DEV, .in = sizeof(struct vduse_dev_config), .fd_at = -1,
	  .len_at = offsetof(struct vduse_dev_config, config_size), .tail_in = true },
	RULE(VDUSE_DESTROY_DEV, VDUSE_NAME_MAX, 0),
	{ 0 },
};

static const struct vdpa_ioctl_rule dev_rules[] = {
	RULE(VDUSE_IOTLB_GET_FD, sizeof(struct vduse_iotlb_entry), sizeof(struct vduse_iotlb_entry)),
	RULE(VDUSE_IOTLB_GET_FD2, sizeof(struct vduse_iotlb_entry_v2), sizeof(struct vduse_iotlb_entry_v2)),
	RULE(VDUSE_DEV_GET_FEATURES, 0, 8),
	{ .req = VDUSE_DEV_SET_CONFIG, .in = sizeof(struct vduse_config_data), .fd_at = -1,
	  .len_at = offsetof(struct vduse_config_data, length), .tail_in = true },
	RULE(VDUSE_DEV_INJECT_CONFIG_IRQ, 0, 0),
	RULE(VDUSE_VQ_SETUP, sizeof(struct vduse_vq_config), 0),
	RULE(VDUSE_VQ_GET_INFO, sizeof(struct vduse_vq_info), sizeof(struct vduse_vq_info)),
	{ .req = VDUSE_VQ_SETUP_KICKFD, .in = sizeof(struct vduse_vq_eventfd),
	  .fd_at = offsetof(struct vduse_vq_eventfd, fd), .len_at = -1 },
	RULE(VDUSE_IOTLB_GET_INFO, sizeof(struct vduse_iova_info), sizeof(struct vduse_iova_info)),
	{ 0 },
};

/* Without what could not be read or sent: the hub refuses it in its place among the other refusals. */
static const struct vdpa_ioctl_rule less_rules[] = {
	RULE(VDUSE_CREATE_DEV, sizeof(struct vduse_dev_config), 0),
	RULE(VDUSE_DEV_SET_CONFIG, sizeof(struct vduse_config_data), 0),
	RULE(VDUSE_VQ_SETUP_KICKFD, sizeof(struct vduse_vq_eventfd), 0),
	{ 0 },
};

/* ---- Control ---- */

static long control_ioctl(struct vfs_file *f, u32 req, unsigned long arg)
{
	long ret = vdpa_chan_ioctl(f->priv, control_rules, 0, req, arg);

	return ret == -EFAULT && req == VDUSE_CREATE_DEV ? vdpa_chan_ioctl(f->priv, less_rules, 0, req, arg) : ret;
}

static void control_release(struct vfs_file *f)
{
	vdpa_chan_free(f->priv);
}

/* The node has neither operation; what stands in for it has. */
static ssize_t control_read(struct vfs_file *f, void *buf, size_t len)
{
	return -EINVAL;
}

static ssize_t control_write(struct vfs_file *f, const void *buf, size_t len)
{
	return -EINVAL;
}

static const struct vfs_file_ops control_ops = {
	.ioctl = control_ioctl,
	.read = control_read,
	.write = control_write,
	.release = control_release,
};

/* A channel to a new file; the life stays with it. The reply is in @m. NULL and errno. */
static struct vdpa_chan *open_chan(struct vdpa_msg *m)
{
	int life = vdpa_hub_open(m);
	struct vdpa_chan *c;

	if (life < 0) {
		errno = -life;
		return NULL;
	}
	c = vdpa_chan_new(life);
	if (!c)
		vdpa_msg_close_fds(m);
	close(life);
	return c;
}

static int control_open(const struct vfs_node *node, struct vfs_file *f, int flags)
{
	struct vdpa_msg m = {.head.value = VDPA_FILE_VDUSE_CONTROL};
	struct vdpa_chan *c = open_chan(&m);
	int fd;

	if (!c)
		return -errno;
	/* What waits for a file without poll operations finds it ready. */
	fd = memfd_create("vduse-control", MFD_CLOEXEC);
	if (fd < 0) {
		fd = -errno;
		vdpa_chan_free(c);
		return fd;
	}
	f->ops = &control_ops;
	f->priv = c;
	f->any_process = true;
	return fd;
}

/* One call about a device, on a file of its own. */
static s64 manage(u32 op, const char *name, u64 value)
{
	struct vdpa_msg m = {.head.value = VDPA_FILE_VDUSE_CONTROL};
	struct vdpa_chan *c = open_chan(&m);
	struct vduse_name_arg a = {.value = value};
	s64 ret;

	if (!c)
		return -errno;
	strncpy(a.name, name, sizeof(a.name) - 1);
	m.head.op = op;
	m.head.len = sizeof(a);
	memcpy(m.data, &a, sizeof(a));
	m.nfds = 0;
	ret = vdpa_chan_call(c, &m);
	vdpa_chan_free(c);
	return ret;
}

int vduse_client_set_timeout(const char *name, u32 seconds)
{
	return (int)manage(VDUSE_OP_SET_TIMEOUT, name, seconds);
}

int vduse_client_get_timeout(const char *name, u32 *seconds)
{
	s64 ret = manage(VDUSE_OP_GET_TIMEOUT, name, 0);

	if (ret < 0)
		return (int)ret;
	*seconds = (u32)ret;
	return 0;
}

int vduse_client_set_bounce(const char *name, u64 bytes)
{
	return (int)manage(VDUSE_OP_SET_BOUNCE, name, bytes);
}

/* ---- Devices ---- */

/* The driver's eventfd, good while the queue's counter is @seq. */
struct irq {
	pthread_mutex_t lock;
	int fd;
	u32 seq;
	struct vduse_spin spin;
};

struct device {
	struct vdpa_chan *chan;
	int sock;			/* messages; the program may close the number that it was given */
	const struct vduse_page_vq *page;
	size_t page_len;
	u32 nvqs;
	struct irq *irqs;
	pthread_mutex_t lock;		/* umem */
	void *umem;
	size_t umem_len;
	int umem_file;			/* what was mapped there before; -1: private memory */
	off_t umem_off;
};

static bool inject_direct(struct device *d, struct irq *q, u32 index)
{
	const u64 one = 1;

	if (q->fd < 0 || atomic_load(&d->page[index].irq) != q->seq)
		return false;
	if (vduse_spin(&q->spin))
		return true;
	if (write(q->fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		return false;
	return atomic_load(&d->page[index].irq) == q->seq;
}

static long inject_call(struct device *d, u32 index, struct vdpa_msg *m)
{
	m->head = (struct vdpa_msg_head){VDPA_OP_IOCTL, sizeof(index), VDUSE_VQ_INJECT_IRQ};
	m->nfds = 0;
	memcpy(m->data, &index, sizeof(index));
	return (long)vdpa_chan_call(d->chan, m);
}

static long ask(struct device *d, u32 nr, void *arg, u32 len)
{
	struct vdpa_msg m = {.head = {VDPA_OP_IOCTL, len, nr}};
	s64 ret;

	memcpy(m.data, arg, len);
	ret = vdpa_chan_call(d->chan, &m);
	if (!ret && m.head.len == len)
		memcpy(arg, m.data, len);
	vdpa_msg_close_fds(&m);
	return (long)ret;
}

static int domain_fd(struct device *d)
{
	struct vdpa_msg m = {.head.op = VDUSE_OP_DOMAIN};
	s64 ret = vdpa_chan_call(d->chan, &m);

	return ret < 0 ? (int)ret : m.nfds == 1 ? m.fds[0] : -EIO;
}

/* The queue's ring, if it is in the domain: its driver is one of ours then. */
static __attribute__((noinline)) void find_ring(struct device *d, u32 index, struct irq *q)
{
	struct vduse_vq_info i = {.index = index};
	u64 features = 0;
	int fd;

	vduse_spin_exit(&q->spin);
	if (ask(d, VDUSE_DEV_GET_FEATURES, &features, sizeof(features)) || !(features & BIT(VIRTIO_RING_F_EVENT_IDX)) ||
	    (features & BIT(VIRTIO_F_RING_PACKED)) || ask(d, VDUSE_VQ_GET_INFO, &i, sizeof(i)))
		return;
	fd = domain_fd(d);
	vduse_spin_init(&q->spin, fd, i.driver_addr, i.num);
	if (fd >= 0)
		close(fd);
}

/* By way of the hub, which may give us the driver's eventfd. Not inlined: its message is 8 KiB of stack. */
static __attribute__((noinline)) long inject_hub(struct device *d, u32 index, struct irq *q)
{
	struct vdpa_msg m;
	long ret = inject_call(d, index, &m);

	if (!q) {
		vdpa_msg_close_fds(&m);
		return ret;
	}
	if (q->fd >= 0)
		close(q->fd);
	q->fd = -1;
	if (!ret && m.nfds == 1 && m.head.len == sizeof(q->seq)) {
		q->fd = m.fds[0];
		memcpy(&q->seq, m.data, sizeof(q->seq));
		find_ring(d, index, q);
	}
	return ret;
}

/* A guarded copy costs two system calls. A page that holds our own stack frame can be read without. */
static int read_index(u32 *index, unsigned long arg)
{
	unsigned long frame = (unsigned long)__builtin_frame_address(0);

	if (((arg ^ frame) & PAGE_MASK) || ((arg + sizeof(*index) - 1) ^ frame) & PAGE_MASK)
		return vfs_user_read(index, arg, sizeof(*index));
	memcpy(index, (const void *)arg, sizeof(*index));
	return 0;
}

static long inject(struct device *d, unsigned long arg)
{
	struct irq *q;
	long ret = 0;
	u32 index;

	if (read_index(&index, arg))
		return -EFAULT;
	if (index >= d->nvqs)
		return inject_hub(d, index, NULL);
	q = &d->irqs[index];
	pthread_mutex_lock(&q->lock);
	if (!inject_direct(d, q, index))
		ret = inject_hub(d, index, q);
	pthread_mutex_unlock(&q->lock);
	return ret;
}

/* ---- Memory of the daemon's ---- */

/* As pinning the pages would fail: they are not all there, or more than may be locked. */
static bool pinnable(const struct vduse_iova_umem *u)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_MEMLOCK, &r) < 0 || u->size > r.rlim_cur)
		return false;
	return !msync((void *)(uintptr_t)u->uaddr, u->size, MS_ASYNC);
}

/* The one file that is mapped shared at all of the memory, or -1. */
static int umem_behind(const struct vduse_iova_umem *u, off_t *off)
{
	struct vhost_wire_piece piece;
	int fds[VDPA_MSG_FDS], fd = -1;
	bool opened[VDPA_MSG_FDS];
	unsigned n = 0;

	*off = 0;
	if (vdpa_maps_pieces(u->uaddr, u->size, &piece, 1, fds, opened, &n) == 1 && n == 1 && piece.fd == 0 &&
	    piece.len == u->size) {
		fd = fcntl(fds[0], F_DUPFD_CLOEXEC, 3);
		*off = (off_t)piece.off;
	}
	for (unsigned i = 0; i < n; i++)
		if (opened[i])
			close(fds[i]);
	return fd;
}

static long umem_reg(struct device *d, unsigned long arg)
{
	struct vduse_iova_umem u;
	int fd, file;
	off_t off;
	long ret;
	void *p;

	if (vfs_user_read(&u, arg, sizeof(u)))
		return -EFAULT;
	ret = ask(d, VDUSE_IOTLB_REG_UMEM, &u, sizeof(u));
	if (ret)
		return ret;
	file = umem_behind(&u, &off);
	fd = pinnable(&u) ? domain_fd(d) : -ENOMEM;
	p = fd < 0 ? MAP_FAILED :
		     mmap((void *)(uintptr_t)u.uaddr, u.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	if (fd >= 0)
		close(fd);
	if (p == MAP_FAILED) {
		(void)ask(d, VDUSE_IOTLB_DEREG_UMEM, &u, sizeof(u));
		if (file >= 0)
			close(file);
		return -ENOMEM;
	}
	d->umem = p;
	d->umem_len = u.size;
	d->umem_file = file;
	d->umem_off = off;
	return 0;
}

/* Put private memory, or the file that was there, with the same bytes in the place of the domain's. Holes stay holes. */
static void umem_restore(struct device *d)
{
	int flags = d->umem_file >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	u8 *copy = mmap(NULL, d->umem_len, PROT_READ | PROT_WRITE, flags, d->umem_file, d->umem_off);

	if (d->umem_file >= 0)
		close(d->umem_file);
	d->umem_file = -1;
	if (copy == MAP_FAILED)
		return;		/* the daemon keeps what it has */
	for (size_t at = 0; at < d->umem_len; at += PAGE_SIZE) {
		const u64 *from = (const u64 *)((const u8 *)d->umem + at);

		for (unsigned i = 0; i < PAGE_SIZE / sizeof(*from); i++) {
			if (from[i]) {
				memcpy(copy + at, from, PAGE_SIZE);
				break;
			}
		}
	}
	if (mremap(copy, d->umem_len, d->umem_len, MREMAP_MAYMOVE | MREMAP_FIXED, d->umem) == MAP_FAILED)
		munmap(copy, d->umem_len);
	d->umem = NULL;
}

static long umem_dereg(struct device *d, unsigned long arg)
{
	struct vduse_iova_umem u;
	long ret;

	if (vfs_user_read(&u, arg, sizeof(u)))
		return -EFAULT;
	ret = ask(d, VDUSE_IOTLB_DEREG_UMEM, &u, sizeof(u));
	if (!ret && d->umem)
		umem_restore(d);
	return ret;
}

static long dev_ioctl(struct vfs_file *f, u32 req, unsigned long arg)
{
	struct device *d = f->priv;
	long ret;

	switch (req) {
	case VDUSE_VQ_INJECT_IRQ:
		return inject(d, arg);
	case VDUSE_IOTLB_REG_UMEM:
	case VDUSE_IOTLB_DEREG_UMEM:
		pthread_mutex_lock(&d->lock);
		ret = req == VDUSE_IOTLB_REG_UMEM ? umem_reg(d, arg) : umem_dereg(d, arg);
		pthread_mutex_unlock(&d->lock);
		return ret;
	default:
		ret = vdpa_chan_ioctl(d->chan, dev_rules, 0, req, arg);
		if ((ret == -EFAULT && req == VDUSE_DEV_SET_CONFIG) || (ret == -EBADF && req == VDUSE_VQ_SETUP_KICKFD))
			ret = vdpa_chan_ioctl(d->chan, less_rules, 0, req, arg);
		return ret;
	}
}

/* ---- Messages ---- */

static void look(struct device *d)
{
	struct vdpa_msg m = {.head.op = VDUSE_OP_LOOK};

	(void)vdpa_chan_call(d->chan, &m);
	vdpa_msg_close_fds(&m);
}

/* Nothing comes from a broken device any more, and reading says nothing of it. */
static ssize_t read_broken(struct device *d)
{
	/* The error that polling shows was taken by the read. */
	look(d);
	if (fcntl(d->sock, F_GETFL) & O_NONBLOCK)
		return -EAGAIN;
	poll(NULL, 0, -1);
	return -EINTR;
}

/*
 * As the kernel's: room for a whole request or nothing, and one that cannot be
 * copied stays. A read that goes past us (io_uring) is the socket's own.
 */
static ssize_t dev_read(struct vfs_file *f, void *buf, size_t len)
{
	struct device *d = f->priv;
	struct vduse_dev_request req;
	ssize_t n;

	if (len < sizeof(req))
		return -EINVAL;
	do {
		/* Waits, unless the descriptor is non-blocking, and finds out whether @buf can be written. */
		n = recv(d->sock, buf, sizeof(req), MSG_PEEK);
		if (n > 0)
			n = recv(d->sock, &req, sizeof(req), MSG_DONTWAIT);
		else if (n < 0 && errno == EAGAIN)
			return -EAGAIN;
	} while (n < 0 && errno == EAGAIN);	/* another thread was faster */
	if (n < 0)
		return errno == ECONNRESET ? read_broken(d) : -errno;
	look(d);
	return vfs_user_write((unsigned long)buf, &req, (size_t)n) ? -EFAULT : n;
}

static ssize_t dev_write(struct vfs_file *f, const void *buf, size_t len)
{
	struct vdpa_msg m = {.head = {.op = VDPA_OP_WRITE, .len = sizeof(struct vduse_dev_response)}};
	struct device *d = f->priv;

	if (len < m.head.len || vfs_user_read(m.data, (unsigned long)buf, m.head.len))
		return -EINVAL;
	return (ssize_t)vdpa_chan_call(d->chan, &m);
}

static void dev_free(struct device *d)
{
	if (d->umem)
		umem_restore(d);
	for (u32 i = 0; d->irqs && i < d->nvqs; i++) {
		if (d->irqs[i].fd >= 0)
			close(d->irqs[i].fd);
		vduse_spin_exit(&d->irqs[i].spin);
		pthread_mutex_destroy(&d->irqs[i].lock);
	}
	if (d->page_len)
		munmap((void *)d->page, d->page_len);
	if (d->sock >= 0)
		close(d->sock);
	if (d->chan)
		vdpa_chan_free(d->chan);
	pthread_mutex_destroy(&d->lock);
	free(d->irqs);
	free(d);
}

static void dev_release(struct vfs_file *f)
{
	dev_free(f->priv);
}

static const struct vfs_file_ops dev_ops = {
	.ioctl = dev_ioctl,
	.read = dev_read,
	.write = dev_write,
	.release = dev_release,
};

static int map_page(struct device *d, int fd)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0)
		return -errno;
	d->nvqs = (u32)((size_t)st.st_size / sizeof(*d->page));
	d->irqs = calloc(max(d->nvqs, 1u), sizeof(*d->irqs));
	if (!d->irqs)
		return -ENOMEM;
	for (u32 i = 0; i < d->nvqs; i++) {
		pthread_mutex_init(&d->irqs[i].lock, NULL);
		d->irqs[i].fd = -1;
	}
	if (!st.st_size)
		return 0;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	d->page = p;
	d->page_len = (size_t)st.st_size;
	return 0;
}

static int dev_open(const struct vfs_node *node, const char *name, struct vfs_file *f, int flags)
{
	struct vdpa_msg m = {.head = {.value = VDPA_FILE_VDUSE, .len = (u32)strlen(name)}};
	struct device *d;
	int ret;

	if (m.head.len >= VDUSE_NAME_MAX)
		return -ENAMETOOLONG;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->sock = d->umem_file = -1;
	pthread_mutex_init(&d->lock, NULL);
	memcpy(m.data, name, m.head.len);
	d->chan = open_chan(&m);
	if (!d->chan) {
		ret = -errno;
		dev_free(d);
		return ret;
	}
	ret = m.nfds == 2 ? map_page(d, m.fds[1]) : -EIO;
	if (!ret && (flags & O_NONBLOCK) && fcntl(m.fds[0], F_SETFL, O_NONBLOCK) < 0)
		ret = -errno;
	if (!ret)
		d->sock = fcntl(m.fds[0], F_DUPFD_CLOEXEC, 3);
	if (!ret && d->sock < 0)
		ret = -errno;
	if (ret) {
		vdpa_msg_close_fds(&m);
		dev_free(d);
		return ret;
	}
	close(m.fds[1]);
	f->ops = &dev_ops;
	f->priv = d;
	f->any_process = true;
	return m.fds[0];
}

static const struct vfs_node control_node = {
	.path = "/dev/vduse/control",
	.open = control_open,
};

static const struct vfs_node dev_node = {
	.path = "/dev/vduse/",
	.open_at = dev_open,
};

int vduse_register_nodes(void)
{
	int ret = vfs_register_node(&control_node);

	return ret ? ret : vfs_register_node(&dev_node);
}
