/* SPDX-License-Identifier: MIT */
/* Power-on and INIT states: SDM vol. 3A "Processor State After Reset". */
#include <string.h>

#include "silicon/x86/sys/sys_priv.h"

static const struct x86_segment reset_data = { .limit = 0xffff, .ar = 0x93 };

/* What both RESET and INIT set. */
static void common_state(struct x86_cpu *cpu)
{
	memset(cpu->gpr, 0, sizeof(cpu->gpr));
	for (unsigned i = 0; i < X86_NR_SREGS; i++)
		cpu->seg[i] = reset_data;
	cpu->seg[X86_CS].sel = 0xf000;
	cpu->seg[X86_CS].base = 0xffff0000;
	cpu->seg[X86_CS].ar = 0x9b;
	cpu->seg[X86_LDTR] = (struct x86_segment){ .limit = 0xffff, .ar = 0x82 };
	cpu->seg[X86_TR] = (struct x86_segment){ .limit = 0xffff, .ar = 0x8b };
	cpu->gdtr = cpu->idtr = (struct x86_dtable){ .limit = 0xffff };
	cpu->rip = 0xfff0;
	cpu->cr2 = cpu->cr3 = cpu->cr4 = 0;
	cpu->efer = 0;
	memset(cpu->dr, 0, sizeof(cpu->dr));
	cpu->dr6 = DR6_RESET;
	cpu->dr7 = DR7_RESET;
	cpu->pending_db = 0;
	cpu->nmi_blocked = false;
	cpu->activity = X86_ACT_ACTIVE;
	cpu->delivering = 0;
	cpu->idt_vectoring = 0;
	cpu->tpr = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(cpu->irr); i++)
		cpu->irr[i] = 0;
	cpu->slow &= X86_SLOW_PMU;
	cpu->cpl = 0;
	x86_set_rflags(cpu, RFLAGS_1);
}

static void finish(struct x86_cpu *cpu)
{
	u32 signature[4];

	x86_cpuid(cpu, 1, 0, signature);
	cpu->gpr[X86_RDX] = signature[0];
	cpu->gpr[X86_REG_NEXT_RIP] = cpu->rip;
	x86_pmu_wake(cpu);
	x86_update_mode(cpu);
	x86_tlb_switch(cpu);
	x86_tlb_flush_all(cpu);
	x86_tlb_watch_update(cpu);
}

void x86_cpu_reset(struct x86_cpu *cpu)
{
	common_state(cpu);
	cpu->cr0 = CR0_CD | CR0_NW | CR0_ET;
	x86_msr_reset(cpu);
	cpu->sysenter_cs = 0;
	cpu->xcr0 = 1;
	cpu->pkru = 0;
	memset(&cpu->fpu, 0, sizeof(cpu->fpu));
	cpu->fpu.fcw = 0x40;
	cpu->fpu.ftw = 0xff;	/* all tags "zero" */
	cpu->fpu.mxcsr = 0x1f80;
	x86_pmu_reset(cpu);
	memset(&cpu->vmx, 0, sizeof(cpu->vmx));
	cpu->vmx.current = ~0ull;
	finish(cpu);
}

/* INIT keeps the caching bits, the FPU, the MSRs (EFER excepted), XCR0 and the APIC base. */
void x86_cpu_init(struct x86_cpu *cpu)
{
	common_state(cpu);
	cpu->cr0 = (cpu->cr0 & (CR0_CD | CR0_NW)) | CR0_ET;
	if (!(cpu->apic_base & BIT(8))) {
		cpu->activity = X86_ACT_WAIT_SIPI;
		cpu->slow |= X86_SLOW_HALTED;
	}
	finish(cpu);
}
