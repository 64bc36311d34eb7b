/* SPDX-License-Identifier: MIT */
/*
 * The VMX instructions as code executes them: #UD, exits, privilege, operands,
 * flags. What they do is in vmx_ops.c and entry.c.
 *
 * All but VMCALL and VMFUNC are #UD in real, virtual-8086 and compatibility
 * mode. In non-root operation they exit before the CPL is looked at.
 * SDM vol. 3C "VMX Instruction Reference".
 */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/mmu/mem.h"
#include "silicon/x86/vmx/insn_info.h"
#include "silicon/x86/vmx/intercept.h"
#include "silicon/x86/vmx/vmx_priv.h"

/* All six arithmetic flags are written on every outcome. */
static void conclude(struct x86_cpu *cpu, int result)
{
	switch (result) {
	case VMX_OK:
		x86_set_arith(cpu, 0);
		break;
	case VMX_FAIL_INVALID:
		x86_set_arith(cpu, RFLAGS_CF);
		break;
	case VMX_UD:
		x86_ud(cpu);
	case VMX_GP:
		x86_gp0(cpu);
	default:
		x86_set_arith(cpu, RFLAGS_ZF);
	}
}

static void refuse_emulation(struct x86_cpu *cpu)
{
	if (cpu->bus) {
		vmx_hook(cpu, X86_HOOK_VMX);
		x86_ud(cpu);
	}
}

/* #UD, exit with @info, #GP: what comes before an instruction's own work. */
static void prologue(struct x86_cpu *cpu, const struct x86_op *op, u32 reason, u32 info)
{
	refuse_emulation(cpu);
	if (!cpu->vmx.on || cpu->mode == X86_MODE_COMPAT)
		x86_ud(cpu);
	if (cpu->vmx.non_root) {
		V(cpu->vmx.vmcs, EXIT_INSN_INFO) = info;
		vmx_exit_insn(cpu, op->len, reason, vmx_displacement(cpu, op));
	}
	if (cpu->cpl != 0)
		x86_gp0(cpu);
}

static u64 load_m64(struct x86_cpu *cpu, const struct x86_op *op)
{
	return x86_load64(cpu, op->seg, x86_lin_read(cpu, op->seg, x86_ea(cpu, op), 8));
}

/* Operand width of VMREAD, VMWRITE and of the type registers. */
static u64 operand_mask(const struct x86_cpu *cpu)
{
	return x86_in_64(cpu) ? ~0ull : 0xffffffff;
}

static void op_vmcall(struct x86_cpu *cpu, const struct x86_op *op)
{
	refuse_emulation(cpu);
	if (!cpu->vmx.on)
		x86_ud(cpu);
	if (cpu->vmx.non_root)
		vmx_exit_insn(cpu, op->len, VMX_EXIT_VMCALL, 0);
	if (!x86_prot(cpu) || cpu->mode == X86_MODE_COMPAT)
		x86_ud(cpu);
	if (cpu->cpl != 0)
		x86_gp0(cpu);
	conclude(cpu, vmx_fail(cpu, 1));
}

static void op_vmxon(struct x86_cpu *cpu, const struct x86_op *op)
{
	int r;

	refuse_emulation(cpu);
	if (cpu->mode == X86_MODE_COMPAT || !(cpu->cr4 & CR4_VMXE))
		x86_ud(cpu);
	if (cpu->vmx.on) {
		prologue(cpu, op, VMX_EXIT_VMXON, vmx_operand_info(op, 0));
		conclude(cpu, vmx_fail(cpu, 15));
		return;
	}
	if (cpu->cpl != 0)
		x86_gp0(cpu);
	r = vmx_vmxon_allowed(cpu);
	if (r == VMX_OK)
		r = x86_vmxon(cpu, SPA(load_m64(cpu, op)));
	conclude(cpu, r);
}

static void op_vmxoff(struct x86_cpu *cpu, const struct x86_op *op)
{
	prologue(cpu, op, VMX_EXIT_VMXOFF, 0);
	conclude(cpu, x86_vmxoff(cpu));
}

