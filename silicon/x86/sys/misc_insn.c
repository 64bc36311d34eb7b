/* SPDX-License-Identifier: MIT */
/*
 * System instructions that touch one thing each: CPUID, MSRs, TSC, HLT, flags that
 * matter to the system, TLB and cache control, protection keys, INT.
 * SDM vol. 2 under their names.
 */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/sys/sys_priv.h"

/* #UD whatever the state: outside SMM, or without SMX. */
x86_fn *x86_sel_never(const struct x86_dec *d, struct x86_op *op) { return x86_op_ud; }

/* ---- CPUID, MSRs, counters ---- */

static void set_pair(struct x86_cpu *cpu, u64 v)
{
	cpu->gpr[X86_RAX] = (u32)v;
	cpu->gpr[X86_RDX] = v >> 32;
}

static void op_cpuid(struct x86_cpu *cpu, const struct x86_op *op)
{
	u32 out[4];

	x86_icpt(cpu, op, X86_ICPT_CPUID);
	x86_cpuid(cpu, (u32)cpu->gpr[X86_RAX], (u32)cpu->gpr[X86_RCX], out);
	cpu->gpr[X86_RAX] = out[0];
	cpu->gpr[X86_RBX] = out[1];
	cpu->gpr[X86_RCX] = out[2];
	cpu->gpr[X86_RDX] = out[3];
}

/* What the bus of an emulating processor answered about an MSR. */
static void check_bus_msr(struct x86_cpu *cpu, int r)
{
	if (r == 0)
		return;
	if (r == 1)
		x86_gp0(cpu);
	x86_unwind(cpu, r == -X86_BUS_RETRY ? X86_UNWIND_BUS_RETRY : X86_UNWIND_BUS_FAIL);
}

static void op_rdmsr(struct x86_cpu *cpu, const struct x86_op *op)
{
	u32 msr = (u32)cpu->gpr[X86_RCX];
	u64 v = 0;

	need_cpl0(cpu);
	if (!x86_icpt_rdmsr(cpu, op, msr, &v)) {
		if (cpu->bus)
			check_bus_msr(cpu, cpu->bus->rdmsr(cpu->bus_ctx, msr, &v));
		else if (!x86_msr_read(cpu, msr, &v))
			x86_gp0(cpu);
	}
	set_pair(cpu, v);
}

static void op_wrmsr(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 v = (u32)cpu->gpr[X86_RAX] | cpu->gpr[X86_RDX] << 32;
	u32 msr = (u32)cpu->gpr[X86_RCX];

	need_cpl0(cpu);
	if (x86_icpt_wrmsr(cpu, op, msr, v))
		return;
	if (cpu->bus)
		check_bus_msr(cpu, cpu->bus->wrmsr(cpu->bus_ctx, msr, v));
	else if (!x86_msr_write(cpu, msr, v))
		x86_gp0(cpu);
}

static void check_tsd(struct x86_cpu *cpu)
{
	if (cpu->cpl && (cpu->cr4 & CR4_TSD))
		x86_gp0(cpu);
}

static void op_rdtsc(struct x86_cpu *cpu, const struct x86_op *op)
{
	check_tsd(cpu);
	x86_icpt(cpu, op, X86_ICPT_RDTSC);
	set_pair(cpu, x86_vmx_tsc(cpu));
}

static void op_rdtscp(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_icpt_enabled(cpu, X86_ICPT_RDTSCP);
	check_tsd(cpu);
	x86_icpt(cpu, op, X86_ICPT_RDTSCP);
	set_pair(cpu, x86_vmx_tsc(cpu));
	cpu->gpr[X86_RCX] = (u32)cpu->tsc_aux;
}

/* Enabled by the control of RDTSCP, but never exits. */
static void op_rdpid(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_icpt_enabled(cpu, X86_ICPT_RDTSCP);
	cpu->gpr[op->rm] = (u32)cpu->tsc_aux;
}

static void op_rdpmc(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 v;

	if (cpu->cpl && !(cpu->cr4 & CR4_PCE))
		x86_gp0(cpu);
	x86_icpt(cpu, op, X86_ICPT_RDPMC);
	if (!x86_pmu_rdpmc(cpu, (u32)cpu->gpr[X86_RCX], &v))
		x86_gp0(cpu);
	set_pair(cpu, v);
}

x86_fn *x86_sel_cpuid(const struct x86_dec *d, struct x86_op *op) { return op_cpuid; }
x86_fn *x86_sel_rdmsr(const struct x86_dec *d, struct x86_op *op) { return mid_block(op, op_rdmsr); }
x86_fn *x86_sel_wrmsr(const struct x86_dec *d, struct x86_op *op) { return op_wrmsr; }
x86_fn *x86_sel_rdtsc(const struct x86_dec *d, struct x86_op *op) { return mid_block(op, op_rdtsc); }
x86_fn *x86_sel_rdtscp(const struct x86_dec *d, struct x86_op *op) { return mid_block(op, op_rdtscp); }
x86_fn *x86_sel_rdpid(const struct x86_dec *d, struct x86_op *op) { return mid_block(op, op_rdpid); }
x86_fn *x86_sel_rdpmc(const struct x86_dec *d, struct x86_op *op) { return op_rdpmc; }

