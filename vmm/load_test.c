// SPDX-License-Identifier: MIT
/* Loaders with good and with broken images; ACPI tables; memory map. */
#include "vmm/test.h"

#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>

#include "base/bits.h"
#include "vmm/layout.h"
#include "vmm/load.h"
#include "vmm/machine.h"

#define MEM (64ull << 20)

static struct vmm_blob no_initrd = { .name = "none" };
static struct vmm_blob initrd = { .name = "initrd", .data = (const u8 *)"initrd!", .len = 7 };

static int load(const u8 *data, size_t len, u64 memsize, const struct vmm_blob *rd,
		const char *cmdline, struct vmm_mem *mem, struct load_entry *entry, char *err)
{
	/* A copy of exactly this size, so that reads beyond the end are found. */
	u8 *copy = malloc(len ? len : 1);
	struct vmm_blob k = { .name = "k", .data = copy, .len = len };
	struct load_params p = {
		.kernel = &k, .initrd = rd, .cmdline = cmdline, .rsdp = LAYOUT_ACPI};
	int ret;

	memcpy(copy, data, len);
	assert_int_equal(mem_init(mem, memsize), 0);
	memset(err, 0, LOAD_ERR_LEN);
	ret = load_kernel(mem, &p, entry, err);
	free(copy);
	/* A failure always has words. */
	assert_true(ret == 0 || strlen(err) > 0);
	return ret;
}

static int try_load(const u8 *data, size_t len, u64 memsize)
{
	struct vmm_mem mem;
	struct load_entry e;
	char err[LOAD_ERR_LEN];
	int ret = load(data, len, memsize, &initrd, "a=b", &mem, &e, err);

	mem_exit(&mem);
	return ret;
}

static size_t make_bzimage(u8 *buf, size_t body)
{
	struct setup_header h = {
		.setup_sects = 1,
		.boot_flag = 0xaa55,
		.version = 0x20f,
		.loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 0x200000,
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64,
		.cmdline_size = 2047,
		.pref_address = 0x1000000,
		.init_size = 0x800000,
		.jump = 0x6aeb,
	};

	memset(buf, 0, 1024 + body);
	h.syssize = (u32)(body / 16);
	memcpy(&h.header, "HdrS", 4);
	memcpy(buf + 0x1f1, &h, sizeof(h));
	memset(buf + 1024, 0x90, body);
	return 1024 + body;
}

static void test_bzimage(void **state)
{
	u8 *k = malloc(1024 + 65536);
	size_t len = make_bzimage(k, 65536);
	struct setup_header *h = (struct setup_header *)(k + 0x1f1);
	struct boot_params bp;
	struct vmm_mem mem;
	struct load_entry e;
	char err[LOAD_ERR_LEN], *big;

	assert_int_equal(load(k, len, MEM, &initrd, "a=b", &mem, &e, err), 0);
	assert_int_equal(e.mode, LOAD_LINUX64);
	assert_int_equal(e.ip, 0x100200);
	memcpy(&bp, mem.host + e.arg, sizeof(bp));
	assert_int_equal(bp.hdr.type_of_loader, 0xff);
	assert_int_equal(bp.hdr.ramdisk_size, 7);
	/* Above what the kernel unpacks into, page-aligned, all in RAM. */
	assert_true(bp.hdr.ramdisk_image >= 0x1800000 && bp.hdr.ramdisk_image + 7 <= MEM);
	assert_int_equal(bp.hdr.ramdisk_image & 4095, 0);
	assert_memory_equal(mem.host + bp.hdr.ramdisk_image, "initrd!", 7);
	assert_string_equal((char *)mem.host + bp.hdr.cmd_line_ptr, "a=b");
	assert_int_equal(bp.acpi_rsdp_addr, LAYOUT_ACPI);
	assert_true(bp.e820_entries >= 4);
	mem_exit(&mem);

	/* Every truncation is refused. */
	for (size_t n = 0; n < len; n += n < 2048 ? 1 : 4096)
		assert_int_equal(try_load(k, n, MEM), -ENOEXEC);
	/* Too little memory, with a number in the message. */
	assert_int_equal(load(k, len, 20ull << 20, &initrd, "", &mem, &e, err), -ENOMEM);
	assert_non_null(strstr(err, "24 MiB"));
	mem_exit(&mem);
	/* Kernel fits, initrd does not. */
	assert_int_equal(try_load(k, len, 24ull << 20), -ENOMEM);

	big = malloc(4096);
	memset(big, 'x', 4095);
	big[4095] = 0;
	assert_int_equal(load(k, len, MEM, &no_initrd, big, &mem, &e, err), -E2BIG);
	mem_exit(&mem);
	free(big);

	h->xloadflags = 0;
	assert_int_equal(load(k, len, MEM, &no_initrd, "", &mem, &e, err), 0);
	assert_int_equal(e.mode, LOAD_LINUX32);
	assert_int_equal(e.ip, 0x100000);
	mem_exit(&mem);
	h->pref_address = ~0ull;
	assert_int_equal(try_load(k, len, MEM), -ENOEXEC);
	h->pref_address = 0x1000000;
	h->init_size = 0xffffffff;
	assert_int_equal(try_load(k, len, MEM), -ENOMEM);
	h->init_size = 0;
	h->loadflags = 0;
	assert_int_equal(try_load(k, len, MEM), -ENOEXEC);
	h->loadflags = LOADED_HIGH;
	h->version = 0x205;
	assert_int_equal(try_load(k, len, MEM), -ENOEXEC);
	free(k);
}

