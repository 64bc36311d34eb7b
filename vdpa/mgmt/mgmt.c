// SPDX-License-Identifier: MIT
/*
 * The commands of the family, one function each: "do" for one object, "dump"
 * for all. Checks come in Linux' order; a refusal may carry a text.
 */
#include "vdpa/mgmt/mgmt.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>

#include "abi/vdpa.h"
#include "base/log.h"
#include "vdpa/mgmt.h"
#include "vdpa/mgmt/nl.h"
#include "vdpa/vdpa.h"

#define MTU_LEAST 68
#define MAX_ATTR VDPA_ATTR_VDPA_DEV_SUPPORTED_FEATURES
#define STATS_PER_QUEUE 16	/* more would not fit a message */

struct mgmt_session {
	pthread_mutex_t lock;
	struct nl_out out;
};

struct request {
	struct nl_out *out;
	const struct nlmsghdr *h;
	u8 cmd;
	const struct nlattr *tb[MAX_ATTR + 1];
	const char *why;	/* text that goes with a refusal */
	bool dump;
};

struct command {
	u8 cmd;
	int (*one)(struct request *r);
	int (*all)(struct request *r);
};

static void begin(struct request *r, u8 cmd)
{
	const struct genlmsghdr g = { .cmd = cmd, .version = VDPA_GENL_VERSION };

	nl_begin(r->out, VDPA_MGMT_FAMILY_ID, r->dump ? NLM_F_MULTI : 0, r->h->nlmsg_seq, r->h->nlmsg_pid, r->dump);
	nl_put(r->out, &g, sizeof(g));
}

static int refuse(struct request *r, int err, const char *why)
{
	r->why = why;
	return err;
}

/* ---- Management devices ---- */

static void put_handle(struct request *r, const struct vdpa_mgmtdev *m)
{
	if (m->bus)
		nl_attr_str(r->out, VDPA_ATTR_MGMTDEV_BUS_NAME, m->bus);
	nl_attr_str(r->out, VDPA_ATTR_MGMTDEV_DEV_NAME, m->name);
}

static int fill_mgmtdev(void *arg, struct vdpa_mgmtdev *m)
{
	struct request *r = arg;

	begin(r, VDPA_CMD_MGMTDEV_NEW);
	put_handle(r, m);
	nl_attr_u64(r->out, VDPA_ATTR_MGMTDEV_SUPPORTED_CLASSES, m->classes);
	nl_attr_u32(r->out, VDPA_ATTR_DEV_MGMTDEV_MAX_VQS, m->max_vqs);
	nl_attr_u64(r->out, VDPA_ATTR_DEV_SUPPORTED_FEATURES, m->features);
	nl_end(r->out);
	return 0;
}

/* NULL: not named, or not there; r->why tells. */
static struct vdpa_mgmtdev *named_mgmtdev(struct request *r, int *err)
{
	char bus[64], name[VDPA_NAME_MAX + 1];
	struct vdpa_mgmtdev *m;

	*err = -EINVAL;
	if (!nl_string(r->tb[VDPA_ATTR_MGMTDEV_DEV_NAME], name, sizeof(name)))
		return NULL;
	m = vdpa_mgmtdev_find(nl_string(r->tb[VDPA_ATTR_MGMTDEV_BUS_NAME], bus, sizeof(bus)) ? bus : NULL, name);
	if (!m)
		*err = refuse(r, -ENODEV, "vdpa: Fail to find the specified management device");
	return m;
}

static int mgmtdev_get(struct request *r)
{
	struct vdpa_mgmtdev *m;
	int err;

	m = named_mgmtdev(r, &err);
	return m ? fill_mgmtdev(r, m) : err;
}

static int mgmtdev_dump(struct request *r)
{
	return vdpa_mgmtdev_for_each(fill_mgmtdev, r);
}

/* ---- Devices ---- */

static struct vdpa_device *named_dev(struct request *r, int *err)
{
	char name[VDPA_NAME_MAX + 1];
	struct vdpa_device *d;

