/* SPDX-License-Identifier: MIT */
/*
 * The chips of a VM among themselves: PIC, IOAPIC, PIT, routing.
 *
 * Locks: one per chip. None is held while another chip, a routing lookup or an
 * acknowledge notification runs, except that messages to local APICs, which
 * take no lock, go out under the IOAPIC's.
 */
#ifndef KVM_X86_IRQ_CHIP_H
#define KVM_X86_IRQ_CHIP_H

#include "kvm/x86/irq/irq.h"

#define PIC_PINS 16
#define IOAPIC_PINS KVM_IOAPIC_NUM_PINS
#define HV_MAX_GSI 4096

struct apic_msg;

/* pic.c */
int hv_pic_new(struct hv_vm *vm);
void hv_pic_free(struct hv_vm *vm);
/* Status as hv_irq_line(). */
int hv_pic_set_irq(struct hv_vm *vm, unsigned pin, enum hv_irq_source source, bool level);
/* INTR, lock-free; and INTA: always a vector, the spurious one if nothing is left. */
bool hv_pic_output(struct hv_pic *pic);
int hv_pic_ack(struct hv_pic *pic);
void hv_pic_get(struct hv_vm *vm, unsigned chip, struct kvm_pic_state *s);
void hv_pic_set(struct hv_vm *vm, unsigned chip, const struct kvm_pic_state *s);

/* ioapic.c */
int hv_ioapic_new(struct hv_vm *vm);
void hv_ioapic_free(struct hv_vm *vm);
int hv_ioapic_set_irq(struct hv_vm *vm, unsigned pin, enum hv_irq_source source, bool level);
void hv_ioapic_get(struct hv_vm *vm, struct kvm_ioapic_state *s);
void hv_ioapic_set(struct hv_vm *vm, const struct kvm_ioapic_state *s);

/* pit.c */
void hv_pit_free(struct hv_vm *vm);
/* The guest acknowledged, or unmasked, the PIT's interrupt. */
void hv_pit_acked(struct hv_vm *vm);
void hv_pit_unmasked(struct hv_vm *vm);

/* routing.c */
int hv_routing_default(struct hv_vm *vm);
void hv_routing_free(struct hv_vm *vm);
/*
 * The guest completed the interrupt of a chip's pin (KVM_IRQCHIP_*): tells who waits for it. No
 * lock held.
 */
void hv_irq_acked(struct hv_vm *vm, unsigned chip, unsigned pin);
/* Vectors of level-triggered MSI routes, for a split irqchip. */
void hv_routing_level_vectors(struct hv_vm *vm, u64 bitmap[4]);

/* eventfd.c: lower the line of resampling irqfds of @gsi and tell their owners. */
void hv_irqfd_acked(struct hv_vm *vm, u32 gsi);

#endif
