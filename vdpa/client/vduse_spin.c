// SPDX-License-Identifier: MIT
/*
 * Looking at a driver's ring for a moment; see the header.
 *
 * That used_event moves is enough not to interrupt: a driver sleeps only after
 * it has stored used_event and then found the used index to be the same. If it
 * sleeps on something older than what we are asked to tell it of, it had stored
 * that value before the used index went on, so it is the value that we saw
 * first, and it does not move.
 */
#include "vdpa/client/vduse_spin.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#define LOOKS 160		/* of a pause each: 2 to 7 us, by processor */
#define LOOKS_SEEN 80	/* without a sign that the driver looks at the ring at all */
#define MAX_RUN 128u		/* then the daemon gets to see to its other work */
#define MISSES 4u		/* about so many in a row before looks are left out */
#define MAX_BACKOFF 255u

void vduse_spin_init(struct vduse_spin *s, int fd, u64 iova, u32 num)
{
	u64 last = iova + (3 + (u64)num) * sizeof(u16) - 1, first = iova & PAGE_MASK;
	struct stat st;

	vduse_spin_exit(s);
	if (fd < 0 || !num || num > UINT16_MAX || iova % sizeof(u16) || last < iova || fstat(fd, &st) < 0 ||
	    last >= (u64)st.st_size)
		return;
	s->map_len = (size_t)(last + 1 - first);
	s->map = mmap(NULL, s->map_len, PROT_READ, MAP_SHARED, fd, (off_t)first);
	if (s->map == MAP_FAILED)
		return;
	s->avail = (const volatile u16 *)((const u8 *)s->map + (iova - first));
	s->num = (u16)num;
}

void vduse_spin_exit(struct vduse_spin *s)
{
	if (s->avail)
		munmap(s->map, s->map_len);
	s->avail = NULL;
}

static u16 avail_idx(const struct vduse_spin *s)
{
	return s->avail[1];
}

static u16 used_event(const struct vduse_spin *s)
{
	return s->avail[2 + s->num];
}

/* Drivers ask in vain only now and then (virtio/blk.c), so a few times are enough to leave out. */
static void in_vain(struct vduse_spin *s)
{
	s->run = 0;
	s->backoff = min(s->backoff * 2 + 1, MAX_BACKOFF);
	s->skip = s->backoff / MISSES;
}

bool vduse_spin(struct vduse_spin *s)
{
	u16 idx, event;
	bool seen = false;

	if (!s->avail)
		return false;
	if (s->skip || s->run >= MAX_RUN) {
		s->skip -= !!s->skip;
		s->run = 0;
		return false;
	}
	event = used_event(s);
	idx = avail_idx(s);
	for (unsigned i = 0; i < LOOKS; i++) {
		seen = used_event(s) != event;
		if (avail_idx(s) != idx) {
			s->run++;
			s->backoff = 0;
			return seen;
		}
		if (!seen && i >= LOOKS_SEEN)
			break;
		__builtin_ia32_pause();
	}
	in_vain(s);
	return seen;
}
