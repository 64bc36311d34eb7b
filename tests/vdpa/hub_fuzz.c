// SPDX-License-Identifier: MIT
/*
 * Clients that say anything: random openings, calls, descriptors and garbage
 * from several threads to a hub in this process, with all of its parts.
 *
 *   hub_fuzz SECONDS [SEED]
 *
 * Afterwards, and all along, a well-behaved client must be served.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "abi/vdpa.h"
#include "abi/vduse.h"
#include "abi/vhost.h"
#include "base/log.h"
#include "vdpa/client/rpc.h"
#include "vdpa/client/vduse.h"
#include "vdpa/client/vhost_wire.h"
#include "vdpa/hub/hub_priv.h"
#include "vdpa/mem.h"
#include "vdpa/mgmt.h"
#include "vdpa/mgmt/nl.h"

#define THREADS 4

static _Atomic bool stop;
static _Atomic u64 calls, opened, served;
static _Atomic bool failed;

static u32 rnd(unsigned *seed, u32 below)
{
	return (u32)rand_r(seed) % below;
}

/* ---- Messages that are nearly right ---- */

static const char *const names[] = { "disk", "net", "v0", "v1", "none", "" };

static void put_attr(struct vdpa_msg *m, u16 type, const void *data, u32 len)
{
	const struct nlattr a = { .nla_len = (u16)(NLA_HDRLEN + len), .nla_type = type };

	memcpy(m->data + m->head.len, &a, sizeof(a));
	memcpy(m->data + m->head.len + NLA_HDRLEN, data, len);
	m->head.len += NLA_HDRLEN + NLA_ALIGN(len);
}

static void put_name(struct vdpa_msg *m, u16 type, const char *s)
{
	put_attr(m, type, s, (u32)strlen(s) + 1);
}

static void make_netlink(struct vdpa_msg *m, unsigned *seed)
{
	static const char *const parents[] = { "vdpasim_blk", "vdpasim_net", "vduse", "none" };
	struct nlmsghdr h = { .nlmsg_type = VDPA_MGMT_FAMILY_ID, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK };
	struct genlmsghdr g = { .cmd = (u8)rnd(seed, 9), .version = 1 };

	if (rnd(seed, 3) == 0)
		h.nlmsg_flags |= NLM_F_DUMP;
	memset(m->data, 0, 1024);
	m->head.op = VDPA_OP_FIRST + rnd(seed, 2);
	m->head.len = NLMSG_HDRLEN + GENL_HDRLEN;
	if (rnd(seed, 4))
		put_name(m, VDPA_ATTR_DEV_NAME, names[rnd(seed, ARRAY_SIZE(names))]);
	if (rnd(seed, 4))
		put_name(m, VDPA_ATTR_MGMTDEV_DEV_NAME, parents[rnd(seed, ARRAY_SIZE(parents))]);
	if (rnd(seed, 4) == 0)
		put_attr(m, VDPA_ATTR_DEV_QUEUE_INDEX, &(u32){ rnd(seed, 4) }, 4);
	h.nlmsg_len = m->head.len;
	memcpy(m->data, &h, sizeof(h));
	memcpy(m->data + NLMSG_HDRLEN, &g, sizeof(g));
}

static void make_ioctl(struct vdpa_msg *m, unsigned *seed)
{
	static const u32 reqs[] = {
		VHOST_SET_OWNER, VHOST_SET_VRING_NUM, VHOST_SET_VRING_ADDR, VHOST_SET_VRING_BASE,
		VHOST_GET_VRING_BASE, VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL, VHOST_VDPA_SET_STATUS,
		VHOST_VDPA_GET_CONFIG, VHOST_VDPA_SET_CONFIG, VHOST_VDPA_SET_VRING_ENABLE, VHOST_SET_FEATURES,
		VHOST_VDPA_SET_CONFIG_CALL, VHOST_VDPA_SUSPEND, VHOST_SET_BACKEND_FEATURES,
		VDUSE_CREATE_DEV, VDUSE_DESTROY_DEV, VDUSE_VQ_SETUP, VDUSE_VQ_GET_INFO, VDUSE_VQ_SETUP_KICKFD,
		VDUSE_VQ_INJECT_IRQ, VDUSE_IOTLB_GET_FD, VDUSE_IOTLB_REG_UMEM, VDUSE_DEV_SET_CONFIG,
	};

	m->head.op = VDPA_OP_IOCTL;
	m->head.value = reqs[rnd(seed, ARRAY_SIZE(reqs))];
	m->head.len = rnd(seed, 4) ? (u32)m->head.value >> 16 & 0x3fff : rnd(seed, 64);
	for (u32 i = 0; i < m->head.len; i++)
		m->data[i] = rnd(seed, 3) ? 0 : (u8)rnd(seed, 16);
	if ((u32)m->head.value == VDUSE_CREATE_DEV && rnd(seed, 2)) {
		struct vduse_dev_config c = { .device_id = 2, .features = 1ull << 33 | 1ull << 32, .vq_num = 1 + rnd(seed, 3),
					      .vq_align = 4096, .config_size = 60 };

		strcpy(c.name, names[2 + rnd(seed, 2)]);
		memcpy(m->data, &c, sizeof(c));
		m->head.len = sizeof(c) + 60;
	} else if ((u32)m->head.value == VDUSE_DESTROY_DEV && rnd(seed, 2)) {
		strcpy((char *)m->data, names[2 + rnd(seed, 2)]);
	}
}

