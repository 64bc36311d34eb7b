// SPDX-License-Identifier: MIT
/*
 * The root-mode side of a vCPU's processor and its VMCS: VMXON, controls from
 * the capability MSRs, host-state area. The guest-state area is filled by
 * regs.c at reset. Each vCPU has a processor of its own, so its VMCS is made
 * current once and stays so.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "kvm/mem.h"
#include "kvm/vcpu_life.h"
#include "kvm/x86/clock.h"
#include "kvm/x86/cpuid.h"
#include "kvm/x86/x86.h"

#define MSR_FEATURE_CONTROL 0x3a
#define MSR_PAT 0x277
#define MSR_VMX_BASIC 0x480
#define MSR_VMX_MISC 0x485
#define MSR_VMX_PROC2 0x48b
#define MSR_VMX_TRUE_PIN 0x48d
#define MSR_VMX_TRUE_PROC 0x48e
#define MSR_VMX_TRUE_EXIT 0x48f
#define MSR_VMX_TRUE_ENTRY 0x490

#define HOST_CR0 (CR0_PE | CR0_ET | CR0_NE | CR0_WP | CR0_PG)
#define HOST_CR4 (CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_VMXE | CR4_OSXSAVE)
#define HOST_EFER (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)
#define HOST_CS 0x08
#define HOST_DATA 0x10
#define HOST_TR 0x18
#define HOST_RIP 0x1000		/* never executed: an exit returns from x86_vmenter() */

/* Spinning guests give way: exit after 4096 TSC ticks of a PAUSE loop at CPL 0. */
#define PLE_GAP 128
#define PLE_WINDOW 4096

/* VMXON region, VMCS, MSR bitmap, PML buffer. */
#define NR_PAGES 4
#define PML_LAST 511

static u64 page_addr(const struct hv_vcpu *v, unsigned page)
{
	return (u64)(uintptr_t)v->x86->pages + page * PAGE_SIZE;
}

static void enter_root_mode(struct hv_vcpu *v)
{
	const struct x86_segment code = { .limit = ~0u, .ar = 0xa09b, .sel = HOST_CS };
	const struct x86_segment data = { .limit = ~0u, .ar = 0xc093, .sel = HOST_DATA };
	struct x86_state s;

	x86_get_state(v->cpu, &s);
	for (unsigned i = 0; i < X86_NR_SREGS; i++)
		s.seg[i] = i == X86_CS ? code : data;
	s.seg[X86_TR] = (struct x86_segment){ .limit = 0x67, .ar = 0x8b, .sel = HOST_TR };
	s.seg[X86_LDTR] = (struct x86_segment){ .ar = X86_AR_UNUSABLE };
	s.cr0 = HOST_CR0;
	s.cr3 = 0;
	s.cr4 = HOST_CR4;
	s.efer = HOST_EFER;
	s.rip = HOST_RIP;
	s.rflags = RFLAGS_1;
	x86_set_state(v->cpu, &s);
}

static u64 capability(struct hv_vcpu *v, u32 msr)
{
	u64 val = 0;

	BUG_ON(x86_rdmsr(v->cpu, msr, &val) < 0);
	return val;
}

/* @need must be available; of @want, what is. */
static u32 controls(struct hv_vcpu *v, u32 msr, u32 need, u32 want)
{
	u64 cap = capability(v, msr);
	u32 must = (u32)cap, may = (u32)(cap >> 32);

	BUG_ON(need & ~may);
	return must | need | (want & may);
}

