// SPDX-License-Identifier: MIT
/* Guest memory as clients set it up: slots, dirty logs and rings, coalesced zones, the vCPU's mapping. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/abi/vmtest.h"

#define BAD_POINTER ((const void *)0x10)
#define NR_SLOTS 32764u
#define PAGE 4096ull

static u8 *memory(size_t len)
{
	u8 *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static void regions(void **state)
{
	enum { RO = KVM_MEM_READONLY, LOG = KVM_MEM_LOG_DIRTY_PAGES };
	static const struct { u32 slot, flags; u64 gpa, size, at; long want; } rows[] = {
		/* Ranges and alignment. */
		{ 1, 0, 0x400800, PAGE, 0, -EINVAL },
		{ 1, 0, 0x400000, PAGE + 1, 0, -EINVAL },
		{ 1, 0, 0x400000, PAGE, 1, -EINVAL },
		{ 1, 0, -PAGE, 2 * PAGE, 0, -EINVAL },
		{ 1, 0, 0x400000, PAGE, 1ull << 63, -EINVAL },
		{ 1, 4, 0x400000, PAGE, 0, -EINVAL },
		{ NR_SLOTS, 0, 0x400000, PAGE, 0, -EINVAL },
		{ 1 | 2 << 16, 0, 0x400000, PAGE, 0, -EINVAL },
		{ 1, 0, 1ull << 60, PAGE, 0, -EINVAL },		/* beyond any guest's address */
		/* What is not there cannot go. */
		{ 1, 0, 0, 0, 0, -EINVAL },
		{ 1, 0, 0x400000, 4 * PAGE, 0, 0 },
		{ 1, 0, 0x400000, 4 * PAGE, 0, 0 },		/* the same again */
		/* What may change, and what not. */
		{ 1, 0, 0x400000, 3 * PAGE, 0, -EINVAL },
		{ 1, 0, 0x400000, 4 * PAGE, PAGE, -EINVAL },
		{ 1, RO, 0x400000, 4 * PAGE, 0, -EINVAL },
		{ 1, LOG, 0x400000, 4 * PAGE, 0, 0 },
		{ 1, 0, 0x500000, 4 * PAGE, 0, 0 },		/* moved */
		/* One space has each address once, another has its own. */
		{ 2, 0, 0x503000, PAGE, 0, -EEXIST },
		{ 2, 0, 0x4ff000, 2 * PAGE, 0, -EEXIST },
		{ 2, 0, 0x4ff000, PAGE, 0, 0 },
		{ 2, 0, 0x501000, PAGE, 0, -EEXIST },		/* a move onto another */
		{ 1, 0, 0x502000, 4 * PAGE, 0, 0 },		/* onto itself */
		{ 1 | 1 << 16, 0, 0x500000, 8 * PAGE, 0, 0 },
		{ 1 | 1 << 16, 0, 0, 0, 0, 0 },
		{ 1 | 1 << 16, 0, 0, 0, 0, -EINVAL },
		{ NR_SLOTS - 1, RO | LOG, 0x600000, PAGE, 0, 0 },
		{ NR_SLOTS - 1, RO | LOG, 0x600000, 0, 0, 0 },
		{ 1, 0, 0, 0, 0, 0 },
		{ 0, 0, 0, 0, 0, 0 },
	};
	u8 *mem = memory(8 * PAGE);
	struct vm vm;

	vm_new(&vm, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct kvm_userspace_memory_region r = {
			.slot = rows[i].slot, .flags = rows[i].flags, .guest_phys_addr = rows[i].gpa,
			.memory_size = rows[i].size, .userspace_addr = (u64)mem + rows[i].at,
		};
		long got = vm_ioctl(&vm, KVM_SET_USER_MEMORY_REGION, &r);

		if (got != rows[i].want)
			fail_msg("row %u: %ld instead of %ld", i, got, rows[i].want);
	}
	assert_int_equal(vm_ioctl(&vm, KVM_SET_USER_MEMORY_REGION, BAD_POINTER), -EFAULT);
	vm_free(&vm);
	munmap(mem, 8 * PAGE);
}

/* ---- Dirty logs ---- */

/* MOV [0x2000], AL and [0x5000], AL; HLT */
static const u8 code_writes[] = { 0xa2, 0x00, 0x20, 0xa2, 0x00, 0x50, 0xf4 };

static void log_ram(struct vm *vm, bool on)
{
	struct kvm_userspace_memory_region r = {
		.memory_size = VM_RAM, .userspace_addr = (u64)vm->ram, .flags = on ? KVM_MEM_LOG_DIRTY_PAGES : 0
	};

	vm_do(vm, KVM_SET_USER_MEMORY_REGION, &r);
}

