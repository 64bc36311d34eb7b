/* SPDX-License-Identifier: MIT */
/*
 * Interrupt controllers as KVM has them: local APIC, IOAPIC, PIC, PIT, routing,
 * MSIs; and the eventfd plumbing on top. What the run loop and uapi/ call.
 */
#ifndef KVM_X86_IRQ_IRQ_H
#define KVM_X86_IRQ_IRQ_H

#include "kvm/vcpu.h"

/* ---- Local APIC ---- */

/*
 * hv_lapic_new() wants v->vm, id and idx; the vCPU takes part in addressing once
 * hv_apic_map_update() has seen it in vm->vcpus (call it after publishing the
 * vCPU).
 */
int hv_lapic_new(struct hv_vcpu *v);
void hv_lapic_free(struct hv_vcpu *v);
void hv_apic_map_update(struct hv_vm *vm);
/*
 * What CPUID and MCG_CAP tell: legality of APIC_BASE bits, timer modes, the
 * version register. Before the first call: none, 36 physical bits.
 */
struct hv_lapic_cpuid {
	bool x2apic, tsc_deadline, cmci;
	unsigned physbits;
};
void hv_lapic_set_cpuid(struct hv_vcpu *v, const struct hv_lapic_cpuid *c);
/*
 * The register page, 4 KiB aligned: fit to be the virtual-APIC page. With the
 * TPR shadow the processor writes TPR there, and nothing else needs to be told.
 */
void *hv_lapic_page(struct hv_vcpu *v);
/* @init: INIT, else power-on. */
void hv_lapic_reset(struct hv_vcpu *v, bool init);

/* Highest deliverable vector (IRR above PPR), or -1. With ExtINT from the PIC included in _any. */
int hv_lapic_pending(struct hv_vcpu *v);
bool hv_irq_pending_any(struct hv_vcpu *v);
/*
 * Split irqchip: KVM_INTERRUPT brings an ExtINT; -EEXIST if one waits. Is there
 * room for one, and would LINT0 let it through? (ready_for_interrupt_injection)
 */
int hv_irq_set_extint(struct hv_vcpu *v, u8 vector);
bool hv_lapic_takes_user_extint(struct hv_vcpu *v);
/* Acknowledge: moves IRR to ISR (or INTAs the PIC); -1 if nothing. */
int hv_irq_ack(struct hv_vcpu *v);
/*
 * INIT/SIPI latched in the APIC: change mp_state and reset/start the vCPU. Not
 * to be called while INIT is blocked (SMM, VMX root); it stays latched then.
 */
bool hv_lapic_has_events(struct hv_vcpu *v);
void hv_lapic_accept_events(struct hv_vcpu *v);
/* The latch itself, for MP_STATE and VCPU_EVENTS. hv_lapic_latch() gives @events the value @on. */
enum hv_lapic_event { HV_LAPIC_INIT = 1, HV_LAPIC_SIPI = 2 };
unsigned hv_lapic_latched(struct hv_vcpu *v);
void hv_lapic_latch(struct hv_vcpu *v, unsigned events, bool on);
u8 hv_lapic_sipi_vector(struct hv_vcpu *v);
void hv_lapic_set_sipi_vector(struct hv_vcpu *v, u8 vector);

/* Fixed interrupt @vector for this local APIC: any thread. 1, or 0 if it did not take it. */
int hv_lapic_fixed(struct hv_vcpu *v, u8 vector);
/* Hyper-V's view of the APIC. @reg: 0 EOI, 1 ICR, 2 TPR. 0, or 1 for #GP(0). */
int hv_lapic_synthetic_read(struct hv_vcpu *v, unsigned reg, u64 *val);
int hv_lapic_synthetic_write(struct hv_vcpu *v, unsigned reg, u64 val);
/*
 * Bitmaps of vectors that synthetic sources have (their EOI sets HV_REQ_HYPERV), and of
 * those that end as soon as they are taken.
 */
void hv_lapic_set_synic(struct hv_vcpu *v, const u64 used[4], const u64 self_ending[4]);

