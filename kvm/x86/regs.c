// SPDX-License-Identifier: MIT
/*
 * Guest registers as the hypervisor reaches them, and KVM_GET/SET_REGS, SREGS,
 * SREGS2 over them.
 */
#include <errno.h>
#include <string.h>

#include "kvm/hv.h"
#include "kvm/x86/x86.h"

u64 hv_get_gpr(struct hv_vcpu *v, unsigned n)
{
	return n == X86_RSP ? vmcs_get(v, VMCS_GUEST_RSP) : x86_gprs(v->cpu)[n];
}

void hv_set_gpr(struct hv_vcpu *v, unsigned n, u64 val)
{
	if (n == X86_RSP)
		vmcs_set(v, VMCS_GUEST_RSP, val);
	else
		x86_gprs(v->cpu)[n] = val;
}

u64 hv_get_rflags(struct hv_vcpu *v)
{
	u64 f = vmcs_get(v, VMCS_GUEST_RFLAGS);

	return v->x86->guest_debug & KVM_GUESTDBG_SINGLESTEP ? f & ~RFLAGS_TF : f;
}

void hv_set_rflags(struct hv_vcpu *v, u64 val)
{
	struct hv_vcpu_x86 *x = v->x86;

	/* The user's single step goes on from where it was asked for. */
	if ((x->guest_debug & KVM_GUESTDBG_SINGLESTEP) && hv_linear_rip(v) == x->singlestep_rip)
		val |= RFLAGS_TF;
	vmcs_set(v, VMCS_GUEST_RFLAGS, val);
}

void hv_get_segment(struct hv_vcpu *v, enum x86_seg n, struct x86_segment *s)
{
	s->base = vmcs_get(v, VMCS_GUEST_ES_BASE + 2 * n);
	s->limit = (u32)vmcs_get(v, VMCS_GUEST_ES_LIMIT + 2 * n);
	s->ar = (u32)vmcs_get(v, VMCS_GUEST_ES_AR + 2 * n);
	s->sel = (u16)vmcs_get(v, VMCS_GUEST_ES_SEL + 2 * n);
}

void hv_set_segment(struct hv_vcpu *v, enum x86_seg n, const struct x86_segment *s)
{
	vmcs_set(v, VMCS_GUEST_ES_BASE + 2 * n, s->base);
	vmcs_set(v, VMCS_GUEST_ES_LIMIT + 2 * n, s->limit);
	vmcs_set(v, VMCS_GUEST_ES_AR + 2 * n, s->ar);
	vmcs_set(v, VMCS_GUEST_ES_SEL + 2 * n, s->sel);
}

bool hv_is_64bit(struct hv_vcpu *v)
{
	return (v->x86->entry_ctls & ENTRY_IA32E_GUEST) &&
	       (vmcs_get(v, VMCS_GUEST_CS_AR) & X86_AR_L);
}

unsigned hv_get_cpl(struct hv_vcpu *v)
{
	if (!hv_is_prot(v))
		return 0;
	if (vmcs_get(v, VMCS_GUEST_RFLAGS) & RFLAGS_VM)
		return 3;
	return X86_AR_DPL((u32)vmcs_get(v, VMCS_GUEST_SS_AR));
}

u64 hv_linear_rip(struct hv_vcpu *v)
{
	u64 rip = vmcs_get(v, VMCS_GUEST_RIP);

	if (hv_is_64bit(v))
		return rip;
	return (u32)(vmcs_get(v, VMCS_GUEST_CS_BASE) + rip);
}

