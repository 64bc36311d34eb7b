// SPDX-License-Identifier: MIT
/*
 * Coalesced MMIO and PIO: writes to registered zones are queued in a ring that
 * user space drains at its next exit, instead of causing one each.
 *
 * The ring is one page for the whole VM, writable by the client. Its indices
 * are therefore untrusted: an index out of range makes the write an ordinary
 * exit. Lock: coalesced_lock for the ring; slots_lock for the list of zones.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "kvm/x86/irq/irq.h"

struct zone {
	struct list link;
	struct hv_vm *vm;
	struct hv_iodev dev;
	u64 addr;
	u32 size, pio;
};

static int zone_write(struct hv_iodev *d, struct hv_vcpu *v, u64 addr, unsigned len,
		      const void *data)
{
	struct zone *z = container_of(d, struct zone, dev);
	struct kvm_coalesced_mmio_ring *ring = z->vm->coalesced_ring;
	struct kvm_coalesced_mmio *e;
	u32 last, next;
	int ret = -EOPNOTSUPP;

	if (len > sizeof(e->data))
		return ret;
	pthread_mutex_lock(&z->vm->coalesced_lock);
	last = __atomic_load_n(&ring->last, __ATOMIC_RELAXED);
	if (last >= KVM_COALESCED_MMIO_MAX)
		goto out;
	next = last + 1 == KVM_COALESCED_MMIO_MAX ? 0 : last + 1;
	if (next == __atomic_load_n(&ring->first, __ATOMIC_ACQUIRE))
		goto out;
	e = &ring->coalesced_mmio[last];
	e->phys_addr = addr;
	e->len = len;
	e->pio = z->pio;
	memcpy(e->data, data, len);
	__atomic_store_n(&ring->last, next, __ATOMIC_RELEASE);
	ret = 0;
out:
	pthread_mutex_unlock(&z->vm->coalesced_lock);
	return ret;
}

int hv_coalesced_new(struct hv_vm *vm)
{
	void *page;
	int fd, err;

	list_init(&vm->coalesced_zones);
	vm->coalesced_memfd = -1;
	fd = memfd_create("userkvm-coalesced", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, PAGE_SIZE)) {
		err = -errno;
		goto close;
	}
	page = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED) {
		err = -errno;
		goto close;
	}
	pthread_mutex_init(&vm->coalesced_lock, NULL);
	vm->coalesced_ring = page;
	vm->coalesced_memfd = fd;
	return 0;
close:
	close(fd);
	return err;
}

static enum hv_bus zone_bus(const struct zone *z)
{
	return z->pio ? HV_BUS_PIO : HV_BUS_MMIO;
}

void hv_coalesced_free(struct hv_vm *vm)
{
	struct list *p, *n;

	if (!vm->coalesced_ring)
		return;
	list_for_each_safe(p, n, &vm->coalesced_zones) {
		struct zone *z = list_entry(p, struct zone, link);

		hv_iobus_del(vm, zone_bus(z), &z->dev);
		free(z);
	}
	munmap(vm->coalesced_ring, PAGE_SIZE);
	vm->coalesced_ring = NULL;
	close(vm->coalesced_memfd);
	vm->coalesced_memfd = -1;
	pthread_mutex_destroy(&vm->coalesced_lock);
}

int hv_coalesced_register(struct hv_vm *vm, const struct kvm_coalesced_mmio_zone *c)
{
	struct zone *z;
	int err;

	if (c->pio > 1)
		return -EINVAL;
	z = calloc(1, sizeof(*z));
	if (!z)
		return -ENOMEM;
	z->vm = vm;
	z->addr = c->addr;
	z->size = c->size;
	z->pio = c->pio;
	z->dev.write = zone_write;
	/* A zone of no bytes holds no access, but a bus range of length 0 would. */
	err = c->size ? hv_iobus_add(vm, zone_bus(z), z->addr, z->size, HV_IODEV_SHARED, &z->dev)
		      : 0;
	if (err) {
		free(z);
		return err;
	}
	pthread_mutex_lock(&vm->slots_lock);
	list_add_tail(&z->link, &vm->coalesced_zones);
	pthread_mutex_unlock(&vm->slots_lock);
	return 0;
}

static struct zone *take_containing(struct hv_vm *vm, const struct kvm_coalesced_mmio_zone *c)
{
	struct zone *found = NULL;
	struct list *p;

	pthread_mutex_lock(&vm->slots_lock);
	list_for_each(p, &vm->coalesced_zones) {
		struct zone *z = list_entry(p, struct zone, link);

		if (z->pio == c->pio && c->addr >= z->addr && c->addr - z->addr <= z->size &&
		    c->size <= z->size - (c->addr - z->addr)) {
			list_del(&z->link);
			found = z;
			break;
		}
	}
	pthread_mutex_unlock(&vm->slots_lock);
	return found;
}

int hv_coalesced_unregister(struct hv_vm *vm, const struct kvm_coalesced_mmio_zone *c)
{
	struct zone *z;

	if (c->pio > 1)
		return -EINVAL;
	while ((z = take_containing(vm, c))) {
		hv_iobus_del(vm, zone_bus(z), &z->dev);
		free(z);
	}
	return 0;
}