static void dirty_bitmap(void **state)
{
	u64 bits[VM_RAM / PAGE / 64] = { 0 };
	struct kvm_dirty_log log = { .dirty_bitmap = bits };
	struct vm vm;

	vm_new(&vm, 0);
	vm_real(&vm, code_writes, sizeof(code_writes));
	assert_int_equal(vm_ioctl(&vm, KVM_GET_DIRTY_LOG, &log), -ENOENT);
	log.slot = 7;
	assert_int_equal(vm_ioctl(&vm, KVM_GET_DIRTY_LOG, &log), -ENOENT);
	log.slot = NR_SLOTS;
	assert_int_equal(vm_ioctl(&vm, KVM_GET_DIRTY_LOG, &log), -EINVAL);
	log.slot = 2 << 16;
	assert_int_equal(vm_ioctl(&vm, KVM_GET_DIRTY_LOG, &log), -EINVAL);
	assert_int_equal(vm_ioctl(&vm, KVM_GET_DIRTY_LOG, BAD_POINTER), -EFAULT);
	log.slot = 0;
	log_ram(&vm, true);
	vm_run(&vm, KVM_EXIT_HLT);
	vm_do(&vm, KVM_GET_DIRTY_LOG, &log);
	assert_int_equal(bits[0], 1 << 2 | 1 << 5);
	/* Fetched is cleared; what is written again is there again. */
	vm_do(&vm, KVM_GET_DIRTY_LOG, &log);
	assert_int_equal(bits[0], 0);
	vm_real(&vm, code_writes, sizeof(code_writes));
	vm_run(&vm, KVM_EXIT_HLT);
	log.dirty_bitmap = (void *)0x10;
	assert_int_equal(vm_ioctl(&vm, KVM_GET_DIRTY_LOG, &log), -EFAULT);
	log_ram(&vm, false);
	log.dirty_bitmap = bits;
	assert_int_equal(vm_ioctl(&vm, KVM_GET_DIRTY_LOG, &log), -ENOENT);
	vm_free(&vm);
}

static void manual_protection(void **state)
{
	const struct kvm_enable_cap manual = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = { 1 } };
	enum { PAGES = VM_RAM / PAGE };
	static const struct { u64 first; u32 n, slot; long want; } rows[] = {
		{ 1, 64, 0, -EINVAL }, { 0, 1, 0, -EINVAL }, { 0, PAGES + 64, 0, -EINVAL }, { PAGES, 64, 0, -EINVAL },
		{ PAGES + 64, 0, 0, -EINVAL }, { 0, 64, 7, -ENOENT }, { 0, 64, NR_SLOTS, -EINVAL },
		{ 64, 64, 0, 0 }, { PAGES - 64, 64, 0, 0 },
	};
	u64 bits[PAGES / 64] = { 0 }, mask[PAGES / 64] = { 1 << 2 };
	struct kvm_dirty_log log = { .dirty_bitmap = bits };
	struct kvm_clear_dirty_log clear = { .num_pages = 64, .dirty_bitmap = mask };
	struct vm vm;

	vm_new(&vm, 0);
	vm_do(&vm, KVM_ENABLE_CAP, &manual);
	vm_real(&vm, code_writes, sizeof(code_writes));
	assert_int_equal(vm_ioctl(&vm, KVM_CLEAR_DIRTY_LOG, &clear), -ENOENT);
	log_ram(&vm, true);
	vm_run(&vm, KVM_EXIT_HLT);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct kvm_clear_dirty_log c = {
			.slot = rows[i].slot, .first_page = rows[i].first, .num_pages = rows[i].n, .dirty_bitmap = mask
		};

		assert_int_equal(vm_ioctl(&vm, KVM_CLEAR_DIRTY_LOG, &c), rows[i].want);
	}
	/* Fetching clears nothing; clearing clears what it names. */
	for (unsigned i = 0; i < 2; i++) {
		vm_do(&vm, KVM_GET_DIRTY_LOG, &log);
		assert_int_equal(bits[0], 1 << 2 | 1 << 5);
	}
	vm_do(&vm, KVM_CLEAR_DIRTY_LOG, &clear);
	vm_do(&vm, KVM_GET_DIRTY_LOG, &log);
	assert_int_equal(bits[0], 1 << 5);
	clear.dirty_bitmap = (void *)0x10;
	assert_int_equal(vm_ioctl(&vm, KVM_CLEAR_DIRTY_LOG, &clear), -EFAULT);
	vm_free(&vm);
}

