// SPDX-License-Identifier: MIT
/* Messages between a VDUSE device and its daemon. Names carry the numbers of the acceptance list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "vdpa/vduse/test_attached.h"

/* ---- G.A 5, 6 ---- */

struct sender { pthread_t thread; u8 status; };

static void *send_status(void *arg)
{
	struct sender *s = arg;

	vdpa_set_status(dev, s->status);
	return NULL;
}

static void *get_state(void *arg)
{
	struct vdpa_vq_state st;
	u16 *q = arg;

	if (ops->get_vq_state(dev, *q, &st))
		*q = 0xdead;
	else
		*q = st.split.avail;
	return NULL;
}

/* Waits until the socket shows @events: what is read past the API is noticed by a thread. */
static void shows(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT};

	for (unsigned i = 0; i < 5000; i++) {
		poll(&p, 1, 0);
		if (p.revents == events)
			return;
		usleep(1000);
	}
	fail_msg("poll shows %#x, not %#x", p.revents, events);
}

static _Atomic bool flooding;

static void *flood(void *arg)
{
	static const struct vduse_dev_response r = { 0 };

	while (atomic_load(&flooding))
		if (send(*(int *)arg, &r, sizeof(r), MSG_DONTWAIT) < 0)
			usleep(10);
	return NULL;
}

/* Replies to nothing, as fast as they go: others still get at the device, and the right one is found. */
static void flooded(void **state)
{
	struct vduse_dev_request q;
	struct sender s = {.status = 1};
	pthread_t t;

	up(1);
	td_mute(&td);
	atomic_store(&flooding, true);
	pthread_create(&t, NULL, flood, &td.sock);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(ops->get_vq_num_max(dev), 128);
	pthread_create(&s.thread, NULL, send_status, &s);
	assert_int_equal(read(td.sock, &q, sizeof(q)), 152);
	while (send(td.sock, &(struct vduse_dev_response){.request_id = q.request_id}, 152, MSG_DONTWAIT) < 0)
		usleep(100);
	pthread_join(s.thread, NULL);
	assert_int_equal(ops->get_status(dev), 1);
	atomic_store(&flooding, false);
	pthread_join(t, NULL);
	atomic_store(&td.mute, false);
	down();
}

/* Readiness through the life of messages, however they are read and answered. */
static void readiness(void **state)
{
	struct vduse_dev_request q[2];
	struct vduse_dev_response r = { 0 };
	struct pollfd p;
	u16 n[2] = {0, 1};
	pthread_t t[2];

	up(2);
	td_mute(&td);
	p = (struct pollfd){.fd = td.sock, .events = POLLIN | POLLOUT};
	assert_int_equal(poll(&p, 1, 0), 0);
	/* Not writable, yet a reply to nothing is taken and dropped. */
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(send(td.sock, &r, sizeof(r), 0), sizeof(r));
		assert_int_equal(poll(&p, 1, 0), 0);
		usleep(100);
	}
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 2; i++) {
			n[i] = (u16)i;
			pthread_create(&t[i], NULL, get_state, &n[i]);
		}
		shows(td.sock, POLLIN);
		assert_int_equal(read(td.sock, &q[0], sizeof(q[0])), 152);
		if (round)
			vduse_look(td.d);
		/* An answer to what has not been read is one to nothing. */
		r.request_id = q[0].request_id + 1;
		assert_int_equal(vduse_write(td.d, &r, sizeof(r)), -ENOENT);
		shows(td.sock, POLLIN | POLLOUT);
		assert_int_equal(read(td.sock, &q[1], sizeof(q[1])), 152);
		shows(td.sock, POLLOUT);
		for (unsigned i = 0; i < 2; i++) {
			r.request_id = q[i].request_id;
			/* By the socket the first, by the API the second: then at once. */
			if (!i) {
				assert_int_equal(send(td.sock, &r, sizeof(r), 0), sizeof(r));
				shows(td.sock, POLLOUT);
				while (vduse_write(td.d, &r, sizeof(r)) != -ENOENT)
					;
			} else {
				assert_int_equal(vduse_write(td.d, &r, sizeof(r)), sizeof(r));
				assert_int_equal(poll(&p, 1, 0), 0);
			}
		}
		/* Either thread may have been the first to ask. */
		for (unsigned i = 0; i < 2; i++)
			pthread_join(t[i], NULL);
	}
	atomic_store(&td.mute, false);
	down();
}

