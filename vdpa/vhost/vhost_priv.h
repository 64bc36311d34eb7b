/* SPDX-License-Identifier: MIT */
/* A node and its queues, as the files of vdpa/vhost share them. */
#ifndef VDPA_VHOST_PRIV_H
#define VDPA_VHOST_PRIV_H

#include <pthread.h>

#include "abi/vhost.h"
#include "vdpa/vdpa.h"
#include "vdpa/vhost/vhost.h"

#define VHOST_F_RING_PACKED (1ull << 34)

struct vhost_vq {
	int kick, call, err;	/* eventfds, -1 none */
	bool watched;		/* @kick is in the node's epoll */
	u32 num;
	u32 busyloop;
	u16 last_avail, last_used;	/* packed: bit 15 is the wrap counter */
};

struct vhost_vdpa {
	struct vdpa_device *dev;
	unsigned n;
	pthread_mutex_t lock;		/* of everything below */
	pid_t owner;			/* 0: none yet */
	u64 features;			/* acked */
	u64 backend_features;
	u64 first, last;		/* IOVAs */
	struct vhost_vq *vqs;
	int config_call;
	bool in_batch;
	u32 batch_asid;
	struct vdpa_iotlb **as;		/* per address space; NULL until first used */
	/* Kicks that the parent does not watch itself: epoll, and the thread in it. */
	int epoll, stop;
	pthread_t kicker;
	bool has_kicker;
	/* nodes.c */
	bool open, removed;
	struct list node;
};

/* Around a parent's operation. */
static inline void vhost_dev_lock(struct vhost_vdpa *v)
{
	pthread_mutex_lock(&v->dev->lock);
}

static inline void vhost_dev_unlock(struct vhost_vdpa *v)
{
	pthread_mutex_unlock(&v->dev->lock);
}

u8 vhost_get_status(struct vhost_vdpa *v);

/* vring.c */
long vhost_vring_ioctl(struct vhost_vdpa *v, struct vhost_call *c);
void vhost_vring_release(struct vhost_vdpa *v);

/* iotlb.c */
void vhost_unmap_all(struct vhost_vdpa *v);

/* The argument as a struct of @size, or -EFAULT. */
int vhost_arg(const struct vhost_call *c, void *to, size_t size);
void vhost_reply(struct vhost_call *c, const void *from, size_t size);
/* *@to becomes a duplicate of the eventfd @fd (-1: none). -EBADF, -EINVAL: not an eventfd; then *@to is -1. */
int vhost_take_eventfd(int fd, int *to);
/* The same for an int in an argument: -1 is "none", other negatives are -EBADF. */
int vhost_arg_eventfd(const struct vhost_call *c, int named, int *to);
/* A callback that signals @fd, or none for -1. */
struct vdpa_callback vhost_callback(int fd);

#endif
