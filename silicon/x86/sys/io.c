/* SPDX-License-Identifier: MIT */
/*
 * Ports: permission, the port itself, IN OUT INS OUTS.
 * SDM vol. 1 "I/O Privilege Level", "I/O Permission Bit Map"; vol. 2A "IN", "INS".
 */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/sys/sys_priv.h"

void x86_check_io(struct x86_cpu *cpu, u16 port, unsigned size)
{
	const struct x86_segment *tr = &cpu->seg[X86_TR];
	u64 mask = x86_lma(cpu) ? ~0ull : 0xffffffff, bits;
	unsigned map;

	if (!(cpu->cr0 & CR0_PE))
		return;
	/* VM86 goes by the map alone. */
	if (cpu->mode != X86_MODE_VM86 && cpu->cpl <= flags_iopl(cpu))
		return;
	if ((tr->ar & X86_AR_UNUSABLE) || (tr->ar & X86_AR_TYPE) < TYPE_TSS_AVAIL || tr->limit < 103)
		x86_gp0(cpu);
	map = (unsigned)x86_sys_load(cpu, (tr->base + 102) & mask, 2);
	/* Two bytes are read wherever the bits lie: the map ends with a byte of ones. */
	if (map + port / 8 + 1 > tr->limit)
		x86_gp0(cpu);
	bits = x86_sys_load(cpu, (tr->base + map + port / 8) & mask, 2);
	if (bits >> port % 8 & ((1u << size) - 1))
		x86_gp0(cpu);
}

static void bus_result(struct x86_cpu *cpu, enum x86_bus_result r)
{
	if (r == X86_BUS_RETRY)
		x86_unwind(cpu, X86_UNWIND_BUS_RETRY);
	if (r != X86_BUS_OK)
		x86_unwind(cpu, X86_UNWIND_BUS_FAIL);
}

/* Nothing answers on a floating bus: all ones. */
u32 x86_port_in(struct x86_cpu *cpu, u16 port, unsigned size)
{
	u32 val = 0xffffffffu >> (32 - 8 * size);

	if (cpu->bus)
		bus_result(cpu, cpu->bus->in(cpu->bus_ctx, port, size, &val));
	return val;
}

void x86_port_out(struct x86_cpu *cpu, u16 port, unsigned size, u32 val)
{
	if (cpu->bus)
		bus_result(cpu, cpu->bus->out(cpu->bus_ctx, port, size, val));
}

/* ---- IN OUT ---- */

static u16 port_of(const struct x86_cpu *cpu, const struct x86_op *op)
{
	return op->imm2 ? (u8)op->imm : (u16)cpu->gpr[X86_RDX];
}

static void op_in(struct x86_cpu *cpu, const struct x86_op *op)
{
	u16 port = port_of(cpu, op);
	u32 v;

	x86_check_io(cpu, port, op->osize);
	x86_icpt_io(cpu, op, port, op->osize, true, false, op->imm2, 0);
	x86_check_io_watchpoint(cpu, port, op->osize);
	v = x86_port_in(cpu, port, op->osize);
	if (op->osize == 1)
		*x86_reg8(cpu, X86_RAX) = (u8)v;
	else
		set_gpr(cpu, X86_RAX, v, op->osize);
}

static void op_out(struct x86_cpu *cpu, const struct x86_op *op)
{
	u16 port = port_of(cpu, op);
	u32 v = (u32)cpu->gpr[X86_RAX] & (0xffffffffu >> (32 - 8 * op->osize));

	x86_check_io(cpu, port, op->osize);
	x86_icpt_io(cpu, op, port, op->osize, false, false, op->imm2, 0);
	x86_check_io_watchpoint(cpu, port, op->osize);
	x86_port_out(cpu, port, op->osize, v);
}

/* imm2 tells the form with an immediate port. There are no 64-bit ports. */
static void port_operands(const struct x86_dec *d, struct x86_op *op, bool in)
{
	const ZydisDecodedOperand *data = &d->operands[in ? 0 : 1], *port = &d->operands[in ? 1 : 0];

	op->osize = (u8)(data->size == 64 ? 4 : data->size / 8);
	op->imm2 = port->type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
}

x86_fn *x86_sel_in(const struct x86_dec *d, struct x86_op *op)
{
	port_operands(d, op, true);
	return op_in;
}

x86_fn *x86_sel_out(const struct x86_dec *d, struct x86_op *op)
{
	port_operands(d, op, false);
	return op_out;
}

/* ---- INS OUTS ---- */

static u64 trim(u64 v, unsigned asize)
{
	return asize == 8 ? v : asize == 4 ? (u32)v : (u16)v;
}

