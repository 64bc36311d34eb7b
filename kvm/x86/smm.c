// SPDX-License-Identifier: MIT
/*
 * System-management mode: SMIs, entry and RSM. The processor has none of its own
 * under VT-x: the hypervisor saves the state into the guest's SMRAM, which is memory
 * of address space 1, and finds RSM as an invalid opcode.
 * SDM vol. 3C "System Management Mode"; layout of the save area: smm.def.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/trace.h"
#include "kvm/hv.h"
#include "kvm/x86/x86.h"

#define SMBASE_RESET 0x30000u
#define ENTRY_OFFSET 0x8000u
#define AREA_OFFSET 0xfe00u		/* from SMBASE; smm.def's offsets begin 8000h later */
#define AREA_FIRST 0x7e00u
#define AREA_BYTES 512u
#define REVISION_64 0x00020064u		/* with SMBASE relocation */
#define REVISION_32 0x00020000u
#define RFLAGS_DEFINED 0x003f7fd5ull

/* Wide enough for both layouts; attributes as VT-x has them. */
struct image {
	u64 gpr[16];
	u64 rip, rflags, cr0, cr3, cr4, efer, dr6, dr7;
	u64 gdt_base, idt_base;
	struct { u64 base; u32 limit, ar; u16 sel; } seg[X86_NR_SEGS];
	u32 gdt_limit, idt_limit, smbase, revision;
};

struct row {
	u16 offset, at;
	u8 bytes, size;		/* in the area, in the image */
};

#define FIELD(offset, bytes, field) \
	{ offset, offsetof(struct image, field), bytes, sizeof(((struct image *)NULL)->field) },
static const struct row rows64[] = {
#define SMM64(offset, bytes, field) FIELD(offset, bytes, field)
#define SMM64_SEG(offset, n) \
	FIELD(offset, 2, seg[n].sel) FIELD(offset + 2, 2, seg[n].ar) \
	FIELD(offset + 4, 4, seg[n].limit) FIELD(offset + 8, 8, seg[n].base)
#include "kvm/x86/smm.def"
};
static const struct row rows32[] = {
#define SMM32(offset, bytes, field) FIELD(offset, bytes, field)
#define SMM32_SEG(selector, attributes, limit_at, base_at, n) \
	FIELD(selector, 4, seg[n].sel) FIELD(attributes, 4, seg[n].ar) \
	FIELD(limit_at, 4, seg[n].limit) FIELD(base_at, 4, seg[n].base)
#include "kvm/x86/smm.def"
};

static void transfer(struct image *i, u8 *area, bool wide, bool load)
{
	const struct row *r = wide ? rows64 : rows32;
	const struct row *end = r + (wide ? ARRAY_SIZE(rows64) : ARRAY_SIZE(rows32));

	for (; r < end; r++) {
		u8 *in_area = area + r->offset - AREA_FIRST, *field = (u8 *)i + r->at;
		unsigned both = min(r->bytes, r->size);

		if (load) {
			memset(field, 0, r->size);
			memcpy(field, in_area, both);
		} else {
			memset(in_area, 0, r->bytes);
			memcpy(in_area, field, both);
		}
	}
}

/* VT-x has attributes in bits 7:0 and 15:12, AMD64 in 11:0, a descriptor in 15:8 and 23:20. */
static u32 pack_ar(u32 ar, bool wide)
{
	u32 packed = (ar & 0xff) | (ar >> 4 & 0xf00);

	if (ar & X86_AR_UNUSABLE)
		packed &= ~(u32)X86_AR_P;
	return wide ? packed : (packed & 0xff) << 8 | (packed & 0xf00) << 12;
}

static u32 unpack_ar(u32 packed, bool wide)
{
	u32 ar = wide ? (packed & 0xff) | (packed & 0xf00) << 4 :
			(packed >> 8 & 0xff) | (packed >> 8 & 0xf000);

	return ar & X86_AR_P ? ar : X86_AR_UNUSABLE;
}

/* Which layout: the guest's processor has long mode or not. */
static bool has_long_mode(struct hv_vcpu *v)
{
	return v->x86->f.x1_edx & BIT(29);
}

static struct kvm_segment *segment(struct kvm_sregs2 *s, enum x86_seg n)
{
	struct kvm_segment *const of[X86_NR_SEGS] = {
		[X86_ES] = &s->es, [X86_CS] = &s->cs, [X86_SS] = &s->ss, [X86_DS] = &s->ds,
		[X86_FS] = &s->fs, [X86_GS] = &s->gs, [X86_LDTR] = &s->ldt, [X86_TR] = &s->tr,
	};

	return of[n];
}

/* ---- Entry ---- */

