// SPDX-License-Identifier: MIT
/*
 * A VDUSE network daemon that knows nothing but the device nodes: usage: net_daemon NAME [api1] [mergeable] [mtu N]
 *
 * Behind the card's cable is a host, 10.9.0.2, that answers ARP and pings of any
 * length. Prints "ready" once the device can be attached, and at SIGTERM what it
 * has done. Run by `userkvm run`; on a kernel with VDUSE it would do the same.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "abi/vduse.h"

#define BIT(n) (1ull << (n))
#define HDR sizeof(struct virtio_net_hdr_v1)
#define DEPTH 256
#define FRAME (65553 + HDR)
#define REGIONS 64
#define DRIVER_OK 4
#define ARP_LEN 42	/* with the Ethernet header */
#define IP_AT 14
#define ICMP_AT 34

enum { RX, TX, VQS };

static const uint8_t host_mac[6] = { 2, 0x75, 0x6b, 0, 0, 2 }, host_ip[4] = { 10, 9, 0, 2 };

static struct region { uint64_t start, last; uint8_t *p; size_t len; } regions[REGIONS];
static unsigned nr_regions;
static struct queue {
	bool on;
	int kick;
	uint16_t num, last_avail, used;
	uint8_t *desc, *avail, *used_ring;
} queues[VQS];
static int dev;
static bool api1, mergeable;
static unsigned long frames, arps, pings, lost;
static uint8_t frame[FRAME];