	*err = -EINVAL;
	if (!nl_string(r->tb[VDPA_ATTR_DEV_NAME], name, sizeof(name)))
		return NULL;
	d = vdpa_find(name);
	if (!d)
		*err = refuse(r, -ENODEV, "vdpa: device not found");
	return d;
}

static int on_named_dev(struct request *r, int (*fn)(void *arg, struct vdpa_device *d))
{
	struct vdpa_device *d;
	int err;

	d = named_dev(r, &err);
	if (!d)
		return err;
	err = fn(r, d);
	vdpa_put(d);
	return err;
}

static int fill_dev(void *arg, struct vdpa_device *d)
{
	const struct vdpa_config_ops *ops = d->ops;
	struct request *r = arg;
	u32 id, vendor;
	u16 most, least;

	pthread_mutex_lock(&d->lock);
	id = ops->get_device_id(d);
	vendor = ops->get_vendor_id(d);
	most = ops->get_vq_num_max(d);
	least = ops->get_vq_num_min ? ops->get_vq_num_min(d) : 1;
	pthread_mutex_unlock(&d->lock);
	begin(r, VDPA_CMD_DEV_NEW);
	if (d->mgmt)
		put_handle(r, d->mgmt);
	nl_attr_str(r->out, VDPA_ATTR_DEV_NAME, d->name);
	nl_attr_u32(r->out, VDPA_ATTR_DEV_ID, id);
	nl_attr_u32(r->out, VDPA_ATTR_DEV_VENDOR_ID, vendor);
	nl_attr_u32(r->out, VDPA_ATTR_DEV_MAX_VQS, d->nvqs);
	nl_attr_u16(r->out, VDPA_ATTR_DEV_MAX_VQ_SIZE, most);
	nl_attr_u16(r->out, VDPA_ATTR_DEV_MIN_VQ_SIZE, least);
	nl_end(r->out);
	return 0;
}

static int dev_get(struct request *r)
{
	return on_named_dev(r, fill_dev);
}

static int dev_dump(struct request *r)
{
	return vdpa_for_each(fill_dev, r);
}

/* What the request gives a new device. */
static int parse_attrs(struct request *r, struct vdpa_dev_attrs *a)
{
	const struct nlattr *mac = r->tb[VDPA_ATTR_DEV_NET_CFG_MACADDR], *mtu = r->tb[VDPA_ATTR_DEV_NET_CFG_MTU];
	const struct nlattr *vqp = r->tb[VDPA_ATTR_DEV_NET_CFG_MAX_VQP], *features = r->tb[VDPA_ATTR_DEV_FEATURES];

	if (mac) {
		if (nl_len(mac) != sizeof(a->mac))
			return refuse(r, -EINVAL, "Invalid attribute length");
		memcpy(a->mac, nl_data(mac), sizeof(a->mac));
		a->mask |= VDPA_ATTR_MAC;
	}
	if (mtu) {
		if (nl_len(mtu) != sizeof(a->mtu))
			return refuse(r, -ERANGE, "Invalid attribute length");
		memcpy(&a->mtu, nl_data(mtu), sizeof(a->mtu));
		if (a->mtu < MTU_LEAST)
			return refuse(r, -ERANGE, "integer out of range");
		a->mask |= VDPA_ATTR_MTU;
	}
	if (vqp) {
		if (nl_len(vqp) != sizeof(a->max_vqp))
			return refuse(r, -ERANGE, "Invalid attribute length");
		memcpy(&a->max_vqp, nl_data(vqp), sizeof(a->max_vqp));
		if (!a->max_vqp)
			return refuse(r, -EINVAL, "vdpa: At least one pair of VQs is required");
		a->mask |= VDPA_ATTR_MAX_VQP;
	}
	if (features) {
		if (nl_len(features) != sizeof(a->features))
			return refuse(r, -ERANGE, "Invalid attribute length");
		memcpy(&a->features, nl_data(features), sizeof(a->features));
		a->mask |= VDPA_ATTR_FEATURES;
	}
	return 0;
}

