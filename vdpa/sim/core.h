/* SPDX-License-Identifier: MIT */
/*
 * What the simulators share: state of a device, its queues and address spaces,
 * and the worker that serves the queues one after the other.
 */
#ifndef VDPA_SIM_CORE_H
#define VDPA_SIM_CORE_H

#include <pthread.h>

#include "vdpa/callback.h"
#include "vdpa/sim/sim.h"
#include "vdpa/vringh.h"

#define VDPASIM_QUEUE_MAX 256
#define VDPASIM_QUEUE_ALIGN 4096
#define VDPASIM_MAX_VQS 3
#define VDPASIM_MAX_AS 2
#define VDPASIM_MAX_CONFIG 128
/* Requests of one queue after which others get their turn. */
#define VDPASIM_BUDGET 5

struct vdpasim;

struct vdpasim_vq {
	struct vringh vring;
	struct dring_iov out, in;	/* of the chain being served */
	struct vdpa_vq_addr addr;
	u32 num;
	bool ready;
	bool notify;			/* call back at the end of this run */
	struct vdpa_callback cb;
	int kickfd;
};

struct vdpasim_type {
	u32 device_id;
	u32 nvqs, ngroups, nas;
	u64 features;
	size_t config_size;
	u32 (*vq_group)(u16 vq);
	/* Serve the queues; lock held. True: there may be more to do. */
	bool (*work)(struct vdpasim *s);
	int (*init)(struct vdpasim *s, const struct vdpa_dev_attrs *a);
	void (*exit)(struct vdpasim *s);
	/* Optional: @len bytes at @off, within the configuration, were written by the driver. Lock held. */
	void (*set_config)(struct vdpasim *s, u32 off, const u8 *buf, u32 len);
	/* Optional: statistic number @i of @vq, -ENOENT behind the last. Lock held. */
	int (*stat)(struct vdpasim *s, u16 vq, unsigned i, const char **name, u64 *value);
};

struct vdpasim {
	struct vdpa_device vdpa;
	const struct vdpasim_type *type;
	void *priv;			/* the type's */
	u64 supported;
	/* Who wants @lock takes @gate first, so that a busy worker does not take it again at once. */
	pthread_mutex_t gate;
	/* All below, but for the address spaces. */
	pthread_mutex_t lock;
	pthread_cond_t called;
	bool calling;			/* the worker is in callbacks */
	bool kicked, running, suspended, stop;
	u8 status;
	u64 features;
	u32 generation;
	u8 config[VDPASIM_MAX_CONFIG];
	struct vdpasim_vq vq[VDPASIM_MAX_VQS];
	u32 group_as[VDPASIM_MAX_AS];
	u64 runs;
	/* After @lock: the address spaces. */
	pthread_mutex_t iotlb_lock;
	struct vdpa_iotlb *as[VDPASIM_MAX_AS];
	int wake, epoll;
	pthread_t worker;
	bool has_worker;
};

static inline struct vdpasim *to_sim(struct vdpa_device *d)
{
	return container_of(d, struct vdpasim, vdpa);
}

void vdpasim_lock(struct vdpasim *s);
void vdpasim_unlock(struct vdpasim *s);

/* Give @head back and call the driver at the end of the run if it wants that. False: the ring is broken. */
bool vdpasim_complete(struct vdpasim_vq *vq, u16 head, u32 len);

int vdpasim_create(struct vdpa_mgmtdev *m, const struct vdpasim_type *type, const struct vdpasim_params *p,
		   const char *name, const struct vdpa_dev_attrs *a);


extern const struct vdpasim_type vdpasim_blk_type, vdpasim_net_type;

#endif
