/* SPDX-License-Identifier: MIT */
/* Shared by the files of sys/: segment types, descriptors, error codes. */
#ifndef SILICON_X86_SYS_SYS_PRIV_H
#define SILICON_X86_SYS_SYS_PRIV_H

#include "silicon/x86/cpu.h"
#include "silicon/x86/fault.h"
#include "silicon/x86/flags.h"
#include "silicon/x86/mmu/mem.h"
#include "silicon/x86/model/model.h"
#include "silicon/x86/op.h"
#include "silicon/x86/sys/sys.h"
#include "silicon/x86/vmx/intercept.h"

/* Type bits of code and data segments: SDM "Code- and Data-Segment Types". */
#define AR_ACCESSED 1u
#define AR_WRITABLE 2u		/* data */
#define AR_READABLE 2u		/* code */
#define AR_EXPAND_DOWN 4u	/* data */
#define AR_CONFORMING 4u	/* code */
#define AR_CODE 8u

/* System-segment and gate types: SDM "System-Segment and Gate-Descriptor Types". */
enum {
	TYPE_TSS16_AVAIL = 1, TYPE_LDT = 2, TYPE_TSS16_BUSY = 3, TYPE_CALL16 = 4,
	TYPE_TASK_GATE = 5, TYPE_INT16 = 6, TYPE_TRAP16 = 7, TYPE_TSS_AVAIL = 9,
	TYPE_TSS_BUSY = 11, TYPE_CALL = 12, TYPE_INT = 14, TYPE_TRAP = 15
};

#define RFLAGS_DEFINED (BITS(21, 0) & ~(BIT(15) | BIT(5) | BIT(3)))

#define DR6_RESET 0xffff0ff0ull
#define DR6_BD BIT(13)
#define DR6_BS BIT(14)
#define DR6_BT BIT(15)
#define DEBUGCTL_BTF BIT(1)
#define DR7_RESET 0x400ull
#define DR7_GD BIT(13)

void x86_msr_reset(struct x86_cpu *cpu);

/* EFLAGS.AC has changed and nothing else: cheaper than x86_update_mode(). */
void mode_update_ac(struct x86_cpu *cpu);

/* #GP(0) unless CPL is 0. */
static inline void need_cpl0(struct x86_cpu *cpu)
{
	if (unlikely(cpu->cpl))
		x86_gp0(cpu);
}

static inline unsigned flags_iopl(const struct x86_cpu *cpu)
{
	return cpu->rflags >> 12 & 3;
}

/* Set ZF, keep the other flags. */
static inline void flags_set_zf(struct x86_cpu *cpu, bool zf)
{
	x86_set_arith(cpu, (x86_get_arith(cpu) & ~RFLAGS_ZF) | (zf ? RFLAGS_ZF : 0));
}

/* ---- Selectors and operands of system instructions ---- */

/*
 * decode/ ends a block at every system instruction. This one changes nothing that
 * the rest of a block depends on (mode, RIP, translations of code).
 */
static inline x86_fn *mid_block(struct x86_op *op, x86_fn *fn)
{
	op->flags &= (u16)~X86_OP_END;
	return fn;
}

/* Store to a register of 2, 4 (zero-extended) or 8 bytes. */
static inline void set_gpr(struct x86_cpu *cpu, unsigned r, u64 v, unsigned size)
{
	cpu->gpr[r] = size == 2 ? (cpu->gpr[r] & ~0xffffull) | (u16)v : size == 4 ? (u32)v : v;
}

/* A 16-bit ModRM source. */
static inline u16 get_rm16(struct x86_cpu *cpu, const struct x86_op *op)
{
	if (!(op->flags & X86_OP_MEM))
		return (u16)cpu->gpr[op->rm];
	return x86_load16(cpu, op->seg, x86_lin_read(cpu, op->seg, x86_ea(cpu, op), 2));
}

