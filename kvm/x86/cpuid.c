// SPDX-License-Identifier: MIT
/*
 * The CPUID that a guest sees: what KVM_SET_CPUID2 stored, with the bits that
 * follow the state of the vCPU.
 */
#include <errno.h>
#include <linux/kvm_para.h>
#include <stdlib.h>
#include <string.h>

#include "base/trace.h"
#include "kvm/hv.h"
#include "kvm/x86/cpuid.h"
#include "kvm/x86/hyperv/hyperv.h"
#include "kvm/x86/x86.h"

#define MAX_ENTRIES 256u
#define MISC_ENABLE_MWAIT BIT(18)
#define XSAVE_LEGACY_AND_HEADER 576u

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid_entry2 *e, u32 n, u32 leaf, u32 index)
{
	for (u32 i = 0; i < n; i++) {
		if (e[i].function == leaf &&
		    (!(e[i].flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e[i].index == index))
			return &e[i];
	}
	return NULL;
}

const struct kvm_cpuid_entry2 *hv_cpuid_entry(struct hv_vcpu *v, u32 leaf, u32 index)
{
	return find(v->x86->cpuid, v->x86->cpuid_nent, leaf, index);
}

bool hv_guest_has(struct hv_vcpu *v, u32 leaf, u32 index, unsigned reg, unsigned bit)
{
	const struct kvm_cpuid_entry2 *e = hv_cpuid_entry(v, leaf, index);
	u32 r[4];

	if (!e)
		return false;
	r[0] = e->eax;
	r[1] = e->ebx;
	r[2] = e->ecx;
	r[3] = e->edx;
	return r[reg] >> bit & 1;
}

/* ---- Bits that follow the vCPU's state ---- */

static void set_bit(u32 *reg, unsigned bit, bool on)
{
	*reg = on ? *reg | 1u << bit : *reg & ~(1u << bit);
}

/* Size of an XSAVE area with the components of @mask. */
static u32 xsave_size(const struct x86_model *model, u64 mask, bool compacted)
{
	u32 end = XSAVE_LEGACY_AND_HEADER, d[4];

	for (u32 i = 2; i < 63; i++) {
		if (!(mask & BIT(i)))
			continue;
		hv_model_cpuid(model, 0xd, i, d);
		if (compacted && (d[2] & 2))
			end = (u32)round_up(end, 64);
		end = (compacted ? end : d[1]) + d[0];
	}
	return end;
}

/* KVM's leaves move up in steps of 100h where another interface, Hyper-V's, comes first. */
static struct kvm_cpuid_entry2 *pv_entry(struct kvm_cpuid_entry2 *list, u32 n)
{
	for (u32 base = 0x40000000; base < 0x40010000; base += 0x100) {
		const struct kvm_cpuid_entry2 *e = find(list, n, base, 0);

		if (e && !memcmp(&e->ebx, "KVMK", 4) && !memcmp(&e->ecx, "VMKV", 4) && e->edx == 'M')
			return find(list, n, base + 1, 0);
	}
	return NULL;
}

static void update_runtime(struct hv_vcpu *v, struct kvm_cpuid_entry2 *list, u32 n)
{
	u64 cr4 = hv_get_cr4(v), base = v->lapic ? hv_lapic_get_base(v) : v->x86->apic_base;
	struct kvm_cpuid_entry2 *e = find(list, n, 1, 0);

	if (e) {
		if (e->ecx & BIT(26))
			set_bit(&e->ecx, 27, cr4 & CR4_OSXSAVE);
		set_bit(&e->edx, 9, base & BIT(11));
		/* With the quirk, which is the default, the bit stays as the client set it. */
		if (v->vm->disabled_quirks & KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT)
			set_bit(&e->ecx, 3, v->x86->misc_enable & MISC_ENABLE_MWAIT);
	}
	e = find(list, n, 7, 0);
	if (e && (e->ecx & BIT(3)))
		set_bit(&e->ecx, 4, cr4 & CR4_PKE);
	e = find(list, n, 0xd, 0);
	if (e)
		e->ebx = xsave_size(v->vm->model, x86_get_xcr0(v->cpu), false);
	e = find(list, n, 0xd, 1);
	if (e && (e->eax & (BIT(3) | BIT(1))))
		e->ebx = xsave_size(v->vm->model, x86_get_xcr0(v->cpu), true);
	e = pv_entry(list, n);
	if (!e)
		return;
	/*
	 * Calls that need our local APIC. Linux' KVM leaves them to the client; QEMU offers IPIs
	 * with an APIC of its own too, and Linux as guest has no way back when one fails.
	 */
	if (!v->lapic)
		e->eax &= ~(u32)(BIT(KVM_FEATURE_PV_SEND_IPI) | BIT(KVM_FEATURE_PV_UNHALT));
	if (v->vm->disabled_exits & KVM_X86_DISABLE_EXITS_HLT)
		e->eax &= ~(u32)BIT(KVM_FEATURE_PV_UNHALT);	/* a halt that only the processor knows of */
}

void hv_cpuid_update_runtime(struct hv_vcpu *v)
{
	update_runtime(v, v->x86->cpuid, v->x86->cpuid_nent);
}

/* ---- KVM_SET_CPUID2, KVM_GET_CPUID2 ---- */

static void derive_features(struct hv_guest_features *f, struct kvm_cpuid_entry2 *list, u32 n,
			    const struct x86_model *model)
{
	const struct kvm_cpuid_entry2 *e;

	memset(f, 0, sizeof(*f));
	f->physbits = 36;
	f->xcr0 = 1;
	e = find(list, n, 0, 0);
	f->intel = e && e->ebx == 0x756e6547;
	e = find(list, n, 1, 0);
	if (e) {
		f->c1_ecx = e->ecx;
		f->c1_edx = e->edx;
	}
	e = find(list, n, 7, 0);
	if (e) {
		f->c7_ebx = e->ebx;
		f->c7_ecx = e->ecx;
		f->c7_edx = e->edx;
	}
	e = find(list, n, 0xd, 0);
	if (e)
		f->xcr0 = (e->eax | (u64)e->edx << 32) & hv_supported_xcr0(model);
	e = find(list, n, 0xd, 1);
	if (e)
		f->cd1_eax = e->eax;
	e = find(list, n, 0x80000001, 0);
	if (e) {
		f->x1_ecx = e->ecx;
		f->x1_edx = e->edx;
	}
	e = find(list, n, 0x80000008, 0);
	if (e) {
		f->x8_ebx = e->ebx;
		/* No page table can express more than 52 bits, whatever the client says. */
		if ((u8)e->eax)
			f->physbits = min((u8)e->eax, (u8)52);
	}
	e = pv_entry(list, n);
	f->pv = e ? e->eax : 0;
}

void hv_cpuid_tell_lapic(struct hv_vcpu *v)
{
	const struct hv_guest_features *f = &v->x86->f;
	const struct hv_lapic_cpuid lapic = {
		.x2apic = f->c1_ecx & BIT(21), .tsc_deadline = f->c1_ecx & BIT(24),
		.cmci = v->x86->mcg_cap & HV_MCG_CMCI_P, .physbits = f->physbits,
	};

	if (v->lapic)
		hv_lapic_set_cpuid(v, &lapic);
}

static void apply(struct hv_vcpu *v)
{
	hv_cpuid_tell_lapic(v);
	hyperv_cpuid_changed(v);
	hv_update_cr4_mask(v);
	hv_vmx_cpuid_changed(v);
	hv_pmu_cpuid_changed(v);
	hv_msr_cpuid_changed(v);
	if (v->x86->enforce_pv_cpuid)
		hv_pv_set_features(v, v->x86->f.pv);
	hv_cpuid_update_runtime(v);
}

void hv_cpuid_init(struct hv_vcpu *v)
{
	struct kvm_cpuid_entry2 list[MAX_ENTRIES];
	u32 n = MAX_ENTRIES;

	/*
	 * Until the client sets a CPUID the guest sees none, but what the client may
	 * set in CR4 and EFER is everything that is supported.
	 */
	if (hv_supported_cpuid(v->vm->model, list, &n) == 0)
		derive_features(&v->x86->f, list, n, v->vm->model);
}

void hv_cpuid_free(struct hv_vcpu *v)
{
	free(v->x86->cpuid);
}

static bool valid(struct kvm_cpuid_entry2 *list, u32 n)
{
	const struct kvm_cpuid_entry2 *e = find(list, n, 0x80000008, 0);
	u32 linear = e ? e->eax >> 8 & 0xff : 0;

	return linear == 0 || linear == 48 || linear == 57;
}

static bool same(const struct kvm_cpuid_entry2 *a, const struct kvm_cpuid_entry2 *b, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		if (a[i].function != b[i].function || a[i].index != b[i].index ||
		    a[i].flags != b[i].flags || a[i].eax != b[i].eax || a[i].ebx != b[i].ebx ||
		    a[i].ecx != b[i].ecx || a[i].edx != b[i].edx)
			return false;
	}
	return true;
}

