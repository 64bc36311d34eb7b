// SPDX-License-Identifier: MIT
/*
 * Memory changed under a guest that keeps running, through the client's calls:
 * a migration by the dirty log, deletion and return of the slot in use, host
 * memory that goes and comes back.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/abi/vmtest.h"

#define SLOT_GPA 0x40000000ull
#define PAGES 64u
#define SIZE (4ul << 20)

/* Increments a word in each of 64 pages, then exits once, for ever. */
extern const u8 guest_begin[], guest_end[];
__asm__(".pushsection .rodata\nguest_begin:\n"
	"mov $0x40000000, %rbx\n"
	"1: xor %ecx, %ecx\n"
	"2: mov %rcx, %rax; shl $12, %rax; incq (%rbx, %rax)\n"
	"inc %ecx; cmp $64, %ecx; jb 2b\n"
	"out %al, $0x80\n"
	"jmp 1b\n"
	"guest_end:\n.popsection");

static struct vm vm;
static u8 *mem, copy[PAGES * PAGE_SIZE];
static _Atomic bool stop, rest, resting;
static _Atomic u64 rounds, mmios, efaults, others;

static void *vcpu(void *arg)
{
	while (!atomic_load(&stop)) {
		long r = vcpu_ioctl(&vm, KVM_RUN, NULL);

		if (r == -EFAULT) {
			atomic_fetch_add(&efaults, 1);
			usleep(100);
		} else if (r == 0 && vm.run->exit_reason == KVM_EXIT_IO) {
			atomic_fetch_add(&rounds, 1);
		} else if (r == 0 && vm.run->exit_reason == KVM_EXIT_MMIO) {
			/* An INC that reads before the slot returns may write after it did: let it count on. */
			memcpy(vm.run->mmio.data, mem + (vm.run->mmio.phys_addr - SLOT_GPA), 8);
			atomic_fetch_add(&mmios, 1);
		} else {
			atomic_fetch_add(&others, 1);
			break;
		}
		while (atomic_load(&rest) && !atomic_load(&stop)) {
			atomic_store(&resting, true);
			sched_yield();
		}
		atomic_store(&resting, false);
	}
	return NULL;
}

static void slot(u32 flags, u64 size)
{
	struct kvm_userspace_memory_region r = {
		.slot = 1, .flags = flags, .guest_phys_addr = SLOT_GPA, .memory_size = size, .userspace_addr = (u64)mem,
	};

	vm_do(&vm, KVM_SET_USER_MEMORY_REGION, &r);
}

/* Wait until @n has moved on by @by; nothing else may have happened. */
static void wait_for(_Atomic u64 *n, u64 by)
{
	u64 from = atomic_load(n);

	while (atomic_load(n) < from + by && !atomic_load(&others))
		usleep(200);
	assert_int_equal(atomic_load(&others), 0);
}

static void copy_dirty(void)
{
	u64 bits[SIZE / PAGE_SIZE / 64] = { 0 };
	struct kvm_dirty_log l = { .slot = 1, .dirty_bitmap = bits };

	vm_do(&vm, KVM_GET_DIRTY_LOG, &l);
	for (unsigned i = 1; i < ARRAY_SIZE(bits); i++)
		assert_int_equal(bits[i], 0);
	for (u64 p = 0; p < PAGES; p++) {
		u64 v = __atomic_load_n((u64 *)(mem + p * PAGE_SIZE), __ATOMIC_RELAXED);

		if (bits[0] >> p & 1)
			memcpy(copy + p * PAGE_SIZE, &v, 8);
	}
}

static void compare(bool equal)
{
	for (u64 p = 0; p < PAGES; p++) {
		u64 v = __atomic_load_n((u64 *)(mem + p * PAGE_SIZE), __ATOMIC_RELAXED), c;

		memcpy(&c, copy + p * PAGE_SIZE, 8);
		if (equal)
			assert_int_equal(v, c);
		else
			assert_true(v > c);
	}
}

static void snapshot(void)
{
	for (u64 p = 0; p < PAGES; p++) {
		u64 v = __atomic_load_n((u64 *)(mem + p * PAGE_SIZE), __ATOMIC_RELAXED);

		memcpy(copy + p * PAGE_SIZE, &v, 8);
	}
}

static void test_live(void **state)
{
	pthread_t t;
	u8 *raw;

	vm_new(&vm, 0);
	raw = mmap(NULL, SIZE + (2u << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mem = (u8 *)(((u64)raw + (2u << 20) - 1) & ~((2ull << 20) - 1));
	slot(0, SIZE);
	vm_long(&vm, guest_begin, (size_t)(guest_end - guest_begin));
	assert_int_equal(pthread_create(&t, NULL, vcpu, NULL), 0);
	wait_for(&rounds, 10);

	/* Migration: the log alone keeps the copy up to date. */
	for (unsigned times = 0; times < 3; times++) {
		slot(KVM_MEM_LOG_DIRTY_PAGES, SIZE);
		snapshot();
		for (unsigned i = 0; i < 10; i++) {
			wait_for(&rounds, 3);
			copy_dirty();
		}
		atomic_store(&rest, true);
		while (!atomic_load(&resting))
			sched_yield();
		copy_dirty();
		compare(true);
		copy_dirty();
		atomic_store(&rest, false);
		wait_for(&rounds, 3);
		slot(0, SIZE);
	}

	/* Deleted: exits instead, and the memory is the client's alone at once. */
	for (unsigned times = 0; times < 5; times++) {
		slot(0, 0);
		snapshot();
		wait_for(&mmios, 20);
		compare(true);
		slot(0, SIZE);
		wait_for(&rounds, 3);
		compare(false);
	}

	/* Host memory goes: -EFAULT, as often as it is tried; and comes back. */
	snapshot();
	assert_int_equal(vfs_munmap(mem + 5 * PAGE_SIZE, PAGE_SIZE), 0);
	wait_for(&efaults, 5);
	assert_true(mmap(mem + 5 * PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
	wait_for(&rounds, 3);
	atomic_store(&stop, true);
	pthread_join(t, NULL);
	assert_true(*(u64 *)(mem + 5 * PAGE_SIZE) >= 2);
	munmap(raw, SIZE + (2u << 20));
	vm_free(&vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_live) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