static void advance(struct x86_cpu *cpu, const struct x86_op *op, unsigned reg)
{
	u64 step = cpu->rflags & RFLAGS_DF ? -(u64)op->osize : op->osize;

	set_gpr(cpu, reg, cpu->gpr[reg] + step, op->asize);
}

static void store_sized(struct x86_cpu *cpu, u64 lin, u32 v, unsigned size)
{
	switch (size) {
	case 1:
		x86_store8(cpu, X86_ES, lin, (u8)v);
		break;
	case 2:
		x86_store16(cpu, X86_ES, lin, (u16)v);
		break;
	default:
		x86_store32(cpu, X86_ES, lin, v);
		break;
	}
}

static u32 load_sized(struct x86_cpu *cpu, unsigned seg, u64 lin, unsigned size)
{
	switch (size) {
	case 1: return x86_load8(cpu, seg, lin);
	case 2: return x86_load16(cpu, seg, lin);
	default: return x86_load32(cpu, seg, lin);
	}
}

/* The destination is checked before the port is read: data must not get lost. */
static void ins_once(struct x86_cpu *cpu, const struct x86_op *op, u16 port)
{
	u64 ea = trim(cpu->gpr[X86_RDI], op->asize), lin;

	x86_icpt_io(cpu, op, port, op->osize, true, true, false, cpu->seg_base[X86_ES] + ea);
	lin = x86_lin_write(cpu, X86_ES, ea, op->osize);
	x86_probe_write(cpu, X86_ES, lin, op->osize);
	x86_check_io_watchpoint(cpu, port, op->osize);
	store_sized(cpu, lin, x86_port_in(cpu, port, op->osize), op->osize);
	advance(cpu, op, X86_RDI);
}

static void outs_once(struct x86_cpu *cpu, const struct x86_op *op, u16 port)
{
	u64 ea = trim(cpu->gpr[X86_RSI], op->asize), lin;
	u32 v;

	x86_icpt_io(cpu, op, port, op->osize, false, true, false, cpu->seg_base[op->seg] + ea);
	lin = x86_lin_read(cpu, op->seg, ea, op->osize);
	v = load_sized(cpu, op->seg, lin, op->osize);
	x86_check_io_watchpoint(cpu, port, op->osize);
	x86_port_out(cpu, port, op->osize, v);
	advance(cpu, op, X86_RSI);
}

/* An iteration is done and more follow, but something waits: come back to the same RIP. */
static void leave_rep(struct x86_cpu *cpu)
{
	cpu->insn_partial++;
	cpu->rflags |= RFLAGS_RF;
	cpu->slow = (cpu->slow | X86_SLOW_RF) & ~((u32)X86_SLOW_RF << X86_SLOW_START_SHIFT);
	cpu->gpr[X86_REG_NEXT_RIP] = cpu->rip;
}

static void string_io(struct x86_cpu *cpu, const struct x86_op *op,
		      void (*once)(struct x86_cpu *, const struct x86_op *, u16))
{
	bool rep = op->flags & (X86_OP_REP | X86_OP_REPNE);
	u16 port = (u16)cpu->gpr[X86_RDX];

	if (rep && !trim(cpu->gpr[X86_RCX], op->asize))
		return;
	x86_check_io(cpu, port, op->osize);
	for (;;) {
		once(cpu, op, port);
		if (!rep)
			return;
		set_gpr(cpu, X86_RCX, cpu->gpr[X86_RCX] - 1, op->asize);
		if (!trim(cpu->gpr[X86_RCX], op->asize))
			return;
		/* A bus that asks for a retry must find one element at most done. */
		if (cpu->slow || cpu->bus ||
		    atomic_load_explicit(&cpu->events, memory_order_relaxed)) {
			leave_rep(cpu);
			return;
		}
	}
}

static void op_ins(struct x86_cpu *cpu, const struct x86_op *op) { string_io(cpu, op, ins_once); }
static void op_outs(struct x86_cpu *cpu, const struct x86_op *op) { string_io(cpu, op, outs_once); }

static void string_size(const struct x86_dec *d, struct x86_op *op)
{
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_INSB: case ZYDIS_MNEMONIC_OUTSB:
		op->osize = 1;
		break;
	case ZYDIS_MNEMONIC_INSW: case ZYDIS_MNEMONIC_OUTSW:
		op->osize = 2;
		break;
	default:
		op->osize = 4;
		break;
	}
}

x86_fn *x86_sel_ins(const struct x86_dec *d, struct x86_op *op)
{
	string_size(d, op);
	return op_ins;
}

x86_fn *x86_sel_outs(const struct x86_dec *d, struct x86_op *op)
{
	string_size(d, op);
	return op_outs;
}