static void op_vmclear(struct x86_cpu *cpu, const struct x86_op *op)
{
	prologue(cpu, op, VMX_EXIT_VMCLEAR, vmx_operand_info(op, 0));
	conclude(cpu, x86_vmclear(cpu, SPA(load_m64(cpu, op))));
}

static void op_vmptrld(struct x86_cpu *cpu, const struct x86_op *op)
{
	prologue(cpu, op, VMX_EXIT_VMPTRLD, vmx_operand_info(op, 0));
	conclude(cpu, x86_vmptrld(cpu, SPA(load_m64(cpu, op))));
}

static void op_vmptrst(struct x86_cpu *cpu, const struct x86_op *op)
{
	prologue(cpu, op, VMX_EXIT_VMPTRST, vmx_operand_info(op, 0));
	x86_store64(cpu, op->seg, x86_lin_write(cpu, op->seg, x86_ea(cpu, op), 8), cpu->vmx.current);
	conclude(cpu, VMX_OK);
}

/* ---- VMREAD, VMWRITE ---- */

/*
 * The VMCS that a VMREAD or VMWRITE works on, NULL if there is none. In non-root
 * operation without exit that is the shadow VMCS at the link pointer.
 */
static struct vmcs *target_vmcs(struct x86_cpu *cpu, const struct x86_op *op, bool write, u64 field)
{
	u32 reason = write ? VMX_EXIT_VMWRITE : VMX_EXIT_VMREAD;
	struct vmcs *v = cpu->vmx.vmcs;

	if (cpu->vmx.non_root && cpu->vmx.proc2 & PROC2_VMCS_SHADOWING && field < 0x8000 &&
	    cpu->mode != X86_MODE_COMPAT) {
		u64 map = write ? V(v, VMWRITE_BITMAP) : V(v, VMREAD_BITMAP);

		if (!(vmx_read8(map + field / 8) >> (field & 7) & 1)) {
			if (cpu->cpl != 0)
				x86_gp0(cpu);
			return V(v, LINK_POINTER) == ~0ull ? NULL : (struct vmcs *)V(v, LINK_POINTER);
		}
	}
	prologue(cpu, op, reason, vmx_operand_info(op, op->rm) | (u32)op->reg << 28);
	return v;
}

static void no_such_field(struct x86_cpu *cpu, struct vmcs *v)
{
	V(v, INSN_ERROR) = 12;
	conclude(cpu, 12);
}

static void op_vmread(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 field = cpu->gpr[op->reg] & operand_mask(cpu), val;
	struct vmcs *v = target_vmcs(cpu, op, false, field);

	if (!v) {
		conclude(cpu, VMX_FAIL_INVALID);
		return;
	}
	if (field >> 32 || !vmcs_read(v, (u32)field, &val)) {
		no_such_field(cpu, v);
		return;
	}
	val &= operand_mask(cpu);
	if (!(op->flags & X86_OP_MEM))
		cpu->gpr[op->rm] = val;
	else if (x86_in_64(cpu))
		x86_store64(cpu, op->seg, x86_lin_write(cpu, op->seg, x86_ea(cpu, op), 8), val);
	else
		x86_store32(cpu, op->seg, x86_lin_write(cpu, op->seg, x86_ea(cpu, op), 4), (u32)val);
	conclude(cpu, VMX_OK);
}

static void op_vmwrite(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 field = cpu->gpr[op->reg] & operand_mask(cpu), val;
	struct vmcs *v = target_vmcs(cpu, op, true, field);

	if (!v) {
		conclude(cpu, VMX_FAIL_INVALID);
		return;
	}
	if (!(op->flags & X86_OP_MEM))
		val = cpu->gpr[op->rm] & operand_mask(cpu);
	else if (x86_in_64(cpu))
		val = load_m64(cpu, op);
	else
		val = x86_load32(cpu, op->seg, x86_lin_read(cpu, op->seg, x86_ea(cpu, op), 4));
	if (field >> 32 || !vmcs_write(v, (u32)field, val)) {
		no_such_field(cpu, v);
		return;
	}
	conclude(cpu, VMX_OK);
}

/* ---- Entries ---- */

