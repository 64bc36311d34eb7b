// SPDX-License-Identifier: MIT
/*
 * ioctl_fuzz: random sequences of ioctls with random arguments on system, VM and
 * vCPU files. Every call must return; nothing may crash. Arguments live in a
 * buffer that ends at an unreadable page, so reading past a struct is found.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "abi/kvm.h"
#include "base/types.h"
#include "tests/fuzz/fuzz.h"
#include "uapi/uapi.h"
#include "vfs/vfs.h"

#define REQ(r) { r, #r }
static const struct { u32 req; const char *name; } reqs[] = {
	REQ(KVM_GET_API_VERSION), REQ(KVM_CHECK_EXTENSION), REQ(KVM_CREATE_VM), REQ(KVM_GET_VCPU_MMAP_SIZE),
	REQ(KVM_GET_SUPPORTED_CPUID), REQ(KVM_GET_MSR_INDEX_LIST), REQ(KVM_GET_MSR_FEATURE_INDEX_LIST),
	REQ(KVM_SET_USER_MEMORY_REGION), REQ(KVM_CREATE_IRQCHIP), REQ(KVM_CREATE_PIT2), REQ(KVM_CREATE_VCPU),
	REQ(KVM_SET_TSS_ADDR), REQ(KVM_SET_IDENTITY_MAP_ADDR), REQ(KVM_SET_NR_MMU_PAGES), REQ(KVM_X86_SET_MSR_FILTER),
	REQ(KVM_SET_BOOT_CPU_ID), REQ(KVM_GET_CLOCK), REQ(KVM_SET_CLOCK), REQ(KVM_ENABLE_CAP), REQ(KVM_GET_PIT2),
	REQ(KVM_SET_PIT2), REQ(KVM_REINJECT_CONTROL), REQ(KVM_GET_IRQCHIP), REQ(KVM_SET_IRQCHIP), REQ(KVM_IRQ_LINE),
	REQ(KVM_IRQ_LINE_STATUS), REQ(KVM_SET_GSI_ROUTING), REQ(KVM_SIGNAL_MSI), REQ(KVM_IRQFD), REQ(KVM_IOEVENTFD),
	REQ(KVM_REGISTER_COALESCED_MMIO), REQ(KVM_UNREGISTER_COALESCED_MMIO), REQ(KVM_GET_DIRTY_LOG),
	REQ(KVM_CLEAR_DIRTY_LOG), REQ(KVM_RESET_DIRTY_RINGS), REQ(KVM_CREATE_DEVICE), REQ(KVM_SET_CPUID2),
	REQ(KVM_GET_CPUID2), REQ(KVM_GET_REGS), REQ(KVM_SET_REGS), REQ(KVM_GET_SREGS), REQ(KVM_SET_SREGS),
	REQ(KVM_GET_SREGS2), REQ(KVM_SET_SREGS2), REQ(KVM_GET_FPU), REQ(KVM_SET_FPU), REQ(KVM_GET_XSAVE),
	REQ(KVM_GET_XSAVE2), REQ(KVM_SET_XSAVE), REQ(KVM_GET_XCRS), REQ(KVM_SET_XCRS), REQ(KVM_GET_MSRS),
	REQ(KVM_SET_MSRS), REQ(KVM_GET_LAPIC), REQ(KVM_SET_LAPIC), REQ(KVM_SET_VAPIC_ADDR), REQ(KVM_GET_VCPU_EVENTS),
	REQ(KVM_SET_VCPU_EVENTS), REQ(KVM_GET_MP_STATE), REQ(KVM_SET_MP_STATE), REQ(KVM_GET_DEBUGREGS),
	REQ(KVM_SET_DEBUGREGS), REQ(KVM_GET_NESTED_STATE), REQ(KVM_SET_NESTED_STATE), REQ(KVM_SET_TSC_KHZ),
	REQ(KVM_GET_TSC_KHZ), REQ(KVM_X86_SETUP_MCE), REQ(KVM_X86_SET_MCE), REQ(KVM_KVMCLOCK_CTRL),
	REQ(KVM_SET_DEVICE_ATTR), REQ(KVM_GET_DEVICE_ATTR), REQ(KVM_HAS_DEVICE_ATTR), REQ(KVM_RUN), REQ(KVM_NMI),
	REQ(KVM_SMI), REQ(KVM_INTERRUPT), REQ(KVM_SET_GUEST_DEBUG), REQ(KVM_TRANSLATE), REQ(KVM_SET_SIGNAL_MASK),
	REQ(KVM_GET_STATS_FD), REQ(KVM_TPR_ACCESS_REPORTING), REQ(KVM_GET_EMULATED_CPUID),
};

#define MAX_FDS 24
#define CALLS 400	/* a round */
static int fds[MAX_FDS];
static u8 *arg_page, *guest_mem;
static struct kvm_run *run;
static timer_t timer;

