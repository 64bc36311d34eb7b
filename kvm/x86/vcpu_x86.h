/* SPDX-License-Identifier: MIT */
/*
 * What an x86 vCPU has besides the processor and its VMCS: the event queue,
 * shadows of registers that the guest does not own, CPUID, the pending user
 * exit. Private to kvm/x86/ (the files of x86/irq/ and x86/mmu/ go through
 * functions).
 *
 * Where guest state lives while the vCPU is outside the guest: everything in
 * the VMCS guest area is there; GPRs but RSP, CR2, DR0-3, DR6, the extended
 * state, XCR0 and the MSRs that no VMCS field holds (STAR, LSTAR, CSTAR,
 * FMASK, KERNEL_GS_BASE, TSC_AUX, XSS) stay in the processor: root mode is C
 * and uses none of them. What only the hypervisor knows is in struct
 * hv_vcpu_x86.
 */
#ifndef KVM_X86_VCPU_X86_H
#define KVM_X86_VCPU_X86_H

#include "base/bits.h"
#include "kvm/vcpu.h"
#include "kvm/x86/pmu.h"
#include "silicon/vmx.h"
#include "silicon/x86_emul.h"
#include "silicon/x86_regs.h"

#define DR6_FIXED_1 0xffff0ff0ull
#define DR6_BS BIT(14)
#define DR6_BD BIT(13)
#define DR6_BT BIT(15)
#define DR6_VOLATILE 0x0000e00full	/* BT BS BD B3-B0 */
#define DR7_FIXED_1 0x400ull
#define DR7_GD BIT(13)
#define DR7_BP_ENABLED 0xffull

enum hv_vector {
	HV_DE, HV_DB, HV_NMI, HV_BP, HV_OF, HV_BR, HV_UD, HV_NM, HV_DF,
	HV_TS = 10, HV_NP, HV_SS, HV_GP, HV_PF, HV_MF = 16, HV_AC, HV_MC, HV_XM, HV_VE, HV_CP
};

/* Interruption information: SDM "VM-Entry Controls for Event Injection". */
#define INTR_TYPE(info) (((info) >> 8) & 7)
#define INTR_TYPE_EXT 0u
#define INTR_TYPE_NMI 2u
#define INTR_TYPE_HARD 3u
#define INTR_TYPE_SOFT_INT 4u
#define INTR_TYPE_PRIV_SOFT 5u
#define INTR_TYPE_SOFT_EXC 6u
#define INTR_ERROR BIT(11)
#define INTR_NMI_UNBLOCK BIT(12)
#define INTR_VALID BIT(31)

#define INTERRUPTIBILITY_STI 1u
#define INTERRUPTIBILITY_MOVSS 2u
#define INTERRUPTIBILITY_SMI 4u
#define INTERRUPTIBILITY_NMI 8u

#define HV_MAX_MCE_BANKS 32
#define HV_MCG_CTL_P BIT(8)
#define HV_MCG_CMCI_P BIT(10)
#define HV_MCI_CTL2_CMCI_EN BIT(30)

/* Features of the guest's CPUID that the hypervisor asks for often. */
struct hv_guest_features {
	u32 c1_ecx, c1_edx;		/* leaf 1 */
	u32 c7_ebx, c7_ecx, c7_edx;	/* leaf 7.0 */
	u32 cd1_eax;			/* leaf 0Dh.1 */
	u32 x1_ecx, x1_edx;		/* 80000001h */
	u32 x8_ebx;			/* 80000008h */
	u32 pv;				/* 40000001h EAX */
	u64 xcr0, xss;			/* supported components */
	u8 physbits;
	bool intel;
};

/* One access of an emulated instruction that user space or a device answered. */
struct hv_mmio_access {
	u64 gpa;
	u8 data[8];
	u8 len;
	bool write;
	bool user;		/* a write that has still to go to user space */
};
#define HV_MMIO_LOG 64

struct hv_exception {
	bool pending;		/* to be delivered, side effects of the payload not yet done */
	bool injected;		/* delivery had begun: not to be intercepted again */
	u8 vector;
	bool has_error;
	u32 error;
	bool has_payload;
	u64 payload;		/* #PF: CR2; #DB: DR6 bits */
};

