/* SPDX-License-Identifier: MIT */
/*
 * Remote calls between the hub and its clients, and the client's end of them.
 *
 * An open file of the hub (a vhost-vdpa node, a VDUSE device, ...) is one
 * connection, the *life* of the file: it begins with VDPA_OP_OPEN, and when its
 * last descriptor anywhere is closed the file is released. Calls do not travel
 * on it, since several processes may share it (fork, SCM_RIGHTS) and would take
 * each other's replies: each process sends one end of a socket pair over the
 * life, VDPA_OP_ATTACH, and makes its calls on the other end, a *channel*, one
 * at a time.
 *
 * A message is one SOCK_SEQPACKET record: head, data, descriptors as SCM_RIGHTS.
 */
#ifndef VDPA_CLIENT_RPC_H
#define VDPA_CLIENT_RPC_H

#include <sys/types.h>

#include "base/types.h"

#define VDPA_MSG_DATA 8192
#define VDPA_MSG_FDS 16

struct vdpa_msg_head {
	u32 op;		/* echoed by the reply */
	u32 len;	/* of the data */
	s64 value;	/* request: an argument, e.g. the ioctl number; reply: the result, >= 0 or -errno */
};

struct vdpa_msg {
	struct vdpa_msg_head head;
	u8 data[VDPA_MSG_DATA];
	/* Not on the wire as such */
	int fds[VDPA_MSG_FDS];
	unsigned nfds;
	pid_t pid;	/* received on a channel: who sent it */
};

/* What a file is: argument of VDPA_OP_OPEN, in value. */
enum vdpa_file_kind {
	VDPA_FILE_NODES,		/* data: a name below /dev; opens if it exists */
	VDPA_FILE_VHOST,		/* data: u32, the N of /dev/vhost-vdpa-N */
	VDPA_FILE_VDUSE_CONTROL,
	VDPA_FILE_VDUSE,		/* data: name */
	VDPA_FILE_MGMT,
	VDPA_FILE_VIRTIO,		/* data: name of the device to consume */
	VDPA_FILE_KINDS
};

enum {
	/* On the life */
	VDPA_OP_OPEN = 1,	/* value: kind; data and descriptors as the kind says, both ways */
	VDPA_OP_ATTACH,		/* fds[0]: the hub's end of a channel; no reply on the life */
	/* On a channel */
	VDPA_OP_KIND,		/* reply: value is the file's kind, data as at its opening */
	VDPA_OP_IOCTL,		/* value: ioctl number; data: argument bytes, both ways */
	VDPA_OP_WRITE,		/* data: what was written; result as write(2) */
	/* From here on each kind counts for itself. */
	VDPA_OP_FIRST = 64,
};

/* ---- Messages, both ends ---- */

/* 0 or -errno; -EPIPE: the other end is closed. Descriptors stay the caller's. */
int vdpa_msg_send(int sock, const struct vdpa_msg *m);
/*
 * Waits. 0; -EPIPE: closed; -EPROTO: not a message, nothing is kept of it. Descriptors become the
 * caller's, close-on-exec.
 */
int vdpa_msg_recv(int sock, struct vdpa_msg *m);
void vdpa_msg_close_fds(struct vdpa_msg *m);

/* ---- Clients ---- */

/*
 * Path of the hub's socket: below $XDG_RUNTIME_DIR/userkvm or /tmp/userkvm-UID. @make: create the
 * folder (0700). 0; -EACCES: the folder is not ours alone; -ENAMETOOLONG; -errno.
 */
int vdpa_hub_path(char *path, size_t room, bool make);

/*
 * Open a file of the hub, which is started if there is none: @m has value (kind), data and
 * descriptors of the request, and then those of the reply (its descriptors are the caller's).
 * Returns the life's descriptor (close-on-exec) or -errno: the hub's refusal; -ENOENT: no hub
 * and none could be started; -EACCES: the hub is not ours.
 */
int vdpa_hub_open(struct vdpa_msg *m);
/* The same, but a hub is not started: -ENOENT if there is none. */
int vdpa_hub_open_running(struct vdpa_msg *m);
/* True if @fd is the life of a file of our hub, however it got here. */
bool vdpa_hub_owns(int fd);

/* Calls of this process, and of its children by fork(), to one file. Thread-safe; calls are serial. */
struct vdpa_chan;
/* Duplicates @life. NULL and errno. */
struct vdpa_chan *vdpa_chan_new(int life);
void vdpa_chan_free(struct vdpa_chan *c);
/*
 * Send @m, wait, receive the reply into it (its descriptors are the caller's, those sent stay so too).
 * Returns its value; -EIO: the hub is gone; -EINTR: cancelled. Not interrupted by signals, and no cancellation point.
 */
s64 vdpa_chan_call(struct vdpa_chan *c, struct vdpa_msg *m);
/*
 * From now on a call waits @ms at most; one that took longer ends the file, so later ones fail at once.
 * 0: end it now, and calls in progress with it. Any thread; takes no lock.
 */
void vdpa_chan_hurry(struct vdpa_chan *c, unsigned ms);
/*
 * From now on @fd, when it is or becomes readable, ends the file and the calls in progress (-EINTR).
 * -1: no more. It stays the caller's.
 */
void vdpa_chan_cancel_by(struct vdpa_chan *c, int fd);

/*
 * ioctl of a node whose arguments are plain bytes: size and direction are in the number, but for
 * what a rule says. User memory is touched by guarded copies (-EFAULT). Tables end with req 0.
 */
struct vdpa_ioctl_rule {
	u32 req;
	s16 in, out;	/* bytes copied in and out */
	s16 fd_at;	/* offset of an int that is a descriptor (sent if >= 0), or -1 */
	s16 len_at;	/* offset of a u32: that many bytes follow the argument, or -1 */
	bool tail_in, tail_out;	/* which way they go */
};
/*
 * @other: for numbers without a rule: bytes to copy in, or -1 for what the number says. A call whose
 * reply carries a descriptor returns it (IOTLB_GET_FD).
 */
long vdpa_chan_ioctl(struct vdpa_chan *c, const struct vdpa_ioctl_rule *rules, int other, u32 req,
		     unsigned long arg);

#endif
