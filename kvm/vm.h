/* SPDX-License-Identifier: MIT */
/*
 * A virtual machine and its parts, for the files of kvm/ (uapi/ uses hv.h).
 *
 * Lock order, outermost first:
 *	vm->lock		creation of vCPUs and devices, capabilities
 *	  vcpu->mutex		vCPU ioctls, held through KVM_RUN
 *	    vm->slots_lock	changes of memslots and I/O buses
 *	      vm->irq_lock	replacing the routing table and the APIC map
 *	      irqfds' lock	irqfds; held while they raise interrupts (eventfd.c)
 *	        ioapic, pic, pit locks (x86/irq/); local APICs have none
 *	          clock lock, coalesced_lock, timer heap: innermost
 *	          vm->mmu.lock	(rw) page tables; x86/mmu/
 * Readers of memslots, buses and routing hold no lock but an epoch section
 * (base/epoch.h).
 */
#ifndef KVM_VM_H
#define KVM_VM_H

#include <pthread.h>
#include <stdatomic.h>

#include "abi/kvm.h"
#include "base/list.h"
#include "base/types.h"
#include "silicon/x86.h"
#include "vfs/vfs.h"

#define HV_MAX_VCPUS 288
#define HV_MAX_VCPU_ID 1152
#define HV_NR_AS 2		/* address spaces: normal, and that of system-management mode */
#define HV_AS_SMM 1

struct hv_vcpu;
struct hv_memslots;
struct hv_mmu;
struct hv_iobus;
struct hv_irq_routing;
struct hv_ioapic;
struct hv_pic;
struct hv_pit;
struct hv_irqfds;
struct hv_apic_map;
struct hv_vm_clock;
struct hyperv_vm;
struct hv_stats;

enum hv_bus { HV_BUS_MMIO, HV_BUS_PIO, HV_BUS_FAST_MMIO, HV_NR_BUSES };
enum hv_irqchip_mode { HV_IRQCHIP_NONE, HV_IRQCHIP_KERNEL, HV_IRQCHIP_SPLIT };

struct hv_vm {
	_Atomic int refs;
	pthread_mutex_t lock;
	pthread_mutex_t slots_lock;
	pthread_mutex_t irq_lock;
	const struct x86_model *model;

	/* Written once per index under lock, read by anybody up to nr_vcpus. */
	struct hv_vcpu *_Atomic vcpus[HV_MAX_VCPUS];
	_Atomic unsigned nr_vcpus;
	u32 bsp_vcpu_id;
	u32 max_vcpu_id;
	bool max_vcpu_id_set;

	/* x86/mmu/ and memslots.c */
	struct hv_memslots *_Atomic slots[HV_NR_AS];
	struct hv_mmu *mmu;
	struct vfs_notifier mm_notifier;
	u64 dirty_ring_bytes;
	u64 manual_dirty_protect;	/* KVM_DIRTY_LOG_* bits enabled */

	/* iobus.c, coalesced.c, eventfd.c */
	struct hv_iobus *_Atomic buses[HV_NR_BUSES];
	int coalesced_memfd;		/* the ring page, shared by all vCPU mappings */
	struct kvm_coalesced_mmio_ring *coalesced_ring;
	pthread_mutex_t coalesced_lock;	/* writers of the ring; innermost */
	struct list coalesced_zones;
	struct list ioeventfds;
	struct hv_irqfds *_Atomic irqfds;

	/* x86/irq/ */
	enum hv_irqchip_mode irqchip_mode;
	u32 nr_ioapic_pins;		/* split */
	struct hv_ioapic *ioapic;
	struct hv_pic *pic;
	struct hv_pit *pit;
	struct hv_irq_routing *_Atomic routing;
	struct hv_apic_map *_Atomic apic_map;
	bool x2apic_format, x2apic_broadcast_quirk_off;	/* KVM_CAP_X2APIC_API */

	/* time: x86/clock.c */
	struct hv_vm_clock *clock;
	u32 default_tsc_khz;

	struct hyperv_vm *hyperv;	/* x86/hyperv/ */

	/* capabilities that were enabled */
	bool exception_payload, triple_fault_event, exit_on_emulation_failure;
	bool platform_info_hidden;	/* MSR ce is #GP to guests */
	u32 user_space_msr_mask;
	u64 disabled_quirks;
	u32 disabled_exits;		/* KVM_X86_DISABLE_EXITS_* */
	struct hv_msr_filter *_Atomic msr_filter;
	struct hv_pmu_filter *_Atomic pmu_filter;
	bool pmu_disabled;		/* KVM_CAP_PMU_CAPABILITY */
	u64 tss_addr, identity_map_addr;

	struct hv_stats *stats;
	_Atomic bool dying;		/* internal inconsistency: every KVM_RUN returns -EIO */
};

static inline struct hv_vcpu *hv_vcpu_by_idx(struct hv_vm *vm, unsigned i)
{
	return atomic_load_explicit(&vm->vcpus[i], memory_order_acquire);
}

#define hv_for_each_vcpu(i, vcpu, vm) \
	for ((i) = 0; (i) < atomic_load(&(vm)->nr_vcpus) && ((vcpu) = hv_vcpu_by_idx(vm, i)); (i)++)

struct hv_vcpu *hv_vcpu_by_id(struct hv_vm *vm, u32 id);

#endif
