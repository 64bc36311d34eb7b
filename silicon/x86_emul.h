/* SPDX-License-Identifier: MIT */
/*
 * Instruction emulation for a hypervisor: the silicon's own instruction
 * handlers, run on a processor whose physical bus is the hypervisor's.
 *
 * The emulating processor (made by x86_cpu_new_emul()) is loaded with the
 * guest's state, walks the guest's page tables itself, and asks the bus for
 * every guest-physical access, port and model-specific register. It never
 * caches translations and never executes VMX instructions.
 *
 * An access may answer X86_BUS_RETRY: the instruction is then abandoned with
 * no register changed, x86_emul_insn() returns X86_EMUL_RETRY, and the caller
 * runs the same instruction again once it can answer (it must then answer the
 * earlier reads of that instruction with the same data). Writes are passed on
 * in order when the instruction is certain to complete its checks.
 */
#ifndef SILICON_X86_EMUL_H
#define SILICON_X86_EMUL_H

#include "silicon/x86.h"

enum x86_bus_result { X86_BUS_OK, X86_BUS_RETRY, X86_BUS_ERROR };

/* Instructions that need the hypervisor's decision when emulated. */
enum x86_emul_hook {
	X86_HOOK_CPUID, X86_HOOK_HLT, X86_HOOK_WBINVD, X86_HOOK_INVLPG, X86_HOOK_RDTSC,
	X86_HOOK_RDPMC, X86_HOOK_PAUSE, X86_HOOK_MONITOR, X86_HOOK_XSETBV,
	X86_HOOK_VMX, X86_HOOK_CR_WRITE, X86_HOOK_DR_ACCESS, X86_HOOK_OTHER
};

struct x86_bus_ops {
	/* Guest-physical memory; @len 1..64, never crossing a 4 KiB page. */
	enum x86_bus_result (*read)(void *ctx, u64 pa, void *buf, unsigned len);
	enum x86_bus_result (*write)(void *ctx, u64 pa, const void *buf, unsigned len);
	/*
	 * Locked compare and exchange of @len 1, 2, 4, 8 or 16 bytes; *@old is
	 * replaced by what was found. Used for LOCK and for A/D bits.
	 */
	enum x86_bus_result (*cmpxchg)(void *ctx, u64 pa, void *old, const void *val, unsigned len);
	/* Ports; @size 1, 2, 4. */
	enum x86_bus_result (*in)(void *ctx, u16 port, unsigned size, u32 *val);
	enum x86_bus_result (*out)(void *ctx, u16 port, unsigned size, u32 val);
	/* 0 done, 1 = #GP(0), else the negative of an x86_bus_result. */
	int (*rdmsr)(void *ctx, u32 msr, u64 *val);
	int (*wrmsr)(void *ctx, u32 msr, u64 val);
	/*
	 * Before @hook executes, after its #UD and privilege checks.
	 * X86_BUS_OK: execute on the emulating processor; RETRY/ERROR: abandon.
	 * NULL = always ERROR.
	 */
	enum x86_bus_result (*hook)(void *ctx, enum x86_emul_hook hook);
};

enum x86_emul_status {
	X86_EMUL_DONE,		/* one instruction (one REP iteration or a batch) completed */
	X86_EMUL_FAULT,		/* the guest gets an exception: see x86_emul_result */
	X86_EMUL_RETRY,		/* the bus said so; nothing changed */
	X86_EMUL_ERROR,		/* the bus said so, or the instruction cannot be decoded */
};

struct x86_emul_result {
	u8 vector;		/* X86_EMUL_FAULT */
	bool has_error;
	u32 error;
	u64 payload;		/* #PF: CR2; #DB: new DR6 bits */
	bool db_trap;		/* X86_EMUL_DONE: a single-step or data breakpoint trap is due */
	u64 db_dr6;
	u8 insn_len;		/* of the last instruction fetched */
	u8 insn[15];
};

struct x86_cpu *x86_cpu_new_emul(const struct x86_model *model, u32 apic_id,
				 const struct x86_bus_ops *ops, void *ctx);

/* Emulate the instruction at CS:RIP of the loaded state (x86_set_state()). */
enum x86_emul_status x86_emul_insn(struct x86_cpu *cpu, struct x86_emul_result *res);

/* Reason of a task switch, numbered as in the VM-exit qualification. */
enum x86_task_switch { X86_TASK_CALL, X86_TASK_IRET, X86_TASK_JMP, X86_TASK_GATE };

/*
 * Hardware task switch to @tss_sel on the loaded state. @has_error/@error: the
 * error code to push on the new stack, for exceptions through a task gate.
 */
enum x86_emul_status x86_emul_task_switch(struct x86_cpu *cpu, u16 tss_sel,
					  enum x86_task_switch reason, bool has_error, u32 error,
					  struct x86_emul_result *res);

/*
 * Linear to guest-physical through the loaded state's paging, without setting
 * A or D. @access: bit 0 write, bit 1 user, bit 2 fetch. Returns 0 and *@pa,
 * or the #PF error code with bit 31 set.
 */
u32 x86_emul_translate(struct x86_cpu *cpu, u64 lin, unsigned access, u64 *pa);

#endif
