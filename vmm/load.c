// SPDX-License-Identifier: MIT
/* What the loaders share: recognition, memory map, command line, initial RAM disk. */
#include "vmm/load.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "vmm/layout.h"

#define E820_RAM 1
#define E820_RESERVED 2

int load_fail(char err[LOAD_ERR_LEN], int ret, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, LOAD_ERR_LEN, fmt, ap);
	va_end(ap);
	return ret;
}

int load_kernel(struct vmm_mem *mem, const struct load_params *p, struct load_entry *entry,
		char err[LOAD_ERR_LEN])
{
	const struct vmm_blob *k = p->kernel;

	if (!k->len)
		return load_fail(err, -ENOEXEC, "kernel %s is empty", k->name);
	if (k->len >= 4 && !memcmp(k->data, "\x7f" "ELF", 4))
		return load_elf(mem, p, entry, err);
	if (k->len >= 0x206 && !memcmp(k->data + 0x202, "HdrS", 4))
		return load_bzimage(mem, p, entry, err);
	return load_fail(err, -ENOEXEC, "kernel %s is neither a Linux bzImage nor an ELF file",
			 k->name);
}

int load_cmdline(struct vmm_mem *mem, const struct load_params *p, u64 max, char err[LOAD_ERR_LEN])
{
	u64 len = strlen(p->cmdline);

	max = min(max, (u64)LAYOUT_CMDLINE_MAX - 1);
	if (len > max)
		return load_fail(
			err, -E2BIG,
			"the kernel command line has %llu characters, the kernel takes %llu",
			(unsigned long long)len, (unsigned long long)max);
	if (mem_write(mem, LAYOUT_CMDLINE, p->cmdline, len + 1))
		return load_fail(err, -ENOMEM, "too little memory for the command line");
	return 0;
}

int load_initrd(struct vmm_mem *mem, const struct load_params *p, u64 floor, u64 ceiling, u64 *addr,
		char err[LOAD_ERR_LEN])
{
	u64 end = min(ceiling, mem_low_end(mem)), size = round_up(p->initrd->len, PAGE_SIZE);

	*addr = 0;
	if (!p->initrd->len)
		return 0;
	if (end < floor || end - floor < size) {
		u64 need = round_up(floor + size, 1 << 20) >> 20;

		return load_fail(err, -ENOMEM,
				 "too little memory: kernel and initrd need at least %llu MiB, "
				 "the machine has %llu MiB",
				 (unsigned long long)need, (unsigned long long)(mem->size >> 20));
	}
	*addr = round_down(end - size, PAGE_SIZE);
	if (mem_write(mem, *addr, p->initrd->data, p->initrd->len))
		return load_fail(err, -ENOMEM, "initrd %s does not fit", p->initrd->name);
	return 0;
}

unsigned load_memory_map(const struct vmm_mem *mem, struct load_map_entry map[LOAD_MAP_MAX])
{
	unsigned n = 0;

	map[n++] = (struct load_map_entry){ 0, LAYOUT_EBDA, E820_RAM };
	map[n++] =
		(struct load_map_entry){LAYOUT_EBDA, LAYOUT_ISA_HOLE - LAYOUT_EBDA, E820_RESERVED};
	map[n++] =
		(struct load_map_entry){LAYOUT_ACPI, LAYOUT_ACPI_END - LAYOUT_ACPI, E820_RESERVED};
	map[n++] =
		(struct load_map_entry){LAYOUT_KERNEL, mem_low_end(mem) - LAYOUT_KERNEL, E820_RAM};
	map[n++] = (struct load_map_entry){ LAYOUT_ECAM, LAYOUT_ECAM_SIZE, E820_RESERVED };
	map[n++] = (struct load_map_entry){ LAYOUT_IDENTITY_MAP, 4 * PAGE_SIZE, E820_RESERVED };
	if (mem->nr_regions > 1)
		map[n++] =
			(struct load_map_entry){mem->region[1].gpa, mem->region[1].size, E820_RAM};
	return n;
}

void load_fill_boot_params(const struct vmm_mem *mem, const struct load_params *p,
			   struct boot_params *bp, u64 initrd)
{
	struct load_map_entry map[LOAD_MAP_MAX];
	unsigned n = load_memory_map(mem, map);

	for (unsigned i = 0; i < n; i++)
		bp->e820_table[i] = (struct boot_e820_entry){
			.addr = map[i].addr, .size = map[i].size, .type = map[i].type };
	bp->e820_entries = (u8)n;
	bp->acpi_rsdp_addr = p->rsdp;
	bp->hdr.type_of_loader = 0xff;
	bp->hdr.cmd_line_ptr = LAYOUT_CMDLINE;
	bp->hdr.ramdisk_image = (u32)initrd;
	bp->hdr.ramdisk_size = (u32)p->initrd->len;
}

int load_early_tables(struct vmm_mem *mem)
{
	/*
	 * __BOOT_CS is 0x10 and __BOOT_DS 0x18 in the Linux protocols; PVH leaves selectors open.
	 */
	static const u64 gdt[] = {
		0, 0,
		0x00af9b000000ffffull,	/* code: flat, long mode */
		0x00cf93000000ffffull,	/* data: flat */
	};
	u64 table[512];
	const u64 flags = BIT(0) | BIT(1);	/* present, writable */

	if (mem_write(mem, LAYOUT_GDT, gdt, sizeof(gdt)))
		return -ENOMEM;
	memset(table, 0, sizeof(table));
	table[0] = (LAYOUT_PAGE_TABLES + PAGE_SIZE) | flags;
	if (mem_write(mem, LAYOUT_PAGE_TABLES, table, sizeof(table)))
		return -ENOMEM;
	for (u64 i = 0; i < 4; i++)
		table[i] = (LAYOUT_PAGE_TABLES + (2 + i) * PAGE_SIZE) | flags;
	if (mem_write(mem, LAYOUT_PAGE_TABLES + PAGE_SIZE, table, sizeof(table)))
		return -ENOMEM;
	for (u64 i = 0; i < 4; i++) {
		for (u64 j = 0; j < 512; j++)
			table[j] = ((i * 512 + j) << 21) | BIT(7) | flags;
		if (mem_write(mem, LAYOUT_PAGE_TABLES + (2 + i) * PAGE_SIZE, table, sizeof(table)))
			return -ENOMEM;
	}
	return 0;
}
