// SPDX-License-Identifier: MIT
/* Memory of others: both kinds, limits, and owners that truncate, unmap and die. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vdpa/mem.h"

static void test_shared(void **state)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	struct vdpa_mem *m;
	char buf[16];
	u64 off;
	u16 v;

	assert_int_equal(vdpa_mem_init(), 0);	/* per test: cmocka takes the signals before each */
	assert_int_equal(ftruncate(fd, 0x3000), 0);
	assert_int_equal(pwrite(fd, "hello", 5, 0x1234), 5);
	m = vdpa_mem_shared(fd, 0x1234, 0x1000, true);
	assert_non_null(m);
	assert_int_equal(vdpa_mem_size(m), 0x1000);
	assert_int_equal(vdpa_mem_read(m, 0, buf, 5), 0);
	assert_memory_equal(buf, "hello", 5);
	assert_int_equal(vdpa_mem_write(m, 0xffe, "xy", 2), 0);
	assert_int_equal(pread(fd, buf, 2, 0x2232), 2);
	assert_memory_equal(buf, "xy", 2);
	assert_int_equal(vdpa_mem_write(m, 0xfff, "xy", 2), -EFAULT);
	assert_int_equal(vdpa_mem_read(m, UINT64_MAX, buf, 2), -EFAULT);
	assert_int_equal(vdpa_mem_store16(m, 0x10, 0xbeef), 0);
	assert_int_equal(vdpa_mem_load16(m, 0x10, &v), 0);
	assert_int_equal(v, 0xbeef);
	assert_int_equal(vdpa_mem_load16(m, 0xfff, &v), -EFAULT);
	assert_true(vdpa_mem_file(m, 0x10, &off) >= 0);
	assert_int_equal(off, 0x1244);
	assert_int_equal(vdpa_mem_file(m, 0x1000, &off), -EINVAL);
	vdpa_mem_put(vdpa_mem_get(m));

	/* The file shrinks under us. */
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(vdpa_mem_read(m, 0, buf, 5), -EFAULT);
	assert_int_equal(vdpa_mem_write(m, 0, buf, 5), -EFAULT);
	assert_int_equal(vdpa_mem_load16(m, 0, &v), -EFAULT);
	assert_int_equal(vdpa_mem_store16(m, 0, 1), -EFAULT);
	vdpa_mem_put(m);
	close(fd);
}

static void test_read_only(void **state)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	struct vdpa_mem *m;

	assert_int_equal(ftruncate(fd, 0x1000), 0);
	m = vdpa_mem_shared(fd, 0, 0x1000, false);
	assert_non_null(m);
	assert_int_equal(vdpa_mem_write(m, 0, "x", 1), -EFAULT);
	assert_int_equal(vdpa_mem_store16(m, 0, 1), -EFAULT);
	vdpa_mem_put(m);
	close(fd);
}

static void test_bad_arguments(void **state)
{
	assert_null(vdpa_mem_shared(-1, 0, 0x1000, true));
	assert_int_equal(errno, EBADF);
	assert_null(vdpa_mem_shared(0, 0, 0, true));
	assert_int_equal(errno, EINVAL);
	assert_null(vdpa_mem_shared(0, UINT64_MAX, 0x1000, true));
	assert_int_equal(errno, EINVAL);
	assert_null(vdpa_mem_foreign(getpid(), UINT64_MAX, 0x1000, true));
	assert_int_equal(errno, EINVAL);
	assert_null(vdpa_mem_foreign(0, 0x1000, 0x1000, true));
	assert_int_equal(errno, EINVAL);
}

static void test_foreign(void **state)
{
	char *p = mmap(NULL, 0x2000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct vdpa_mem *m;
	char buf[8] = { 0 };
	pid_t child = fork();
	u64 off;
	u16 v;

	if (!child) {
		strcpy(p, "child");
		pause();
		_exit(0);
	}
	m = vdpa_mem_foreign(child, (u64)p, 0x2000, true);
	assert_non_null(m);
	while (!buf[0])
		assert_int_equal(vdpa_mem_read(m, 0, buf, 6), 0);
	assert_string_equal(buf, "child");
	assert_int_equal(p[0], 0);	/* not ours */
	assert_int_equal(vdpa_mem_store16(m, 0x1ffe, 77), 0);
	assert_int_equal(vdpa_mem_load16(m, 0x1ffe, &v), 0);
	assert_int_equal(v, 77);
	assert_int_equal(vdpa_mem_write(m, 0x1fff, "ab", 2), -EFAULT);
	assert_int_equal(vdpa_mem_file(m, 0, &off), -EINVAL);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(vdpa_mem_read(m, 0, buf, 6), -EFAULT);
	assert_int_equal(vdpa_mem_write(m, 0, buf, 6), -EFAULT);
	vdpa_mem_put(m);
	munmap(p, 0x2000);
}

/* Faults that are not ours go to whoever had the signal before. */
static sigjmp_buf jump;
static void on_segv(int sig)
{
	siglongjmp(jump, 1);
}

static void test_chain(void **state)
{
	char *p = mmap(NULL, 0x1000, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	volatile bool reached = false;
	char c;

	signal(SIGSEGV, on_segv);
	assert_int_equal(vdpa_mem_init(), 0);
	assert_int_equal(vdpa_copy_guarded(&c, p, 1), -EFAULT);
	assert_int_equal(vdpa_copy_guarded(p, &c, 1), -EFAULT);
	if (!sigsetjmp(jump, 1))
		*(volatile char *)p = 1;
	else
		reached = true;
	assert_true(reached);
	munmap(p, 0x1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shared),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_bad_arguments),
		cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_chain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