static long enable_ring(int fd, u32 cap, u64 bytes)
{
	const struct kvm_enable_cap c = { .cap = cap, .args = { bytes } };

	return vfs_ioctl(fd, KVM_ENABLE_CAP, (unsigned long)&c);
}

static void dirty_ring(void **state)
{
	static const struct { u32 cap; u64 bytes; long want; } rows[] = {
		{ KVM_CAP_DIRTY_LOG_RING, 0, -EINVAL },
		{ KVM_CAP_DIRTY_LOG_RING, 3 * 16384, -EINVAL },		/* no power of two */
		{ KVM_CAP_DIRTY_LOG_RING, 2048, -EINVAL },		/* less than a page */
		{ KVM_CAP_DIRTY_LOG_RING, 4096, -EINVAL },		/* less than is kept back */
		{ KVM_CAP_DIRTY_LOG_RING, 2u << 20, -E2BIG },
		{ KVM_CAP_DIRTY_LOG_RING_ACQ_REL, 16384, 0 },
		{ KVM_CAP_DIRTY_LOG_RING, 16384, -EINVAL },		/* once */
	};
	struct kvm_userspace_memory_region r = { .memory_size = 16 * PAGE, .flags = KVM_MEM_LOG_DIRTY_PAGES };
	struct kvm_dirty_log log = { .dirty_bitmap = &log };
	struct kvm_clear_dirty_log clear = { .num_pages = 64, .dirty_bitmap = &log };
	u8 *ram = memory(16 * PAGE);
	struct kvm_dirty_gfn *ring;
	struct kvm_run *run;
	struct kvm_sregs s;
	struct kvm_regs regs = { .rflags = 2 };
	unsigned seen = 0;
	struct vm vm;
	int fd, vcpu;

	vm_new(&vm, 0);
	assert_int_equal(enable_ring(vm.fd, KVM_CAP_DIRTY_LOG_RING, 16384), -EINVAL);	/* a vCPU exists */
	fd = (int)vfs_ioctl(vm.sys, KVM_CREATE_VM, 0);
	assert_int_equal(vfs_ioctl(fd, KVM_RESET_DIRTY_RINGS, 0), -EINVAL);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(enable_ring(fd, rows[i].cap, rows[i].bytes), rows[i].want);
	r.userspace_addr = (u64)ram;
	memcpy(ram, code_writes, sizeof(code_writes));
	assert_int_equal(vfs_ioctl(fd, KVM_SET_USER_MEMORY_REGION, (unsigned long)&r), 0);
	vcpu = (int)vfs_ioctl(fd, KVM_CREATE_VCPU, 0);
	/* No bitmaps any more. */
	assert_int_equal(vfs_ioctl(fd, KVM_GET_DIRTY_LOG, (unsigned long)&log), -ENXIO);
	assert_int_equal(vfs_ioctl(fd, KVM_CLEAR_DIRTY_LOG, (unsigned long)&clear), -ENXIO);
	assert_ptr_equal(vfs_mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE, vcpu, 64 * 4096), MAP_FAILED);
	assert_int_equal(errno, EINVAL);
	assert_ptr_equal(vfs_mmap(NULL, 16384, PROT_READ | PROT_EXEC, MAP_SHARED, vcpu, 64 * 4096), MAP_FAILED);
	assert_ptr_equal(vfs_mmap(NULL, 32768, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 64 * 4096), MAP_FAILED);
	ring = vfs_mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 64 * 4096);
	run = vfs_mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	assert_true(ring != MAP_FAILED && run != MAP_FAILED);
	vfs_ioctl(vcpu, KVM_GET_SREGS, (unsigned long)&s);
	s.cs.base = s.cs.selector = 0;
	assert_int_equal(vfs_ioctl(vcpu, KVM_SET_SREGS, (unsigned long)&s), 0);
	assert_int_equal(vfs_ioctl(vcpu, KVM_SET_REGS, (unsigned long)&regs), 0);
	assert_int_equal(vfs_ioctl(vcpu, KVM_RUN, 0), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_HLT);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(ring[i].flags, KVM_DIRTY_GFN_F_DIRTY);
		assert_int_equal(ring[i].slot, 0);
		seen |= 1u << ring[i].offset;
		ring[i].flags = KVM_DIRTY_GFN_F_RESET;
	}
	assert_int_equal(seen, 1 << 2 | 1 << 5);
	assert_int_equal(ring[2].flags, 0);
	assert_int_equal(vfs_ioctl(fd, KVM_RESET_DIRTY_RINGS, 0), 2);
	assert_int_equal(ring[0].flags, 0);
	assert_int_equal(vfs_ioctl(fd, KVM_RESET_DIRTY_RINGS, 0), 0);
	munmap(ring, 16384);
	munmap(run, 12288);
	vfs_close(vcpu);
	vfs_close(fd);
	vm_free(&vm);
	munmap(ram, 16 * PAGE);
}