/* A ModRM destination that is 16 bits in memory and zero-extended in a register. */
static inline void set_rm16(struct x86_cpu *cpu, const struct x86_op *op, u64 v)
{
	if (op->flags & X86_OP_MEM)
		x86_store16(cpu, op->seg, x86_lin_write(cpu, op->seg, x86_ea(cpu, op), 2), (u16)v);
	else
		set_gpr(cpu, op->rm, v, op->osize);
}

/* ---- Descriptors: seg.c ---- */

struct desc {
	u64 lin;		/* address of the descriptor */
	u32 lo, hi;		/* as in memory */
	u32 base_hi;		/* system descriptors in long mode: base 63:32 */
	u32 upper;		/* their fourth dword */
	u16 sel;
};

static inline bool sel_null(u16 sel) { return (sel & 0xfffc) == 0; }
static inline unsigned sel_rpl(u16 sel) { return sel & 3; }
static inline unsigned desc_type(const struct desc *d) { return d->hi >> 8 & 15; }
static inline bool desc_s(const struct desc *d) { return d->hi >> 12 & 1; }
static inline unsigned desc_dpl(const struct desc *d) { return d->hi >> 13 & 3; }
static inline bool desc_present(const struct desc *d) { return d->hi >> 15 & 1; }
static inline bool desc_is_code(const struct desc *d)
{
	return desc_s(d) && (desc_type(d) & AR_CODE);
}
static inline bool desc_is_conforming(const struct desc *d)
{
	return desc_type(d) & AR_CONFORMING;
}
static inline bool desc_is_writable_data(const struct desc *d)
{
	return desc_s(d) && (desc_type(d) & (AR_CODE | AR_WRITABLE)) == AR_WRITABLE;
}
static inline bool desc_is_readable(const struct desc *d)
{
	return desc_s(d) && (!(desc_type(d) & AR_CODE) || (desc_type(d) & AR_READABLE));
}
/* In long mode L and D together are reserved. */
static inline bool desc_l_and_d(const struct x86_cpu *cpu, const struct desc *d)
{
	return x86_lma(cpu) && (d->hi >> 21 & 3) == 3;
}
u32 desc_limit(const struct desc *d);
u64 desc_base(const struct desc *d);

/* Read the descriptor of a non-null @sel. False: outside its table. */
bool desc_read(struct x86_cpu *cpu, u16 sel, struct desc *d);
/* The same for one that is a system descriptor: 16 bytes in long mode. */
bool desc_read_system(struct x86_cpu *cpu, u16 sel, struct desc *d);
/* Set the accessed bit in memory and in @d if it is clear. */
void desc_set_accessed(struct x86_cpu *cpu, struct desc *d);
/* Locked change of the busy bit in memory. */
void desc_set_busy(struct x86_cpu *cpu, struct desc *d, bool busy);
/* The hidden part that loading @d gives. */
struct x86_segment desc_segment(const struct desc *d, u16 sel);

/* What a null selector leaves in a data segment register (FS/GS base by vendor). */
void seg_load_null(struct x86_cpu *cpu, unsigned seg, u16 sel);
/* Base, and rights of an ordinary data segment, as real and virtual-8086 mode load them. */
void seg_load_real(struct x86_cpu *cpu, unsigned seg, u16 sel);
void seg_load_vm86(struct x86_cpu *cpu, unsigned seg, u16 sel);
/* SS in 64-bit mode after a change of CPL by CALL or an event: null with the new CPL. */
void seg_load_null_ss(struct x86_cpu *cpu, unsigned cpl);
/* Flat CS and SS of the fast system calls. */
void seg_load_flat(struct x86_cpu *cpu, unsigned seg, u16 sel, unsigned type, unsigned dpl, bool l);

/*
 * Check @sel (not null) as the SS of privilege level @cpl. @bad: #GP or #TS for
 * what is wrong with it; a segment that is not present is #SS. Returns it in @d,
 * accessed bit not yet set.
 */
