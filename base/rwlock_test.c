// SPDX-License-Identifier: MIT
/* Exclusion, writer preference, the readers' turn, the "contended?" question. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/rwlock.h"

static struct rwlock lock;
static _Atomic bool stop;
static _Atomic u64 reads, writes, bad;
static u64 a, b;	/* equal whenever nobody writes */

static void *reader(void *arg)
{
	while (!atomic_load(&stop)) {
		rwlock_read(&lock);
		if (a != b)
			atomic_fetch_add(&bad, 1);
		if (rwlock_write_held(&lock) || !rwlock_held(&lock))
			atomic_fetch_add(&bad, 1);
		atomic_fetch_add(&reads, 1);
		rwlock_read_unlock(&lock);
	}
	return NULL;
}

static void *writer(void *arg)
{
	while (!atomic_load(&stop)) {
		rwlock_write(&lock);
		a++;
		if (arg)
			sched_yield();
		b++;
		atomic_fetch_add(&writes, 1);
		rwlock_write_unlock(&lock);
	}
	return NULL;
}

/* Neither side starves although both never pause. */
static void test_exclusion(void **state)
{
	pthread_t t[5];

	rwlock_init(&lock, 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&t[i], NULL, reader, NULL), 0);
	assert_int_equal(pthread_create(&t[3], NULL, writer, NULL), 0);
	assert_int_equal(pthread_create(&t[4], NULL, writer, (void *)1), 0);
	usleep(100000);
	for (unsigned i = 0; i < 5000 && (atomic_load(&reads) < 100 || atomic_load(&writes) < 100); i++)
		usleep(1000);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
	assert_int_equal(atomic_load(&bad), 0);
	assert_int_equal(a, atomic_load(&writes));
	assert_true(atomic_load(&reads) >= 100 && atomic_load(&writes) >= 100);
	rwlock_destroy(&lock);
}

static _Atomic int order, writer_place, reader_place;

static void *one_writer(void *arg)
{
	rwlock_write(&lock);
	atomic_store(&writer_place, atomic_fetch_add(&order, 1) + 1);
	rwlock_write_unlock(&lock);
	return NULL;
}

static void *one_reader(void *arg)
{
	rwlock_read(&lock);
	atomic_store(&reader_place, atomic_fetch_add(&order, 1) + 1);
	rwlock_read_unlock(&lock);
	return NULL;
}

static void wait_sleepers(u32 n)
{
	while (atomic_load(&lock.sleepers) != n)
		sched_yield();
}

/* A writer that waits goes before readers that come after it. */
static void test_preference(void **state)
{
	pthread_t w, r;

	rwlock_init(&lock, 0);
	rwlock_read(&lock);
	assert_false(rwlock_contended(&lock));
	assert_int_equal(pthread_create(&w, NULL, one_writer, NULL), 0);
	wait_sleepers(1);
	assert_true(rwlock_contended(&lock));
	assert_int_equal(pthread_create(&r, NULL, one_reader, NULL), 0);
	wait_sleepers(2);
	rwlock_read_unlock(&lock);
	pthread_join(w, NULL);
	pthread_join(r, NULL);
	assert_int_equal(atomic_load(&writer_place), 1);
	assert_int_equal(atomic_load(&reader_place), 2);
	assert_false(rwlock_held(&lock));
	/* A reader that waits for a writer goes before the next writer. */
	atomic_store(&order, 0);
	rwlock_write(&lock);
	assert_int_equal(pthread_create(&r, NULL, one_reader, NULL), 0);
	wait_sleepers(1);
	assert_true(rwlock_contended(&lock));
	assert_int_equal(pthread_create(&w, NULL, one_writer, NULL), 0);
	wait_sleepers(2);
	rwlock_write_unlock(&lock);
	pthread_join(w, NULL);
	pthread_join(r, NULL);
	assert_int_equal(atomic_load(&reader_place), 1);
	assert_int_equal(atomic_load(&writer_place), 2);
	rwlock_destroy(&lock);
}

/* Out of order is a BUG, in a child that may die of it. */
static bool dies(u32 first, u32 second)
{
	struct rwlock a_lock, b_lock;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (!freopen("/dev/null", "w", stderr))
			_exit(1);
		rwlock_init(&a_lock, first);
		rwlock_init(&b_lock, second);
		rwlock_read(&a_lock);
		rwlock_write(&b_lock);
		rwlock_write_unlock(&b_lock);
		rwlock_read_unlock(&a_lock);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void test_order(void **state)
{
	assert_false(dies(1, 2));
	assert_true(dies(2, 1));
	assert_true(dies(2, 2));
	assert_false(dies(0, 0));
	assert_false(dies(31, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exclusion), cmocka_unit_test(test_preference),
		cmocka_unit_test(test_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
