// SPDX-License-Identifier: MIT
/*
 * Which nodes are there: asked by clients that look before they open. The
 * answer is the opening's result; the file itself has no calls.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "vdpa/hub/hub.h"

#define MAX_PREFIXES 4

static struct {
	const char *prefix;
	bool (*has)(const char *rest);
} prefixes[MAX_PREFIXES];
static unsigned nprefixes;

void hub_node_register(const char *prefix, bool (*has)(const char *rest))
{
	BUG_ON(nprefixes == MAX_PREFIXES);
	prefixes[nprefixes].prefix = prefix;
	prefixes[nprefixes++].has = has;
}

/* @req: a name below /dev. */
static int ask(struct hub_file *f, const struct vdpa_msg *req, struct vdpa_msg *rep)
{
	char name[512];

	if (req->head.len >= sizeof(name))
		return -ENAMETOOLONG;
	memcpy(name, req->data, req->head.len);
	name[req->head.len] = 0;
	for (unsigned i = 0; i < nprefixes; i++) {
		size_t len = strlen(prefixes[i].prefix);

		if (!strncmp(name, prefixes[i].prefix, len))
			return prefixes[i].has(name + len) ? 0 : -ENOENT;
	}
	return -ENOENT;
}

static s64 no_call(struct hub_file *f, const struct vdpa_msg *req, struct vdpa_msg *rep)
{
	return -ENOTTY;
}

static const struct hub_file_ops ops = { .kind = VDPA_FILE_NODES, .open = ask, .call = no_call };

int hub_nodes_init(void);
int hub_nodes_init(void)
{
	hub_file_register(&ops);
	return 0;
}