/* A header, one PT_LOAD at 1 MiB, and a PT_NOTE with the PVH entry. */
struct elf_image {
	Elf64_Ehdr eh;
	Elf64_Phdr ph[2];
	struct {
		u32 namesz, descsz, type;
		char name[4];
		u32 entry, pad;
	} note;
	u8 body[256];
};

static void make_elf(struct elf_image *m)
{
	memset(m, 0, sizeof(*m));
	memcpy(m->eh.e_ident, ELFMAG, SELFMAG);
	m->eh.e_ident[EI_CLASS] = ELFCLASS64;
	m->eh.e_ident[EI_DATA] = ELFDATA2LSB;
	m->eh.e_type = ET_EXEC;
	m->eh.e_machine = EM_X86_64;
	m->eh.e_entry = 0x100010;
	m->eh.e_phoff = offsetof(struct elf_image, ph);
	m->eh.e_phentsize = sizeof(Elf64_Phdr);
	m->eh.e_phnum = 2;
	m->ph[0] = (Elf64_Phdr){.p_type = PT_LOAD,
				.p_offset = offsetof(struct elf_image, body),
				.p_filesz = 256,
				.p_memsz = 8192,
				.p_paddr = 0x100000,
				.p_vaddr = 0xffffffff80100000ull};
	m->ph[1] = (Elf64_Phdr){ .p_type = PT_NOTE, .p_offset = offsetof(struct elf_image, note),
		.p_filesz = sizeof(m->note), .p_align = 4 };
	m->note.namesz = 4;
	m->note.descsz = 8;
	m->note.type = 18;
	memcpy(m->note.name, "Xen", 4);
	m->note.entry = 0x100020;
	memset(m->body, 0xcc, sizeof(m->body));
}

static int try_elf(const struct elf_image *m)
{
	return try_load((const u8 *)m, sizeof(*m), MEM);
}

static void test_elf(void **state)
{
	struct elf_image m;
	struct vmm_mem mem;
	struct load_entry e;
	char err[LOAD_ERR_LEN];
	const u32 *info;
	const u64 *modlist;

	make_elf(&m);
	assert_int_equal(load((const u8 *)&m, sizeof(m), MEM, &initrd, "a=b", &mem, &e, err), 0);
	assert_int_equal(e.mode, LOAD_PVH);
	assert_int_equal(e.ip, 0x100020);
	info = (const u32 *)(mem.host + e.arg);
	assert_int_equal(info[0], 0x336ec578);
	assert_int_equal(info[3], 1);
	modlist = (const u64 *)(mem.host + *(const u64 *)(info + 4));
	assert_memory_equal(mem.host + modlist[0], "initrd!", 7);
	assert_int_equal(modlist[1], 7);
	assert_string_equal((char *)mem.host + *(const u64 *)(info + 6), "a=b");
	assert_int_equal(mem.host[0x1000ff], 0xcc);
	assert_int_equal(mem.host[0x100100], 0);
	mem_exit(&mem);

	/* Without the note: Linux's 64-bit protocol. */
	m.note.type = 17;
	assert_int_equal(load((const u8 *)&m, sizeof(m), MEM, &no_initrd, "", &mem, &e, err), 0);
	assert_int_equal(e.mode, LOAD_LINUX64);
	assert_int_equal(e.ip, 0x100010);
	mem_exit(&mem);

	for (size_t n = 4; n < sizeof(m); n++)
		assert_true(try_load((const u8 *)&m, n, MEM) < 0);

#define BROKEN(field, value, want) \
	do { \
		make_elf(&m); \
		m.field = (value); \
		assert_int_equal(try_elf(&m), want); \
	} while (0)
	BROKEN(eh.e_machine, EM_AARCH64, -ENOEXEC);
	BROKEN(eh.e_type, ET_DYN, -ENOEXEC);
	BROKEN(eh.e_ident[EI_DATA], ELFDATA2MSB, -ENOEXEC);
	BROKEN(eh.e_ident[EI_CLASS], 9, -ENOEXEC);
	BROKEN(eh.e_phentsize, 1, -ENOEXEC);
	BROKEN(eh.e_phoff, ~0ull, -ENOEXEC);
	BROKEN(eh.e_phoff, ~0ull - 55, -ENOEXEC);
	BROKEN(eh.e_phnum, 0xffff, -ENOEXEC);
	BROKEN(eh.e_phnum, 0, -ENOEXEC);
	BROKEN(ph[0].p_offset, ~0ull, -ENOEXEC);
	BROKEN(ph[0].p_filesz, ~0ull, -ENOEXEC);
	BROKEN(ph[0].p_filesz, 257, -ENOEXEC);
	BROKEN(ph[0].p_memsz, 1, -ENOEXEC);
	BROKEN(ph[0].p_memsz, ~0ull, -ENOMEM);
	BROKEN(ph[0].p_memsz, MEM, -ENOMEM);
	BROKEN(ph[0].p_paddr, 0, -ENOMEM);
	BROKEN(ph[0].p_paddr, ~0ull - 4095, -ENOMEM);
	BROKEN(ph[0].p_type, PT_NULL, -ENOEXEC);
	/* Notes that lie are no notes. */
	BROKEN(note.namesz, 0xffffffff, 0);
	BROKEN(note.descsz, 0xffffffff, 0);
	BROKEN(ph[1].p_align, 8, 0);
}

