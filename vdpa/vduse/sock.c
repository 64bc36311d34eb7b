// SPDX-License-Identifier: MIT
/* A daemon's message socket; see the header. */
#include "vdpa/vduse/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "abi/vduse.h"
#include "base/log.h"

#define SEND_BUFFER 8192	/* of the daemon's end; the kernel doubles it */
#define FILLER 6000		/* between a quarter of that and all of it, with room for answers */

static u32 unread(const struct vduse_sock *s)
{
	int n = 0;

	return ioctl(s->hub, SIOCOUTQ, &n) < 0 || n < 0 ? 0 : (u32)n;
}

/* Give a socket a name that the kernel chooses, and tell it. */
static int autobind(int fd, struct sockaddr_un *a, socklen_t *len)
{
	const struct sockaddr_un none = {.sun_family = AF_UNIX};

	*len = sizeof(*a);
	if (bind(fd, (const struct sockaddr *)&none, sizeof(none.sun_family)) < 0 ||
	    getsockname(fd, (struct sockaddr *)a, len) < 0)
		return -errno;
	return 0;
}

static int measure(struct vduse_sock *s)
{
	const struct vduse_dev_request none = { 0 };
	struct vduse_dev_request back;

	if (send(s->hub, &none, sizeof(none), MSG_DONTWAIT) < 0)
		return -errno;
	s->unit = unread(s);
	if (recv(s->daemon, &back, sizeof(back), MSG_DONTWAIT) < 0 || !s->unit)
		return -EIO;
	return 0;
}

int vduse_sock_open(struct vduse_sock *s)
{
	const int buffer = SEND_BUFFER;
	int sv[2], ret;

	*s = (struct vduse_sock){.hub = -1, .daemon = -1, .sink = -1};
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, sv) < 0)
		return -errno;
	s->hub = sv[0];
	s->daemon = fcntl(sv[1], F_DUPFD_CLOEXEC, 0);
	s->sink = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ret = s->daemon < 0 || s->sink < 0 || setsockopt(sv[1], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer)) < 0 ?
	      -errno : 0;
	/* Only its peer may send to the one; whatever others send to the other is thrown away. */
	if (!ret)
		ret = autobind(s->daemon, &s->daemon_addr, &s->daemon_len);
	if (!ret)
		ret = autobind(s->sink, &s->sink_addr, &s->sink_len);
	if (!ret)
		ret = measure(s);
	if (ret) {
		close(sv[1]);
		vduse_sock_close(s);
		return ret;
	}
	vduse_sock_writable(s, false);
	return sv[1];
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void vduse_sock_close(struct vduse_sock *s)
{
	close_fd(&s->hub);
	close_fd(&s->daemon);
	close_fd(&s->sink);
}

bool vduse_sock_send(struct vduse_sock *s, const void *msg, size_t len)
{
	if (send(s->hub, msg, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return false;
	s->sent++;
	return true;
}

u64 vduse_sock_read(const struct vduse_sock *s)
{
	u64 waiting = unread(s) / s->unit;

	return s->sent - min(waiting, s->sent);
}

void vduse_sock_writable(struct vduse_sock *s, bool on)
{
	static const char filler[FILLER];
	char byte;

	if (on) {
		while (recv(s->sink, &byte, sizeof(byte), MSG_DONTWAIT) >= 0)
			;
		s->filled = false;
	} else if (!s->filled) {
		s->filled = sendto(s->daemon, filler, sizeof(filler), MSG_DONTWAIT | MSG_NOSIGNAL,
				   (const struct sockaddr *)&s->sink_addr, s->sink_len) > 0;
		if (!s->filled)
			log_debug("vduse: filler: %s", strerror(errno));
	}
}

void vduse_sock_break(struct vduse_sock *s)
{
	const struct sockaddr_un none = {.sun_family = AF_UNSPEC};
	struct vduse_dev_request old;

	while (recv(s->daemon, &old, sizeof(old), MSG_DONTWAIT) >= 0)
		;
	vduse_sock_writable(s, false);
	/* After a first time our end has no peer any more. */
	(void)connect(s->hub, (const struct sockaddr *)&s->daemon_addr, s->daemon_len);
	/* If there is no room for it, there is enough unread. */
	(void)send(s->daemon, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (connect(s->hub, (const struct sockaddr *)&none, sizeof(none.sun_family)) < 0)
		log_debug("vduse: a broken device shows no error: %s", strerror(errno));
}