static void make_write(struct vdpa_msg *m, unsigned *seed)
{
	struct vhost_wire_write w = { .len = rnd(seed, 8) ? 72 : rnd(seed, 80), .npieces = rnd(seed, 4) };
	struct vhost_msg_v2 msg = { .type = 1 + rnd(seed, 3), .asid = rnd(seed, 3) };

	msg.iotlb = (struct vhost_iotlb_msg){ .iova = (u64)rnd(seed, 32) << 12, .size = (u64)rnd(seed, 4) << 12,
					      .perm = (u8)rnd(seed, 5), .type = (u8)rnd(seed, 8) };
	memcpy(w.msg, &msg, sizeof(w.msg));
	memcpy(m->data, &w, sizeof(w));
	m->head.op = VDPA_OP_WRITE;
	m->head.len = sizeof(w);
	for (u32 i = 0; i < w.npieces; i++) {
		struct vhost_wire_piece p = { .len = (u64)rnd(seed, 4) << 12, .off = (u64)rnd(seed, 4) << 12,
					      .fd = (s32)rnd(seed, 3) - 1, .writable = rnd(seed, 2) };

		memcpy(m->data + m->head.len, &p, sizeof(p));
		m->head.len += sizeof(p);
	}
}

static void make_garbage(struct vdpa_msg *m, unsigned *seed)
{
	m->head.op = rnd(seed, 2) ? rnd(seed, 8) : VDPA_OP_FIRST + rnd(seed, 40);
	m->head.value = rnd(seed, 2) ? rnd(seed, 16) : (s64)rand_r(seed) << 32 | rand_r(seed);
	m->head.len = rnd(seed, rnd(seed, 8) ? 400 : VDPA_MSG_DATA);
	for (u32 i = 0; i < m->head.len; i++)
		m->data[i] = rnd(seed, 4) ? 0 : (u8)rand_r(seed);
}

static void add_fds(struct vdpa_msg *m, unsigned *seed)
{
	int fd = -1;

	m->nfds = 0;
	for (u32 n = rnd(seed, 8) ? rnd(seed, 2) : rnd(seed, VDPA_MSG_FDS + 1); n; n--) {
		switch (rnd(seed, 3)) {
		case 0:
			fd = eventfd(0, EFD_CLOEXEC);
			break;
		case 1:
			fd = memfd_create("fuzz", MFD_CLOEXEC);
			if (fd >= 0 && ftruncate(fd, rnd(seed, 4) * 4096))
				m->head.value ^= 1;
			break;
		default:
			fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
			break;
		}
		if (fd >= 0)
			m->fds[m->nfds++] = fd;
	}
}

/* ---- Clients ---- */

static int new_client(struct vdpa_msg *open_msg)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	hub_new_client(pair[1]);
	open_msg->head.op = VDPA_OP_OPEN;
	if (vdpa_msg_send(pair[0], open_msg) || vdpa_msg_recv(pair[0], open_msg) || open_msg->head.value) {
		close(pair[0]);
		return -EIO;
	}
	return pair[0];
}

static int open_some(unsigned *seed)
{
	struct vdpa_msg m = { .head.value = rnd(seed, VDPA_FILE_KINDS) };
	const char *name = names[rnd(seed, ARRAY_SIZE(names))];
	u32 n = rnd(seed, 4);
	int fd;

	if (m.head.value == VDPA_FILE_VHOST) {
		memcpy(m.data, &n, sizeof(n));
		m.head.len = rnd(seed, 8) ? sizeof(n) : rnd(seed, 8);
	} else {
		m.head.len = (u32)strlen(name);
		memcpy(m.data, name, m.head.len);
	}
	fd = new_client(&m);
	if (fd >= 0)
		vdpa_msg_close_fds(&m);
	return fd;
}

