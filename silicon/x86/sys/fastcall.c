/* SPDX-License-Identifier: MIT */
/*
 * SYSCALL SYSRET SYSENTER SYSEXIT, SWAPGS, and FS/GS base instructions. Vendors
 * differ in modes and checks.
 * SDM vol. 2B, APM vol. 3 under the names of the instructions.
 */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/sys/sys_priv.h"

#define TYPE_FLAT_CODE (AR_CODE | AR_READABLE | AR_ACCESSED)
#define TYPE_FLAT_DATA (AR_WRITABLE | AR_ACCESSED)
#define SYSRET_FLAGS 0x3c7fd7ull

static void load_flat_cs(struct x86_cpu *cpu, u16 sel, unsigned cpl, bool l)
{
	seg_load_flat(cpu, X86_CS, sel, TYPE_FLAT_CODE, cpl, l);
	cpu->cpl = (u8)cpl;
}

static void load_flat_ss(struct x86_cpu *cpu, u16 sel, unsigned cpl)
{
	seg_load_flat(cpu, X86_SS, sel, TYPE_FLAT_DATA, cpl, false);
}

/* Of a call that clears TF no trap follows. */
static void obey_new_tf(struct x86_cpu *cpu)
{
	if (!(cpu->rflags & RFLAGS_TF))
		cpu->slow &= ~((u32)X86_SLOW_TF << X86_SLOW_START_SHIFT);
}

static void check_sce(struct x86_cpu *cpu)
{
	/* Intel knows the pair in 64-bit mode only. */
	if (!(cpu->efer & EFER_SCE) || cpu->mode == X86_MODE_REAL ||
	    (!x86_in_64(cpu) && !x86_is_amd(cpu)))
		x86_ud(cpu);
}

static void op_syscall(struct x86_cpu *cpu, const struct x86_op *op)
{
	u16 sel = (u16)(cpu->star >> 32) & 0xfffc;
	u64 next = cpu->gpr[X86_REG_NEXT_RIP] & cpu->ip_mask, flags, target;
	bool lma = x86_lma(cpu);

	check_sce(cpu);
	flags = x86_get_rflags(cpu) & ~RFLAGS_RF;
	if (lma) {
		target = x86_in_64(cpu) ? cpu->lstar : cpu->cstar;
		cpu->gpr[X86_RCX] = next;
		cpu->gpr[X86_R11] = flags;
		flags &= ~cpu->fmask;
	} else {
		target = (u32)cpu->star;
		cpu->gpr[X86_RCX] = (u32)next;
		flags &= ~(RFLAGS_VM | RFLAGS_IF);
	}
	x86_set_rflags(cpu, flags);
	obey_new_tf(cpu);
	load_flat_cs(cpu, sel, 0, lma);
	load_flat_ss(cpu, (u16)(sel + 8), 0);
	x86_update_mode(cpu);
	far_goto(cpu, target);
}

static void op_sysret(struct x86_cpu *cpu, const struct x86_op *op)
{
	u16 sel = (u16)(cpu->star >> 48);
	bool to64 = op->flags & X86_OP_REXW;
	u64 target = to64 ? cpu->gpr[X86_RCX] : (u32)cpu->gpr[X86_RCX];

	check_sce(cpu);
	need_cpl0(cpu);
	/* Intel checks before the privilege is gone, AMD at the fetch. */
	if (to64 && !x86_is_amd(cpu) && !x86_canonical(cpu, target))
		x86_gp0(cpu);
	if (x86_in_64(cpu))
		x86_set_rflags(cpu, (cpu->gpr[X86_R11] & SYSRET_FLAGS) | RFLAGS_1);
	else
		x86_set_rflags(cpu, (x86_get_rflags(cpu) & ~RFLAGS_RF) | RFLAGS_IF);
	/* A TF that this sets traps at once, not after the next instruction. */
	cpu->slow &= ~((u32)X86_SLOW_TF << X86_SLOW_START_SHIFT);
	if (cpu->rflags & RFLAGS_TF) {
		cpu->pending_db |= DR6_BS;
		cpu->slow |= X86_SLOW_DB_PENDING;
	}
	load_flat_cs(cpu, (u16)((to64 ? sel + 16 : sel) | 3), 3, to64);
	if (x86_is_amd(cpu)) {
		/* The hidden part stays, but for the DPL, in which our state keeps the CPL. */
		cpu->seg[X86_SS].sel = (u16)((sel + 8) | 3);
		cpu->seg[X86_SS].ar |= 3u << X86_AR_DPL_SHIFT;
	} else {
		load_flat_ss(cpu, (u16)((sel + 8) | 3), 3);
	}
	x86_update_mode(cpu);
	far_goto(cpu, target);
}

static void check_sysenter(struct x86_cpu *cpu)
{
	if (x86_is_amd(cpu) && x86_lma(cpu))
		x86_ud(cpu);
	if (cpu->mode == X86_MODE_REAL || !(cpu->sysenter_cs & 0xfffc))
		x86_gp0(cpu);
}

