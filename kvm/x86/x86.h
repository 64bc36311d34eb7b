/* SPDX-License-Identifier: MIT */
/*
 * Between the files of kvm/x86/ (this folder and vmx/): guest registers, events,
 * CPUID, MSRs, emulation. Functions named "guest" act as the instruction would
 * and return 1 where it would #GP(0), else 0.
 *
 * Exit handlers return 1 to enter the guest again, 0 to leave to user space
 * (run->exit_reason is set), or a negative errno for KVM_RUN.
 */
#ifndef KVM_X86_X86_H
#define KVM_X86_X86_H

#include "kvm/x86/vcpu_x86.h"

static inline u64 vmcs_get(struct hv_vcpu *v, enum vmcs_field f)
{
	return x86_vmcs_get(v->cpu, f);
}

static inline void vmcs_set(struct hv_vcpu *v, enum vmcs_field f, u64 val)
{
	x86_vmcs_set(v->cpu, f, val);
}

/* The address space of the guest's memory accesses. */
static inline unsigned hv_as(const struct hv_vcpu *v)
{
	return v->x86->smm ? HV_AS_SMM : 0;
}

/* ---- Registers: regs.c, cr.c ---- */

u64 hv_get_gpr(struct hv_vcpu *v, unsigned n);	/* RSP included */
void hv_set_gpr(struct hv_vcpu *v, unsigned n, u64 val);
u64 hv_get_cr0(struct hv_vcpu *v);
u64 hv_get_cr4(struct hv_vcpu *v);
u64 hv_get_cr8(struct hv_vcpu *v);
/* Without the user-debugging TF that hv_set_guest_debug() puts there. */
u64 hv_get_rflags(struct hv_vcpu *v);
void hv_set_rflags(struct hv_vcpu *v, u64 val);
void hv_get_segment(struct hv_vcpu *v, enum x86_seg n, struct x86_segment *s);
void hv_set_segment(struct hv_vcpu *v, enum x86_seg n, const struct x86_segment *s);
bool hv_is_64bit(struct hv_vcpu *v);		/* CS.L in IA-32e mode */
bool hv_is_prot(struct hv_vcpu *v);		/* CR0.PE */
unsigned hv_get_cpl(struct hv_vcpu *v);
/* CS.base + RIP, wrapped as the mode does. */
u64 hv_linear_rip(struct hv_vcpu *v);
/* The intercepted instruction is done: next RIP, shadows end, single step. Returns as an exit handler. */
int hv_skip_insn(struct hv_vcpu *v);

int hv_guest_set_cr0(struct hv_vcpu *v, u64 val);
int hv_guest_set_cr3(struct hv_vcpu *v, u64 val);
int hv_guest_set_cr4(struct hv_vcpu *v, u64 val);
int hv_guest_set_cr8(struct hv_vcpu *v, u64 val);
int hv_guest_set_efer(struct hv_vcpu *v, u64 val);
int hv_guest_set_xcr0(struct hv_vcpu *v, u64 val);
bool hv_cr4_valid(struct hv_vcpu *v, u64 cr4);
bool hv_efer_valid(struct hv_vcpu *v, u64 efer);
/* Store without checks: the VMCS fields, shadows and the entry control follow. */
void hv_load_cr0(struct hv_vcpu *v, u64 val);
void hv_load_cr4(struct hv_vcpu *v, u64 val);
void hv_load_efer(struct hv_vcpu *v, u64 val);
/* PAE: read the four entries at @cr3 into the VMCS. False if one is invalid. */
bool hv_load_pdptrs(struct hv_vcpu *v, u64 cr3);
/* Which CR4 bits the guest owns depends on its CPUID. */
void hv_update_cr4_mask(struct hv_vcpu *v);

/* FPU, XCR0, PKRU of power-on. fpu.c */
void hv_fpu_reset(struct hv_vcpu *v);

/* ---- Events: events.c ---- */

void hv_queue_ud(struct hv_vcpu *v);
void hv_queue_gp(struct hv_vcpu *v, u32 error);
/* Returns 1: 0 completes the instruction, 1 injects #GP(0). */
int hv_complete_insn_gp(struct hv_vcpu *v, int gp);
/* Put the event of the next entry in place. @immediate: something waits that could not be injected. */
void hv_inject_events(struct hv_vcpu *v);
/* User space plays the PIC: does it wait for a window, and could we use one? */
bool hv_user_wants_window(struct hv_vcpu *v);
/* The entry did not happen: take back what hv_inject_events() put into the VMCS. */
void hv_cancel_injection(struct hv_vcpu *v);
/* After an exit: requeue the event whose delivery the exit interrupted. */
void hv_complete_events(struct hv_vcpu *v, u32 idt_vectoring);
bool hv_nmi_allowed(struct hv_vcpu *v);
void hv_process_nmi(struct hv_vcpu *v);
void hv_process_smi(struct hv_vcpu *v);
/* DR6 or CR2 of an exception that is about to be seen. */
void hv_deliver_payload(struct hv_vcpu *v, struct hv_exception *e);

/* ---- System-management mode: smm.c ---- */

void hv_enter_smm(struct hv_vcpu *v);
/* RSM. False outside of SMM, where it is an invalid opcode. */
bool hv_leave_smm(struct hv_vcpu *v);
bool hv_insn_is_rsm(struct hv_vcpu *v);
void hv_smm_reset(struct hv_vcpu *v);
/* The part of the vCPU's events. */
void hv_get_smi(struct hv_vcpu *v, struct kvm_vcpu_events *e);
void hv_set_smi(struct hv_vcpu *v, const struct kvm_vcpu_events *e);
/* INIT and start-up IPIs: has it a latched one that may be taken? Take them. In SMM INIT waits. */
bool hv_has_init_sipi(struct hv_vcpu *v);
void hv_take_init_sipi(struct hv_vcpu *v);

