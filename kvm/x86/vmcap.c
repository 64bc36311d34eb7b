// SPDX-License-Identifier: MIT
/* Capabilities: what KVM_CHECK_EXTENSION says and what KVM_ENABLE_CAP turns on; settings of a VM. */
#include <errno.h>
#include <unistd.h>

#include "kvm/hv.h"
#include "kvm/x86/hyperv/hyperv.h"
#include "kvm/x86/x86.h"

#define HV_NR_MEMSLOTS 32764
#define HV_MAX_IRQ_ROUTES 4096
#define HV_DIRTY_RING_MAX_BYTES (65536 * sizeof(struct kvm_dirty_gfn))
#define HV_GUESTDBG_VALID (KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | \
			   KVM_GUESTDBG_USE_HW_BP | KVM_GUESTDBG_USE_SW_BP | \
			   KVM_GUESTDBG_INJECT_BP | KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_BLOCKIRQ)
#define HV_QUIRKS (KVM_X86_QUIRK_LINT0_REENABLED | KVM_X86_QUIRK_CD_NW_CLEARED | \
		   KVM_X86_QUIRK_LAPIC_MMIO_HOLE | KVM_X86_QUIRK_OUT_7E_INC_RIP | \
		   KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT | KVM_X86_QUIRK_FIX_HYPERCALL_INSN | \
		   KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS)
/* The models have no MWAIT for guests, nor the MSRs that count time in C-states. */
#define HV_EXITS_TO_DISABLE (KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE)
#define HV_MSR_REASONS (KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | \
			KVM_MSR_EXIT_REASON_FILTER)

static long online_processors(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n > 0 ? min(n, (long)HV_MAX_VCPUS) : 1;
}

long hv_check_extension(const struct x86_model *model, struct hv_vm *vm, unsigned long cap)
{
	switch (cap) {
#define CAP(name, value) \
	case KVM_CAP_##name: \
		return (long)(value);
#include "kvm/x86/cap.def"
#undef CAP
	default:
		return 0;
	}
}

/* ---- KVM_ENABLE_CAP on a VM ---- */

static int enable_split_irqchip(struct hv_vm *vm, u64 pins)
{
	if (pins > 24)
		return -EINVAL;
	if (vm->irqchip_mode != HV_IRQCHIP_NONE || hv_vm_has_vcpus(vm))
		return -EEXIST;
	return hv_irqchip_split(vm, (u32)pins);
}

static int enable_x2apic_api(struct hv_vm *vm, u64 flags)
{
	if (flags & ~(u64)(KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK))
		return -EINVAL;
	if (flags & KVM_X2APIC_API_USE_32BIT_IDS)
		vm->x2apic_format = true;
	if (flags & KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK)
		vm->x2apic_broadcast_quirk_off = true;
	return 0;
}

static int enable_manual_protect(struct hv_vm *vm, u64 bits)
{
	const u64 valid = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;

	if ((bits & ~valid) || bits == KVM_DIRTY_LOG_INITIALLY_SET)
		return -EINVAL;
	vm->manual_dirty_protect = bits;
	return 0;
}

static int limit_vcpu_ids(struct hv_vm *vm, u64 max)
{
	if (!max || max > HV_MAX_VCPU_ID)
		return -EINVAL;
	/* Once, and before the first vCPU; the same value again is harmless. */
	if (hv_vm_has_vcpus(vm))
		return -EINVAL;
	if (vm->max_vcpu_id_set)
		return vm->max_vcpu_id == max ? 0 : -EINVAL;
	vm->max_vcpu_id = (u32)max;
	vm->max_vcpu_id_set = true;
	return 0;
}

/* Controls are filled when a vCPU is made. */
static int disable_exits(struct hv_vm *vm, u64 exits)
{
	if ((exits & ~(u64)HV_EXITS_TO_DISABLE) || hv_vm_has_vcpus(vm))
		return -EINVAL;
	vm->disabled_exits |= (u32)exits;
	return 0;
}

