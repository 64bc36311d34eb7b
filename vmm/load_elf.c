// SPDX-License-Identifier: MIT
/*
 * ELF kernels: by PVH if the file has its note, else by the Linux protocol of
 * its class (vmlinux, test programs). Segments go to their physical addresses.
 * Source: Xen "x86/HVM direct boot ABI".
 */
#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "vmm/layout.h"
#include "vmm/load.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define PVH_MAGIC 0x336ec578u
#define PVH_VERSION 1

struct pvh_start_info {
	u32 magic, version, flags, nr_modules;
	u64 modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
	u32 memmap_entries, reserved;
};
_Static_assert(sizeof(struct pvh_start_info) == 56, "hvm_start_info");

struct pvh_module {
	u64 paddr, size, cmdline_paddr, reserved;
};

struct pvh_memmap {
	u64 addr, size;
	u32 type, reserved;
};

/* Both classes' program headers, widened. */
struct elf_view {
	const struct vmm_blob *file;
	bool is64;
	u64 entry, phoff;
	unsigned phnum;
};

static bool elf_open(struct elf_view *v, const struct vmm_blob *k)
{
	v->file = k;
	v->is64 = k->len > EI_CLASS && k->data[EI_CLASS] == ELFCLASS64;
	if (v->is64) {
		Elf64_Ehdr eh;

		if (k->len < sizeof(eh))
			return false;
		memcpy(&eh, k->data, sizeof(eh));
		v->entry = eh.e_entry;
		v->phoff = eh.e_phoff;
		v->phnum = eh.e_phnum;
		return eh.e_ident[EI_DATA] == ELFDATA2LSB && eh.e_type == ET_EXEC &&
		       eh.e_machine == EM_X86_64 && eh.e_phentsize == sizeof(Elf64_Phdr);
	} else {
		Elf32_Ehdr eh;

		if (k->len < sizeof(eh))
			return false;
		memcpy(&eh, k->data, sizeof(eh));
		v->entry = eh.e_entry;
		v->phoff = eh.e_phoff;
		v->phnum = eh.e_phnum;
		return eh.e_ident[EI_CLASS] == ELFCLASS32 && eh.e_ident[EI_DATA] == ELFDATA2LSB &&
		       eh.e_type == ET_EXEC && eh.e_machine == EM_386 &&
		       eh.e_phentsize == sizeof(Elf32_Phdr);
	}
}

/* Program header @i; false if it or its contents are not inside the file. */
static bool elf_phdr(const struct elf_view *v, unsigned i, Elf64_Phdr *ph)
{
	u64 size = v->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
	u64 len = v->file->len;

	if (v->phoff > len || (u64)i * size > len - v->phoff || len - v->phoff - i * size < size)
		return false;
	if (v->is64) {
		memcpy(ph, v->file->data + v->phoff + i * size, size);
	} else {
		Elf32_Phdr p32;

		memcpy(&p32, v->file->data + v->phoff + i * size, size);
		*ph = (Elf64_Phdr){.p_type = p32.p_type,
				   .p_offset = p32.p_offset,
				   .p_vaddr = p32.p_vaddr,
				   .p_paddr = p32.p_paddr,
				   .p_filesz = p32.p_filesz,
				   .p_memsz = p32.p_memsz,
				   .p_align = p32.p_align};
	}
	return ph->p_offset <= len && ph->p_filesz <= len - ph->p_offset;
}

/* Look for the PVH entry in a PT_NOTE segment. */
static bool note_pvh_entry(const u8 *data, u64 len, u64 align, u32 *entry)
{
	u64 at = 0;

	align = align == 8 ? 8 : 4;
	while (len - at >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr nh;
		u64 name, desc;

		memcpy(&nh, data + at, sizeof(nh));
		name = at + sizeof(nh);
		desc = name + round_up(nh.n_namesz, align);
		if (desc > len || nh.n_descsz > len - desc)
			return false;
		if (nh.n_type == XEN_ELFNOTE_PHYS32_ENTRY && nh.n_namesz == 4 &&
		    !memcmp(data + name, "Xen", 4) && (nh.n_descsz == 4 || nh.n_descsz == 8)) {
			memcpy(entry, data + desc, sizeof(*entry));
			return true;
		}
		at = desc + round_up(nh.n_descsz, align);
		if (at > len)
			return false;
	}
	return false;
}

