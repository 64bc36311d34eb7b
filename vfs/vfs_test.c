// SPDX-License-Identifier: MIT
/* Files, nodes, mappings, notifiers and signal hooks, over a little node that counts. */
#include "vfs/vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <assert.h>
#include <cmocka.h>

static _Atomic int released;
static _Atomic u32 last_req;

static long t_ioctl(struct vfs_file *f, u32 req, unsigned long arg)
{
	last_req = req;
	if (req == 1)
		return vfs_file_new(f->ops, f->priv, memfd_create("child", 0));
	return (long)arg + *(int *)f->priv;
}

static int t_mmap(struct vfs_file *f, size_t len, int prot, int flags, off_t off)
{
	return prot & PROT_EXEC ? -EINVAL : 0;
}

static void t_release(struct vfs_file *f)
{
	released++;
}

static const struct vfs_file_ops t_ops = { .ioctl = t_ioctl, .mmap = t_mmap, .release = t_release };
static int t_priv = 100;

static int t_open(const struct vfs_node *n, struct vfs_file *f, int flags)
{
	int fd = memfd_create("node", 0);

	if (ftruncate(fd, 4096) < 0)
		return -errno;
	f->ops = &t_ops;
	f->priv = &t_priv;
	return fd;
}
static const struct vfs_node t_node = { .path = "/dev/test-node", .open = t_open };

