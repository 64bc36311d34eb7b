/* SPDX-License-Identifier: MIT */
/*
 * The vDPA bus: parents (management devices), devices, and the operations that
 * a device offers to its bus driver. Lives in the hub process; knows neither
 * sockets nor descriptors of clients, except the eventfds handed to it.
 *
 * Locking. The bus has one lock for names and lists, never held across a call
 * out of the bus. A device has a lock for its binding and one for its
 * configuration; functions here named vdpa_* take what they need. A parent's
 * operation is called with the device's configuration lock held unless it says
 * otherwise, and may block (a VDUSE daemon answers within its time-out).
 * Callbacks into the driver (vq, config) come from any thread, with no lock
 * held that an operation here takes; once set_vq_cb, set_config_cb or reset has
 * returned, a callback that was set before neither runs nor will. Lock order: binding, bus, configuration, the parent's own.
 */
#ifndef VDPA_VDPA_H
#define VDPA_VDPA_H

#include <pthread.h>

#include "base/list.h"
#include "base/types.h"
#include "vdpa/iotlb.h"

#define VDPA_NAME_MAX 255
#define VDPA_DRIVER_VHOST "vhost_vdpa"
#define VDPA_DRIVER_VIRTIO "virtio_vdpa"

struct vdpa_device;

struct vdpa_vq_state {
	union {
		struct { u16 avail; } split;
		struct { u16 avail_idx, used_idx; u8 avail_wrap, used_wrap; } packed;
	};
};

/* How a driver hears of its queue or of a configuration change; fn may be NULL. */
struct vdpa_callback {
	void (*fn)(void *arg);
	void *arg;
	int eventfd;		/* to be signalled directly if the parent can; -1 none. Stays the driver's. */
};

struct vdpa_vq_addr { u64 desc, driver, device; };	/* IOVAs */

struct vdpa_dma_info {
	int fd;				/* one file for all of it, offset = IOVA; stays the parent's */
	u64 bounce_size, iova_size;	/* see vdpa/vduse/domain.h */
};

/* Memory that a parent brings itself, beside the maps that vhost-vdpa makes. Device lock held. */
struct vdpa_dma_ops {
	int (*info)(struct vdpa_device *d, struct vdpa_dma_info *i);
	int (*bounce)(struct vdpa_device *d);	/* streaming mappings are about to be made */
	int (*alloc)(struct vdpa_device *d, u64 size, u64 *iova);
	int (*free)(struct vdpa_device *d, u64 iova, u64 size);
};

/*
 * What a parent implements. Optional operations may be NULL; the error then given is
 * in parentheses. Queue and group numbers have been checked against the device's counts.
 */
