// SPDX-License-Identifier: MIT
/*
 * virtio network driver: control queue and configuration. A request has its
 * place in a piece of coherent memory: header and data, answer behind them.
 */
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "vdpa/virtio/net.h"

#define CTRL_MEM 8192u
#define CTRL_DEPTH 16
#define ANSWER_MS 5000
#define SLICE_MS 500		/* how often a waiter looks whether there still is a device */
#define MTU_LEAST 68
#define MTU_DEFAULT 1500
#define FRAME_EXTRA 18		/* addresses, type, VLAN tag */

const u64 vnet_features =
	BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_MTU) | BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_MRG_RXBUF) |
	BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_RX) | BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) |
	BIT(VIRTIO_NET_F_CTRL_VLAN) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) | BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) |
	BIT(VIRTIO_NET_F_MQ);

/* ---- Configuration ---- */

int vnet_read_config(struct vnet *n, struct vnet_info *i)
{
	struct virtio_net_config c = { 0 };
	struct vdev *v = n->v;
	int ret = vdev_config(v, 0, &c, min((u32)sizeof(c), v->config_size));

	if (ret)
		return ret;
	if (vdev_has(v, VIRTIO_NET_F_MAC))
		memcpy(i->mac, c.mac, sizeof(i->mac));
	i->mtu = vdev_has(v, VIRTIO_NET_F_MTU) && c.mtu >= MTU_LEAST ? c.mtu : MTU_DEFAULT;
	/* Receive buffers were made for the first one. */
	i->mtu = min(i->mtu, n->mtu_max);
	i->link_up = !vdev_has(v, VIRTIO_NET_F_STATUS) || (c.status & VIRTIO_NET_S_LINK_UP);
	i->max_pairs = vdev_has(v, VIRTIO_NET_F_MQ) ? max(c.max_virtqueue_pairs, (u16)1) : 1;
	i->max_frame = i->mtu + FRAME_EXTRA;
	return vdev_has(v, VIRTIO_NET_F_STATUS) && (c.status & VIRTIO_NET_S_ANNOUNCE) ? 1 : 0;
}

int vnet_config_fd(const struct vnet *n)
{
	return n->v->config_fd;
}

/* ---- Requests ---- */

int vnet_ctrl_init(struct vnet *n, u16 index)
{
	int ret = vdev_vq_init(n->v, index, CTRL_DEPTH, 0);

	if (ret)
		return ret;
	n->ctrl_mem = vdma_alloc(n->v->dma, CTRL_MEM, &n->ctrl_iova);
	if (!n->ctrl_mem)
		return -errno;
	n->ctrl = &n->v->vqs[index];
	return 0;
}

void vnet_ctrl_exit(struct vnet *n)
{
	if (n->ctrl_mem)
		vdma_release(n->v->dma, n->ctrl_iova, CTRL_MEM);
}

static u64 now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000 + (u64)t.tv_nsec / 1000000;
}

/* Until the one request in the ring is finished. 0 or -errno, of which each is final. */
static int await(struct vnet *n)
{
	struct pollfd p = {.fd = n->ctrl->call_fd, .events = POLLIN};
	u64 until = now_ms() + ANSWER_MS, events;
	void *token;
	u8 status;
	u32 len;
	int ret;

	for (;;) {
		ret = vdring_get(n->ctrl->ring, &token, &len);
		if (ret)
			return ret < 0 ? ret : 0;
		if (!vdring_irq_on(n->ctrl->ring))
			continue;
		ret = poll(&p, 1, SLICE_MS);
		if (ret > 0 && read(p.fd, &events, sizeof(events)) < 0 && errno != EAGAIN)
			return -errno;
		if (!ret && vdev_get_status(n->v, &status))
			return -ENODEV;
		if (now_ms() >= until)
			return -ETIMEDOUT;
	}
}

/* @len bytes of data are in place behind the header. */
static int run(struct vnet *n, u8 class, u8 cmd, u32 len)
{
	const struct virtio_net_ctrl_hdr hdr = {.class = class, .cmd = cmd};
	u32 at = sizeof(hdr) + len;
	const struct vdring_sg sg[] = {{n->ctrl_iova, at}, {n->ctrl_iova + at, 1}};
	int ret;

	memcpy(n->ctrl_mem, &hdr, sizeof(hdr));
	n->ctrl_mem[at] = 0xff;
	ret = vdring_add(n->ctrl->ring, sg, 1, 1, n);
	if (ret)
		return ret;
	if (vdring_publish(n->ctrl->ring))
		vdev_kick(n->v, n->ctrl);
	ret = await(n);
	if (ret) {
		n->ctrl_dead = ret;
		return ret;
	}
	return *(const volatile u8 *)&n->ctrl_mem[at] == VIRTIO_NET_OK ? 0 : -EIO;
}