/* ---- Coalesced zones ---- */

static void coalesced(void **state)
{
	struct kvm_coalesced_mmio_zone pio = { .addr = 0x60, .size = 2, .pio = 1 };
	struct kvm_coalesced_mmio_zone mmio = { .addr = VM_RAM - 0x1000, .size = 0x1000 };
	struct kvm_coalesced_mmio_zone bad = { .addr = 0x60, .size = 2, .pio = 2 };
	struct kvm_coalesced_mmio_ring *ring;
	/* OUT 0x60, 0x61, 0x62; each with AL = 0x42. */
	static const u8 code[] = { 0xb0, 0x42, 0xe6, 0x60, 0xe6, 0x61, 0xe6, 0x62 };
	struct vm vm;

	vm_new(&vm, 0);
	ring = (void *)((u8 *)vm.run + vfs_ioctl(vm.sys, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO) * 4096);
	assert_int_equal(vm_ioctl(&vm, KVM_REGISTER_COALESCED_MMIO, &bad), -EINVAL);
	assert_int_equal(vm_ioctl(&vm, KVM_UNREGISTER_COALESCED_MMIO, &bad), -EINVAL);
	assert_int_equal(vm_ioctl(&vm, KVM_REGISTER_COALESCED_MMIO, BAD_POINTER), -EFAULT);
	vm_do(&vm, KVM_REGISTER_COALESCED_MMIO, &pio);
	vm_do(&vm, KVM_REGISTER_COALESCED_MMIO, &mmio);
	vm_do(&vm, KVM_UNREGISTER_COALESCED_MMIO, &mmio);
	vm_do(&vm, KVM_UNREGISTER_COALESCED_MMIO, &mmio);	/* nothing there is no error */
	vm_real(&vm, code, sizeof(code));
	assert_int_equal(vm_out(&vm, 0x62, 1), 0x42);
	assert_int_equal(ring->last - ring->first, 2);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(ring->coalesced_mmio[i].phys_addr, 0x60 + i);
		assert_int_equal(ring->coalesced_mmio[i].len, 1);
		assert_int_equal(ring->coalesced_mmio[i].pio, 1);
		assert_int_equal(ring->coalesced_mmio[i].data[0], 0x42);
	}
	/* A ring of nonsense is an ordinary exit. */
	ring->last = 12345;
	vm_real(&vm, code, sizeof(code));
	assert_int_equal(vm_out(&vm, 0x60, 1), 0x42);
	ring->first = ring->last = 0;
	vm_do(&vm, KVM_UNREGISTER_COALESCED_MMIO, &pio);
	vm_real(&vm, code, sizeof(code));
	assert_int_equal(vm_out(&vm, 0x60, 1), 0x42);
	vm_free(&vm);
}

/* ---- The vCPU's mapping ---- */

static void run_mapping(void **state)
{
	static const struct { size_t len; off_t off; int prot, flags, err; } rows[] = {
		{ 12288, 0, PROT_READ | PROT_WRITE, MAP_SHARED, 0 },
		{ 4096, 8192, PROT_READ, MAP_SHARED, 0 },
		{ 4096, 64 * 4096, PROT_READ, MAP_SHARED, EINVAL },	/* no ring */
		{ 4096, 1l << 40, PROT_READ, MAP_SHARED, EINVAL },
		{ 65 * 4096, 0, PROT_READ, MAP_SHARED, EINVAL },
	};
	struct kvm_run *other;
	int copy;
	struct vm vm;

	vm_new(&vm, 0);
	copy = vfs_dup(vm.vcpu, 0, true);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		void *p = vfs_mmap(NULL, rows[i].len, rows[i].prot, rows[i].flags, copy, rows[i].off);

		assert_int_equal(p == MAP_FAILED ? errno : 0, rows[i].err);
		if (p != MAP_FAILED)
			munmap(p, rows[i].len);
	}
	/* All mappings are one page, whatever they were made from. */
	other = vfs_mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_SHARED, copy, 0);
	vfs_close(copy);
	other->immediate_exit = 1;
	assert_int_equal(vcpu_ioctl(&vm, KVM_RUN, NULL), -EINTR);
	munmap(other, 12288);
	vm.run->immediate_exit = 0;
	vm_free(&vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(regions),   cmocka_unit_test(dirty_bitmap), cmocka_unit_test(manual_protection),
		cmocka_unit_test(dirty_ring), cmocka_unit_test(coalesced),   cmocka_unit_test(run_mapping),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