static void open_ioctl_close(void **state)
{
	int fd, child;

	assert_true(vfs_is_node("/dev/test-node"));
	assert_false(vfs_is_node("/dev/test-nod"));
	assert_int_equal(vfs_register_node(&t_node), -EEXIST);

	released = 0;
	fd = vfs_open("/dev/test-node", O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(vfs_ioctl(fd, 7, 5), 105);
	/* A sign-extended request is cut to 32 bits. */
	assert_int_equal(vfs_ioctl(fd, 0xffffffffc008ae05ul, 1), 101);
	assert_int_equal(last_req, 0xc008ae05);
	/* These are the descriptor's, and do not reach the file. */
	assert_int_equal(vfs_ioctl(fd, FIONBIO, (unsigned long)&(int){ 1 }), 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(vfs_ioctl(fd, FIONBIO, (unsigned long)&(int){ 0 }), 0);
	assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(vfs_ioctl(fd, FIONBIO, 8), -EFAULT);
	assert_int_equal(vfs_ioctl(fd, FIONCLEX, 0), 0);
	assert_false(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(vfs_ioctl(fd, FIOCLEX, 0), 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(last_req, 0xc008ae05);
	child = (int)vfs_ioctl(fd, 1, 0);
	assert_true(child >= 0 && child != fd);
	assert_int_equal(vfs_close(fd), 0);
	assert_int_equal(released, 1);
	assert_int_equal(vfs_ioctl(fd, 7, 5), -ENOTTY);
	assert_int_equal(vfs_ioctl(child, 7, 6), 106);
	assert_null(vfs_file_get(child, &(struct vfs_file_ops){ 0 }));
	assert_int_equal(vfs_close(child), 0);
	assert_int_equal(released, 2);
	assert_int_equal(vfs_close(child), -EBADF);
	assert_int_equal(vfs_ioctl(-1, 7, 5), -ENOTTY);
	assert_int_equal(vfs_open("/nonexistent/file", O_RDONLY), -ENOENT);
}

static void mappings_alias(void **state)
{
	int fd = vfs_open("/dev/test-node", O_RDWR);
	volatile char *a, *b;

	assert_false(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	a = vfs_mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	b = vfs_mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(a != MAP_FAILED && b != MAP_FAILED && a != b);
	a[17] = 42;
	assert_int_equal(b[17], 42);
	errno = 0;
	assert_true(vfs_mmap(NULL, 4096, PROT_EXEC, MAP_SHARED, fd, 0) == MAP_FAILED);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(vfs_munmap((void *)a, 4096), 0);
	assert_int_equal(vfs_munmap((void *)b, 4096), 0);
	vfs_close(fd);
}

static void duplicates_share_a_file(void **state)
{
	int fd, two, three, plain;

	released = 0;
	fd = vfs_open("/dev/test-node", O_RDWR);
	two = vfs_dup(fd, 50, true);
	assert_true(two >= 50);
	assert_true(fcntl(two, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(vfs_close(fd), 0);
	assert_int_equal(vfs_ioctl(two, 7, 1), 101);
	assert_int_equal(vfs_dup_to(two, two, 0), two);
	three = vfs_dup_to(two, two + 1, 0);
	assert_int_equal(three, two + 1);
	assert_int_equal(vfs_ioctl(three, 7, 2), 102);
	/* An ordinary descriptor takes the place of one. */
	plain = memfd_create("plain", MFD_CLOEXEC);
	assert_int_equal(vfs_dup_to(plain, three, O_CLOEXEC), three);
	assert_int_equal(vfs_ioctl(three, 7, 2), -ENOTTY);
	assert_int_equal(released, 0);
	/* What fails changes nothing. */
	assert_int_equal(vfs_dup_to(1 << 19, two, 0), -EBADF);
	assert_int_equal(vfs_dup(two, -1, false), -EINVAL);
	assert_int_equal(vfs_ioctl(two, 7, 2), 102);
	assert_int_equal(vfs_close_range((unsigned)two, (unsigned)three, 0), 0);
	assert_int_equal(released, 1);
	assert_int_equal(vfs_close(three), -EBADF);
	vfs_close(plain);
}

static const struct vfs_node t_text = { .path = "/sys/test-text", .text = "Y\n" };

static void text_node(void **state)
{
	char buf[8] = "";
	struct stat st;
	int fd;

	assert_int_equal(vfs_register_node(&t_text), 0);
	assert_int_equal(vfs_stat("/sys/test-text", &st), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(vfs_stat("/dev/test-node", &st), 0);
	assert_true(S_ISCHR(st.st_mode));
	assert_int_equal(vfs_stat("/sys/test", &st), -ENOENT);
	assert_int_equal(vfs_access("/sys/test-text", R_OK), 0);
	assert_int_equal(vfs_access("/sys/test-text", W_OK), -EACCES);
	assert_int_equal(vfs_access("/dev/test-node", R_OK | W_OK), 0);
	assert_int_equal(vfs_open("/sys/test-text", O_WRONLY), -EACCES);
	fd = vfs_open("/sys/test-text", O_RDONLY);
	assert_false(vfs_is_file(fd));
	assert_int_equal(read(fd, buf, sizeof(buf)), 2);
	assert_string_equal(buf, "Y\n");
	assert_int_equal(write(fd, "N", 1), -1);
	close(fd);
}

static unsigned made;

static char *make_text(void)
{
	return made++ ? strdup("made\n") : NULL;
}

static const struct vfs_node t_made = { .path = "/sys/test-made", .text = "not\n", .make_text = make_text };

static void made_text(void **state)
{
	static const char *const want[] = { "not\n", "made\n" };

	assert_int_equal(vfs_register_node(&t_made), 0);
	for (unsigned i = 0; i < 2; i++) {
		char buf[16] = "";
		int fd = vfs_open("/sys/test-made", O_RDONLY);

		assert_true(read(fd, buf, sizeof(buf) - 1) > 0);
		assert_string_equal(buf, want[i]);
		close(fd);
	}
}

/* The child of fork() forgets a parent's file; that of vfork() leaves it alone. */
static void children_release_nothing(void **state)
{
	int fd = vfs_open("/dev/test-node", O_RDWR), status;
	pid_t pid;

	released = 0;
	pid = fork();
	if (pid == 0) {
		vfs_close(fd);
		_exit(released);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	pid = vfork();
	if (pid == 0) {
		vfs_close(fd);
		vfs_close_range(3, ~0u, 0);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(vfs_ioctl(fd, 7, 5), 105);
	assert_int_equal(vfs_close(fd), 0);
	assert_int_equal(released, 1);
}

static void forked_child_gets_eio(void **state)
{
	int fd = vfs_open("/dev/test-node", O_RDWR), status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(vfs_ioctl(fd, 7, 5) == -EIO ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	vfs_close(fd);
}

static u64 inv_start, inv_end;
static void on_invalidate(struct vfs_notifier *n, u64 start, u64 end)
{
	inv_start = start;
	inv_end = end;
}

static void notifier_hears_munmap(void **state)
{
	struct vfs_notifier n = { .invalidate = on_invalidate };
	void *p = vfs_mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	vfs_notifier_register(&n);
	assert_int_equal(vfs_munmap(p, 8192), 0);
	assert_int_equal(inv_start, (u64)p);
	assert_int_equal(inv_end, (u64)p + 8192);
	p = vfs_mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	inv_start = 0;
	assert_int_equal(vfs_madvise(p, 4096, MADV_WILLNEED), 0);
	assert_int_equal(inv_start, 0);
	assert_int_equal(vfs_madvise(p, 4096, MADV_DONTNEED), 0);
	assert_int_equal(inv_start, (u64)p);
	assert_int_equal(vfs_mprotect((u8 *)p + 4096, 4096, PROT_NONE), 0);
	assert_int_equal(inv_start, (u64)p + 4096);
	assert_ptr_equal(vfs_mremap(p, 8192, 4096, 0, NULL), p);
	assert_int_equal(inv_end, (u64)p + 8192);
	vfs_munmap(p, 4096);
	vfs_notifier_unregister(&n);
	inv_start = 0;
	p = vfs_mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	vfs_munmap(p, 4096);
	assert_int_equal(inv_start, 0);
}

static int closed_fd, closed_times;
static void on_closed(struct vfs_notifier *n, int fd)
{
	closed_fd = fd;
	closed_times++;
}

static void notifier_hears_close(void **state)
{
	struct vfs_notifier n = { .closed = on_closed };
	int fd = dup(0), far = fcntl(0, F_DUPFD, 700), status, mine;
	pid_t pid;

	vfs_notifier_register(&n);
	closed_times = 0;
	/* What nobody watches, and what closes nothing. */
	assert_int_equal(vfs_close(dup(0)), 0);
	vfs_watch(fd);
	vfs_watch(far);
	assert_true(vfs_is_watched(fd) && !vfs_is_watched(fd + 1));
	assert_int_equal(vfs_dup_to(9999, fd, 0), -EBADF);
	assert_int_equal(vfs_close_range((unsigned)fd, ~0u, CLOSE_RANGE_CLOEXEC), 0);
	assert_int_equal(vfs_close_range((unsigned)fd, 0, 0), -EINVAL);
	pid = fork();
	if (!pid)
		_exit(vfs_close(fd) || closed_times);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(closed_times, 0);
	assert_true(vfs_is_watched(fd) && vfs_is_watched(far));
	/* Once. */
	assert_int_equal(vfs_dup_to(0, fd, 0), fd);
	assert_int_equal(closed_fd, fd);
	assert_int_equal(vfs_close(fd), 0);
	assert_int_equal(closed_times, 1);
	assert_int_equal(vfs_close_range(700, 700, 0), 0);
	assert_int_equal(closed_fd, far);
	assert_int_equal(closed_times, 2);
	assert_false(vfs_is_watched(far));
	/* Numbers that there cannot be. */
	vfs_watch(-1);
	vfs_watch(1 << 30);
	assert_false(vfs_is_watched(-1) || vfs_is_watched(1 << 30));
	vfs_notifier_unregister(&n);
	mine = vfs_keep(0);
	assert_true(vfs_is_kept(mine) && !vfs_is_kept(0));
	assert_int_equal(fcntl(mine, F_GETFD), FD_CLOEXEC);
	vfs_drop(mine);
	assert_int_equal(fcntl(mine, F_GETFD), -1);
	assert_false(vfs_is_kept(mine));
	assert_int_equal(vfs_keep(9999), -EBADF);
}

static int kicks, handled;
static void kick_fn(void *arg) { kicks += *(int *)arg; }
static void handler(int sig) { handled = handled * 10 + kicks; }

static void kicks_of_another_thread(void **state)
{
	int by = 2;
	struct vfs_kick k = { kick_fn, &by };

	kicks = 0;
	vfs_kick_thread(pthread_self());
	assert_int_equal(kicks, 0);
	vfs_set_kick(&k);
	vfs_kick_thread(pthread_self());
	assert_int_equal(kicks, 2);
	assert_ptr_equal(vfs_set_kick(NULL), &k);
	vfs_kick_thread(pthread_self());
	assert_int_equal(kicks, 2);
}

static void signal_kicks_before_handler(void **state)
{
	struct sigaction act = { .sa_handler = handler }, old;
	int by = 3;
	struct vfs_kick k = { kick_fn, &by };

	kicks = handled = 0;
	assert_int_equal(vfs_sigaction(SIGUSR2, &act, NULL), 0);
	raise(SIGUSR2);
	assert_int_equal(kicks, 0);
	assert_null(vfs_set_kick(&k));
	raise(SIGUSR2);
	assert_int_equal(kicks, 3);
	assert_int_equal(handled, 3);	/* the hook had run when the handler did */
	assert_ptr_equal(vfs_set_kick(NULL), &k);
	/* The client sees its own handler, not ours. */
	assert_int_equal(vfs_sigaction(SIGUSR2, NULL, &old), 0);
	assert_ptr_equal(old.sa_handler, handler);
	act.sa_handler = SIG_DFL;
	assert_int_equal(vfs_sigaction(SIGUSR2, &act, &old), 0);
	assert_ptr_equal(old.sa_handler, handler);
	assert_int_equal(vfs_sigaction(SIGUSR2, NULL, &old), 0);
	assert_ptr_equal(old.sa_handler, SIG_DFL);
	assert_int_equal(vfs_sigaction(SIGKILL, &act, NULL), -EINVAL);
	assert_int_equal(vfs_sigaction(0, &act, NULL), -EINVAL);
}

static int outer, inner;
static void inner_handler(int sig) { inner++; }
static struct sigaction chained;

/* As somebody who owns SIGSEGV and passes on what is not his. */
static void outer_handler(int sig, siginfo_t *info, void *uc)
{
	outer++;
	chained.sa_sigaction(sig, info, uc);
}

static void guarded_signal(void **state)
{
	struct sigaction ours = { .sa_sigaction = outer_handler, .sa_flags = SA_SIGINFO };
	struct sigaction client = { .sa_handler = inner_handler }, old;

	assert_int_equal(vfs_sigaction(SIGBUS, &client, NULL), 0);
	assert_int_equal(vfs_guard_signal(SIGBUS), 0);
	assert_int_equal(vfs_guard_signal(SIGBUS), 0);
	assert_int_equal(sigaction(SIGBUS, &ours, &chained), 0);
	raise(SIGBUS);
	assert_int_equal(outer, 1);
	assert_int_equal(inner, 1);
	/* The client's changes reach its record only. */
	client.sa_handler = SIG_IGN;
	assert_int_equal(vfs_sigaction(SIGBUS, &client, &old), 0);
	assert_ptr_equal(old.sa_handler, inner_handler);
	raise(SIGBUS);
	assert_int_equal(outer, 2);
	assert_int_equal(inner, 1);
	client.sa_handler = inner_handler;
	client.sa_flags = SA_RESETHAND;
	assert_int_equal(vfs_sigaction(SIGBUS, &client, &old), 0);
	assert_ptr_equal(old.sa_handler, SIG_IGN);
	raise(SIGBUS);
	assert_int_equal(inner, 2);
	assert_int_equal(vfs_sigaction(SIGBUS, NULL, &old), 0);
	assert_ptr_equal(old.sa_handler, SIG_DFL);
	assert_int_equal(sigaction(SIGBUS, NULL, &old), 0);
	assert_ptr_equal(old.sa_sigaction, outer_handler);
}

static void *open_close_loop(void *arg)
{
	for (int i = 0; i < 2000; i++) {
		int fd = vfs_open("/dev/test-node", O_RDWR);

		assert(vfs_ioctl(fd, 7, 1) == 101);
		vfs_close(fd);
	}
	return NULL;
}

static void *ioctl_any_loop(void *arg)
{
	for (int i = 0; i < 20000; i++)
		vfs_ioctl(3 + i % 8, 7, 1);
	return NULL;
}

static void close_races_with_ioctl(void **state)
{
	pthread_t t[4];

	released = 0;
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, i & 1 ? ioctl_any_loop : open_close_loop, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(released, 4000);
}

/* ---- Prefixes, adopted descriptors, reads and writes of our own ---- */

static char under[16];

static int u_open(const struct vfs_node *n, const char *rest, struct vfs_file *f, int flags)
{
	if (strcmp(rest, "7"))
		return -ENODEV;
	snprintf(under, sizeof(under), "%s", rest);
	return t_open(n, f, flags);
}

static bool u_has(const struct vfs_node *n, const char *rest)
{
	return !strcmp(rest, "7");
}

static const struct vfs_node u_node = { .path = "/dev/under-", .open_at = u_open, .has = u_has };

static bool no_rest(const struct vfs_node *n, const char *rest)
{
	return rest;
}

static const struct vfs_node gone_node = { .path = "/dev/null", .open = t_open, .has = no_rest };

/* A node that is not there hides what the host has under its name. */
static void absent_node(void **state)
{
	struct stat st;

	assert_int_equal(vfs_access("/dev/null", R_OK), -ENOENT);
	assert_int_equal(vfs_register_node(&gone_node), 0);
	assert_true(vfs_is_node("/dev/null"));
	assert_int_equal(vfs_stat("/dev/null", &st), -ENOENT);
	assert_int_equal(vfs_access("/dev/null", R_OK), -ENOENT);
	assert_int_equal(vfs_open("/dev/null", O_RDONLY), -ENOENT);
}

static void prefix_node(void **state)
{
	struct stat st;
	int fd;

	assert_int_equal(vfs_register_node(&u_node), 0);
	assert_true(vfs_is_node("/dev/under-7"));
	assert_true(vfs_is_node("/dev/under-8"));	/* ours to refuse */
	assert_false(vfs_is_node("/dev/under"));
	assert_int_equal(vfs_stat("/dev/under-7", &st), 0);
	assert_int_equal(vfs_stat("/dev/under-8", &st), -ENOENT);
	assert_int_equal(vfs_access("/dev/under-7", R_OK | W_OK), 0);
	assert_int_equal(vfs_access("/dev/under-8", R_OK), -ENOENT);
	assert_int_equal(vfs_open("/dev/under-8", O_RDWR), -ENODEV);
	fd = vfs_open("/dev/under-7", O_RDWR);
	assert_true(fd >= 0);
	assert_string_equal(under, "7");
	assert_int_equal(vfs_close(fd), 0);
}

static ssize_t a_read(struct vfs_file *f, void *buf, size_t len)
{
	memset(buf, 'r', len);
	return (ssize_t)len;
}

static ssize_t a_write(struct vfs_file *f, const void *buf, size_t len)
{
	return len == 3 ? 72 : -EINVAL;
}

static int a_map_fd(struct vfs_file *f, size_t len, int prot, int flags, off_t *off)
{
	int fd = memfd_create("instead", 0);

	if (*off == 0)
		return -EINVAL;
	*off = 4096;
	return ftruncate(fd, 8192) < 0 || pwrite(fd, "second", 6, 4096) != 6 ? -EIO : fd;
}

static const struct vfs_file_ops a_ops = {
	.ioctl = t_ioctl, .read = a_read, .write = a_write, .map_fd = a_map_fd, .release = t_release,
};
static int a_fd = -1;

static int adopt(int fd)
{
	if (fd != a_fd)
		return -ENOTTY;
	return vfs_file_adopt(&a_ops, &t_priv, fd) < 0 ? -EMFILE : 0;
}

static void adopted(void **state)
{
	char buf[4] = "";
	int status;
	pid_t child;
	char *p;

	vfs_set_adopter('y', adopt);
	a_fd = eventfd(0, 0);
	assert_false(vfs_adopt(a_fd, 'x' << 8));
	assert_false(vfs_adopt(0, 'y' << 8));
	assert_true(vfs_adopt(a_fd, 'y' << 8 | 5));
	assert_int_equal(fcntl(a_fd, F_GETFD), 0);
	assert_int_equal(vfs_ioctl(a_fd, 5, 5), 105);
	assert_int_equal(vfs_read(a_fd, buf, 3), 3);
	assert_string_equal(buf, "rrr");
	assert_int_equal(vfs_write(a_fd, buf, 3), 72);
	assert_int_equal(vfs_write(a_fd, buf, 2), -EINVAL);
	assert_ptr_equal(vfs_mmap(NULL, 4096, PROT_READ, MAP_SHARED, a_fd, 0), MAP_FAILED);
	assert_int_equal(errno, EINVAL);
	p = vfs_mmap(NULL, 4096, PROT_READ, MAP_SHARED, a_fd, 9);
	assert_string_equal(p, "second");
	assert_int_equal(vfs_munmap(p, 4096), 0);
	child = fork();
	if (!child)
		_exit(vfs_ioctl(a_fd, 5, 5) != 105);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	released = 0;
	assert_int_equal(vfs_close(a_fd), 0);
	assert_int_equal(released, 1);
	/* A descriptor that is nobody's goes to the kernel. */
	a_fd = eventfd(5, EFD_NONBLOCK);
	assert_int_equal(vfs_read(a_fd, &(u64){ 0 }, 8), 8);
	assert_int_equal(vfs_read(a_fd, &(u64){ 0 }, 8), -EAGAIN);
	close(a_fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prefix_node),
		cmocka_unit_test(absent_node),
		cmocka_unit_test(adopted),
		cmocka_unit_test(open_ioctl_close),
		cmocka_unit_test(mappings_alias),
		cmocka_unit_test(duplicates_share_a_file),
		cmocka_unit_test(text_node),
		cmocka_unit_test(made_text),
		cmocka_unit_test(children_release_nothing),
		cmocka_unit_test(forked_child_gets_eio),
		cmocka_unit_test(notifier_hears_munmap),
		cmocka_unit_test(notifier_hears_close),
		cmocka_unit_test(signal_kicks_before_handler),
		cmocka_unit_test(kicks_of_another_thread),
		cmocka_unit_test(guarded_signal),
		cmocka_unit_test(close_races_with_ioctl),
	};

	if (vfs_register_node(&t_node))
		return 1;
	return cmocka_run_group_tests_name("vfs", tests, NULL, NULL);
}