static int request(struct vnet *n, unsigned feature, u8 class, u8 cmd, const void *data, u32 len)
{
	int ret;

	if (!n->ctrl || !vdev_has(n->v, feature))
		return -EOPNOTSUPP;
	if (len > CTRL_MEM - sizeof(struct virtio_net_ctrl_hdr) - 1)
		return -EINVAL;
	pthread_mutex_lock(&n->ctrl_lock);
	ret = n->ctrl_dead;
	if (!ret) {
		if (len)
			memcpy(n->ctrl_mem + sizeof(struct virtio_net_ctrl_hdr), data, len);
		ret = run(n, class, cmd, len);
	}
	pthread_mutex_unlock(&n->ctrl_lock);
	return ret;
}

int vnet_set_rx_mode(struct vnet *n, enum vnet_rx_mode mode, bool on)
{
	const u8 byte = on;

	if (mode > VNET_NOBCAST)
		return -EINVAL;
	return request(n, mode <= VNET_ALLMULTI ? VIRTIO_NET_F_CTRL_RX : VIRTIO_NET_F_CTRL_RX_EXTRA, VIRTIO_NET_CTRL_RX,
		       (u8)mode, &byte, sizeof(byte));
}

int vnet_set_mac(struct vnet *n, const u8 mac[VNET_MAC_LEN])
{
	int ret;

	/* A group's address is nobody's own. */
	if (mac[0] & 1)
		return -EINVAL;
	ret = request(n, VIRTIO_NET_F_CTRL_MAC_ADDR, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, VNET_MAC_LEN);
	if (!ret) {
		pthread_mutex_lock(&n->lock);
		memcpy(n->info.mac, mac, VNET_MAC_LEN);
		pthread_mutex_unlock(&n->lock);
	}
	return ret;
}

/* A number, and so many addresses. */
static u8 *put_macs(u8 *to, const u8 (*macs)[VNET_MAC_LEN], u32 count)
{
	to = mempcpy(to, &count, sizeof(count));
	return count ? mempcpy(to, macs, count * VNET_MAC_LEN) : to;
}

int vnet_set_mac_table(struct vnet *n, const u8 (*macs)[VNET_MAC_LEN], u32 unicast, u32 multicast)
{
	u8 *data, *end;
	int ret;

	if (unicast > CTRL_MEM / VNET_MAC_LEN || multicast > CTRL_MEM / VNET_MAC_LEN)
		return -EINVAL;
	data = malloc(2 * sizeof(u32) + (unicast + multicast) * VNET_MAC_LEN);
	if (!data)
		return -ENOMEM;
	end = put_macs(data, macs, unicast);
	end = put_macs(end, multicast ? macs + unicast : NULL, multicast);
	ret = request(n, VIRTIO_NET_F_CTRL_RX, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data, (u32)(end - data));
	free(data);
	return ret;
}

int vnet_set_vlan(struct vnet *n, u16 id, bool on)
{
	if (id > 4095)
		return -EINVAL;
	return request(n, VIRTIO_NET_F_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN,
		       on ? VIRTIO_NET_CTRL_VLAN_ADD : VIRTIO_NET_CTRL_VLAN_DEL, &id, sizeof(id));
}

int vnet_set_pairs(struct vnet *n, u16 pairs)
{
	int ret;

	if (!pairs || pairs > n->nr_pairs)
		return -EINVAL;
	ret = request(n, VIRTIO_NET_F_MQ, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs, sizeof(pairs));
	if (ret)
		return ret;
	pthread_mutex_lock(&n->lock);
	n->info.pairs = pairs;
	pthread_mutex_unlock(&n->lock);
	vnet_fill(n);
	return 0;
}

int vnet_update(struct vnet *n)
{
	struct vnet_info i;
	int ret, flags = 0;
	u64 events;

	if (read(n->v->config_fd, &events, sizeof(events)) < 0 && errno != EAGAIN)
		return -errno;
	vnet_info(n, &i);
	ret = vnet_read_config(n, &i);
	if (ret < 0)
		return ret;
	pthread_mutex_lock(&n->lock);
	if (i.link_up != n->info.link_up || i.mtu != n->info.mtu)
		flags |= VNET_CHANGED;
	n->info.link_up = i.link_up;
	n->info.mtu = i.mtu;
	n->info.max_frame = i.max_frame;
	pthread_mutex_unlock(&n->lock);
	if (ret && !request(n, VIRTIO_NET_F_GUEST_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, NULL, 0))
		flags |= VNET_ANNOUNCE;
	return flags;
}
