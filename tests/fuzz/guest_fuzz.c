// SPDX-License-Identifier: MIT
/*
 * guest_fuzz: random code in random modes, through the API. Nothing may crash,
 * hang past the kick, or corrupt the process. Each round is replayable:
 * guest_fuzz --seed S --round N runs that round alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "abi/kvm.h"
#include "base/types.h"
#include "tests/fuzz/fuzz.h"
#include "uapi/uapi.h"
#include "vfs/vfs.h"

#define MEM (1ul << 20)
#define CANARY 64	/* pages on each side of guest memory that must stay as they are */

static struct kvm_run *run;
static timer_t timer;

static void on_alarm(int sig)
{
	if (run)
		run->immediate_exit = 1;
}

static void die(const char *what, long r)
{
	printf("not ok 1 - %s: %ld\n", what, r);
	exit(1);
}

/* Instructions that lead somewhere, so that not every round ends at once. */
static void plant(u8 *p)
{
	static const struct { u8 len, b[8]; } seeds[] = {
		{ 2, { 0x0f, 0xa2 } }, { 2, { 0xe6, 0x80 } }, { 3, { 0x0f, 0x22, 0xc0 } }, { 3, { 0x0f, 0x20, 0xc0 } },
		{ 3, { 0x0f, 0x22, 0xe0 } }, { 3, { 0x0f, 0x22, 0xd8 } }, { 2, { 0x0f, 0x30 } }, { 2, { 0x0f, 0x32 } },
		{ 1, { 0xf4 } }, { 2, { 0xcd, 0x20 } }, { 1, { 0xcf } }, { 3, { 0x0f, 0x01, 0x18 } }, { 2, { 0x8e, 0xd8 } },
		{ 3, { 0x0f, 0x00, 0xd8 } }, { 2, { 0xf3, 0xa4 } }, { 2, { 0xf3, 0x6e } }, { 2, { 0x0f, 0x05 } },
		{ 3, { 0x0f, 0x01, 0xc1 } }, { 2, { 0xf3, 0x90 } }, { 2, { 0x66, 0xcf } }, { 5, { 0xea, 0, 0, 8, 0 } },
		{ 2, { 0xff, 0x28 } }, { 3, { 0x0f, 0xae, 0x20 } }, { 2, { 0xdd, 0x30 } }, { 4, { 0xc5, 0xfd, 0x6f, 0x00 } },
		{ 1, { 0xf1 } }, { 1, { 0x9d } }, { 3, { 0x0f, 0x23, 0xf8 } }, { 2, { 0x0f, 0x09 } }, { 3, { 0x0f, 0x01, 0x38 } },
	};
	unsigned i = below(ARRAY_SIZE(seeds));

	memcpy(p, seeds[i].b, seeds[i].len);
}

static void fill(u8 *mem)
{
	for (u64 *p = (u64 *)mem; p < (u64 *)(mem + MEM); p++)
		*p = below(4) ? rnd() : rnd() & 0xfffff;
	for (int i = 0; i < 2000; i++)
		plant(mem + below(MEM - 16));
	/* Some page tables that work. */
	for (int i = 0; i < 512; i++)
		((u64 *)(mem + 0x3000))[i] = (u64)i << 21 | 0x87;
	*(u64 *)(mem + 0x1000) = 0x2007;
	*(u64 *)(mem + 0x2000) = 0x3007;
	/* A GDT with flat segments of each kind. */
	((u64 *)(mem + 0x4000))[1] = 0x00af9b000000ffff;
	((u64 *)(mem + 0x4000))[2] = 0x00cf93000000ffff;
	((u64 *)(mem + 0x4000))[3] = 0x00cf9b000000ffff;
	((u64 *)(mem + 0x4000))[4] = 0x000089005000ffff;
}

