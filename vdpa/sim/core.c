// SPDX-License-Identifier: MIT
/*
 * A simulated device: the operations that the bus calls, and the worker.
 *
 * Locks, outermost first:
 *   gate		only on the way to lock
 *   lock		queues, status, configuration; held while the worker serves
 *			at most VDPASIM_BUDGET requests of each queue
 *     iotlb_lock	the address spaces; for one translation or one change
 *
 * Callbacks run without any of them. Who takes a callback away waits until it
 * has returned, so a callback must not wait for the device's configuration.
 */
#include "vdpa/sim/core.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"

/* Event data of the device's own eventfd; below it are queue numbers. */
#define WAKE VDPASIM_MAX_VQS

void vdpasim_lock(struct vdpasim *s)
{
	pthread_mutex_lock(&s->gate);
	pthread_mutex_lock(&s->lock);
	pthread_mutex_unlock(&s->gate);
}

void vdpasim_unlock(struct vdpasim *s)
{
	pthread_mutex_unlock(&s->lock);
}

/* ---- Worker ---- */

bool vdpasim_complete(struct vdpasim_vq *vq, u16 head, u32 len)
{
	if (vringh_complete(&vq->vring, head, len))
		return false;
	if (vringh_need_notify(&vq->vring) > 0)
		vq->notify = true;
	return true;
}

/* Lock held. The kick counts once the device runs; before the queue is ready there is none to kick. */
static void kick(struct vdpasim *s, u16 vq)
{
	if (s->vq[vq].ready)
		s->kicked = true;
}

/*
 * Sleep until the next kick. Clients' eventfds are watched for edges and never
 * read: each write is an edge, and a read could block if the client reads too.
 */
static void wait_for_kick(struct vdpasim *s)
{
	struct epoll_event ev[VDPASIM_MAX_VQS + 1];
	int n = epoll_wait(s->epoll, ev, ARRAY_SIZE(ev), -1);
	eventfd_t v;

	vdpasim_lock(s);
	for (int i = 0; i < n; i++) {
		if (ev[i].data.u32 == WAKE)
			eventfd_read(s->wake, &v);
		else
			kick(s, ev[i].data.u32);
	}
	vdpasim_unlock(s);
}

/* One turn. Fills in the callbacks that are due. Lock held. */
static unsigned run_once(struct vdpasim *s, struct vdpa_callback *due)
{
	unsigned n = 0;

	s->kicked = s->type->work(s);
	s->runs++;
	for (unsigned i = 0; i < s->type->nvqs; i++) {
		struct vdpasim_vq *vq = &s->vq[i];

		if (vq->notify && vdpa_callback_set(&vq->cb))
			due[n++] = vq->cb;
		vq->notify = false;
	}
	return n;
}

static void *worker(void *arg)
{
	struct vdpasim *s = arg;

	for (;;) {
		struct vdpa_callback due[VDPASIM_MAX_VQS];
		unsigned n = 0;
		bool more, stop;

		vdpasim_lock(s);
		stop = s->stop;
		if (!stop && s->kicked && s->running)
			n = run_once(s, due);
		more = s->kicked && s->running;
		s->calling = n > 0;
		vdpasim_unlock(s);
		if (stop)
			return NULL;
		for (unsigned i = 0; i < n; i++)
			vdpa_callback_run(&due[i]);
		if (n) {
			pthread_mutex_lock(&s->lock);
			s->calling = false;
			pthread_cond_broadcast(&s->called);
			pthread_mutex_unlock(&s->lock);
		}
		if (!more)
			wait_for_kick(s);
	}
}

static void wake(struct vdpasim *s)
{
	eventfd_write(s->wake, 1);
}

/* Lock held. */
static void wait_for_callbacks(struct vdpasim *s)
{
	while (s->calling)
		pthread_cond_wait(&s->called, &s->lock);
}

/* ---- Queues ---- */

