/* SPDX-License-Identifier: MIT */
/* Requests to the hub's management, and their replies, for vdpa_mgmt.c. */
#ifndef TOOLS_VDPA_NL_H
#define TOOLS_VDPA_NL_H

#include "base/types.h"

struct vdpa_req {
	_Alignas(4) u8 data[2048];
	u32 len;
};

void vdpa_req_init(struct vdpa_req *r, u8 cmd, bool dump);
/* False: too long. */
bool vdpa_req_attr(struct vdpa_req *r, u16 type, const void *data, u32 len);
bool vdpa_req_str(struct vdpa_req *r, u16 type, const char *s);

/* An attribute's place in a reply; NULL if it is not there. */
struct vdpa_attrs {
	const void *at[32];
	u32 len[32];
	/* The reply itself, for attributes that come repeatedly. */
	const u8 *all, *end;
};
u64 vdpa_attr_num(const struct vdpa_attrs *a, unsigned type);
const char *vdpa_attr_str(const struct vdpa_attrs *a, unsigned type);
/* Attributes in order: *@pos starts as a->all. False at the end. */
bool vdpa_attr_next(const struct vdpa_attrs *a, const u8 **pos, u16 *type, const void **data);

/*
 * Send, and give each reply to @fn. 0; -errno of the answer, with its text in @why (empty if it
 * has none); -EIO: no hub.
 */
int vdpa_req_run(struct vdpa_req *r, void (*fn)(void *arg, const struct vdpa_attrs *a), void *arg,
		 char *why, size_t room);

#endif