/* ---- CPUID and MSRs: cpuid.c, msr.c, msr_user.c ---- */

void hv_cpuid_init(struct hv_vcpu *v);
/* What the local APIC has to know of CPUID and IA32_MCG_CAP. */
void hv_cpuid_tell_lapic(struct hv_vcpu *v);
void hv_cpuid_free(struct hv_vcpu *v);
/* Leaves that follow CR4, XCR0, APIC_BASE, MISC_ENABLE; to be called when one changes. */
void hv_cpuid_update_runtime(struct hv_vcpu *v);
/* CPUID as the guest executes it. */
void hv_cpuid(struct hv_vcpu *v, u32 leaf, u32 index, u32 out[4]);
int hv_exit_cpuid(struct hv_vcpu *v);

void hv_msr_init(struct hv_vcpu *v);
void hv_msr_reset(struct hv_vcpu *v, bool init);
/* After SET_CPUID2: what depends on the features. */
void hv_msr_cpuid_changed(struct hv_vcpu *v);
/* Guest access behind the filter: 0, 1 (#GP), or -ENOENT for an MSR that nobody knows. */
int hv_msr_read(struct hv_vcpu *v, u32 msr, u64 *val, bool host);
int hv_msr_write(struct hv_vcpu *v, u32 msr, u64 val, bool host);
int hv_exit_rdmsr(struct hv_vcpu *v);
int hv_exit_wrmsr(struct hv_vcpu *v);
/* For the emulator: 0 done, 1 #GP, negative of an x86_bus_result when user space has to answer. */
int hv_emul_rdmsr(struct hv_vcpu *v, u32 msr, u64 *val);
int hv_emul_wrmsr(struct hv_vcpu *v, u32 msr, u64 val);
bool hv_msr_filtered(struct hv_vcpu *v, u32 msr, bool write);
/* Rebuild the VMX bitmap: pass-through minus what the filter denies. */
void hv_update_msr_bitmap(struct hv_vcpu *v);

/* ---- Exits that end in emulation: emulate.c, pio.c, walk.c ---- */

int hv_emulate_mmio(struct hv_vcpu *v, u64 gpa);
int hv_emulate_task_switch(struct hv_vcpu *v, u16 tss, unsigned reason, bool has_error, u32 error);
int hv_exit_io(struct hv_vcpu *v);
void hv_emul_free(struct hv_vcpu *v);
/*
 * KVM_EXIT_INTERNAL_ERROR of the emulation kind with the instruction's bytes, or, at CPL > 0
 * without KVM_CAP_EXIT_ON_EMULATION_FAILURE, #UD. As an exit handler.
 */
int hv_emulation_failure(struct hv_vcpu *v, const u8 *insn, unsigned len);
int hv_internal_error(struct hv_vcpu *v, u32 suberror, unsigned ndata, const u64 *data);
/* Load the emulating processor with the guest's state; NULL when memory is short. */
struct x86_cpu *hv_emul_load(struct hv_vcpu *v, bool with_fpu);

enum hv_walk_access { HV_WALK_WRITE = 1, HV_WALK_USER = 2, HV_WALK_FETCH = 4 };
/*
 * Guest-linear to guest-physical by the guest's page tables, no A/D updates. A
 * short cut only: false means "ask the emulator", for a fault or an odd mode.
 */
bool hv_walk(struct hv_vcpu *v, u64 lin, unsigned access, u64 *gpa);
/* False if the instruction at CS:RIP, or a page table on the way to it, is in no memory. */
bool hv_code_is_memory(struct hv_vcpu *v);
/* Bytes at CS:RIP, at most 15; stops at an untranslatable page. */
unsigned hv_fetch_insn(struct hv_vcpu *v, u8 buf[15]);

/* ---- Debugging by user space: debug.c ---- */

/* The guest's debug registers 0..3, 6, 7, wherever they are. */
u64 hv_get_dr(struct hv_vcpu *v, unsigned n);
void hv_set_dr(struct hv_vcpu *v, unsigned n, u64 val);
void hv_update_exception_bitmap(struct hv_vcpu *v);
/* One instruction was completed by the hypervisor with TF set. As an exit handler. */
int hv_singlestep_done(struct hv_vcpu *v);
int hv_debug_exit(struct hv_vcpu *v, u32 exception, u64 dr6, u64 pc);
int hv_exit_dr(struct hv_vcpu *v);

/* ---- Run loop: run.c ---- */

/* A halted or waiting vCPU has a reason to run. */
bool hv_vcpu_has_events(struct hv_vcpu *v);
int hv_vcpu_halt(struct hv_vcpu *v);

/* ---- VT-x: vmx/ ---- */

int hv_vmx_vcpu_new(struct hv_vcpu *v);
void hv_vmx_vcpu_free(struct hv_vcpu *v);
/* Enter the guest once and handle the exit. */
int hv_vmx_run(struct hv_vcpu *v);
void hv_vmx_set_proc(struct hv_vcpu *v, u32 bit, bool on);
void hv_vmx_set_proc2(struct hv_vcpu *v, u32 bit, bool on);
/* Linear mappings of this guest: after VMWRITEs to what translations depend on. */
void hv_vmx_flush_guest_tlb(struct hv_vcpu *v);
void hv_vmx_inject(struct hv_vcpu *v, u32 info, u32 error, u32 insn_len);
void hv_vmx_load_tsc(struct hv_vcpu *v);
/* Intercepts that follow the guest's CPUID. */
void hv_vmx_cpuid_changed(struct hv_vcpu *v);
const char *hv_vmx_exit_name(u32 reason);

#endif
