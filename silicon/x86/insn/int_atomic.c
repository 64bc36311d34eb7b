/* SPDX-License-Identifier: MIT */
/* XCHG XADD CMPXCHG CMPXCHG8B CMPXCHG16B: real host atomics under LOCK. */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/insn/int.h"

/* ---- XCHG: with memory always locked ---- */

static __inline_all void xchg_r(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u64 a = get_reg(cpu, op->rm, size), b = get_reg(cpu, op->reg, size);

	set_reg(cpu, op->rm, b, size);
	set_reg(cpu, op->reg, a, size);
}

static __inline_all void xchg_m(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u64 v = get_reg(cpu, op->reg, size);
	struct x86_rmw m;

	rmw_mem(cpu, op, &m, size);
	while (!x86_rmw_cmpxchg(cpu, &m, v))
		;
	set_reg(cpu, op->reg, m.old, size);
}

/* ---- XADD: the destination wins if both operands are the same register ---- */

static __inline_all void xadd_r(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u64 a = get_reg(cpu, op->rm, size), b = get_reg(cpu, op->reg, size);

	x86_flags_add(cpu, a, b, a + b, size);
	set_reg(cpu, op->reg, a, size);
	set_reg(cpu, op->rm, a + b, size);
}

static __inline_all void xadd_m(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u64 b = get_reg(cpu, op->reg, size);
	struct x86_rmw m;

	rmw_mem(cpu, op, &m, size);
	if (op->flags & X86_OP_LOCK)
		while (!x86_rmw_cmpxchg(cpu, &m, trunc_to(m.old + b, size)))
			;
	else
		x86_rmw_write(cpu, &m, m.old + b);
	x86_flags_add(cpu, m.old, b, m.old + b, size);
	set_reg(cpu, op->reg, m.old, size);
}

/*
 * CMPXCHG. A 32-bit register that is not replaced keeps its upper half: the
 * accumulator on success, the destination on failure.
 */
static __inline_all void cmpxchg_r(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u64 acc = get_reg(cpu, X86_RAX, size), a = get_reg(cpu, op->rm, size);

	if (acc == a)
		set_reg(cpu, op->rm, get_reg(cpu, op->reg, size), size);
	else
		set_reg(cpu, X86_RAX, a, size);
	x86_flags_sub(cpu, acc, a, acc - a, size);
}

/* Failing, it still writes: the old value. */
static __inline_all void cmpxchg_m(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u64 acc = get_reg(cpu, X86_RAX, size), v = get_reg(cpu, op->reg, size);
	struct x86_rmw m;

	rmw_mem(cpu, op, &m, size);
	if (op->flags & X86_OP_LOCK)
		while (!x86_rmw_cmpxchg(cpu, &m, m.old == acc ? v : m.old))
			;
	else
		x86_rmw_write(cpu, &m, m.old == acc ? v : m.old);
	if (m.old != acc)
		set_reg(cpu, X86_RAX, m.old, size);
	x86_flags_sub(cpu, acc, m.old, acc - m.old, size);
}

#define SIZE(f, n) \
	static void f##_r_##n(struct x86_cpu *cpu, const struct x86_op *op) { f##_r(cpu, op, n); } \
	static void f##_m_##n(struct x86_cpu *cpu, const struct x86_op *op) { f##_m(cpu, op, n); }
#define SEL_RM(f) \
	SIZE(f, 1) SIZE(f, 2) SIZE(f, 4) SIZE(f, 8) \
	x86_fn *x86_sel_##f(const struct x86_dec *d, struct x86_op *op) \
	{ \
		static x86_fn *const r[4] = HANDLERS(f##_r), *const m[4] = HANDLERS(f##_m); \
		return by_size(op->flags & X86_OP_MEM ? m : r, op->osize); \
	}
/* 90..97 exchange with the accumulator: rm is 0 already. */
SEL_RM(xchg)
SEL_RM(xadd)
SEL_RM(cmpxchg)

/* ---- Double width: only ZF changes ---- */

static void set_zf(struct x86_cpu *cpu, bool zf)
{
	cpu->cc_z = !zf;
}

static void cmpxchg8b(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 want = (cpu->gpr[X86_RDX] << 32) | (u32)cpu->gpr[X86_RAX];
	u64 v = (cpu->gpr[X86_RCX] << 32) | (u32)cpu->gpr[X86_RBX];
	struct x86_rmw m;

	rmw_mem(cpu, op, &m, 8);
	if (op->flags & X86_OP_LOCK)
		while (!x86_rmw_cmpxchg(cpu, &m, m.old == want ? v : m.old))
			;
	else
		x86_rmw_write(cpu, &m, m.old == want ? v : m.old);
	if (m.old != want) {
		cpu->gpr[X86_RAX] = (u32)m.old;
		cpu->gpr[X86_RDX] = m.old >> 32;
	}
	set_zf(cpu, m.old == want);
}

static void cmpxchg16b(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 lin = x86_lin_write(cpu, op->seg, x86_ea(cpu, op), 16);
	u64 found[2] = { cpu->gpr[X86_RAX], cpu->gpr[X86_RDX] };
	const u64 v[2] = { cpu->gpr[X86_RBX], cpu->gpr[X86_RCX] };
	bool equal;

	if (lin & 15)
		x86_gp0(cpu);
	equal = x86_cmpxchg16(cpu, op->seg, lin, found, v);
	if (!equal) {
		cpu->gpr[X86_RAX] = found[0];
		cpu->gpr[X86_RDX] = found[1];
	}
	set_zf(cpu, equal);
}

x86_fn *x86_sel_cmpxchg8b(const struct x86_dec *d, struct x86_op *op) { return cmpxchg8b; }
x86_fn *x86_sel_cmpxchg16b(const struct x86_dec *d, struct x86_op *op) { return cmpxchg16b; }
