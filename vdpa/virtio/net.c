// SPDX-License-Identifier: MIT
/*
 * virtio network driver: frames. A sent frame is one range of bounce memory
 * with its header before it. Receive buffers hold a whole frame, or a page each
 * if the device may merge them; one that was filled is copied out, given back
 * to the bounce memory and replaced at once.
 *
 * The device says how long frames are and of how many buffers: a length beyond
 * a buffer's breaks the ring (vdring.c); what else makes no sense is dropped
 * and counted.
 */
#include "vdpa/virtio/net.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"

#define HDR_LEN ((u32)sizeof(struct virtio_net_hdr_v1))
#define ETH_HEADER 14u
#define DEPTH_MAX 256u
#define PAIRS_MAX 64u
#define MAX_PIECES 15u		/* of a frame that is sent */
#define ALIVE_MS 1000		/* how often a sleeper looks whether there still is a device */
#define RX_SHARE 2		/* at most one part in so many of the bounce memory lies in receive queues */

/* ---- Set-up ---- */

static int queue_init(struct vnet *n, struct vnet_queue *q, u16 index, u16 depth)
{
	int ret = vdev_vq_init(n->v, index, depth, 0);

	if (ret)
		return ret;
	q->vq = &n->v->vqs[index];
	q->depth = vdring_size(q->vq->ring);
	q->bufs = calloc(q->depth, sizeof(*q->bufs));
	if (!q->bufs)
		return -ENOMEM;
	for (u16 i = 0; i < q->depth; i++) {
		q->bufs[i].next = q->idle;
		q->idle = &q->bufs[i];
	}
	return 0;
}

static void queue_exit(struct vnet *n, struct vnet_queue *q)
{
	struct vnet_buf *b;

	if (q->vq)
		while ((b = vdring_detach(q->vq->ring)))
			vdma_unmap(n->v->dma, b->iova, NULL, 0, b->len, VDMA_TO_DEVICE);
	free(q->bufs);
	free(q->frame);
}

/* How deep a receive queue may be, so that all of them leave bounce memory to others. */
static u16 rx_depth(const struct vnet *n, u16 wanted)
{
	u64 block = PAGE_SIZE, depth;

	while (block < n->rx_size)
		block *= 2;
	depth = vdma_max(n->v->dma) / RX_SHARE / n->nr_pairs / block;
	return (u16)max(min(depth, (u64)(wanted ? wanted : DEPTH_MAX)), 2ull);
}

static int setup_queues(struct vnet *n)
{
	u16 depth = n->cfg.depth ? n->cfg.depth : DEPTH_MAX;
	bool mq = vdev_has(n->v, VIRTIO_NET_F_MQ);
	int ret = 0;

	n->nr_pairs = mq ? n->info.max_pairs : 1;
	if (n->nr_pairs > PAIRS_MAX ||
	    n->nr_pairs * 2u + vdev_has(n->v, VIRTIO_NET_F_CTRL_VQ) > n->v->nvqs)
		return -EPROTO;
	n->rx = calloc(n->nr_pairs, sizeof(*n->rx));
	n->tx = calloc(n->nr_pairs, sizeof(*n->tx));
	if (!n->rx || !n->tx)
		return -ENOMEM;
	for (u16 i = 0; i < n->nr_pairs && !ret; i++) {
		ret = queue_init(n, &n->rx[i], (u16)(2 * i), rx_depth(n, n->cfg.depth));
		if (!ret)
			ret = queue_init(n, &n->tx[i], (u16)(2 * i + 1), depth);
		if (ret)
			break;
		n->rx[i].frame = malloc(VNET_FRAME_MAX);
		if (!n->rx[i].frame)
			ret = -ENOMEM;
	}
	if (!ret && vdev_has(n->v, VIRTIO_NET_F_CTRL_VQ))
		ret = vnet_ctrl_init(n, (u16)(2 * n->nr_pairs));
	return ret;
}

/* A locally administered address, for devices that have none. */
static void make_mac(u8 mac[VNET_MAC_LEN])
{
	if (getrandom(mac, VNET_MAC_LEN, 0) != VNET_MAC_LEN)
		memset(mac, 0x5a, VNET_MAC_LEN);
	mac[0] = (u8)((mac[0] & 0xfc) | 2);
}

