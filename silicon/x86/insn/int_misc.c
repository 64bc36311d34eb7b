/* SPDX-License-Identifier: MIT */
/* Flag bits, BOUND, cache and ordering hints, random numbers, UD. */
#include <sys/random.h>

#include "silicon/x86/decode/dec.h"
#include "silicon/x86/insn/int.h"
#include "silicon/x86/model/model.h"
#include "silicon/x86/vmx/intercept.h"

#define SEL(f) x86_fn *x86_sel_##f(const struct x86_dec *d, struct x86_op *op) { return f; }

static void clc(struct x86_cpu *cpu, const struct x86_op *op) { x86_set_cf(cpu, false); }
static void stc(struct x86_cpu *cpu, const struct x86_op *op) { x86_set_cf(cpu, true); }
static void cmc(struct x86_cpu *cpu, const struct x86_op *op) { x86_set_cf(cpu, !x86_cf(cpu)); }
static void cld(struct x86_cpu *cpu, const struct x86_op *op) { cpu->rflags &= ~RFLAGS_DF; }
static void std(struct x86_cpu *cpu, const struct x86_op *op) { cpu->rflags |= RFLAGS_DF; }
SEL(clc)
SEL(stc)
SEL(cmc)
SEL(cld)
SEL(std)

/* ---- BOUND: two adjacent signed limits ---- */

static __inline_all void bound(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u64 ea = x86_ea(cpu, op);
	u64 low_lin = x86_lin_read(cpu, op->seg, ea, size);
	u64 high_lin = x86_lin_read(cpu, op->seg, trunc_to(ea + size, op->asize), size);
	s64 index = sign_extend(cpu->gpr[op->reg], size * 8);
	s64 low = sign_extend(load_lin(cpu, op->seg, low_lin, size), size * 8);
	s64 high = sign_extend(load_lin(cpu, op->seg, high_lin, size), size * 8);

	if (index < low || index > high)
		x86_fault(cpu, X86_BR);
}
static void bound_2(struct x86_cpu *cpu, const struct x86_op *op) { bound(cpu, op, 2); }
static void bound_4(struct x86_cpu *cpu, const struct x86_op *op) { bound(cpu, op, 4); }

x86_fn *x86_sel_bound(const struct x86_dec *d, struct x86_op *op)
{
	return op->osize == 4 ? bound_4 : bound_2;
}

/* ---- Hints and ordering ---- */

static void nop(struct x86_cpu *cpu, const struct x86_op *op) { }

/* NOP with any operand, PREFETCHx: the address is never looked at. */
x86_fn *x86_sel_nop(const struct x86_dec *d, struct x86_op *op)
{
	bool reg_0d = d->insn.opcode_map == ZYDIS_OPCODE_MAP_0F && d->insn.opcode == 0x0d &&
		      !(op->flags & X86_OP_MEM);

	return reg_0d && x86_is_amd(d->cpu) ? x86_op_ud : nop;
}

/* CLFLUSH CLFLUSHOPT CLWB: caches are not modelled, but the address is translated as for a read. */
static void clflush(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_probe_read(cpu, op->seg, x86_lin_read(cpu, op->seg, x86_ea(cpu, op), 1), 1);
}
SEL(clflush)

static void fence(struct x86_cpu *cpu, const struct x86_op *op)
{
	atomic_thread_fence(memory_order_seq_cst);
}
SEL(fence)

/* ---- RDRAND RDSEED: CF = 1 with a value, else 0 with the value 0 ---- */

static void random_reg(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 v = 0;
	bool ok = getrandom(&v, sizeof(v), GRND_NONBLOCK) == sizeof(v);

	if (!ok)
		v = 0;
	if (op->osize == 2)
		set_reg(cpu, op->rm, v, 2);
	else
		set_reg(cpu, op->rm, v, op->osize == 4 ? 4 : 8);
	cpu->cc_z = 1;
	cpu->cc_s = 1;
	cpu->cc_c = x86_carry_word(ok, false, false);
}

static void rdrand(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_icpt(cpu, op, X86_ICPT_RDRAND);
	random_reg(cpu, op);
}

static void rdseed(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_icpt(cpu, op, X86_ICPT_RDSEED);
	random_reg(cpu, op);
}
SEL(rdrand)
SEL(rdseed)

/* ---- UD0 UD1 UD2 ---- */

x86_fn *x86_sel_ud(const struct x86_dec *d, struct x86_op *op)
{
	return x86_op_ud;
}