int hv_skip_insn(struct hv_vcpu *v)
{
	u64 rip = vmcs_get(v, VMCS_GUEST_RIP), next, flags;
	u32 shadow = (u32)vmcs_get(v, VMCS_GUEST_INTERRUPTIBILITY);

	next = rip + vmcs_get(v, VMCS_EXIT_INSN_LEN);
	/* EIP wraps in legacy and compatibility mode. */
	if (unlikely((rip ^ next) >> 32) && !hv_is_64bit(v))
		next = (u32)next;
	vmcs_set(v, VMCS_GUEST_RIP, next);
	if (unlikely(shadow & (INTERRUPTIBILITY_STI | INTERRUPTIBILITY_MOVSS))) {
		vmcs_set(v, VMCS_GUEST_INTERRUPTIBILITY,
			 shadow & ~(INTERRUPTIBILITY_STI | INTERRUPTIBILITY_MOVSS));
		hv_set_request(v, HV_REQ_EVENT);
	}
	hv_pmu_insn(v);
	flags = vmcs_get(v, VMCS_GUEST_RFLAGS);
	if (unlikely(flags & RFLAGS_RF))
		vmcs_set(v, VMCS_GUEST_RFLAGS, flags & ~RFLAGS_RF);
	if (unlikely(flags & RFLAGS_TF))
		return hv_singlestep_done(v);
	return 1;
}

/* ---- KVM_GET_REGS, KVM_SET_REGS ---- */

#define GPR_FIELDS(X) \
	X(rax, X86_RAX) X(rbx, X86_RBX) X(rcx, X86_RCX) X(rdx, X86_RDX) X(rsi, X86_RSI) \
	X(rdi, X86_RDI) X(rsp, X86_RSP) X(rbp, X86_RBP) X(r8, X86_R8) X(r9, X86_R9) \
	X(r10, X86_R10) X(r11, X86_R11) X(r12, X86_R12) X(r13, X86_R13) X(r14, X86_R14) \
	X(r15, X86_R15)

void hv_get_regs(struct hv_vcpu *v, struct kvm_regs *r)
{
#define GET(field, n) r->field = hv_get_gpr(v, n);
	GPR_FIELDS(GET)
#undef GET
	r->rip = vmcs_get(v, VMCS_GUEST_RIP);
	r->rflags = hv_get_rflags(v);
}

int hv_set_regs(struct hv_vcpu *v, const struct kvm_regs *r)
{
#define SET(field, n) hv_set_gpr(v, n, r->field);
	GPR_FIELDS(SET)
#undef SET
	/* Where HLT does not exit the processor itself is halted, which a new place to go to ends. */
	if (r->rip != vmcs_get(v, VMCS_GUEST_RIP))
		vmcs_set(v, VMCS_GUEST_ACTIVITY, 0);
	vmcs_set(v, VMCS_GUEST_RIP, r->rip);
	hv_set_rflags(v, r->rflags | RFLAGS_1);
	/* What was about to be delivered belonged to the old registers. */
	v->x86->exception.pending = false;
	hv_set_request(v, HV_REQ_EVENT);
	return 0;
}

/* ---- KVM_GET_SREGS, KVM_SET_SREGS ---- */

static void get_kvm_segment(struct hv_vcpu *v, enum x86_seg n, struct kvm_segment *k)
{
	struct x86_segment s;

	hv_get_segment(v, n, &s);
	*k = (struct kvm_segment){
		.base = s.base, .limit = s.limit, .selector = s.sel,
		.type = s.ar & X86_AR_TYPE, .s = !!(s.ar & X86_AR_S), .dpl = X86_AR_DPL(s.ar),
		.avl = !!(s.ar & X86_AR_AVL), .l = !!(s.ar & X86_AR_L), .db = !!(s.ar & X86_AR_DB),
		.g = !!(s.ar & X86_AR_G), .unusable = !!(s.ar & X86_AR_UNUSABLE),
		/* Clients treat "present" as "usable". */
		.present = !(s.ar & X86_AR_UNUSABLE),
	};
}

static void set_kvm_segment(struct hv_vcpu *v, enum x86_seg n, const struct kvm_segment *k)
{
	struct x86_segment s = { .base = k->base, .limit = k->limit, .sel = k->selector };

	if (k->unusable || !k->present) {
		s.ar = X86_AR_UNUSABLE;
	} else {
		s.ar = (k->type & X86_AR_TYPE) | (k->s & 1u) << 4 | (k->dpl & 3u) << 5 | X86_AR_P |
		       (k->avl & 1u) << 12 | (k->l & 1u) << 13 | (k->db & 1u) << 14 |
		       (k->g & 1u) << 15;
		/* VM entry wants "accessed", which clients leave out; what a load would have set. */
		if (n != X86_LDTR)
			s.ar |= 1;
	}
	hv_set_segment(v, n, &s);
}

