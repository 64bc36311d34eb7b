/* SPDX-License-Identifier: MIT */
/*
 * Instructions that exit: which control decides, qualification, instruction
 * length and instruction information. Control registers are in intercept_cr.c,
 * events in intercept_event.c.
 *
 * SDM vol. 3C "Instructions That Cause VM Exits", "Basic VM-Exit Information",
 * "Information for VM Exits Due to Instruction Execution".
 */
#include "silicon/x86/op.h"
#include "silicon/x86/vmx/intercept.h"
#include "silicon/x86/vmx/insn_info.h"
#include "silicon/x86/vmx/vmx_priv.h"

/* What an emulating processor asks its bus; it returns when the instruction shall execute. */
void vmx_hook(struct x86_cpu *cpu, enum x86_emul_hook hook)
{
	enum x86_bus_result r = cpu->bus->hook ? cpu->bus->hook(cpu->bus_ctx, hook) : X86_BUS_ERROR;

	switch (r) {
	case X86_BUS_OK:
		return;
	case X86_BUS_RETRY:
		x86_unwind(cpu, X86_UNWIND_BUS_RETRY);
	case X86_BUS_ERROR:
		x86_unwind(cpu, X86_UNWIND_BUS_FAIL);
	}
}

/* ---- Exits with qualification 0 ---- */

#define NO_HOOK 0xff

/* An instruction that exits if a control bit is set; both 0: always. */
static const struct icpt_rule {
	u32 proc, proc2;
	u8 reason;
	u8 hook;
} rules[] = {
	[X86_ICPT_CPUID] = { 0, 0, VMX_EXIT_CPUID, X86_HOOK_CPUID },
	[X86_ICPT_HLT] = { PROC_HLT_EXITING, 0, VMX_EXIT_HLT, X86_HOOK_HLT },
	[X86_ICPT_INVD] = { 0, 0, VMX_EXIT_INVD, X86_HOOK_WBINVD },
	[X86_ICPT_WBINVD] = { 0, PROC2_WBINVD_EXITING, VMX_EXIT_WBINVD, X86_HOOK_WBINVD },
	[X86_ICPT_RDPMC] = { PROC_RDPMC_EXITING, 0, VMX_EXIT_RDPMC, X86_HOOK_RDPMC },
	[X86_ICPT_RDTSC] = { PROC_RDTSC_EXITING, 0, VMX_EXIT_RDTSC, X86_HOOK_RDTSC },
	[X86_ICPT_RDTSCP] = { PROC_RDTSC_EXITING, 0, VMX_EXIT_RDTSCP, X86_HOOK_RDTSC },
	[X86_ICPT_RDRAND] = { 0, PROC2_RDRAND_EXITING, VMX_EXIT_RDRAND, NO_HOOK },
	[X86_ICPT_RDSEED] = { 0, PROC2_RDSEED_EXITING, VMX_EXIT_RDSEED, NO_HOOK },
	[X86_ICPT_MONITOR] = { PROC_MONITOR_EXITING, 0, VMX_EXIT_MONITOR_INSTRUCTION, X86_HOOK_MONITOR },
	[X86_ICPT_MWAIT] = { PROC_MWAIT_EXITING, 0, VMX_EXIT_MWAIT_INSTRUCTION, X86_HOOK_MONITOR },
	[X86_ICPT_XSETBV] = { 0, 0, VMX_EXIT_XSETBV, X86_HOOK_XSETBV },
};

void x86_icpt_enabled(struct x86_cpu *cpu, enum x86_intercept what)
{
	u32 need;

	if (!cpu->vmx.non_root)
		return;
	switch (what) {
	case X86_ICPT_RDTSCP:
		need = PROC2_RDTSCP;
		break;
	case X86_ICPT_INVPCID:
		need = PROC2_INVPCID;
		break;
	case X86_ICPT_XSAVES:
	case X86_ICPT_XRSTORS:
		need = PROC2_XSAVES;
		break;
	default:
		return;
	}
	if (!(cpu->vmx.proc2 & need))
		x86_ud(cpu);
}