static void protocol(void **state)
{
	struct vduse_dev_response r = { 0 };
	struct vduse_dev_request q[2];
	struct sender s[2] = {{.status = 1}, {.status = 3}};
	struct epoll_event ev = {.events = EPOLLIN | EPOLLET};
	struct pollfd p;
	u8 buf[200] = { 0 };
	int ep = epoll_create1(EPOLL_CLOEXEC);

	up(1);
	td_mute(&td);
	p = (struct pollfd){.fd = td.sock, .events = POLLIN};
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, td.sock, &ev), 0);
	assert_int_equal(fcntl(td.sock, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(read(td.sock, &q[0], sizeof(q[0])), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(fcntl(td.sock, F_SETFL, 0), 0);
	/* The first message opens the way for a second only from another caller: the bus has one lock a device. */
	pthread_create(&s[0].thread, NULL, send_status, &s[0]);
	assert_int_equal(poll(&p, 1, 2000), 1);
	assert_int_equal(epoll_wait(ep, &ev, 1, 2000), 1);
	assert_int_equal(epoll_wait(ep, &ev, 1, 0), 0);
	assert_int_equal(read(td.sock, &q[0], sizeof(q[0])), 152);
	assert_int_equal(q[0].type, VDUSE_SET_STATUS);
	assert_int_equal(q[0].s.status, 1);
	assert_int_equal(poll(&p, 1, 0), 0);

	for (size_t len = 0; len < 152; len++)
		assert_int_equal(vduse_write(td.d, buf, len), -EINVAL);
	r.request_id = q[0].request_id;
	for (unsigned i = 0; i < ARRAY_SIZE(r.reserved); i++) {
		r.reserved[i] = 1;
		assert_int_equal(vduse_write(td.d, &r, sizeof(r)), -EINVAL);
		r.reserved[i] = 0;
	}
	r.request_id++;
	assert_int_equal(vduse_write(td.d, &r, sizeof(r)), -ENOENT);
	r.request_id--;
	/* 10^6 random replies move nothing; a matching number needs luck that the seed does not have. */
	srandom(20261120);
	for (unsigned n = 0; n < 1000000; n++) {
		struct vduse_dev_response x = {.request_id = (u32)random() | 0x100};

		assert_int_equal(vduse_write(td.d, &x, sizeof(x)), -ENOENT);
	}
	assert_int_equal(ops->get_status(dev), 0);
	memcpy(buf, &r, sizeof(r));
	assert_int_equal(vduse_write(td.d, buf, sizeof(buf)), 152);
	assert_int_equal(vduse_write(td.d, &r, sizeof(r)), -ENOENT);
	pthread_join(s[0].thread, NULL);
	assert_int_equal(ops->get_status(dev), 1);

	/* A reply through the socket itself, as io_uring makes it. */
	pthread_create(&s[1].thread, NULL, send_status, &s[1]);
	assert_int_equal(read(td.sock, &q[1], sizeof(q[1])), 152);
	assert_int_equal(q[1].request_id, q[0].request_id + 1);
	r.request_id = q[1].request_id;
	assert_int_equal(write(td.sock, &r, 10), 10);
	assert_int_equal(write(td.sock, &r, sizeof(r)), 152);
	pthread_join(s[1].thread, NULL);
	assert_int_equal(ops->get_status(dev), 3);
	atomic_store(&td.mute, false);
	close(ep);
	down();
}

/* Replies in another order than the requests: two callers below the bus's lock. */
static void out_of_order(void **state)
{
	struct vduse_dev_request q[2];
	u16 n[2] = {0, 1};
	pthread_t t[2];

	up(2);
	td_mute(&td);
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, get_state, &n[i]);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(read(td.sock, &q[i], sizeof(q[i])), 152);
	for (int i = 1; i >= 0; i--) {
		struct vduse_dev_response r = {.request_id = q[i].request_id};

		r.vq_state.split.avail_index = (u16)(100 + q[i].vq_state.index);
		assert_int_equal(vduse_write(td.d, &r, sizeof(r)), 152);
	}
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	assert_int_equal(n[0], 100);
	assert_int_equal(n[1], 101);
	atomic_store(&td.mute, false);
	down();
}

/* What a daemon read and did not answer goes to the next one. */
static void next_daemon(void **state)
{
	struct vduse_dev_request q, again;
	struct sender s = {.status = 1};

	up(1);
	td_mute(&td);
	pthread_create(&s.thread, NULL, send_status, &s);
	assert_int_equal(read(td.sock, &q, sizeof(q)), 152);
	td_kill(&td);
	td_start(&td);
	assert_int_equal(read(td.sock, &again, sizeof(again)), 152);
	assert_memory_equal(&q, &again, sizeof(q));
	vduse_write(td.d, &(struct vduse_dev_response){.request_id = q.request_id}, 152);
	pthread_join(s.thread, NULL);
	assert_int_equal(ops->get_status(dev), 1);
	atomic_store(&td.mute, false);
	down();
}

/* ---- G.A 12 ---- */

static u64 now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000 + (u64)t.tv_nsec / 1000000;
}

