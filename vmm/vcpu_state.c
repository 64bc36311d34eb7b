// SPDX-License-Identifier: MIT
/*
 * State of a vCPU before its first instruction: CPUID with its own APIC id and
 * topology, local APIC pins as firmware leaves them, and for the boot
 * processor the registers of the boot protocol. Other processors wait for
 * INIT and SIPI, as KVM creates them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "abi/kvm.h"
#include "base/bits.h"
#include "vmm/layout.h"
#include "vmm/machine.h"

#define CR0_PE BIT(0)
#define CR0_ET BIT(4)
#define CR0_PG BIT(31)
#define CR4_PAE BIT(5)
#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)

#define MSR_IA32_MISC_ENABLE 0x1a0
#define MISC_ENABLE_FAST_STRING BIT(0)
#define MSR_IA32_MTRR_DEF_TYPE 0x2ff
#define MTRR_DEF_ENABLE_WB (BIT(11) | 6)

static int fail(struct vmm *vmm, unsigned idx, long ret, const char *what)
{
	machine_end(vmm, VMM_END_ERROR, 0, "vCPU %u: %s: %s", idx, what,
		    ret < 0 ? strerror((int)-ret) : "incomplete");
	return ret < 0 ? (int)ret : -EIO;
}

/* Bits of the APIC id that number CPUs in the one package. */
static u32 id_width(unsigned cpus)
{
	u32 w = 0;

	while ((1u << w) < cpus)
		w++;
	return w;
}

static void patch_cpuid_entry(const struct vmm *vmm, struct kvm_cpuid_entry2 *e, u32 id)
{
	u32 width = id_width(vmm->cfg->cpus), cpus = vmm->cfg->cpus;

	switch (e->function) {
	case 1:
		e->ebx = (e->ebx & 0x0000ffff) | (id << 24) | (min(1u << width, 255u) << 16);
		e->edx = (e->edx & ~(u32)BIT(28)) | (cpus > 1 ? (u32)BIT(28) : 0);	/* HTT */
		e->ecx |= (u32)BIT(31);		/* hypervisor */
		if (vmm->cap_tsc_deadline)
			e->ecx |= (u32)BIT(24);
		break;
	case 4:
		/* Cache leaves: cores in the package, and who shares levels 1, 2 and 3. */
		if (e->eax & 0x1f) {
			u32 level = (e->eax >> 5) & 7;

			e->eax &= 0x3fff;
			e->eax |= min((1u << width) - 1, 63u) << 26;
			if (level >= 3)
				e->eax |= ((1u << width) - 1) << 14;
		}
		break;
	case 6:
		e->ecx &= ~(u32)BIT(3);		/* no energy bias MSR */
		break;
	case 0xb:
	case 0x1f:
		/* Level 0: one thread a core; level 1: all cores in the package. */
		e->edx = id;
		e->ecx = (e->index & 0xff);
		e->eax = e->ebx = 0;
		if (e->index == 0) {
			e->ebx = 1;
			e->ecx |= 1 << 8;
		} else if (e->index == 1) {
			e->eax = width;
			e->ebx = cpus;
			e->ecx |= 2 << 8;
		}
		break;
	case 0x80000008:
		/* AMD: APIC id size and core count; reserved elsewhere. */
		if (e->ecx)
			e->ecx = (e->ecx & ~0xffffu) | (width << 12) | (cpus - 1);
		break;
	}
}

/*
 * Topology leaves need both levels and the end; a KVM may list fewer sub-leaves.
 * @c has room for two more entries.
 */
static void complete_topology(struct kvm_cpuid2 *c, u32 function)
{
	u32 have = 0, model = 0;
	bool found = false;

	for (u32 i = 0; i < c->nent; i++) {
		if (c->entries[i].function != function)
			continue;
		found = true;
		model = i;
		if (c->entries[i].index < 32)
			have |= 1u << c->entries[i].index;
	}
	for (u32 index = 1; index <= 2 && found; index++) {
		if (have & (1u << index))
			continue;
		c->entries[c->nent] = c->entries[model];
		c->entries[c->nent].index = index;
		c->entries[c->nent].flags |= KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		c->nent++;
	}
}

static int set_cpuid(struct vmm *vmm, unsigned idx, int fd)
{
	u32 nent = vmm->cpuid->nent;
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + (nent + 4) * sizeof(c->entries[0]));
	long ret;

	if (!c)
		return fail(vmm, idx, -ENOMEM, "CPUID");
	memcpy(c, vmm->cpuid, sizeof(*c) + nent * sizeof(c->entries[0]));
	complete_topology(c, 0xb);
	complete_topology(c, 0x1f);
	for (u32 i = 0; i < c->nent; i++)
		patch_cpuid_entry(vmm, &c->entries[i], idx);
	ret = vmm->sys->ioctl(fd, KVM_SET_CPUID2, (unsigned long)c);
	free(c);
	return ret < 0 ? fail(vmm, idx, ret, "KVM_SET_CPUID2") : 0;
}

