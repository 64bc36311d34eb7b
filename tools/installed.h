/* SPDX-License-Identifier: MIT */
/* Files that belong to this program: beside it in the build tree, in the library folder when installed. */
#ifndef TOOLS_INSTALLED_H
#define TOOLS_INSTALLED_H

#include <limits.h>

/* Absolute path of @name in @out: 0; or -ENOENT with the folder of this program in @out, or -errno. */
int installed_find(const char *name, char out[PATH_MAX]);

#endif
