/* SPDX-License-Identifier: MIT */
/*
 * Control and debug registers in non-root operation: guest/host masks, read
 * shadows, CR3 targets, TPR shadow, CR-access and DR-access exits.
 * SDM vol. 3C "Changes to Instruction Behavior in VMX Non-Root Operation".
 */
#include "silicon/x86/op.h"
#include "silicon/x86/vmx/insn_info.h"
#include "silicon/x86/vmx/intercept.h"
#include "silicon/x86/vmx/vmx_priv.h"

enum { CR_MOV_TO, CR_MOV_FROM, CR_CLTS, CR_LMSW };

static _Noreturn void cr_exit(struct x86_cpu *cpu, const struct x86_op *op, unsigned n,
			      unsigned kind, unsigned gpr)
{
	vmx_exit_insn(cpu, op->len, VMX_EXIT_CR_ACCESS, n | kind << 4 | (u64)gpr << 8);
}

static bool cr3_target(const struct vmcs *v, u64 val)
{
	for (unsigned i = 0; i < V(v, CR3_TARGET_COUNT); i++)
		if (v->f[VS_CR3_TARGET0 + i] == val)
			return true;
	return false;
}

u64 x86_icpt_cr_write(struct x86_cpu *cpu, const struct x86_op *op, unsigned n, unsigned gpr, u64 val)
{
	const struct vmcs *v = cpu->vmx.vmcs;
	u32 proc = cpu->vmx.proc;

	if (!cpu->vmx.non_root) {
		if (cpu->bus)
			vmx_hook(cpu, X86_HOOK_CR_WRITE);
		return val;
	}
	switch (n) {
	case 0:
		if ((val ^ V(v, CR0_SHADOW)) & V(v, CR0_MASK))
			cr_exit(cpu, op, n, CR_MOV_TO, gpr);
		return (cpu->cr0 & V(v, CR0_MASK)) | (val & ~V(v, CR0_MASK));
	case 3:
		if (proc & PROC_CR3_LOAD_EXITING && !cr3_target(v, val))
			cr_exit(cpu, op, n, CR_MOV_TO, gpr);
		return val;
	case 4:
		if ((val ^ V(v, CR4_SHADOW)) & V(v, CR4_MASK))
			cr_exit(cpu, op, n, CR_MOV_TO, gpr);
		return (cpu->cr4 & V(v, CR4_MASK)) | (val & ~V(v, CR4_MASK));
	case 8:
		if (proc & PROC_CR8_LOAD_EXITING)
			cr_exit(cpu, op, n, CR_MOV_TO, gpr);
		if (!(proc & PROC_TPR_SHADOW))
			return val;
		if (val & ~0xfull)
			x86_gp0(cpu);
		vmx_vtpr_write(cpu, (u8)(val << 4));
		/* The processor's own TPR stays. */
		return cpu->tpr >> 4;
	default:
		return val;
	}
}

u64 x86_guest_cr0(struct x86_cpu *cpu)
{
	const struct vmcs *v = cpu->vmx.vmcs;

	if (!cpu->vmx.non_root)
		return cpu->cr0;
	return (cpu->cr0 & ~V(v, CR0_MASK)) | (V(v, CR0_SHADOW) & V(v, CR0_MASK));
}

u64 x86_icpt_cr_read(struct x86_cpu *cpu, const struct x86_op *op, unsigned n, unsigned gpr)
{
	const struct vmcs *v = cpu->vmx.vmcs;
	bool guest = cpu->vmx.non_root;

	switch (n) {
	case 0:
		return x86_guest_cr0(cpu);
	case 2:
		return cpu->cr2;
	case 3:
		if (guest && cpu->vmx.proc & PROC_CR3_STORE_EXITING)
			cr_exit(cpu, op, n, CR_MOV_FROM, gpr);
		return cpu->cr3;
	case 4:
		if (!guest)
			return cpu->cr4;
		return (cpu->cr4 & ~V(v, CR4_MASK)) | (V(v, CR4_SHADOW) & V(v, CR4_MASK));
	default:
		if (guest && cpu->vmx.proc & PROC_CR8_STORE_EXITING)
			cr_exit(cpu, op, n, CR_MOV_FROM, gpr);
		if (guest && cpu->vmx.proc & PROC_TPR_SHADOW)
			return vmx_vtpr(cpu) >> 4;
		return cpu->tpr >> 4;
	}
}

bool x86_icpt_clts(struct x86_cpu *cpu, const struct x86_op *op)
{
	const struct vmcs *v = cpu->vmx.vmcs;

	if (!cpu->vmx.non_root) {
		if (cpu->bus)
			vmx_hook(cpu, X86_HOOK_CR_WRITE);
		return true;
	}
	if (!(V(v, CR0_MASK) & CR0_TS))
		return true;
	if (V(v, CR0_SHADOW) & CR0_TS)
		cr_exit(cpu, op, 0, CR_CLTS, 0);
	return false;
}

/* LMSW sets PE but never clears it; MP, EM, TS are copied. */
u64 x86_icpt_lmsw(struct x86_cpu *cpu, const struct x86_op *op, u16 src, bool mem, u64 lin)
{
	struct vmcs *v = cpu->vmx.vmcs;
	u64 copied = CR0_MP | CR0_EM | CR0_TS, own = ~0ull;

	if (cpu->vmx.non_root) {
		u64 mask = V(v, CR0_MASK), shadow = V(v, CR0_SHADOW);

		if ((mask & src & ~shadow & CR0_PE) || (mask & (src ^ shadow) & copied)) {
			if (mem)
				V(v, GUEST_LINEAR_ADDRESS) = lin & cpu->lin_mask;
			vmx_exit_insn(cpu, op->len, VMX_EXIT_CR_ACCESS,
				      CR_LMSW << 4 | (u64)mem << 6 | (u64)src << 16);
		}
		own = ~mask;
	} else if (cpu->bus) {
		vmx_hook(cpu, X86_HOOK_CR_WRITE);
	}
	copied &= own;
	return (cpu->cr0 & ~copied) | (src & copied) | (src & own & CR0_PE);
}

void x86_icpt_dr(struct x86_cpu *cpu, const struct x86_op *op, unsigned n, unsigned gpr, bool from)
{
	if (!cpu->vmx.non_root) {
		if (cpu->bus)
			vmx_hook(cpu, X86_HOOK_DR_ACCESS);
		return;
	}
	if (cpu->vmx.proc & PROC_MOV_DR_EXITING)
		vmx_exit_insn(cpu, op->len, VMX_EXIT_DR_ACCESS, n | (u64)from << 4 | (u64)gpr << 8);
}