static void save(struct hv_vcpu *v, struct image *i, bool wide)
{
	for (unsigned n = 0; n < 16; n++)
		i->gpr[n] = hv_get_gpr(v, n);
	i->rip = vmcs_get(v, VMCS_GUEST_RIP);
	i->rflags = hv_get_rflags(v);
	i->cr0 = hv_get_cr0(v);
	i->cr3 = vmcs_get(v, VMCS_GUEST_CR3);
	i->cr4 = hv_get_cr4(v);
	i->efer = vmcs_get(v, VMCS_GUEST_EFER);
	i->dr6 = hv_get_dr(v, 6);
	i->dr7 = hv_get_dr(v, 7);
	i->gdt_base = vmcs_get(v, VMCS_GUEST_GDTR_BASE);
	i->gdt_limit = (u32)vmcs_get(v, VMCS_GUEST_GDTR_LIMIT);
	i->idt_base = vmcs_get(v, VMCS_GUEST_IDTR_BASE);
	i->idt_limit = (u32)vmcs_get(v, VMCS_GUEST_IDTR_LIMIT);
	for (unsigned n = 0; n < X86_NR_SEGS; n++) {
		struct x86_segment s;

		hv_get_segment(v, n, &s);
		i->seg[n].base = s.base;
		i->seg[n].limit = s.limit;
		i->seg[n].sel = s.sel;
		i->seg[n].ar = pack_ar(s.ar, wide);
	}
	i->smbase = v->x86->smbase;
	i->revision = wide ? REVISION_64 : REVISION_32;
}

static void changed(struct hv_vcpu *v, bool smm)
{
	v->x86->smm = smm;
	/* Another address space, so other tables; and what was held back may go now. */
	hv_set_request(v, HV_REQ_MMU_RELOAD);
	hv_set_request(v, HV_REQ_EVENT);
}

static void set_nmi_blocking(struct hv_vcpu *v, bool on)
{
	u64 shadow = vmcs_get(v, VMCS_GUEST_INTERRUPTIBILITY);

	vmcs_set(v, VMCS_GUEST_INTERRUPTIBILITY,
		 on ? shadow | INTERRUPTIBILITY_NMI : shadow & ~(u64)INTERRUPTIBILITY_NMI);
}

void hv_enter_smm(struct hv_vcpu *v)
{
	const struct kvm_segment data = {
		.limit = 0xffffffff, .type = 3, .present = 1, .s = 1, .g = 1
	};
	struct hv_vcpu_x86 *x = v->x86;
	bool wide = has_long_mode(v);
	u8 area[AREA_BYTES] = { 0 };
	struct image i = { 0 };
	struct kvm_sregs2 s;
	u64 shadow;

	trace(kvm_enter_smm, "vcpu %u: entering SMM, smbase 0x%x", v->id, x->smbase);
	save(v, &i, wide);
	transfer(&i, area, wide, false);
	changed(v, true);
	/* SMRAM that is no memory loses what is written, as a bus does. */
	(void)hv_write_guest(v->vm, HV_AS_SMM, (u64)x->smbase + AREA_OFFSET, area, sizeof(area));

	x->smm_inside_nmi = vmcs_get(v, VMCS_GUEST_INTERRUPTIBILITY) & INTERRUPTIBILITY_NMI;
	shadow = vmcs_get(v, VMCS_GUEST_INTERRUPTIBILITY);
	vmcs_set(v, VMCS_GUEST_INTERRUPTIBILITY,
		 shadow & ~(u64)(INTERRUPTIBILITY_STI | INTERRUPTIBILITY_MOVSS));
	set_nmi_blocking(v, true);

	hv_get_sregs2(v, &s);
	s.flags = 0;
	s.cr0 &= ~(CR0_PE | CR0_EM | CR0_TS | CR0_PG);
	s.cr4 = 0;
	s.efer = 0;
	s.idt.base = 0;
	s.idt.limit = 0;
	s.ds = s.es = s.ss = s.fs = s.gs = s.cs = data;
	s.cs.base = x->smbase;
	s.cs.selector = (u16)(x->smbase >> 4);
	/* Every bit that could be refused is 0. */
	BUG_ON(hv_set_sregs2(v, &s) < 0);
	hv_set_dr(v, 7, DR7_FIXED_1);
	vmcs_set(v, VMCS_GUEST_ACTIVITY, 0);
	vmcs_set(v, VMCS_GUEST_RIP, ENTRY_OFFSET);
	hv_set_rflags(v, RFLAGS_1);
	x->smi_count++;
}

/* ---- RSM ---- */

