// SPDX-License-Identifier: MIT
/* Management sessions as files of the hub. */
#include <errno.h>
#include <string.h>

#include "vdpa/client/mgmt_wire.h"
#include "vdpa/hub/hub.h"
#include "vdpa/mgmt/mgmt.h"
#include "vdpa/vdpa.h"
#include "vdpa/vhost/vhost.h"

static int open_session(struct hub_file *f, const struct vdpa_msg *req, struct vdpa_msg *rep)
{
	f->priv = mgmt_session_new();
	return f->priv ? 0 : -ENOMEM;
}

static s64 node_of(const struct vdpa_msg *req)
{
	char name[VDPA_NAME_MAX + 1];
	struct vdpa_device *d;

	if (req->head.len >= sizeof(name))
		return -ENODEV;
	memcpy(name, req->data, req->head.len);
	name[req->head.len] = 0;
	d = vdpa_find(name);
	if (!d)
		return -ENODEV;
	vdpa_put(d);
	return vhost_vdpa_node_of(name);
}

static s64 call_session(struct hub_file *f, const struct vdpa_msg *req, struct vdpa_msg *rep)
{
	ssize_t n;

	switch (req->head.op) {
	case MGMT_OP_SEND:
		return mgmt_send(f->priv, req->data, req->head.len);
	case MGMT_OP_RECEIVE:
		n = mgmt_receive(f->priv, rep->data, sizeof(rep->data));
		rep->head.len = n > 0 ? (u32)n : 0;
		return n;
	case MGMT_OP_NODE:
		return node_of(req);
	default:
		return -ENOTTY;
	}
}

static void release_session(struct hub_file *f)
{
	mgmt_session_free(f->priv);
}

static const struct hub_file_ops ops = {
	.kind = VDPA_FILE_MGMT, .open = open_session, .call = call_session, .release = release_session,
};

int mgmt_file_init(void);
int mgmt_file_init(void)
{
	hub_file_register(&ops);
	return 0;
}
