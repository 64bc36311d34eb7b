/* SPDX-License-Identifier: MIT */
/*
 * The default guest that scripts/fetch-guest leaves in the user's cache, and
 * reading of whole files.
 */
#ifndef TOOLS_GUEST_FILES_H
#define TOOLS_GUEST_FILES_H

#include "base/types.h"

struct guest_files {
	char *dir;		/* .../userkvm/guest/current */
	char *kernel;
	char *busybox;
	char *modules;
};

/*
 * Fill in the paths, below @dir or, if it is NULL, of the default guest. Returns 0; -ENOENT if nothing has been fetched (dir is
 * set all the same, for a message); -ENOMEM.
 */
int guest_files_find(struct guest_files *g, const char *dir);
void guest_files_free(struct guest_files *g);

/*
 * Read a file into *@data (the caller frees it). Returns 0 or negative errno;
 * -EISDIR, -EFBIG (above 2 GiB) included.
 */
int file_read(const char *path, u8 **data, size_t *len);

#endif
