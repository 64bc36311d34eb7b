/* SPDX-License-Identifier: MIT */
/*
 * Management: the generic netlink family "vdpa", version 1, and of the
 * controller as much as finds it. A session is a client's netlink socket: it
 * sends requests, which may block (deleting a device that is in use), and takes
 * the replies afterwards.
 *
 * Whoever reaches the hub is its user, who may do everything: the capability
 * that Linux asks for has no counterpart.
 */
#ifndef VDPA_MGMT_MGMT_H
#define VDPA_MGMT_MGMT_H

#include <sys/types.h>

#include "base/types.h"

struct mgmt_session;

struct mgmt_session *mgmt_session_new(void);
void mgmt_session_free(struct mgmt_session *s);
/* One datagram with any number of requests. 0; -ENOMEM. Errors in it are replies. */
int mgmt_send(struct mgmt_session *s, const void *data, size_t len);
/* The next datagram of replies: its length, cut to @room; -EAGAIN: there is none. */
ssize_t mgmt_receive(struct mgmt_session *s, void *buf, size_t room);

#endif
