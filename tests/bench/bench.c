// SPDX-License-Identifier: MIT
/*
 * Microbenchmarks through the public interface: a client of /dev/kvm as any
 * other (in process, or with --host-kvm the real one), one vCPU in 64-bit mode.
 * Loops also run natively in the same process. Prints medians of several runs
 * and ratios; asserts nothing.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "abi/kvm.h"
#include "base/types.h"
#include "uapi/uapi.h"
#include "vfs/vfs.h"

#define MEM_SIZE (256ul << 20)
#define TABLES 0x1000ul		/* PML4, PDPT, one PD: 1 GiB in 2 MiB pages */
#define CODE 0x10000ul
#define BUF 0x200000ul
#define STACK 0x80000ul
#define TOUCH 0x4000000ul	/* 64 MiB: pages nobody touched before */
#define MMIO (MEM_SIZE + 0x1000)
#define RUNS 5

static struct {
	int (*open)(const char *path, int flags);
	long (*ioctl)(int fd, unsigned long req, unsigned long arg);
} kvm = { vfs_open, vfs_ioctl };

static int sys_open(const char *path, int flags)
{
	return open(path, flags);
}

static long sys_ioctl(int fd, unsigned long req, unsigned long arg)
{
	return ioctl(fd, req, arg);
}

static int vm, vcpu;
static struct kvm_run *run;
static u8 *mem;

static void must(long r, const char *what)
{
	if (r < 0) {
		fprintf(stderr, "bench: %s: error %ld\n", what, r);
		exit(1);
	}
}

static void set_up(void)
{
	struct kvm_userspace_memory_region region = { .memory_size = MEM_SIZE };
	struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 e[100]; } cpuid = { .head.nent = 100 };
	struct kvm_sregs s;
	struct kvm_segment seg = { .limit = 0xffffffff, .present = 1, .s = 1, .g = 1 };
	u64 *pml4, *pdpt, *pd, xcr0 = 7;
	struct kvm_xcrs xcrs = { .nr_xcrs = 1 };
	int fd = kvm.open("/dev/kvm", O_RDWR);
	long size;

	must(fd, "open /dev/kvm");
	vm = (int)kvm.ioctl(fd, KVM_CREATE_VM, 0);
	must(vm, "KVM_CREATE_VM");
	mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	madvise(mem, MEM_SIZE, MADV_NOHUGEPAGE);
	region.userspace_addr = (u64)mem;
	must(kvm.ioctl(vm, KVM_SET_USER_MEMORY_REGION, (unsigned long)&region), "memory");
	vcpu = (int)kvm.ioctl(vm, KVM_CREATE_VCPU, 0);
	must(vcpu, "KVM_CREATE_VCPU");
	size = kvm.ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	must(kvm.ioctl(fd, KVM_GET_SUPPORTED_CPUID, (unsigned long)&cpuid), "supported CPUID");
	must(kvm.ioctl(vcpu, KVM_SET_CPUID2, (unsigned long)&cpuid), "set CPUID");

	pml4 = (u64 *)(mem + TABLES);
	pdpt = pml4 + 512;
	pd = pdpt + 512;
	pml4[0] = (TABLES + 0x1000) | 7;
	pdpt[0] = (TABLES + 0x2000) | 7;
	for (u64 i = 0; i < 512; i++)
		pd[i] = i << 21 | 0x87;

	must(kvm.ioctl(vcpu, KVM_GET_SREGS, (unsigned long)&s), "get sregs");
	s.cr3 = TABLES;
	s.cr4 = 1 << 5 | 1 << 9 | 1 << 10 | 1 << 18;
	s.cr0 = 0x80050033;
	s.efer = 0x500;
	seg.type = 11, seg.l = 1, seg.selector = 8;
	s.cs = seg;
	seg.type = 3, seg.l = 0, seg.db = 1, seg.selector = 16;
	s.ds = s.es = s.ss = s.fs = s.gs = seg;
	must(kvm.ioctl(vcpu, KVM_SET_SREGS, (unsigned long)&s), "set sregs");
	xcrs.xcrs[0].value = xcr0;
	must(kvm.ioctl(vcpu, KVM_SET_XCRS, (unsigned long)&xcrs), "set XCR0");
	/* What a function returns to: OUT to port 0x99. */
	memcpy(mem + CODE - 16, "\xe6\x99\xf4", 3);
}

static u64 now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