struct vdpa_config_ops {
	int (*set_vq_address)(struct vdpa_device *d, u16 vq, const struct vdpa_vq_addr *a);
	void (*set_vq_num)(struct vdpa_device *d, u16 vq, u32 num);
	void (*kick_vq)(struct vdpa_device *d, u16 vq);		/* any thread, device lock not held */
	void (*set_vq_cb)(struct vdpa_device *d, u16 vq, const struct vdpa_callback *cb);
	void (*set_vq_ready)(struct vdpa_device *d, u16 vq, bool ready);
	bool (*get_vq_ready)(struct vdpa_device *d, u16 vq);
	int (*set_vq_state)(struct vdpa_device *d, u16 vq, const struct vdpa_vq_state *s);
	int (*get_vq_state)(struct vdpa_device *d, u16 vq, struct vdpa_vq_state *s);
	/*
	 * Optional: an eventfd that the parent waits on, to which a driver's kick eventfd for
	 * @vq is equivalent, so that no thread of the hub need forward kicks (-EOPNOTSUPP).
	 * @fd -1 takes it away. The parent duplicates it.
	 */
	int (*set_vq_kickfd)(struct vdpa_device *d, u16 vq, int fd);
	u32 (*get_vq_align)(struct vdpa_device *d);
	u32 (*get_vq_group)(struct vdpa_device *d, u16 vq);	/* optional (-EOPNOTSUPP) */
	u16 (*get_vq_num_max)(struct vdpa_device *d);
	u16 (*get_vq_num_min)(struct vdpa_device *d);		/* optional (1) */
	u64 (*get_device_features)(struct vdpa_device *d);
	int (*set_driver_features)(struct vdpa_device *d, u64 features);
	u64 (*get_driver_features)(struct vdpa_device *d);
	void (*set_config_cb)(struct vdpa_device *d, const struct vdpa_callback *cb);
	u32 (*get_device_id)(struct vdpa_device *d);
	u32 (*get_vendor_id)(struct vdpa_device *d);
	u8 (*get_status)(struct vdpa_device *d);
	void (*set_status)(struct vdpa_device *d, u8 status);	/* never 0: reset is its own */
	int (*reset)(struct vdpa_device *d);
	int (*suspend)(struct vdpa_device *d);			/* optional (-EOPNOTSUPP) */
	int (*resume)(struct vdpa_device *d);			/* optional (-EOPNOTSUPP) */
	size_t (*get_config_size)(struct vdpa_device *d);
	void (*get_config)(struct vdpa_device *d, u32 off, void *buf, u32 len);
	void (*set_config)(struct vdpa_device *d, u32 off, const void *buf, u32 len);
	u32 (*get_generation)(struct vdpa_device *d);		/* optional (0) */
	void (*get_iova_range)(struct vdpa_device *d, u64 *first, u64 *last);	/* optional (all) */
	int (*set_group_asid)(struct vdpa_device *d, u32 group, u32 asid);	/* optional (-EOPNOTSUPP) */
	/* Memory: the whole table of an address space, or range by range; or neither. */
	int (*set_map)(struct vdpa_device *d, u32 asid, const struct vdpa_iotlb *table);
	int (*dma_map)(struct vdpa_device *d, u32 asid, const struct vdpa_map *m);
	int (*dma_unmap)(struct vdpa_device *d, u32 asid, u64 start, u64 last);
	/* Optional: doorbell page of @vq as a file to be mapped: descriptor and offset (-EOPNOTSUPP). */
	int (*get_doorbell)(struct vdpa_device *d, u16 vq, int *fd, u64 *off);
	/* Optional, vendor statistics: name and value number @i of @vq; -ENOENT ends (-EOPNOTSUPP). */
	int (*get_vendor_stat)(struct vdpa_device *d, u16 vq, unsigned i, const char **name, u64 *value);
	/*
	 * Optional, for a driver in another process: a file of struct vduse_page_vq's, one a queue, that the
	 * parent keeps (-EOPNOTSUPP), and the eventfd by which that driver may kick @vq itself while the
	 * queue's kick counter is *@seq (-ENOENT: none now). Both stay the parent's.
	 */
	int (*get_page)(struct vdpa_device *d);
	int (*get_kickfd)(struct vdpa_device *d, u16 vq, u32 *seq);
	/* Optional: memory of the parent's own for in-process drivers. */
	const struct vdpa_dma_ops *dma;
	/* The bus has no reference any more. */
	void (*free)(struct vdpa_device *d);
};

struct vdpa_mgmtdev;

struct vdpa_device {
	const struct vdpa_config_ops *ops;
	struct vdpa_mgmtdev *mgmt;
	char name[VDPA_NAME_MAX + 1];
	u32 nvqs, ngroups, nas;
	bool use_va;			/* wants files behind user addresses: VDUSE */
	pthread_mutex_t lock;
	/* bus only */
	struct list node;
	struct vdpa_driver *driver;	/* bound to, or NULL */
	void *driver_data;
	char override[32];		/* driver_override; empty = any */
	pthread_mutex_t bind;		/* held over probe and remove */
	bool deleting;
	bool features_valid;
	unsigned refs;
};

/*
 * A bus driver. probe: 0 or -errno (the next driver is asked). remove: may block until its
 * last user is gone. Both are called with the device's binding lock held and no other.
 */
struct vdpa_driver {
	const char *name;
	int (*probe)(struct vdpa_device *d);
	void (*remove)(struct vdpa_device *d);
	struct list node;
};

/* ---- Parents ---- */

/* What `vdpa dev add` gives; mask of VDPA_ATTR_* that were given. */
struct vdpa_dev_attrs {
	u64 mask;
	u8 mac[6];
	u16 mtu;
	u16 max_vqp;
	u64 features;
	const char **why;	/* optional: where a text goes that explains a refusal */
};
#define VDPA_ATTR_MAC (1ull << 10)	/* bit numbers = netlink attribute numbers */
#define VDPA_ATTR_MAX_VQP (1ull << 12)
#define VDPA_ATTR_MTU (1ull << 13)
#define VDPA_ATTR_FEATURES (1ull << 20)