static void broken(void **state)
{
	struct vdpa_vq_state st;
	u64 features, start = now_ms();
	struct vduse_dev_response late = { 0 };
	unsigned sec;

	up(1);
	assert_int_equal(vduse_get_msg_timeout("disk", &sec), 0);
	assert_int_equal(sec, 30);
	assert_int_equal(vduse_set_msg_timeout("disk", 1), 0);
	assert_int_equal(vduse_set_msg_timeout("nobody", 1), -ENODEV);
	td_mute(&td);
	vdpa_set_status(dev, 1);
	assert_true(now_ms() - start >= 1000);
	assert_int_equal(ops->get_status(dev), 0);
	start = now_ms();
	assert_int_equal(ops->get_vq_state(dev, 0, &st), -EIO);
	assert_int_equal(vdpa_reset(dev), -EIO);
	assert_true(now_ms() - start < 500);
	assert_int_equal(td_ioctl(&td, VDUSE_DEV_GET_FEATURES, &features, 8), -EPERM);
	assert_int_equal(vduse_write(td.d, &late, sizeof(late)), -ENOENT);
	/* G.A 6: that is what polling shows; who reads past the API takes it once, and asks for it again. */
	shows(td.sock, POLLERR);
	assert_int_equal(recv(td.sock, &late, sizeof(late), MSG_DONTWAIT), -1);
	assert_int_equal(errno, ECONNRESET);
	vduse_look(td.d);
	shows(td.sock, POLLERR);
	td_kill(&td);
	/* The next daemon finds it so too. */
	atomic_store(&td.mute, true);
	assert_int_equal(vduse_open("disk", &td.d, &td.sock), 0);
	shows(td.sock, POLLERR);
	close(td.sock);
	td.sock = -1;
	vduse_close(td.d);
	down();
	/* Made anew it works. */
	up(1);
	vdpa_set_status(dev, 1);
	assert_int_equal(ops->get_status(dev), 1);
	down();
}

/* 0: as long as it takes. */
static void no_time_out(void **state)
{
	struct sender s = {.status = 1};

	up(1);
	assert_int_equal(vduse_set_msg_timeout("disk", 0), 0);
	td_mute(&td);
	pthread_create(&s.thread, NULL, send_status, &s);
	usleep(1200000);
	assert_int_equal(ops->get_status(dev), 0);
	atomic_store(&td.mute, false);
	pthread_join(s.thread, NULL);
	assert_int_equal(ops->get_status(dev), 1);
	down();
}

static void *send_for(void *arg)
{
	vdpa_caller = *(int *)arg;
	vdpa_set_status(dev, 1);
	return NULL;
}

/* Who asked is killed: that message is withdrawn, the device lives. */
static void caller_leaves(void **state)
{
	struct vduse_dev_request q;
	struct vduse_dev_response r = { 0 };
	u64 start = now_ms();
	pthread_t t;
	int sv[2];

	up(1);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv), 0);
	atomic_store(&td.mute, true);
	usleep(50000);
	pthread_create(&t, NULL, send_for, &sv[0]);
	assert_int_equal(read(td.sock, &q, sizeof(q)), 152);
	close(sv[1]);
	pthread_join(t, NULL);
	assert_true(now_ms() - start < 5000);
	assert_int_equal(ops->get_status(dev), 0);
	r.request_id = q.request_id;
	assert_int_equal(vduse_write(td.d, &r, sizeof(r)), -ENOENT);
	atomic_store(&td.mute, false);
	vdpa_set_status(dev, 1);
	assert_int_equal(ops->get_status(dev), 1);
	down();
	close(sv[0]);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		{ "G.A 5, 6: replies that are wrong; readiness", protocol, NULL, NULL, NULL },
		{ "G.A 5: replies without an end", flooded, NULL, NULL, NULL },
		{ "G.A 6: POLLIN and POLLOUT as messages come, are read and answered", readiness, NULL, NULL, NULL },
		{ "G.A 5: replies out of order", out_of_order, NULL, NULL, NULL },
		{ "G.A 11: unanswered messages go to the next daemon", next_daemon, NULL, NULL, NULL },
		{ "G.A 12: a daemon that does not answer", broken, NULL, NULL, NULL },
		{ "G.A 12: time-out 0", no_time_out, NULL, NULL, NULL },
		{ "G.A 12: the caller is killed", caller_leaves, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests(tests, attached_set_up, attached_tear_down);
}
