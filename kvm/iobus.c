// SPDX-License-Identifier: MIT
/*
 * The I/O buses of a VM: which device has which range.
 *
 * A bus is an immutable array sorted by start address, found by readers in an
 * epoch section and replaced as a whole when a range is added. Next to each
 * range stands the highest end of all ranges up to it, so that overlapping
 * ranges cost nothing where there are none: a search goes to the last range
 * that starts at or before the address and walks back only while an earlier
 * range still reaches it.
 *
 * Removing must not fail, so it does not allocate: the device pointer becomes
 * NULL, and the next addition leaves the row out.
 *
 * Lock: slots_lock for writers.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/epoch.h"
#include "base/log.h"
#include "kvm/x86/irq/irq.h"

#define BUS_LIMIT 1000		/* as KVM's NR_IOBUS_DEVS */

struct range {
	u64 addr, last;		/* inclusive; len 0 in @any_len */
	u64 reach;		/* highest last of the ranges up to this one */
	unsigned flags;
	bool any_len;
	struct hv_iodev *_Atomic dev;
};

struct hv_iobus {
	struct epoch_node epoch;
	unsigned nr;
	struct range r[];
};

static void bus_free(struct epoch_node *n)
{
	free(container_of(n, struct hv_iobus, epoch));
}

static bool conflicts(const struct range *a, const struct range *b)
{
	return !((a->flags | b->flags) & HV_IODEV_SHARED) && a->addr <= b->last &&
	       b->addr <= a->last;
}

static void range_copy(struct hv_iobus *bus, const struct range *r)
{
	struct range *to = &bus->r[bus->nr];
	u64 reach = bus->nr ? bus->r[bus->nr - 1].reach : 0;

	to->addr = r->addr;
	to->last = r->last;
	to->flags = r->flags;
	to->any_len = r->any_len;
	atomic_init(&to->dev, atomic_load(&r->dev));
	to->reach = max(reach, r->last);
	bus->nr++;
}

int hv_iobus_add(struct hv_vm *vm, enum hv_bus bus, u64 addr, u64 len, unsigned flags,
		 struct hv_iodev *d)
{
	struct range new = {
		.addr = addr,
		.last = len ? addr + len - 1 : addr,
		.flags = flags,
		.any_len = !len,
		.dev = d,
	};
	struct hv_iobus *old, *next;
	unsigned i, nr, counted = 0;
	bool placed = false;
	int err = 0;

	if (new.last < addr)
		return -EINVAL;
	pthread_mutex_lock(&vm->slots_lock);
	old = atomic_load(&vm->buses[bus]);
	nr = old ? old->nr : 0;
	for (i = 0; i < nr; i++) {
		if (!atomic_load(&old->r[i].dev))
			continue;
		counted += !(old->r[i].flags & HV_IODEV_UNCOUNTED);
		if (conflicts(&old->r[i], &new))
			err = -EEXIST;
	}
	if (!err && !(flags & HV_IODEV_UNCOUNTED) && counted >= BUS_LIMIT)
		err = -ENOSPC;
	if (err)
		goto out;

	err = -ENOMEM;
	next = calloc(1, sizeof(*next) + (nr + 1) * sizeof(next->r[0]));
	if (!next)
		goto out;
	for (i = 0; i < nr; i++) {
		if (!atomic_load(&old->r[i].dev))
			continue;
		if (!placed && old->r[i].addr > addr) {
			range_copy(next, &new);
			placed = true;
		}
		range_copy(next, &old->r[i]);
	}
	if (!placed)
		range_copy(next, &new);
	atomic_store(&vm->buses[bus], next);
	if (old)
		epoch_defer(&old->epoch, bus_free);
	err = 0;
out:
	pthread_mutex_unlock(&vm->slots_lock);
	return err;
}

void hv_iobus_del(struct hv_vm *vm, enum hv_bus bus, struct hv_iodev *d)
{
	struct hv_iobus *b;

	pthread_mutex_lock(&vm->slots_lock);
	b = atomic_load(&vm->buses[bus]);
	for (unsigned i = 0; b && i < b->nr; i++) {
		if (atomic_load(&b->r[i].dev) == d)
			atomic_store(&b->r[i].dev, NULL);
	}
	pthread_mutex_unlock(&vm->slots_lock);
	/* Not under the lock: a reader may be waiting for it. */
	epoch_synchronize();
}

void hv_iobus_free(struct hv_vm *vm)
{
	for (unsigned i = 0; i < HV_NR_BUSES; i++)
		free(atomic_exchange(&vm->buses[i], NULL));
}

/* Index of the first range that starts after @addr. */
static unsigned upper_bound(const struct hv_iobus *b, u64 addr)
{
	unsigned lo = 0, hi = b->nr;

	while (lo < hi) {
		unsigned mid = lo + (hi - lo) / 2;

		if (b->r[mid].addr <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static bool holds(const struct range *r, u64 addr, unsigned len)
{
	if (r->any_len)
		return addr == r->addr;
	return len && addr >= r->addr && addr <= r->last && len - 1 <= r->last - addr;
}

static int access_bus(struct hv_vcpu *v, enum hv_bus bus, u64 addr, unsigned len, void *rd,
		      const void *wr)
{
	struct hv_iobus *b;
	int ret = -EOPNOTSUPP;

	epoch_enter();
	b = atomic_load(&v->vm->buses[bus]);
	for (unsigned i = b ? upper_bound(b, addr) : 0; ret && i > 0 && b->r[i - 1].reach >= addr;
	     i--) {
		struct hv_iodev *d = atomic_load(&b->r[i - 1].dev);

		if (!d || !holds(&b->r[i - 1], addr, len))
			continue;
		if (rd)
			ret = d->read ? d->read(d, v, addr, len, rd) : -EOPNOTSUPP;
		else
			ret = d->write ? d->write(d, v, addr, len, wr) : -EOPNOTSUPP;
	}
	epoch_exit();
	return ret;
}

int hv_iobus_read(struct hv_vcpu *v, enum hv_bus bus, u64 addr, unsigned len, void *data)
{
	return access_bus(v, bus, addr, len, data, NULL);
}

int hv_iobus_write(struct hv_vcpu *v, enum hv_bus bus, u64 addr, unsigned len, const void *data)
{
	return access_bus(v, bus, addr, len, NULL, data);
}