static void fill_controls(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;

	x->pin = controls(v, MSR_VMX_TRUE_PIN,
			  PIN_EXT_INTR_EXITING | PIN_NMI_EXITING | PIN_VIRTUAL_NMIS, 0);
	vmcs_set(v, VMCS_PIN_BASED_CTLS, x->pin);
	x->proc = controls(v, MSR_VMX_TRUE_PROC,
			   PROC_TSC_OFFSETTING | PROC_HLT_EXITING | PROC_MWAIT_EXITING |
			   PROC_RDPMC_EXITING | PROC_CR8_LOAD_EXITING | PROC_CR8_STORE_EXITING |
			   PROC_UNCOND_IO_EXITING | PROC_USE_MSR_BITMAPS | PROC_MONITOR_EXITING |
			   PROC_ACTIVATE_SECONDARY, 0);
	if (v->vm->disabled_exits & KVM_X86_DISABLE_EXITS_HLT)
		x->proc &= ~PROC_HLT_EXITING;
	vmcs_set(v, VMCS_PROC_BASED_CTLS, x->proc);
	x->proc2 = controls(v, MSR_VMX_PROC2,
			    PROC2_EPT | PROC2_VPID | PROC2_UNRESTRICTED_GUEST | PROC2_RDTSCP |
			    PROC2_INVPCID | PROC2_XSAVES | PROC2_TSC_SCALING,
			    PROC2_PAUSE_LOOP_EXITING);
	if (v->vm->disabled_exits & KVM_X86_DISABLE_EXITS_PAUSE)
		x->proc2 &= ~PROC2_PAUSE_LOOP_EXITING;
	/* Scaling costs a multiplication per RDTSC: on when hv_vmx_load_tsc() needs it. */
	x->proc2 &= ~PROC2_TSC_SCALING;
	/* Pages of slots that are not logged are dirty from the start, so nothing is logged for nobody. */
	if (hv_mmu_uses_pml(v->vm)) {
		x->proc2 |= PROC2_PML;
		vmcs_set(v, VMCS_PML_ADDR, page_addr(v, 3));
		vmcs_set(v, VMCS_PML_INDEX, PML_LAST);
	}
	vmcs_set(v, VMCS_PROC_BASED_CTLS2, x->proc2);
	vmcs_set(v, VMCS_EXIT_CTLS,
		 controls(v, MSR_VMX_TRUE_EXIT,
			  EXITC_SAVE_DEBUG | EXITC_HOST_64 | EXITC_ACK_INTR | EXITC_SAVE_PAT |
			  EXITC_LOAD_PAT | EXITC_SAVE_EFER | EXITC_LOAD_EFER |
			  EXITC_SAVE_PERF_GLOBAL | EXITC_LOAD_PERF_GLOBAL, 0));
	x->entry_ctls = controls(v, MSR_VMX_TRUE_ENTRY,
				 ENTRY_LOAD_DEBUG | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER |
				 ENTRY_LOAD_PERF_GLOBAL, 0);
	vmcs_set(v, VMCS_ENTRY_CTLS, x->entry_ctls);

	vmcs_set(v, VMCS_VPID, x->vpid);
	vmcs_set(v, VMCS_MSR_BITMAP, page_addr(v, 2));
	vmcs_set(v, VMCS_TSC_OFFSET, 0);
	vmcs_set(v, VMCS_TSC_MULTIPLIER, HV_TSC_UNITY);
	vmcs_set(v, VMCS_XSS_EXIT_BITMAP, 0);
	vmcs_set(v, VMCS_PF_ERROR_MASK, 0);
	vmcs_set(v, VMCS_PF_ERROR_MATCH, 0);
	vmcs_set(v, VMCS_CR3_TARGET_COUNT, 0);
	vmcs_set(v, VMCS_EXIT_MSR_STORE_COUNT, 0);
	vmcs_set(v, VMCS_EXIT_MSR_LOAD_COUNT, 0);
	vmcs_set(v, VMCS_ENTRY_MSR_LOAD_COUNT, 0);
	vmcs_set(v, VMCS_ENTRY_INTR_INFO, 0);
	vmcs_set(v, VMCS_LINK_POINTER, ~0ull);
	vmcs_set(v, VMCS_EXCEPTION_BITMAP, 0);
	if (x->proc2 & PROC2_PAUSE_LOOP_EXITING) {
		vmcs_set(v, VMCS_PLE_GAP, PLE_GAP);
		vmcs_set(v, VMCS_PLE_WINDOW, PLE_WINDOW);
	}
}

static void fill_host_state(struct hv_vcpu *v)
{
	vmcs_set(v, VMCS_HOST_CR0, HOST_CR0);
	vmcs_set(v, VMCS_HOST_CR3, 0);
	vmcs_set(v, VMCS_HOST_CR4, HOST_CR4);
	vmcs_set(v, VMCS_HOST_EFER, HOST_EFER);
	vmcs_set(v, VMCS_HOST_PAT, capability(v, MSR_PAT));
	vmcs_set(v, VMCS_HOST_PERF_GLOBAL_CTRL, 0);
	vmcs_set(v, VMCS_HOST_CS_SEL, HOST_CS);
	vmcs_set(v, VMCS_HOST_SS_SEL, HOST_DATA);
	vmcs_set(v, VMCS_HOST_DS_SEL, HOST_DATA);
	vmcs_set(v, VMCS_HOST_ES_SEL, HOST_DATA);
	vmcs_set(v, VMCS_HOST_FS_SEL, 0);
	vmcs_set(v, VMCS_HOST_GS_SEL, 0);
	vmcs_set(v, VMCS_HOST_TR_SEL, HOST_TR);
	vmcs_set(v, VMCS_HOST_FS_BASE, 0);
	vmcs_set(v, VMCS_HOST_GS_BASE, 0);
	vmcs_set(v, VMCS_HOST_TR_BASE, 0);
	vmcs_set(v, VMCS_HOST_GDTR_BASE, 0);
	vmcs_set(v, VMCS_HOST_IDTR_BASE, 0);
	vmcs_set(v, VMCS_HOST_SYSENTER_CS, 0);
	vmcs_set(v, VMCS_HOST_SYSENTER_ESP, 0);
	vmcs_set(v, VMCS_HOST_SYSENTER_EIP, 0);
	vmcs_set(v, VMCS_HOST_RSP, 0);
	vmcs_set(v, VMCS_HOST_RIP, HOST_RIP);
}

