// SPDX-License-Identifier: MIT
/* Paths of the fetched default guest; whole-file reads. */
#include "tools/guest_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int guest_files_find(struct guest_files *g, const char *dir)
{
	const char *cache = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");
	int n;

	memset(g, 0, sizeof(*g));
	if (dir)
		n = asprintf(&g->dir, "%s", dir);
	else if (cache && cache[0] == '/')
		n = asprintf(&g->dir, "%s/userkvm/guest/current", cache);
	else
		n = asprintf(&g->dir, "%s/.cache/userkvm/guest/current", home ? home : "");
	if (n < 0) {
		g->dir = NULL;
		return -ENOMEM;
	}
	if (asprintf(&g->kernel, "%s/vmlinuz", g->dir) < 0)
		g->kernel = NULL;
	if (asprintf(&g->busybox, "%s/busybox", g->dir) < 0)
		g->busybox = NULL;
	if (asprintf(&g->modules, "%s/modules", g->dir) < 0)
		g->modules = NULL;
	if (!g->kernel || !g->busybox || !g->modules)
		return -ENOMEM;
	return access(g->kernel, R_OK) || access(g->busybox, R_OK) ? -ENOENT : 0;
}

void guest_files_free(struct guest_files *g)
{
	free(g->dir);
	free(g->kernel);
	free(g->busybox);
	free(g->modules);
	memset(g, 0, sizeof(*g));
}

int file_read(const char *path, u8 **data, size_t *len)
{
	struct stat st;
	size_t n = 0, cap;
	u8 *buf = NULL;
	int ret = 0, fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0) {
		ret = -errno;
		goto out;
	}
	if (S_ISDIR(st.st_mode)) {
		ret = -EISDIR;
		goto out;
	}
	if (st.st_size > INT32_MAX) {
		ret = -EFBIG;
		goto out;
	}
	/* One byte more than needed: the read that finds the end needs room. */
	cap = (size_t)st.st_size + 1;
	for (;;) {
		u8 *grown = realloc(buf, cap);
		ssize_t got;

		if (!grown) {
			ret = -ENOMEM;
			goto out;
		}
		buf = grown;
		got = read(fd, buf + n, cap - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			ret = -errno;
			goto out;
		}
		if (got == 0)
			break;
		n += (size_t)got;
		if (n > INT32_MAX) {
			ret = -EFBIG;
			goto out;
		}
		if (n == cap)
			cap *= 2;
	}
	*data = buf;
	*len = n;
	buf = NULL;
out:
	free(buf);
	close(fd);
	return ret;
}
