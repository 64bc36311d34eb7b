// SPDX-License-Identifier: MIT
/*
 * From global interrupt numbers to pins and messages, and back from pins to
 * those who wait for an acknowledgement.
 *
 * The table is immutable, replaced as a whole under irq_lock, and read in an
 * epoch section, which ends before anything is delivered.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/trace.h"
#include "kvm/x86/hyperv/hyperv.h"
#include "kvm/x86/irq/chip.h"
#include "kvm/x86/irq/lapic.h"

/* Per GSI: one pin on each of PIC pair and IOAPIC, or one message. */
#define MAX_ROUTES KVM_NR_IRQCHIPS
#define NO_GSI UINT32_MAX

struct route {
	u32 type;		/* KVM_IRQ_ROUTING_* */
	union {
		struct kvm_irq_routing_irqchip chip;
		struct kvm_irq_routing_msi msi;
		struct kvm_irq_routing_hv_sint sint;
	};
};

struct hv_irq_routing {
	struct epoch_node epoch;
	u32 pin_gsi[KVM_NR_IRQCHIPS][IOAPIC_PINS];
	u16 first[HV_MAX_GSI + 1];	/* routes of GSI g: first[g] .. first[g + 1] - 1 */
	struct route route[];
};

static void routing_free(struct epoch_node *n)
{
	free(container_of(n, struct hv_irq_routing, epoch));
}

/* ---- Messages ---- */

/*
 * SDM vol. 3A "Message Signalled Interrupts". Address bits of wide IDs only with
 * KVM_CAP_X2APIC_API.
 */
static int msi_message(struct hv_vm *vm, const struct kvm_irq_routing_msi *msi, struct apic_msg *m)
{
	if (vm->x2apic_format && (msi->address_hi & 0xff))
		return -EINVAL;
	*m = (struct apic_msg){
		.dest = (msi->address_lo >> 12 & 0xff) | (vm->x2apic_format ? msi->address_hi : 0),
		.logical = msi->address_lo >> 2 & 1,
		.msi_redir = msi->address_lo >> 3 & 1,
		.vector = (u8)msi->data,
		.mode = msi->data >> 8 & 7,
		.level = msi->data >> 15 & 1,
		.assert = true,
	};
	return 0;
}

static int send_msi(struct hv_vm *vm, const struct kvm_irq_routing_msi *msi)
{
	struct apic_msg m;
	int err = msi_message(vm, msi, &m);

	trace(kvm_msi_set_irq, "dst %llx vec %u (%s|%s|%s%s)", (unsigned long long)m.dest, m.vector,
	      apic_delivery_name(m.mode), m.logical ? "logical" : "physical", m.level ? "level" : "edge",
	      m.msi_redir ? "|rh" : "");
	return err ? err : apic_send(vm, &m, NULL, NULL);
}

int hv_signal_msi(struct hv_vm *vm, const struct kvm_msi *msi)
{
	struct kvm_irq_routing_msi r = {
		.address_lo = msi->address_lo, .address_hi = msi->address_hi, .data = msi->data,
	};
	struct apic_msg m;
	int err;

	if (vm->irqchip_mode == HV_IRQCHIP_NONE || msi->flags)
		return -EINVAL;
	err = msi_message(vm, &r, &m);
	/* Addressed to nobody: the guest has blocked it. */
	return err ? err : max(apic_send(vm, &m, NULL, NULL), 0);
}

/* ---- Lines ---- */

static int set_route(struct hv_vm *vm, const struct route *r, int level, enum hv_irq_source source)
{
	if (r->type == KVM_IRQ_ROUTING_MSI)
		return level ? send_msi(vm, &r->msi) : -1;
	if (r->type == KVM_IRQ_ROUTING_HV_SINT)
		return level ? hyperv_raise_sint(vm, r->sint.vcpu, r->sint.sint) : -1;
	switch (r->chip.irqchip) {
	case KVM_IRQCHIP_PIC_MASTER:
		return hv_pic_set_irq(vm, r->chip.pin, source, level);
	case KVM_IRQCHIP_PIC_SLAVE:
		return hv_pic_set_irq(vm, r->chip.pin + 8, source, level);
	default:
		return hv_ioapic_set_irq(vm, r->chip.pin, source, level);
	}
}