static void die(const char *what)
{
	fprintf(stderr, "net_daemon: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- Memory ---- */

static int get_fd(uint64_t *start, uint64_t *last, uint64_t *offset)
{
	struct vduse_iotlb_entry_v2 e = { .v1 = { .start = *start, .last = *last } };
	int fd = api1 ? ioctl(dev, VDUSE_IOTLB_GET_FD2, &e) : ioctl(dev, VDUSE_IOTLB_GET_FD, &e.v1);

	*start = e.v1.start;
	*last = e.v1.last;
	*offset = e.v1.offset;
	return fd;
}

static uint8_t *translate(uint64_t iova, uint64_t len)
{
	uint64_t start = iova, last = iova + len - 1, offset;
	struct region *r;
	int fd;

	for (r = regions; r < regions + nr_regions; r++)
		if (iova >= r->start && last <= r->last)
			return r->p + (iova - r->start);
	if (!len || nr_regions == REGIONS)
		return NULL;
	fd = get_fd(&start, &last, &offset);
	if (fd < 0)
		return NULL;
	r->start = start;
	r->last = last;
	r->len = last - start + 1;
	r->p = mmap(NULL, r->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
	close(fd);
	if (r->p == MAP_FAILED)
		return NULL;
	nr_regions++;
	return iova + len - 1 <= r->last ? r->p + (iova - r->start) : NULL;
}

static void forget(void)
{
	while (nr_regions) {
		nr_regions--;
		munmap(regions[nr_regions].p, regions[nr_regions].len);
	}
}

/* ---- Rings ---- */

static uint16_t ld16(const uint8_t *p)
{
	return __atomic_load_n((const uint16_t *)(const void *)p, __ATOMIC_ACQUIRE);
}

static void st16(uint8_t *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)(void *)p, v, __ATOMIC_RELEASE);
}

static bool map_rings(uint32_t n, struct queue *q)
{
	struct vduse_vq_info i = { .index = n };

	if (ioctl(dev, VDUSE_VQ_GET_INFO, &i) || !i.ready)
		return false;
	q->num = (uint16_t)i.num;
	q->desc = translate(i.desc_addr, 16ull * q->num);
	q->avail = translate(i.driver_addr, 6 + 2ull * q->num);
	q->used_ring = translate(i.device_addr, 6 + 8ull * q->num);
	return q->desc && q->avail && q->used_ring;
}

static void start_queue(uint32_t n)
{
	struct vduse_vq_eventfd e = { .index = n };
	struct queue *q = &queues[n];

	if (q->on || !map_rings(n, q))
		return;
	q->used = q->last_avail = ld16(q->used_ring + 2);
	q->kick = e.fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
	if (e.fd < 0 || ioctl(dev, VDUSE_VQ_SETUP_KICKFD, &e))
		die("VQ_SETUP_KICKFD");
	q->on = true;
}

static void stop_queues(void)
{
	for (struct queue *q = queues; q < queues + VQS; q++) {
		if (q->on)
			close(q->kick);
		q->on = false;
	}
}

/* The next chain of direct descriptors: copied out of (tx) or, of one buffer, to be copied to. -1: none. */
static int take(struct queue *q, struct vring_desc *d)
{
	uint16_t head;

	if (ld16(q->avail + 2) == q->last_avail)
		return -1;
	head = ld16(q->avail + 4 + 2 * (q->last_avail % q->num));
	if (head >= q->num)
		return -1;
	q->last_avail++;
	memcpy(d, q->desc + 16 * head, sizeof(*d));
	return head;
}

static void give(struct queue *q, uint32_t id, uint32_t len)
{
	const struct vring_used_elem e = { id, len };

	memcpy(q->used_ring + 4 + 8 * (q->used % q->num), &e, sizeof(e));
	q->used++;
}

static void publish(uint32_t n)
{
	st16(queues[n].used_ring + 2, queues[n].used);
	atomic_thread_fence(memory_order_seq_cst);
	/* Without event index: a driver that wants none says so. */
	if (!(ld16(queues[n].avail) & VRING_AVAIL_F_NO_INTERRUPT) && ioctl(dev, VDUSE_VQ_INJECT_IRQ, &n))
		perror("VQ_INJECT_IRQ");
}

/* ---- The host at the other end ---- */

static uint16_t checksum(const uint8_t *p, size_t len)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void swap(uint8_t *a, uint8_t *b, size_t len)
{
	uint8_t t[6];

	memcpy(t, a, len);
	memcpy(a, b, len);
	memcpy(b, t, len);
}

static bool answer_arp(uint8_t *p, size_t len)
{
	if (len < ARP_LEN || p[21] != 1 || memcmp(p + 38, host_ip, 4))
		return false;
	arps++;
	p[21] = 2;
	memcpy(p + 32, p + 22, 10);
	memcpy(p + 22, host_mac, 6);
	memcpy(p + 28, host_ip, 4);
	return true;
}

static bool answer_ping(uint8_t *p, size_t len)
{
	size_t total = len < ICMP_AT + 8 ? 0 : (size_t)p[IP_AT + 2] << 8 | p[IP_AT + 3];

	if (total < 28 || IP_AT + total > len || p[IP_AT] != 0x45 || p[IP_AT + 9] != 1 || p[ICMP_AT] != 8 ||
	    memcmp(p + IP_AT + 16, host_ip, 4) || checksum(p + ICMP_AT, total - 20))
		return false;
	pings++;
	swap(p + IP_AT + 12, p + IP_AT + 16, 4);
	p[ICMP_AT] = 0;
	put16(p + ICMP_AT + 2, 0);
	put16(p + ICMP_AT + 2, checksum(p + ICMP_AT, total - 20));
	return true;
}

static bool answer(uint8_t *p, size_t len)
{
	uint16_t type = len < ETH_HLEN ? 0 : (uint16_t)(p[12] << 8 | p[13]);
	bool ours = (type == ETH_P_ARP && answer_arp(p, len)) || (type == ETH_P_IP && answer_ping(p, len));

	if (ours) {
		memcpy(p, p + 6, 6);
		memcpy(p + 6, host_mac, 6);
	}
	return ours;
}

/* ---- The card ---- */

static void receive(size_t len)
{
	struct virtio_net_hdr_v1 *hdr = NULL;
	struct queue *q = &queues[RX];
	uint16_t begin = q->last_avail, buffers = 0;
	size_t at = 0;

	memset(frame, 0, HDR);
	while (at < len) {
		struct vring_desc d;
		int head = q->on ? take(q, &d) : -1;
		uint8_t *p = head < 0 ? NULL : translate(d.addr, d.len);
		size_t part = d.len < len - at ? d.len : len - at;

		if (!p || (!mergeable && part < len)) {
			/* What was begun is taken back, since nobody has seen it. */
			lost++;
			q->used -= buffers;
			q->last_avail = begin;
			return;
		}
		memcpy(p, frame + at, part);
		if (!at)
			hdr = (struct virtio_net_hdr_v1 *)(void *)p;
		at += part;
		buffers++;
		give(q, (uint32_t)head, (uint32_t)part);
	}
	hdr->num_buffers = buffers;
	publish(RX);
}

static void transmit(void)
{
	struct queue *q = &queues[TX];
	struct vring_desc d;
	int head;

	while ((head = take(q, &d)) >= 0) {
		size_t len = 0;

		for (unsigned i = 0; i < DEPTH; i++) {
			const uint8_t *p = translate(d.addr, d.len);

			if (!p || d.len > sizeof(frame) - len)
				break;
			memcpy(frame + len, p, d.len);
			len += d.len;
			if (!(d.flags & VRING_DESC_F_NEXT) || d.next >= q->num)
				break;
			memcpy(&d, q->desc + 16 * d.next, sizeof(d));
		}
		give(q, (uint32_t)head, 0);
		publish(TX);
		frames++;
		if (len > HDR && answer(frame + HDR, len - HDR))
			receive(len);
	}
}

/* ---- Messages ---- */

static void message(void)
{
	struct vduse_dev_response r = { .result = VDUSE_REQ_RESULT_OK };
	struct vduse_dev_request q;

	if (read(dev, &q, sizeof(q)) != sizeof(q))
		die("read");
	r.request_id = q.request_id;
	switch (q.type) {
	case VDUSE_GET_VQ_STATE:
		r.vq_state.split.avail_index = queues[q.vq_state.index % VQS].last_avail;
		break;
	case VDUSE_SET_STATUS:
		if (q.s.status & DRIVER_OK) {
			start_queue(RX);
			start_queue(TX);
		} else if (!q.s.status) {
			stop_queues();
			forget();
		}
		break;
	case VDUSE_UPDATE_IOTLB:
		forget();
		for (uint32_t i = 0; i < VQS; i++)
			if (queues[i].on && !map_rings(i, &queues[i]))
				r.result = VDUSE_REQ_RESULT_FAILED;
		break;
	case VDUSE_SET_VQ_GROUP_ASID:
		break;
	default:
		r.result = VDUSE_REQ_RESULT_FAILED;
	}
	if (write(dev, &r, sizeof(r)) != sizeof(r))
		die("write");
}

static int create(const char *name, uint16_t mtu)
{
	struct {
		struct vduse_dev_config_api1 c;
		struct virtio_net_config n;
	} arg = {
		.c = { .device_id = 1, .vendor_id = 0x756b, .vq_num = VQS, .vq_align = 4096, .ngroups = api1, .nas = api1,
		       .config_size = sizeof(arg.n),
		       .features = BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_MTU) | BIT(VIRTIO_NET_F_STATUS) | BIT(32) |
				   BIT(33) | (mergeable ? BIT(VIRTIO_NET_F_MRG_RXBUF) : 0) },
		.n = { .mac = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 }, .status = VIRTIO_NET_S_LINK_UP, .mtu = mtu,
		       .max_virtqueue_pairs = 1 },
	};
	uint64_t version = api1;
	char path[300];
	int control = open("/dev/vduse/control", O_RDWR | O_CLOEXEC);

	if (control < 0 || ioctl(control, VDUSE_SET_API_VERSION, &version))
		die("/dev/vduse/control");
	snprintf(arg.c.name, sizeof(arg.c.name), "%s", name);
	if (ioctl(control, VDUSE_CREATE_DEV, &arg) && errno != EEXIST)
		die("CREATE_DEV");
	snprintf(path, sizeof(path), "/dev/vduse/%s", name);
	dev = open(path, O_RDWR | O_CLOEXEC);
	if (dev < 0)
		die(path);
	return control;
}