void seg_check_ss(struct x86_cpu *cpu, u16 sel, unsigned cpl, enum x86_vector bad, unsigned ext,
		  struct desc *d);
/* RET and IRET to an outer level: null what the new level may not use. */
void seg_drop_privileged(struct x86_cpu *cpu);

/* ---- Stacks: stack.c ---- */

/* A stack on which a transfer pushes before it commits. */
struct stk {
	u64 sp, mask, base;
	u32 limit;
	u32 ar;
	bool flat;		/* 64-bit: canonical check only */
	u8 cpl;
	u32 error;		/* of #SS when it overflows */
};

/* The present stack. */
struct stk stk_current(struct x86_cpu *cpu, unsigned ext);
/* A stack in @ss at @sp for privilege level @cpl. */
struct stk stk_new(const struct x86_segment *ss, u64 sp, unsigned cpl, u32 error);
struct stk stk_new64(u64 sp, unsigned cpl, u32 error);
void stk_push(struct x86_cpu *cpu, struct stk *s, u64 val, unsigned size);
/* Write the stack pointer back, as wide as the stack is. */
void stk_commit(struct x86_cpu *cpu, const struct stk *s);
/* @size bytes at @off above the top of the present stack, which are not popped. */
u64 stk_peek(struct x86_cpu *cpu, unsigned off, unsigned size);
/* Load the stack pointer, as wide as the present SS says. */
void stk_set_sp(struct x86_cpu *cpu, u64 sp);
/* Add to the stack pointer, as wide as the stack is. */
void stk_release(struct x86_cpu *cpu, u64 bytes);

/* SS:ESP (legacy, size 2 or 4 by the TSS) of inner level @cpl from the TSS. */
void tss_inner_stack(struct x86_cpu *cpu, unsigned cpl, unsigned ext, u16 *ss, u64 *sp);
/* A 64-bit stack pointer at @offset of the TSS: RSPn or ISTn. */
u64 tss_stack64(struct x86_cpu *cpu, unsigned offset, unsigned ext);

/* ---- Transfers ---- */

/*
 * Check @sel as the target of a far JMP or CALL without a gate, or (@ret) of RET
 * and IRET. Raises; returns the descriptor and the new CPL.
 */
void far_check_cs(struct x86_cpu *cpu, u16 sel, bool ret, struct desc *d);
/* Offset beyond the limit, or non-canonical for 64-bit code: #GP(@ext). Returns it masked. */
u64 far_check_offset(struct x86_cpu *cpu, const struct desc *cs, u64 off, unsigned ext);
/* Load CS with RPL = CPL = @cpl. The caller updates SS and the mode. */
void far_load_cs(struct x86_cpu *cpu, const struct desc *d, u16 sel, unsigned cpl);
/* The SS that RET or IRET pops for outer level @cpl; null only for 64-bit code. */
void far_check_outer_ss(struct x86_cpu *cpu, const struct desc *cs, u16 sel, unsigned cpl,
			struct desc *ss);
/* Commit a return that pops SS too: CS, SS, stack pointer, data segments. */
void far_return_outer(struct x86_cpu *cpu, struct desc *cs, u16 sel, struct desc *ss, u16 ss_sel,
		      u64 sp);
/* A transfer is complete: go on at @rip. */
static inline void far_goto(struct x86_cpu *cpu, u64 rip)
{
	cpu->gpr[X86_REG_NEXT_RIP] = rip;
}

/* Hardware task switch to the TSS @sel; @rip is saved in the old one. task.c */
void task_switch(struct x86_cpu *cpu, u16 sel, unsigned reason, bool has_error, u32 error,
		 u64 rip, unsigned ext);

/* ---- Debug: debug.c ---- */
/* #DB has been generated with these DR6 bits: registers as its delivery finds them. */
void debug_enter(struct x86_cpu *cpu, u64 dr6);

#endif
