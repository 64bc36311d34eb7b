/* SPDX-License-Identifier: MIT */
/*
 * What the integer instructions share: operands by width. @size is a constant
 * 1, 2, 4 or 8 at every use, so that each handler compiles to its width alone.
 * Values are carried zero-extended in u64.
 */
#ifndef SILICON_X86_INSN_INT_H
#define SILICON_X86_INSN_INT_H

#include "silicon/x86/fault.h"
#include "silicon/x86/flags.h"
#include "silicon/x86/mmu/mem.h"
#include "silicon/x86/op.h"
#include "silicon/x86/sys/sys.h"

#define __inline_all inline __attribute__((always_inline))

static __inline_all u64 width_mask(unsigned size)
{
	return ~0ull >> (64 - size * 8);
}

static __inline_all u64 trunc_to(u64 v, unsigned size)
{
	return v & width_mask(size);
}

static __inline_all u64 get_reg(struct x86_cpu *cpu, unsigned r, unsigned size)
{
	return size == 1 ? *x86_reg8(cpu, r) : trunc_to(cpu->gpr[r], size);
}

/* 32-bit results are zero-extended, 8- and 16-bit results leave the rest. */
static __inline_all void set_reg(struct x86_cpu *cpu, unsigned r, u64 v, unsigned size)
{
	switch (size) {
	case 1:
		*x86_reg8(cpu, r) = (u8)v;
		break;
	case 2:
		*(u16 *)&cpu->gpr[r] = (u16)v;
		break;
	case 4:
		cpu->gpr[r] = (u32)v;
		break;
	default:
		cpu->gpr[r] = v;
	}
}

static __inline_all u64 load_lin(struct x86_cpu *cpu, unsigned seg, u64 lin, unsigned size)
{
	switch (size) {
	case 1: return x86_load8(cpu, seg, lin);
	case 2: return x86_load16(cpu, seg, lin);
	case 4: return x86_load32(cpu, seg, lin);
	default: return x86_load64(cpu, seg, lin);
	}
}

static __inline_all void store_lin(struct x86_cpu *cpu, unsigned seg, u64 lin, u64 v, unsigned size)
{
	switch (size) {
	case 1: x86_store8(cpu, seg, lin, (u8)v); break;
	case 2: x86_store16(cpu, seg, lin, (u16)v); break;
	case 4: x86_store32(cpu, seg, lin, (u32)v); break;
	default: x86_store64(cpu, seg, lin, v);
	}
}

static __inline_all u64 flat_ea(const struct x86_cpu *cpu, const struct x86_op *op)
{
	return cpu->gpr[op->base] + (cpu->gpr[op->index] << op->scale) + (u64)(s64)op->disp;
}

/* Linear address of the ModRM memory operand. */
static __inline_all u64 lin_read(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	if (likely(op->flags & X86_OP_FLAT))
		return flat_ea(cpu, op);
	return x86_lin_read(cpu, op->seg, x86_ea(cpu, op), size);
}

static __inline_all u64 lin_write(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	if (likely(op->flags & X86_OP_FLAT))
		return flat_ea(cpu, op);
	return x86_lin_write(cpu, op->seg, x86_ea(cpu, op), size);
}

static __inline_all u64 load_mem(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	return load_lin(cpu, op->seg, lin_read(cpu, op, size), size);
}

static __inline_all void store_mem(struct x86_cpu *cpu, const struct x86_op *op, u64 v, unsigned size)
{
	store_lin(cpu, op->seg, lin_write(cpu, op, size), v, size);
}

static __inline_all u64 rmw_mem(struct x86_cpu *cpu, const struct x86_op *op, struct x86_rmw *m,
				unsigned size)
{
	return x86_rmw(cpu, m, op->seg, lin_write(cpu, op, size), size);
}

/* ModRM.rm, register or memory. */
static __inline_all u64 get_rm(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	return op->flags & X86_OP_MEM ? load_mem(cpu, op, size) : get_reg(cpu, op->rm, size);
}

static __inline_all void set_rm(struct x86_cpu *cpu, const struct x86_op *op, u64 v, unsigned size)
{
	if (op->flags & X86_OP_MEM)
		store_mem(cpu, op, v, size);
	else
		set_reg(cpu, op->rm, v, size);
}

static __inline_all bool msb(u64 v, unsigned size)
{
	return v >> (size * 8 - 1) & 1;
}

/* The condition of Jcc, SETcc, CMOVcc: SDM vol. 1 appendix B. */
static __inline_all bool condition(const struct x86_cpu *cpu, unsigned cc)
{
	bool r;

	switch (cc >> 1) {
	case 0: r = x86_of(cpu); break;
	case 1: r = x86_cf(cpu); break;
	case 2: r = x86_zf(cpu); break;
	case 3: r = x86_cf(cpu) | x86_zf(cpu); break;
	case 4: r = x86_sf(cpu); break;
	case 5: r = x86_pf(cpu); break;
	case 6: r = x86_sf(cpu) != x86_of(cpu); break;
	default: r = x86_zf(cpu) | (x86_sf(cpu) != x86_of(cpu));
	}
	return r ^ (cc & 1);
}

/* One handler per width: HANDLERS(f) gives { f_1, f_2, f_4, f_8 }, found by by_size(). */
#define HANDLERS(f) { f##_1, f##_2, f##_4, f##_8 }

static inline x86_fn *by_size(x86_fn *const fn[4], unsigned size)
{
	return fn[size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : 3];
}

/* Stack pointer and its image after an access of @n bytes. */
static __inline_all void set_sp(struct x86_cpu *cpu, u64 sp)
{
	if (likely(cpu->sp_mask == ~0ull))
		cpu->gpr[X86_RSP] = sp;
	else if (cpu->sp_mask == 0xffff)
		*(u16 *)&cpu->gpr[X86_RSP] = (u16)sp;
	else
		cpu->gpr[X86_RSP] = (u32)sp;
}

/* Push without moving RSP yet: returns the new one for set_sp(). */
static __inline_all u64 push_at(struct x86_cpu *cpu, u64 sp, u64 v, unsigned size)
{
	sp = (sp - size) & cpu->sp_mask;
	store_lin(cpu, X86_SS, x86_lin_write(cpu, X86_SS, sp, size), v, size);
	return sp;
}

static __inline_all u64 load_stack(struct x86_cpu *cpu, u64 sp, unsigned size)
{
	return load_lin(cpu, X86_SS, x86_lin_read(cpu, X86_SS, sp & cpu->sp_mask, size), size);
}

#endif