/* A corrected machine check interrupts, as LVT CMCI says. */
void hv_lapic_cmci(struct hv_vcpu *v);
/* Performance counters interrupt, as LVTPC says, which is masked by that. Owner thread. */
void hv_lapic_pmi(struct hv_vcpu *v);

/* IA32_APIC_BASE. 0 or -EINVAL (-> #GP). */
int hv_lapic_set_base(struct hv_vcpu *v, u64 val, bool host);
u64 hv_lapic_get_base(struct hv_vcpu *v);
u8 hv_lapic_get_cr8(struct hv_vcpu *v);
void hv_lapic_set_cr8(struct hv_vcpu *v, u8 cr8);

/* x2APIC MSRs 800..8ff, and TSC_DEADLINE. 0, or 1 for #GP. */
int hv_x2apic_read(struct hv_vcpu *v, u32 msr, u64 *val);
int hv_x2apic_write(struct hv_vcpu *v, u32 msr, u64 val);
u64 hv_lapic_get_tscdeadline(struct hv_vcpu *v);
void hv_lapic_set_tscdeadline(struct hv_vcpu *v, u64 val);
/* xAPIC page; true if @gpa belongs to this vCPU's enabled xAPIC. */
bool hv_lapic_mmio_read(struct hv_vcpu *v, u64 gpa, unsigned len, void *data);
bool hv_lapic_mmio_write(struct hv_vcpu *v, u64 gpa, unsigned len, const void *data);
/* Trap-like exits of APIC virtualization. */
void hv_lapic_eoi(struct hv_vcpu *v, u8 vector);

int hv_lapic_get_state(struct hv_vcpu *v, struct kvm_lapic_state *s);
int hv_lapic_set_state(struct hv_vcpu *v, const struct kvm_lapic_state *s);
/*
 * The timer fired or may have: delivers LVTT. Called before every entry and
 * after every wake-up. The APIC has no timer of the host of its own: the run
 * loop sees to it that it is out of the guest, or awake, at the time that
 * hv_lapic_timer_next() says.
 */
void hv_lapic_timer_poll(struct hv_vcpu *v);
/* The guest TSC jumped: re-arm. */
void hv_lapic_tsc_changed(struct hv_vcpu *v);
/* Host time (CLOCK_MONOTONIC ns) of the next timer event, or 0. */
u64 hv_lapic_timer_next(struct hv_vcpu *v);

/* PV EOI: MSR 4b564d04. 0 or 1 (#GP). Sync before entry and after exit. */
int hv_pv_eoi_set(struct hv_vcpu *v, u64 val);
u64 hv_pv_eoi_get(struct hv_vcpu *v);
void hv_pv_eoi_entry(struct hv_vcpu *v);
void hv_pv_eoi_exit(struct hv_vcpu *v);
/* KVM_HC_SEND_IPI: number delivered or -KVM_EINVAL style errno. */
long hv_pv_send_ipi(struct hv_vm *vm, u64 low, u64 high, u32 min_id, u64 icr, bool long_mode);

/* ---- Chips of a VM ---- */

/*
 * KVM_CREATE_IRQCHIP (with default routing), split irqchip, KVM_CREATE_PIT2;
 * vm->lock held. -EEXIST if there is one; -EINVAL (split: -EEXIST) after the
 * first vCPU; split: -EINVAL for more than 24 pins; PIT: -ENOENT without PIC.
 */
int hv_irqchip_create(struct hv_vm *vm);
int hv_irqchip_split(struct hv_vm *vm, u32 pins);
int hv_pit_create(struct hv_vm *vm, const struct kvm_pit_config *c);
void hv_irqchip_free(struct hv_vm *vm);
int hv_irqchip_get(struct hv_vm *vm, struct kvm_irqchip *c);
int hv_irqchip_set(struct hv_vm *vm, const struct kvm_irqchip *c);
int hv_pit_get(struct hv_vm *vm, struct kvm_pit_state2 *s);
int hv_pit_set(struct hv_vm *vm, const struct kvm_pit_state2 *s);
int hv_pit_reinject(struct hv_vm *vm, bool on);

