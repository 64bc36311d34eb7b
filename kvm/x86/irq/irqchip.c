// SPDX-License-Identifier: MIT
/* Making a VM's interrupt chips, and their state as ioctls see it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvm/x86/irq/chip.h"
#include "kvm/x86/irq/lapic.h"

int hv_irqchip_create(struct hv_vm *vm)
{
	int err;

	if (vm->irqchip_mode != HV_IRQCHIP_NONE)
		return -EEXIST;
	if (atomic_load(&vm->nr_vcpus))
		return -EINVAL;
	err = hv_pic_new(vm);
	if (err)
		return err;
	err = hv_ioapic_new(vm);
	if (err)
		goto no_ioapic;
	vm->irqchip_mode = HV_IRQCHIP_KERNEL;
	err = hv_routing_default(vm);
	if (err)
		goto no_routing;
	return 0;

no_routing:
	vm->irqchip_mode = HV_IRQCHIP_NONE;
	hv_ioapic_free(vm);
no_ioapic:
	hv_pic_free(vm);
	return err;
}

int hv_irqchip_split(struct hv_vm *vm, u32 pins)
{
	if (pins > IOAPIC_PINS)
		return -EINVAL;
	if (vm->irqchip_mode != HV_IRQCHIP_NONE || atomic_load(&vm->nr_vcpus))
		return -EEXIST;
	vm->nr_ioapic_pins = pins;
	vm->irqchip_mode = HV_IRQCHIP_SPLIT;
	return 0;
}

void hv_irqchip_free(struct hv_vm *vm)
{
	hv_pit_free(vm);
	hv_ioapic_free(vm);
	hv_pic_free(vm);
	hv_routing_free(vm);
	free(atomic_exchange(&vm->apic_map, NULL));
}

int hv_irqchip_get(struct hv_vm *vm, struct kvm_irqchip *c)
{
	if (vm->irqchip_mode != HV_IRQCHIP_KERNEL)
		return -ENXIO;
	memset(&c->chip, 0, sizeof(c->chip));
	switch (c->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
	case KVM_IRQCHIP_PIC_SLAVE:
		hv_pic_get(vm, c->chip_id, &c->chip.pic);
		return 0;
	case KVM_IRQCHIP_IOAPIC:
		hv_ioapic_get(vm, &c->chip.ioapic);
		return 0;
	}
	return -EINVAL;
}

int hv_irqchip_set(struct hv_vm *vm, const struct kvm_irqchip *c)
{
	if (vm->irqchip_mode != HV_IRQCHIP_KERNEL)
		return -ENXIO;
	switch (c->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
	case KVM_IRQCHIP_PIC_SLAVE:
		hv_pic_set(vm, c->chip_id, &c->chip.pic);
		return 0;
	case KVM_IRQCHIP_IOAPIC:
		hv_ioapic_set(vm, &c->chip.ioapic);
		return 0;
	}
	return -EINVAL;
}
