// SPDX-License-Identifier: MIT
/*
 * The bus driver virtio_vdpa, hub side: gives a device to one session at a
 * time and carries its operations out. A parent without memory of its own gets
 * a domain here, mapped as a whole.
 *
 * Locks, outermost first: the device's binding; a session's own, which is kept
 * over its operations so that removal waits for one that runs; the device's.
 * bond_lock (driver_data, references to sessions) is taken last and alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "vdpa/vdpa.h"
#include "vdpa/vduse/domain.h"
#include "vdpa/virtio/session.h"

struct signal_cb {
	int fd;
};

/* Coherent memory that the session has not given back. */
struct chunk {
	struct list node;
	u64 iova, size;
};

struct vdpa_virtio_conn {
	unsigned refs;
	pthread_mutex_t lock;		/* one operation at a time; removal too */
	bool opening;
	struct vdpa_device *dev;	/* with a reference; NULL: not opened, or gone */
	bool gone;			/* the bus took it */
	u32 nvqs;
	struct signal_cb config, *call;	/* call: one a queue */
	/* For parents without their own. */
	bool own_domain;
	struct vdpa_domain domain;
	struct vdpa_iotlb *table;
	struct list chunks;
};

static pthread_mutex_t bond_lock = PTHREAD_MUTEX_INITIALIZER;
static char leaving;

static void raise_fd(void *arg)
{
	const struct signal_cb *cb = arg;
	struct pollfd p = {.fd = cb->fd, .events = POLLOUT};
	u64 one = 1;

	if (cb->fd >= 0 && poll(&p, 1, 0) == 1 && write(cb->fd, &one, sizeof(one)) < 0)
		log_debug("virtio-vdpa: eventfd: %s", strerror(errno));
}

static void put_fd(struct signal_cb *cb)
{
	if (cb->fd >= 0)
		close(cb->fd);
	cb->fd = -1;
}

/* Device lock held. */
static int map_domain(struct vdpa_virtio_conn *c, struct vdpa_device *d, bool map)
{
	struct vdpa_map m = {.last = c->domain.iova_size - 1, .perm = VDPA_RW, .mem = c->domain.mem};
	struct vdpa_iotlb *t;
	int ret = 0;

	if (d->ops->dma_map)
		return map ? d->ops->dma_map(d, 0, &m) : d->ops->dma_unmap(d, 0, m.start, m.last);
	if (!d->ops->set_map)
		return -EOPNOTSUPP;
	t = vdpa_iotlb_new(0);
	if (!t)
		return -ENOMEM;
	if (map)
		ret = vdpa_iotlb_add(t, &m);
	if (!ret)
		ret = d->ops->set_map(d, 0, t);
	vdpa_iotlb_free(t);
	return ret;
}

static int own_domain_init(struct vdpa_virtio_conn *c, struct vdpa_device *d)
{
	int ret;

	c->table = vdpa_iotlb_new(VDPA_IOTLB_ENTRIES);
	if (!c->table)
		return -ENOMEM;
	ret = vdpa_domain_init(&c->domain, VDPA_BOUNCE_SIZE, VDPA_IOVA_SIZE);
	if (ret)
		goto no_domain;
	ret = map_domain(c, d, true);
	if (!ret) {
		c->own_domain = true;
		return 0;
	}
	vdpa_domain_exit(&c->domain);
no_domain:
	vdpa_iotlb_free(c->table);
	c->table = NULL;
	return ret;
}

static void own_domain_exit(struct vdpa_virtio_conn *c, struct vdpa_device *d)
{
	if (!c->own_domain)
		return;
	if (map_domain(c, d, false))
		log_warn("virtio-vdpa %s: its memory could not be unmapped", d->name);
	vdpa_domain_exit(&c->domain);
	vdpa_iotlb_free(c->table);
	c->table = NULL;
	c->own_domain = false;
}

static int chunk_alloc(struct vdpa_virtio_conn *c, struct vdpa_device *d, u64 size, u64 *iova)
{
	struct chunk *k = malloc(sizeof(*k));
	int ret;

	if (!k)
		return -ENOMEM;
	ret = c->own_domain ? vdpa_domain_alloc(&c->domain, c->table, size, iova) :
			      d->ops->dma->alloc(d, size, iova);
	if (ret) {
		free(k);
		return ret;
	}
	k->iova = *iova;
	k->size = size;
	list_add_tail(&k->node, &c->chunks);
	return 0;
}