static int start(struct vnet *n)
{
	struct vdev *v = n->v;
	int ret;

	make_mac(n->info.mac);
	n->mtu_max = UINT16_MAX;
	ret = vnet_read_config(n, &n->info);
	if (ret < 0)
		return ret;
	n->info.mergeable = vdev_has(v, VIRTIO_NET_F_MRG_RXBUF);
	n->info.set_mac = vdev_has(v, VIRTIO_NET_F_CTRL_MAC_ADDR);
	n->info.rx_modes = n->info.mac_table = vdev_has(v, VIRTIO_NET_F_CTRL_RX);
	n->info.vlans = vdev_has(v, VIRTIO_NET_F_CTRL_VLAN);
	n->info.pairs = 1;
	n->rx_size = n->info.mergeable ? PAGE_SIZE : HDR_LEN + n->info.max_frame;
	if (!n->info.mergeable)
		n->mtu_max = n->info.mtu;
	ret = setup_queues(n);
	if (!ret)
		ret = vdev_start(v);
	if (ret)
		return ret;
	vnet_fill(n);
	if (n->cfg.pairs > 1 && vdev_has(v, VIRTIO_NET_F_MQ))
		ret = vnet_set_pairs(n, min(n->cfg.pairs, n->nr_pairs));
	return ret;
}

struct vnet *vnet_open(struct vdpa_session *s, const char *name, const struct vnet_cfg *cfg, char err[256])
{
	u64 without = (cfg->no_indirect ? BIT(VIRTIO_RING_F_INDIRECT_DESC) : 0) |
		      (cfg->no_event_idx ? BIT(VIRTIO_RING_F_EVENT_IDX) : 0) |
		      (cfg->no_mergeable ? BIT(VIRTIO_NET_F_MRG_RXBUF) : 0) |
		      (cfg->pairs > 1 ? 0 : BIT(VIRTIO_NET_F_MQ));
	struct vnet *n = calloc(1, sizeof(*n));
	int ret;

	if (!n) {
		s->close(s);
		snprintf(err, 256, "vdpa device %s: %s", name, strerror(ENOMEM));
		errno = ENOMEM;
		return NULL;
	}
	n->cfg = *cfg;
	n->v = vdev_open(s, name, VIRTIO_ID_NET, vnet_features, without, err);
	if (!n->v) {
		free(n);
		return NULL;
	}
	pthread_mutex_init(&n->lock, NULL);
	pthread_mutex_init(&n->ctrl_lock, NULL);
	ret = start(n);
	if (!ret)
		return n;
	snprintf(err, 256, "vdpa device %s: %s", name,
		 ret == -EPROTO ? "the device refuses this driver" : strerror(-ret));
	vnet_close(n);
	errno = -ret;
	return NULL;
}

struct vnet *vnet_open_device(const char *name, const struct vnet_cfg *cfg, char err[256])
{
	struct vdpa_session *s = vdev_session(name, cfg->cancel_fd, err);
	struct vnet *n = s ? vnet_open(s, name, cfg, err) : NULL;

	if (n)
		vdev_opened(n->v);
	return n;
}

void vnet_close(struct vnet *n)
{
	vdev_hurry(n->v, VNET_CLOSE_MS);
	vdev_stop(n->v);
	for (u16 i = 0; i < n->nr_pairs; i++) {
		if (n->rx)
			queue_exit(n, &n->rx[i]);
		if (n->tx)
			queue_exit(n, &n->tx[i]);
	}
	vnet_ctrl_exit(n);
	vdev_close(n->v);
	free(n->rx);
	free(n->tx);
	pthread_mutex_destroy(&n->lock);
	pthread_mutex_destroy(&n->ctrl_lock);
	free(n);
}

void vnet_info(struct vnet *n, struct vnet_info *i)
{
	pthread_mutex_lock(&n->lock);
	*i = n->info;
	pthread_mutex_unlock(&n->lock);
}

/* ---- Receiving ---- */

/* Post a buffer for every one that is idle, while there is bounce memory. Queue lock held. True: kick. */
static bool fill(struct vnet *n, struct vnet_queue *q)
{
	struct vnet_buf *b;

	while (!q->dead && (b = q->idle)) {
		b->len = n->rx_size;
		b->iova = vdma_map(n->v->dma, NULL, 0, b->len, VDMA_FROM_DEVICE);
		if (!b->iova)
			break;
		if (vdring_add(q->vq->ring, &(struct vdring_sg){b->iova, b->len}, 0, 1, b)) {
			vdma_unmap(n->v->dma, b->iova, NULL, 0, b->len, VDMA_TO_DEVICE);
			break;
		}
		q->idle = b->next;
	}
	return vdring_publish(q->vq->ring);
}