/* Run one function in the guest; nanoseconds. */
static u64 guest(const u8 *code, const u8 *end, u64 n, u64 buf)
{
	struct kvm_regs r = { .rip = CODE, .rflags = 2, .rdi = n, .rsi = buf, .rsp = STACK - 8 };
	u64 ret = CODE - 16, t;

	memcpy(mem + CODE, code, (size_t)(end - code));
	memcpy(mem + STACK - 8, &ret, 8);
	must(kvm.ioctl(vcpu, KVM_SET_REGS, (unsigned long)&r), "set regs");
	t = now();
	for (;;) {
		must(kvm.ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
		if (run->exit_reason == KVM_EXIT_IO && run->io.port == 0x80)
			continue;
		if (run->exit_reason == KVM_EXIT_MMIO) {
			memset(run->mmio.data, 0, 8);
			continue;
		}
		if (run->exit_reason == KVM_EXIT_IO && run->io.port == 0x99)
			break;
		fprintf(stderr, "bench: unexpected exit %u\n", run->exit_reason);
		exit(1);
	}
	return now() - t;
}

static u64 native(const u8 *code, u64 n, void *buf)
{
	u64 t = now();

	((u64 (*)(u64, void *))(void *)code)(n, buf);
	return now() - t;
}

static void *mmap_pages(u64 n)
{
	void *p = mmap(NULL, n * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("bench: mmap");
		exit(1);
	}
	madvise(p, n * PAGE_SIZE, MADV_NOHUGEPAGE);
	return p;
}

static int by_value(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static u64 median(u64 *v, unsigned n)
{
	qsort(v, n, sizeof(*v), by_value);
	return v[n / 2];
}

#define ROWS \
	ROW(mixed, 20000000, 10) ROW(alu, 20000000, 10) ROW(loop2, 50000000, 2) ROW(call, 20000000, 6) \
	ROW(sieve, 1500, 0) ROW(avx2, 5000000, 8)
#define EXITS ROW(out, 500000, "port exit to the client and back") ROW(cpuid, 500000, "CPUID exit inside kvm") \
	ROW(mmio, 200000, "MMIO exit to the client and back")

#define ROW(name, n, x) extern const u8 bench_##name[], bench_##name##_end[];
ROWS EXITS ROW(touch, 0, 0)
#undef ROW

static void loop_row(const char *name, const u8 *code, const u8 *end, u64 n, unsigned insns)
{
	static u8 buf[65536] __attribute__((aligned(64)));
	u64 g[RUNS], h[RUNS];
	double gm, hm;

	for (int i = 0; i < RUNS; i++) {
		g[i] = guest(code, end, n / 10, BUF);
		h[i] = native(code, n, buf);
	}
	gm = (double)median(g, RUNS) / (double)(n / 10);
	hm = (double)median(h, RUNS) / (double)n;
	if (insns)
		printf("%-8s %8.1f MIPS guest  %9.1f MIPS host  %6.1f x slower\n", name, insns * 1e3 / gm,
		       insns * 1e3 / hm, gm / hm);
	else
		printf("%-8s %8.1f us guest    %9.1f us host    %6.1f x slower\n", name, gm / 1e3, hm / 1e3, gm / hm);
	fflush(stdout);
}

static void exit_row(const char *what, const u8 *code, const u8 *end, u64 n)
{
	u64 g[RUNS];

	for (int i = 0; i < RUNS; i++)
		g[i] = guest(code, end, n, MMIO);
	printf("%-36s %8.1f ns\n", what, (double)median(g, RUNS) / (double)n);
	fflush(stdout);
}

/* Rows named on the command line, or all. */
static bool wanted(const char *name, int argc, char **argv)
{
	bool any = false;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], name))
			return true;
		any |= argv[i][0] != '-';
	}
	return !any;
}

int main(int argc, char **argv)
{
	u64 first, again, host;

	if (argc > 1 && !strcmp(argv[1], "--host-kvm")) {
		kvm.open = sys_open;
		kvm.ioctl = sys_ioctl;
	} else {
		must(uapi_register("intel"), "register /dev/kvm");
	}
	set_up();
#define ROW(name, n, insns) \
	if (wanted(#name, argc, argv)) \
		loop_row(#name, bench_##name, bench_##name##_end, n, insns);
	ROWS
#undef ROW
#define ROW(name, n, what) \
	if (wanted(#name, argc, argv)) \
		exit_row(what, bench_##name, bench_##name##_end, n);
	EXITS
#undef ROW
	if (!wanted("touch", argc, argv))
		return 0;
	first = guest(bench_touch, bench_touch_end, 16384, TOUCH);
	again = guest(bench_touch, bench_touch_end, 16384, TOUCH);
	host = native(bench_touch, 16384, mmap_pages(16384));
	printf("%-36s %8.1f ns, of the bare host %.1f ns\n", "EPT fault (first touch of a page)",
	       (double)(first - again) / 16384, (double)host / 16384);
	return 0;
}