static int set_vq_address(struct vdpa_device *d, u16 vq, const struct vdpa_vq_addr *a)
{
	struct vdpasim *s = to_sim(d);

	vdpasim_lock(s);
	s->vq[vq].addr = *a;
	vdpasim_unlock(s);
	return 0;
}

static void set_vq_num(struct vdpa_device *d, u16 vq, u32 num)
{
	struct vdpasim *s = to_sim(d);

	vdpasim_lock(s);
	s->vq[vq].num = num;
	vdpasim_unlock(s);
}

static void kick_vq(struct vdpa_device *d, u16 vq)
{
	struct vdpasim *s = to_sim(d);

	vdpasim_lock(s);
	kick(s, vq);
	vdpasim_unlock(s);
	wake(s);
}

static void set_vq_cb(struct vdpa_device *d, u16 vq, const struct vdpa_callback *cb)
{
	struct vdpasim *s = to_sim(d);

	vdpasim_lock(s);
	s->vq[vq].cb = *cb;
	wait_for_callbacks(s);
	vdpasim_unlock(s);
}

/* Lock held. A ring that cannot be one stays not ready. */
static void start_vq(struct vdpasim *s, u16 i)
{
	struct vdpasim_vq *vq = &s->vq[i];
	u16 position = vq->vring.ring.last_avail;

	vringh_init(&vq->vring, s->as[s->group_as[s->type->vq_group(i)]], &s->iotlb_lock);
	vq->ready = !dring_setup(&vq->vring.ring, vq->num, vq->addr.desc, vq->addr.driver,
				 vq->addr.device, position);
	if (!vq->ready) {
		vq->vring.ring.last_avail = position;
		log_info("vdpa: %s: queue %u: %u entries, or an address not aligned", s->vdpa.name, i, vq->num);
	}
}

static void set_vq_ready(struct vdpa_device *d, u16 vq, bool ready)
{
	struct vdpasim *s = to_sim(d);

	vdpasim_lock(s);
	if (!ready)
		s->vq[vq].ready = false;
	else if (!s->vq[vq].ready)
		start_vq(s, vq);
	vdpasim_unlock(s);
}

static bool get_vq_ready(struct vdpa_device *d, u16 vq)
{
	struct vdpasim *s = to_sim(d);
	bool ready;

	vdpasim_lock(s);
	ready = s->vq[vq].ready;
	vdpasim_unlock(s);
	return ready;
}

static int set_vq_state(struct vdpa_device *d, u16 vq, const struct vdpa_vq_state *state)
{
	struct vdpasim *s = to_sim(d);

	vdpasim_lock(s);
	s->vq[vq].vring.ring.last_avail = state->split.avail;
	vdpasim_unlock(s);
	return 0;
}

static int get_vq_state(struct vdpa_device *d, u16 vq, struct vdpa_vq_state *state)
{
	struct vdpasim *s = to_sim(d);

	vdpasim_lock(s);
	state->split.avail = s->vq[vq].vring.ring.last_avail;
	vdpasim_unlock(s);
	return 0;
}

static int set_vq_kickfd(struct vdpa_device *d, u16 vq, int fd)
{
	struct vdpasim *s = to_sim(d);
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.u32 = vq };
	int new = -1, err = 0;

	if (fd >= 0) {
		new = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (new < 0)
			return -errno;
	}
	vdpasim_lock(s);
	if (new >= 0 && epoll_ctl(s->epoll, EPOLL_CTL_ADD, new, &ev) < 0) {
		err = -errno;
	} else {
		int old = s->vq[vq].kickfd;

		if (old >= 0)
			epoll_ctl(s->epoll, EPOLL_CTL_DEL, old, NULL);
		s->vq[vq].kickfd = new;
		new = old;
	}
	vdpasim_unlock(s);
	if (new >= 0)
		close(new);
	return err;
}

static u32 get_vq_align(struct vdpa_device *d)
{
	return VDPASIM_QUEUE_ALIGN;
}

