/* SPDX-License-Identifier: MIT */
/* Netlink messages: taking requests apart, putting replies together as a queue of datagrams. */
#ifndef VDPA_MGMT_NL_H
#define VDPA_MGMT_NL_H

#include <linux/genetlink.h>
#include <linux/netlink.h>

#include "base/list.h"
#include "base/types.h"

/* A reply's datagram ends where this many bytes are full: receivers' buffers are a page. */
#define NL_DATAGRAM 3776

struct nl_datagram {
	struct list node;
	u32 len;
	u8 data[];
};

/* Replies in the making. Out of memory is noted, and reported by nl_failed(). */
struct nl_out {
	struct list queue;	/* of nl_datagram; the last one is being filled */
	bool no_memory;
	struct nl_datagram *cur;
	struct nlmsghdr *msg;	/* being put together, within @cur; NULL between messages */
};

void nl_out_init(struct nl_out *o);
void nl_out_free(struct nl_out *o);
/* The first datagram, which becomes the caller's to free(), or NULL. */
struct nl_datagram *nl_out_take(struct nl_out *o);

/*
 * Begin a message; attributes follow; end it. A message is no longer than half a datagram. Those
 * of a dump join what is in the last datagram (@joins), others have one of their own.
 */
void nl_begin(struct nl_out *o, u16 type, u16 flags, u32 seq, u32 pid, bool joins);
void nl_put(struct nl_out *o, const void *data, u32 len);	/* raw, padded to 4 */
void nl_attr(struct nl_out *o, u16 type, const void *data, u32 len);
void nl_attr_str(struct nl_out *o, u16 type, const char *s);
void nl_attr_u16(struct nl_out *o, u16 type, u16 v);
void nl_attr_u32(struct nl_out *o, u16 type, u32 v);
void nl_attr_u64(struct nl_out *o, u16 type, u64 v);
void nl_end(struct nl_out *o);
/* Take back the message that is being put together. */
void nl_cancel(struct nl_out *o);

/*
 * Attributes of a request behind the generic header, by type; those above @max are skipped.
 * -EINVAL: malformed.
 */
int nl_parse(const struct nlmsghdr *h, const struct nlattr **tb, u16 max);
static inline u32 nl_len(const struct nlattr *a)
{
	return (u32)a->nla_len - NLA_HDRLEN;
}
static inline const void *nl_data(const struct nlattr *a)
{
	return (const u8 *)a + NLA_HDRLEN;
}
/* A string, ended whether it was or not; false if there is none, it is empty, or it does not fit. */
bool nl_string(const struct nlattr *a, char *to, size_t room);

#endif
