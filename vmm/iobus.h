/* SPDX-License-Identifier: MIT */
/*
 * Ports or MMIO: address ranges and their handlers. One bus each, one handler
 * prototype for both.
 *
 * Any thread may access, add and remove. Handlers run without any lock of the
 * bus, so they may sleep, and add or remove other ranges; a handler must not
 * remove its own range. When iobus_remove() returns, no handler of the range
 * is running any more and none will start.
 */
#ifndef VMM_IOBUS_H
#define VMM_IOBUS_H

#include <pthread.h>

#include "base/types.h"

/*
 * @off: from the range's start; [off, off + len) is inside the range.
 * @data: little-endian; a read finds it all ones.
 * @len: 1..range width, a power of two.
 */
typedef void (*iobus_fn)(void *ctx, u64 off, u8 *data, unsigned len, bool is_write);

struct iobus_range {
	u64 start, len;
	unsigned width;		/* widest access that @fn takes: 1, 2, 4, 8; wider ones are split */
	iobus_fn fn;
	void *ctx;
	/* Bus only. */
	unsigned users;
	bool removed;
};

struct iobus {
	pthread_mutex_t lock;
	pthread_cond_t idle;
	/*
	 * Disjoint, so order by start is order by end: binary search finds the one that holds an
	 * address.
	 */
	struct iobus_range **ranges;
	unsigned nr, cap;
};

int iobus_init(struct iobus *b);
void iobus_exit(struct iobus *b);

/*
 * @r stays the caller's and must live until iobus_remove(). Returns 0; -EINVAL
 * for an empty or wrapping range or a bad width; -EEXIST on overlap; -ENOMEM.
 */
int __must_check iobus_add(struct iobus *b, struct iobus_range *r);
/* @r must be on the bus. */
void iobus_remove(struct iobus *b, struct iobus_range *r);

/*
 * One access of @len (1..8) bytes. What nobody answers reads as all ones and
 * swallows writes. Returns true if a handler took any part of it.
 */
bool iobus_access(struct iobus *b, u64 addr, u8 *data, unsigned len, bool is_write);

#endif