static u32 get_vq_group(struct vdpa_device *d, u16 vq)
{
	return to_sim(d)->type->vq_group(vq);
}

static u16 get_vq_num_max(struct vdpa_device *d)
{
	return VDPASIM_QUEUE_MAX;
}

/* ---- Features, status, configuration ---- */

static u64 get_device_features(struct vdpa_device *d)
{
	return to_sim(d)->supported;
}

static int set_driver_features(struct vdpa_device *d, u64 features)
{
	struct vdpasim *s = to_sim(d);

	if (!(features & BIT(VIRTIO_F_ACCESS_PLATFORM)))
		return -EINVAL;
	vdpasim_lock(s);
	s->features = features & s->supported;
	vdpasim_unlock(s);
	return 0;
}

static u64 get_driver_features(struct vdpa_device *d)
{
	struct vdpasim *s = to_sim(d);
	u64 features;

	vdpasim_lock(s);
	features = s->features;
	vdpasim_unlock(s);
	return features;
}

/* No configuration interrupts: there is nothing that changes by itself. */
static void set_config_cb(struct vdpa_device *d, const struct vdpa_callback *cb)
{
}

static u32 get_device_id(struct vdpa_device *d)
{
	return to_sim(d)->type->device_id;
}

static u32 get_vendor_id(struct vdpa_device *d)
{
	return 0;
}

static u8 get_status(struct vdpa_device *d)
{
	struct vdpasim *s = to_sim(d);
	u8 status;

	vdpasim_lock(s);
	status = s->status;
	vdpasim_unlock(s);
	return status;
}

/* Lock held. Only resume or reset end a suspension. */
static void update_running(struct vdpasim *s)
{
	s->running = (s->status & VIRTIO_CONFIG_S_DRIVER_OK) && !s->suspended;
}

static void set_status(struct vdpa_device *d, u8 status)
{
	struct vdpasim *s = to_sim(d);

	vdpasim_lock(s);
	s->status = status;
	update_running(s);
	vdpasim_unlock(s);
	wake(s);
}

static int reset(struct vdpa_device *d)
{
	struct vdpasim *s = to_sim(d);

	vdpasim_lock(s);
	s->running = s->kicked = s->suspended = false;
	s->status = 0;
	s->features = 0;
	s->generation++;
	for (unsigned i = 0; i < s->type->nvqs; i++) {
		struct vdpasim_vq *vq = &s->vq[i];

		vq->ready = vq->notify = false;
		vq->num = 0;
		vq->addr = (struct vdpa_vq_addr){ 0 };
		vq->cb = VDPA_NO_CALLBACK;
		vq->vring = (struct vringh){ 0 };
	}
	memset(s->group_as, 0, sizeof(s->group_as));
	pthread_mutex_lock(&s->iotlb_lock);
	for (unsigned i = 0; i < s->type->nas; i++)
		vdpa_iotlb_del(s->as[i], 0, UINT64_MAX);
	pthread_mutex_unlock(&s->iotlb_lock);
	wait_for_callbacks(s);
	vdpasim_unlock(s);
	return 0;
}

static int suspend(struct vdpa_device *d)
{
	struct vdpasim *s = to_sim(d);

	vdpasim_lock(s);
	s->suspended = true;
	update_running(s);
	vdpasim_unlock(s);
	return 0;
}

static int resume(struct vdpa_device *d)
{
	struct vdpasim *s = to_sim(d);

	vdpasim_lock(s);
	s->suspended = false;
	update_running(s);
	/* Kicks may have come to a driver that did not know. */
	s->kicked = true;
	vdpasim_unlock(s);
	wake(s);
	return 0;
}

static size_t get_config_size(struct vdpa_device *d)
{
	return to_sim(d)->type->config_size;
}

static bool in_config(const struct vdpasim *s, u32 off, u32 len)
{
	return off <= s->type->config_size && len <= s->type->config_size - off;
}