bool hv_vmx_has_pml(const struct x86_model *model)
{
	u64 cap;

	return hv_model_rdmsr(model, MSR_VMX_PROC2, &cap) == 0 && (cap >> 32 & PROC2_PML);
}

int hv_vmx_vcpu_new(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;
	u32 revision;
	u64 fc;
	u8 *p;

	p = aligned_alloc(PAGE_SIZE, NR_PAGES * PAGE_SIZE);
	if (!p)
		return -ENOMEM;
	memset(p, 0, NR_PAGES * PAGE_SIZE);
	x->pages = p;
	x->msr_bitmap = p + 2 * PAGE_SIZE;
	/* One processor per vCPU: any number but 0 tells its guest from root mode. */
	x->vpid = 1;
	x->tsc_mult = HV_TSC_UNITY;

	enter_root_mode(v);
	fc = capability(v, MSR_FEATURE_CONTROL);
	if (!(fc & 1))
		BUG_ON(x86_wrmsr(v->cpu, MSR_FEATURE_CONTROL, 5) < 0);
	/* Bits 4:0: the preemption timer counts changes of this bit of the TSC. */
	x->timer_shift = capability(v, MSR_VMX_MISC) & 31;
	revision = (u32)capability(v, MSR_VMX_BASIC) & 0x7fffffff;
	memcpy(p, &revision, 4);
	memcpy(p + PAGE_SIZE, &revision, 4);
	BUG_ON(x86_vmxon(v->cpu, SPA(page_addr(v, 0))) != VMX_OK);
	BUG_ON(x86_vmclear(v->cpu, SPA(page_addr(v, 1))) != VMX_OK);
	BUG_ON(x86_vmptrld(v->cpu, SPA(page_addr(v, 1))) != VMX_OK);
	fill_controls(v);
	fill_host_state(v);
	return 0;
}

void hv_vmx_vcpu_free(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;

	if (!x->pages)
		return;
	BUG_ON(x86_vmclear(v->cpu, SPA(page_addr(v, 1))) != VMX_OK);
	BUG_ON(x86_vmxoff(v->cpu) != VMX_OK);
	free(x->pages);
	x->pages = NULL;
}

void hv_vmx_set_proc(struct hv_vcpu *v, u32 bit, bool on)
{
	u32 val = on ? v->x86->proc | bit : v->x86->proc & ~bit;

	if (val == v->x86->proc)
		return;
	v->x86->proc = val;
	vmcs_set(v, VMCS_PROC_BASED_CTLS, val);
}

void hv_vmx_set_proc2(struct hv_vcpu *v, u32 bit, bool on)
{
	u32 val = on ? v->x86->proc2 | bit : v->x86->proc2 & ~bit;

	if (val == v->x86->proc2)
		return;
	v->x86->proc2 = val;
	vmcs_set(v, VMCS_PROC_BASED_CTLS2, val);
}

void hv_vmx_flush_guest_tlb(struct hv_vcpu *v)
{
	const u64 desc[2] = { v->x86->vpid, 0 };

	/* 1: single context. */
	BUG_ON(x86_invvpid(v->cpu, 1, desc) != VMX_OK);
}

void hv_vmx_load_tsc(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;
	u64 offset = hv_tsc_offset(v), mult = hv_tsc_multiplier(v);

	if (offset != x->tsc_offset)
		vmcs_set(v, VMCS_TSC_OFFSET, offset);
	if (mult != x->tsc_mult) {
		hv_vmx_set_proc2(v, PROC2_TSC_SCALING, mult != HV_TSC_UNITY);
		vmcs_set(v, VMCS_TSC_MULTIPLIER, mult);
	}
	x->tsc_offset = offset;
	x->tsc_mult = mult;
}

void hv_vmx_cpuid_changed(struct hv_vcpu *v)
{
	const struct hv_guest_features *f = &v->x86->f;

	/* Without the control the instruction is #UD, as it is without the CPUID bit. */
	hv_vmx_set_proc2(v, PROC2_RDTSCP, (f->x1_edx & BIT(27)) || (f->c7_ecx & BIT(22)));
	hv_vmx_set_proc2(v, PROC2_INVPCID, f->c7_ebx & BIT(10));
	hv_vmx_set_proc2(v, PROC2_XSAVES, f->cd1_eax & BIT(3));
}