/* SDM "PAUSE": loops are detected at CPL 0 only. */
static void icpt_pause(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct x86_vmx *x = &cpu->vmx;
	u64 now, last;

	if (x->proc & PROC_PAUSE_EXITING)
		vmx_exit_insn(cpu, op->len, VMX_EXIT_PAUSE_INSTRUCTION, 0);
	if (!(x->proc2 & PROC2_PAUSE_LOOP_EXITING) || cpu->cpl != 0)
		return;
	now = __rdtsc();
	last = x->ple_last;
	x->ple_last = now;
	if (!last || now - last > V(x->vmcs, PLE_GAP))
		x->ple_first = now;
	else if (now - x->ple_first > V(x->vmcs, PLE_WINDOW))
		vmx_exit_insn(cpu, op->len, VMX_EXIT_PAUSE_INSTRUCTION, 0);
}

void x86_icpt(struct x86_cpu *cpu, const struct x86_op *op, enum x86_intercept what)
{
	const struct icpt_rule *r;

	if (what == X86_ICPT_PAUSE) {
		if (cpu->vmx.non_root)
			icpt_pause(cpu, op);
		else if (cpu->bus)
			vmx_hook(cpu, X86_HOOK_PAUSE);
		return;
	}
	if (what >= ARRAY_SIZE(rules) || !rules[what].reason) {
		/* GETSEC, RSM and the like: the handler's own #UD decides. */
		if (cpu->bus)
			vmx_hook(cpu, what == X86_ICPT_VMX_INSN ? X86_HOOK_VMX : X86_HOOK_OTHER);
		return;
	}
	r = &rules[what];
	if (!cpu->vmx.non_root) {
		if (cpu->bus && r->hook != NO_HOOK)
			vmx_hook(cpu, (enum x86_emul_hook)r->hook);
		return;
	}
	x86_icpt_enabled(cpu, what);
	if ((r->proc | r->proc2) && !(cpu->vmx.proc & r->proc) && !(cpu->vmx.proc2 & r->proc2))
		return;
	if (what == X86_ICPT_RDRAND || what == X86_ICPT_RDSEED)
		V(cpu->vmx.vmcs, EXIT_INSN_INFO) = (u32)op->rm << 3 | vmx_size_code(op->osize) << 11;
	vmx_exit_insn(cpu, op->len, r->reason, 0);
}

void x86_icpt_invlpg(struct x86_cpu *cpu, const struct x86_op *op, u64 lin)
{
	if (!cpu->vmx.non_root) {
		if (cpu->bus)
			vmx_hook(cpu, X86_HOOK_INVLPG);
		return;
	}
	if (cpu->vmx.proc & PROC_INVLPG_EXITING)
		vmx_exit_insn(cpu, op->len, VMX_EXIT_INVLPG, lin & cpu->lin_mask);
}

/* ---- Port I/O ---- */

static bool io_bitmap_hit(const struct vmcs *v, u16 port, unsigned size)
{
	for (u32 p = port; p < port + size; p++) {
		u64 map = p & 0x8000 ? V(v, IO_BITMAP_B) : V(v, IO_BITMAP_A);

		if (p > 0xffff || vmx_read8(map + (p & 0x7fff) / 8) >> (p & 7) & 1)
			return true;
	}
	return false;
}

void x86_icpt_io(struct x86_cpu *cpu, const struct x86_op *op, u16 port, unsigned size, bool in,
		 bool string, bool imm, u64 lin)
{
	struct vmcs *v = cpu->vmx.vmcs;
	u64 qual;

	if (!cpu->vmx.non_root)
		return;
	if (cpu->vmx.proc & PROC_USE_IO_BITMAPS ? !io_bitmap_hit(v, port, size) :
						  !(cpu->vmx.proc & PROC_UNCOND_IO_EXITING))
		return;
	qual = (size - 1) | (u64)in << 3 | (u64)imm << 6 | (u64)port << 16;
	if (string) {
		qual |= BIT(4) | (op->flags & (X86_OP_REP | X86_OP_REPNE) ? BIT(5) : 0);
		V(v, GUEST_LINEAR_ADDRESS) = lin & cpu->lin_mask;
		V(v, EXIT_INSN_INFO) = vmx_size_code(op->asize) << 7 | (in ? 0 : (u32)op->seg << 15);
	}
	vmx_exit_insn(cpu, op->len, VMX_EXIT_IO_INSTRUCTION, qual);
}