int hv_set_cpuid2(struct hv_vcpu *v, const struct kvm_cpuid_entry2 *entries, u32 nent)
{
	struct hv_vcpu_x86 *x = v->x86;
	struct kvm_cpuid_entry2 *list;
	int r = 0;

	if (nent > MAX_ENTRIES)
		return -E2BIG;
	list = calloc(max(nent, 1u), sizeof(*list));
	if (!list)
		return -ENOMEM;
	memcpy(list, entries, nent * sizeof(*list));
	if (x->ran) {
		/* Frozen: a client may say the same again. */
		update_runtime(v, list, nent);
		r = nent == x->cpuid_nent && same(list, x->cpuid, nent) ? 0 : -EINVAL;
		free(list);
		return r;
	}
	if (!valid(list, nent)) {
		free(list);
		return -EINVAL;
	}
	free(x->cpuid);
	x->cpuid = list;
	x->cpuid_nent = nent;
	derive_features(&x->f, list, nent, v->vm->model);
	apply(v);
	return 0;
}

int hv_get_cpuid2(struct hv_vcpu *v, struct kvm_cpuid_entry2 *entries, u32 *nent)
{
	struct hv_vcpu_x86 *x = v->x86;

	if (*nent < x->cpuid_nent) {
		*nent = x->cpuid_nent;
		return -E2BIG;
	}
	if (x->cpuid_nent)
		memcpy(entries, x->cpuid, x->cpuid_nent * sizeof(*entries));
	*nent = x->cpuid_nent;
	return 0;
}

