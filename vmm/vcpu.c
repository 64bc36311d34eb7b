// SPDX-License-Identifier: MIT
/* vCPU threads: the KVM_RUN loop, its exits, and how the threads are stopped. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "abi/kvm.h"
#include "base/log.h"
#include "vmm/machine.h"
#include "vmm/virtio.h"

/* Free for us: KVM's clients use SIGRTMIN + 0..2 (kvmtool), SIGUSR1 (QEMU). */
#define KICK_SIGNAL (SIGRTMIN + 3)
#define STOP_PATIENCE_S 10
#define RFLAGS_IF 0x200u

struct vcpu {
	struct vmm *vmm;
	unsigned idx;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool started;
	_Atomic bool probe;		/* the machine's thread wants to know whether it is dead */
	_Atomic unsigned dead;		/* probes in a row that found it so */
};

static void kick_handler(int sig)
{
	/* Only to interrupt KVM_RUN: immediate_exit tells why. */
}

static void vcpu_io(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	u8 *data = (u8 *)run + run->io.data_offset;

	for (u32 i = 0; i < run->io.count; i++) {
		iobus_access(&v->vmm->pio, run->io.port, data, run->io.size,
			     run->io.direction == KVM_EXIT_IO_OUT);
		data += run->io.size;
		/* A device that ended the machine ends the string instruction too. */
		if (atomic_load(&v->vmm->ended))
			break;
	}
}

/* Where it stopped, for the messages of failures. */
static u64 vcpu_rip(struct vcpu *v)
{
	struct kvm_regs r = { 0 };

	if (v->vmm->sys->ioctl(v->fd, KVM_GET_REGS, (unsigned long)&r) < 0)
		return 0;
	return r.rip;
}

static void vcpu_exit(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	struct vmm *vmm = v->vmm;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		vcpu_io(v);
		break;
	case KVM_EXIT_MMIO:
		iobus_access(&vmm->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len,
			     run->mmio.is_write);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		break;
	case KVM_EXIT_SHUTDOWN:
		machine_end(vmm, VMM_END_TRIPLE_FAULT, 0, "triple fault on vCPU %u at RIP %#llx",
			    v->idx, (unsigned long long)vcpu_rip(v));
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		if (run->system_event.type == KVM_SYSTEM_EVENT_SHUTDOWN)
			machine_end(vmm, VMM_END_POWEROFF, 0, "power-off");
		else if (run->system_event.type == KVM_SYSTEM_EVENT_RESET)
			machine_end(vmm, VMM_END_REBOOT, 0, "reset");
		else
			machine_end(vmm, VMM_END_PANIC, 0, "guest reported a crash");
		break;
	case KVM_EXIT_FAIL_ENTRY:
		machine_end(vmm, VMM_END_ERROR, 0,
			    "vCPU %u: entry to the guest failed, hardware reason %#llx, "
			    "RIP %#llx",
			    v->idx,
			    (unsigned long long)run->fail_entry.hardware_entry_failure_reason,
			    (unsigned long long)vcpu_rip(v));
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		machine_end(vmm, VMM_END_ERROR, 0, "vCPU %u: KVM internal error %u at RIP %#llx",
			    v->idx, run->internal.suberror, (unsigned long long)vcpu_rip(v));
		break;
	case KVM_EXIT_HLT:
		machine_end(vmm, VMM_END_ERROR, 0,
			    "vCPU %u: HLT reached user space although KVM has the "
			    "interrupt controllers",
			    v->idx);
		break;
	default:
		machine_end(vmm, VMM_END_ERROR, 0, "vCPU %u: unexpected KVM exit %u at RIP %#llx",
			    v->idx, run->exit_reason, (unsigned long long)vcpu_rip(v));
		break;
	}
}

/*
 * Halted with interrupts off, or waiting for a start-up message: only another
 * processor could wake it, as this machine has no source of NMIs or SMIs.
 */
static bool vcpu_is_dead(struct vcpu *v)
{
	const struct vmm_sys *sys = v->vmm->sys;
	struct kvm_mp_state mp;
	struct kvm_regs r;

	if (sys->ioctl(v->fd, KVM_GET_MP_STATE, (unsigned long)&mp) < 0)
		return false;
	if (mp.mp_state == KVM_MP_STATE_UNINITIALIZED)
		return true;
	return mp.mp_state == KVM_MP_STATE_HALTED &&
	       sys->ioctl(v->fd, KVM_GET_REGS, (unsigned long)&r) >= 0 && !(r.rflags & RFLAGS_IF);
}

static void vcpu_answer_probe(struct vcpu *v)
{
	struct vmm *vmm = v->vmm;

	if (!atomic_exchange(&v->probe, false))
		return;
	if (!vcpu_is_dead(v)) {
		atomic_store(&v->dead, 0);
		return;
	}
	atomic_fetch_add(&v->dead, 1);
	/* Twice each: one may have been woken by another after its first answer. */
	for (unsigned i = 0; i < vmm->nr_vcpus; i++)
		if (atomic_load(&vmm->vcpus[i].dead) < 2)
			return;
	machine_end(vmm, VMM_END_HALTED, 0,
		    "all processors are halted with interrupts off, vCPU %u at RIP %#llx", v->idx,
		    (unsigned long long)vcpu_rip(v));
}

