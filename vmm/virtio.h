/* SPDX-License-Identifier: MIT */
/*
 * Virtio devices: what device models and the PCI transport share.
 * Source: OASIS "Virtual I/O Device (VIRTIO) Version 1.1".
 *
 * Each device has a lock and a thread of its own. The thread waits for
 * notifications and for the model's descriptors; all of a model's operations
 * run under the lock.
 */
#ifndef VMM_VIRTIO_H
#define VMM_VIRTIO_H

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/types.h"
#include "vmm/mem.h"
#include "vmm/virtq.h"

#define VIRTIO_MAX_QUEUES 2
#define VIRTIO_MAX_POLLFDS 512

struct virtio_dev;

struct virtio_ops {
	const char *name;
	u16 id;
	u32 pci_class;			/* class code << 8 */
	unsigned nr_queues;
	u16 queue_size;			/* power of two, up to VIRTQ_MAX_SIZE */
	/* Configuration space; bytes beyond it read as zero. config_read() fills in all of it. */
	unsigned config_len;
	void (*config_read)(struct virtio_dev *d, u8 *config);
	/* Optional: the driver wrote one byte-range. */
	void (*config_write)(struct virtio_dev *d, unsigned off, const u8 *data, unsigned len);
	/* Buffers may be available in queue @q. */
	void (*notify)(struct virtio_dev *d, unsigned q);
	/* Optional: the driver reset the device. */
	void (*reset)(struct virtio_dev *d);
	/*
	 * Optional, for models that wait for more than notifications: add
	 * descriptors to @fds (at most @max), lower *@timeout_ms; then look at the
	 * same @n results. poll_done() may push buffers only if virtio_running().
	 */
	unsigned (*poll_fill)(struct virtio_dev *d, struct pollfd *fds, unsigned max,
			      int *timeout_ms);
	void (*poll_done)(struct virtio_dev *d, const struct pollfd *fds, unsigned n, bool error);
	/*
	 * Optional, for models that may wait for others without bound: the machine ends, and an operation that
	 * runs now shall return soon, whatever becomes of its request. From another thread, lock not held.
	 */
	void (*abandon)(struct virtio_dev *d);
};

struct virtio_dev {
	const struct virtio_ops *ops;
	const struct vmm_mem *mem;
	u64 features;			/* offered, without those of the transport */
	pthread_mutex_t lock;

	/* Under the lock. */
	u64 driver_features;
	u8 status;
	struct virtq vq[VIRTIO_MAX_QUEUES];
	int kick_fd[VIRTIO_MAX_QUEUES];

	/* Transport: raise a queue's or (q < 0) the configuration interrupt. Lock held. */
	void (*raise)(struct virtio_dev *d, int q);
	void *transport;

	pthread_t thread;
	bool started;
	int stop_fd;
	_Atomic bool stop;
};

/* @d is zeroed, ops, mem, features set. Returns 0 or -errno with nothing held. */
int virtio_init(struct virtio_dev *d);
/* Start the thread, once the transport is ready. */
int virtio_start(struct virtio_dev *d);
/*
 * Stop the thread, once it has finished the request it is at, or VIRTIO_STOP_MS later if the model can abandon
 * that: no operation of the model runs afterwards. Harmless twice.
 */
#define VIRTIO_STOP_MS 2000
void virtio_stop(struct virtio_dev *d);
void virtio_exit(struct virtio_dev *d);

/* All features that a driver may choose from. */
u64 virtio_offered(const struct virtio_dev *d);
bool virtio_running(const struct virtio_dev *d);
bool virtio_has(const struct virtio_dev *d, unsigned feature);

/* Device status register. Lock held. */
void virtio_set_status(struct virtio_dev *d, u8 status);
/* The driver broke the rules: stop serving until it resets the device. Lock held. */
void virtio_broken(struct virtio_dev *d, const char *why);

/* Next chain of queue @q: true, or false if there is none or the queue is broken. Lock held. */
bool virtio_pop(struct virtio_dev *d, unsigned q, struct virtq_chain *c);
/* Give a chain back with @len bytes written. Interrupts wait for virtio_flush(). */
void virtio_push(struct virtio_dev *d, unsigned q, const struct virtq_chain *c, u32 len);
/* Interrupt the driver for what was pushed, if it wants to know. */
void virtio_flush(struct virtio_dev *d, unsigned q);

#endif
