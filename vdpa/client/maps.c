// SPDX-License-Identifier: MIT
/*
 * Addresses to files, by /proc/self/maps.
 *
 * The kernel names the file of a mapping by device and inode. A descriptor of
 * it is found, in this order, among those that the program has open (which is
 * where memfds are), below /proc/self/map_files (for the privileged), and by
 * its name. The file that a name leads to now counts only if it is the same.
 */
#include "vdpa/client/maps.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct area {
	u64 start, end, off;
	dev_t dev;
	ino_t ino;
	bool shared, writable;
	const char *path;
};

/* One line: "start-end perms offset major:minor inode   path". */
static bool parse_line(char *line, struct area *a)
{
	unsigned long start, end, off, ino;
	unsigned maj, min_;
	char perms[5];
	int at = 0;

	if (sscanf(line, "%lx-%lx %4s %lx %x:%x %lu %n", &start, &end, perms, &off, &maj, &min_, &ino, &at) < 7)
		return false;
	line[strcspn(line, "\n")] = 0;
	*a = (struct area){
		.start = start, .end = end, .off = off, .dev = makedev(maj, min_), .ino = ino,
		.writable = perms[1] == 'w', .shared = perms[3] == 's', .path = line + at,
	};
	return true;
}

static bool is_file_of(int fd, const struct area *a, bool device_too)
{
	struct stat st;

	return !fstat(fd, &st) && st.st_ino == a->ino && (!device_too || st.st_dev == a->dev) &&
	       S_ISREG(st.st_mode);
}

static bool good_for(int fd, const struct area *a)
{
	int mode = fcntl(fd, F_GETFL);

	if (mode < 0 || (mode & O_PATH))
		return false;
	mode &= O_ACCMODE;
	return mode == O_RDWR || (mode == O_RDONLY && !a->writable);
}

static int find_open(const struct area *a)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	int found = -1;

	while (d && found < 0 && (e = readdir(d))) {
		int fd = atoi(e->d_name);

		if (e->d_name[0] != '.' && fd != dirfd(d) && is_file_of(fd, a, true) && good_for(fd, a))
			found = fd;
	}
	if (d)
		closedir(d);
	return found;
}

static int open_anew(const struct area *a)
{
	int flags = (a->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC, fd;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)a->start, (unsigned long)a->end);
	fd = open(path, flags);
	if (fd < 0 && a->path[0] == '/')
		fd = open(a->path, flags | O_NOFOLLOW | O_NONBLOCK);
	/* File systems of several layers show another device here than there. */
	if (fd >= 0 && !is_file_of(fd, a, false)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

struct search {
	int *fds;
	bool *opened;
	unsigned *nfds;
};

/* The index of the file of @a among the descriptors, or -1: no descriptor, or no room for one more. */
static s32 file_of(struct search *s, const struct area *a)
{
	int fd;

	if (!a->shared || !a->ino)
		return -1;
	for (unsigned i = 0; i < *s->nfds; i++)
		if (is_file_of(s->fds[i], a, true) && good_for(s->fds[i], a))
			return (s32)i;
	if (*s->nfds == VDPA_MSG_FDS)
		return -1;
	fd = find_open(a);
	s->opened[*s->nfds] = fd < 0;
	if (fd < 0)
		fd = open_anew(a);
	if (fd < 0)
		return -1;
	s->fds[*s->nfds] = fd;
	return (s32)(*s->nfds)++;
}

static bool goes_on(const struct vhost_wire_piece *p, const struct vhost_wire_piece *next)
{
	return p->fd == next->fd && p->writable == next->writable && (p->fd < 0 || p->off + p->len == next->off);
}

unsigned vdpa_maps_pieces(u64 uaddr, u64 size, struct vhost_wire_piece *pieces, unsigned room, int *fds,
			  bool *opened, unsigned *nfds)
{
	struct search s = { fds, opened, nfds };
	FILE *maps = fopen("/proc/self/maps", "re");
	u64 at = uaddr, end = uaddr + size;
	size_t line_room = 0;
	char *line = NULL;
	unsigned n = 0;
	struct area a;

	while (maps && at != end && getline(&line, &line_room, maps) > 0) {
		struct vhost_wire_piece p;

		if (!parse_line(line, &a) || a.end <= at)
			continue;
		if (a.start > at)
			break;		/* a hole */
		p = (struct vhost_wire_piece){
			.uaddr = at, .len = min(a.end, end) - at, .off = a.off + (at - a.start),
			.fd = file_of(&s, &a), .writable = a.writable,
		};
		at += p.len;
		if (n && goes_on(&pieces[n - 1], &p))
			pieces[n - 1].len += p.len;
		else if (n < room)
			pieces[n++] = p;
		else
			break;
	}
	free(line);
	if (maps)
		fclose(maps);
	return n;
}
