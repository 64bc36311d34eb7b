// SPDX-License-Identifier: MIT
/*
 * The vhost IOTLB as a sorted array.
 *
 * Tables are short (2048 entries by default), lookups are what counts: a
 * binary search over consecutive memory beats any tree here, and a change
 * moves at most a few pages of it.
 */
#include "vdpa/iotlb.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

struct vdpa_iotlb {
	struct vdpa_map *map;
	unsigned count, room, limit;
};

struct vdpa_iotlb *vdpa_iotlb_new(unsigned limit)
{
	struct vdpa_iotlb *t = calloc(1, sizeof(*t));

	if (t)
		t->limit = limit;
	return t;
}

static void drop(struct vdpa_map *map, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (map[i].mem)
			vdpa_mem_put(map[i].mem);
}

void vdpa_iotlb_free(struct vdpa_iotlb *t)
{
	if (!t)
		return;
	drop(t->map, t->count);
	free(t->map);
	free(t);
}

/* The first entry that ends at or behind @at, as an index. */
static unsigned search(const struct vdpa_iotlb *t, u64 at)
{
	unsigned lo = 0, hi = t->count;

	while (lo < hi) {
		unsigned mid = lo + (hi - lo) / 2;

		if (t->map[mid].last < at)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int make_room(struct vdpa_iotlb *t, unsigned more)
{
	unsigned room = t->room ? t->room : 16;
	struct vdpa_map *map;

	if (t->limit && more > t->limit - t->count)
		return -ENOSPC;
	while (room < t->count + more)
		room *= 2;
	if (room == t->room)
		return 0;
	map = realloc(t->map, room * sizeof(*map));
	if (!map)
		return -ENOMEM;
	t->map = map;
	t->room = room;
	return 0;
}

static void insert(struct vdpa_iotlb *t, unsigned at, const struct vdpa_map *m)
{
	memmove(&t->map[at + 1], &t->map[at], (t->count - at) * sizeof(*m));
	t->map[at] = *m;
	if (m->mem)
		vdpa_mem_get(m->mem);
	t->count++;
}

int vdpa_iotlb_add(struct vdpa_iotlb *t, const struct vdpa_map *m)
{
	bool whole = m->start == 0 && m->last == UINT64_MAX;
	unsigned at = search(t, m->start);
	int err;

	if (m->last < m->start)
		return -EFAULT;
	if (at < t->count && t->map[at].start <= m->last)
		return -EEXIST;
	err = make_room(t, whole ? 2 : 1);
	if (err)
		return err;
	if (whole) {
		/* A size of 2^64 fits no u64: two halves, for whoever computes sizes. */
		struct vdpa_map low = *m, high = *m;

		low.last = UINT64_MAX / 2;
		high.start = low.last + 1;
		high.off = m->off + high.start;
		insert(t, 0, &low);
		insert(t, 1, &high);
	} else {
		insert(t, at, m);
	}
	return 0;
}

unsigned vdpa_iotlb_del(struct vdpa_iotlb *t, u64 start, u64 last)
{
	unsigned from = search(t, start), to = from;

	while (to < t->count && t->map[to].start <= last)
		to++;
	drop(&t->map[from], to - from);
	/* An empty table has no array to move in. */
	if (to > from)
		memmove(&t->map[from], &t->map[to], (t->count - to) * sizeof(*t->map));
	t->count -= to - from;
	return to - from;
}

const struct vdpa_map *vdpa_iotlb_find(const struct vdpa_iotlb *t, u64 start, u64 last)
{
	unsigned at = search(t, start);

	return at < t->count && t->map[at].start <= last ? &t->map[at] : NULL;
}

const struct vdpa_map *vdpa_iotlb_next(const struct vdpa_iotlb *t, const struct vdpa_map *m)
{
	return m + 1 < t->map + t->count ? m + 1 : NULL;
}

unsigned vdpa_iotlb_count(const struct vdpa_iotlb *t)
{
	return t->count;
}

int vdpa_iotlb_copy(struct vdpa_iotlb *t, const struct vdpa_iotlb *from)
{
	struct vdpa_map *map = NULL;

	if (t == from)
		return 0;
	if (t->limit && from->count > t->limit)
		return -ENOSPC;
	if (from->count) {
		map = malloc(from->count * sizeof(*map));
		if (!map)
			return -ENOMEM;
		memcpy(map, from->map, from->count * sizeof(*map));
	}
	/* Take the new references before the old ones go: some are the same. */
	for (unsigned i = 0; i < from->count; i++)
		if (map[i].mem)
			vdpa_mem_get(map[i].mem);
	drop(t->map, t->count);
	free(t->map);
	t->map = map;
	t->count = t->room = from->count;
	return 0;
}

/* Entry by entry; the whole range is looked at before the first byte moves. */
static int copy(const struct vdpa_iotlb *t, u64 iova, void *buf, size_t len, u8 perm)
{
	u64 at = iova, last = iova + (len - 1);

	if (!len)
		return 0;
	if (last < iova)
		return -EINVAL;
	for (unsigned i = search(t, iova);; i++) {
		const struct vdpa_map *m = &t->map[i];

		if (i >= t->count || m->start > at || !m->mem)
			return -EINVAL;
		if (!(m->perm & perm))
			return -EPERM;
		if (m->last >= last)
			break;
		at = m->last + 1;
	}
	for (unsigned i = search(t, iova);; i++) {
		const struct vdpa_map *m = &t->map[i];
		size_t n = (size_t)(min(m->last, last) - iova) + 1;
		u64 off = m->off + (iova - m->start);
		int err = perm == VDPA_RO ? vdpa_mem_read(m->mem, off, buf, n) :
					    vdpa_mem_write(m->mem, off, buf, n);

		if (err)
			return err;
		if (m->last >= last)
			return 0;
		iova += n;
		buf = (char *)buf + n;
	}
}

int vdpa_iotlb_read(const struct vdpa_iotlb *t, u64 iova, void *buf, size_t len)
{
	return copy(t, iova, buf, len, VDPA_RO);
}

int vdpa_iotlb_write(const struct vdpa_iotlb *t, u64 iova, const void *buf, size_t len)
{
	return copy(t, iova, (void *)(uintptr_t)buf, len, VDPA_WO);
}
