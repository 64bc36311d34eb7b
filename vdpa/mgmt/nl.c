// SPDX-License-Identifier: MIT
/* Netlink messages, see nl.h. Layout: 4-byte alignment throughout. */
#include "vdpa/mgmt/nl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

void nl_out_init(struct nl_out *o)
{
	*o = (struct nl_out){ 0 };
	list_init(&o->queue);
}

struct nl_datagram *nl_out_take(struct nl_out *o)
{
	struct nl_datagram *d;

	if (list_empty(&o->queue))
		return NULL;
	d = list_entry(o->queue.next, struct nl_datagram, node);
	list_del(&d->node);
	if (d == o->cur)
		o->cur = NULL;
	return d;
}

void nl_out_free(struct nl_out *o)
{
	struct nl_datagram *d;

	while ((d = nl_out_take(o)))
		free(d);
}

/* A datagram with room for a whole message behind what it has: none is longer than half of it. */
static bool have_room(struct nl_out *o, bool joins)
{
	if (joins && o->cur && o->cur->len <= NL_DATAGRAM / 2)
		return true;
	o->cur = malloc(sizeof(*o->cur) + NL_DATAGRAM);
	if (!o->cur) {
		o->no_memory = true;
		return false;
	}
	o->cur->len = 0;
	list_add_tail(&o->cur->node, &o->queue);
	return true;
}

void nl_begin(struct nl_out *o, u16 type, u16 flags, u32 seq, u32 pid, bool joins)
{
	o->msg = NULL;
	if (!have_room(o, joins))
		return;
	o->msg = (struct nlmsghdr *)(o->cur->data + o->cur->len);
	*o->msg = (struct nlmsghdr){ .nlmsg_len = NLMSG_HDRLEN, .nlmsg_type = type, .nlmsg_flags = flags,
				     .nlmsg_seq = seq, .nlmsg_pid = pid };
}

void nl_put(struct nl_out *o, const void *data, u32 len)
{
	u8 *end;

	if (!o->msg)
		return;
	end = (u8 *)o->msg + o->msg->nlmsg_len;
	BUG_ON(end + NLMSG_ALIGN(len) > o->cur->data + NL_DATAGRAM);
	memcpy(end, data, len);
	memset(end + len, 0, NLMSG_ALIGN(len) - len);
	o->msg->nlmsg_len += NLMSG_ALIGN(len);
}

void nl_attr(struct nl_out *o, u16 type, const void *data, u32 len)
{
	const struct nlattr a = { .nla_len = (u16)(NLA_HDRLEN + len), .nla_type = type };

	nl_put(o, &a, sizeof(a));
	nl_put(o, data, len);
}

void nl_attr_str(struct nl_out *o, u16 type, const char *s)
{
	nl_attr(o, type, s, (u32)strlen(s) + 1);
}

void nl_attr_u16(struct nl_out *o, u16 type, u16 v)
{
	nl_attr(o, type, &v, sizeof(v));
}

void nl_attr_u32(struct nl_out *o, u16 type, u32 v)
{
	nl_attr(o, type, &v, sizeof(v));
}

void nl_attr_u64(struct nl_out *o, u16 type, u64 v)
{
	nl_attr(o, type, &v, sizeof(v));
}

void nl_end(struct nl_out *o)
{
	if (o->msg)
		o->cur->len += o->msg->nlmsg_len;
	o->msg = NULL;
}

void nl_cancel(struct nl_out *o)
{
	o->msg = NULL;
	if (o->cur && !o->cur->len) {
		list_del(&o->cur->node);
		free(o->cur);
		o->cur = NULL;
	}
}

int nl_parse(const struct nlmsghdr *h, const struct nlattr **tb, u16 max)
{
	u32 at = NLMSG_HDRLEN + GENL_HDRLEN;

	memset(tb, 0, (max + 1u) * sizeof(*tb));
	if (h->nlmsg_len < at)
		return -EINVAL;
	while (h->nlmsg_len - at >= NLA_HDRLEN) {
		const struct nlattr *a = (const struct nlattr *)((const u8 *)h + at);
		u16 type = a->nla_type & NLA_TYPE_MASK;

		if (a->nla_len < NLA_HDRLEN || a->nla_len > h->nlmsg_len - at)
			return -EINVAL;
		if (type <= max)
			tb[type] = a;
		at += min((u32)NLA_ALIGN(a->nla_len), h->nlmsg_len - at);
	}
	return 0;
}

bool nl_string(const struct nlattr *a, char *to, size_t room)
{
	u32 len = a ? nl_len(a) : 0;

	if (!a || !len)
		return false;
	len = (u32)strnlen(nl_data(a), len);
	if (!len || len >= room)
		return false;
	memcpy(to, nl_data(a), len);
	to[len] = 0;
	return true;
}