static void set_state(int vcpu)
{
	struct kvm_vcpu_events none = { 0 };
	struct kvm_sregs s;
	struct kvm_regs r;
	u8 *raw = (u8 *)&r;
	unsigned mode = below(4);
	struct kvm_segment seg = { .limit = 0xffffffff, .present = 1, .s = 1, .g = 1, .db = 1 };

	if (vfs_ioctl(vcpu, KVM_GET_SREGS, (unsigned long)&s) < 0)
		die("KVM_GET_SREGS", 0);
	for (size_t i = 0; i < sizeof(r); i += 8) {
		u64 v = below(2) ? rnd() & (MEM - 1) : rnd();

		memcpy(raw + i, &v, 8);
	}
	r.rip = below(MEM);
	r.rsp &= MEM - 1;
	r.rflags = 2 | (rnd() & 0x244dd7 & ~0x20000ull);
	s.gdt.base = 0x4000;
	s.gdt.limit = 0x2f;
	s.idt.base = below(MEM);
	s.idt.limit = (u16)rnd();
	s.cr0 = 0x60000010;
	s.cr4 = s.efer = 0;
	if (mode) {
		seg.type = 3, seg.selector = 16;
		s.ds = s.es = s.ss = s.fs = s.gs = seg;
		seg.type = 11, seg.selector = 24;
		s.cs = seg;
		s.cr0 = 0x33;
		s.cr4 = 0x600;
	} else {
		seg.limit = 0xffff, seg.g = seg.db = 0, seg.type = 3;
		s.ds = s.es = s.ss = s.fs = s.gs = seg;
		seg.type = 11;
		s.cs = seg;
		r.rip &= 0xffff;
	}
	if (mode >= 2) {
		s.cr3 = 0x1000;
		s.cr0 = 0x80000033;
		s.cr4 = 0x406b0;
		s.efer = 0xd01;
		if (mode == 3) {
			s.cs.l = 1, s.cs.db = 0, s.cs.selector = 8;
		}
	}
	if (vfs_ioctl(vcpu, KVM_SET_SREGS, (unsigned long)&s) < 0)
		die("KVM_SET_SREGS", 0);
	if (vfs_ioctl(vcpu, KVM_SET_REGS, (unsigned long)&r) < 0)
		die("KVM_SET_REGS", 0);
	/* What the round before left half delivered may not fit this mode. */
	if (vfs_ioctl(vcpu, KVM_SET_VCPU_EVENTS, (unsigned long)&none) < 0)
		die("KVM_SET_VCPU_EVENTS", 0);
}

static void arm(long ns)
{
	struct itimerspec it = { .it_value = { .tv_nsec = ns } };

	timer_settime(timer, 0, &it, NULL);
}

static void one_round(u64 nr, bool verbose)
{
	static struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 e[100]; } cpuid;
	struct kvm_userspace_memory_region region = { .memory_size = MEM };
	size_t canary = CANARY * PAGE_SIZE;
	u8 *base = mmap(NULL, MEM + 2 * canary, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd, vm, vcpu;
	long size;

	if (base == MAP_FAILED)
		die("mmap", errno);
	fd = vfs_open("/dev/kvm", O_RDWR);
	vm = (int)vfs_ioctl(fd, KVM_CREATE_VM, 0);
	if (vm < 0)
		die("KVM_CREATE_VM", vm);
	if (nr & 1)
		vfs_ioctl(vm, KVM_CREATE_IRQCHIP, 0);
	memset(base, 0x5a, canary);
	memset(base + canary + MEM, 0x5a, canary);
	region.userspace_addr = (u64)(base + canary);
	if (vfs_ioctl(vm, KVM_SET_USER_MEMORY_REGION, (unsigned long)&region) < 0)
		die("memory", 0);
	vcpu = (int)vfs_ioctl(vm, KVM_CREATE_VCPU, 0);
	if (vcpu < 0)
		die("KVM_CREATE_VCPU", vcpu);
	size = vfs_ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	cpuid.head.nent = 100;
	vfs_ioctl(fd, KVM_GET_SUPPORTED_CPUID, (unsigned long)&cpuid);
	vfs_ioctl(vcpu, KVM_SET_CPUID2, (unsigned long)&cpuid);
	run = vfs_mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	for (int i = 0; i < 8; i++) {
		fill(base + canary);
		set_state(vcpu);
		run->immediate_exit = 0;
		arm(2000000);
		for (int n = 0; n < 200; n++) {
			long r = vfs_ioctl(vcpu, KVM_RUN, 0);

			/* A guest may get into a state that cannot be entered, but the controls are kvm's. */
			if (!r && run->exit_reason == KVM_EXIT_FAIL_ENTRY &&
			    !(run->fail_entry.hardware_entry_failure_reason >> 31))
				die("VM entry failed", (long)run->fail_entry.hardware_entry_failure_reason);
			if (r < 0 || (run->exit_reason != KVM_EXIT_IO && run->exit_reason != KVM_EXIT_MMIO))
				break;
			if (run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write)
				for (int k = 0; k < 8; k++)
					run->mmio.data[k] = (u8)rnd();
		}
		arm(0);
	}
	for (size_t i = 0; i < canary; i++)
		if (base[i] != 0x5a || base[canary + MEM + i] != 0x5a)
			die("memory beside the slot was written", (long)i);
	vfs_munmap(run, (size_t)size);
	run = NULL;
	vfs_close(vcpu);
	vfs_close(vm);
	vfs_close(fd);
	vfs_munmap(base, MEM + 2 * canary);
}

int main(int argc, char **argv)
{
	struct fuzz f = { .name = "guest_fuzz", .what = "random guests", .default_rounds = 100, .round = one_round };
	struct sigaction sa = { .sa_handler = on_alarm };
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };

	if (!fuzz_options(&f, argc, argv))
		return 2;
	if (uapi_register("intel") < 0)
		die("register", 0);
	vfs_sigaction(SIGUSR1, &sa, NULL);
	timer_create(CLOCK_MONOTONIC, &ev, &timer);
	fuzz_rounds(&f);
	return 0;
}
