// SPDX-License-Identifier: MIT
/* Netlink by remote call, see vdpa_nl.h. The hub is ours, but its replies are checked all the same. */
#include "tools/vdpa_nl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <linux/genetlink.h>
#include <linux/netlink.h>

#include "abi/vdpa.h"
#include "vdpa/mgmt.h"

void vdpa_req_init(struct vdpa_req *r, u8 cmd, bool dump)
{
	struct nlmsghdr *h = (struct nlmsghdr *)r->data;
	struct genlmsghdr *g = (struct genlmsghdr *)(r->data + NLMSG_HDRLEN);

	r->len = NLMSG_HDRLEN + GENL_HDRLEN;
	*h = (struct nlmsghdr){ .nlmsg_type = VDPA_MGMT_FAMILY_ID,
				.nlmsg_flags = (u16)(NLM_F_REQUEST | NLM_F_ACK | (dump ? NLM_F_DUMP : 0)) };
	*g = (struct genlmsghdr){ .cmd = cmd, .version = VDPA_GENL_VERSION };
}

bool vdpa_req_attr(struct vdpa_req *r, u16 type, const void *data, u32 len)
{
	const struct nlattr a = { .nla_len = (u16)(NLA_HDRLEN + len), .nla_type = type };

	if (len > sizeof(r->data) - r->len - 2 * NLA_HDRLEN)
		return false;
	memcpy(r->data + r->len, &a, sizeof(a));
	memcpy(r->data + r->len + NLA_HDRLEN, data, len);
	memset(r->data + r->len + NLA_HDRLEN + len, 0, NLA_ALIGN(len) - len);
	r->len += NLA_HDRLEN + NLA_ALIGN(len);
	return true;
}

bool vdpa_req_str(struct vdpa_req *r, u16 type, const char *s)
{
	return vdpa_req_attr(r, type, s, (u32)strlen(s) + 1);
}

u64 vdpa_attr_num(const struct vdpa_attrs *a, unsigned type)
{
	u64 v = 0;

	memcpy(&v, a->at[type], min(a->len[type], (u32)sizeof(v)));
	return v;
}

const char *vdpa_attr_str(const struct vdpa_attrs *a, unsigned type)
{
	return a->at[type] ? a->at[type] : "";
}

bool vdpa_attr_next(const struct vdpa_attrs *a, const u8 **pos, u16 *type, const void **data)
{
	struct nlattr at;

	if ((size_t)(a->end - *pos) < sizeof(at))
		return false;
	memcpy(&at, *pos, sizeof(at));
	if (at.nla_len < NLA_HDRLEN || at.nla_len > a->end - *pos)
		return false;
	*type = at.nla_type;
	*data = *pos + NLA_HDRLEN;
	*pos += min((ptrdiff_t)NLA_ALIGN(at.nla_len), a->end - *pos);
	return true;
}

static void find_attrs(struct vdpa_attrs *a, const u8 *from, const u8 *end)
{
	const u8 *pos = from, *before = from;
	const void *data;
	u16 type;

	*a = (struct vdpa_attrs){ .all = from, .end = end };
	for (; vdpa_attr_next(a, &pos, &type, &data); before = pos) {
		if (type >= ARRAY_SIZE(a->at))
			continue;
		a->at[type] = data;
		a->len[type] = (u32)((const struct nlattr *)before)->nla_len - NLA_HDRLEN;
	}
}

/* An acknowledgement: its error, and the text behind the copy of our header. */
static int take_ack(const struct nlmsghdr *h, char *why, size_t room)
{
	const struct nlmsgerr *e = NLMSG_DATA(h);
	struct vdpa_attrs a;

	if (h->nlmsg_flags & NLM_F_ACK_TLVS) {
		find_attrs(&a, (const u8 *)(e + 1), (const u8 *)h + h->nlmsg_len);
		snprintf(why, room, "%s", vdpa_attr_str(&a, NLMSGERR_ATTR_MSG));
	}
	return e->error;
}

int vdpa_req_run(struct vdpa_req *r, void (*fn)(void *arg, const struct vdpa_attrs *a), void *arg,
		 char *why, size_t room)
{
	_Alignas(4) u8 buf[8192];
	struct vdpa_mgmt_client *c;
	int ret = vdpa_mgmt_connect(&c);
	ssize_t n = 0;

	*why = 0;
	if (ret)
		return ret;
	((struct nlmsghdr *)r->data)->nlmsg_len = r->len;
	ret = vdpa_mgmt_send(c, r->data, r->len);
	while (!ret && (n = vdpa_mgmt_receive(c, buf, sizeof(buf))) > 0) {
		const struct nlmsghdr *h = (const struct nlmsghdr *)buf;

		for (int left = (int)n; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
			struct vdpa_attrs a;

			if (h->nlmsg_type == NLMSG_ERROR) {
				ret = take_ack(h, why, room);
			} else if (h->nlmsg_type == VDPA_MGMT_FAMILY_ID && fn) {
				find_attrs(&a, (const u8 *)NLMSG_DATA(h) + GENL_HDRLEN,
					   (const u8 *)h + h->nlmsg_len);
				fn(arg, &a);
			}
		}
	}
	vdpa_mgmt_disconnect(c);
	return ret;
}