/* ---- HLT, PAUSE, caches ---- */

static void op_hlt(struct x86_cpu *cpu, const struct x86_op *op)
{
	need_cpl0(cpu);
	x86_icpt(cpu, op, X86_ICPT_HLT);
	cpu->activity = X86_ACT_HLT;
	cpu->slow |= X86_SLOW_HALTED;
}

static void op_pause(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_icpt(cpu, op, X86_ICPT_PAUSE);
	__builtin_ia32_pause();
}

/*
 * SDM "MONITOR", "MWAIT": CPL > 0 is #UD. The monitored line is translated like a
 * load. Nothing is armed, and MWAIT ends at once, which the manual allows.
 */
static void op_monitor(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 ea = cpu->gpr[X86_RAX];

	if (cpu->cpl)
		x86_ud(cpu);
	x86_icpt(cpu, op, X86_ICPT_MONITOR);
	if ((u32)cpu->gpr[X86_RCX])
		x86_gp0(cpu);
	ea = op->asize == 8 ? ea : op->asize == 4 ? (u32)ea : (u16)ea;
	x86_probe_read(cpu, op->seg, x86_lin_read(cpu, op->seg, ea, 1), 1);
}

static void op_mwait(struct x86_cpu *cpu, const struct x86_op *op)
{
	if (cpu->cpl)
		x86_ud(cpu);
	x86_icpt(cpu, op, X86_ICPT_MWAIT);
	/* Bit 0, masked interrupts as break events, is the one extension of leaf 5. */
	if (cpu->gpr[X86_RCX] & ~1ull)
		x86_gp0(cpu);
	__builtin_ia32_pause();
}

/* Simulated caches are always coherent: nothing to write back or to lose. */
static void op_wbinvd(struct x86_cpu *cpu, const struct x86_op *op)
{
	need_cpl0(cpu);
	x86_icpt(cpu, op, X86_ICPT_WBINVD);
}

static void op_invd(struct x86_cpu *cpu, const struct x86_op *op)
{
	need_cpl0(cpu);
	x86_icpt(cpu, op, X86_ICPT_INVD);
}

x86_fn *x86_sel_hlt(const struct x86_dec *d, struct x86_op *op) { return op_hlt; }
x86_fn *x86_sel_monitor(const struct x86_dec *d, struct x86_op *op) { return op_monitor; }
x86_fn *x86_sel_pause(const struct x86_dec *d, struct x86_op *op)
{
	return mid_block(op, op_pause);
}
x86_fn *x86_sel_mwait(const struct x86_dec *d, struct x86_op *op) { return op_mwait; }
x86_fn *x86_sel_wbinvd(const struct x86_dec *d, struct x86_op *op) { return op_wbinvd; }
x86_fn *x86_sel_invd(const struct x86_dec *d, struct x86_op *op) { return op_invd; }

/* ---- IF, VIF, AC ---- */

/* Which flag CLI and STI change here: IF, or VIF under VME and PVI; else #GP(0). */
static u64 interrupt_flag(struct x86_cpu *cpu)
{
	bool virtual = cpu->mode == X86_MODE_VM86 ? cpu->cr4 & CR4_VME :
		       cpu->cpl == 3 && (cpu->cr4 & CR4_PVI);

	if (!(cpu->cr0 & CR0_PE) || cpu->cpl <= flags_iopl(cpu))
		return RFLAGS_IF;
	if (!virtual)
		x86_gp0(cpu);
	return RFLAGS_VIF;
}

static void op_cli(struct x86_cpu *cpu, const struct x86_op *op)
{
	cpu->rflags &= ~interrupt_flag(cpu);
}

static void op_sti(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 flag = interrupt_flag(cpu);

	if (flag == RFLAGS_VIF && (cpu->rflags & RFLAGS_VIP))
		x86_gp0(cpu);
	if (flag == RFLAGS_IF && !(cpu->rflags & RFLAGS_IF))
		cpu->slow |= X86_SLOW_SHADOW_STI;
	cpu->rflags |= flag;
}

static void set_ac(struct x86_cpu *cpu, bool ac)
{
	if (cpu->cpl)
		x86_ud(cpu);
	cpu->rflags = (cpu->rflags & ~RFLAGS_AC) | (ac ? RFLAGS_AC : 0);
	mode_update_ac(cpu);
}

static void op_clac(struct x86_cpu *cpu, const struct x86_op *op) { set_ac(cpu, false); }
static void op_stac(struct x86_cpu *cpu, const struct x86_op *op) { set_ac(cpu, true); }