static int enable_locked(struct hv_vm *vm, const struct kvm_enable_cap *c)
{
	u64 a = c->args[0];

	switch (c->cap) {
	case KVM_CAP_DISABLE_QUIRKS2:
		if (a & ~(u64)HV_QUIRKS)
			return -EINVAL;
		/* fallthrough */
	case KVM_CAP_DISABLE_QUIRKS:
		vm->disabled_quirks = a;
		return 0;
	case KVM_CAP_SPLIT_IRQCHIP:
		return enable_split_irqchip(vm, a);
	case KVM_CAP_X2APIC_API:
		return enable_x2apic_api(vm, a);
	case KVM_CAP_X86_DISABLE_EXITS:
		return disable_exits(vm, a);
	case KVM_CAP_MSR_PLATFORM_INFO:
		vm->platform_info_hidden = !a;
		return 0;
	case KVM_CAP_EXCEPTION_PAYLOAD:
		vm->exception_payload = a;
		return 0;
	case KVM_CAP_X86_TRIPLE_FAULT_EVENT:
		vm->triple_fault_event = a;
		return 0;
	case KVM_CAP_EXIT_ON_EMULATION_FAILURE:
		if (a & ~1ull)
			return -EINVAL;
		vm->exit_on_emulation_failure = a;
		return 0;
	case KVM_CAP_X86_USER_SPACE_MSR:
		if (a & ~(u64)HV_MSR_REASONS)
			return -EINVAL;
		vm->user_space_msr_mask = (u32)a;
		return 0;
	case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
		return enable_manual_protect(vm, a);
	case KVM_CAP_DIRTY_LOG_RING:
	case KVM_CAP_DIRTY_LOG_RING_ACQ_REL:
		return hv_dirty_ring_enable(vm, a);
	case KVM_CAP_MAX_VCPU_ID:
		return limit_vcpu_ids(vm, a);
	case KVM_CAP_PMU_CAPABILITY:
		if (hv_vm_has_vcpus(vm) || (a & ~(u64)KVM_PMU_CAP_DISABLE))
			return -EINVAL;
		vm->pmu_disabled = a & KVM_PMU_CAP_DISABLE;
		return 0;
	default:
		return -EINVAL;
	}
}

int hv_vm_enable_cap(struct hv_vm *vm, const struct kvm_enable_cap *c)
{
	int r;

	if (c->flags)
		return -EINVAL;
	pthread_mutex_lock(&vm->lock);
	r = enable_locked(vm, c);
	pthread_mutex_unlock(&vm->lock);
	return r;
}

int hv_vcpu_enable_cap(struct hv_vcpu *v, const struct kvm_enable_cap *c)
{
	if (c->flags)
		return -EINVAL;
	switch (c->cap) {
	case KVM_CAP_ENFORCE_PV_FEATURE_CPUID:
		v->x86->enforce_pv_cpuid = c->args[0];
		if (c->args[0])
			hv_pv_set_features(v, v->x86->f.pv);
		return 0;
	case KVM_CAP_HYPERV_ENFORCE_CPUID:
		hyperv_enforce_cpuid(v, c->args[0]);
		return 0;
	case KVM_CAP_HYPERV_SYNIC:
		return c->args[0] ? -EINVAL : hyperv_enable_synic(v, false);
	case KVM_CAP_HYPERV_SYNIC2:
		return c->args[0] ? -EINVAL : hyperv_enable_synic(v, true);
	default:
		return -EINVAL;
	}
}

/* ---- Addresses that Intel's processors without unrestricted guest needed ---- */

int hv_set_tss_addr(struct hv_vm *vm, u64 addr)
{
	if (addr > 0xffffffffull - 3 * PAGE_SIZE)
		return -EINVAL;
	vm->tss_addr = addr;
	return 0;
}

int hv_set_identity_map_addr(struct hv_vm *vm, u64 addr)
{
	int r = -EINVAL;

	pthread_mutex_lock(&vm->lock);
	if (!hv_vm_has_vcpus(vm)) {
		vm->identity_map_addr = addr ? addr : 0xfffbc000;
		r = 0;
	}
	pthread_mutex_unlock(&vm->lock);
	return r;
}

int hv_set_boot_cpu_id(struct hv_vm *vm, u64 id)
{
	int r = -EBUSY;

	pthread_mutex_lock(&vm->lock);
	if (!hv_vm_has_vcpus(vm)) {
		vm->bsp_vcpu_id = (u32)id;
		r = 0;
	}
	pthread_mutex_unlock(&vm->lock);
	return r;
}
