// SPDX-License-Identifier: MIT
/*
 * Life of the x86 part of a vCPU: its processor, local APIC, MMU, clock; reset,
 * INIT and start-up. SDM vol. 3A "Processor State After Reset".
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "kvm/mem.h"
#include "kvm/vcpu_life.h"
#include "kvm/x86/clock.h"
#include "kvm/x86/hyperv/hyperv.h"
#include "kvm/x86/irq/irq.h"
#include "kvm/x86/pv.h"
#include "kvm/x86/x86.h"

#define APIC_BASE_DEFAULT 0xfee00000ull
#define APIC_BASE_BSP BIT(8)
#define APIC_BASE_ENABLE BIT(11)

int hv_x86_vcpu_new(struct hv_vcpu *v)
{
	struct hv_vm *vm = v->vm;
	bool bsp = v->id == vm->bsp_vcpu_id;
	int r;

	v->x86 = calloc(1, sizeof(*v->x86));
	if (!v->x86)
		return -ENOMEM;
	v->cpu = x86_cpu_new(vm->model, v->id);
	if (!v->cpu)
		return -ENOMEM;
	r = hv_vmx_vcpu_new(v);
	if (r < 0)
		return r;
	r = hv_mmu_vcpu_new(v);
	if (r < 0)
		return r;
	r = hv_clock_vcpu_new(v);
	if (r < 0)
		return r;
	r = hv_pv_vcpu_new(v);
	if (r < 0)
		return r;
	r = hyperv_vcpu_new(v);
	if (r < 0)
		return r;
	if (vm->irqchip_mode != HV_IRQCHIP_NONE) {
		r = hv_lapic_new(v);
		if (r < 0)
			return r;
	}
	v->x86->apic_base = APIC_BASE_DEFAULT | APIC_BASE_ENABLE | (bsp ? APIC_BASE_BSP : 0);
	hv_cpuid_init(v);
	hv_pmu_vcpu_new(v);
	hv_msr_init(v);
	hv_vcpu_reset(v, false);
	hv_vmx_load_tsc(v);
	/* Processors other than the first wait for INIT and a start-up IPI. */
	atomic_store(&v->mp_state, v->lapic && !bsp ? KVM_MP_STATE_UNINITIALIZED :
						      KVM_MP_STATE_RUNNABLE);
	return 0;
}

void hv_x86_vcpu_free(struct hv_vcpu *v)
{
	if (!v->x86)
		return;
	/* Its timers kick the vCPU. */
	hyperv_vcpu_free(v);
	if (v->lapic)
		hv_lapic_free(v);
	hv_pv_vcpu_free(v);
	hv_clock_vcpu_free(v);
	if (v->mmu)
		hv_mmu_vcpu_free(v);
	hv_emul_free(v);
	hv_cpuid_free(v);
	hv_vmx_vcpu_free(v);
	if (v->cpu)
		x86_cpu_free(v->cpu);
	free(v->x86);
}

static void reset_segments(struct hv_vcpu *v)
{
	const struct x86_segment data = { .limit = 0xffff, .ar = 0x93 };
	const struct x86_segment code = {
		.base = 0xffff0000, .limit = 0xffff, .ar = 0x9b, .sel = 0xf000
	};
	const struct x86_segment ldt = { .limit = 0xffff, .ar = 0x82 };
	const struct x86_segment tss = { .limit = 0xffff, .ar = 0x8b };

	for (unsigned i = 0; i < X86_NR_SREGS; i++)
		hv_set_segment(v, i, i == X86_CS ? &code : &data);
	hv_set_segment(v, X86_LDTR, &ldt);
	hv_set_segment(v, X86_TR, &tss);
	vmcs_set(v, VMCS_GUEST_GDTR_BASE, 0);
	vmcs_set(v, VMCS_GUEST_GDTR_LIMIT, 0xffff);
	vmcs_set(v, VMCS_GUEST_IDTR_BASE, 0);
	vmcs_set(v, VMCS_GUEST_IDTR_LIMIT, 0xffff);
}

static void reset_events(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;

	memset(&x->exception, 0, sizeof(x->exception));
	memset(&x->interrupt, 0, sizeof(x->interrupt));
	x->nmi.pending = 0;
	x->nmi.injected = false;
	vmcs_set(v, VMCS_ENTRY_INTR_INFO, 0);
	vmcs_set(v, VMCS_GUEST_INTERRUPTIBILITY, 0);
	vmcs_set(v, VMCS_GUEST_PENDING_DEBUG, 0);
	vmcs_set(v, VMCS_GUEST_ACTIVITY, 0);
}

void hv_vcpu_reset(struct hv_vcpu *v, bool init)
{
	struct hv_vcpu_x86 *x = v->x86;
	const struct kvm_cpuid_entry2 *sig = hv_cpuid_entry(v, 1, 0);
	u64 old_cr0 = init ? x->cr0 : 0;

	if (!init)
		hv_fpu_reset(v);
	for (unsigned i = 0; i < X86_NR_GPRS; i++)
		hv_set_gpr(v, i, 0);
	/* EDX after reset is the processor's signature. */
	hv_set_gpr(v, X86_RDX, sig ? sig->eax : 0x600);
	vmcs_set(v, VMCS_GUEST_RIP, 0xfff0);
	vmcs_set(v, VMCS_GUEST_RFLAGS, RFLAGS_1);
	reset_segments(v);
	x86_set_cr2(v->cpu, 0);
	vmcs_set(v, VMCS_GUEST_CR3, 0);
	/* INIT keeps CD and NW. */
	hv_load_cr0(v, init ? CR0_ET | (old_cr0 & (CR0_CD | CR0_NW)) : CR0_ET | CR0_CD | CR0_NW);
	x->cr4 = 0;
	hv_update_cr4_mask(v);
	hv_load_cr4(v, 0);
	hv_load_efer(v, 0);
	for (unsigned i = 0; i < 4; i++)
		hv_set_dr(v, i, 0);
	if (!init)
		hv_smm_reset(v);
	hv_set_dr(v, 6, DR6_FIXED_1);
	hv_set_dr(v, 7, DR7_FIXED_1);
	vmcs_set(v, VMCS_GUEST_DEBUGCTL, 0);
	vmcs_set(v, VMCS_GUEST_SYSENTER_CS, 0);
	vmcs_set(v, VMCS_GUEST_SYSENTER_ESP, 0);
	vmcs_set(v, VMCS_GUEST_SYSENTER_EIP, 0);
	reset_events(v);
	hv_msr_reset(v, init);
	hv_vmx_flush_guest_tlb(v);
	hv_update_exception_bitmap(v);
	if (!v->lapic)
		x->cr8 = 0;
	else
		hv_lapic_reset(v, init);
	hv_cpuid_update_runtime(v);
	hv_set_request(v, HV_REQ_EVENT);
}

void hv_vcpu_sipi(struct hv_vcpu *v, u8 vector)
{
	struct x86_segment cs;

	hv_get_segment(v, X86_CS, &cs);
	cs.sel = (u16)(vector << 8);
	cs.base = (u64)vector << 12;
	hv_set_segment(v, X86_CS, &cs);
	vmcs_set(v, VMCS_GUEST_RIP, 0);
}
