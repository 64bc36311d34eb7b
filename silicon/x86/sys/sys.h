/* SPDX-License-Identifier: MIT */
/*
 * Segmentation, event delivery, control registers, MSRs: what other parts of
 * silicon/x86 need of sys/.
 */
#ifndef SILICON_X86_SYS_SYS_H
#define SILICON_X86_SYS_SYS_H

#include "silicon/x86/cpu.h"
#include "silicon/x86/op.h"

/*
 * Deliver an event through the IDT (or IVT): the caller has done intercepts.
 * @type: VMCS numbering 0 external, 2 NMI, 3 hardware exception, 4 software
 * interrupt, 5 INT1, 6 INT3/INTO. @rip: what is pushed. Raises nested faults by
 * unwinding; cpu->idt_vectoring describes the event while it is delivered. Sets
 * cpu->rip and X86_REG_NEXT_RIP to the handler. A VM exit during delivery finds
 * cpu->delivering != 0 and clears it with cpu->idt_vectoring.
 */
void x86_deliver(struct x86_cpu *cpu, u8 vector, u8 type, bool has_error, u32 error, u64 rip);

/*
 * Run-loop half of x86_fault(): intercepts, double-fault merging, CR2/DR6,
 * delivery, triple fault. May unwind again (nested faults are handled inside).
 */
void x86_deliver_fault(struct x86_cpu *cpu);

/*
 * INT n (@type 4), INT1 (5), INT3 and INTO (6) as instructions: intercepts, VM86
 * rules, delivery with RIP behind the instruction. INTO has tested OF.
 */
void x86_soft_int(struct x86_cpu *cpu, const struct x86_op *op, u8 vector, u8 type);

/*
 * The order of a run loop while cpu->events or cpu->slow is set: x86_boundary()
 * (which ends with the instruction breakpoint check and records what holds at
 * the start of the instruction in X86_SLOW_START bits of cpu->slow), then fetch
 * and execution of one instruction, then x86_after_insn() if it completed.
 * x86_boundary() leaves X86_SLOW_HALTED set when the processor stays halted
 * outside non-root operation, where it waits itself.
 */
/* Everything between two instructions when cpu->events or cpu->slow is set. */
void x86_boundary(struct x86_cpu *cpu);
/* After an instruction executed with cpu->slow set: TF, RF, shadows, pending #DB. */
void x86_after_insn(struct x86_cpu *cpu);
/* DR0-3 or DR7 changed: breakpoints are looked for again. */
void x86_debug_update(struct x86_cpu *cpu);
/* Data breakpoint check from the MMU slow path: records into cpu->pending_db. */
void x86_check_watchpoint(struct x86_cpu *cpu, u64 lin, unsigned size, bool write);
void x86_check_io_watchpoint(struct x86_cpu *cpu, u16 port, unsigned size);
/* Instruction breakpoint at cs.base+rip: raises #DB unless RF. */
void x86_check_insn_breakpoint(struct x86_cpu *cpu);

/* Load CR0/CR3/CR4/EFER with all checks of MOV CR / WRMSR. False: #GP(0), nothing changed. */
bool x86_write_cr0(struct x86_cpu *cpu, u64 v);
bool x86_write_cr3(struct x86_cpu *cpu, u64 v);
bool x86_write_cr4(struct x86_cpu *cpu, u64 v);
bool x86_write_efer(struct x86_cpu *cpu, u64 v);
/* CR4 bits that the model's CPUID allows. */
u64 x86_cr4_allowed(const struct x86_cpu *cpu);

/* Full RDMSR/WRMSR semantics at CPL 0 behind intercepts. False: #GP(0). */
bool x86_msr_read(struct x86_cpu *cpu, u32 msr, u64 *v);
bool x86_msr_write(struct x86_cpu *cpu, u32 msr, u64 v);
bool x86_pat_valid(u64 v);

/*
 * Hardware task switch with all checks; @rip is saved in the old TSS. The new
 * task's CS:RIP is current afterwards. @reason: enum x86_task_switch.
 */
void x86_task_switch(struct x86_cpu *cpu, u16 tss_sel, unsigned reason, bool has_error,
		     u32 error, u64 rip);

/* Load a segment register as MOV Sreg would (CS excluded). Raises. */
void x86_load_sreg(struct x86_cpu *cpu, unsigned seg, u16 sel);
/* Push/pop-free near control transfer check: raises #GP(0) if @rip is bad. Returns the masked value. */
u64 x86_check_branch(struct x86_cpu *cpu, u64 rip);
/* Privilege for ports: IOPL, TSS bitmap, VM86. Raises #GP(0). */
void x86_check_io(struct x86_cpu *cpu, u16 port, unsigned size);
/* The port itself (bus, or floating bus without one). */
u32 x86_port_in(struct x86_cpu *cpu, u16 port, unsigned size);
void x86_port_out(struct x86_cpu *cpu, u16 port, unsigned size, u32 val);
/* What PUSHF pushes. Raises #GP(0) in VM86 with IOPL < 3 (without VME). */
u64 x86_pushf_image(struct x86_cpu *cpu, unsigned osize);
/*
 * POPF/IRET flag rules: which bits may change at this CPL/IOPL/mode; applies them.
 * Raises #GP(0) in VM86 with IOPL < 3 (without VME), before any change.
 */
void x86_write_eflags(struct x86_cpu *cpu, u64 val, unsigned osize);


/*
 * Mnemonics that libZydis shares between ordinary and system instructions (MOV,
 * PUSH, POP, JMP, CALL, RET) have their rows in insn_base.def; the selectors there
 * hand the system forms to these: MOV with a segment, control or debug register;
 * PUSH/POP of one; far transfers (immediate or memory).
 */
x86_select_fn x86_sel_mov_sys, x86_sel_push_sreg, x86_sel_pop_sreg;
x86_select_fn x86_sel_jmp_far, x86_sel_call_far, x86_sel_ret_far;

#endif
