// SPDX-License-Identifier: MIT
/* Files of the hub over socket pairs: calls, descriptors, sharing over fork(), release, bad messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/ioctl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vdpa/hub/hub_priv.h"

/* A kind for the test: adds, waits, keeps and gives descriptors. */
#define ADD_ONE _IOWR('t', 1, u32)
#define WAIT _IO('t', 2)
#define SIGNAL_FD _IOW('t', 3, u64)	/* {u32, int fd}: adds 1 to the eventfd */
#define GET_FD _IO('t', 4)
#define TAIL _IOW('t', 5, u64)		/* {u32 off, u32 len, bytes}: their sum, and bytes + 1 back */
#define END _IO('t', 6)
#define WHO _IO('t', 7)

static _Atomic unsigned opened, released, waiting, running;
static _Atomic bool go;

static int t_open(struct hub_file *f, const struct vdpa_msg *req, struct vdpa_msg *rep)
{
	if (req->head.len == 3 && !memcmp(req->data, "bad", 3))
		return -EBUSY;
	atomic_fetch_add(&opened, 1);
	hub_reply(rep, "welcome", 7);
	return 0;
}

static s64 t_call(struct hub_file *f, const struct vdpa_msg *req, struct vdpa_msg *rep)
{
	u64 one = 1;
	u32 v[2] = { 0 };

	if (req->head.op != VDPA_OP_IOCTL)
		return -ENOTTY;
	memcpy(v, req->data, min(req->head.len, (u32)sizeof(v)));
	switch ((u32)req->head.value) {
	case ADD_ONE:
		v[0]++;
		hub_reply(rep, v, 4);
		return 0;
	case WAIT:
		atomic_fetch_add(&running, 1);
		atomic_fetch_add(&waiting, 1);
		while (!atomic_load(&go))
			sched_yield();
		atomic_fetch_sub(&running, 1);
		return 0;
	case SIGNAL_FD:
		return req->nfds == 1 ? (write(req->fds[0], &one, 8) == 8 ? 0 : -EIO) : -EBADF;
	case GET_FD:
		hub_reply_fd(rep, eventfd(42, EFD_CLOEXEC));
		return 0;
	case TAIL: {
		u8 bytes[64];

		for (u32 i = 0; i < v[1] && i < req->head.len - 8; i++) {
			v[0] += req->data[8 + i];
			bytes[i] = (u8)(req->data[8 + i] + 1);
		}
		hub_reply(rep, bytes, req->head.len - 8);
		return v[0];
	}
	case END:
		hub_file_end(f);
		return 0;
	case WHO:
		return req->pid;
	default:
		return -ENOTTY;
	}
}

static void t_release(struct hub_file *f)
{
	assert_int_equal(atomic_load(&running), 0);
	atomic_fetch_add(&released, 1);
}

static const struct hub_file_ops test_kind = {
	.kind = VDPA_FILE_VIRTIO, .open = t_open, .call = t_call, .release = t_release,
};

static const struct vdpa_ioctl_rule rules[] = {
	{ .req = SIGNAL_FD, .in = 8, .fd_at = 4, .len_at = -1 },
	{ .req = TAIL, .in = 8, .fd_at = -1, .len_at = 4, .tail_in = true, .tail_out = true },
	{ 0 },
};

static int begin(s64 kind, const char *data, s64 *result)
{
	struct vdpa_msg m = { .head = { .op = VDPA_OP_OPEN, .value = kind, .len = (u32)strlen(data) } };
	int pair[2];

	memcpy(m.data, data, strlen(data));
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	hub_new_client(pair[1]);
	assert_int_equal(vdpa_msg_send(pair[0], &m), 0);
	assert_int_equal(vdpa_msg_recv(pair[0], &m), 0);
	*result = m.head.value;
	if (!m.head.value)
		assert_memory_equal(m.data, "welcome", 7);
	return pair[0];
}

static int begin_ok(void)
{
	s64 result;
	int life = begin(test_kind.kind, "x", &result);

	assert_int_equal(result, 0);
	return life;
}

static long call(struct vdpa_chan *c, u32 req, void *arg)
{
	return vdpa_chan_ioctl(c, rules, 4, req, (unsigned long)arg);
}

static void wait_for(_Atomic unsigned *what, unsigned value)
{
	while (atomic_load(what) != value)
		sched_yield();
}

static void wait_all_gone(void)
{
	while (hub_has_files())
		sched_yield();
}