static int chunk_free(struct vdpa_virtio_conn *c, struct vdpa_device *d, struct chunk *k)
{
	int ret = c->own_domain ? vdpa_domain_free(&c->domain, c->table, k->iova, k->size) :
				  d->ops->dma->free(d, k->iova, k->size);

	list_del(&k->node);
	free(k);
	return ret;
}

static int chunk_free_at(struct vdpa_virtio_conn *c, struct vdpa_device *d, u64 iova, u64 size)
{
	struct list *p;

	list_for_each(p, &c->chunks) {
		struct chunk *k = list_entry(p, struct chunk, node);

		if (k->iova == iova && k->size == size)
			return chunk_free(c, d, k);
	}
	return -EINVAL;
}

/* Stop the device and forget the session's descriptors. c->lock held. */
static void quiesce(struct vdpa_virtio_conn *c, struct vdpa_device *d)
{
	const struct vdpa_callback none = {.eventfd = -1};

	if (vdpa_reset(d))
		log_debug("virtio-vdpa %s: reset failed", d->name);
	pthread_mutex_lock(&d->lock);
	d->ops->set_config_cb(d, &none);
	for (u32 i = 0; i < d->nvqs; i++)
		d->ops->set_vq_cb(d, (u16)i, &none);
	while (!list_empty(&c->chunks))
		if (chunk_free(c, d, list_entry(c->chunks.next, struct chunk, node)))
			log_warn("virtio-vdpa %s: coherent memory was not freed", d->name);
	own_domain_exit(c, d);
	pthread_mutex_unlock(&d->lock);
}

static int probe(struct vdpa_device *d)
{
	if (!d->ops->get_device_id(d))
		return -ENODEV;
	d->driver_data = NULL;
	return 0;
}