static int set_msrs(struct vmm *vmm, unsigned idx, int fd)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e[2];
	} m = {
		.head.nmsrs = 2,
		.e = {
			{ .index = MSR_IA32_MISC_ENABLE, .data = MISC_ENABLE_FAST_STRING },
			/* As firmware: memory is write-back unless PAT says otherwise. */
			{ .index = MSR_IA32_MTRR_DEF_TYPE, .data = MTRR_DEF_ENABLE_WB },
		},
	};
	long ret = vmm->sys->ioctl(fd, KVM_SET_MSRS, (unsigned long)&m);

	return ret != 2 ? fail(vmm, idx, ret, "KVM_SET_MSRS") : 0;
}

/* LINT0 takes the PIC (ExtINT) on the boot processor, LINT1 NMIs. SDM "Local Vector Table". */
static int set_lapic(struct vmm *vmm, unsigned idx, int fd)
{
	enum { LVT_LINT0 = 0x350, LVT_LINT1 = 0x360, MODE_NMI = 4 << 8, MODE_EXTINT = 7 << 8 };
	struct kvm_lapic_state s;
	u32 v;
	long ret = vmm->sys->ioctl(fd, KVM_GET_LAPIC, (unsigned long)&s);

	if (ret < 0)
		return fail(vmm, idx, ret, "KVM_GET_LAPIC");
	if (idx == 0) {
		v = MODE_EXTINT;
		memcpy(s.regs + LVT_LINT0, &v, sizeof(v));
	}
	v = MODE_NMI;
	memcpy(s.regs + LVT_LINT1, &v, sizeof(v));
	ret = vmm->sys->ioctl(fd, KVM_SET_LAPIC, (unsigned long)&s);
	return ret < 0 ? fail(vmm, idx, ret, "KVM_SET_LAPIC") : 0;
}

static int set_regs(struct vmm *vmm, unsigned idx, int fd)
{
	const struct load_entry *e = &vmm->entry;
	struct kvm_regs r = { .rip = e->ip, .rflags = BIT(1) };
	struct kvm_segment data = { .base = 0, .limit = 0xffffffff, .selector = 0x18, .type = 3,
		.present = 1, .db = 1, .s = 1, .g = 1 };
	struct kvm_segment code = data;
	struct kvm_sregs s;
	long ret = vmm->sys->ioctl(fd, KVM_GET_SREGS, (unsigned long)&s);

	if (ret < 0)
		return fail(vmm, idx, ret, "KVM_GET_SREGS");
	code.selector = 0x10;
	code.type = 0xb;
	s.cr0 = CR0_PE | CR0_ET;
	s.cr3 = s.cr4 = s.efer = 0;
	switch (e->mode) {
	case LOAD_LINUX64:
		code.db = 0;
		code.l = 1;
		s.cr0 |= CR0_PG;
		s.cr3 = LAYOUT_PAGE_TABLES;
		s.cr4 = CR4_PAE;
		s.efer = EFER_LME | EFER_LMA;
		r.rsi = e->arg;
		break;
	case LOAD_LINUX32:
		r.rsi = e->arg;
		break;
	case LOAD_PVH:
		r.rbx = e->arg;
		break;
	}
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.tr = (struct kvm_segment){ .limit = 0x67, .type = 0xb, .present = 1 };
	s.ldt = (struct kvm_segment){ .unusable = 1 };
	s.gdt = (struct kvm_dtable){ .base = LAYOUT_GDT, .limit = 4 * 8 - 1 };
	s.idt = (struct kvm_dtable){ .base = 0, .limit = 0 };
	memset(s.interrupt_bitmap, 0, sizeof(s.interrupt_bitmap));
	ret = vmm->sys->ioctl(fd, KVM_SET_SREGS, (unsigned long)&s);
	if (ret < 0)
		return fail(vmm, idx, ret, "KVM_SET_SREGS");
	ret = vmm->sys->ioctl(fd, KVM_SET_REGS, (unsigned long)&r);
	return ret < 0 ? fail(vmm, idx, ret, "KVM_SET_REGS") : 0;
}

int vcpu_setup(struct vmm *vmm, unsigned idx, int fd)
{
	int ret = set_cpuid(vmm, idx, fd);

	if (!ret)
		ret = set_msrs(vmm, idx, fd);
	if (!ret)
		ret = set_lapic(vmm, idx, fd);
	if (!ret && idx == 0)
		ret = set_regs(vmm, idx, fd);
	return ret;
}
