// SPDX-License-Identifier: MIT
/* Sessions of the hub's management, for programs of ours and for the netlink sockets of others. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vdpa/client/mgmt_wire.h"
#include "vdpa/mgmt.h"

struct vdpa_mgmt_client {
	struct vdpa_chan *chan;
	int life;
};

int vdpa_mgmt_connect(struct vdpa_mgmt_client **out)
{
	struct vdpa_msg m = { .head.value = VDPA_FILE_MGMT };
	struct vdpa_mgmt_client *c = calloc(1, sizeof(*c));
	int err = 0;

	if (!c)
		return -ENOMEM;
	c->life = vdpa_hub_open(&m);
	if (c->life < 0) {
		err = c->life;
	} else {
		c->chan = vdpa_chan_new(c->life);
		if (!c->chan) {
			err = -errno;
			close(c->life);
		}
	}
	if (err) {
		free(c);
		return err;
	}
	*out = c;
	return 0;
}

void vdpa_mgmt_disconnect(struct vdpa_mgmt_client *c)
{
	vdpa_chan_free(c->chan);
	close(c->life);
	free(c);
}

int vdpa_mgmt_send(struct vdpa_mgmt_client *c, const void *data, size_t len)
{
	struct vdpa_msg m = { .head = { .op = MGMT_OP_SEND, .len = (u32)len } };

	if (len > sizeof(m.data))
		return -EMSGSIZE;
	memcpy(m.data, data, len);
	return (int)vdpa_chan_call(c->chan, &m);
}

ssize_t vdpa_mgmt_receive(struct vdpa_mgmt_client *c, void *buf, size_t room)
{
	struct vdpa_msg m = { .head.op = MGMT_OP_RECEIVE };
	s64 ret = vdpa_chan_call(c->chan, &m);

	if (ret < 0)
		return (ssize_t)ret;
	memcpy(buf, m.data, min((size_t)m.head.len, room));
	return (ssize_t)m.head.len;
}

int vdpa_mgmt_node(struct vdpa_mgmt_client *c, const char *name)
{
	struct vdpa_msg m = { .head = { .op = MGMT_OP_NODE, .len = (u32)strlen(name) } };

	if (m.head.len > sizeof(m.data))
		return -ENODEV;
	memcpy(m.data, name, m.head.len);
	return (int)vdpa_chan_call(c->chan, &m);
}