/* ---- The instruction ---- */

/*
 * Intel answers leaves beyond the limit of their range with the highest basic
 * leaf, AMD with zeros. Hypervisor leaves are ranges of their own.
 */
static const struct kvm_cpuid_entry2 *out_of_range(struct hv_vcpu *v, u32 leaf, u32 index)
{
	const struct kvm_cpuid_entry2 *basic = hv_cpuid_entry(v, 0, 0), *limit;

	if (!basic || !v->x86->f.intel)
		return NULL;
	if (leaf >= 0x40000000 && leaf <= 0x4fffffff)
		limit = hv_cpuid_entry(v, leaf & 0xffffff00, 0);
	else
		limit = hv_cpuid_entry(v, leaf & 0x80000000, 0);
	if (limit && leaf <= limit->eax)
		return NULL;
	return hv_cpuid_entry(v, basic->eax, index);
}

void hv_cpuid(struct hv_vcpu *v, u32 leaf, u32 index, u32 out[4])
{
	const struct kvm_cpuid_entry2 *exact = hv_cpuid_entry(v, leaf, index), *e = exact, *level;

	if (!e)
		e = out_of_range(v, leaf, index);
	memset(out, 0, 4 * sizeof(*out));
	if (e) {
		out[0] = e->eax;
		out[1] = e->ebx;
		out[2] = e->ecx;
		out[3] = e->edx;
	} else if ((leaf == 0xb || leaf == 0x1f) && (level = hv_cpuid_entry(v, leaf, 1))) {
		/* Topology beyond the last level: the level asked for, and the x2APIC id. */
		out[2] = index & 0xff;
		out[3] = level->edx;
	}
	trace(kvm_cpuid, "func %x idx %x rax %x rbx %x rcx %x rdx %x, cpuid entry %s%s", leaf, index, out[0], out[1],
	      out[2], out[3], exact ? "found" : "not found", e && !exact ? ", used max basic" : "");
}

int hv_exit_cpuid(struct hv_vcpu *v)
{
	u64 *gpr = x86_gprs(v->cpu);
	u32 leaf = (u32)gpr[X86_RAX], index = (u32)gpr[X86_RCX], d[4];

	/* MISC_FEATURES_ENABLES bit 0: CPUID faulting. */
	if (unlikely(v->x86->misc_features & 1) && hv_get_cpl(v) > 0)
		return hv_complete_insn_gp(v, 1);
	hv_cpuid(v, leaf, index, d);
	gpr[X86_RAX] = d[0];
	gpr[X86_RBX] = d[1];
	gpr[X86_RCX] = d[2];
	gpr[X86_RDX] = d[3];
	return hv_skip_insn(v);
}
