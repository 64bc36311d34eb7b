/* SPDX-License-Identifier: MIT */
/*
 * One simulated x86-64 logical processor: what software that runs *on* it in
 * VMX root mode (a hypervisor written in C) can do to it.
 *
 * A simulated physical address (spa_t) is an address in this process. The C
 * caller plays the role of root-mode code: it reads and writes registers and
 * MSRs as instructions would, and enters a guest with x86_vmenter() of
 * silicon/vmx.h, which returns at the VM exit.
 *
 * Threads: a processor belongs to the thread that calls it. Only the functions
 * under "Events from outside" may be called from any thread (and from signal
 * handlers where said so).
 */
#ifndef SILICON_X86_H
#define SILICON_X86_H

#include "base/types.h"

struct x86_cpu;
struct x86_model;

/* ModRM numbers. */
enum x86_gpr {
	X86_RAX, X86_RCX, X86_RDX, X86_RBX, X86_RSP, X86_RBP, X86_RSI, X86_RDI,
	X86_R8, X86_R9, X86_R10, X86_R11, X86_R12, X86_R13, X86_R14, X86_R15,
	X86_NR_GPRS
};

/* Sreg numbers; LDTR and TR follow as in the VMCS guest-state area. */
enum x86_seg {
	X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS, X86_NR_SREGS,
	X86_LDTR = X86_NR_SREGS, X86_TR, X86_NR_SEGS
};

/* Access rights in VMCS format: SDM "Guest Register State", table of access rights. */
#define X86_AR_TYPE 0xfu
#define X86_AR_S (1u << 4)
#define X86_AR_DPL_SHIFT 5
#define X86_AR_DPL(ar) (((ar) >> 5) & 3)
#define X86_AR_P (1u << 7)
#define X86_AR_AVL (1u << 12)
#define X86_AR_L (1u << 13)
#define X86_AR_DB (1u << 14)
#define X86_AR_G (1u << 15)
#define X86_AR_UNUSABLE (1u << 16)

struct x86_segment {
	u64 base;
	u32 limit;		/* in bytes, G applied */
	u32 ar;			/* X86_AR_* */
	u16 sel;
};

struct x86_dtable {
	u64 base;
	u16 limit;
};

/*
 * The architectural state that a VMCS guest area holds, plus the GPRs: for
 * loading and reading a processor as a whole (tests, emulation).
 * No check is made: what is loaded must be a state the processor can be in.
 * Loading makes the processor active.
 */
struct x86_state {
	u64 gpr[X86_NR_GPRS];
	u64 rip, rflags;
	struct x86_segment seg[X86_NR_SEGS];
	struct x86_dtable gdtr, idtr;
	u64 cr0, cr2, cr3, cr4, cr8;
	u64 efer;
	u64 dr[4], dr6, dr7;
	u64 pdpte[4];		/* PAE paging only */
	u32 interruptibility;	/* VMCS format: 0 STI, 1 MOV SS, 3 NMI */
};

/* ---- Life ---- */

/*
 * The simulation executes vector instructions, and translated code, by those of the host:
 * NULL, or the name of the first extension of x86-64-v3 that this host lacks. Then no
 * guest may be run.
 */
const char *x86_host_lacks(void);

/*
 * Models are tables of CPUID, MSRs and vendor behaviour: "intel", later "amd".
 * Returns NULL for an unknown name. x86_model_name(i) lists them, NULL ends.
 */
const struct x86_model *x86_model_find(const char *name);
const char *x86_model_name(unsigned i);

/*
 * A processor in its power-on state. @apic_id: initial local APIC id.
 * Returns NULL when memory is short. Registers it with the machine-wide list
 * that code-page tracking needs; x86_cpu_free() must be called by a thread
 * that is not inside x86_vmenter() of this processor.
 */
struct x86_cpu *x86_cpu_new(const struct x86_model *model, u32 apic_id);
void x86_cpu_free(struct x86_cpu *cpu);
const struct x86_model *x86_cpu_model(const struct x86_cpu *cpu);

/* Power-on (RESET) and INIT states. SDM vol. 3A "Processor State After Reset". */
void x86_cpu_reset(struct x86_cpu *cpu);
void x86_cpu_init(struct x86_cpu *cpu);

/*
 * How instructions are executed: one by one by their handlers, or translated to host
 * code where that is possible. Only speed differs. Lockstep executes what it can both ways
 * and ends the process, with a report, where they differ; with several processors another
 * one's store at the wrong moment can be taken for a difference, though hardly ever.
 */
enum x86_engine { X86_ENGINE_INTERP, X86_ENGINE_JIT, X86_ENGINE_LOCKSTEP };
/* Exit status of a process in which the engines differ. */
#define X86_LOCKSTEP_EXIT 125
/* "interp", "jit", "lockstep"; false for another name. */
bool x86_engine_find(const char *name, enum x86_engine *e);
/* What new processors get: that of USERKVM_ENGINE, else the fastest. */
enum x86_engine x86_engine_default(void);
/*
 * -ENOTSUP: not for the processor of an emulator. Where the host gives no executable
 * memory, instructions are interpreted all the same.
 * Owner thread, outside of x86_vmenter() and x86_run().
 */
int __must_check x86_set_engine(struct x86_cpu *cpu, enum x86_engine e);
enum x86_engine x86_get_engine(const struct x86_cpu *cpu);

/* ---- Registers, as root-mode instructions would reach them ---- */

void x86_get_state(struct x86_cpu *cpu, struct x86_state *state);
/* The processor becomes active: it is not halted, not waiting. */
void x86_set_state(struct x86_cpu *cpu, const struct x86_state *state);