struct hv_vcpu_x86 {
	/* ---- VT-x: x86/vmx/ ---- */
	void *pages;			/* VMXON region, VMCS, MSR bitmap, PML buffer */
	u8 *msr_bitmap;
	bool launched;
	u32 pin, proc, proc2, entry_ctls, exc_bitmap;	/* last values written */
	u64 eptp;
	u16 vpid;
	bool timer_armed;
	bool injected;			/* the last entry delivered an event */
	u8 timer_shift;			/* preemption timer counts TSC >> this */
	u64 timer_next;			/* hv_lapic_timer_next() that timer_deadline was made from */
	u64 timer_deadline;		/* host TSC */
	/* The last exit; fetched by the entry path. */
	u32 exit_reason, exit_intr_info, idt_vectoring;
	u64 exit_qual;

	/* ---- registers that are not in hardware as the guest sees them ---- */
	u64 cr0, cr4;			/* host-owned bits as the guest wrote them */
	u64 cr4_owned;			/* bits of CR4 that the guest owns */
	u64 cr8;			/* without in-kernel local APIC */
	u64 apic_base;			/* without in-kernel local APIC */
	u64 dr[4], dr7;			/* the guest's, while user space owns the hardware ones */
	u64 tsc_offset, tsc_mult;	/* in the VMCS */

	/* ---- events: events.c ---- */
	struct hv_exception exception;
	struct { bool injected, soft; u8 vector; } interrupt;
	struct { u8 pending; bool injected; } nmi;
	bool nmi_window, irq_window;	/* controls that are on */
	u8 event_insn_len;		/* of a software event that is re-injected */

	/* ---- system-management mode: smm.c ---- */
	bool smm, smi_pending;
	bool smm_inside_nmi;		/* NMIs were blocked when it was entered */
	u32 smbase;

	/* ---- CPUID, MSRs ---- */
	struct kvm_cpuid_entry2 *cpuid;
	u32 cpuid_nent;
	bool ran;			/* KVM_RUN entered the guest: CPUID is frozen */
	bool enforce_pv_cpuid;
	struct hv_guest_features f;
	u64 feature_control, misc_enable, misc_features, platform_info, arch_capabilities;
	u64 spec_ctrl, bios_sign_id, smi_count, power_ctl, hwcr;
	u64 mtrr_def, mtrr_fixed[11], mtrr_var[16];
	u64 mcg_cap, mcg_status, mcg_ctl, mc_banks[4 * HV_MAX_MCE_BANKS], mc_ctl2[HV_MAX_MCE_BANKS];

	struct hv_pmu pmu;		/* pmu.c */

	struct hyperv_vcpu *hyperv;	/* x86/hyperv/ */

	/* ---- exit to user space in progress ---- */
	/*
	 * Finishes what user space was asked for; called once by the next
	 * KVM_RUN. > 0: enter the guest; 0: another exit to user space; < 0 errno.
	 */
	int (*complete)(struct hv_vcpu *v);
	struct {
		struct hv_mmio_access log[HV_MMIO_LOG];
		unsigned n, cursor;	/* accesses known; position in this execution */
		unsigned sent;		/* writes up to here have been delivered */
		struct {		/* a MOV that was decoded here: mov.c */
			u8 len, size, reg, out_size;
			bool sign, high;
		} mov;
	} mmio;
	struct {
		u16 port;
		u8 size;
		bool in;
		u32 count, used;	/* string I/O: elements in the PIO page, consumed */
		u64 rip;		/* linear: a client that moves RIP cancels the completion */
	} pio;

	/* ---- debugging by user space ---- */
	u32 guest_debug;		/* KVM_GUESTDBG_* */
	u64 singlestep_rip;

	/* ---- emulation: emulate.c ---- */
	struct x86_cpu *emul;
	struct x86_state emul_state;	/* as loaded */
	void *emul_xsave;
	enum { HV_EMUL_MMIO, HV_EMUL_STRING, HV_EMUL_TASK } emul_kind;
	bool emul_user_exit;		/* the bus has filled the run page */
	int emul_errno;			/* guest memory is gone */
	bool emul_db_trap;
	u64 emul_db_dr6;
};

#endif