static void on_alarm(int sig)
{
	if (run)
		run->immediate_exit = 1;
}

/* An argument: nothing, a small number, a wild pointer, or a struct that ends at the hole. */
static unsigned long make_arg(u32 req)
{
	size_t size = (req >> 16) & 0x3fff;
	u8 *p;

	switch (below(12)) {
	case 0: return rnd();
	case 1: return 0;
	case 2: case 3: return below(4);
	default: break;
	}
	if (size > 4096 || !size)
		size = 1 + below(4095);
	/* Variable-size structs get room behind them, sometimes. */
	p = arg_page + 8192 - (below(2) ? size : min(size + 8 + below(2048), (size_t)8192));
	for (size_t i = 0; p + i < arg_page + 8192; i++) {
		u32 k = below(8);

		p[i] = k < 4 ? 0 : k < 6 ? (u8)below(4) : (u8)rnd();
	}
	if (req == KVM_SET_USER_MEMORY_REGION) {
		struct kvm_userspace_memory_region r = {
			.userspace_addr = (u64)guest_mem + below(16) * PAGE_SIZE,
			.memory_size = below(16) * PAGE_SIZE,
			.guest_phys_addr = below(32) * PAGE_SIZE,
			.slot = below(4),
			.flags = below(4),
		};

		if (p + sizeof(r) <= arg_page + 8192)
			memcpy(p, &r, sizeof(r));
	}
	if (req == KVM_GET_DIRTY_LOG || req == KVM_CLEAR_DIRTY_LOG)
		memcpy(p + 8, &(void *){ arg_page }, min((size_t)8, (size_t)(arg_page + 8192 - p) > 16 ? 8 : (size_t)0));
	return (unsigned long)p;
}

static void replace_fd(unsigned i, int fd)
{
	if (fds[i] >= 0)
		vfs_close(fds[i]);
	fds[i] = fd;
}

static void one_round(u64 nr, bool verbose)
{
	struct itimerspec it = { .it_value = { .tv_nsec = 3000000 }, .it_interval = { .tv_nsec = 3000000 } };
	int vm;

	for (unsigned i = 0; i < MAX_FDS; i++)
		fds[i] = -1;
	fds[0] = vfs_open("/dev/kvm", O_RDWR);
	vm = fds[1] = (int)vfs_ioctl(fds[0], KVM_CREATE_VM, 0);
	if (below(2))
		vfs_ioctl(vm, KVM_CREATE_IRQCHIP, 0);
	fds[2] = (int)vfs_ioctl(vm, KVM_CREATE_VCPU, 0);
	run = vfs_mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_SHARED, fds[2], 0);
	if (run == MAP_FAILED) {
		printf("not ok 1 - mmap of a vCPU: %d\n", errno);
		exit(1);
	}
	timer_settime(timer, 0, &it, NULL);
	for (unsigned n = 0; n < CALLS; n++) {
		unsigned r = below(ARRAY_SIZE(reqs)), f = below(below(2) ? 3 : MAX_FDS);
		u32 req = below(50) ? reqs[r].req : (u32)rnd();
		unsigned long arg = make_arg(req);
		long ret;

		if (verbose) {
			printf("# fd %u %s(%08x) %lx\n", f, reqs[r].name, req, arg);
			fflush(stdout);
		}
		if (below(4) == 0)
			for (unsigned i = 0; i < 64; i++)
				((u8 *)run)[below(2352)] = (u8)rnd();
		if (below(3))
			run->immediate_exit = 0;
		ret = vfs_ioctl(fds[f], req, arg);
		if (ret > 2 && (req == KVM_CREATE_VM || req == KVM_CREATE_VCPU || req == KVM_GET_STATS_FD))
			replace_fd(3 + below(MAX_FDS - 3), (int)ret);
		if (below(200) == 0)
			replace_fd(1 + below(MAX_FDS - 1), -1);
	}
	memset(&it, 0, sizeof(it));
	timer_settime(timer, 0, &it, NULL);
	vfs_munmap(run, 12288);
	run = NULL;
	for (unsigned i = 0; i < MAX_FDS; i++)
		replace_fd(i, -1);
}

int main(int argc, char **argv)
{
	struct fuzz f = { .name = "ioctl_fuzz", .what = "random ioctls", .default_rounds = 50, .round = one_round };
	struct sigaction sa = { .sa_handler = on_alarm };
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };

	if (!fuzz_options(&f, argc, argv))
		return 2;
	if (uapi_register("intel") < 0)
		return 1;
	arg_page = mmap(NULL, 3 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect(arg_page + 8192, PAGE_SIZE, PROT_NONE);
	guest_mem = mmap(NULL, 64 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	vfs_sigaction(SIGUSR1, &sa, NULL);
	timer_create(CLOCK_MONOTONIC, &ev, &timer);
	fuzz_rounds(&f);
	return 0;
}