static void get_config(struct vdpa_device *d, u32 off, void *buf, u32 len)
{
	struct vdpasim *s = to_sim(d);

	if (!in_config(s, off, len))
		return;
	vdpasim_lock(s);
	memcpy(buf, s->config + off, len);
	vdpasim_unlock(s);
}

static void set_config(struct vdpa_device *d, u32 off, const void *buf, u32 len)
{
	struct vdpasim *s = to_sim(d);

	if (!s->type->set_config || !in_config(s, off, len))
		return;
	vdpasim_lock(s);
	s->type->set_config(s, off, buf, len);
	vdpasim_unlock(s);
}

static u32 get_generation(struct vdpa_device *d)
{
	struct vdpasim *s = to_sim(d);
	u32 g;

	vdpasim_lock(s);
	g = s->generation;
	vdpasim_unlock(s);
	return g;
}

/* ---- Memory ---- */

static void get_iova_range(struct vdpa_device *d, u64 *first, u64 *last)
{
	*first = 0;
	*last = UINT64_MAX;
}

static int set_group_asid(struct vdpa_device *d, u32 group, u32 asid)
{
	struct vdpasim *s = to_sim(d);

	if (group >= s->type->ngroups || asid >= s->type->nas)
		return -EINVAL;
	vdpasim_lock(s);
	s->group_as[group] = asid;
	for (unsigned i = 0; i < s->type->nvqs; i++)
		if (s->type->vq_group(i) == group && s->vq[i].ready)
			vringh_set_iotlb(&s->vq[i].vring, s->as[asid]);
	vdpasim_unlock(s);
	return 0;
}

static int set_map(struct vdpa_device *d, u32 asid, const struct vdpa_iotlb *table)
{
	struct vdpasim *s = to_sim(d);
	int err;

	if (asid >= s->type->nas)
		return -EINVAL;
	pthread_mutex_lock(&s->iotlb_lock);
	err = vdpa_iotlb_copy(s->as[asid], table);
	pthread_mutex_unlock(&s->iotlb_lock);
	return err;
}

static int dma_map(struct vdpa_device *d, u32 asid, const struct vdpa_map *m)
{
	struct vdpasim *s = to_sim(d);
	int err;

	if (asid >= s->type->nas)
		return -EINVAL;
	pthread_mutex_lock(&s->iotlb_lock);
	err = vdpa_iotlb_add(s->as[asid], m);
	pthread_mutex_unlock(&s->iotlb_lock);
	return err;
}

static int dma_unmap(struct vdpa_device *d, u32 asid, u64 start, u64 last)
{
	struct vdpasim *s = to_sim(d);

	if (asid >= s->type->nas)
		return -EINVAL;
	pthread_mutex_lock(&s->iotlb_lock);
	vdpa_iotlb_del(s->as[asid], start, last);
	pthread_mutex_unlock(&s->iotlb_lock);
	return 0;
}

/* ---- Life ---- */

static int get_vendor_stat(struct vdpa_device *d, u16 vq, unsigned i, const char **name, u64 *value)
{
	struct vdpasim *s = to_sim(d);
	int ret;

	if (!s->type->stat)
		return -EOPNOTSUPP;
	vdpasim_lock(s);
	ret = s->type->stat(s, vq, i, name, value);
	vdpasim_unlock(s);
	return ret;
}

static void destroy(struct vdpa_device *d)
{
	struct vdpasim *s = to_sim(d);

	if (s->has_worker) {
		vdpasim_lock(s);
		s->stop = true;
		vdpasim_unlock(s);
		wake(s);
		pthread_join(s->worker, NULL);
	}
	for (unsigned i = 0; i < s->type->nvqs; i++) {
		dring_iov_free(&s->vq[i].out);
		dring_iov_free(&s->vq[i].in);
		if (s->vq[i].kickfd >= 0)
			close(s->vq[i].kickfd);
	}
	for (unsigned i = 0; i < s->type->nas; i++)
		vdpa_iotlb_free(s->as[i]);
	if (s->type->exit)
		s->type->exit(s);
	if (s->epoll >= 0)
		close(s->epoll);
	if (s->wake >= 0)
		close(s->wake);
	pthread_cond_destroy(&s->called);
	pthread_mutex_destroy(&s->iotlb_lock);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->gate);
	free(s);
}