x86_fn *x86_sel_cli(const struct x86_dec *d, struct x86_op *op) { return op_cli; }
x86_fn *x86_sel_sti(const struct x86_dec *d, struct x86_op *op) { return mid_block(op, op_sti); }
x86_fn *x86_sel_clac(const struct x86_dec *d, struct x86_op *op) { return mid_block(op, op_clac); }
x86_fn *x86_sel_stac(const struct x86_dec *d, struct x86_op *op) { return mid_block(op, op_stac); }

/* ---- TLB ---- */

/* The operand is an address only: no limit, no canonical fault. */
static void op_invlpg(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 lin = (cpu->seg_base[op->seg] + x86_ea(cpu, op)) & cpu->lin_mask;

	need_cpl0(cpu);
	x86_icpt_invlpg(cpu, op, lin);
	if (x86_canonical(cpu, lin))
		x86_tlb_flush_page(cpu, lin);
}

enum { INVPCID_ADDRESS, INVPCID_PCID, INVPCID_ALL_GLOBAL, INVPCID_ALL };

static void op_invpcid(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 type = x86_in_64(cpu) ? cpu->gpr[op->reg] : (u32)cpu->gpr[op->reg];
	u64 desc[2];

	x86_icpt_enabled(cpu, X86_ICPT_INVPCID);
	need_cpl0(cpu);
	x86_icpt_invpcid(cpu, op);
	x86_load_bytes(cpu, op->seg, x86_lin_read(cpu, op->seg, x86_ea(cpu, op), 16), desc, 16);
	if (type > INVPCID_ALL || (desc[0] >> 12))
		x86_gp0(cpu);
	if (type <= INVPCID_PCID && desc[0] && !(cpu->cr4 & CR4_PCIDE))
		x86_gp0(cpu);
	switch (type) {
	case INVPCID_ADDRESS:
		if (!x86_canonical(cpu, desc[1]))
			x86_gp0(cpu);
		x86_tlb_flush_page_pcid(cpu, (u16)desc[0], desc[1]);
		break;
	case INVPCID_PCID:
		x86_tlb_flush_pcid(cpu, (u16)desc[0]);
		break;
	case INVPCID_ALL_GLOBAL:
		x86_tlb_flush_all(cpu);
		break;
	case INVPCID_ALL:
		x86_tlb_flush_nonglobal(cpu);
		break;
	}
}

x86_fn *x86_sel_invlpg(const struct x86_dec *d, struct x86_op *op)
{
	return op->flags & X86_OP_MEM ? op_invlpg : x86_op_ud;
}

x86_fn *x86_sel_invpcid(const struct x86_dec *d, struct x86_op *op)
{
	return op->flags & X86_OP_MEM ? op_invpcid : x86_op_ud;
}

/* ---- Protection keys ---- */

static void check_pkru(struct x86_cpu *cpu)
{
	if (!(cpu->cr4 & CR4_PKE))
		x86_ud(cpu);
	if ((u32)cpu->gpr[X86_RCX])
		x86_gp0(cpu);
}

static void op_rdpkru(struct x86_cpu *cpu, const struct x86_op *op)
{
	check_pkru(cpu);
	set_pair(cpu, cpu->pkru);
}

static void op_wrpkru(struct x86_cpu *cpu, const struct x86_op *op)
{
	check_pkru(cpu);
	if ((u32)cpu->gpr[X86_RDX])
		x86_gp0(cpu);
	x86_set_pkru(cpu, (u32)cpu->gpr[X86_RAX]);
}

x86_fn *x86_sel_rdpkru(const struct x86_dec *d, struct x86_op *op) { return mid_block(op, op_rdpkru); }
x86_fn *x86_sel_wrpkru(const struct x86_dec *d, struct x86_op *op) { return op_wrpkru; }

/* ---- INT ---- */

static void op_int(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_soft_int(cpu, op, (u8)op->imm, 4);
}

static void op_int1(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_soft_int(cpu, op, X86_DB, 5);
}

static void op_int3(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_soft_int(cpu, op, X86_BP, 6);
}

static void op_into(struct x86_cpu *cpu, const struct x86_op *op)
{
	if (x86_of(cpu))
		x86_soft_int(cpu, op, X86_OF, 6);
}

x86_fn *x86_sel_int(const struct x86_dec *d, struct x86_op *op) { return op_int; }
x86_fn *x86_sel_int1(const struct x86_dec *d, struct x86_op *op) { return op_int1; }
x86_fn *x86_sel_int3(const struct x86_dec *d, struct x86_op *op) { return op_int3; }
x86_fn *x86_sel_into(const struct x86_dec *d, struct x86_op *op) { return op_into; }

/* ---- Near branches ---- */

u64 x86_check_branch(struct x86_cpu *cpu, u64 rip)
{
	if (x86_in_64(cpu)) {
		if (!x86_canonical(cpu, rip))
			x86_gp0(cpu);
		return rip;
	}
	rip &= 0xffffffff;
	if (rip > cpu->seg[X86_CS].limit)
		x86_gp0(cpu);
	return rip & cpu->ip_mask;
}