static int dev_add(struct request *r)
{
	struct vdpa_dev_attrs a = { .why = &r->why };
	char name[VDPA_NAME_MAX + 1];
	struct vdpa_mgmtdev *m;
	int err;

	if (!nl_string(r->tb[VDPA_ATTR_DEV_NAME], name, sizeof(name)) || !r->tb[VDPA_ATTR_MGMTDEV_DEV_NAME])
		return -EINVAL;
	err = parse_attrs(r, &a);
	if (err)
		return err;
	m = named_mgmtdev(r, &err);
	if (!m)
		return err;
	if (a.mask & ~m->attr_mask)
		return refuse(r, -EOPNOTSUPP, "vdpa: All provided attributes are not supported");
	return m->dev_add(m, name, &a);
}

static int dev_del(struct request *r)
{
	char name[VDPA_NAME_MAX + 1];
	int err;

	if (!nl_string(r->tb[VDPA_ATTR_DEV_NAME], name, sizeof(name)))
		return -EINVAL;
	err = vdpa_delete(name);
	return err == -ENODEV ? refuse(r, err, "vdpa: device not found") : err;
}

/* ---- Configuration of network devices ---- */

struct device_state {
	u32 id;
	u8 status;
	u64 device_features, features;
};

static void get_state(struct vdpa_device *d, struct device_state *s)
{
	pthread_mutex_lock(&d->lock);
	s->id = d->ops->get_device_id(d);
	s->status = d->ops->get_status(d);
	s->device_features = d->ops->get_device_features(d);
	s->features = d->ops->get_driver_features(d);
	pthread_mutex_unlock(&d->lock);
}

static int fill_config(void *arg, struct vdpa_device *d)
{
	struct virtio_net_config c = { 0 };
	struct request *r = arg;
	struct device_state s;
	size_t size;

	get_state(d, &s);
	if (s.id != VIRTIO_ID_NET)
		return r->dump ? 0 : -EOPNOTSUPP;
	pthread_mutex_lock(&d->lock);
	size = d->ops->get_config_size(d);
	pthread_mutex_unlock(&d->lock);
	vdpa_get_config(d, 0, &c, (u32)min(size, sizeof(c)));
	begin(r, VDPA_CMD_DEV_CONFIG_GET);
	nl_attr_str(r->out, VDPA_ATTR_DEV_NAME, d->name);
	nl_attr_u32(r->out, VDPA_ATTR_DEV_ID, s.id);
	if (s.status & VIRTIO_CONFIG_S_FEATURES_OK)
		nl_attr_u64(r->out, VDPA_ATTR_DEV_NEGOTIATED_FEATURES, s.features);
	nl_attr(r->out, VDPA_ATTR_DEV_NET_CFG_MACADDR, c.mac, sizeof(c.mac));
	nl_attr_u16(r->out, VDPA_ATTR_DEV_NET_STATUS, c.status);
	nl_attr_u16(r->out, VDPA_ATTR_DEV_NET_CFG_MTU, c.mtu);
	nl_attr_u64(r->out, VDPA_ATTR_VDPA_DEV_SUPPORTED_FEATURES, s.device_features);
	if (s.device_features & (1ull << VIRTIO_NET_F_MQ | 1ull << VIRTIO_NET_F_RSS))
		nl_attr_u16(r->out, VDPA_ATTR_DEV_NET_CFG_MAX_VQP, c.max_virtqueue_pairs);
	nl_end(r->out);
	return 0;
}

static int config_get(struct request *r)
{
	return on_named_dev(r, fill_config);
}

static int config_dump(struct request *r)
{
	return vdpa_for_each(fill_config, r);
}

/* ---- Vendor statistics ---- */