static void op_sysenter(struct x86_cpu *cpu, const struct x86_op *op)
{
	u16 sel = (u16)cpu->sysenter_cs & 0xfffc;
	bool lma = x86_lma(cpu);

	check_sysenter(cpu);
	x86_set_rflags(cpu, x86_get_rflags(cpu) & ~(RFLAGS_VM | RFLAGS_IF | RFLAGS_RF));
	load_flat_cs(cpu, sel, 0, lma);
	load_flat_ss(cpu, (u16)(sel + 8), 0);
	x86_update_mode(cpu);
	cpu->gpr[X86_RSP] = lma ? cpu->sysenter_esp : (u32)cpu->sysenter_esp;
	far_goto(cpu, lma ? cpu->sysenter_eip : (u32)cpu->sysenter_eip);
}

static void op_sysexit(struct x86_cpu *cpu, const struct x86_op *op)
{
	u16 sel = (u16)cpu->sysenter_cs & 0xfffc;
	bool to64 = op->flags & X86_OP_REXW;
	u64 rip = cpu->gpr[X86_RDX], rsp = cpu->gpr[X86_RCX];

	check_sysenter(cpu);
	need_cpl0(cpu);
	if (to64 && (!x86_canonical(cpu, rip) || !x86_canonical(cpu, rsp)))
		x86_gp0(cpu);
	load_flat_cs(cpu, (u16)((sel + (to64 ? 32 : 16)) | 3), 3, to64);
	load_flat_ss(cpu, (u16)((sel + (to64 ? 40 : 24)) | 3), 3);
	x86_update_mode(cpu);
	cpu->gpr[X86_RSP] = to64 ? rsp : (u32)rsp;
	far_goto(cpu, to64 ? rip : (u32)rip);
}

x86_fn *x86_sel_syscall(const struct x86_dec *d, struct x86_op *op) { return op_syscall; }
x86_fn *x86_sel_sysret(const struct x86_dec *d, struct x86_op *op) { return op_sysret; }
x86_fn *x86_sel_sysenter(const struct x86_dec *d, struct x86_op *op) { return op_sysenter; }
x86_fn *x86_sel_sysexit(const struct x86_dec *d, struct x86_op *op) { return op_sysexit; }

/* ---- FS and GS ---- */

static void set_seg_base(struct x86_cpu *cpu, unsigned seg, u64 base)
{
	cpu->seg[seg].base = base;
	cpu->seg_base[seg] = base;
}

static void op_swapgs(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 old = cpu->seg[X86_GS].base;

	need_cpl0(cpu);
	set_seg_base(cpu, X86_GS, cpu->kernel_gs_base);
	cpu->kernel_gs_base = old;
}

static void check_fsgsbase(struct x86_cpu *cpu)
{
	if (!(cpu->cr4 & CR4_FSGSBASE))
		x86_ud(cpu);
}

static void read_base(struct x86_cpu *cpu, const struct x86_op *op, unsigned seg)
{
	check_fsgsbase(cpu);
	set_gpr(cpu, op->rm, cpu->seg[seg].base, op->osize);
}

static void write_base(struct x86_cpu *cpu, const struct x86_op *op, unsigned seg)
{
	u64 v = op->osize == 8 ? cpu->gpr[op->rm] : (u32)cpu->gpr[op->rm];

	check_fsgsbase(cpu);
	if (!x86_canonical_max(cpu, v))
		x86_gp0(cpu);
	set_seg_base(cpu, seg, v);
}

static void op_rdfsbase(struct x86_cpu *cpu, const struct x86_op *op) { read_base(cpu, op, X86_FS); }
static void op_rdgsbase(struct x86_cpu *cpu, const struct x86_op *op) { read_base(cpu, op, X86_GS); }
static void op_wrfsbase(struct x86_cpu *cpu, const struct x86_op *op) { write_base(cpu, op, X86_FS); }
static void op_wrgsbase(struct x86_cpu *cpu, const struct x86_op *op) { write_base(cpu, op, X86_GS); }

/* 66 means nothing to these: 32 bits, or 64 with REX.W. */
static x86_fn *base_insn(struct x86_op *op, x86_fn *fn)
{
	op->osize = op->flags & X86_OP_REXW ? 8 : 4;
	return mid_block(op, fn);
}

x86_fn *x86_sel_swapgs(const struct x86_dec *d, struct x86_op *op)
{
	return mid_block(op, op_swapgs);
}

x86_fn *x86_sel_rdfsbase(const struct x86_dec *d, struct x86_op *op)
{
	return base_insn(op, op_rdfsbase);
}

x86_fn *x86_sel_rdgsbase(const struct x86_dec *d, struct x86_op *op)
{
	return base_insn(op, op_rdgsbase);
}

x86_fn *x86_sel_wrfsbase(const struct x86_dec *d, struct x86_op *op)
{
	return base_insn(op, op_wrfsbase);
}

x86_fn *x86_sel_wrgsbase(const struct x86_dec *d, struct x86_op *op)
{
	return base_insn(op, op_wrgsbase);
}