/* ---- MSRs ---- */

static bool msr_bitmap_hit(const struct x86_cpu *cpu, u32 msr, bool write)
{
	u64 map;
	u32 bit;

	if (!(cpu->vmx.proc & PROC_USE_MSR_BITMAPS))
		return true;
	map = V(cpu->vmx.vmcs, MSR_BITMAP) + (write ? 0x800 : 0);
	if (msr < 0x2000)
		bit = msr;
	else if (msr - 0xc0000000u < 0x2000) {
		bit = msr & 0x1fff;
		map += 0x400;
	} else {
		return true;
	}
	return vmx_read8(map + bit / 8) >> (bit & 7) & 1;
}

bool x86_icpt_rdmsr(struct x86_cpu *cpu, const struct x86_op *op, u32 msr, u64 *val)
{
	if (!cpu->vmx.non_root)
		return false;
	if (msr_bitmap_hit(cpu, msr, false))
		vmx_exit_insn(cpu, op->len, VMX_EXIT_MSR_READ, 0);
	return (cpu->vmx.proc2 & PROC2_VIRT_X2APIC) && vmx_x2apic_read(cpu, msr, val);
}

bool x86_icpt_wrmsr(struct x86_cpu *cpu, const struct x86_op *op, u32 msr, u64 val)
{
	if (!cpu->vmx.non_root)
		return false;
	if (msr_bitmap_hit(cpu, msr, true))
		vmx_exit_insn(cpu, op->len, VMX_EXIT_MSR_WRITE, 0);
	return (cpu->vmx.proc2 & PROC2_VIRT_X2APIC) && vmx_x2apic_write(cpu, msr, val);
}

/* ---- Instructions with a memory operand ---- */

void x86_icpt_dtable(struct x86_cpu *cpu, const struct x86_op *op, unsigned which, bool ldt)
{
	u32 info;

	if (!cpu->vmx.non_root || !(cpu->vmx.proc2 & PROC2_DTABLE_EXITING))
		return;
	if (ldt)
		info = vmx_operand_info(op, op->rm);
	else
		info = vmx_operand_info(op, 0) | (op->osize >= 4 ? 1u << 11 : 0);
	V(cpu->vmx.vmcs, EXIT_INSN_INFO) = info | which << 28;
	vmx_exit_insn(cpu, op->len, ldt ? VMX_EXIT_LDTR_TR : VMX_EXIT_GDTR_IDTR, vmx_displacement(cpu, op));
}

void x86_icpt_invpcid(struct x86_cpu *cpu, const struct x86_op *op)
{
	if (!cpu->vmx.non_root) {
		if (cpu->bus)
			vmx_hook(cpu, X86_HOOK_INVLPG);
		return;
	}
	x86_icpt_enabled(cpu, X86_ICPT_INVPCID);
	if (!(cpu->vmx.proc & PROC_INVLPG_EXITING))
		return;
	V(cpu->vmx.vmcs, EXIT_INSN_INFO) = vmx_operand_info(op, 0) | (u32)op->reg << 28;
	vmx_exit_insn(cpu, op->len, VMX_EXIT_INVPCID, vmx_displacement(cpu, op));
}

void x86_icpt_xsaves(struct x86_cpu *cpu, const struct x86_op *op, bool restore)
{
	u64 rfbm = (u32)cpu->gpr[X86_RAX] | cpu->gpr[X86_RDX] << 32;

	if (!cpu->vmx.non_root)
		return;
	x86_icpt_enabled(cpu, X86_ICPT_XSAVES);
	if (!(rfbm & cpu->xss & V(cpu->vmx.vmcs, XSS_EXIT_BITMAP)))
		return;
	V(cpu->vmx.vmcs, EXIT_INSN_INFO) = vmx_operand_info(op, 0);
	vmx_exit_insn(cpu, op->len, restore ? VMX_EXIT_XRSTORS : VMX_EXIT_XSAVES, vmx_displacement(cpu, op));
}