static int fill_stats(void *arg, struct vdpa_device *d)
{
	struct request *r = arg;
	struct device_state s;
	const char *name;
	u64 value;
	u16 pairs;
	u32 vq;
	int err = 0;

	memcpy(&vq, nl_data(r->tb[VDPA_ATTR_DEV_QUEUE_INDEX]), sizeof(vq));
	if (!d->ops->get_vendor_stat)
		return -EOPNOTSUPP;
	get_state(d, &s);
	if (!(s.status & VIRTIO_CONFIG_S_FEATURES_OK))
		return refuse(r, -EAGAIN, "vdpa: feature negotiation not complete");
	if (vq >= d->nvqs)
		return refuse(r, -ERANGE, "vdpa: queue index is too big");
	vdpa_get_config(d, offsetof(struct virtio_net_config, max_virtqueue_pairs), &pairs, sizeof(pairs));
	begin(r, VDPA_CMD_DEV_VSTATS_GET);
	nl_attr_str(r->out, VDPA_ATTR_DEV_NAME, d->name);
	nl_attr_u32(r->out, VDPA_ATTR_DEV_ID, s.id);
	/* Of whatever class; the tool needs it to tell a queue's type. */
	nl_attr_u16(r->out, VDPA_ATTR_DEV_NET_CFG_MAX_VQP, pairs);
	nl_attr_u64(r->out, VDPA_ATTR_DEV_NEGOTIATED_FEATURES, s.features);
	nl_attr_u32(r->out, VDPA_ATTR_DEV_QUEUE_INDEX, vq);
	for (unsigned i = 0; i < STATS_PER_QUEUE && !err; i++) {
		pthread_mutex_lock(&d->lock);
		err = d->ops->get_vendor_stat(d, (u16)vq, i, &name, &value);
		pthread_mutex_unlock(&d->lock);
		if (!err) {
			nl_attr_str(r->out, VDPA_ATTR_DEV_VENDOR_ATTR_NAME, name);
			nl_attr_u64(r->out, VDPA_ATTR_DEV_VENDOR_ATTR_VALUE, value);
		}
	}
	if (err && err != -ENOENT) {
		nl_cancel(r->out);
		return err;
	}
	nl_end(r->out);
	return 0;
}

static int vstats_get(struct request *r)
{
	const struct nlattr *index = r->tb[VDPA_ATTR_DEV_QUEUE_INDEX];

	if (!index || nl_len(index) != sizeof(u32))
		return refuse(r, -EINVAL, "vdpa: a queue index (qidx) is needed");
	return on_named_dev(r, fill_stats);
}

/* ---- The controller ---- */

static int get_family(struct request *r)
{
	const struct genlmsghdr g = { .cmd = CTRL_CMD_NEWFAMILY, .version = 2 };
	char name[GENL_NAMSIZ + 1];

	if (!nl_string(r->tb[CTRL_ATTR_FAMILY_NAME], name, sizeof(name)))
		return -EINVAL;
	if (strcmp(name, VDPA_GENL_NAME))
		return -ENOENT;
	nl_begin(r->out, GENL_ID_CTRL, 0, r->h->nlmsg_seq, r->h->nlmsg_pid, false);
	nl_put(r->out, &g, sizeof(g));
	nl_attr_str(r->out, CTRL_ATTR_FAMILY_NAME, VDPA_GENL_NAME);
	nl_attr_u16(r->out, CTRL_ATTR_FAMILY_ID, VDPA_MGMT_FAMILY_ID);
	nl_attr_u32(r->out, CTRL_ATTR_VERSION, VDPA_GENL_VERSION);
	nl_attr_u32(r->out, CTRL_ATTR_HDRSIZE, 0);
	nl_attr_u32(r->out, CTRL_ATTR_MAXATTR, MAX_ATTR);
	nl_end(r->out);
	return 0;
}

/* ---- Requests ---- */

static const struct command commands[] = {
	{ VDPA_CMD_MGMTDEV_GET, mgmtdev_get, mgmtdev_dump },
	{ VDPA_CMD_DEV_NEW, dev_add, NULL },
	{ VDPA_CMD_DEV_DEL, dev_del, NULL },
	{ VDPA_CMD_DEV_GET, dev_get, dev_dump },
	{ VDPA_CMD_DEV_CONFIG_GET, config_get, config_dump },
	{ VDPA_CMD_DEV_VSTATS_GET, vstats_get, NULL },
};
static const struct command controller[] = { { CTRL_CMD_GETFAMILY, get_family, NULL } };

