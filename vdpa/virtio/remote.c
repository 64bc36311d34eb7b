// SPDX-License-Identifier: MIT
/* A session over the hub's socket. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vdpa/client/rpc.h"
#include "vdpa/virtio/session.h"

struct remote {
	struct vdpa_session s;
	struct vdpa_chan *chan;
};

/* The reply names the places of its descriptors with numbers of the hub's: put ours there. */
static void take_fds(struct vdpa_virtio_rep *r, struct vdpa_msg *m)
{
	unsigned n = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(r->fds); i++)
		r->fds[i] = r->fds[i] >= 0 && n < m->nfds ? m->fds[n++] : -1;
	while (n < m->nfds)
		close(m->fds[n++]);
}

static int remote_call(struct vdpa_session *s, const struct vdpa_virtio_req *q, int fd, struct vdpa_virtio_rep *r)
{
	struct vdpa_msg m = {.head = {VDPA_OP_FIRST, sizeof(*q), 0}};
	s64 ret;

	memcpy(m.data, q, sizeof(*q));
	m.fds[0] = fd;
	m.nfds = fd >= 0;
	memset(r, 0, sizeof(*r));
	r->fds[0] = r->fds[1] = -1;
	ret = vdpa_chan_call(container_of(s, struct remote, s)->chan, &m);
	/* Without a hub there is no device. */
	if (ret == -EIO && m.head.len != sizeof(*r))
		return -ENODEV;
	if (m.head.len == sizeof(*r)) {
		memcpy(r, m.data, sizeof(*r));
		take_fds(r, &m);
	}
	return (int)ret;
}

static void remote_hurry(struct vdpa_session *s, unsigned ms)
{
	vdpa_chan_hurry(container_of(s, struct remote, s)->chan, ms);
}

static void remote_cancel_by(struct vdpa_session *s, int fd)
{
	vdpa_chan_cancel_by(container_of(s, struct remote, s)->chan, fd);
}

static void remote_close(struct vdpa_session *s)
{
	struct remote *r = container_of(s, struct remote, s);
	const struct vdpa_virtio_req q = {.op = VDPA_VIRTIO_CLOSE};
	struct vdpa_virtio_rep rep;

	/* The end of the connection would do it too, but later. */
	(void)remote_call(s, &q, -1, &rep);
	vdpa_chan_free(r->chan);
	free(r);
}

struct vdpa_session *vdpa_session_remote(void)
{
	struct vdpa_msg m = {.head.value = VDPA_FILE_VIRTIO};
	struct remote *r = calloc(1, sizeof(*r));
	int life;

	if (!r)
		return NULL;
	r->s = (struct vdpa_session){.call = remote_call, .hurry = remote_hurry, .cancel_by = remote_cancel_by,
				 .close = remote_close};
	life = vdpa_hub_open(&m);
	if (life < 0) {
		free(r);
		errno = -life;
		return NULL;
	}
	r->chan = vdpa_chan_new(life);
	close(life);
	if (!r->chan) {
		free(r);
		return NULL;
	}
	return &r->s;
}
