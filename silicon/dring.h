/* SPDX-License-Identifier: MIT */
/*
 * The device's side of a split virtqueue, as hardware sees it: addresses lead
 * through a DMA port, and everything that the driver wrote may be wrong.
 *
 * Not thread-safe: the owner serialises the calls on one ring.
 * Source: VIRTIO 1.1 "Split Virtqueues".
 */
#ifndef SILICON_DRING_H
#define SILICON_DRING_H

#include <sys/types.h>

#include "base/types.h"

#define DRING_MAX_NUM 32768u

/*
 * Where the ring and the buffers are. Each returns 0, or what the access met:
 * -EINVAL nothing there, -EPERM not in this direction, -EFAULT the memory is
 * gone, -ENOBUFS a 16-bit word lies in two mappings.
 */
struct dring_port {
	int (*read)(void *ctx, u64 addr, void *buf, size_t len);
	int (*write)(void *ctx, u64 addr, const void *buf, size_t len);
	int (*load16)(void *ctx, u64 addr, u16 *v);	/* acquire */
	int (*store16)(void *ctx, u64 addr, u16 v);	/* release */
};

struct dring_seg { u64 addr; u32 len; };

/*
 * The buffers of one direction of a chain, and how far they are consumed.
 * Zero-initialise. The array is kept from chain to chain, until _free().
 */
struct dring_iov {
	struct dring_seg *seg;
	u32 max;		/* of seg[] */
	u32 used;		/* entries */
	u32 i;			/* the current one */
	u32 consumed;		/* bytes of it */
};

/* Bytes left. */
u64 dring_iov_length(const struct dring_iov *iov);
/* Move on by @len bytes, or to the end. Returns by how many. */
u64 dring_iov_advance(struct dring_iov *iov, u64 len);
/* Back to the first byte. */
void dring_iov_rewind(struct dring_iov *iov);
void dring_iov_free(struct dring_iov *iov);

struct dring {
	const struct dring_port *port;
	void *ctx;
	u64 desc, avail, used;
	u16 num;
	bool event_idx, indirect;	/* negotiated */
	u16 last_avail;			/* next chain to be taken */
	u16 last_used;			/* next used entry to be written */
	u16 signalled;			/* last_used at the last need_notify */
};

/*
 * A ring at its start, or anywhere else: @avail is the position of both indexes.
 * -EINVAL: @num is no power of two up to DRING_MAX_NUM, or an address is not aligned.
 */
int __must_check dring_setup(struct dring *v, u32 num, u64 desc, u64 avail, u64 used, u16 position);

/*
 * Take the next chain. @r or @w NULL: no buffer of that direction is expected.
 * Both are emptied first. Returns 1 and the @head for dring_complete(); 0: none there;
 * and with the ring's position unchanged
 * -EINVAL: an index is beyond its table, a readable buffer follows a writable one, a bad
 *          indirect table, or more chains offered than the ring holds;
 * -ELOOP:  the chain is longer than the ring;
 * -EPROTO: a buffer of an unexpected direction;
 * -ENOMEM, and the port's errors.
 */
int __must_check dring_getdesc(struct dring *v, struct dring_iov *r, struct dring_iov *w, u16 *head);

/* Copy at most @len bytes and move on. Returns the bytes, fewer only at the end; or the port's error. */
ssize_t __must_check dring_pull(struct dring *v, struct dring_iov *r, void *buf, size_t len);
ssize_t __must_check dring_push(struct dring *v, struct dring_iov *w, const void *buf, size_t len);

/* Give chain @head back with @len bytes written. 0 or the port's error. */
int __must_check dring_complete(struct dring *v, u16 head, u32 len);
/* 1: the driver wants an interrupt for what was completed since the last call; 0: not; or the port's error. */
int __must_check dring_need_notify(struct dring *v);

/* Ask for kicks again. 1: chains came meanwhile, look again; 0: none; or the port's error. */
int __must_check dring_notify_enable(struct dring *v);
/* Kicks are not needed for now. A hint: errors do not matter. */
void dring_notify_disable(struct dring *v);

#endif
