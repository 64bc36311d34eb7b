// SPDX-License-Identifier: MIT
/* Port and MMIO dispatch. */
#include "vmm/iobus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

int iobus_init(struct iobus *b)
{
	memset(b, 0, sizeof(*b));
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->idle, NULL);
	return 0;
}

void iobus_exit(struct iobus *b)
{
	BUG_ON(b->nr);
	free(b->ranges);
	pthread_cond_destroy(&b->idle);
	pthread_mutex_destroy(&b->lock);
}

/* Index of the first range that ends above @addr; b->nr if none. */
static unsigned iobus_search(const struct iobus *b, u64 addr)
{
	unsigned lo = 0, hi = b->nr;

	while (lo < hi) {
		unsigned mid = lo + (hi - lo) / 2;

		if (b->ranges[mid]->start + (b->ranges[mid]->len - 1) < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int iobus_add(struct iobus *b, struct iobus_range *r)
{
	unsigned i;
	int ret = 0;

	if (!r->len || r->start + (r->len - 1) < r->start || !r->width || r->width > 8 ||
	    (r->width & (r->width - 1)))
		return -EINVAL;
	pthread_mutex_lock(&b->lock);
	i = iobus_search(b, r->start);
	if (i < b->nr && b->ranges[i]->start <= r->start + (r->len - 1)) {
		ret = -EEXIST;
		goto out;
	}
	if (b->nr == b->cap) {
		unsigned cap = max(b->cap * 2, 32u);
		struct iobus_range **ranges =
			realloc(b->ranges, cap * sizeof(struct iobus_range *));

		if (!ranges) {
			ret = -ENOMEM;
			goto out;
		}
		b->ranges = ranges;
		b->cap = cap;
	}
	memmove(b->ranges + i + 1, b->ranges + i, (b->nr - i) * sizeof(struct iobus_range *));
	b->ranges[i] = r;
	b->nr++;
	r->users = 0;
	r->removed = false;
out:
	pthread_mutex_unlock(&b->lock);
	return ret;
}

void iobus_remove(struct iobus *b, struct iobus_range *r)
{
	unsigned i;

	pthread_mutex_lock(&b->lock);
	i = iobus_search(b, r->start);
	BUG_ON(i == b->nr || b->ranges[i] != r);
	memmove(b->ranges + i, b->ranges + i + 1, (b->nr - i - 1) * sizeof(struct iobus_range *));
	b->nr--;
	r->removed = true;
	while (r->users)
		pthread_cond_wait(&b->idle, &b->lock);
	pthread_mutex_unlock(&b->lock);
}

/* The range that holds @addr, with a user counted, or NULL. */
static struct iobus_range *iobus_get(struct iobus *b, u64 addr)
{
	struct iobus_range *r = NULL;
	unsigned i;

	pthread_mutex_lock(&b->lock);
	i = iobus_search(b, addr);
	if (i < b->nr && b->ranges[i]->start <= addr) {
		r = b->ranges[i];
		r->users++;
	}
	pthread_mutex_unlock(&b->lock);
	return r;
}

static void iobus_put(struct iobus *b, struct iobus_range *r)
{
	pthread_mutex_lock(&b->lock);
	if (!--r->users && r->removed)
		pthread_cond_broadcast(&b->idle);
	pthread_mutex_unlock(&b->lock);
}

bool iobus_access(struct iobus *b, u64 addr, u8 *data, unsigned len, bool is_write)
{
	bool taken = false;

	if (!is_write)
		memset(data, 0xff, len);
	while (len) {
		struct iobus_range *r = iobus_get(b, addr);
		unsigned n = 1;

		if (r) {
			u64 off = addr - r->start;

			/* The largest naturally sized piece that the range takes. */
			n = len;
			while (n > r->width || n > r->len - off || (n & (n - 1)))
				n--;
			r->fn(r->ctx, off, data, n, is_write);
			iobus_put(b, r);
			taken = true;
		}
		addr += n;
		data += n;
		len -= n;
	}
	return taken;
}
