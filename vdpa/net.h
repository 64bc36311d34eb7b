/* SPDX-License-Identifier: MIT */
/*
 * virtio network driver. Source: VIRTIO 1.1 "Network Device".
 *
 * Frames are copied into and out of bounce memory, without offloads, so each is
 * a whole Ethernet frame without checksum. The device is not trusted: lengths,
 * buffer counts and every value of the configuration are checked. Any number
 * of threads; a direction of a queue pair has its own lock. A device whose
 * daemon dies keeps what was posted for the next one.
 */
#ifndef VDPA_NET_H
#define VDPA_NET_H

#include <sys/uio.h>

#include "base/types.h"

struct vnet;
struct vdpa_session;

#define VNET_MAC_LEN 6
#define VNET_FRAME_MAX 65553u	/* 65535 bytes behind the longest header, with a VLAN tag */

struct vnet_cfg {
	u16 pairs;		/* queue pairs wanted; 0 or 1: one, without asking for more */
	u16 depth;		/* ring size, 0 = the device's, within reason */
	bool no_indirect, no_event_idx, no_mergeable;
	int cancel_fd;		/* readable: vnet_open_device() gives up, -EINTR; 0 = none */
};

struct vnet_info {
	u8 mac[VNET_MAC_LEN];	/* the device's, or one that was made up */
	u16 mtu;
	bool link_up;
	u16 pairs, max_pairs;	/* in use; possible */
	u32 max_frame;		/* bytes of a frame that may be sent */
	bool mergeable, set_mac, rx_modes, mac_table, vlans;	/* what can be done */
};

/* The session becomes the driver's, in failure too. NULL, errno and a line in @err. */
struct vnet *vnet_open(struct vdpa_session *s, const char *name, const struct vnet_cfg *cfg, char err[256]);
/* The device of that name, over the hub's socket. NULL, errno and a line in @err. */
struct vnet *vnet_open_device(const char *name, const struct vnet_cfg *cfg, char err[256]);
/* A daemon that does not answer is left to the hub after VNET_CLOSE_MS. */
void vnet_close(struct vnet *n);
#define VNET_CLOSE_MS 2000
void vnet_info(struct vnet *n, struct vnet_info *i);

/*
 * Send a frame of @nr pieces. 0; -EAGAIN: ring or bounce memory is full (vnet_tx_arm() tells when it
 * is not); -EMSGSIZE: shorter than a header or longer than max_frame; -ENODEV, -EIO: the device has
 * gone, or broke the ring's rules.
 */
int vnet_send(struct vnet *n, u16 pair, const struct iovec *iov, unsigned nr);
/*
 * The next frame: its length, at most @room, longer ones and those that make no sense being dropped; -EAGAIN: none
 * is there (vnet_rx_arm() tells when one is); -ENODEV, -EIO.
 */
ssize_t vnet_receive(struct vnet *n, u16 pair, void *buf, size_t room);
/* Frames that were dropped since the device made no sense of them. */
u64 vnet_rx_errors(struct vnet *n, u16 pair);

/* Descriptors that are readable after the device has called; and with them: */
int vnet_rx_fd(const struct vnet *n, u16 pair);
int vnet_tx_fd(const struct vnet *n, u16 pair);
/* Take the call back and ask for the next one. True: there is something to do already. */
bool vnet_rx_arm(struct vnet *n, u16 pair);
bool vnet_tx_arm(struct vnet *n, u16 pair);
/* Wait until there is a frame, at most @ms, -1 for ever: 1, 0, -ENODEV, -EINTR. */
int vnet_wait(struct vnet *n, u16 pair, int ms);

/* Becomes readable when the configuration may have changed, or the device has gone. */
int vnet_config_fd(const struct vnet *n);
#define VNET_CHANGED 1		/* link or MTU */
#define VNET_ANNOUNCE 2		/* the device asks that the driver's addresses be made known; that was acknowledged */
/* Read it again: the flags above, 0, -ENODEV. */
int vnet_update(struct vnet *n);

/*
 * The control queue. 0; -EOPNOTSUPP: not negotiated; -EINVAL; -EIO: the device refuses; -ETIMEDOUT: it
 * does not answer, and is not asked again; -ENODEV.
 */
enum vnet_rx_mode {	/* VIRTIO_NET_CTRL_RX_*; those behind ALLMULTI are extra */
	VNET_PROMISC, VNET_ALLMULTI, VNET_ALLUNI, VNET_NOMULTI, VNET_NOUNI, VNET_NOBCAST
};
int vnet_set_rx_mode(struct vnet *n, enum vnet_rx_mode mode, bool on);
int vnet_set_mac(struct vnet *n, const u8 mac[VNET_MAC_LEN]);
/* Addresses whose frames are received: first @unicast of them, then @multicast. */
int vnet_set_mac_table(struct vnet *n, const u8 (*macs)[VNET_MAC_LEN], u32 unicast, u32 multicast);
int vnet_set_vlan(struct vnet *n, u16 id, bool on);
/* Queue pairs in use; those beyond are not looked at by the device. */
int vnet_set_pairs(struct vnet *n, u16 pairs);

#endif
