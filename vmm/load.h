/* SPDX-License-Identifier: MIT */
/*
 * Loaders: put a kernel, its initial RAM disk and boot information into guest
 * RAM and say in which state the boot processor starts. Images are untrusted:
 * each field is checked before use.
 */
#ifndef VMM_LOAD_H
#define VMM_LOAD_H

#include "base/types.h"
#include "vmm/mem.h"
#include "vmm/vmm.h"

enum load_mode {
	LOAD_LINUX64,		/* Linux 64-bit boot protocol: RSI = boot_params */
	LOAD_LINUX32,		/* Linux 32-bit boot protocol: ESI = boot_params */
	LOAD_PVH,		/* PVH: 32-bit, EBX = hvm_start_info */
};

struct load_entry {
	enum load_mode mode;
	u64 ip;
	u64 arg;
};

struct load_params {
	const struct vmm_blob *kernel;
	const struct vmm_blob *initrd;
	const char *cmdline;
	u64 rsdp;
};

#define LOAD_ERR_LEN 256

/*
 * Recognise and load p->kernel. On failure @err gets one line that names the
 * file and the cause. Returns 0; -ENOEXEC for a broken or foreign image;
 * -ENOMEM if guest RAM is too small; -E2BIG for a command line too long.
 */
int load_kernel(struct vmm_mem *mem, const struct load_params *p, struct load_entry *entry,
		char err[LOAD_ERR_LEN]);

/* The version string in a bzImage's header, or NULL. Not NUL-terminated beyond *@len. */
const char *load_bzimage_version(const u8 *data, size_t size, size_t *len);

/* ---- Shared by the loaders ---- */

int __printf(3, 4) load_fail(char err[LOAD_ERR_LEN], int ret, const char *fmt, ...);

int load_bzimage(struct vmm_mem *mem, const struct load_params *p, struct load_entry *entry,
		 char err[LOAD_ERR_LEN]);
int load_elf(struct vmm_mem *mem, const struct load_params *p, struct load_entry *entry,
	     char err[LOAD_ERR_LEN]);

/* Command line at LAYOUT_CMDLINE; @max: bytes that the kernel takes, without the NUL. */
int load_cmdline(struct vmm_mem *mem, const struct load_params *p, u64 max, char err[LOAD_ERR_LEN]);
/*
 * Initial RAM disk as high as possible in [floor, min(ceiling, RAM end)); *@addr 0 if there is
 * none.
 */
int load_initrd(struct vmm_mem *mem, const struct load_params *p, u64 floor, u64 ceiling, u64 *addr,
		char err[LOAD_ERR_LEN]);

struct load_map_entry {
	u64 addr, size;
	u32 type;		/* 1 RAM, 2 reserved: the same in E820 and PVH */
};
#define LOAD_MAP_MAX 9
unsigned load_memory_map(const struct vmm_mem *mem, struct load_map_entry map[LOAD_MAP_MAX]);

struct boot_params;
/* Memory map, RSDP, command line and initial RAM disk into Linux boot_params. */
void load_fill_boot_params(const struct vmm_mem *mem, const struct load_params *p,
			   struct boot_params *bp, u64 initrd);
/* Identity page tables for 4 GiB and a flat GDT, as both entry modes need. */
int __must_check load_early_tables(struct vmm_mem *mem);

#endif