int hv_irq_line(struct hv_vm *vm, u32 gsi, int level, int source_id)
{
	struct hv_irq_routing *t;
	struct route r[MAX_ROUTES];
	unsigned n = 0;
	int ret = -1;

	trace(kvm_set_irq, "gsi %u level %d source %d", gsi, level, source_id);
	if (vm->irqchip_mode == HV_IRQCHIP_NONE)
		return -ENXIO;
	epoch_enter();
	t = atomic_load(&vm->routing);
	if (t && gsi < HV_MAX_GSI) {
		n = t->first[gsi + 1] - t->first[gsi];
		memcpy(r, &t->route[t->first[gsi]], n * sizeof(r[0]));
	}
	epoch_exit();
	for (unsigned i = 0; i < n; i++) {
		int one = set_route(vm, &r[i], level, source_id);

		if (one >= 0)
			ret = max(ret, 0) + one;
	}
	return ret;
}

void hv_irq_acked(struct hv_vm *vm, unsigned chip, unsigned pin)
{
	struct hv_irq_routing *t;
	u32 gsi = NO_GSI;

	trace(kvm_ack_irq, "irqchip %s pin %u", chip == KVM_IRQCHIP_IOAPIC ? "IOAPIC" :
	      chip == KVM_IRQCHIP_PIC_SLAVE ? "PIC slave" : "PIC master", pin);
	epoch_enter();
	t = atomic_load(&vm->routing);
	if (t)
		gsi = t->pin_gsi[chip][pin];
	epoch_exit();
	if (gsi == NO_GSI)
		return;
	if (gsi == 0)
		hv_pit_acked(vm);
	hv_irqfd_acked(vm, gsi);
}

void hv_routing_level_vectors(struct hv_vm *vm, u64 bitmap[4])
{
	struct hv_irq_routing *t;

	epoch_enter();
	t = atomic_load(&vm->routing);
	for (unsigned i = 0; t && i < t->first[HV_MAX_GSI]; i++) {
		struct apic_msg m;

		if (t->route[i].type == KVM_IRQ_ROUTING_MSI &&
		    !msi_message(vm, &t->route[i].msi, &m) && m.level)
			bitmap[m.vector / 64] |= BIT(m.vector % 64);
	}
	epoch_exit();
}

/* ---- The table ---- */

static int check_entry(struct hv_vm *vm, const struct kvm_irq_routing_entry *e)
{
	struct kvm_irq_routing_msi msi;
	struct apic_msg m;

	/* KVM_MSI_VALID_DEVID is for architectures with interrupt translation. */
	if (e->gsi >= HV_MAX_GSI || e->flags)
		return -EINVAL;
	switch (e->type) {
	case KVM_IRQ_ROUTING_IRQCHIP:
		if (vm->irqchip_mode != HV_IRQCHIP_KERNEL)
			return -EINVAL;
		switch (e->u.irqchip.irqchip) {
		case KVM_IRQCHIP_PIC_MASTER:
		case KVM_IRQCHIP_PIC_SLAVE:
			return e->u.irqchip.pin < PIC_PINS / 2 ? 0 : -EINVAL;
		case KVM_IRQCHIP_IOAPIC:
			return e->u.irqchip.pin < IOAPIC_PINS ? 0 : -EINVAL;
		}
		return -EINVAL;
	case KVM_IRQ_ROUTING_MSI:
		memcpy(&msi, &e->u.msi, sizeof(msi));
		return msi_message(vm, &msi, &m);
	case KVM_IRQ_ROUTING_HV_SINT:
		/* Who it is for may come to life later. */
		return 0;
	}
	return -EINVAL;
}

/* A GSI has one pin of each chip, or one message. */
static bool clash(const struct kvm_irq_routing_entry *a, const struct kvm_irq_routing_entry *b)
{
	return a->type != KVM_IRQ_ROUTING_IRQCHIP || b->type != KVM_IRQ_ROUTING_IRQCHIP ||
	       a->u.irqchip.irqchip == b->u.irqchip.irqchip;
}

