/* SPDX-License-Identifier: MIT */
/*
 * A KVM for unit tests: answers what the machine asks, counts interrupts, and
 * lets vCPU 0 play a list of exits instead of guest code.
 */
#ifndef VMM_FAKE_KVM_H
#define VMM_FAKE_KVM_H

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "abi/kvm.h"
#include "vmm/test.h"
#include "vmm/vmm.h"

struct fake_exit {
	u32 reason;		/* KVM_EXIT_*; 0 ends the list */
	u16 port;		/* KVM_EXIT_IO: a write of @size bytes of @data */
	u8 size;
	u32 data;
	int sig;		/* sent to the process before the exit */
};

static struct {
	const struct fake_exit *script;
	const char *text;	/* then sent to COM1 byte by byte, if not NULL */
	const struct fake_exit *after;
	unsigned long fail_req;
	int fail_ret;
	unsigned long missing_cap;
	_Atomic unsigned msis, runs;
	_Atomic unsigned lines[64];
	_Atomic u64 msi_addr;
	_Atomic u32 msi_data;
	bool no_irqfd, dead;
	int vcpu0;
	struct kvm_run *run0;
} fake;

static int fake_open(const char *path, int flags)
{
	return eventfd(0, EFD_CLOEXEC);
}

/* Nothing left to do: as a halted guest, until a signal or immediate_exit. */
static long fake_idle(struct kvm_run *run)
{
	const struct timespec ts = { .tv_nsec = 1000 * 1000 };

	while (!run || !__atomic_load_n(&run->immediate_exit, __ATOMIC_SEQ_CST))
		if (nanosleep(&ts, NULL) < 0 || !run)
			break;
	return -EINTR;
}

static long fake_out(struct kvm_run *run, u16 port, u8 size, u32 data)
{
	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = KVM_EXIT_IO_OUT;
	run->io.size = size;
	run->io.port = port;
	run->io.count = 1;
	run->io.data_offset = PAGE_SIZE;
	memcpy((u8 *)run + PAGE_SIZE, &data, sizeof(data));
	return 0;
}

static long fake_run(int fd)
{
	struct kvm_run *run = fake.run0;
	const struct fake_exit *e;

	atomic_fetch_add(&fake.runs, 1);
	if (fd != fake.vcpu0)
		return fake_idle(NULL);
	if (__atomic_load_n(&run->immediate_exit, __ATOMIC_SEQ_CST))
		return -EINTR;
	if (!fake.script->reason && fake.text && *fake.text)
		return fake_out(run, 0x3f8, 1, (u8)*fake.text++);
	if (!fake.script->reason && fake.after) {
		fake.script = fake.after;
		fake.after = NULL;
	}
	e = fake.script;
	if (e->sig)
		kill(getpid(), e->sig);
	if (!e->reason)
		return fake_idle(run);
	fake.script++;
	run->exit_reason = e->reason;
	return e->reason == KVM_EXIT_IO ? fake_out(run, e->port, e->size, e->data) : 0;
}

static long fake_ioctl(int fd, unsigned long req, unsigned long arg)
{
	if (req == fake.fail_req)
		return fake.fail_ret;
	switch (req) {
	case KVM_GET_API_VERSION:
		return KVM_API_VERSION;
	case KVM_CHECK_EXTENSION:
		if (arg == fake.missing_cap || (fake.no_irqfd && arg == KVM_CAP_IRQFD))
			return 0;
		return arg == KVM_CAP_IOEVENTFD ? 0 : 8;
	case KVM_GET_VCPU_MMAP_SIZE:
		return 3 * PAGE_SIZE;
	case KVM_GET_SUPPORTED_CPUID:
		((struct kvm_cpuid2 *)arg)->nent = 0;
		return 0;
	case KVM_CREATE_VM:
		return eventfd(0, EFD_CLOEXEC);
	case KVM_CREATE_VCPU: {
		int m = memfd_create("vcpu", MFD_CLOEXEC);

		assert_int_equal(ftruncate(m, 3 * PAGE_SIZE), 0);
		if (arg == 0)
			fake.vcpu0 = m;
		return m;
	}
	case KVM_GET_MP_STATE:
		((struct kvm_mp_state *)arg)->mp_state =
			fd == fake.vcpu0 ? KVM_MP_STATE_HALTED : KVM_MP_STATE_UNINITIALIZED;
		return 0;
	case KVM_GET_REGS:
		memset((void *)arg, 0, sizeof(struct kvm_regs));
		((struct kvm_regs *)arg)->rflags = fake.dead ? 2 : 0x202;
		return 0;
	case KVM_SET_MSRS:
		return ((struct kvm_msrs *)arg)->nmsrs;
	case KVM_RUN:
		return fake_run(fd);
	case KVM_IRQ_LINE: {
		struct kvm_irq_level *l = (struct kvm_irq_level *)arg;

		atomic_store(&fake.lines[l->irq], l->level);
		return 0;
	}
	case KVM_SIGNAL_MSI: {
		struct kvm_msi *m = (struct kvm_msi *)arg;

		atomic_store(&fake.msi_addr, m->address_lo | (u64)m->address_hi << 32);
		atomic_store(&fake.msi_data, m->data);
		atomic_fetch_add(&fake.msis, 1);
		return 1;
	}
	default:
		return 0;
	}
}

static void *fake_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	void *p = mmap(addr, len, prot, flags, fd, off);

	if (fd == fake.vcpu0)
		fake.run0 = p;
	return p;
}

static int fake_sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	return sigaction(sig, act, old) ? -errno : 0;
}

static const struct vmm_sys fake_sys = {
	.open = fake_open,
	.ioctl = fake_ioctl,
	.mmap = fake_mmap,
	.munmap = munmap,
	.close = close,
	.sigaction = fake_sigaction,
};

#endif