static void test_unknown(void **state)
{
	assert_int_equal(try_load((const u8 *)"", 0, MEM), -ENOEXEC);
	assert_int_equal(try_load((const u8 *)"#!/bin/sh\n", 10, MEM), -ENOEXEC);
}

static u8 sum(const u8 *p, size_t len)
{
	u8 s = 0;

	while (len--)
		s = (u8)(s + *p++);
	return s;
}

static void test_acpi(void **state)
{
	static const char *const want[] = { "FACP", "APIC", "MCFG" };
	const struct acpi_params p = { .cpus = 254, .com2 = true, .com3 = true };
	struct vmm_mem mem;
	const u8 *r, *x, *dsdt;
	u64 rsdp;

	assert_int_equal(mem_init(&mem, MEM), 0);
	assert_int_equal(acpi_build(&mem, &p, &rsdp), 0);
	r = mem.host + rsdp;
	assert_memory_equal(r, "RSD PTR ", 8);
	assert_int_equal(sum(r, 20), 0);
	assert_int_equal(sum(r, 36), 0);
	x = mem.host + *(const u64 *)(r + 24);
	assert_memory_equal(x, "XSDT", 4);
	assert_int_equal(sum(x, *(const u32 *)(x + 4)), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(want); i++) {
		u64 at;
		const u8 *t;

		memcpy(&at, x + 36 + 8 * i, 8);
		assert_true(at >= LAYOUT_ACPI && at < LAYOUT_ACPI_END);
		t = mem.host + at;
		assert_memory_equal(t, want[i], 4);
		assert_int_equal(sum(t, *(const u32 *)(t + 4)), 0);
		if (i == 0) {
			memcpy(&at, t + 140, 8);
			dsdt = mem.host + at;
			assert_memory_equal(dsdt, "DSDT", 4);
			assert_int_equal(sum(dsdt, *(const u32 *)(dsdt + 4)), 0);
			memcpy(&at, t + 36, 4);
			assert_memory_equal(mem.host + (u32)at, "FACS", 4);
			assert_int_equal((u32)at & 63, 0);
		}
	}
	mem_exit(&mem);
}

static void test_memory_map(void **state)
{
	struct load_map_entry map[LOAD_MAP_MAX];
	struct vmm_mem mem;
	u64 ram = 0, end = 0;
	unsigned n;

	/* 5 GiB: 3 below the hole, 2 above 4 GiB. Only reserved, never touched. */
	assert_int_equal(mem_init(&mem, 5ull << 30), 0);
	n = load_memory_map(&mem, map);
	for (unsigned i = 0; i < n; i++) {
		assert_true(map[i].addr >= end);
		end = map[i].addr + map[i].size;
		if (map[i].type == 1)
			ram += map[i].size;
	}
	assert_true(ram > (5ull << 30) - (1 << 20));
	assert_int_equal(end, 6ull << 30);
	assert_non_null(mem_ptr(&mem, LAYOUT_HOLE - 1, 1));
	assert_null(mem_ptr(&mem, LAYOUT_HOLE - 1, 2));
	assert_null(mem_ptr(&mem, LAYOUT_HOLE, 1));
	assert_ptr_equal(mem_ptr(&mem, LAYOUT_HIGH_RAM, 1), mem.host + LAYOUT_HOLE);
	assert_null(mem_ptr(&mem, 6ull << 30, 1));
	assert_null(mem_ptr(&mem, ~0ull, 2));
	mem_exit(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bzimage),
		cmocka_unit_test(test_elf),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_acpi),
		cmocka_unit_test(test_memory_map),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