static void one_call(struct vdpa_chan *c, unsigned *seed)
{
	struct vdpa_msg m = { .nfds = 0 };
	int sent[VDPA_MSG_FDS];
	unsigned nsent;

	switch (rnd(seed, 8)) {
	case 0:
		make_garbage(&m, seed);
		break;
	case 1:
	case 2:
		make_netlink(&m, seed);
		break;
	case 3:
	case 4:
		make_write(&m, seed);
		break;
	default:
		make_ioctl(&m, seed);
		break;
	}
	add_fds(&m, seed);
	nsent = m.nfds;
	memcpy(sent, m.fds, sizeof(sent));
	if (vdpa_chan_call(c, &m) != -EIO)
		vdpa_msg_close_fds(&m);
	for (unsigned i = 0; i < nsent; i++)
		close(sent[i]);
	atomic_fetch_add(&calls, 1);
}

static void *client(void *arg)
{
	unsigned seed = (unsigned)(long)arg;

	while (!atomic_load(&stop)) {
		int life = open_some(&seed);
		struct vdpa_chan *c = life >= 0 ? vdpa_chan_new(life) : NULL;

		if (!c) {
			if (life >= 0)
				close(life);
			continue;
		}
		atomic_fetch_add(&opened, 1);
		for (u32 n = rnd(&seed, 64); n; n--) {
			one_call(c, &seed);
			if (rnd(&seed, 16) == 0) {
				u8 junk[64];

				for (unsigned i = 0; i < sizeof(junk); i++)
					junk[i] = (u8)rand_r(&seed);
				send(life, junk, rnd(&seed, sizeof(junk)) + 1, MSG_NOSIGNAL | MSG_DONTWAIT);
			}
		}
		/* In either order: the channel outlives the life, or not. */
		if (rnd(&seed, 2)) {
			close(life);
			vdpa_chan_free(c);
		} else {
			vdpa_chan_free(c);
			close(life);
		}
	}
	return NULL;
}

/* The well-behaved one: lists parents, and finds the one that is always there. */
static bool check(void)
{
	struct vdpa_msg m = { .head.value = VDPA_FILE_MGMT };
	int life = new_client(&m);
	struct vdpa_chan *c = life >= 0 ? vdpa_chan_new(life) : NULL;
	struct nlmsghdr h = { .nlmsg_len = NLMSG_HDRLEN + GENL_HDRLEN, .nlmsg_type = VDPA_MGMT_FAMILY_ID,
			      .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP };
	struct genlmsghdr g = { .cmd = VDPA_CMD_MGMTDEV_GET, .version = 1 };
	bool good = c != NULL;

	m = (struct vdpa_msg){ .head = { .op = VDPA_OP_FIRST, .len = h.nlmsg_len } };
	memcpy(m.data, &h, sizeof(h));
	memcpy(m.data + NLMSG_HDRLEN, &g, sizeof(g));
	good = good && !vdpa_chan_call(c, &m);
	m.head = (struct vdpa_msg_head){ .op = VDPA_OP_FIRST + 1 };
	good = good && vdpa_chan_call(c, &m) > 0 && memmem(m.data, m.head.len, "vdpasim_net", 12);
	if (c)
		vdpa_chan_free(c);
	if (life >= 0)
		close(life);
	return good;
}

int main(int argc, char **argv)
{
	unsigned seconds = argc > 1 ? (unsigned)atoi(argv[1]) : 2;
	long seed = argc > 2 ? atol(argv[2]) : (long)time(NULL);
	time_t end;
	pthread_t t;

	log_set_level(LOG_ERROR);
	printf("TAP version 13\n1..1\n# seed %ld\n", seed);
	fflush(stdout);
	if (vdpa_mem_init() || hub_init_parts())
		return 1;
	/* Never joined: some may be waiting for daemons that do not exist. */
	for (long i = 0; i < THREADS; i++) {
		if (pthread_create(&t, NULL, client, (void *)(seed * THREADS + i)))
			return 1;
		pthread_detach(t);
	}
	for (end = time(NULL) + seconds; time(NULL) < end; usleep(50000)) {
		if (!check())
			atomic_store(&failed, true);
		else
			atomic_fetch_add(&served, 1);
	}
	atomic_store(&stop, true);
	printf("# %llu files, %llu calls, %llu lists\n%sok 1 - the hub serves on\n", (unsigned long long)opened,
	       (unsigned long long)calls, (unsigned long long)served, failed || !check() ? "not " : "");
	fflush(stdout);
	_exit(failed);
}
