// SPDX-License-Identifier: MIT
/* Pins and messages. */
#include "vmm/irq.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "abi/kvm.h"
#include "base/log.h"
#include "vmm/layout.h"

void irqs_init(struct irqs *q, const struct vmm_sys *sys, int vm_fd, bool irqfd)
{
	memset(q, 0, sizeof(*q));
	q->sys = sys;
	q->vm_fd = vm_fd;
	q->irqfd = irqfd;
	pthread_mutex_init(&q->lock, NULL);
}

void irqs_exit(struct irqs *q)
{
	for (int i = 0; i < IRQ_MAX_MSI; i++)
		if (q->msi[i].used)
			irq_msi_free(q, i);
	pthread_mutex_destroy(&q->lock);
}

void irq_line(struct irqs *q, unsigned gsi, bool level)
{
	struct kvm_irq_level l = { .irq = gsi, .level = level };
	long ret = q->sys->ioctl(q->vm_fd, KVM_IRQ_LINE, (unsigned long)&l);

	if (ret < 0)
		log_error("KVM_IRQ_LINE of pin %u: %s", gsi, strerror((int)-ret));
}

void irq_shared(struct irqs *q, unsigned gsi, bool assert)
{
	pthread_mutex_lock(&q->lock);
	/* Under the lock, so that KVM sees the changes in our order. */
	if (assert && q->asserted[gsi]++ == 0)
		irq_line(q, gsi, true);
	else if (!assert && --q->asserted[gsi] == 0)
		irq_line(q, gsi, false);
	pthread_mutex_unlock(&q->lock);
}

static void route_pin(struct kvm_irq_routing_entry *e, u32 gsi, u32 chip, u32 pin)
{
	*e = (struct kvm_irq_routing_entry){ .gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP };
	e->u.irqchip.irqchip = chip;
	e->u.irqchip.pin = pin;
}

/* KVM replaces the whole table at each call, so the pins of its default table come along. */
static int irq_write_routes(struct irqs *q)
{
	struct kvm_irq_routing *t;
	u32 n = 0;
	long ret;

	t = calloc(1, sizeof(*t) + (16 + IRQ_NR_PINS + IRQ_MAX_MSI) * sizeof(t->entries[0]));
	if (!t)
		return -ENOMEM;
	for (u32 i = 0; i < 16; i++)
		if (i != 2)
			route_pin(&t->entries[n++], i,
				  i < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, i % 8);
	/* The timer, GSI 0, is wired to IOAPIC pin 2 (MADT interrupt source override). */
	for (u32 i = 0; i < IRQ_NR_PINS; i++)
		if (i != 2)
			route_pin(&t->entries[n++], i, KVM_IRQCHIP_IOAPIC, i == 0 ? 2 : i);
	for (u32 i = 0; i < IRQ_MAX_MSI; i++) {
		struct kvm_irq_routing_entry *e = &t->entries[n];
		const struct irq_msi *m = &q->msi[i];

		if (!m->routed)
			continue;
		*e = (struct kvm_irq_routing_entry){.gsi = IRQ_MSI_FIRST + i,
						    .type = KVM_IRQ_ROUTING_MSI};
		e->u.msi.address_lo = (u32)m->addr;
		e->u.msi.address_hi = (u32)(m->addr >> 32);
		e->u.msi.data = m->data;
		n++;
	}
	t->nr = n;
	ret = q->sys->ioctl(q->vm_fd, KVM_SET_GSI_ROUTING, (unsigned long)t);
	free(t);
	return (int)ret;
}

static int irq_msi_irqfd(struct irqs *q, int msi, u32 flags)
{
	struct kvm_irqfd f = {
		.fd = (u32)q->msi[msi].fd, .gsi = IRQ_MSI_FIRST + (u32)msi, .flags = flags};

	return (int)q->sys->ioctl(q->vm_fd, KVM_IRQFD, (unsigned long)&f);
}

int irq_msi_alloc(struct irqs *q)
{
	int i, ret;

	pthread_mutex_lock(&q->lock);
	for (i = 0; i < IRQ_MAX_MSI && q->msi[i].used; i++)
		;
	ret = i < IRQ_MAX_MSI ? i : -ENOSPC;
	if (ret < 0)
		goto out;
	q->msi[i] = (struct irq_msi){ .used = true, .fd = -1 };
	if (q->irqfd) {
		q->msi[i].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (q->msi[i].fd < 0) {
			ret = -errno;
			q->msi[i].used = false;
			goto out;
		}
	}
out:
	pthread_mutex_unlock(&q->lock);
	return ret;
}

void irq_msi_free(struct irqs *q, int msi)
{
	struct irq_msi *m = &q->msi[msi];

	pthread_mutex_lock(&q->lock);
	if (m->fd >= 0) {
		if (m->routed && irq_msi_irqfd(q, msi, KVM_IRQFD_FLAG_DEASSIGN))
			log_error("KVM_IRQFD cannot release message slot %d", msi);
		close(m->fd);
	}
	*m = (struct irq_msi){ .fd = -1 };
	pthread_mutex_unlock(&q->lock);
}

void irq_msi_set(struct irqs *q, int msi, u64 addr, u32 data)
{
	struct irq_msi *m = &q->msi[msi];
	int ret = 0;

	pthread_mutex_lock(&q->lock);
	if (!m->routed || m->addr != addr || m->data != data) {
		bool first = !m->routed;

		m->addr = addr;
		m->data = data;
		m->routed = true;
		if (q->irqfd) {
			ret = irq_write_routes(q);
			if (!ret && first)
				ret = irq_msi_irqfd(q, msi, 0);
		}
		if (ret)
			log_error("cannot route message slot %d: %s", msi, strerror(-ret));
	}
	pthread_mutex_unlock(&q->lock);
}

void irq_msi_fire(struct irqs *q, int msi)
{
	struct irq_msi *m = &q->msi[msi];
	struct kvm_msi msg = { 0 };

	if (q->irqfd) {
		const u64 one = 1;

		/* Full means 2^64 - 2 unread events: the interrupt is pending anyhow. */
		if (write(m->fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
			log_error("message slot %d: %s", msi, strerror(errno));
		return;
	}
	pthread_mutex_lock(&q->lock);
	msg.address_lo = (u32)m->addr;
	msg.address_hi = (u32)(m->addr >> 32);
	msg.data = m->data;
	pthread_mutex_unlock(&q->lock);
	if (q->sys->ioctl(q->vm_fd, KVM_SIGNAL_MSI, (unsigned long)&msg) < 0)
		log_error("KVM_SIGNAL_MSI failed for message slot %d", msi);
}