/* Who drives a line; a level line is high while any of them holds it so. */
enum hv_irq_source { HV_IRQ_USER, HV_IRQ_RESAMPLE, HV_IRQ_PIT, HV_NR_IRQ_SOURCES };
/*
 * Returns -ENXIO without any irqchip; else the status of KVM_IRQ_LINE_STATUS:
 * -1 ignored or masked, 0 coalesced, >0 delivered to that many. Any thread.
 */
int hv_irq_line(struct hv_vm *vm, u32 gsi, int level, int source_id);
int hv_signal_msi(struct hv_vm *vm, const struct kvm_msi *msi);
int hv_set_gsi_routing(struct hv_vm *vm, const struct kvm_irq_routing_entry *e, u32 nr, u32 flags);
/*
 * EOI of @vector by a LAPIC: to the IOAPIC, or (split, level) an exit to user
 * space: the vector is stored for hv_lapic_take_eoi_exit() and
 * HV_REQ_IOAPIC_EOI_EXIT set, upon which KVM_RUN returns KVM_EXIT_IOAPIC_EOI.
 */
void hv_ioapic_eoi(struct hv_vcpu *v, u8 vector, bool level);
u8 hv_lapic_take_eoi_exit(struct hv_vcpu *v);
/* Vectors whose EOI must be seen here: for EOI-exit bitmaps. */
void hv_ioapic_eoi_bitmap(struct hv_vcpu *v, u64 bitmap[4]);

/* ---- eventfds ---- */

int hv_irqfd(struct hv_vm *vm, const struct kvm_irqfd *f);
int hv_ioeventfd(struct hv_vm *vm, const struct kvm_ioeventfd *f);
void hv_eventfds_free(struct hv_vm *vm);

/* ---- I/O buses ---- */

struct hv_iodev {
	/* 0 handled, -EOPNOTSUPP not mine. */
	int (*read)(struct hv_iodev *d, struct hv_vcpu *v, u64 addr, unsigned len, void *data);
	int (*write)(struct hv_iodev *d, struct hv_vcpu *v, u64 addr, unsigned len,
		     const void *data);
};
/*
 * Ranges on a bus, safe against running vCPUs; takes slots_lock. An access goes
 * to the devices whose range holds it wholly, until one takes it. Two ranges
 * may overlap only if one is HV_IODEV_SHARED (-EEXIST). @len 0 holds accesses
 * of any length at exactly @addr. -ENOSPC beyond 1000 ranges that are not
 * HV_IODEV_UNCOUNTED, -EINVAL if the range wraps.
 * After hv_iobus_del() no call of @d runs or will be made; not to be called in
 * an epoch section. Device calls run in one: they must not block.
 */
#define HV_IODEV_SHARED 1u
#define HV_IODEV_UNCOUNTED 2u
int hv_iobus_add(struct hv_vm *vm, enum hv_bus bus, u64 addr, u64 len, unsigned flags,
		 struct hv_iodev *d);
void hv_iobus_del(struct hv_vm *vm, enum hv_bus bus, struct hv_iodev *d);
/* 0 handled in the hypervisor; -EOPNOTSUPP: goes to user space. */
int hv_iobus_read(struct hv_vcpu *v, enum hv_bus bus, u64 addr, unsigned len, void *data);
int hv_iobus_write(struct hv_vcpu *v, enum hv_bus bus, u64 addr, unsigned len, const void *data);
void hv_iobus_free(struct hv_vm *vm);

/*
 * vm->coalesced_memfd and coalesced_ring: 0 or -errno. The page is at page 2 of each
 * vCPU mapping.
 */
int hv_coalesced_new(struct hv_vm *vm);
void hv_coalesced_free(struct hv_vm *vm);
int hv_coalesced_register(struct hv_vm *vm, const struct kvm_coalesced_mmio_zone *z);
int hv_coalesced_unregister(struct hv_vm *vm, const struct kvm_coalesced_mmio_zone *z);

#endif
