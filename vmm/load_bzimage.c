// SPDX-License-Identifier: MIT
/*
 * Linux bzImage, by the 64-bit or the 32-bit boot protocol. The real-mode part
 * is used for its header only.
 * Source: Linux "The Linux/x86 Boot Protocol".
 */
#include <asm/bootparam.h>
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "vmm/layout.h"
#include "vmm/load.h"

#define SECTOR 512u
#define HDR_OFFSET 0x1f1u
#define BOOT_FLAG 0xaa55
/*
 * 2.06: the first with a command-line size, relocatable kernels and all that is used here without a
 * test.
 */
#define MIN_VERSION 0x206
#define VERSION_PREF_ADDRESS 0x20a
#define VERSION_XLOADFLAGS 0x20c
#define ENTRY64_OFFSET 0x200

const char *load_bzimage_version(const u8 *data, size_t size, size_t *len)
{
	u16 off;
	const u8 *end;

	if (size < 0x210 || memcmp(data + 0x202, "HdrS", 4))
		return NULL;
	memcpy(&off, data + 0x20e, sizeof(off));
	/* Relative to the setup part; 0 = no string. */
	if (!off || (size_t)off + 0x200 >= size)
		return NULL;
	data += off + 0x200;
	size -= off + 0x200;
	end = memchr(data, 0, min(size, 256ul));
	if (!end)
		return NULL;
	*len = strcspn((const char *)data, " ");
	return (const char *)data;
}

int load_bzimage(struct vmm_mem *mem, const struct load_params *p, struct load_entry *entry,
		 char err[LOAD_ERR_LEN])
{
	const struct vmm_blob *k = p->kernel;
	struct boot_params bp;
	struct setup_header *h = &bp.hdr;
	u64 setup_len, body_len, hdr_len, floor, initrd;
	bool entry64;
	int ret;

	memset(&bp, 0, sizeof(bp));
	if (k->len < 2 * SECTOR)
		return load_fail(err, -ENOEXEC, "kernel %s is truncated: no whole bzImage header",
				 k->name);
	/* The byte at 0x201, a jump's displacement, tells where the header ends. */
	hdr_len = 0x202u + k->data[0x201] - HDR_OFFSET;
	memcpy(h, k->data + HDR_OFFSET, min(hdr_len, (u64)sizeof(*h)));
	if (h->boot_flag != BOOT_FLAG || h->version < MIN_VERSION)
		return load_fail(err, -ENOEXEC,
				 "kernel %s has boot protocol %u.%02u, needed is 2.06 or later",
				 k->name, h->version >> 8, h->version & 0xff);
	if (!(h->loadflags & LOADED_HIGH))
		return load_fail(err, -ENOEXEC, "kernel %s is a zImage, not a bzImage", k->name);
	setup_len = ((h->setup_sects ? h->setup_sects : 4) + 1ull) * SECTOR;
	if (setup_len >= k->len)
		return load_fail(
			err, -ENOEXEC,
			"kernel %s is truncated: its header announces %llu bytes of setup, "
			"the file has %zu",
			k->name, (unsigned long long)setup_len, k->len);
	body_len = k->len - setup_len;
	/* syssize counts 16-byte units of the protected-mode part. */
	if ((u64)h->syssize * 16 > round_up(body_len, 16))
		return load_fail(err, -ENOEXEC,
				 "kernel %s is truncated: its header announces %llu bytes, "
				 "the file has %zu",
				 k->name, (unsigned long long)(setup_len + (u64)h->syssize * 16),
				 k->len);

	entry64 = h->version >= VERSION_XLOADFLAGS && (h->xloadflags & XLF_KERNEL_64);
	if (entry64 && body_len <= ENTRY64_OFFSET)
		return load_fail(err, -ENOEXEC, "kernel %s is truncated: no 64-bit entry point",
				 k->name);

	/* The kernel decompresses to its preferred address and needs init_size bytes there. */
	floor = LAYOUT_KERNEL + round_up(body_len, PAGE_SIZE);
	if (h->version >= VERSION_PREF_ADDRESS) {
		u64 base = max(h->pref_address, (u64)LAYOUT_KERNEL);

		if (base >= LAYOUT_HIGH_RAM)
			return load_fail(err, -ENOEXEC,
					 "kernel %s wants to be at %#llx, above 4 GiB", k->name,
					 (unsigned long long)base);
		floor = max(floor, base + h->init_size);
	}
	if (floor > mem_low_end(mem))
		return load_fail(err, -ENOMEM,
				 "too little memory: kernel %s needs at least %llu MiB, "
				 "the machine has %llu MiB",
				 k->name, (unsigned long long)(round_up(floor, 1 << 20) >> 20),
				 (unsigned long long)(mem->size >> 20));
	ret = mem_write(mem, LAYOUT_KERNEL, k->data + setup_len, body_len);
	if (ret)
		return load_fail(err, -ENOMEM, "too little memory for kernel %s", k->name);
	ret = load_cmdline(mem, p, h->cmdline_size, err);
	if (ret)
		return ret;
	ret = load_initrd(mem, p, floor, h->initrd_addr_max + 1ull, &initrd, err);
	if (ret)
		return ret;

	h->code32_start = LAYOUT_KERNEL;
	load_fill_boot_params(mem, p, &bp, initrd);
	if (mem_write(mem, LAYOUT_ZERO_PAGE, &bp, sizeof(bp)) || load_early_tables(mem))
		return load_fail(err, -ENOMEM, "too little memory for boot information");
	entry->mode = entry64 ? LOAD_LINUX64 : LOAD_LINUX32;
	entry->ip = LAYOUT_KERNEL + (entry64 ? ENTRY64_OFFSET : 0);
	entry->arg = LAYOUT_ZERO_PAGE;
	return 0;
}
