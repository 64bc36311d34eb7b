// SPDX-License-Identifier: MIT
/* Starts the parts that parts.def lists. */
#include <string.h>

#include "base/log.h"
#include "vdpa/hub/hub_priv.h"

#define PART(init) int init(void);
#include "vdpa/hub/parts.def"
#undef PART

static const struct {
	const char *name;
	int (*init)(void);
} parts[] = {
#define PART(init) { #init, init },
#include "vdpa/hub/parts.def"
#undef PART
	{ NULL, NULL }
};

int hub_init_parts(void)
{
	for (unsigned i = 0; parts[i].init; i++) {
		int err = parts[i].init();

		if (err) {
			log_error("vdpa hub: %s: %s", parts[i].name, strerror(-err));
			return err;
		}
	}
	return 0;
}
