// SPDX-License-Identifier: MIT
/* KVM_GET_SUPPORTED_HV_CPUID: the leaves of Hyper-V's interface. TLFS "Feature and Interface Discovery". */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "kvm/hv.h"

#define NO_SHARED_CORES (1u << 18)
#define MAX_LEAF 0x40000082u
#define SIGNATURE "Linux KVM Hv"
#define TEXT(n, s) ((u32)(s)[n] | (u32)(s)[(n) + 1] << 8 | (u32)(s)[(n) + 2] << 16 | (u32)(s)[(n) + 3] << 24)
#define VENDOR TEXT(0, SIGNATURE), TEXT(4, SIGNATURE), TEXT(8, SIGNATURE)

static const struct { u32 leaf, eax, ebx, ecx, edx; } leaves[] = {
	{ 0x40000000, MAX_LEAF, VENDOR },
	{ 0x40000001, TEXT(0, "Hv#1"), 0, 0, 0 },
	/* Version 10.0, build 14393: what guests know how to deal with. */
	{ 0x40000002, 14393, 0x000a0000, 0, 0 },
	/*
	 * EAX: run time, reference counter, SynIC, timers, APIC MSRs, hypercalls, VP index,
	 * reset, reference TSC, frequencies, re-enlightenment. EBX: messages, events,
	 * debugging. EDX: guest debugging, XMM input, frequencies, crash MSRs, debug MSRs,
	 * direct timers.
	 */
	{ 0x40000003, 0x00002aff, 0x00000830, 0, 0x00080d12 },
	/*
	 * EAX: remote TLB flush, APIC by MSRs, relaxed timing, no automatic EOI, cluster
	 * IPIs, sparse masks. EBX: never notify of long spinning.
	 */
	{ 0x40000004, 0x00000e2c, 0xffffffff, 0, 0 },
	{ 0x40000005, HV_MAX_VCPUS, 64, 0, 0 },
	/* Of nested virtualization: enlightened MSR bitmaps. */
	{ 0x4000000a, 1u << 19, 0, 0, 0 },
	{ 0x40000080, MAX_LEAF, VENDOR },
	{ 0x40000081, TEXT(0, "VS#1"), 0, 0, 0 },
	{ 0x40000082, 1u << 1, 0, 0, 0 },
};

/* Can two threads of the host share a core? Then two virtual processors can as well. */
static bool smt_possible(void)
{
	char text[16] = "";
	int fd = open("/sys/devices/system/cpu/smt/control", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return true;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	return n <= 0 || (strncmp(text, "forceoff", 8) && strncmp(text, "notsupported", 12));
}

int hv_hyperv_cpuid(struct kvm_cpuid_entry2 *entries, u32 *nent)
{
	if (*nent < ARRAY_SIZE(leaves))
		return -E2BIG;
	for (size_t i = 0; i < ARRAY_SIZE(leaves); i++) {
		entries[i] = (struct kvm_cpuid_entry2){
			.function = leaves[i].leaf, .eax = leaves[i].eax, .ebx = leaves[i].ebx,
			.ecx = leaves[i].ecx, .edx = leaves[i].edx,
		};
		if (leaves[i].leaf == 0x40000004 && !smt_possible())
			entries[i].eax |= NO_SHARED_CORES;
	}
	*nent = ARRAY_SIZE(leaves);
	return 0;
}
