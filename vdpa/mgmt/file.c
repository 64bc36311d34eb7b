// SPDX-License-Identifier: MIT
/* Management sessions as files of the hub. */
#include <errno.h>

#include "vdpa/client/mgmt_wire.h"
#include "vdpa/hub/hub.h"
#include "vdpa/mgmt/mgmt.h"

static int open_session(struct hub_file *f, const struct vdpa_msg *req, struct vdpa_msg *rep)
{
	f->priv = mgmt_session_new();
	return f->priv ? 0 : -ENOMEM;
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
