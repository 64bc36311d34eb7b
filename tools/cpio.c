// SPDX-License-Identifier: MIT
/* cpio "newc" writer. */
#include "tools/cpio.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CPIO_HEADER_LEN 110
#define CPIO_ALIGN 4

/* Reserve @len bytes at the end; NULL after a failure. */
static u8 *cpio_grow(struct cpio *c, size_t len)
{
	u8 *p;

	if (c->error)
		return NULL;
	if (c->cap - c->len < len) {
		size_t cap = max(c->cap * 2, c->len + len + 65536);

		p = realloc(c->data, cap);
		if (!p) {
			c->error = -ENOMEM;
			return NULL;
		}
		c->data = p;
		c->cap = cap;
	}
	p = c->data + c->len;
	c->len += len;
	return p;
}

static void cpio_put(struct cpio *c, const void *data, size_t len)
{
	size_t pad = -len & (CPIO_ALIGN - 1);
	u8 *p = cpio_grow(c, len + pad);

	if (!p)
		return;
	if (len)
		memcpy(p, data, len);
	memset(p + len, 0, pad);
}

static void cpio_entry(struct cpio *c, const char *path, u32 mode, u32 major, u32 minor,
		       const void *data, size_t len)
{
	/* The name follows the header directly; both together are padded. */
	char head[CPIO_HEADER_LEN + 512];
	size_t name_len = strlen(path) + 1;
	u32 ino = ++c->ino;

	if (name_len > sizeof(head) - CPIO_HEADER_LEN - 1 || len > UINT32_MAX) {
		c->error = c->error ? c->error : -EFBIG;
		return;
	}
	snprintf(head, sizeof(head), "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s",
		 ino, mode, 0, 0, 1, 0, (u32)len, 0, 0, major, minor, (u32)name_len, 0, path);
	cpio_put(c, head, CPIO_HEADER_LEN + name_len);
	cpio_put(c, data, len);
}

void cpio_dir(struct cpio *c, const char *path, u32 mode)
{
	cpio_entry(c, path, S_IFDIR | mode, 0, 0, NULL, 0);
}

void cpio_file(struct cpio *c, const char *path, u32 mode, const void *data, size_t len)
{
	cpio_entry(c, path, S_IFREG | mode, 0, 0, data, len);
}

void cpio_link(struct cpio *c, const char *path, const char *target)
{
	cpio_entry(c, path, S_IFLNK | 0777, 0, 0, target, strlen(target));
}

void cpio_chardev(struct cpio *c, const char *path, u32 mode, u32 major, u32 minor)
{
	cpio_entry(c, path, S_IFCHR | mode, major, minor, NULL, 0);
}

int cpio_end(struct cpio *c)
{
	cpio_entry(c, "TRAILER!!!", 0, 0, 0, NULL, 0);
	return c->error;
}
