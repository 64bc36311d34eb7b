// SPDX-License-Identifier: MIT
/* Where the files that belong to this program are. */
#include "tools/installed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/types.h"

int installed_find(const char *name, char out[PATH_MAX])
{
	static const char *const places[] = { "", "../" USERKVM_LIBDIR "/" };
	char self[PATH_MAX], path[PATH_MAX + 128];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return -errno;
	self[n] = 0;
	*(strrchr(self, '/') + 1) = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		snprintf(path, sizeof(path), "%s%s%s", self, places[i], name);
		if (realpath(path, out))
			return 0;
	}
	snprintf(out, PATH_MAX, "%s", self);
	return -ENOENT;
}