/* The sixteen GPRs; after a VM exit they hold the guest's (RSP is in the VMCS). */
u64 *x86_gprs(struct x86_cpu *cpu);

u64 x86_get_cr2(struct x86_cpu *cpu);
void x86_set_cr2(struct x86_cpu *cpu, u64 v);
u64 x86_get_cr8(struct x86_cpu *cpu);
void x86_set_cr8(struct x86_cpu *cpu, u64 v);
/* @n: 0..3, 6, 7. Fixed bits are forced as MOV DR would. */
u64 x86_get_dr(struct x86_cpu *cpu, unsigned n);
void x86_set_dr(struct x86_cpu *cpu, unsigned n, u64 v);

/* RDMSR/WRMSR at CPL 0. Returns 0, or -1 where the instruction would #GP(0). */
int __must_check x86_rdmsr(struct x86_cpu *cpu, u32 msr, u64 *v);
int __must_check x86_wrmsr(struct x86_cpu *cpu, u32 msr, u64 v);

u64 x86_get_xcr0(struct x86_cpu *cpu);
/* XSETBV. Returns 0, or -1 for #GP(0). */
int __must_check x86_set_xcr0(struct x86_cpu *cpu, u64 v);
u32 x86_get_pkru(struct x86_cpu *cpu);
void x86_set_pkru(struct x86_cpu *cpu, u32 v);

/*
 * The whole extended state in the standard (non-compacted) XSAVE format of
 * the model, for the components of @mask; @buf has x86_xsave_size() bytes.
 * x86_xrstor_area(): -1 if the header or MXCSR would make XRSTOR #GP.
 */
unsigned x86_xsave_size(const struct x86_cpu *cpu);
void x86_xsave_area(struct x86_cpu *cpu, void *buf, u64 mask);
int __must_check x86_xrstor_area(struct x86_cpu *cpu, const void *buf, u64 mask);

void x86_cpuid(struct x86_cpu *cpu, u32 leaf, u32 subleaf, u32 out[4]);

/* The processor's own TSC (root-mode RDTSC) and its frequency in kHz. */
u64 x86_rdtsc(struct x86_cpu *cpu);
u32 x86_tsc_khz(void);

/* Widths in bits: guest-physical (CPUID 80000008) and linear (48 or 57). */
unsigned x86_model_physbits(const struct x86_model *model);
unsigned x86_model_linbits(const struct x86_model *model);

/*
 * Guest memory may have been written by somebody other than a simulated
 * processor (a client's device or debugger): no decoded code is used again
 * before it has been compared with memory. Cheap; owner thread.
 */
void x86_code_changed(struct x86_cpu *cpu);

/* ---- Events from outside: any thread ---- */

/*
 * An external interrupt arrives at the processor's (physical) local APIC.
 * Async-signal-safe. @vector: 16..255. In VMX non-root mode it exits or is
 * delivered as the pin-based controls say, within one block of instructions.
 */
void x86_raise_intr(struct x86_cpu *cpu, u8 vector);
void x86_raise_nmi(struct x86_cpu *cpu);
/*
 * LVT entry of the performance counters in the physical local APIC: vector, delivery mode
 * (fixed or NMI), mask; an interrupt sets the mask. Owner thread.
 */
u32 x86_get_lvtpc(struct x86_cpu *cpu);
void x86_set_lvtpc(struct x86_cpu *cpu, u32 v);
/* Does x86_ack_intr() perhaps have something? */
bool x86_intr_pending(const struct x86_cpu *cpu);
/* Acknowledge as INTA would: highest pending vector, or -1. Owner thread. */
int x86_ack_intr(struct x86_cpu *cpu);

/* ---- Running without a hypervisor (tests, tools) ---- */

enum x86_run_result {
	X86_RUN_BUDGET,		/* @max_insns executed */
	X86_RUN_HALT,		/* HLT, nothing pending */
	X86_RUN_SHUTDOWN,	/* triple fault */
	X86_RUN_BUS_ERROR,	/* memory behind a physical address is gone */
	X86_RUN_STOP,		/* the bus asked for it */
};

/*
 * Execute from the present state, in root mode or outside VMX, at most
 * @max_insns instructions (0 = no limit).
 */
enum x86_run_result x86_run(struct x86_cpu *cpu, u64 max_insns);

/*
 * Guest memory that this process can no longer reach (SIGSEGV/SIGBUS).
 * To be called from the program's handler of both signals with si_addr and the
 * ucontext, the signal mask being that of the interrupted code (uc_sigmask). If
 * the fault belongs to a simulated access of this thread the run ends with a bus
 * error: it does not return, or true, where the handler returns to a context that has
 * been changed to lead there. False: the handler must treat the signal as its own. x86_install_fault_handler() installs a
 * chaining handler for programs that have none.
 */
bool x86_handle_host_fault(void *addr, void *context);
int x86_install_fault_handler(void);

/*
 * Physical memory as root-mode software reaches it, where it may be gone: 0,
 * or -EFAULT (bytes before the bad page may have been copied). Accesses are
 * relaxed atomics; aligned 1, 2, 4, 8 bytes move as one. x86_phys_cmpxchg() is
 * locked, @size 1, 2, 4, 8, 16 (16: aligned); 1 = mismatch, *@old replaced.
 * Writes are noticed by processors that have the page's code decoded. Need the
 * fault handler. Any thread.
 */
int __must_check x86_phys_read(spa_t pa, void *buf, size_t len);
int __must_check x86_phys_write(spa_t pa, const void *buf, size_t len);
int __must_check x86_phys_cmpxchg(spa_t pa, void *old, const void *val, unsigned size);

#endif
