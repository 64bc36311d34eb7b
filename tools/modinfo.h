/* SPDX-License-Identifier: MIT */
/* Kernel modules of a folder, and the order in which they must be loaded. */
#ifndef TOOLS_MODINFO_H
#define TOOLS_MODINFO_H

#include "base/types.h"

/* Module found in a folder tree; a list in load order after modset_resolve(). */
struct module {
	char *name;		/* as in /proc/modules, '_' for '-' */
	char *path;
	u8 *data;
	size_t len;
	bool visited;
};

struct modset {
	struct module *all;	/* everything below the folder */
	size_t nr_all, cap_all;
	struct module **order;	/* wanted ones, dependencies first */
	size_t nr_order;
};

/* Find all modules below @dir. Returns 0 or negative errno. */
int modset_scan(struct modset *s, const char *dir);
bool modset_has(struct modset *s, const char *name);
/*
 * Read @name and all it depends on, and append them to the order. Returns 0;
 * -ENOENT if the folder has no such module; -ENOEXEC if a module is no ELF
 * file with a .modinfo section (compressed ones included), logged by name.
 */
int modset_resolve(struct modset *s, const char *name);
void modset_free(struct modset *s);

/*
 * The value of @key in a module's .modinfo section; @len and every offset in
 * the file are untrusted. Returns NULL if absent, or not NUL-terminated in the
 * section. *@ok tells whether there was a valid section at all.
 */
const char *modinfo_get(const u8 *data, size_t len, const char *key, bool *ok);

#endif