static void get_common(struct hv_vcpu *v, struct kvm_sregs2 *s)
{
	get_kvm_segment(v, X86_CS, &s->cs);
	get_kvm_segment(v, X86_DS, &s->ds);
	get_kvm_segment(v, X86_ES, &s->es);
	get_kvm_segment(v, X86_FS, &s->fs);
	get_kvm_segment(v, X86_GS, &s->gs);
	get_kvm_segment(v, X86_SS, &s->ss);
	get_kvm_segment(v, X86_TR, &s->tr);
	get_kvm_segment(v, X86_LDTR, &s->ldt);
	s->idt.base = vmcs_get(v, VMCS_GUEST_IDTR_BASE);
	s->idt.limit = (u16)vmcs_get(v, VMCS_GUEST_IDTR_LIMIT);
	s->gdt.base = vmcs_get(v, VMCS_GUEST_GDTR_BASE);
	s->gdt.limit = (u16)vmcs_get(v, VMCS_GUEST_GDTR_LIMIT);
	s->cr0 = hv_get_cr0(v);
	s->cr2 = x86_get_cr2(v->cpu);
	s->cr3 = vmcs_get(v, VMCS_GUEST_CR3);
	s->cr4 = hv_get_cr4(v);
	s->cr8 = hv_get_cr8(v);
	s->efer = vmcs_get(v, VMCS_GUEST_EFER);
	s->apic_base = v->lapic ? hv_lapic_get_base(v) : v->x86->apic_base;
}

static bool pae_paging(u64 cr0, u64 cr4, u64 efer)
{
	return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
}

static bool sregs_valid(struct hv_vcpu *v, const struct kvm_sregs2 *s)
{
	if ((s->efer & EFER_LME) && (s->cr0 & CR0_PG)) {
		/* IA-32e mode: LMA follows LME and PG, and paging is PAE. */
		if (!(s->cr4 & CR4_PAE) || !(s->efer & EFER_LMA))
			return false;
		if (s->cr3 & BITS(63, v->x86->f.physbits))
			return false;
	} else if ((s->efer & EFER_LMA) || (s->cs.l && (s->cr0 & CR0_PG))) {
		return false;
	}
	if (s->cr0 >> 32)
		return false;
	if (((s->cr0 & CR0_PG) && !(s->cr0 & CR0_PE)) || ((s->cr0 & CR0_NW) && !(s->cr0 & CR0_CD)))
		return false;
	return hv_cr4_valid(v, s->cr4) && hv_efer_valid(v, s->efer);
}

static int set_common(struct hv_vcpu *v, const struct kvm_sregs2 *s)
{
	struct hv_vcpu_x86 *x = v->x86;

	if (!sregs_valid(v, s))
		return -EINVAL;
	if (v->lapic) {
		if (hv_lapic_set_base(v, s->apic_base, true) < 0)
			return -EINVAL;
	} else {
		/* x2APIC needs the enable bit even where nobody plays the APIC. */
		if ((s->apic_base & BIT(10)) && !(s->apic_base & BIT(11)))
			return -EINVAL;
		x->apic_base = s->apic_base;
	}
	vmcs_set(v, VMCS_GUEST_IDTR_BASE, s->idt.base);
	vmcs_set(v, VMCS_GUEST_IDTR_LIMIT, s->idt.limit);
	vmcs_set(v, VMCS_GUEST_GDTR_BASE, s->gdt.base);
	vmcs_set(v, VMCS_GUEST_GDTR_LIMIT, s->gdt.limit);
	x86_set_cr2(v->cpu, s->cr2);
	vmcs_set(v, VMCS_GUEST_CR3, s->cr3);
	/* An impossible CR8 leaves the old one. */
	(void)hv_guest_set_cr8(v, s->cr8);
	hv_load_cr0(v, s->cr0);
	hv_load_cr4(v, s->cr4);
	set_kvm_segment(v, X86_CS, &s->cs);
	set_kvm_segment(v, X86_DS, &s->ds);
	set_kvm_segment(v, X86_ES, &s->es);
	set_kvm_segment(v, X86_FS, &s->fs);
	set_kvm_segment(v, X86_GS, &s->gs);
	set_kvm_segment(v, X86_SS, &s->ss);
	set_kvm_segment(v, X86_TR, &s->tr);
	set_kvm_segment(v, X86_LDTR, &s->ldt);
	/* After TR: it may have to become a 64-bit one. */
	hv_load_efer(v, s->efer);
	hv_vmx_flush_guest_tlb(v);
	hv_cpuid_update_runtime(v);
	/* Older clients start the first processor by loading its reset vector alone. */
	if (v->id == v->vm->bsp_vcpu_id && vmcs_get(v, VMCS_GUEST_RIP) == 0xfff0 &&
	    s->cs.selector == 0xf000 && s->cs.base == 0xffff0000 && !(s->cr0 & CR0_PE))
		atomic_store(&v->mp_state, KVM_MP_STATE_RUNNABLE);
	hv_set_request(v, HV_REQ_EVENT);
	return 0;
}