void vnet_fill(struct vnet *n)
{
	struct vnet_info i;

	vnet_info(n, &i);
	for (u16 p = 0; p < i.pairs; p++) {
		struct vnet_queue *q = &n->rx[p];
		bool kick;

		pthread_mutex_lock(&q->vq->lock);
		kick = fill(n, q);
		pthread_mutex_unlock(&q->vq->lock);
		if (kick)
			vdev_kick(n->v, q->vq);
	}
}

static void release(struct vnet *n, struct vnet_queue *q, struct vnet_buf *b, const struct iovec *iov, unsigned nr, u32 len)
{
	vdma_unmap(n->v->dma, b->iova, iov, nr, len, nr ? VDMA_FROM_DEVICE : VDMA_TO_DEVICE);
	b->next = q->idle;
	q->idle = b;
}

/* The first buffer of a frame: into @buf if it is the only one. The frame's length; 0: no frame (yet). */
static size_t first_buffer(struct vnet *n, struct vnet_queue *q, struct vnet_buf *b, u32 len, void *buf, size_t room)
{
	struct virtio_net_hdr_v1 hdr = { 0 };
	u32 data = len > HDR_LEN ? len - HDR_LEN : 0;
	/* By way of memory of our own: how many buffers there are stands in the header, which the device can change. */
	const struct iovec iov[] = {{&hdr, min(len, HDR_LEN)}, {q->frame, data}};
	u16 buffers;

	release(n, q, b, iov, ARRAY_SIZE(iov), len);
	buffers = n->info.mergeable ? hdr.num_buffers : 1;
	if (!data || !buffers || buffers > q->depth) {
		q->errors++;
		return 0;
	}
	q->frame_len = data;
	q->missing = (u16)(buffers - 1);
	q->drop = false;
	if (q->missing)
		return 0;
	if (data < ETH_HEADER || data > room) {
		q->errors++;
		return 0;
	}
	memcpy(buf, q->frame, data);
	return data;
}

/* One more buffer of a frame that has several. */
static size_t next_buffer(struct vnet *n, struct vnet_queue *q, struct vnet_buf *b, u32 len, void *buf, size_t room)
{
	const struct iovec iov = {q->frame + q->frame_len, len};

	/* Too long: what is left is taken in and thrown away, or it would look like the next frame's beginning. */
	if (len > VNET_FRAME_MAX - q->frame_len)
		q->drop = true;
	release(n, q, b, &iov, q->drop ? 0 : 1, len);
	if (!q->drop)
		q->frame_len += len;
	if (--q->missing)
		return 0;
	if (q->drop || q->frame_len < ETH_HEADER || q->frame_len > room) {
		q->errors++;
		return 0;
	}
	memcpy(buf, q->frame, q->frame_len);
	return q->frame_len;
}

ssize_t vnet_receive(struct vnet *n, u16 pair, void *buf, size_t room)
{
	struct vnet_queue *q = &n->rx[pair];
	size_t got = 0;
	void *token;
	bool kick;
	u32 len;
	int ret;

	pthread_mutex_lock(&q->vq->lock);
	ret = q->dead;
	while (!ret && !got) {
		ret = vdring_get(q->vq->ring, &token, &len);
		if (ret != 1)
			break;
		ret = 0;
		got = q->missing ? next_buffer(n, q, token, len, buf, room) :
				   first_buffer(n, q, token, len, buf, room);
	}
	if (ret < 0)
		q->dead = ret;
	kick = !ret && fill(n, q);
	pthread_mutex_unlock(&q->vq->lock);
	if (kick)
		vdev_kick(n->v, q->vq);
	return ret < 0 ? ret : got ? (ssize_t)got : -EAGAIN;
}

u64 vnet_rx_errors(struct vnet *n, u16 pair)
{
	struct vnet_queue *q = &n->rx[pair];
	u64 errors;

	pthread_mutex_lock(&q->vq->lock);
	errors = q->errors;
	pthread_mutex_unlock(&q->vq->lock);
	return errors;
}

