/* SPDX-License-Identifier: MIT */
/*
 * A VDUSE device, inside. One lock covers all of it; waits for a daemon's
 * reply, and callbacks into the driver, are made without it. Lock order: the
 * list of devices (control.c), then a device's lock. The bus's device lock may
 * be held when either is taken, never the other way round.
 */
#ifndef VDPA_VDUSE_PRIV_H
#define VDPA_VDUSE_PRIV_H

#include <pthread.h>

#include "base/list.h"
#include "vdpa/vdpa.h"
#include "vdpa/vduse/domain.h"
#include "vdpa/vduse/page.h"
#include "vdpa/vduse/sock.h"
#include "vdpa/vduse/vduse.h"

struct vduse_vq {
	u16 num_max;			/* 0: not set up yet */
	u32 group;
	bool ready, kicked;
	u32 num;
	struct vdpa_vq_addr addr;
	struct vdpa_vq_state state;
	int kickfd;			/* the daemon's, or -1 */
	struct vdpa_callback cb;
	unsigned calls;			/* callbacks that run now */
};

struct vduse_dev {
	struct list node;
	char name[VDUSE_NAME_MAX];
	u64 api_version;
	u32 device_id, vendor_id, nvqs, align;
	u64 features;
	u32 ngroups, nas;		/* 1 before API version 1 */
	u32 config_size;
	u8 *config;
	struct vduse_vq *vqs;
	int page_fd;
	struct vduse_page_vq *page;

	pthread_mutex_t lock;
	bool connected;			/* somebody has it open */

	/* Messages: unsent ones wait in @send, sent ones in @recv. msg.c */
	struct list send, recv;
	u32 next_id;
	unsigned timeout;
	bool broken;
	struct vduse_sock sock;
	bool connected_sock;		/* false: its reader ends */
	int epoll;			/* what the reader waits for */
	pthread_t reader;

	/* As the driver sees it. */
	u8 status;
	u64 driver_features;
	u32 generation;
	struct vdpa_callback config_cb;
	unsigned config_calls;
	pthread_cond_t quiet;		/* a callback has returned */

	struct vduse_vdpa *vdpa;	/* attached to the bus, or NULL */
	struct vdpa_iotlb **as;		/* address spaces; all but the first may be NULL, which is empty */
	u32 *group_as;			/* the address space of each group */
	u64 bounce_size;
	bool was_attached;
	struct vdpa_domain domain;	/* exists while attached */
	struct { bool set; u64 uaddr; } umem;
};

/* Attached: what the bus sees. */
struct vduse_vdpa {
	struct vdpa_device vdev;
	struct vduse_dev *d;
};

/* control.c */
extern struct vdpa_mgmtdev vduse_mgmt;
/* With the list locked, which vduse_unlock_list() ends, whether found or not. */
struct vduse_dev *vduse_lookup(const char *name);
void vduse_lock_list(void);
void vduse_unlock_list(void);

/* msg.c */
int vduse_msg_init(struct vduse_dev *d);
/* Fill in type and union of @req; 0 or -EIO: failed, timed out, broken. Lock not held. */
int vduse_msg_send(struct vduse_dev *d, struct vduse_dev_request *req, struct vduse_dev_response *resp);
/* A daemon comes (returns its descriptor or -errno) and goes. Lock held; connect and disconnect are serialized. */
int vduse_msg_connect(struct vduse_dev *d);
void vduse_msg_disconnect(struct vduse_dev *d);

/* ops.c */
void vduse_local_reset(struct vduse_dev *d);	/* all but the message; lock held, dropped meanwhile */
/* Call a callback whose running ones @calls counts. Lock held, dropped meanwhile. */
void vduse_call(struct vduse_dev *d, const struct vdpa_callback *cb, unsigned *calls);
void vduse_signal(int eventfd);

static inline void vduse_page_changed(_Atomic u32 *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_seq_cst);
}

#endif
