// SPDX-License-Identifier: MIT
/* A session in the process of the bus itself. */
#include <errno.h>
#include <stdlib.h>

#include "vdpa/virtio/session.h"

struct local {
	struct vdpa_session s;
	struct vdpa_virtio_conn *c;
};

static int local_call(struct vdpa_session *s, const struct vdpa_virtio_req *q, int fd, struct vdpa_virtio_rep *r)
{
	return vdpa_virtio_serve(container_of(s, struct local, s)->c, q, fd, r);
}

static void local_close(struct vdpa_session *s)
{
	struct local *l = container_of(s, struct local, s);

	vdpa_virtio_conn_free(l->c);
	free(l);
}

struct vdpa_session *vdpa_session_local(void)
{
	struct local *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->s = (struct vdpa_session){.call = local_call, .close = local_close};
	l->c = vdpa_virtio_conn_new();
	if (!l->c) {
		free(l);
		errno = ENOMEM;
		return NULL;
	}
	return &l->s;
}
