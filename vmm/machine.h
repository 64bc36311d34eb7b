/* SPDX-License-Identifier: MIT */
/* The machine: what its parts share. */
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/types.h"
#include "vmm/iobus.h"
#include "vmm/irq.h"
#include "vmm/load.h"
#include "vmm/mem.h"
#include "vmm/vmm.h"

struct vcpu;
struct machine_devices;
struct kvm_cpuid2;

struct vmm {
	const struct vmm_config *cfg;
	const struct vmm_sys *sys;
	int kvm_fd, vm_fd;
	size_t run_size;	/* of a vCPU's shared pages */
	bool cap_irqfd, cap_ioeventfd, cap_any_length, cap_tsc_deadline;
	struct kvm_cpuid2 *cpuid;	/* supported leaves, patched per vCPU */

	struct vmm_mem mem;
	struct iobus pio, mmio;
	struct irqs irqs;
	struct machine_devices *dev;
	struct load_entry entry;

	struct vcpu *vcpus;
	unsigned nr_vcpus;

	/* The first end wins. */
	_Atomic bool ended;
	pthread_mutex_t end_lock;
	int end_fd;		/* eventfd: wakes the machine's own thread */
	struct vmm_result *result;
};

/* End the machine: stops all vCPUs. Any thread, any number of times. */
void __printf(4, 5)
	machine_end(struct vmm *vmm, enum vmm_end end, int status, const char *fmt, ...);

/* ---- kvm.c: opening KVM, creation of the VM ---- */

/*
 * Open KVM, check what it has, create VM, irqchip, PIT and RAM. 0, or -errno after machine_end().
 */
int kvm_init(struct vmm *vmm);
void kvm_exit(struct vmm *vmm);

/* ---- vcpu.c ---- */

int vcpus_init(struct vmm *vmm);
int vcpus_start(struct vmm *vmm);
/*
 * Ask all vCPUs whether they are halted for ever; if all are, the machine ends
 * at the second time. To be called now and then while they run.
 */
void vcpus_probe(struct vmm *vmm);
/* Stop and join; true if all threads are gone. */
bool vcpus_stop(struct vmm *vmm);
void vcpus_exit(struct vmm *vmm);

/* ---- vcpu_state.c: initial state ---- */

int vcpu_setup(struct vmm *vmm, unsigned idx, int fd);

/* ---- devices.c ---- */

int devices_init(struct vmm *vmm);
/* The machine's own thread: console input, timers, signals, until the end. */
void devices_loop(struct vmm *vmm);
/* The machine ends and a vCPU does not stop: devices that are busy and may give up do. */
void devices_abandon(struct vmm *vmm);
/* Did the guest say anything on COM1? The words of its panic, if any. Only while no vCPU runs. */
bool devices_any_output(struct vmm *vmm);
bool devices_panic_text(struct vmm *vmm, char *buf, size_t len);
void devices_exit(struct vmm *vmm);

/* ---- acpi.c ---- */

struct acpi_params {
	unsigned cpus;
	bool com2, com3;
};
/* Write the tables to LAYOUT_ACPI. Returns 0 and the RSDP's address, or -ENOMEM. */
int acpi_build(struct vmm_mem *mem, const struct acpi_params *p, u64 *rsdp);

#endif