static int load(struct hv_vcpu *v, const struct image *i, bool wide)
{
	struct kvm_sregs2 s;
	int r;

	hv_get_sregs2(v, &s);
	s.flags = 0;
	s.cr0 = i->cr0;
	s.cr3 = i->cr3;
	s.cr4 = i->cr4;
	s.efer = i->efer;
	s.gdt.base = i->gdt_base;
	s.gdt.limit = (u16)i->gdt_limit;
	s.idt.base = i->idt_base;
	s.idt.limit = (u16)i->idt_limit;
	for (unsigned n = 0; n < X86_NR_SEGS; n++) {
		u32 ar = unpack_ar(i->seg[n].ar, wide);

		*segment(&s, n) = (struct kvm_segment){
			.base = i->seg[n].base, .limit = i->seg[n].limit, .selector = i->seg[n].sel,
			.type = ar & X86_AR_TYPE, .s = !!(ar & X86_AR_S), .dpl = X86_AR_DPL(ar),
			.present = !!(ar & X86_AR_P), .avl = !!(ar & X86_AR_AVL),
			.l = !!(ar & X86_AR_L), .db = !!(ar & X86_AR_DB), .g = !!(ar & X86_AR_G),
			.unusable = !!(ar & X86_AR_UNUSABLE),
		};
	}
	r = hv_set_sregs2(v, &s);
	if (r < 0)
		return r;
	for (unsigned n = 0; n < 16; n++)
		hv_set_gpr(v, n, i->gpr[n]);
	vmcs_set(v, VMCS_GUEST_RIP, i->rip);
	hv_set_rflags(v, (i->rflags & RFLAGS_DEFINED) | RFLAGS_1);
	hv_set_dr(v, 6, (i->dr6 & DR6_VOLATILE) | DR6_FIXED_1);
	hv_set_dr(v, 7, (i->dr7 & 0xffff2fff) | DR7_FIXED_1);
	return 0;
}

static bool canonical_rip(const struct image *i)
{
	return (u64)sign_extend(i->rip, i->cr4 & CR4_LA57 ? 57 : 48) == i->rip;
}

bool hv_leave_smm(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;
	bool wide = has_long_mode(v);
	u8 area[AREA_BYTES];
	/* What the layout of P6 has no place for is 0: EFER, high halves. */
	struct image i = { 0 };

	if (!x->smm)
		return false;
	trace(kvm_enter_smm, "vcpu %u: leaving SMM, smbase 0x%x", v->id, x->smbase);
	if (hv_read_guest(v->vm, HV_AS_SMM, (u64)x->smbase + AREA_OFFSET, area, sizeof(area)) < 0)
		memset(area, 0xff, sizeof(area));
	transfer(&i, area, wide, true);
	if (!x->smm_inside_nmi)
		set_nmi_blocking(v, false);
	changed(v, false);
	x->smbase = i.smbase;
	/* SDM "Exiting From SMM": a state that no processor can be in is a shutdown. */
	if (!canonical_rip(&i) || load(v, &i, wide) < 0)
		hv_set_request(v, HV_REQ_TRIPLE_FAULT);
	return true;
}

/* 0F AA behind any prefixes but LOCK. */
bool hv_insn_is_rsm(struct hv_vcpu *v)
{
	bool mode64 = hv_is_64bit(v);
	u8 insn[15];
	unsigned n = hv_fetch_insn(v, insn), i = 0;

	while (i < n && insn[i] && (strchr("\x26\x2e\x36\x3e\x64\x65\x66\x67\xf2\xf3", insn[i]) ||
				    (mode64 && (insn[i] & 0xf0) == 0x40)))
		i++;
	return i + 1 < n && insn[i] == 0x0f && insn[i + 1] == 0xaa;
}

/* ---- SMIs and their state ---- */

void hv_smm_reset(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;

	x->smbase = SMBASE_RESET;
	x->smi_pending = x->smm_inside_nmi = false;
	if (x->smm)
		changed(v, false);
}

int hv_user_smi(struct hv_vcpu *v)
{
	hv_set_request(v, HV_REQ_SMI);
	hv_kick(v);
	return 0;
}

void hv_get_smi(struct hv_vcpu *v, struct kvm_vcpu_events *e)
{
	struct hv_vcpu_x86 *x = v->x86;

	if (hv_test_request(v, HV_REQ_SMI))
		x->smi_pending = true;
	e->smi.smm = x->smm;
	e->smi.pending = x->smi_pending;
	e->smi.smm_inside_nmi = x->smm_inside_nmi;
	e->smi.latched_init = v->lapic && (hv_lapic_latched(v) & HV_LAPIC_INIT);
}

void hv_set_smi(struct hv_vcpu *v, const struct kvm_vcpu_events *e)
{
	struct hv_vcpu_x86 *x = v->x86;

	if (x->smm != !!e->smi.smm)
		changed(v, e->smi.smm);
	hv_test_request(v, HV_REQ_SMI);
	x->smi_pending = e->smi.pending;
	if (e->smi.smm)
		x->smm_inside_nmi = e->smi.smm_inside_nmi;
	if (v->lapic)
		hv_lapic_latch(v, HV_LAPIC_INIT, e->smi.latched_init);
}

/* A start-up IPI that meets a processor in SMM is lost. */
bool hv_has_init_sipi(struct hv_vcpu *v)
{
	return v->lapic && !v->x86->smm && hv_lapic_has_events(v);
}

void hv_take_init_sipi(struct hv_vcpu *v)
{
	if (!v->lapic)
		return;
	if (v->x86->smm)
		hv_lapic_latch(v, HV_LAPIC_SIPI, false);
	else
		hv_lapic_accept_events(v);
}