static void conn_put(struct vdpa_virtio_conn *c)
{
	bool last;

	pthread_mutex_lock(&bond_lock);
	last = !--c->refs;
	pthread_mutex_unlock(&bond_lock);
	if (!last)
		return;
	for (u32 i = 0; c->call && i < c->nvqs; i++)
		put_fd(&c->call[i]);
	put_fd(&c->config);
	free(c->call);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static void remove_dev(struct vdpa_device *d)
{
	struct vdpa_virtio_conn *c;
	bool had;

	pthread_mutex_lock(&bond_lock);
	c = d->driver_data;
	d->driver_data = &leaving;	/* until the bus has written down that we let go */
	if (c)
		c->refs++;
	pthread_mutex_unlock(&bond_lock);
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	/* Not there: it is only about to open, or letting go by itself. */
	had = c->dev;
	c->dev = NULL;
	c->gone = true;
	if (had) {
		quiesce(c, d);
		/* Whoever waits for the device shall look. */
		raise_fd(&c->config);
		for (u32 i = 0; i < c->nvqs; i++)
			raise_fd(&c->call[i]);
	}
	pthread_mutex_unlock(&c->lock);
	if (had)
		vdpa_put(d);	/* the session's */
	conn_put(c);
}

static struct vdpa_driver driver = {
	.name = VDPA_DRIVER_VIRTIO,
	.probe = probe,
	.remove = remove_dev,
};

int vdpa_virtio_init(void)
{
	return vdpa_driver_register(&driver);
}

void vdpa_virtio_exit(void)
{
	vdpa_driver_unregister(&driver);
}

struct vdpa_virtio_conn *vdpa_virtio_conn_new(void)
{
	struct vdpa_virtio_conn *c = calloc(1, sizeof(*c));

	if (c) {
		pthread_mutex_init(&c->lock, NULL);
		c->refs = 1;
		c->config.fd = -1;
		list_init(&c->chunks);
	}
	return c;
}

/* Bind to virtio_vdpa if something else has the device, and become its one session. */
static int bond(struct vdpa_virtio_conn *c, struct vdpa_device *d)
{
	int ret = vdpa_bind(d, VDPA_DRIVER_VIRTIO);

	if (ret)
		return ret;
	pthread_mutex_lock(&d->bind);
	pthread_mutex_lock(&bond_lock);
	if (d->driver != &driver)
		ret = -ENODEV;
	else if (d->driver_data)
		ret = -EBUSY;
	else
		d->driver_data = c;
	pthread_mutex_unlock(&bond_lock);
	pthread_mutex_unlock(&d->bind);
	return ret;
}

static void unbond(struct vdpa_virtio_conn *c, struct vdpa_device *d)
{
	pthread_mutex_lock(&bond_lock);
	if (d->driver_data == c)
		d->driver_data = NULL;
	pthread_mutex_unlock(&bond_lock);
}

/* The device is ours: memory, and what the driver has to know. c->lock held. */
static int set_up(struct vdpa_virtio_conn *c, struct vdpa_device *d, struct vdpa_virtio_rep *r)
{
	struct vdpa_dma_info dma;
	int ret, page;

	c->call = calloc(max(d->nvqs, 1u), sizeof(*c->call));
	if (!c->call)
		return -ENOMEM;
	c->nvqs = d->nvqs;
	for (u32 i = 0; i < d->nvqs; i++)
		c->call[i].fd = -1;
	pthread_mutex_lock(&d->lock);
	ret = d->ops->dma ? d->ops->dma->info(d, &dma) : own_domain_init(c, d);
	if (!ret) {
		page = d->ops->get_page ? d->ops->get_page(d) : -1;
		r->fds[0] = fcntl(c->own_domain ? c->domain.fd : dma.fd, F_DUPFD_CLOEXEC, 0);
		r->fds[1] = page >= 0 ? fcntl(page, F_DUPFD_CLOEXEC, 0) : -1;
		r->v[0] = d->ops->get_device_id(d);
		r->v[1] = d->nvqs;
		r->v[2] = d->ops->get_vq_num_max(d);
		r->v[3] = d->ops->get_vq_num_min ? d->ops->get_vq_num_min(d) : 1;
		r->v[4] = d->ops->get_vq_align(d);
		r->v[5] = d->ops->get_config_size(d);
	}
	pthread_mutex_unlock(&d->lock);
	if (ret) {
		free(c->call);
		c->call = NULL;
	}
	return ret;
}

/* One call at a time gets in; then the same, with the device's name. */
static int begin_open(struct vdpa_virtio_conn *c)
{
	int ret = 0;

	pthread_mutex_lock(&c->lock);
	if (c->dev || c->opening)
		ret = -EBUSY;
	else if (c->gone)
		ret = -ENODEV;
	else
		c->opening = true;
	pthread_mutex_unlock(&c->lock);
	return ret;
}

static u32 device_id(struct vdpa_device *d)
{
	u32 id;

	pthread_mutex_lock(&d->lock);
	id = d->ops->get_device_id(d);
	pthread_mutex_unlock(&d->lock);
	return id;
}

/* No lock held. */
static int op_open(struct vdpa_virtio_conn *c, const struct vdpa_virtio_req *q, struct vdpa_virtio_rep *r)
{
	char name[VDPA_VIRTIO_DATA + 1];
	struct vdpa_device *d;
	int ret = begin_open(c);

	if (ret)
		return ret;
	memcpy(name, q->data, VDPA_VIRTIO_DATA);
	name[VDPA_VIRTIO_DATA] = '\0';
	d = vdpa_find(name);
	ret = d ? 0 : -ENODEV;
	if (!ret && q->v[0] && device_id(d) != q->v[0])
		ret = -ENXIO;
	if (!ret)
		ret = bond(c, d);
	pthread_mutex_lock(&c->lock);
	if (!ret)
		ret = c->gone ? -ENODEV : set_up(c, d, r);
	if (!ret)
		c->dev = d;
	c->opening = false;
	pthread_mutex_unlock(&c->lock);
	if (ret && d) {
		unbond(c, d);
		vdpa_put(d);
	}
	return ret;
}

static int dup_fd(struct signal_cb *cb, int fd)
{
	put_fd(cb);
	if (fd < 0)
		return 0;
	cb->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return cb->fd < 0 ? -errno : 0;
}

static int op_config_fd(struct vdpa_virtio_conn *c, struct vdpa_device *d, int fd)
{
	const struct vdpa_callback none = {.eventfd = -1};
	int ret;

	d->ops->set_config_cb(d, &none);
	ret = dup_fd(&c->config, fd);
	if (!ret && fd >= 0)
		d->ops->set_config_cb(d, &(struct vdpa_callback){raise_fd, &c->config, c->config.fd});
	return ret;
}

static int op_call_fd(struct vdpa_virtio_conn *c, struct vdpa_device *d, u16 vq, int fd)
{
	const struct vdpa_callback none = {.eventfd = -1};
	struct signal_cb *cb = &c->call[vq];
	int ret;

	d->ops->set_vq_cb(d, vq, &none);
	ret = dup_fd(cb, fd);
	if (!ret && fd >= 0)
		d->ops->set_vq_cb(d, vq, &(struct vdpa_callback){raise_fd, cb, cb->fd});
	return ret;
}

static int op_vq_setup(struct vdpa_device *d, u16 vq, const struct vdpa_virtio_req *q)
{
	const struct vdpa_vq_addr a = {q->v[1], q->v[2], q->v[3]};
	const struct vdpa_vq_state begin = { 0 };
	int ret;

	if (!q->v[0] || q->v[0] > d->ops->get_vq_num_max(d))
		return -EINVAL;
	if (d->ops->get_vq_ready(d, vq))
		return -EBUSY;
	d->ops->set_vq_num(d, vq, (u32)q->v[0]);
	ret = d->ops->set_vq_address(d, vq, &a);
	return ret ? ret : d->ops->set_vq_state(d, vq, &begin);
}

/* Hand on the parent's own eventfd, so that the next kick needs nobody here. */
static void give_kickfd(struct vdpa_device *d, u16 vq, struct vdpa_virtio_rep *r)
{
	u32 seq;
	int fd;

	if (!d->ops->get_kickfd)
		return;
	fd = d->ops->get_kickfd(d, vq, &seq);
	if (fd < 0)
		return;
	r->fds[0] = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	r->v[0] = seq;
}

static int op_dma(struct vdpa_virtio_conn *c, struct vdpa_device *d, const struct vdpa_virtio_req *q,
		  struct vdpa_virtio_rep *r)
{
	const struct vdpa_dma_ops *ops = d->ops->dma;
	struct vdpa_dma_info i;

	switch (q->op) {
	case VDPA_VIRTIO_DMA_INFO:
		if (ops) {
			int ret = ops->info(d, &i);

			if (ret)
				return ret;
		} else {
			i = (struct vdpa_dma_info){c->domain.fd, c->domain.bounce_size, c->domain.iova_size};
		}
		r->v[0] = i.bounce_size;
		r->v[1] = i.iova_size;
		return 0;
	case VDPA_VIRTIO_DMA_BOUNCE:
		return ops ? ops->bounce(d) : 0;
	case VDPA_VIRTIO_DMA_ALLOC:
		return chunk_alloc(c, d, q->v[0], &r->v[0]);
	default:
		return chunk_free_at(c, d, q->v[0], q->v[1]);
	}
}

/* Operations under the device's lock. */
static int locked_op(struct vdpa_virtio_conn *c, struct vdpa_device *d, const struct vdpa_virtio_req *q, int fd,
		     struct vdpa_virtio_rep *r)
{
	u16 vq = (u16)q->vq;

	switch (q->op) {
	case VDPA_VIRTIO_GET_STATUS:
		r->v[0] = d->ops->get_status(d);
		return 0;
	case VDPA_VIRTIO_GET_FEATURES:
		r->v[0] = d->ops->get_device_features(d);
		return 0;
	case VDPA_VIRTIO_GENERATION:
		r->v[0] = d->ops->get_generation ? d->ops->get_generation(d) : 0;
		return 0;
	case VDPA_VIRTIO_CONFIG_FD:
		return op_config_fd(c, d, fd);
	case VDPA_VIRTIO_VQ_SETUP:
		return op_vq_setup(d, vq, q);
	case VDPA_VIRTIO_VQ_CALL_FD:
		return op_call_fd(c, d, vq, fd);
	case VDPA_VIRTIO_VQ_KICK_FD:
		return d->ops->set_vq_kickfd ? d->ops->set_vq_kickfd(d, vq, fd) : -EOPNOTSUPP;
	case VDPA_VIRTIO_VQ_READY:
		d->ops->set_vq_ready(d, vq, q->v[0]);
		return 0;
	case VDPA_VIRTIO_VQ_GET_READY:
		r->v[0] = d->ops->get_vq_ready(d, vq);
		return 0;
	case VDPA_VIRTIO_VQ_KICK:
		give_kickfd(d, vq, r);
		return 0;
	default:
		return op_dma(c, d, q, r);
	}
}

/* Some parents empty their address spaces at a reset. The domain of the session is there all its life. */
static int reset(struct vdpa_virtio_conn *c, struct vdpa_device *d)
{
	int ret = vdpa_reset(d);

	if (!c->own_domain)
		return ret;
	pthread_mutex_lock(&d->lock);
	if (!ret)
		ret = map_domain(c, d, false);
	if (!ret)
		ret = map_domain(c, d, true);
	pthread_mutex_unlock(&d->lock);
	return ret;
}

static int serve(struct vdpa_virtio_conn *c, const struct vdpa_virtio_req *q, int fd, struct vdpa_virtio_rep *r)
{
	struct vdpa_device *d = c->dev;
	int ret;

	if (!d)
		return c->gone ? -ENODEV : -EBADFD;
	if (q->op >= VDPA_VIRTIO_VQ_SETUP && q->op <= VDPA_VIRTIO_VQ_KICK && q->vq >= d->nvqs)
		return -ENOENT;
	switch (q->op) {
	case VDPA_VIRTIO_RESET:
		return reset(c, d);
	case VDPA_VIRTIO_SET_STATUS:
		if (!(u8)q->v[0])
			return -EINVAL;
		vdpa_set_status(d, (u8)q->v[0]);
		return 0;
	case VDPA_VIRTIO_SET_FEATURES:
		return vdpa_set_features(d, q->v[0]);
	case VDPA_VIRTIO_GET_CONFIG:
	case VDPA_VIRTIO_SET_CONFIG:
		if (q->v[0] > UINT32_MAX || q->v[1] > VDPA_VIRTIO_DATA)
			return -EINVAL;
		if (q->op == VDPA_VIRTIO_GET_CONFIG)
			vdpa_get_config(d, (u32)q->v[0], r->data, (u32)q->v[1]);
		else
			vdpa_set_config(d, (u32)q->v[0], q->data, (u32)q->v[1]);
		return 0;
	case VDPA_VIRTIO_VQ_KICK:
		d->ops->kick_vq(d, (u16)q->vq);
		break;
	default:
		if (q->op >= VDPA_VIRTIO_OPS)
			return -EINVAL;
	}
	pthread_mutex_lock(&d->lock);
	ret = locked_op(c, d, q, fd, r);
	pthread_mutex_unlock(&d->lock);
	return ret;
}

/* Stop the device, if it still is ours, and leave it to others. No lock held. */
static void let_go(struct vdpa_virtio_conn *c)
{
	struct vdpa_device *d;

	pthread_mutex_lock(&c->lock);
	d = c->dev;
	c->dev = NULL;
	if (d)
		quiesce(c, d);
	pthread_mutex_unlock(&c->lock);
	if (!d)
		return;
	unbond(c, d);
	pthread_mutex_lock(&c->lock);
	c->gone = true;
	pthread_mutex_unlock(&c->lock);
	vdpa_put(d);
}

int vdpa_virtio_serve(struct vdpa_virtio_conn *c, const struct vdpa_virtio_req *q, int fd, struct vdpa_virtio_rep *r)
{
	int ret;

	memset(r, 0, sizeof(*r));
	r->fds[0] = r->fds[1] = -1;
	if (q->op == VDPA_VIRTIO_CLOSE) {
		let_go(c);
		return 0;
	}
	if (q->op == VDPA_VIRTIO_OPEN)
		return op_open(c, q, r);
	pthread_mutex_lock(&c->lock);
	ret = serve(c, q, fd, r);
	pthread_mutex_unlock(&c->lock);
	return ret;
}

void vdpa_virtio_conn_free(struct vdpa_virtio_conn *c)
{
	let_go(c);
	conn_put(c);
}