static void enter(struct x86_cpu *cpu, bool launch)
{
	int r = vmx_entry(cpu, launch);

	if (r != VMX_OK) {
		conclude(cpu, r);
		return;
	}
	/* The next instruction is the guest's, or the host's after a failed entry. */
	x86_unwind(cpu, X86_UNWIND_RESTART);
}

static void op_vmlaunch(struct x86_cpu *cpu, const struct x86_op *op)
{
	prologue(cpu, op, VMX_EXIT_VMLAUNCH, 0);
	enter(cpu, true);
}

static void op_vmresume(struct x86_cpu *cpu, const struct x86_op *op)
{
	prologue(cpu, op, VMX_EXIT_VMRESUME, 0);
	enter(cpu, false);
}

/* ---- Invalidation ---- */

/* The descriptor is read only for a type that exists. */
static void op_inv(struct x86_cpu *cpu, const struct x86_op *op, u32 reason, bool exists,
		   int (*inv)(struct x86_cpu *cpu, u64 type, const u64 desc[2]))
{
	u64 desc[2] = { 0 };

	prologue(cpu, op, reason, vmx_operand_info(op, 0) | (u32)op->reg << 28);
	if (exists)
		x86_load_bytes(cpu, op->seg, x86_lin_read(cpu, op->seg, x86_ea(cpu, op), 16), desc, 16);
	conclude(cpu, inv(cpu, cpu->gpr[op->reg] & operand_mask(cpu), desc));
}

static void op_invept(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 type = cpu->gpr[op->reg] & operand_mask(cpu);

	op_inv(cpu, op, VMX_EXIT_INVEPT, type == 1 || type == 2, x86_invept);
}

static void op_invvpid(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 type = cpu->gpr[op->reg] & operand_mask(cpu);

	op_inv(cpu, op, VMX_EXIT_INVVPID, type <= 3, x86_invvpid);
}

/* ---- VMFUNC ---- */

static void op_vmfunc(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct vmcs *v = cpu->vmx.vmcs;
	u32 function = (u32)cpu->gpr[X86_RAX], index = (u32)cpu->gpr[X86_RCX];
	u64 eptp;

	refuse_emulation(cpu);
	if (!cpu->vmx.non_root || !(cpu->vmx.proc2 & PROC2_VMFUNC) || function >= 64)
		x86_ud(cpu);
	if (!(V(v, VMFUNC_CTLS) >> function & 1) || index >= 512)
		vmx_exit_insn(cpu, op->len, VMX_EXIT_VMFUNC, 0);
	eptp = vmx_read64(V(v, EPTP_LIST_ADDR) + 8ull * index);
	if (!vmx_eptp_ok(cpu, eptp))
		vmx_exit_insn(cpu, op->len, VMX_EXIT_VMFUNC, 0);
	V(v, EPT_POINTER) = cpu->vmx.eptp = eptp;
	x86_tlb_switch(cpu);
}

/* ---- Selection ---- */

x86_fn *x86_sel_vmx(const struct x86_dec *d, struct x86_op *op)
{
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_INVEPT: return op_invept;
	case ZYDIS_MNEMONIC_INVVPID: return op_invvpid;
	case ZYDIS_MNEMONIC_VMCALL: return op_vmcall;
	case ZYDIS_MNEMONIC_VMCLEAR: return op_vmclear;
	case ZYDIS_MNEMONIC_VMFUNC:
		/* What follows may lie on another page now. */
		op->flags |= X86_OP_END;
		return op_vmfunc;
	case ZYDIS_MNEMONIC_VMLAUNCH: return op_vmlaunch;
	case ZYDIS_MNEMONIC_VMPTRLD: return op_vmptrld;
	case ZYDIS_MNEMONIC_VMPTRST: return op_vmptrst;
	case ZYDIS_MNEMONIC_VMREAD: return op_vmread;
	case ZYDIS_MNEMONIC_VMRESUME: return op_vmresume;
	case ZYDIS_MNEMONIC_VMWRITE: return op_vmwrite;
	case ZYDIS_MNEMONIC_VMXOFF: return op_vmxoff;
	case ZYDIS_MNEMONIC_VMXON: return op_vmxon;
	default: return x86_op_ud;
	}
}
