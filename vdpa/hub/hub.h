/* SPDX-License-Identifier: MIT */
/*
 * The hub's end of remote calls: what a kind of open file implements.
 *
 * Each part of the hub registers its kinds from its init function, a row of
 * vdpa/hub/parts.def. One thread serves a file's life (vdpa/client/rpc.h) and
 * one each of its channels, so operations may block, and calls to one file may
 * come from several threads at once.
 */
#ifndef VDPA_HUB_HUB_H
#define VDPA_HUB_HUB_H

#include "vdpa/client/rpc.h"

struct hub_file;

struct hub_file_ops {
	enum vdpa_file_kind kind;
	/*
	 * @req: data and descriptors of VDPA_OP_OPEN. @rep: empty; data and descriptors to be
	 * sent. 0 or -errno; then there is no release.
	 */
	int (*open)(struct hub_file *f, const struct vdpa_msg *req, struct vdpa_msg *rep);
	/*
	 * A call (VDPA_OP_IOCTL, ...). The result is the reply's value. Descriptors of @req are closed
	 * afterwards, those of @rep after sending: duplicate what is to stay.
	 */
	s64 (*call)(struct hub_file *f, const struct vdpa_msg *req, struct vdpa_msg *rep);
	/* The life is closed and no call is running. May block. */
	void (*release)(struct hub_file *f);
};

struct hub_file {
	const struct hub_file_ops *ops;
	void *priv;		/* the kind's */
	pid_t pid;		/* who opened it */
};

void hub_file_register(const struct hub_file_ops *ops);

/* End a file as if its life had been closed: calls fail from now on, then it is released. Any thread. */
void hub_file_end(struct hub_file *f);

/*
 * Wait until the files whose last descriptor is closed already have been released, which happens in
 * their own threads: for those that would refuse because of such a file. Gives up after a while; not
 * from a release.
 */
void hub_settle(void);

/*
 * The hub exits when for some seconds there has been no file, no device on the bus and no hold.
 * A hold is for what shall outlive its files: VDUSE devices.
 */
void hub_hold(void);
void hub_unhold(void);

/* Names below /dev that start so are @has's to know. */
void hub_node_register(const char *prefix, bool (*has)(const char *rest));

/* Append bytes to a reply. */
void hub_reply(struct vdpa_msg *rep, const void *data, u32 len);
/* Append a descriptor, which will be closed after sending. */
void hub_reply_fd(struct vdpa_msg *rep, int fd);

#endif