static void test_calls(void **state)
{
	int life = begin_ok(), efd = eventfd(0, EFD_CLOEXEC), fd;
	struct vdpa_chan *c = vdpa_chan_new(life);
	struct { u32 a, b; u8 bytes[8]; } tail = { 5, 4, { 1, 2, 3, 4 } };
	struct { u32 a; int fd; } with_fd = { 0, efd };
	u32 v = 41;
	u64 n;

	assert_int_equal(call(c, ADD_ONE, &v), 0);
	assert_int_equal(v, 42);
	assert_int_equal(call(c, ADD_ONE, (void *)8), -EFAULT);
	assert_int_equal(call(c, SIGNAL_FD, &with_fd), 0);
	assert_int_equal(read(efd, &n, 8), 8);
	assert_int_equal(n, 1);
	with_fd.fd = 9999;
	assert_int_equal(call(c, SIGNAL_FD, &with_fd), -EBADF);
	with_fd.fd = -1;
	assert_int_equal(call(c, SIGNAL_FD, &with_fd), -EBADF);
	fd = (int)call(c, GET_FD, &v);
	assert_true(fd > 0);
	assert_int_equal(read(fd, &n, 8), 8);
	assert_int_equal(n, 42);
	close(fd);
	assert_int_equal(call(c, TAIL, &tail), 5 + 10);
	assert_memory_equal(tail.bytes, "\2\3\4\5\0", 5);
	tail.b = UINT32_MAX;	/* longer than a message: none follows */
	assert_int_equal(call(c, TAIL, &tail), 5);
	assert_int_equal(call(c, WHO, &v), getpid());
	assert_int_equal(call(c, _IO('t', 99), &v), -ENOTTY);
	assert_int_equal(call(c, _IO('t', 99), NULL), -EFAULT);
	vdpa_chan_free(c);
	close(life);
	close(efd);
	wait_all_gone();
}

static void test_refusals(void **state)
{
	s64 result;
	unsigned n = atomic_load(&released);

	close(begin(test_kind.kind, "bad", &result));
	assert_int_equal(result, -EBUSY);
	close(begin(VDPA_FILE_KINDS, "x", &result));
	assert_int_equal(result, -ENOTTY);
	close(begin(-1, "x", &result));
	assert_int_equal(result, -ENOTTY);
	wait_all_gone();
	assert_int_equal(atomic_load(&released), n);
}

/* Replies to a parent and its children never mix. */
static void test_fork(void **state)
{
	int life = begin_ok(), status;
	struct vdpa_chan *c = vdpa_chan_new(life);
	unsigned n = atomic_load(&released);
	pid_t child[3];
	u32 v = 0;

	assert_int_equal(call(c, ADD_ONE, &v), 0);
	for (unsigned i = 0; i < 3; i++) {
		child[i] = fork();
		if (!child[i]) {
			bool good = call(c, WHO, &v) == getpid();

			for (u32 j = 0; j < 300; j++) {
				v = j;
				good &= !call(c, ADD_ONE, &v) && v == j + 1;
			}
			_exit(!good);
		}
	}
	for (u32 j = 0; j < 300; j++) {
		v = j;
		assert_int_equal(call(c, ADD_ONE, &v), 0);
		assert_int_equal(v, j + 1);
	}
	vdpa_chan_free(c);
	close(life);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(waitpid(child[i], &status, 0), child[i]);
		assert_int_equal(status, 0);
	}
	wait_all_gone();
	assert_int_equal(atomic_load(&released), n + 1);
}

static void *call_wait(void *arg)
{
	u32 v;

	return (void *)call(arg, WAIT, &v);
}

/* Closing during a call: released only after it. */
static void test_release_waits(void **state)
{
	int life = begin_ok();
	struct vdpa_chan *c = vdpa_chan_new(life);
	unsigned n = atomic_load(&released);
	pthread_t t;
	void *ret;

	atomic_store(&go, false);
	atomic_store(&waiting, 0);
	assert_int_equal(pthread_create(&t, NULL, call_wait, c), 0);
	wait_for(&waiting, 1);
	shutdown(life, SHUT_RDWR);	/* as if a process had died with it */
	close(life);
	usleep(20000);
	assert_int_equal(atomic_load(&released), n);
	atomic_store(&go, true);
	assert_int_equal(pthread_join(t, &ret), 0);
	assert_int_equal((long)ret, -EIO);
	wait_all_gone();
	assert_int_equal(atomic_load(&released), n + 1);
	vdpa_chan_free(c);
}

static void test_end(void **state)
{
	int life = begin_ok();
	struct vdpa_chan *c = vdpa_chan_new(life);
	u32 v = 0;

	assert_true(call(c, END, &v) <= 0);
	wait_all_gone();
	assert_int_equal(call(c, ADD_ONE, &v), -EIO);
	vdpa_chan_free(c);
	close(life);
}

/* What is no message is ignored on the life, and descriptors that came with it do not pile up. */
static void test_garbage(void **state)
{
	int life = begin_ok();
	struct vdpa_chan *c = vdpa_chan_new(life);
	struct vdpa_msg m = { .head.op = VDPA_OP_ATTACH };
	u8 junk[128] = { 0 };
	u32 v = 1;

	for (size_t len = 1; len < sizeof(junk); len++)
		assert_int_equal(send(life, junk, len, 0), len);
	assert_int_equal(vdpa_msg_send(life, &m), 0);	/* without a descriptor */
	m.nfds = 2;
	m.fds[0] = m.fds[1] = life;
	assert_int_equal(vdpa_msg_send(life, &m), 0);
	m.nfds = 1;
	m.fds[0] = eventfd(0, EFD_CLOEXEC);		/* no socket: that channel ends */
	assert_int_equal(vdpa_msg_send(life, &m), 0);
	close(m.fds[0]);
	assert_int_equal(call(c, ADD_ONE, &v), 0);
	assert_int_equal(v, 2);
	vdpa_chan_free(c);
	close(life);
	wait_all_gone();
}

static int set_up(void **state)
{
	hub_file_register(&test_kind);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_fork),
		cmocka_unit_test(test_release_waits),
		cmocka_unit_test(test_end),
		cmocka_unit_test(test_garbage),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