#define COMMON_OPS \
	.set_vq_address = set_vq_address, .set_vq_num = set_vq_num, .kick_vq = kick_vq, \
	.set_vq_cb = set_vq_cb, .set_vq_ready = set_vq_ready, .get_vq_ready = get_vq_ready, \
	.set_vq_state = set_vq_state, .get_vq_state = get_vq_state, .set_vq_kickfd = set_vq_kickfd, \
	.get_vq_align = get_vq_align, .get_vq_group = get_vq_group, .get_vq_num_max = get_vq_num_max, \
	.get_device_features = get_device_features, .set_driver_features = set_driver_features, \
	.get_driver_features = get_driver_features, .set_config_cb = set_config_cb, \
	.get_device_id = get_device_id, .get_vendor_id = get_vendor_id, .get_status = get_status, \
	.set_status = set_status, .reset = reset, .suspend = suspend, .resume = resume, \
	.get_config_size = get_config_size, .get_config = get_config, .set_config = set_config, \
	.get_generation = get_generation, .get_iova_range = get_iova_range, \
	.set_group_asid = set_group_asid, .get_vendor_stat = get_vendor_stat, .free = destroy

static const struct vdpa_config_ops batch_ops = { COMMON_OPS, .set_map = set_map };
static const struct vdpa_config_ops single_ops = { COMMON_OPS, .dma_map = dma_map, .dma_unmap = dma_unmap };

/* What destroy() undoes. */
static int start(struct vdpasim *s, const struct vdpasim_params *p, const struct vdpa_dev_attrs *a)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = WAKE };
	int err;

	s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (s->wake < 0 || s->epoll < 0 || epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->wake, &ev) < 0)
		return -errno;
	for (unsigned i = 0; i < s->type->nas; i++) {
		s->as[i] = vdpa_iotlb_new(p->max_iotlb_entries);
		if (!s->as[i])
			return -ENOMEM;
	}
	err = s->type->init(s, a);
	if (err)
		return err;
	err = -pthread_create(&s->worker, NULL, worker, s);
	s->has_worker = !err;
	return err;
}

int vdpasim_create(struct vdpa_mgmtdev *m, const struct vdpasim_type *type, const struct vdpasim_params *p,
		   const char *name, const struct vdpa_dev_attrs *a)
{
	bool provision = a->mask & VDPA_ATTR_FEATURES;
	struct vdpasim *s;
	int err;

	if (p->max_iotlb_entries < 2)
		return -EINVAL;
	if (provision && (a->features & ~type->features))
		return vdpa_refuse(a, -EINVAL, "vdpasim: the simulator does not have all of these features");
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->type = type;
	s->supported = provision ? a->features : type->features;
	s->wake = s->epoll = -1;
	for (unsigned i = 0; i < type->nvqs; i++) {
		s->vq[i].kickfd = -1;
		s->vq[i].cb = VDPA_NO_CALLBACK;
	}
	pthread_mutex_init(&s->gate, NULL);
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->iotlb_lock, NULL);
	pthread_cond_init(&s->called, NULL);
	vdpa_device_init(&s->vdpa, m, p->batch_mapping ? &batch_ops : &single_ops, name,
			 type->nvqs, type->ngroups, type->nas);
	err = start(s, p, a);
	if (!err)
		err = vdpa_register(&s->vdpa);
	/* The bus has its own reference; without it this is the end of the device. */
	vdpa_put(&s->vdpa);
	return err;
}