void vcpus_probe(struct vmm *vmm)
{
	for (unsigned i = 0; i < vmm->nr_vcpus; i++) {
		atomic_store(&vmm->vcpus[i].probe, true);
		/* A signal that comes just before KVM_RUN is lost; the next probe will do. */
		pthread_kill(vmm->vcpus[i].thread, KICK_SIGNAL);
	}
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *v = arg;
	struct vmm *vmm = v->vmm;

	while (!atomic_load(&vmm->ended)) {
		long ret = vmm->sys->ioctl(v->fd, KVM_RUN, 0);

		/* EAGAIN: an application processor was woken from waiting for SIPI. */
		if (ret == -EINTR || ret == -EAGAIN) {
			vcpu_answer_probe(v);
			continue;
		}
		if (ret < 0) {
			machine_end(vmm, VMM_END_ERROR, 0, "vCPU %u: KVM_RUN: %s, RIP %#llx",
				    v->idx, strerror((int)-ret), (unsigned long long)vcpu_rip(v));
			break;
		}
		vcpu_exit(v);
	}
	return NULL;
}

static int vcpu_create(struct vmm *vmm, struct vcpu *v, unsigned idx)
{
	long ret = vmm->sys->ioctl(vmm->vm_fd, KVM_CREATE_VCPU, idx);

	v->vmm = vmm;
	v->idx = idx;
	v->fd = -1;
	v->run = MAP_FAILED;
	if (ret < 0) {
		machine_end(vmm, VMM_END_ERROR, 0, "vCPU %u: KVM_CREATE_VCPU: %s", idx,
			    strerror((int)-ret));
		return (int)ret;
	}
	v->fd = (int)ret;
	v->run = vmm->sys->mmap(NULL, vmm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED) {
		ret = -errno;
		machine_end(vmm, VMM_END_ERROR, 0, "vCPU %u: mmap: %s", idx, strerror((int)-ret));
		return (int)ret;
	}
	return vcpu_setup(vmm, idx, v->fd);
}

int vcpus_init(struct vmm *vmm)
{
	struct sigaction act = { .sa_handler = kick_handler };
	int ret;

	vmm->vcpus = calloc(vmm->cfg->cpus, sizeof(*vmm->vcpus));
	if (!vmm->vcpus) {
		machine_end(vmm, VMM_END_ERROR, 0, "too little memory for vCPUs");
		return -ENOMEM;
	}
	ret = vmm->sys->sigaction(KICK_SIGNAL, &act, NULL);
	if (ret < 0) {
		machine_end(vmm, VMM_END_ERROR, 0, "sigaction: %s", strerror(-ret));
		return ret;
	}
	for (unsigned i = 0; i < vmm->cfg->cpus && !ret; i++) {
		vmm->nr_vcpus = i + 1;
		ret = vcpu_create(vmm, &vmm->vcpus[i], i);
	}
	return ret;
}

int vcpus_start(struct vmm *vmm)
{
	for (unsigned i = 0; i < vmm->nr_vcpus; i++) {
		struct vcpu *v = &vmm->vcpus[i];
		int ret = pthread_create(&v->thread, NULL, vcpu_thread, v);

		if (ret) {
			machine_end(vmm, VMM_END_ERROR, 0, "cannot start a thread for vCPU %u: %s",
				    i, strerror(ret));
			return -ret;
		}
		v->started = true;
	}
	return 0;
}

bool vcpus_stop(struct vmm *vmm)
{
	struct timespec start, now;
	bool all = true, abandoned = false;

	clock_gettime(CLOCK_MONOTONIC, &start);
	now = start;
	for (unsigned i = 0; i < vmm->nr_vcpus; i++)
		if (vmm->vcpus[i].started)
			__atomic_store_n(&vmm->vcpus[i].run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < vmm->nr_vcpus; i++) {
		struct vcpu *v = &vmm->vcpus[i];

		/*
		 * With immediate_exit set one signal is enough; repeat it all the same, so that a
		 * KVM that loses one does not hang us.
		 */
		while (v->started && now.tv_sec - start.tv_sec < STOP_PATIENCE_S) {
			struct timespec until;

			pthread_kill(v->thread, KICK_SIGNAL);
			clock_gettime(CLOCK_REALTIME, &until);
			until.tv_nsec += 50 * 1000 * 1000;
			if (until.tv_nsec >= 1000 * 1000 * 1000) {
				until.tv_sec++;
				until.tv_nsec -= 1000 * 1000 * 1000;
			}
			if (pthread_timedjoin_np(v->thread, NULL, &until) == 0)
				v->started = false;
			clock_gettime(CLOCK_MONOTONIC, &now);
			if (!abandoned && now.tv_sec - start.tv_sec > VIRTIO_STOP_MS / 1000) {
				devices_abandon(vmm);
				abandoned = true;
			}
		}
		if (v->started) {
			log_error("vCPU %u does not stop", i);
			all = false;
		}
	}
	return all;
}

void vcpus_exit(struct vmm *vmm)
{
	for (unsigned i = 0; i < vmm->nr_vcpus; i++) {
		struct vcpu *v = &vmm->vcpus[i];

		if (v->run != MAP_FAILED)
			vmm->sys->munmap(v->run, vmm->run_size);
		if (v->fd >= 0)
			vmm->sys->close(v->fd);
	}
	free(vmm->vcpus);
	vmm->vcpus = NULL;
	vmm->nr_vcpus = 0;
}