static int run(struct request *r)
{
	const struct command *c = r->h->nlmsg_type == GENL_ID_CTRL ? controller : commands;
	unsigned n = r->h->nlmsg_type == GENL_ID_CTRL ? ARRAY_SIZE(controller) : ARRAY_SIZE(commands);
	int (*fn)(struct request *r) = NULL;
	int err;

	if (r->h->nlmsg_type != GENL_ID_CTRL && r->h->nlmsg_type != VDPA_MGMT_FAMILY_ID)
		return -ENOENT;
	err = nl_parse(r->h, r->tb, MAX_ATTR);
	if (err)
		return err;
	r->cmd = ((const struct genlmsghdr *)NLMSG_DATA(r->h))->cmd;
	for (unsigned i = 0; i < n; i++)
		if (c[i].cmd == r->cmd)
			fn = r->dump ? c[i].all : c[i].one;
	return fn ? fn(r) : -EOPNOTSUPP;
}

/* The answer to every request that wants one or has failed: error 0 is success. */
static void acknowledge(struct request *r, int err)
{
	bool text = err && r->why;

	nl_begin(r->out, NLMSG_ERROR, (u16)(NLM_F_CAPPED | (text ? NLM_F_ACK_TLVS : 0)), r->h->nlmsg_seq,
		 r->h->nlmsg_pid, false);
	nl_put(r->out, &err, sizeof(err));
	nl_put(r->out, r->h, sizeof(*r->h));
	if (text)
		nl_attr_str(r->out, NLMSGERR_ATTR_MSG, r->why);
	nl_end(r->out);
}

static void finish_dump(struct request *r)
{
	const int none = 0;

	nl_begin(r->out, NLMSG_DONE, NLM_F_MULTI, r->h->nlmsg_seq, r->h->nlmsg_pid, false);
	nl_put(r->out, &none, sizeof(none));
	nl_end(r->out);
}

static void answer(struct mgmt_session *s, const struct nlmsghdr *h)
{
	struct request r = { .out = &s->out, .h = h };
	int err;

	r.dump = (h->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
	err = h->nlmsg_type < NLMSG_MIN_TYPE ? 0 : run(&r);
	if (!err && r.dump)
		finish_dump(&r);
	else if (err || h->nlmsg_flags & NLM_F_ACK)
		acknowledge(&r, err);
}

struct mgmt_session *mgmt_session_new(void)
{
	struct mgmt_session *s = calloc(1, sizeof(*s));

	if (s) {
		pthread_mutex_init(&s->lock, NULL);
		nl_out_init(&s->out);
	}
	return s;
}

void mgmt_session_free(struct mgmt_session *s)
{
	nl_out_free(&s->out);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

int mgmt_send(struct mgmt_session *s, const void *data, size_t len)
{
	_Alignas(NLMSG_ALIGNTO) u8 buf[8192];
	const struct nlmsghdr *h = (const struct nlmsghdr *)buf;
	size_t at = 0;
	int err;

	if (len > sizeof(buf))
		return -EMSGSIZE;
	/* A copy of our own: aligned, and nobody changes it under us. */
	memcpy(buf, data, len);
	pthread_mutex_lock(&s->lock);
	while (len - at >= NLMSG_HDRLEN) {
		h = (const struct nlmsghdr *)(buf + at);
		if (h->nlmsg_len < NLMSG_HDRLEN || h->nlmsg_len > len - at)
			break;
		if (h->nlmsg_flags & NLM_F_REQUEST)
			answer(s, h);
		at += min((size_t)NLMSG_ALIGN(h->nlmsg_len), len - at);
	}
	err = s->out.no_memory ? -ENOMEM : 0;
	s->out.no_memory = false;
	pthread_mutex_unlock(&s->lock);
	return err;
}

ssize_t mgmt_receive(struct mgmt_session *s, void *buf, size_t room)
{
	struct nl_datagram *d;
	ssize_t n;

	pthread_mutex_lock(&s->lock);
	d = nl_out_take(&s->out);
	pthread_mutex_unlock(&s->lock);
	if (!d)
		return -EAGAIN;
	n = (ssize_t)min((size_t)d->len, room);
	memcpy(buf, d->data, (size_t)n);
	free(d);
	return n;
}
