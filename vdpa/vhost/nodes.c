// SPDX-License-Identifier: MIT
/*
 * Nodes: the bus driver's probe and remove, numbers, open and release.
 *
 * A device that goes away waits in remove until its node is closed. nodes_lock
 * covers the list, numbers and who has opened; it is taken before a node's lock
 * by nobody, and never held across a parent's operation.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "vdpa/vhost/vhost_priv.h"

static pthread_mutex_t nodes_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t closed = PTHREAD_COND_INITIALIZER;
static struct list nodes = LIST_INIT(nodes);	/* by number */

static struct vhost_vdpa *node_at(struct list *p)
{
	return list_entry(p, struct vhost_vdpa, node);
}

/* Into the list at the first gap. nodes_lock held. */
static void take_number(struct vhost_vdpa *v)
{
	unsigned n = 0;
	struct list *p;

	list_for_each(p, &nodes) {
		if (node_at(p)->n != n)
			break;
		n++;
	}
	v->n = n;
	list_add_tail(&v->node, p);
}

static void node_free(struct vhost_vdpa *v)
{
	pthread_mutex_destroy(&v->lock);
	free(v->vqs);
	free(v->as);
	free(v);
}

static int probe(struct vdpa_device *d)
{
	struct vhost_vdpa *v = calloc(1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	v->dev = d;
	v->epoll = v->stop = v->config_call = -1;
	pthread_mutex_init(&v->lock, NULL);
	v->vqs = calloc(max(d->nvqs, 1u), sizeof(*v->vqs));
	v->as = calloc(max(d->nas, 1u), sizeof(*v->as));
	if (!v->vqs || !v->as) {
		node_free(v);
		return -ENOMEM;
	}
	for (u32 i = 0; i < d->nvqs; i++)
		v->vqs[i].kick = v->vqs[i].call = v->vqs[i].err = -1;
	d->driver_data = v;
	pthread_mutex_lock(&nodes_lock);
	take_number(v);
	pthread_mutex_unlock(&nodes_lock);
	return 0;
}

static void remove_node(struct vdpa_device *d)
{
	struct vhost_vdpa *v = d->driver_data;

	pthread_mutex_lock(&nodes_lock);
	v->removed = true;
	while (v->open)
		pthread_cond_wait(&closed, &nodes_lock);
	list_del(&v->node);
	pthread_mutex_unlock(&nodes_lock);
	node_free(v);
}

static struct vdpa_driver driver = { .name = VDPA_DRIVER_VHOST, .probe = probe, .remove = remove_node };

int vhost_vdpa_init(void)
{
	return vdpa_driver_register(&driver);
}

void vhost_vdpa_exit(void)
{
	vdpa_driver_unregister(&driver);
}

/* ---- Open and release ---- */

static struct vhost_vdpa *claim(unsigned n)
{
	struct vhost_vdpa *v = NULL;
	struct list *p;

	pthread_mutex_lock(&nodes_lock);
	list_for_each(p, &nodes)
		if (node_at(p)->n == n && !node_at(p)->removed)
			v = node_at(p);
	if (!v || v->open) {
		errno = v ? EBUSY : ENOENT;
		v = NULL;
	} else {
		v->open = true;
	}
	pthread_mutex_unlock(&nodes_lock);
	return v;
}

static void let_go(struct vhost_vdpa *v)
{
	pthread_mutex_lock(&nodes_lock);
	v->open = false;
	pthread_cond_broadcast(&closed);
	pthread_mutex_unlock(&nodes_lock);
}

static void clear_callbacks(struct vhost_vdpa *v)
{
	const struct vdpa_callback none = { .eventfd = -1 };

	vhost_dev_lock(v);
	for (u32 i = 0; i < v->dev->nvqs; i++)
		v->dev->ops->set_vq_cb(v->dev, (u16)i, &none);
	v->dev->ops->set_config_cb(v->dev, &none);
	vhost_dev_unlock(v);
}

struct vhost_vdpa *vhost_vdpa_open(unsigned n)
{
	struct vhost_vdpa *v = claim(n);
	int err;

	if (!v)
		return NULL;
	err = vdpa_reset(v->dev);
	if (err) {
		let_go(v);
		errno = -err;
		return NULL;
	}
	clear_callbacks(v);
	v->first = 0;
	v->last = UINT64_MAX;
	if (v->dev->ops->get_iova_range) {
		vhost_dev_lock(v);
		v->dev->ops->get_iova_range(v->dev, &v->first, &v->last);
		vhost_dev_unlock(v);
	}
	return v;
}

void vhost_vdpa_release(struct vhost_vdpa *v)
{
	int err = vdpa_reset(v->dev);

	if (err)
		log_info("vhost-vdpa-%u: reset: %d", v->n, err);
	clear_callbacks(v);
	vhost_vring_release(v);
	vhost_unmap_all(v);
	if (v->config_call >= 0)
		close(v->config_call);
	v->config_call = -1;
	v->owner = 0;
	v->features = v->backend_features = 0;
	v->in_batch = false;
	let_go(v);
}

unsigned vhost_vdpa_nodes(unsigned *n, unsigned room)
{
	unsigned count = 0;
	struct list *p;

	pthread_mutex_lock(&nodes_lock);
	list_for_each(p, &nodes) {
		if (count < room)
			n[count] = node_at(p)->n;
		count++;
	}
	pthread_mutex_unlock(&nodes_lock);
	return count;
}

int vhost_vdpa_node_of(const char *name)
{
	int n = -ENOENT;
	struct list *p;

	pthread_mutex_lock(&nodes_lock);
	list_for_each(p, &nodes)
		if (!strcmp(node_at(p)->dev->name, name))
			n = (int)node_at(p)->n;
	pthread_mutex_unlock(&nodes_lock);
	return n;
}
