// SPDX-License-Identifier: MIT
/*
 * The .modinfo section of kernel modules and their dependency order. Debian's
 * kernel package holds no modules.dep (depmod writes it at installation), so
 * dependencies are read where depmod reads them: from each module's
 * "depends=" line.
 */
#include "tools/modinfo.h"

#include <elf.h>
#include <errno.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "tools/guest_files.h"

/* A NUL-terminated string inside [data, data + len), or NULL. */
static const char *bounded_str(const u8 *data, size_t len, u64 off)
{
	if (off >= len || !memchr(data + off, 0, len - off))
		return NULL;
	return (const char *)data + off;
}

static bool section_at(const u8 *data, size_t len, u64 shoff, unsigned idx, Elf64_Shdr *sh)
{
	u64 off = shoff + (u64)idx * sizeof(*sh);

	if (shoff > len || off > len || len - off < sizeof(*sh))
		return false;
	memcpy(sh, data + off, sizeof(*sh));
	return sh->sh_type == SHT_NOBITS ||
	       (sh->sh_offset <= len && sh->sh_size <= len - sh->sh_offset);
}

const char *modinfo_get(const u8 *data, size_t len, const char *key, bool *ok)
{
	Elf64_Ehdr eh;
	Elf64_Shdr names, sh;
	size_t key_len = strlen(key);

	*ok = false;
	if (len < sizeof(eh))
		return NULL;
	memcpy(&eh, data, sizeof(eh));
	if (memcmp(eh.e_ident, ELFMAG, SELFMAG) || eh.e_ident[EI_CLASS] != ELFCLASS64 ||
	    eh.e_shentsize != sizeof(sh) ||
	    !section_at(data, len, eh.e_shoff, eh.e_shstrndx, &names) ||
	    names.sh_type == SHT_NOBITS)
		return NULL;
	for (unsigned i = 0; i < eh.e_shnum; i++) {
		const char *name;
		u64 at;

		if (!section_at(data, len, eh.e_shoff, i, &sh) || sh.sh_type == SHT_NOBITS)
			continue;
		name = bounded_str(data + names.sh_offset, names.sh_size, sh.sh_name);
		if (!name || strcmp(name, ".modinfo"))
			continue;
		*ok = true;
		for (at = 0; at < sh.sh_size;) {
			const char *s = bounded_str(data + sh.sh_offset, sh.sh_size, at);

			if (!s)
				return NULL;
			if (!strncmp(s, key, key_len) && s[key_len] == '=')
				return s + key_len + 1;
			at += strlen(s) + 1;
		}
		return NULL;
	}
	return NULL;
}

/* File name without folder and suffix, in the spelling of /proc/modules. */
static char *module_name(const char *file)
{
	char *name = strdup(file);

	if (!name)
		return NULL;
	name[strcspn(name, ".")] = 0;
	for (char *p = name; *p; p++)
		if (*p == '-')
			*p = '_';
	return name;
}

static int modset_add(struct modset *s, const char *file, const char *path)
{
	struct module *m;

	if (s->nr_all == s->cap_all) {
		size_t cap = max(s->cap_all * 2, 64ul);
		struct module *all = realloc(s->all, cap * sizeof(*all));

		if (!all)
			return -ENOMEM;
		s->all = all;
		s->cap_all = cap;
	}
	m = &s->all[s->nr_all];
	memset(m, 0, sizeof(*m));
	m->name = module_name(file);
	m->path = strdup(path);
	if (!m->name || !m->path) {
		free(m->name);
		free(m->path);
		return -ENOMEM;
	}
	s->nr_all++;
	return 0;
}

int modset_scan(struct modset *s, const char *dir)
{
	char *roots[] = { (char *)dir, NULL };
	FTS *fts;
	FTSENT *e;
	int ret = 0;

	memset(s, 0, sizeof(*s));
	fts = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, NULL);
	if (!fts)
		return -errno;
	while (!ret && (e = fts_read(fts))) {
		const char *dot = strstr(e->fts_name, ".ko");

		/* Compressed modules are listed too, so that they can be refused by name. */
		if (e->fts_info == FTS_F && dot && (!dot[3] || dot[3] == '.'))
			ret = modset_add(s, e->fts_name, e->fts_path);
	}
	fts_close(fts);
	if (ret)
		modset_free(s);
	return ret;
}

static struct module *modset_find(struct modset *s, const char *name)
{
	for (size_t i = 0; i < s->nr_all; i++)
		if (!strcmp(s->all[i].name, name))
			return &s->all[i];
	return NULL;
}

bool modset_has(struct modset *s, const char *name)
{
	return modset_find(s, name) != NULL;
}

int modset_resolve(struct modset *s, const char *name)
{
	struct module *m = modset_find(s, name);
	char *deps = NULL, *save, *d;
	const char *value;
	bool ok;
	int ret;

	if (!m)
		return -ENOENT;
	/* Also ends a cycle, which a module set made by hand could have. */
	if (m->visited)
		return 0;
	m->visited = true;
	if (!s->order) {
		s->order = calloc(s->nr_all, sizeof(*s->order));
		if (!s->order)
			return -ENOMEM;
	}
	ret = file_read(m->path, &m->data, &m->len);
	if (ret) {
		log_error("%s: %s", m->path, strerror(-ret));
		return ret;
	}
	value = modinfo_get(m->data, m->len, "depends", &ok);
	if (!ok) {
		log_error("%s: not an uncompressed kernel module", m->path);
		return -ENOEXEC;
	}
	if (value) {
		deps = strdup(value);
		if (!deps)
			return -ENOMEM;
	}
	for (d = deps ? strtok_r(deps, ",", &save) : NULL; d && !ret;
	     d = strtok_r(NULL, ",", &save)) {
		for (char *p = d; *p; p++)
			if (*p == '-')
				*p = '_';
		ret = modset_resolve(s, d);
		if (ret == -ENOENT)
			log_error("%s: depends on module %s, which is missing", m->path, d);
	}
	free(deps);
	if (!ret)
		s->order[s->nr_order++] = m;
	return ret;
}

void modset_free(struct modset *s)
{
	for (size_t i = 0; i < s->nr_all; i++) {
		free(s->all[i].name);
		free(s->all[i].path);
		free(s->all[i].data);
	}
	free(s->all);
	free(s->order);
	memset(s, 0, sizeof(*s));
}