/* ---- Sending ---- */

/* Take back what the device has sent. Queue lock held. 0 or -errno. */
static int reap(struct vnet *n, struct vnet_queue *q)
{
	struct vnet_buf *b;
	void *token;
	u32 len;
	int ret = q->dead;

	while (!ret && (ret = vdring_get(q->vq->ring, &token, &len)) == 1) {
		b = token;
		vdma_unmap(n->v->dma, b->iova, NULL, 0, b->len, VDMA_TO_DEVICE);
		b->next = q->idle;
		q->idle = b;
		ret = 0;
	}
	if (ret < 0)
		q->dead = ret;
	return q->dead;
}

/* Queue lock held. */
static int post(struct vnet *n, struct vnet_queue *q, const struct iovec *iov, unsigned nr, u32 len)
{
	struct vnet_buf *b;
	int ret = reap(n, q);

	if (ret)
		return ret;
	b = q->idle;
	if (!b)
		return -EAGAIN;
	b->len = len;
	b->iova = vdma_map(n->v->dma, iov, nr, len, VDMA_TO_DEVICE);
	if (!b->iova)
		return -EAGAIN;
	ret = vdring_add(q->vq->ring, &(struct vdring_sg){b->iova, len}, 1, 0, b);
	if (ret) {
		vdma_unmap(n->v->dma, b->iova, NULL, 0, len, VDMA_TO_DEVICE);
		return ret == -ENOSPC ? -EAGAIN : ret;
	}
	q->idle = b->next;
	return 0;
}

int vnet_send(struct vnet *n, u16 pair, const struct iovec *iov, unsigned nr)
{
	struct virtio_net_hdr_v1 hdr = { 0 };
	struct iovec all[MAX_PIECES + 1] = {{&hdr, HDR_LEN}};
	struct vnet_queue *q = &n->tx[pair];
	struct vnet_info i;
	u64 len = 0;
	bool kick;
	int ret;

	if (nr > MAX_PIECES)
		return -EINVAL;
	for (unsigned k = 0; k < nr; k++) {
		all[k + 1] = iov[k];
		len += iov[k].iov_len;
	}
	vnet_info(n, &i);
	if (len < ETH_HEADER || len > i.max_frame)
		return -EMSGSIZE;
	pthread_mutex_lock(&q->vq->lock);
	ret = post(n, q, all, nr + 1, HDR_LEN + (u32)len);
	kick = !ret && vdring_publish(q->vq->ring);
	pthread_mutex_unlock(&q->vq->lock);
	if (kick)
		vdev_kick(n->v, q->vq);
	return ret;
}

/* ---- Waiting ---- */

int vnet_rx_fd(const struct vnet *n, u16 pair)
{
	return n->rx[pair].vq->call_fd;
}

int vnet_tx_fd(const struct vnet *n, u16 pair)
{
	return n->tx[pair].vq->call_fd;
}

static bool arm(struct vnet_queue *q)
{
	u64 events;
	bool none;

	if (read(q->vq->call_fd, &events, sizeof(events)) < 0 && errno != EAGAIN)
		log_debug("virtio: eventfd: %s", strerror(errno));
	pthread_mutex_lock(&q->vq->lock);
	none = !q->dead && vdring_irq_on(q->vq->ring);
	pthread_mutex_unlock(&q->vq->lock);
	return !none;
}

bool vnet_rx_arm(struct vnet *n, u16 pair)
{
	return arm(&n->rx[pair]);
}

bool vnet_tx_arm(struct vnet *n, u16 pair)
{
	return arm(&n->tx[pair]);
}

int vnet_wait(struct vnet *n, u16 pair, int ms)
{
	struct pollfd p = {.fd = vnet_rx_fd(n, pair), .events = POLLIN};
	u8 status;
	int ret;

	for (;;) {
		int slice = ms < 0 ? ALIVE_MS : min(ms, ALIVE_MS);

		if (vnet_rx_arm(n, pair))
			return 1;
		ret = poll(&p, 1, slice);
		if (ret)
			return ret < 0 ? -errno : 1;
		if (vdev_get_status(n->v, &status))
			return -ENODEV;
		if (ms >= 0 && !(ms -= slice))
			return 0;
	}
}
