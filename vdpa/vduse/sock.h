/* SPDX-License-Identifier: MIT */
/*
 * The socket whose one end is a daemon's /dev/vduse/NAME: messages, and
 * readiness as the kernel's node shows it. Its owner's lock covers all of it.
 *
 * POLLIN: a message is there, which is what a socket says. POLLOUT: a message
 * has been read and not answered. A socket is writable while what was sent from
 * it and not received is less than a quarter of its buffer, so while there is
 * no such message a filler from the daemon's end lies in a third socket, the
 * sink; real answers still fit. (Who writes past the API, to no message, and
 * faster than it is thrown away, sleeps until there is one.) POLLERR: broken for good. A datagram socket
 * shows it when its peer disconnects with something unread.
 */
#ifndef VDPA_VDUSE_SOCK_H
#define VDPA_VDUSE_SOCK_H

#include <sys/socket.h>
#include <sys/un.h>

#include "base/types.h"

struct vduse_sock {
	int hub, daemon, sink;		/* our end, a duplicate of the daemon's, what takes the filler; -1 closed */
	struct sockaddr_un sink_addr, daemon_addr;
	socklen_t sink_len, daemon_len;
	u32 unit;			/* what one unread message counts in SIOCOUTQ */
	u64 sent;			/* messages so far */
	bool filled;
};

/* The daemon's end (the caller's to hand out), not writable; -errno. */
int vduse_sock_open(struct vduse_sock *s);
void vduse_sock_close(struct vduse_sock *s);
/* Send a message, of always the same size. False: there is no room now. */
bool vduse_sock_send(struct vduse_sock *s, const void *msg, size_t len);
/* How many of the messages sent the daemon has read, by whatever call. */
u64 vduse_sock_read(const struct vduse_sock *s);
/* POLLOUT or not. */
void vduse_sock_writable(struct vduse_sock *s, bool on);
/* Nothing to read or to write, but POLLERR; again if somebody has consumed that. */
void vduse_sock_break(struct vduse_sock *s);

#endif