static int pvh_finish(struct vmm_mem *mem, const struct load_params *p, u64 initrd,
		      char err[LOAD_ERR_LEN])
{
	struct load_map_entry map[LOAD_MAP_MAX];
	unsigned n = load_memory_map(mem, map);
	struct {
		struct pvh_start_info info;
		struct pvh_module module;
		struct pvh_memmap memmap[LOAD_MAP_MAX];
	} b;
	const u64 at = LAYOUT_START_INFO;

	memset(&b, 0, sizeof(b));
	b.info = (struct pvh_start_info){
		.magic = PVH_MAGIC,
		.version = PVH_VERSION,
		.nr_modules = p->initrd->len ? 1 : 0,
		.modlist_paddr = p->initrd->len ? at + offsetof(__typeof__(b), module) : 0,
		.cmdline_paddr = LAYOUT_CMDLINE,
		.rsdp_paddr = p->rsdp,
		.memmap_paddr = at + offsetof(__typeof__(b), memmap),
		.memmap_entries = n,
	};
	b.module.paddr = initrd;
	b.module.size = p->initrd->len;
	for (unsigned i = 0; i < n; i++)
		b.memmap[i] = (struct pvh_memmap){
			.addr = map[i].addr, .size = map[i].size, .type = map[i].type };
	if (mem_write(mem, at, &b, sizeof(b)))
		return load_fail(err, -ENOMEM, "too little memory for boot information");
	return 0;
}

int load_elf(struct vmm_mem *mem, const struct load_params *p, struct load_entry *entry,
	     char err[LOAD_ERR_LEN])
{
	const struct vmm_blob *k = p->kernel;
	struct elf_view v = { 0 };
	Elf64_Phdr ph;
	u64 end = 0, initrd;
	u32 pvh_entry = 0;
	bool pvh = false;
	int ret;

	if (!elf_open(&v, k))
		return load_fail(err, -ENOEXEC,
				 "kernel %s is no ELF executable for x86 (truncated, relocatable "
				 "or of another machine)",
				 k->name);
	for (unsigned i = 0; i < v.phnum; i++) {
		u8 *to;

		if (!elf_phdr(&v, i, &ph))
			return load_fail(err, -ENOEXEC,
					 "kernel %s is truncated: program header %u or its "
					 "contents are beyond the end of the file",
					 k->name, i);
		if (ph.p_type == PT_NOTE && !pvh)
			pvh = note_pvh_entry(k->data + ph.p_offset, ph.p_filesz, ph.p_align,
					     &pvh_entry);
		if (ph.p_type != PT_LOAD || !ph.p_memsz)
			continue;
		if (ph.p_filesz > ph.p_memsz)
			return load_fail(
				err, -ENOEXEC,
				"kernel %s: segment %u is larger in the file than in memory",
				k->name, i);
		to = ph.p_paddr >= LAYOUT_KERNEL ? mem_ptr(mem, ph.p_paddr, ph.p_memsz) : NULL;
		if (!to)
			return load_fail(
				err, -ENOMEM,
				"kernel %s: segment %u at %#llx, %#llx bytes, does not fit "
				"into RAM between 1 MiB and %llu MiB",
				k->name, i, (unsigned long long)ph.p_paddr,
				(unsigned long long)ph.p_memsz,
				(unsigned long long)(mem->size >> 20));
		memcpy(to, k->data + ph.p_offset, ph.p_filesz);
		memset(to + ph.p_filesz, 0, ph.p_memsz - ph.p_filesz);
		end = max(end, ph.p_paddr + ph.p_memsz);
	}
	if (!end)
		return load_fail(err, -ENOEXEC, "kernel %s has nothing to load", k->name);

	ret = load_cmdline(mem, p, LAYOUT_CMDLINE_MAX, err);
	if (ret)
		return ret;
	/* Below 2 GiB, as the oldest kernels want it. */
	ret = load_initrd(mem, p, round_up(min(end, mem_low_end(mem)), PAGE_SIZE), 1ull << 31,
			  &initrd, err);
	if (ret)
		return ret;
	if (load_early_tables(mem))
		return load_fail(err, -ENOMEM, "too little memory for boot information");
	if (pvh) {
		*entry = (struct load_entry){
			.mode = LOAD_PVH, .ip = pvh_entry, .arg = LAYOUT_START_INFO};
		return pvh_finish(mem, p, initrd, err);
	} else {
		struct boot_params bp;

		memset(&bp, 0, sizeof(bp));
		bp.hdr.boot_flag = 0xaa55;
		memcpy(&bp.hdr.header, "HdrS", 4);
		bp.hdr.kernel_alignment = 0x1000000;
		load_fill_boot_params(mem, p, &bp, initrd);
		if (mem_write(mem, LAYOUT_ZERO_PAGE, &bp, sizeof(bp)))
			return load_fail(err, -ENOMEM, "too little memory for boot information");
		*entry = (struct load_entry){ .mode = v.is64 ? LOAD_LINUX64 : LOAD_LINUX32,
			.ip = v.entry, .arg = LAYOUT_ZERO_PAGE };
	}
	return 0;
}