_Static_assert(offsetof(struct kvm_sregs, apic_base) == offsetof(struct kvm_sregs2, apic_base),
	       "SREGS and SREGS2 agree up to APIC_BASE");
#define SREGS_COMMON (offsetof(struct kvm_sregs, apic_base) + sizeof(u64))

void hv_get_sregs(struct hv_vcpu *v, struct kvm_sregs *s)
{
	struct kvm_sregs2 s2 = { 0 };
	struct hv_vcpu_x86 *x = v->x86;

	get_common(v, &s2);
	memset(s, 0, sizeof(*s));
	memcpy(s, &s2, SREGS_COMMON);
	if (x->interrupt.injected && !x->interrupt.soft)
		s->interrupt_bitmap[x->interrupt.vector / 64] |= BIT(x->interrupt.vector % 64);
}

int hv_set_sregs(struct hv_vcpu *v, const struct kvm_sregs *s)
{
	struct hv_vcpu_x86 *x = v->x86;
	struct kvm_sregs2 s2 = { 0 };
	int r;

	memcpy(&s2, s, SREGS_COMMON);
	r = set_common(v, &s2);
	if (r < 0)
		return r;
	if (pae_paging(s->cr0, s->cr4, s->efer))
		hv_load_pdptrs(v, s->cr3);
	for (unsigned i = 0; i < ARRAY_SIZE(s->interrupt_bitmap); i++) {
		if (!s->interrupt_bitmap[i])
			continue;
		x->interrupt.injected = true;
		x->interrupt.soft = false;
		x->interrupt.vector = (u8)(i * 64 + (unsigned)__builtin_ctzll(s->interrupt_bitmap[i]));
		break;
	}
	return 0;
}

void hv_get_sregs2(struct hv_vcpu *v, struct kvm_sregs2 *s)
{
	memset(s, 0, sizeof(*s));
	get_common(v, s);
	if (!pae_paging(s->cr0, s->cr4, s->efer))
		return;
	for (unsigned i = 0; i < 4; i++)
		s->pdptrs[i] = vmcs_get(v, VMCS_GUEST_PDPTE0 + 2 * i);
	s->flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
}

int hv_set_sregs2(struct hv_vcpu *v, const struct kvm_sregs2 *s)
{
	bool valid = s->flags & KVM_SREGS2_FLAGS_PDPTRS_VALID;
	bool pae = pae_paging(s->cr0, s->cr4, s->efer);
	int r;

	if (s->flags & ~(u64)KVM_SREGS2_FLAGS_PDPTRS_VALID)
		return -EINVAL;
	if (valid && !pae)
		return -EINVAL;
	r = set_common(v, s);
	if (r < 0)
		return r;
	if (valid) {
		for (unsigned i = 0; i < 4; i++)
			vmcs_set(v, VMCS_GUEST_PDPTE0 + 2 * i, s->pdptrs[i]);
	} else if (pae) {
		hv_load_pdptrs(v, s->cr3);
	}
	return 0;
}
