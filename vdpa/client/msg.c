// SPDX-License-Identifier: MIT
/* Messages between hub and clients: one record each, descriptors beside it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "vdpa/client/rpc.h"

int vdpa_msg_send(int sock, const struct vdpa_msg *m)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(m->fds))];
	} control;
	struct iovec iov[] = {
		{ (void *)(uintptr_t)&m->head, sizeof(m->head) },
		{ (void *)(uintptr_t)m->data, m->head.len },
	};
	struct msghdr h = { .msg_iov = iov, .msg_iovlen = ARRAY_SIZE(iov) };
	ssize_t n;

	BUG_ON(m->head.len > VDPA_MSG_DATA || m->nfds > VDPA_MSG_FDS);
	if (m->nfds) {
		size_t bytes = m->nfds * sizeof(int);

		memset(&control, 0, sizeof(control));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(bytes);
		memcpy(CMSG_DATA(&control.align), m->fds, bytes);
		h.msg_control = &control;
		h.msg_controllen = CMSG_SPACE(bytes);
	}
	do
		n = sendmsg(sock, &h, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return 0;
	return errno == ECONNRESET ? -EPIPE : -errno;
}

static void take_control(struct vdpa_msg *m, struct msghdr *h)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		size_t bytes = c->cmsg_len - CMSG_LEN(0);

		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_RIGHTS && bytes <= sizeof(m->fds)) {
			memcpy(m->fds, CMSG_DATA(c), bytes);
			m->nfds = (unsigned)(bytes / sizeof(int));
		} else if (c->cmsg_type == SCM_CREDENTIALS) {
			struct ucred cred;

			memcpy(&cred, CMSG_DATA(c), sizeof(cred));
			m->pid = cred.pid;
		}
	}
}

int vdpa_msg_recv(int sock, struct vdpa_msg *m)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(m->fds)) + CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec iov[] = { { &m->head, sizeof(m->head) }, { m->data, sizeof(m->data) } };
	struct msghdr h = {
		.msg_iov = iov, .msg_iovlen = ARRAY_SIZE(iov),
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	ssize_t n;

	m->nfds = 0;
	m->pid = 0;
	do
		n = recvmsg(sock, &h, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	take_control(m, &h);
	if (n == 0) {
		vdpa_msg_close_fds(m);
		return -EPIPE;
	}
	if ((h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || (size_t)n < sizeof(m->head) ||
	    m->head.len != (size_t)n - sizeof(m->head)) {
		vdpa_msg_close_fds(m);
		return -EPROTO;
	}
	return 0;
}

void vdpa_msg_close_fds(struct vdpa_msg *m)
{
	for (unsigned i = 0; i < m->nfds; i++)
		close(m->fds[i]);
	m->nfds = 0;
}

/* Others could have made the folder in /tmp: what is in it counts only if it is ours alone. */
static int check_folder(const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 077) ? 0 : -EACCES;
}

int vdpa_hub_path(char *path, size_t room, bool make)
{
	const char *run = getenv("XDG_RUNTIME_DIR");
	char folder[128];
	int n, err;

	if (run && run[0] == '/')
		n = snprintf(folder, sizeof(folder), "%s/userkvm", run);
	else
		n = snprintf(folder, sizeof(folder), "/tmp/userkvm-%u", (unsigned)geteuid());
	if (n >= (int)sizeof(folder))
		return -ENAMETOOLONG;
	n = snprintf(path, room, "%s/hub", folder);
	if (n >= (int)room)
		return -ENAMETOOLONG;
	if (make && mkdir(folder, 0700) < 0 && errno != EEXIST)
		return -errno;
	err = check_folder(folder);
	return err;
}
