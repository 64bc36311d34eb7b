// SPDX-License-Identifier: MIT
/* Memslots and their errno rules, faults, large pages, MMIO, dirty logs, rings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kvm/x86/mmu/mmu_fake.h"

#define MB (1ull << 20)
#define RAM_SIZE (8 * MB)

static struct hv_vm *vm;
static struct fake_vcpu *cpu;
static u8 *ram;		/* 2 MiB aligned, RAM_SIZE */

static int setup(void **state)
{
	u8 *raw = mmap(NULL, RAM_SIZE + 2 * MB, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	ram = (u8 *)round_up((u64)raw, 2 * MB);
	*state = raw;
	vm = fake_vm_new();
	cpu = fake_vcpu_new(vm);
	return 0;
}

static int teardown(void **state)
{
	fake_vm_free(vm);
	return munmap(*state, RAM_SIZE + 2 * MB);
}

static int region(u32 slot, u32 flags, u64 gpa, u64 size, const void *hva)
{
	struct kvm_userspace_memory_region r = {
		.slot = slot, .flags = flags, .guest_phys_addr = gpa, .memory_size = size,
		.userspace_addr = (u64)hva,
	};

	return hv_set_memory_region(vm, &r);
}

static int put(u64 gpa, u64 val)
{
	return fake_access(cpu, 0, gpa, true, &val);
}

static int get(u64 gpa, u64 *val)
{
	return fake_access(cpu, 0, gpa, false, val);
}

static u64 *host(u64 off)
{
	return (u64 *)(ram + off);
}

static void test_slot_errno(void **state)
{
	/* Slots 1 at 1M (1M long) and 0x10001 exist. */
	static const struct {
		u32 slot, flags;
		u64 gpa, size, off;
		int want;
	} rows[] = {
		{ 2, 4, 16 * MB, MB, 0, -EINVAL }, { 2, 1u << 31, 16 * MB, MB, 0, -EINVAL },
		{ 2, 0, 16 * MB + 1, MB, 0, -EINVAL }, { 2, 0, 16 * MB, MB + 8, 0, -EINVAL },
		{ 2, 0, 16 * MB, MB, 16, -EINVAL }, { 2, 0, 16 * MB, 0, 0, -EINVAL },	/* delete an absent one */
		{ 32764, 0, 16 * MB, MB, 0, -EINVAL }, { 32763, 0, 16 * MB, MB, 0, 0 },
		{ 32763, 0, 0, 0, 0, 0 }, { 2 | 2 << 16, 0, 16 * MB, MB, 0, -EINVAL },
		{ 2, 0, ~0ull - MB + 1, 2 * MB, 0, -EINVAL },			/* wraps */
		{ 2, 0, 16 * MB, 1ull << 47, 0, -EINVAL },			/* beyond user space */
		{ 2, 0, (1ull << 46) - MB, MB, 0, 0 }, { 2, 0, 0, 0, 0, 0 },	/* ends at the limit */
		{ 2, 0, (1ull << 46), MB, 0, -EINVAL }, { 2, 0, (1ull << 46) - MB, 2 * MB, 0, -EINVAL },
		{ 2, 0, MB, 4096, 0, -EEXIST }, { 2, 0, 2 * MB - 4096, MB, 0, -EEXIST },
		{ 2, 0, 4096, MB, 0, -EEXIST }, { 2, 0, 0, 4 * MB, 0, -EEXIST },
		{ 2, 0, 2 * MB, MB, 0, 0 }, { 2, 0, 0, 0, 0, 0 },
		{ 1, 0, MB, MB, 0, 0 },						/* identical */
		{ 1, 0, MB, MB, 4096, -EINVAL }, { 1, 0, MB, 2 * MB, 0, -EINVAL },
		{ 1, 2, MB, MB, 0, -EINVAL }, { 1, 3, MB, MB, 0, -EINVAL },
		{ 1, 1, MB, MB, 0, 0 }, { 1, 0, MB, MB, 0, 0 },			/* flags only */
		{ 1, 0, 4 * MB, MB, 0, 0 }, { 1, 0, MB, MB, 0, 0 },		/* move and back */
		{ 1, 0, MB + 4096, MB, 0, 0 }, { 1, 0, MB, MB, 0, 0 },		/* overlapping only itself */
		{ 2, 2, 16 * MB, MB, 0, 0 }, { 1, 0, 16 * MB + 4096, MB, 0, -EEXIST }, { 2, 0, 0, 0, 0, 0 },
		{ 1 | 1 << 16, 0, 0, 0, 0, 0 },					/* the other space's own slot */
		{ 1 | 1 << 16, 0, 0, 0, 0, -EINVAL },
	};

	assert_int_equal(region(1, 0, MB, MB, ram), 0);
	assert_int_equal(region(1 | 1 << 16, 0, MB, MB, ram), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		int r = region(rows[i].slot, rows[i].flags, rows[i].gpa, rows[i].size, ram + rows[i].off);

		if (r != rows[i].want)
			fail_msg("row %u: %d, want %d", i, r, rows[i].want);
	}
}

static void test_lookup(void **state)
{
	struct hv_memslots *s;

	for (u32 i = 0; i < 100; i++)
		assert_int_equal(region(99 - i, 0, i * 8 * PAGE_SIZE, 4 * PAGE_SIZE, ram), 0);
	s = hv_slots_get(vm, 0);
	assert_int_equal(s->n, 100);
	for (u64 gfn = 0; gfn < 1000; gfn++) {
		struct hv_memslot *slot = hv_slots_find(s, gfn);

		if (gfn < 800 && gfn % 8 < 4) {
			assert_non_null(slot);
			assert_int_equal(slot->id, 99 - gfn / 8);
		} else {
			assert_null(slot);
		}
	}
	for (u32 id = 0; id < 102; id++)
		assert_int_equal(!!hv_slots_find_id(s, id), id < 100);
	hv_slots_put(s);
}

static void test_access(void **state)
{
	u64 v;
	int level = 0;

	assert_int_equal(region(0, 0, 2 * MB, 4 * MB, ram), 0);
	assert_int_equal(put(2 * MB + 0x1000, 0x1234), HV_FAULT_RESUME);
	assert_int_equal(*host(0x1000), 0x1234);
	*host(0x3008) = 77;
	assert_int_equal(get(2 * MB + 0x3008, &v), HV_FAULT_RESUME);
	assert_int_equal(v, 77);
	/* Aligned alike: one large page. */
	assert_true(fake_leaf(cpu, 0, 2 * MB, &level) & SPTE_W);
	assert_int_equal(level, 2);
	/* No slot. */
	assert_int_equal(get(MB, &v), HV_FAULT_MMIO);
	assert_int_equal(put(6 * MB, v), HV_FAULT_MMIO);
	assert_int_equal(get(1ull << 48, &v), HV_FAULT_MMIO);
	/* The entry says so at once now, until slots change. */
	assert_int_equal(hv_mmu_misconfig(&cpu->v, MB), HV_FAULT_MMIO);
	assert_int_equal(region(1, 0, 0, 2 * MB, ram + 4 * MB), 0);
	assert_int_equal(put(MB, 5), HV_FAULT_RESUME);
	assert_int_equal(*host(5 * MB), 5);
	/* Moved: the old place is no memory, the new one has the same. */
	assert_int_equal(region(0, 0, 16 * MB, 4 * MB, ram), 0);
	assert_int_equal(get(2 * MB + 0x1000, &v), HV_FAULT_MMIO);
	assert_int_equal(get(16 * MB + 0x1000, &v), HV_FAULT_RESUME);
	assert_int_equal(v, 0x1234);
	assert_int_equal(region(0, 0, 0, 0, ram), 0);
	assert_int_equal(get(16 * MB + 0x1000, &v), HV_FAULT_MMIO);
}

static void test_overlapping_move(void **state)
{
	u64 v;

	assert_int_equal(region(0, 0, 2 * MB, 2 * MB, ram), 0);
	for (u64 off = 0; off < 2 * MB; off += 0x10000)
		assert_int_equal(put(2 * MB + off, off), HV_FAULT_RESUME);
	assert_int_equal(region(0, 0, 2 * MB + 0x10000, 2 * MB, ram), 0);
	for (u64 off = 0; off < 2 * MB; off += 0x10000) {
		assert_int_equal(get(2 * MB + 0x10000 + off, &v), HV_FAULT_RESUME);
		assert_int_equal(v, off);
	}
	assert_int_equal(get(2 * MB, &v), HV_FAULT_MMIO);
}

static void test_levels(void **state)
{
	static const struct { u64 gpa, off, size; u64 at; int level; } rows[] = {
		{ 2 * MB, 0, 4 * MB, 2 * MB, 2 }, { 2 * MB, 0, 4 * MB, 6 * MB - 8, 2 },
		{ 2 * MB, 0x1000, 4 * MB, 2 * MB, 1 },		/* offsets differ */
		{ 2 * MB + 0x1000, 0x1000, 4 * MB, 2 * MB + 0x1000, 1 },	/* begins inside */
		{ 2 * MB + 0x1000, 0x1000, 4 * MB, 4 * MB, 2 },
		{ 2 * MB + 0x1000, 0x1000, 4 * MB, 6 * MB, 1 },	/* ends inside */
		{ 2 * MB, 0, 2 * MB - 0x1000, 2 * MB, 1 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		int level = 0;

		assert_int_equal(region(0, 0, rows[i].gpa, rows[i].size, ram + rows[i].off), 0);
		assert_int_equal(put(rows[i].at & ~7ull, 1), HV_FAULT_RESUME);
		assert_true(fake_leaf(cpu, 0, rows[i].at, &level));
		if (level != rows[i].level)
			fail_msg("row %u: level %d", i, level);
		assert_int_equal(region(0, 0, 0, 0, ram), 0);
	}
}

static void test_readonly(void **state)
{
	u64 v;

	assert_int_equal(region(0, KVM_MEM_READONLY, 0, 2 * MB, ram), 0);
	*host(64) = 9;
	assert_int_equal(get(64, &v), HV_FAULT_RESUME);
	assert_int_equal(v, 9);
	assert_int_equal(put(64, 1), HV_FAULT_MMIO);
	assert_int_equal(*host(64), 9);
	assert_int_equal(hv_write_guest(vm, 0, 64, &v, 8), -EFAULT);
	assert_int_equal(hv_read_guest(vm, 0, 64, &v, 8), 0);
	assert_false(hv_gpa_is_ram(vm, 0, 64, true));
	assert_true(hv_gpa_is_ram(vm, 0, 64, false));
	assert_false(hv_gpa_is_ram(vm, 1, 64, false));
}

static void test_holes(void **state)
{
	u64 v = 3;

	/* Here, since the test framework has just installed its own. */
	assert_int_equal(x86_install_fault_handler(), 0);
	assert_int_equal(region(0, 0, 0, 4 * MB, ram), 0);
	assert_int_equal(munmap(ram + MB, PAGE_SIZE), 0);
	assert_int_equal(mprotect(ram + 3 * MB, PAGE_SIZE, PROT_READ), 0);
	assert_int_equal(get(MB, &v), HV_FAULT_EFAULT);
	assert_int_equal(get(3 * MB, &v), HV_FAULT_RESUME);
	assert_int_equal(hv_read_guest(vm, 0, MB + 8, &v, 8), -EFAULT);
	assert_int_equal(hv_write_guest(vm, 0, MB - 4, &v, 8), -EFAULT);
	assert_int_equal(hv_write_guest(vm, 0, 3 * MB, &v, 8), -EFAULT);
	assert_int_equal(hv_cmpxchg_guest(vm, 0, MB, &v, &v, 8), -EFAULT);
	/* The client maps something again: found by the next fault. */
	assert_true(mmap(ram + MB, PAGE_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == ram + MB);
	assert_int_equal(put(MB, 11), HV_FAULT_RESUME);
	assert_int_equal(*host(MB), 11);
	/* The bus error of an access that was mapped. */
	assert_int_equal(hv_mmu_bus_error(&cpu->v, (u64)ram + MB + 5), HV_FAULT_EFAULT);
	{
		int level;

		assert_int_equal(fake_leaf(cpu, 0, MB, &level), 0);
	}
}

static void test_guestmem(void **state)
{
	u8 buf[9000], back[9000];
	u64 old = 5, val = 6;

	assert_int_equal(region(0, 0, 0, MB, ram), 0);
	assert_int_equal(region(1, 0, MB, MB, ram + 4 * MB), 0);
	for (unsigned i = 0; i < sizeof(buf); i++)
		buf[i] = (u8)(i * 7);
	/* Across pages and slots. */
	assert_int_equal(hv_write_guest(vm, 0, MB - 4000, buf, sizeof(buf)), 0);
	assert_int_equal(hv_read_guest(vm, 0, MB - 4000, back, sizeof(back)), 0);
	assert_memory_equal(buf, back, sizeof(buf));
	assert_memory_equal(ram + MB - 4000, buf, 4000);
	assert_memory_equal(ram + 4 * MB, buf + 4000, 5000);
	assert_int_equal(hv_read_guest(vm, 0, 2 * MB - 1, back, 2), -EFAULT);
	*host(64) = 5;
	assert_int_equal(hv_cmpxchg_guest(vm, 0, 64, &old, &val, 8), 0);
	assert_int_equal(*host(64), 6);
	assert_int_equal(hv_cmpxchg_guest(vm, 0, 64, &old, &val, 8), 1);
	assert_int_equal(old, 6);
}

/* ---- Dirty logs ---- */

static u64 bitmap[RAM_SIZE / PAGE_SIZE / 64];

static int get_log(u32 slot)
{
	struct kvm_dirty_log l = { .slot = slot, .dirty_bitmap = bitmap };

	return hv_get_dirty_log(vm, &l);
}

static int clear_log(u32 slot, u64 first, u32 n)
{
	struct kvm_clear_dirty_log l = {
		.slot = slot, .first_page = first, .num_pages = n, .dirty_bitmap = bitmap,
	};

	return hv_clear_dirty_log(vm, &l);
}

static unsigned popcount(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(bitmap); i++)
		n += (unsigned)__builtin_popcountll(bitmap[i]);
	return n;
}

static void check_log(const u64 *pages, unsigned n)
{
	memset(bitmap, 0, sizeof(bitmap));
	assert_int_equal(get_log(0), 0);
	assert_int_equal(popcount(), n);
	for (unsigned i = 0; i < n; i++)
		assert_true(bitmap[pages[i] / 64] >> (pages[i] % 64) & 1);
}

static void test_dirty_log(void **state)
{
	u64 v;
	int level;

	assert_int_equal(region(0, 0, 0, 4 * MB, ram), 0);
	assert_int_equal(put(0x5000, 1), HV_FAULT_RESUME);
	assert_true(fake_leaf(cpu, 0, 0x5000, &level));
	assert_int_equal(level, 2);
	assert_int_equal(get_log(0), -ENOENT);
	assert_int_equal(get_log(3), -ENOENT);
	assert_int_equal(get_log(2 << 16), -EINVAL);
	assert_int_equal(get_log(32764), -EINVAL);

	/* Switched on: split and protected; reads dirty nothing. */
	assert_int_equal(region(0, KVM_MEM_LOG_DIRTY_PAGES, 0, 4 * MB, ram), 0);
	assert_int_equal(get(0x5000, &v), HV_FAULT_RESUME);
	assert_int_equal(v, 1);
	assert_false(fake_leaf(cpu, 0, 0x5000, &level) & SPTE_W);
	assert_int_equal(level, 1);
	check_log(NULL, 0);
	assert_int_equal(put(0x5000, 2), HV_FAULT_RESUME);
	assert_int_equal(put(0x5008, 2), HV_FAULT_RESUME);
	assert_int_equal(put(3 * MB, 2), HV_FAULT_RESUME);
	assert_int_equal(hv_write_guest(vm, 0, 0x7ffc, &v, 8), 0);
	check_log((u64[]){ 5, 7, 8, 3 * MB / PAGE_SIZE }, 4);
	/* Fetched means protected again: the same pages once more. */
	check_log(NULL, 0);
	assert_int_equal(put(0x5000, 3), HV_FAULT_RESUME);
	assert_int_equal(get(0x6000, &v), HV_FAULT_RESUME);
	check_log((u64[]){ 5 }, 1);
	/* The other address space has its own slot and log. */
	assert_int_equal(region(0 | 1 << 16, KVM_MEM_LOG_DIRTY_PAGES, 0, 4 * MB, ram), 0);
	v = 1;
	assert_int_equal(fake_access(cpu, 1, 0x9000, true, &v), HV_FAULT_RESUME);
	check_log(NULL, 0);
	memset(bitmap, 0, sizeof(bitmap));
	assert_int_equal(get_log(1 << 16), 0);
	assert_int_equal(popcount(), 1);
	assert_true(bitmap[0] & BIT(9));
	/* Off: large pages come back. */
	assert_int_equal(region(0, 0, 0, 4 * MB, ram), 0);
	assert_int_equal(get_log(0), -ENOENT);
	assert_int_equal(put(0x5000, 4), HV_FAULT_RESUME);
	assert_true(fake_leaf(cpu, 0, 0x5000, &level) & SPTE_W);
	assert_int_equal(level, 2);
	/* A buffer that is none. */
	assert_int_equal(region(0, KVM_MEM_LOG_DIRTY_PAGES, 0, 4 * MB, ram), 0);
	{
		struct kvm_dirty_log l = { .slot = 0, .dirty_bitmap = (void *)8 };

		assert_int_equal(hv_get_dirty_log(vm, &l), -EFAULT);
	}
}

static void test_manual_protect(void **state)
{
	static const struct { u64 first; u32 n; int want; } rows[] = {
		{ 1, 64, -EINVAL }, { 0, 63, -EINVAL }, { 64, 65, -EINVAL }, { 0, 1024, -EINVAL },
		{ 1024, 64, -EINVAL }, { 0, 64, 0 }, { 960, 40, 0 }, { 960, 64, -EINVAL }, { 0, 1000, 0 },
		{ 1000, 0, -EINVAL }, { 960, 0, 0 },
	};
	u64 size = 1000 * PAGE_SIZE, v;
	int level;

	vm->manual_dirty_protect = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;
	assert_int_equal(region(0, 0, 0, size, ram), 0);
	assert_int_equal(put(0, 1), HV_FAULT_RESUME);
	assert_int_equal(region(0, KVM_MEM_LOG_DIRTY_PAGES, 0, size, ram), 0);
	/* All dirty, nothing split yet. */
	memset(bitmap, 0, sizeof(bitmap));
	assert_int_equal(get_log(0), 0);
	assert_int_equal(popcount(), 1000);
	assert_true(fake_leaf(cpu, 0, 0, &level) & SPTE_W);
	assert_int_equal(level, 2);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		int r = clear_log(0, rows[i].first, rows[i].n);

		if (r != rows[i].want)
			fail_msg("row %u: %d", i, r);
	}
	assert_int_equal(clear_log(1, 0, 64), -ENOENT);
	/* Everything was cleared; fetching clears nothing; only given bits are cleared. */
	assert_int_equal(put(0x3000, 1), HV_FAULT_RESUME);
	assert_int_equal(put(0x4000, 1), HV_FAULT_RESUME);
	check_log((u64[]){ 3, 4 }, 2);
	check_log((u64[]){ 3, 4 }, 2);
	memset(bitmap, 0, sizeof(bitmap));
	bitmap[0] = BIT(3) | BIT(9);
	assert_int_equal(clear_log(0, 0, 64), 0);
	check_log((u64[]){ 4 }, 1);
	assert_int_equal(put(0x4000, 1), HV_FAULT_RESUME);
	assert_int_equal(get(0x3000, &v), HV_FAULT_RESUME);
	check_log((u64[]){ 4 }, 1);
	assert_int_equal(put(0x3000, 2), HV_FAULT_RESUME);
	check_log((u64[]){ 3, 4 }, 2);
}

static void test_pml(void **state)
{
	u64 buf[512], v;

	vm->mmu->pml = true;
	fake_pml = buf;
	fake_pml_index = 511;
	assert_int_equal(region(0, KVM_MEM_LOG_DIRTY_PAGES, 0, 4 * MB, ram), 0);
	/* Mapped by reading: writable, not dirty; the write is hardware's to log. */
	assert_int_equal(get(0x5000, &v), HV_FAULT_RESUME);
	assert_int_equal(put(0x5000, 2), HV_FAULT_RESUME);
	assert_int_equal(fake_pml_index, 510);
	check_log(NULL, 0);
	tdp_drain_pml(&cpu->v, buf, 511);
	check_log((u64[]){ 5 }, 1);
	/* Collected means clean: the next write is logged again. */
	assert_int_equal(put(0x5000, 3), HV_FAULT_RESUME);
	assert_int_equal(fake_pml_index, 509);
	tdp_drain_pml(&cpu->v, buf, 510);
	check_log((u64[]){ 5 }, 1);
	check_log(NULL, 0);
	for (unsigned i = 0; i < 512; i++)
		buf[i] = i * PAGE_SIZE;
	tdp_drain_pml(&cpu->v, buf, 0);
	memset(bitmap, 0, sizeof(bitmap));
	assert_int_equal(get_log(0), 0);
	assert_int_equal(popcount(), 512);
	fake_pml = NULL;
}

static void test_ring(void **state)
{
	static const struct { u64 bytes; int want; } rows[] = {
		{ 0, -EINVAL }, { 4096, -EINVAL }, { 12288, -EINVAL }, { 65536 * 16 * 2, -E2BIG },
	};
	struct kvm_dirty_gfn *g;
	u64 v = 1;
	int level;

	assert_int_equal(hv_dirty_ring_enable(vm, 16384), -EINVAL);	/* there is a vCPU already */
	fake_vm_free(vm);
	vm = fake_vm_new();
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(hv_dirty_ring_enable(vm, rows[i].bytes), rows[i].want);
	assert_int_equal(hv_reset_dirty_rings(vm), -EINVAL);
	assert_int_equal(hv_dirty_ring_enable(vm, 1024 * 16), 0);
	assert_int_equal(hv_dirty_ring_enable(vm, 1024 * 16), -EINVAL);
	cpu = fake_vcpu_new(vm);
	g = mmap(NULL, 1024 * 16, PROT_READ | PROT_WRITE, MAP_SHARED, cpu->v.memfd, 64 * PAGE_SIZE);
	assert_true(g != MAP_FAILED);

	assert_int_equal(region(3, KVM_MEM_LOG_DIRTY_PAGES, MB, 4 * MB, ram), 0);
	assert_int_equal(get_log(3), -ENXIO);
	assert_int_equal(put(MB + 0x5000, 1), HV_FAULT_RESUME);
	assert_int_equal(put(MB + 0x5008, 1), HV_FAULT_RESUME);
	assert_int_equal(hv_write_guest(vm, 0, MB + 0x6000, &v, 8), 0);
	assert_int_equal(g[0].flags, KVM_DIRTY_GFN_F_DIRTY);
	assert_int_equal(g[0].slot, 3);
	assert_int_equal(g[0].offset, 5);
	assert_int_equal(g[1].offset, 6);
	assert_int_equal(g[2].flags, 0);
	assert_int_equal(hv_reset_dirty_rings(vm), 0);
	/* Harvested in order; taken back as far as that goes. */
	g[1].flags = KVM_DIRTY_GFN_F_RESET;
	assert_int_equal(hv_reset_dirty_rings(vm), 0);
	g[0].flags = KVM_DIRTY_GFN_F_RESET;
	assert_int_equal(hv_reset_dirty_rings(vm), 2);
	assert_int_equal(g[0].flags | g[1].flags, 0);
	assert_false(fake_leaf(cpu, 0, MB + 0x5000, &level) & SPTE_W);
	assert_int_equal(put(MB + 0x5000, 2), HV_FAULT_RESUME);
	assert_int_equal(g[2].offset, 5);
	/* Nonsense of the client's is harmless. */
	g[2].flags = KVM_DIRTY_GFN_F_RESET | KVM_DIRTY_GFN_F_DIRTY;
	g[2].slot = 0xffff7777;
	g[2].offset = ~0ull;
	assert_int_equal(hv_reset_dirty_rings(vm), 1);
	/* Soft full leaves room for one exit's worth; hard full stops the write. */
	for (u64 i = 0; i < 1024 - 576; i++) {
		assert_false(hv_dirty_ring_soft_full(&cpu->v));
		assert_int_equal(put(MB + 0x10000 + i * PAGE_SIZE, 1), HV_FAULT_RESUME);
	
}
	assert_true(hv_dirty_ring_soft_full(&cpu->v));
	for (u64 i = 1024 - 576; i < 1024; i++)
		assert_int_equal(hv_write_guest(vm, 0, MB + i * PAGE_SIZE, &v, 8), 0);
	assert_int_equal(put(MB + 0x1000, 1), HV_FAULT_DIRTY_FULL);
	/* Writes by nobody's vCPU that find the ring full come later, none is lost. */
	for (unsigned i = 0; i < 76; i++)
		assert_int_equal(hv_write_guest(vm, 0, MB + i * PAGE_SIZE, &v, 8), 0);
	for (unsigned round = 0; round < 2; round++) {
		unsigned n = 0;

		for (unsigned i = 0; i < 1024; i++) {
			if (g[i].flags & KVM_DIRTY_GFN_F_DIRTY) {
				g[i].flags = KVM_DIRTY_GFN_F_RESET;
				n++;
			}
		}
		assert_int_equal(n, round ? 76 : 1024);
		assert_int_equal(hv_reset_dirty_rings(vm), n);
	}
	munmap(g, 1024 * 16);
}

/* A fault against an invalidation of its host page: nothing is entered until that is over. */
static void test_invalidation(void **state)
{
	struct hv_mmu *mmu = vm->mmu;
	int level;
	u64 v;

	assert_int_equal(region(0, 0, 2 * MB, 4 * MB, ram), 0);
	mmu->inval_count = 1;
	mmu->inval_start = (u64)ram + MB;
	mmu->inval_end = mmu->inval_start + PAGE_SIZE;
	/* In the page itself, and beside it in the same large page. */
	assert_int_equal(hv_mmu_load(&cpu->v, 0) & 0xfff, 0x5e);
	assert_int_equal(hv_mmu_fault(&cpu->v, 3 * MB, 1), HV_FAULT_RESUME);
	assert_int_equal(hv_mmu_fault(&cpu->v, 2 * MB, 1), HV_FAULT_RESUME);
	assert_int_equal(fake_leaf(cpu, 0, 3 * MB, &level), 0);
	assert_int_equal(hv_mmu_fault(&cpu->v, 4 * MB, 1), HV_FAULT_RESUME);
	assert_true(fake_leaf(cpu, 0, 4 * MB, &level));
	mmu->inval_count = 0;
	/* The sequence is compared for equality, wherever it stands. */
	atomic_store(&mmu->inval_seq, ~0ull);
	assert_int_equal(get(3 * MB, &v), HV_FAULT_RESUME);
	assert_int_equal(hv_mmu_bus_error(&cpu->v, (u64)ram + MB), HV_FAULT_EFAULT);
	assert_int_equal(atomic_load(&mmu->inval_seq), 0);
	assert_int_equal(get(3 * MB, &v), HV_FAULT_RESUME);
	assert_int_equal(hv_mmu_bus_error(&cpu->v, (u64)ram + MB), HV_FAULT_EFAULT);
	atomic_store(&mmu->inval_seq, 1ull << 63);
	assert_int_equal(put(3 * MB, 1), HV_FAULT_RESUME);
}

/* Roots: invalidated ones go when their vCPU leaves them; nothing leaks. */
static void test_roots(void **state)
{
	u64 v, a, b;

	assert_int_equal(region(0, 0, 0, 4 * MB, ram), 0);
	assert_int_equal(put(0, 5), HV_FAULT_RESUME);
	assert_int_equal(fake_access(cpu, 1, 0, false, &v), HV_FAULT_MMIO);
	a = hv_mmu_load(&cpu->v, 0);
	assert_int_equal(a & 0xfff, 0x5e);
	/* Its EPTP may have been another root's: nothing cached counts. */
	assert_true(atomic_load(&cpu->v.requests) >> HV_REQ_TLB_FLUSH & 1);
	hv_mmu_invalidate_roots(vm);
	assert_true(atomic_load(&cpu->v.requests) >> HV_REQ_MMU_RELOAD & 1);
	assert_int_equal(atomic_load(&vm->mmu->leaves[2]), 0);
	b = hv_mmu_load(&cpu->v, 0);
	assert_true(a != b);
	assert_int_equal(get(0, &v), HV_FAULT_RESUME);
	assert_int_equal(v, 5);
	epoch_barrier();
	/* The live root, its three tables... and what the vCPU keeps for its next fault. */
	assert_int_equal(vm->mmu->pool.in_use, atomic_load(&vm->mmu->tables) + cpu->v.mmu->nr_cached);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(test_slot_errno), T(test_lookup), T(test_access), T(test_overlapping_move), T(test_levels),
		T(test_readonly), T(test_holes), T(test_guestmem), T(test_dirty_log), T(test_manual_protect),
		T(test_pml), T(test_ring), T(test_invalidation), T(test_roots),
#undef T
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
