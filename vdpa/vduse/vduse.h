/* SPDX-License-Identifier: MIT */
/*
 * VDUSE: devices whose data path is a program of the user ("the daemon").
 *
 * This is what stands behind /dev/vduse/control and /dev/vduse/NAME, as plain
 * functions on decoded arguments; the hub and the preload object carry them.
 * All functions are thread-safe. A daemon is untrusted: whatever it says ends
 * in an errno or in a broken device, never in more than its own device's harm.
 *
 * Source: Documentation/userspace-api/vduse.rst and <linux/vduse.h>: API
 * version 0 with the umem calls of Linux 6.0, network devices as from Linux
 * 6.9, API version 1.
 */
#ifndef VDPA_VDUSE_VDUSE_H
#define VDPA_VDUSE_VDUSE_H

#include <sys/types.h>

#include "abi/vduse.h"
#include "base/types.h"

#define VDUSE_MSG_TIMEOUT 30	/* seconds, default */

struct vduse_dev;

/* Register and take away the management device "vduse". 0 or -errno. */
int __must_check vduse_init(void);
/* The caller has closed every device; those left are destroyed. */
void vduse_exit(void);

/* ---- /dev/vduse/control ---- */

/* An open file; starts as zeroes. */
struct vduse_control {
	u64 api_version;
	bool no_net_admin;	/* who uses it may not make network devices */
};

/*
 * ioctl @nr with the argument's @len bytes at @arg, in and out. CREATE_DEV: the
 * configuration space follows the struct; if it is cut short, the client could
 * not read it: -EFAULT, in its place among the other refusals.
 */
long vduse_control_ioctl(struct vduse_control *c, u32 nr, void *arg, size_t len);

/* Seconds that a message waits, 0 = for ever (sysfs: msg_timeout). -ENODEV. */
int vduse_set_msg_timeout(const char *name, unsigned seconds);
int vduse_get_msg_timeout(const char *name, unsigned *seconds);
/*
 * Bytes of bounce memory (sysfs: bounce_size, Linux 6.4), in whole pages, 64 MiB unless it is said.
 * -EINVAL: not within 1 MiB .. 1 GiB; -EPERM: the device has been attached; -ENODEV.
 */
int vduse_set_bounce_size(const char *name, u64 bytes);
/* Number of devices that exist. */
unsigned vduse_count(void);

/* ---- /dev/vduse/NAME ---- */

/*
 * Open: the device and, in *@sock, the descriptor that the daemon reads its
 * messages from, one request a read (a datagram socket; also writable: a reply
 * written there that is not valid is dropped), ready as the kernel's node is
 * (vdpa/vduse/sock.h). -ENODEV, -EBUSY.
 */
int __must_check vduse_open(const char *name, struct vduse_dev **d, int *sock);
/* Last close: umem goes, outstanding messages wait for the next daemon. */
void vduse_close(struct vduse_dev *d);
/* A reply. @len or -EINVAL, -ENOENT. */
ssize_t vduse_write(struct vduse_dev *d, const void *buf, size_t len);
/*
 * ioctl as above. @in_fd: the descriptor that an argument's number stands for,
 * or -1 if the client has none of that number. *@out_fd: a new descriptor for
 * the client, or -1; for IOTLB_GET_FD the result. VQ_INJECT_IRQ may give the
 * eventfd by which the client can go on itself (vdpa/vduse/page.h) with *@seq.
 */
long vduse_ioctl(struct vduse_dev *d, u32 nr, void *arg, size_t len, int in_fd, int *out_fd, u32 *seq);
/* A message was read from @sock, or its error: readiness is as it should be when this returns. */
void vduse_look(struct vduse_dev *d);
/* The file of the page, read-only; stays the device's. */
int vduse_page_fd(struct vduse_dev *d);
/* The bounce domain's file for a daemon that registers umem, or -EINVAL; stays the device's. */
int vduse_domain_fd(struct vduse_dev *d);

#endif
