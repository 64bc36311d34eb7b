/* SPDX-License-Identifier: MIT */
/*
 * Writer of cpio archives in the "newc" format, as the Linux kernel unpacks
 * for an initramfs ("initramfs buffer format"). In memory, owner root, times
 * zero: the same input gives the same bytes.
 */
#ifndef TOOLS_CPIO_H
#define TOOLS_CPIO_H

#include "base/types.h"

struct cpio {
	u8 *data;
	size_t len;
	size_t cap;
	u32 ino;
	int error;		/* first failure, 0 = none */
};

/* Entries; @mode holds permission bits. A failure is kept until cpio_end(). */
void cpio_dir(struct cpio *c, const char *path, u32 mode);
void cpio_file(struct cpio *c, const char *path, u32 mode, const void *data, size_t len);
void cpio_link(struct cpio *c, const char *path, const char *target);
void cpio_chardev(struct cpio *c, const char *path, u32 mode, u32 major, u32 minor);

/*
 * Close the archive. Returns 0, -ENOMEM, or -EFBIG for a file beyond what the
 * format's 32-bit sizes hold. Either way the caller frees c->data.
 */
int __must_check cpio_end(struct cpio *c);

#endif