static void add_route(struct hv_irq_routing *t, unsigned at, const struct kvm_irq_routing_entry *e)
{
	struct route *r = &t->route[at];

	r->type = e->type;
	if (e->type == KVM_IRQ_ROUTING_MSI) {
		r->msi = e->u.msi;
		return;
	}
	if (e->type == KVM_IRQ_ROUTING_HV_SINT) {
		r->sint = e->u.hv_sint;
		return;
	}
	r->chip = e->u.irqchip;
	t->pin_gsi[r->chip.irqchip][r->chip.pin] = e->gsi;
}

static int build(struct hv_vm *vm, const struct kvm_irq_routing_entry *e, u32 nr,
		 struct hv_irq_routing **out)
{
	struct hv_irq_routing *t;
	u16 *last;	/* per GSI: index + 1 of the last entry seen */
	u16 *prev;	/* per entry: the one before it of the same GSI */
	int err = -ENOMEM;
	unsigned at = 0;

	t = calloc(1, sizeof(*t) + nr * sizeof(t->route[0]));
	last = calloc(HV_MAX_GSI, sizeof(*last));
	prev = calloc(nr + 1, sizeof(*prev));
	if (!t || !last || !prev)
		goto out;
	err = -EINVAL;
	memset(t->pin_gsi, 0xff, sizeof(t->pin_gsi));
	for (u32 i = 0; i < nr; i++) {
		if (check_entry(vm, &e[i]))
			goto out;
		prev[i] = last[e[i].gsi];
		last[e[i].gsi] = i + 1;
		for (u16 p = prev[i]; p; p = prev[p - 1]) {
			if (clash(&e[i], &e[p - 1]))
				goto out;
		}
	}
	for (u32 g = 0; g < HV_MAX_GSI; g++) {
		unsigned back;

		t->first[g] = at;
		for (u16 p = last[g]; p; p = prev[p - 1])
			at++;
		/*
		 * In the caller's order: the PIC has its request before the IOAPIC may
		 * announce it.
		 */
		back = at;
		for (u16 p = last[g]; p; p = prev[p - 1])
			add_route(t, --back, &e[p - 1]);
	}
	t->first[HV_MAX_GSI] = at;
	*out = t;
	t = NULL;
	err = 0;
out:
	free(prev);
	free(last);
	free(t);
	return err;
}

int hv_set_gsi_routing(struct hv_vm *vm, const struct kvm_irq_routing_entry *e, u32 nr, u32 flags)
{
	struct hv_irq_routing *t, *old;
	int err;

	if (vm->irqchip_mode == HV_IRQCHIP_NONE || flags || nr > HV_MAX_GSI)
		return -EINVAL;
	err = build(vm, e, nr, &t);
	if (err)
		return err;
	pthread_mutex_lock(&vm->irq_lock);
	old = atomic_exchange(&vm->routing, t);
	pthread_mutex_unlock(&vm->irq_lock);
	if (old)
		epoch_defer(&old->epoch, routing_free);
	return 0;
}

/* GSIs 0-15 go to PIC and IOAPIC pins of the same number, 16-23 to the IOAPIC. */
int hv_routing_default(struct hv_vm *vm)
{
	struct kvm_irq_routing_entry e[PIC_PINS + IOAPIC_PINS] = { 0 };
	unsigned n = 0;

	for (u32 gsi = 0; gsi < IOAPIC_PINS; gsi++) {
		if (gsi < PIC_PINS)
			e[n++] = (struct kvm_irq_routing_entry){
				.gsi = gsi,
				.type = KVM_IRQ_ROUTING_IRQCHIP,
				.u.irqchip = {gsi / 8 ? KVM_IRQCHIP_PIC_SLAVE
						      : KVM_IRQCHIP_PIC_MASTER,
					      gsi % 8},
			};
		e[n++] = (struct kvm_irq_routing_entry){
			.gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = { KVM_IRQCHIP_IOAPIC, gsi },
		};
	}
	return hv_set_gsi_routing(vm, e, n, 0);
}

void hv_routing_free(struct hv_vm *vm)
{
	free(atomic_exchange(&vm->routing, NULL));
}