static inline int vdpa_refuse(const struct vdpa_dev_attrs *a, int err, const char *why)
{
	if (a->why)
		*a->why = why;
	return err;
}

struct vdpa_mgmtdev {
	const char *bus;		/* "pci", or NULL for software parents */
	const char *name;
	u64 classes;			/* bit n = virtio device id n */
	u64 attr_mask;			/* VDPA_ATTR_* accepted */
	u64 features;
	u32 max_vqs;
	/* Create and register (vdpa_register()) a device of that name. */
	int (*dev_add)(struct vdpa_mgmtdev *m, const char *name, const struct vdpa_dev_attrs *a);
	/*
	 * Unregister @d (vdpa_unregister()), which may block. Called once for a device, with no
	 * lock held; the caller has a reference.
	 */
	void (*dev_del)(struct vdpa_mgmtdev *m, struct vdpa_device *d);
	struct list node;
};

int vdpa_mgmtdev_register(struct vdpa_mgmtdev *m);	/* -EEXIST: name taken */
void vdpa_mgmtdev_unregister(struct vdpa_mgmtdev *m);	/* deletes its devices */
/* Management devices live as long as the process, or their owner knows that nobody looks. */
struct vdpa_mgmtdev *vdpa_mgmtdev_find(const char *bus, const char *name);	/* @bus NULL: software parent */

/* ---- Bus ---- */

/* Fill in the common fields; ops, name, counts. The object has one reference, the caller's. */
void vdpa_device_init(struct vdpa_device *d, struct vdpa_mgmtdev *m, const struct vdpa_config_ops *ops,
		      const char *name, u32 nvqs, u32 ngroups, u32 nas);
/*
 * Put on the bus, which takes its own reference, and bind; that no driver takes it is no error.
 * -EEXIST: name taken. -EINVAL: groups or address spaces without a map operation.
 */
int __must_check vdpa_register(struct vdpa_device *d);
/* Unbind (may block until the driver's users are gone), take off the bus, drop the bus's reference. */
void vdpa_unregister(struct vdpa_device *d);
/*
 * As `vdpa dev del`: through the parent's dev_del, and may block likewise. -ENODEV: no such
 * device; -EBUSY: somebody else is at it.
 */
int vdpa_delete(const char *name);
struct vdpa_device *vdpa_find(const char *name);	/* with a reference; NULL */
struct vdpa_device *vdpa_get(struct vdpa_device *d);
void vdpa_put(struct vdpa_device *d);

int vdpa_driver_register(struct vdpa_driver *drv);	/* binds what is unbound and matches */
void vdpa_driver_unregister(struct vdpa_driver *drv);
/*
 * Bind to the driver of that name instead ("" = any). As writing driver_override and re-binding.
 * 0, -ENODEV (no such driver), or the probe's error.
 */
int vdpa_bind(struct vdpa_device *d, const char *driver);

/*
 * Walks; a non-zero result stops and is returned. Devices: over a snapshot, with a reference
 * each and no lock, so some may be off the bus already. -ENOMEM. Management devices: under the bus lock.
 */
int vdpa_for_each(int (*fn)(void *arg, struct vdpa_device *d), void *arg);
int vdpa_mgmtdev_for_each(int (*fn)(void *arg, struct vdpa_mgmtdev *m), void *arg);

/*
 * For whom this thread works: a descriptor that hangs up when nobody waits for the result any more, so that a
 * parent that blocks may give up. -1: nobody can leave. The hub sets it.
 */
extern _Thread_local int vdpa_caller;

/* ---- Operations with the rules of the bus in them; all take the device lock ---- */

int vdpa_reset(struct vdpa_device *d);
void vdpa_set_status(struct vdpa_device *d, u8 status);
int vdpa_set_features(struct vdpa_device *d, u64 features);
/* Before negotiation: driver features 0 are set first ("legacy guest"). */
void vdpa_get_config(struct vdpa_device *d, u32 off, void *buf, u32 len);
void vdpa_set_config(struct vdpa_device *d, u32 off, const void *buf, u32 len);

#endif
