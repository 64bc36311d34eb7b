// SPDX-License-Identifier: MIT
/*
 * What exits cost: nanoseconds per CPUID (handled in the hypervisor), per OUT to
 * user space and back, per MMIO write to user space. Not a test: prints.
 */
#include <stdio.h>
#include <time.h>

#include "tests/abi/vmtest.h"

#define LOOPS 300000u

GUEST(empty, 64, "mov $300000, %r15d; 1: xor %eax, %eax; dec %r15d; jnz 1b; hlt");
GUEST(cpuid, 64, "mov $300000, %r15d; 1: xor %eax, %eax; cpuid; dec %r15d; jnz 1b; hlt");
GUEST(out, 64, "mov $300000, %r15d; 1: out %al, $0x10; dec %r15d; jnz 1b; hlt");
GUEST(mmio, 64, "mov $0xd0000000, %ebx; mov $300000, %r15d; 1: mov %eax, (%rbx); dec %r15d; jnz 1b; hlt");
GUEST(mmio_read, 64, "mov $0xd0000000, %ebx; mov $300000, %r15d; 1: mov (%rbx), %eax; dec %r15d; jnz 1b; hlt");
GUEST(emul, 64, "mov $0xd0000000, %ebx; mov $300000, %r15d; 1: or %eax, (%rbx); dec %r15d; jnz 1b; hlt");

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void bench(const char *what, const u8 *code, const u8 *end)
{
	struct vm vm;
	double t;

	vm_new(&vm, 0);
	vm_long(&vm, code, (size_t)(end - code));
	t = now();
	do {
		if (vcpu_ioctl(&vm, KVM_RUN, NULL) != 0)
			break;
	} while (vm.run->exit_reason != KVM_EXIT_HLT);
	printf("%-24s %8.0f ns\n", what, (now() - t) / LOOPS);
	vm_free(&vm);
}

static void all(void **state)
{
	bench("loop without exit", guest_empty, guest_empty_end);
	bench("CPUID", guest_cpuid, guest_cpuid_end);
	bench("OUT to user space", guest_out, guest_out_end);
	bench("MMIO write to user space", guest_mmio, guest_mmio_end);
	bench("MMIO read from user space", guest_mmio_read, guest_mmio_read_end);
	bench("OR to MMIO (two exits)", guest_emul, guest_emul_end);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(all) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