static void serve(int signals)
{
	for (;;) {
		struct pollfd p[] = {
			{ .fd = signals, .events = POLLIN },
			{ .fd = dev, .events = POLLIN },
			{ .fd = queues[TX].on ? queues[TX].kick : -1, .events = POLLIN },
		};
		eventfd_t n;

		if (poll(p, 3, -1) < 0 && errno != EINTR)
			die("poll");
		if (p[0].revents)
			return;
		if (p[1].revents & POLLIN)
			message();
		if (p[2].revents & POLLIN && queues[TX].on && !eventfd_read(queues[TX].kick, &n))
			transmit();
	}
}

int main(int argc, char **argv)
{
	uint16_t mtu = 1500;
	char name[VDUSE_NAME_MAX] = "";
	sigset_t set;
	int control;

	for (int i = 2; i < argc; i++) {
		api1 |= !strcmp(argv[i], "api1");
		mergeable |= !strcmp(argv[i], "mergeable");
		if (!strcmp(argv[i], "mtu") && i + 1 < argc)
			mtu = (uint16_t)atoi(argv[++i]);
	}
	if (argc < 2)
		return fprintf(stderr, "usage: net_daemon NAME [api1] [mergeable] [mtu N]\n"), 1;
	snprintf(name, sizeof(name), "%s", argv[1]);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	control = create(name, mtu);
	for (uint32_t i = 0; i < VQS; i++) {
		struct vduse_vq_config c = { .index = i, .max_size = DEPTH };

		if (ioctl(dev, VDUSE_VQ_SETUP, &c))
			die("VQ_SETUP");
		/* The driver may be there already, if another daemon served it before. */
		start_queue(i);
	}
	puts("ready");
	fflush(stdout);
	serve(signalfd(-1, &set, SFD_CLOEXEC));
	printf("frames %lu arp %lu ping %lu lost %lu\n", frames, arps, pings, lost);
	close(dev);
	if (ioctl(control, VDUSE_DESTROY_DEV, name) && errno != EBUSY)
		die("DESTROY_DEV");
	return 0;
}
