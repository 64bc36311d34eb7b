// SPDX-License-Identifier: MIT
/* Performance counters of a guest: what CPUID decides, counts over exits, filter, migration. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/abi/vmtest.h"

#define PMC(n) (0xc1u + (n))
#define EVTSEL(n) (0x186u + (n))
#define FIXED(n) (0x309u + (n))
#define PERF_CAPABILITIES 0x345u
#define FIXED_CTRL 0x38du
#define STATUS 0x38eu
#define GLOBAL_CTRL 0x38fu
#define OVF_CTRL 0x390u
#define A_PMC(n) (0x4c1u + (n))
#define MISC_ENABLE 0x1a0u

#define COUNT_INSNS 0x4300c0u		/* EN, OS, USR */
#define COUNT_BRANCHES 0x4300c4u
#define INT (1u << 20)
#define ALL_ON 0x7000000ffull

/* Supported CPUID with another leaf 0AH. */
static void set_leaf(struct vm *vm, u32 eax, u32 edx)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 128 * sizeof(c->entries[0]));

	c->nent = 128;
	assert_int_equal(vfs_ioctl(vm->sys, KVM_GET_SUPPORTED_CPUID, (unsigned long)c), 0);
	for (u32 i = 0; i < c->nent; i++)
		if (c->entries[i].function == 0xa) {
			c->entries[i].eax = eax;
			c->entries[i].edx = edx;
		}
	vcpu_do(vm, KVM_SET_CPUID2, c);
	free(c);
}

static void what_is_offered(void **state)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 128 * sizeof(c->entries[0]));
	struct kvm_msr_list *l = calloc(1, sizeof(*l) + 512 * sizeof(u32));
	unsigned found = 0, listed = 0;
	struct vm vm;

	vm_new(&vm, 0);
	c->nent = 128;
	assert_int_equal(vfs_ioctl(vm.sys, KVM_GET_SUPPORTED_CPUID, (unsigned long)c), 0);
	for (u32 i = 0; i < c->nent; i++) {
		if (c->entries[i].function == 1) {
			assert_true(c->entries[i].ecx & 1u << 15);
			found++;
		} else if (c->entries[i].function == 0xa) {
			assert_int_equal(c->entries[i].eax, 0x07300802);
			assert_int_equal(c->entries[i].ebx, 0x58);
			assert_int_equal(c->entries[i].edx, 0x8603);
			found++;
		}
	}
	assert_int_equal(found, 2);
	l->nmsrs = 512;
	assert_int_equal(vfs_ioctl(vm.sys, KVM_GET_MSR_INDEX_LIST, (unsigned long)l), 0);
	for (u32 i = 0; i < l->nmsrs; i++) {
		u32 m = l->indices[i];

		listed += m - PMC(0) < 8 || m - EVTSEL(0) < 8 || m - FIXED(0) < 3 || m - FIXED_CTRL < 4;
	}
	assert_int_equal(listed, 8 + 8 + 3 + 4);
	assert_int_equal(vfs_ioctl(vm.fd, KVM_CHECK_EXTENSION, KVM_CAP_PMU_EVENT_FILTER), 1);
	assert_int_equal(vfs_ioctl(vm.fd, KVM_CHECK_EXTENSION, KVM_CAP_PMU_CAPABILITY), KVM_PMU_CAP_DISABLE);
	vm_free(&vm);
	free(c);
	free(l);
}

/* Five times: NOP, CPUID (exits), OUT (leaves for the client). */
GUEST(exits, 64,
	"mov $0x38f, %ecx; xor %eax, %eax; mov $1, %edx; wrmsr\n"
	"mov $5, %ebp\n"
	"1: nop; xor %eax, %eax; cpuid; mov $0x80, %edx; out %al, %dx; dec %ebp; jnz 1b\n"
	"mov $0x38f, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr\n"
	"out %al, $0x99; hlt");

/* What the hypervisor executes is counted too; user space's turns are not. */
static void exits_do_not_disturb(void **state)
{
	for (unsigned debug = 0; debug < 2; debug++) {
		struct kvm_guest_debug dbg = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP };
		struct vm vm;

		vm_new(&vm, 0);
		vm_cpuid(&vm);
		START(&vm, long, exits);
		vm_set_msr(&vm, FIXED_CTRL, 3);
		vm_set_msr(&vm, FIXED(0), 1000);
		if (debug)
			vcpu_do(&vm, KVM_SET_GUEST_DEBUG, &dbg);
		for (unsigned i = 0; ; i++) {
			assert_int_equal(vfs_ioctl(vm.vcpu, KVM_RUN, 0), 0);
			if (vm.run->exit_reason == KVM_EXIT_IO && vm.run->io.port == 0x99)
				break;
			assert_true(i < 200);
		}
		/* mov; 5 x (nop, xor, cpuid, mov, out, dec, jnz); mov, xor, xor, wrmsr */
		assert_int_equal(vm_get_msr(&vm, FIXED(0)), 1000 + 1 + 5 * 7 + 4);
		assert_int_equal(vm_get_msr(&vm, GLOBAL_CTRL), 0);
		vm_free(&vm);
	}
}

GUEST(loop, 64, "mov $100, %ecx; 1: nop; dec %ecx; jnz 1b; hlt");
#define LOOP_INSNS 301			/* and HLT, which exits: counted when it is skipped */

static u64 count_loop(struct vm *vm, u32 sel)
{
	vm_set_msr(vm, EVTSEL(2), sel);
	vm_set_msr(vm, PMC(2), 0);
	vm_set_msr(vm, GLOBAL_CTRL, 4);
	START(vm, long, loop);
	vm_run(vm, KVM_EXIT_HLT);
	return vm_get_msr(vm, PMC(2));
}

static void registers(void **state)
{
	static const struct { u32 msr; u64 v; bool ok; u64 reads; } rows[] = {
		{ PMC(0), 0x9000000001, true, 0x9000000001 }, { PMC(7), ~0ull, true, 0xffffffffffff },
		{ A_PMC(1), 0x923456789abc, true, 0x923456789abc }, { FIXED(2), 0x42, true, 0x42 },
		{ EVTSEL(0), 0x4300c0, true, 0x4300c0 }, { EVTSEL(0), 1u << 21, false, 0 },
		{ EVTSEL(7), 1ull << 32, false, 0 },
		{ FIXED_CTRL, 0xbbb, true, 0xbbb }, { FIXED_CTRL, 4, false, 0 }, { FIXED_CTRL, 1u << 12, false, 0 },
		{ GLOBAL_CTRL, ALL_ON, true, ALL_ON }, { GLOBAL_CTRL, 1u << 8, false, 0 },
		{ STATUS, 0x300000003, true, 0x300000003 }, { STATUS, 1u << 9, false, 0 },
		{ OVF_CTRL, 0x300000003, true, 0 }, { OVF_CTRL, 1u << 9, false, 0 },
		{ PERF_CAPABILITIES, 0x2000, true, 0x2000 }, { PERF_CAPABILITIES, 0, true, 0 },
		{ PERF_CAPABILITIES, 0x30, false, 0 }, { PERF_CAPABILITIES, 0x100, false, 0 },
	};
	struct vm vm;

	vm_new(&vm, 0);
	vm_cpuid(&vm);
	assert_int_equal(vm_get_msr(&vm, GLOBAL_CTRL), 0xff);
	assert_int_equal(vm_get_msr(&vm, PERF_CAPABILITIES), 0x2000);
	assert_int_equal(vm_get_msr(&vm, MISC_ENABLE) & 0x80, 0x80);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(vm_try_msr(&vm, rows[i].msr, rows[i].v), rows[i].ok);
		if (rows[i].ok)
			assert_int_equal(vm_get_msr(&vm, rows[i].msr), rows[i].reads);
	}
	/* The client's write of OVF_CTRL has cleared nothing. */
	assert_int_equal(vm_get_msr(&vm, STATUS), 0x300000003);
	/* Without full-width writes the other names are gone. */
	assert_int_equal(vm_try_msr(&vm, A_PMC(0), 1), 0);
	vm_free(&vm);
}

/* Read in one machine, written in the next: it goes on counting there. */
static void migration(void **state)
{
	static const u32 msrs[] = { EVTSEL(2), FIXED_CTRL, STATUS, GLOBAL_CTRL, PMC(2), FIXED(0) };
	u64 val[ARRAY_SIZE(msrs)];
	struct vm a, b;

	vm_new(&a, 0);
	vm_cpuid(&a);
	vm_set_msr(&a, STATUS, 0x80);
	assert_int_equal(count_loop(&a, COUNT_INSNS), LOOP_INSNS + 1);
	for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++)
		val[i] = vm_get_msr(&a, msrs[i]);
	vm_free(&a);

	vm_new(&b, 0);
	vm_cpuid(&b);
	for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++)
		vm_set_msr(&b, msrs[i], val[i]);
	START(&b, long, loop);
	vm_run(&b, KVM_EXIT_HLT);
	assert_int_equal(vm_get_msr(&b, PMC(2)), 2 * (LOOP_INSNS + 1));
	assert_int_equal(vm_get_msr(&b, STATUS), 0x80);
	vm_free(&b);
}

/* ---- Interrupts ---- */

/* The overflow while the guest has interrupts off: in IRR, the LVT entry masked. */
GUEST(overflow, 64, "mov $100, %ecx; 1: nop; dec %ecx; jnz 1b; out %al, $0x80; hlt");

static u32 lapic_reg(struct vm *vm, unsigned off)
{
	struct kvm_lapic_state s = { 0 };
	u32 v;

	vcpu_do(vm, KVM_GET_LAPIC, &s);
	memcpy(&v, s.regs + off, 4);
	return v;
}

static void set_lapic_reg(struct vm *vm, unsigned off, u32 v)
{
	struct kvm_lapic_state s = { 0 };

	vcpu_do(vm, KVM_GET_LAPIC, &s);
	memcpy(s.regs + off, &v, 4);
	vcpu_do(vm, KVM_SET_LAPIC, &s);
}

#define LVTPC 0x340
#define SVR 0xf0
#define IRR(v) (0x200u + (v) / 32 * 16)

static void overflow_interrupts(void **state)
{
	static const struct { u32 eax, lvt, sel; bool irr; u32 after; } rows[] = {
		{ 0x07300802, 0x51, COUNT_INSNS | INT, true, 0x10051 },
		{ 0x07300802, 0x51, COUNT_INSNS, false, 0x51 },
		{ 0x07300802, 0x10051, COUNT_INSNS | INT, false, 0x10051 },
		{ 0x07300802, 0x51, COUNT_BRANCHES | INT, true, 0x10051 },
		/* Narrow counters, which the processor has not. */
		{ 0x07200402, 0x51, COUNT_INSNS | INT, true, 0x10051 },
		{ 0x07200402, 0x51, COUNT_INSNS, false, 0x51 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vm vm;

		vm_new(&vm, VM_IRQCHIP);
		set_leaf(&vm, rows[i].eax, 0x603);
		set_lapic_reg(&vm, SVR, 0x1ff);
		set_lapic_reg(&vm, LVTPC, rows[i].lvt);
		vm_set_msr(&vm, EVTSEL(1), rows[i].sel);
		vm_set_msr(&vm, PMC(1), ~0ull - 49);
		vm_set_msr(&vm, GLOBAL_CTRL, 2);
		START(&vm, long, overflow);
		vm_out(&vm, 0x80, 1);
		assert_int_equal(vm_get_msr(&vm, STATUS), 2);
		assert_int_equal(vm_get_msr(&vm, PMC(1)),
				 (rows[i].sel & 0xff) == 0xc4 ? 50 : LOOP_INSNS - 50);
		assert_int_equal(lapic_reg(&vm, IRR(0x51)) >> 0x51 % 32 & 1, rows[i].irr);
		assert_int_equal(lapic_reg(&vm, LVTPC), rows[i].after);
		vm_free(&vm);
	}
}

/* An instruction that the hypervisor executes makes it overflow. */
GUEST(out_once, 64, "out %al, $0x80; out %al, $0x81; hlt");

static void overflow_in_the_hypervisor(void **state)
{
	struct vm vm;

	vm_new(&vm, VM_IRQCHIP);
	vm_cpuid(&vm);
	set_lapic_reg(&vm, SVR, 0x1ff);
	set_lapic_reg(&vm, LVTPC, 0x51);
	vm_set_msr(&vm, FIXED_CTRL, 0xb);
	vm_set_msr(&vm, FIXED(0), 0xffffffffffff);
	vm_set_msr(&vm, GLOBAL_CTRL, 1ull << 32);
	START(&vm, long, out_once);
	vm_out(&vm, 0x80, 1);
	vm_out(&vm, 0x81, 1);
	assert_int_equal(vm_get_msr(&vm, STATUS), 1ull << 32);
	assert_int_equal(lapic_reg(&vm, IRR(0x51)) >> 0x51 % 32 & 1, 1);
	vm_free(&vm);
}

/* ---- Which guest has counters ---- */

GUEST(rdpmc, 64, "rdpmc; hlt");
GUEST(touch, 64, "rdmsr; hlt");
GUEST(write, 64, "wrmsr; hlt");

static u32 run_with_rcx(struct vm *vm, const void *code, size_t len, u64 rcx)
{
	struct kvm_regs r;

	vm_long(vm, code, len);
	vcpu_do(vm, KVM_GET_REGS, &r);
	r.rcx = rcx;
	r.rax = r.rdx = 0;
	vcpu_do(vm, KVM_SET_REGS, &r);
	assert_int_equal(vfs_ioctl(vm->vcpu, KVM_RUN, 0), 0);
	return vm->run->exit_reason;
}

static void cpuid_decides(void **state)
{
	static const struct { u32 eax, edx; const u8 *code, *end; u64 rcx; bool ok; } rows[] = {
#define G(name) guest_##name, guest_##name##_end
		{ 0x07300802, 0x603, G(rdpmc), 7, true }, { 0x07300802, 0x603, G(rdpmc), 8, false },
		{ 0x07300802, 0x603, G(rdpmc), 1u << 30 | 2, true }, { 0x07300802, 0x603, G(rdpmc), 1u << 30 | 3, false },
		{ 0x07300202, 0x603, G(rdpmc), 1, true }, { 0x07300202, 0x603, G(rdpmc), 2, false },
		{ 0x07300202, 0x601, G(rdpmc), 1u << 30, true }, { 0x07300202, 0x601, G(rdpmc), 1u << 30 | 1, false },
		{ 0, 0, G(rdpmc), 0, false },
		{ 0x07300802, 0x603, G(touch), PMC(7), true }, { 0x07300202, 0x603, G(touch), PMC(2), false },
		{ 0x07300202, 0x603, G(touch), A_PMC(1), true }, { 0x07300202, 0x603, G(touch), A_PMC(2), false },
		{ 0x07300801, 0, G(touch), GLOBAL_CTRL, false }, { 0x07300801, 0, G(touch), PMC(0), true },
		{ 0x07300802, 0x601, G(touch), FIXED(1), false }, { 0x07300802, 0x603, G(touch), PERF_CAPABILITIES, true },
		{ 0, 0, G(touch), GLOBAL_CTRL, false }, { 0, 0, G(touch), FIXED(0), false },
		/* What old guests touch without asking. */
		{ 0, 0, G(touch), PMC(1), true }, { 0, 0, G(touch), EVTSEL(0), true }, { 0, 0, G(write), EVTSEL(1), true },
		{ 0, 0, G(touch), PMC(2), false }, { 0, 0, G(write), EVTSEL(2), false },
		{ 0x07300802, 0x603, G(write), STATUS, false }, { 0x07300802, 0x603, G(write), PERF_CAPABILITIES, false },
		{ 0x07300802, 0x603, G(write), OVF_CTRL, true },
#undef G
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vm vm;

		vm_new(&vm, 0);
		set_leaf(&vm, rows[i].eax, rows[i].edx);
		assert_int_equal(run_with_rcx(&vm, rows[i].code, (size_t)(rows[i].end - rows[i].code), rows[i].rcx),
				 rows[i].ok ? KVM_EXIT_HLT : KVM_EXIT_SHUTDOWN);
		vm_free(&vm);
	}
}

static void version_1_needs_no_switch(void **state)
{
	struct vm vm;

	vm_new(&vm, 0);
	set_leaf(&vm, 0x07300801, 0);
	assert_int_equal(vm_try_msr(&vm, FIXED_CTRL, 3), 0);
	vm_set_msr(&vm, EVTSEL(2), COUNT_INSNS);
	START(&vm, long, loop);
	vm_run(&vm, KVM_EXIT_HLT);
	assert_int_equal(vm_get_msr(&vm, PMC(2)), LOOP_INSNS + 1);
	vm_free(&vm);
}

static void client_disables(void **state)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_PMU_CAPABILITY, .args = { KVM_PMU_CAP_DISABLE } };
	struct vm vm;
	int vcpu;

	vm_new(&vm, 0);
	/* Too late. */
	assert_int_equal(vm_ioctl(&vm, KVM_ENABLE_CAP, &cap), -EINVAL);
	vm_free(&vm);

	vm_new(&vm, 0);
	vfs_close(vm.vcpu);
	vfs_close(vm.fd);
	vm.fd = (int)vfs_ioctl(vm.sys, KVM_CREATE_VM, 0);
	assert_true(vm.fd >= 0);
	cap.args[0] = 2;
	assert_int_equal(vm_ioctl(&vm, KVM_ENABLE_CAP, &cap), -EINVAL);
	cap.args[0] = KVM_PMU_CAP_DISABLE;
	vm_do(&vm, KVM_ENABLE_CAP, &cap);
	vcpu = (int)vfs_ioctl(vm.fd, KVM_CREATE_VCPU, 0);
	assert_true(vcpu >= 0);
	vm.vcpu = vcpu;
	vm_cpuid(&vm);
	assert_int_equal(vm_get_msr(&vm, PERF_CAPABILITIES), 0);
	assert_int_equal(vm_get_msr(&vm, GLOBAL_CTRL), 0);
	assert_int_equal(vm_try_msr(&vm, GLOBAL_CTRL, 1), 0);
	assert_int_equal(vm_get_msr(&vm, MISC_ENABLE) & 0x80, 0);
	vm_free(&vm);
}

/* ---- The filter ---- */

static long set_filter(struct vm *vm, u32 action, u32 fixed, u32 flags, u32 n, const u64 *events)
{
	struct kvm_pmu_event_filter *f = calloc(1, sizeof(*f) + n * sizeof(u64));
	long r;

	f->action = action;
	f->fixed_counter_bitmap = fixed;
	f->flags = flags;
	f->nevents = n;
	if (events)
		memcpy(f->events, events, n * sizeof(u64));
	r = vm_ioctl(vm, KVM_SET_PMU_EVENT_FILTER, f);
	free(f);
	return r;
}

static void filter(void **state)
{
	static const u64 insns[] = { 0xc0 }, branches[] = { 0xc4 }, both[] = { 0x3c, 0xc0, 0xc4 };
	struct vm vm;

	vm_new(&vm, 0);
	vm_cpuid(&vm);
	assert_int_equal(count_loop(&vm, COUNT_BRANCHES), 100);
	assert_int_equal(set_filter(&vm, KVM_PMU_EVENT_DENY, 0, 0, 1, branches), 0);
	assert_int_equal(count_loop(&vm, COUNT_BRANCHES), 0);
	assert_int_equal(vm_get_msr(&vm, EVTSEL(2)), COUNT_BRANCHES);
	assert_int_equal(count_loop(&vm, COUNT_INSNS), LOOP_INSNS + 1);
	assert_int_equal(set_filter(&vm, KVM_PMU_EVENT_DENY, 0, 0, 3, both), 0);
	assert_int_equal(count_loop(&vm, COUNT_INSNS), 0);
	assert_int_equal(set_filter(&vm, KVM_PMU_EVENT_ALLOW, 0, 0, 1, insns), 0);
	assert_int_equal(count_loop(&vm, COUNT_INSNS), LOOP_INSNS + 1);
	assert_int_equal(count_loop(&vm, COUNT_BRANCHES), 0);
	/* What is selected already follows a new filter. */
	assert_int_equal(set_filter(&vm, KVM_PMU_EVENT_DENY, 0, 0, 0, NULL), 0);
	START(&vm, long, loop);
	vm_run(&vm, KVM_EXIT_HLT);
	assert_int_equal(vm_get_msr(&vm, PMC(2)), 100);
	vm_free(&vm);
}

static u64 count_fixed(struct vm *vm)
{
	vm_set_msr(vm, FIXED(0), 0);
	vm_set_msr(vm, FIXED_CTRL, 3);
	vm_set_msr(vm, GLOBAL_CTRL, 1ull << 32);
	START(vm, long, loop);
	vm_run(vm, KVM_EXIT_HLT);
	return vm_get_msr(vm, FIXED(0));
}

static void filter_of_fixed_counters(void **state)
{
	struct vm vm;

	vm_new(&vm, 0);
	vm_cpuid(&vm);
	assert_int_equal(count_fixed(&vm), LOOP_INSNS + 1);
	assert_int_equal(set_filter(&vm, KVM_PMU_EVENT_DENY, 1, 0, 0, NULL), 0);
	assert_int_equal(count_fixed(&vm), 0);
	assert_int_equal(set_filter(&vm, KVM_PMU_EVENT_DENY, 6, 0, 0, NULL), 0);
	assert_int_equal(count_fixed(&vm), LOOP_INSNS + 1);
	assert_int_equal(set_filter(&vm, KVM_PMU_EVENT_ALLOW, 6, 0, 0, NULL), 0);
	assert_int_equal(count_fixed(&vm), 0);
	assert_int_equal(set_filter(&vm, KVM_PMU_EVENT_ALLOW, 1, 0, 0, NULL), 0);
	assert_int_equal(count_fixed(&vm), LOOP_INSNS + 1);
	vm_free(&vm);
}

static void filters_refused(void **state)
{
	static const struct { u32 action, flags, n; long r; } rows[] = {
		{ 2, 0, 0, -EINVAL }, { 0, 1, 0, -EINVAL }, { 0, 1u << 31, 0, -EINVAL }, { 0, 0, 301, -E2BIG },
		{ 2, 0, 301, -EINVAL }, { 0, 0, 300, 0 },
	};
	struct vm vm;

	vm_new(&vm, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(set_filter(&vm, rows[i].action, 0, rows[i].flags, rows[i].n, NULL), rows[i].r);
	assert_int_equal(vfs_ioctl(vm.fd, KVM_SET_PMU_EVENT_FILTER, 16), -EFAULT);
	vm_free(&vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_offered),
		cmocka_unit_test(exits_do_not_disturb),
		cmocka_unit_test(registers),
		cmocka_unit_test(migration),
		cmocka_unit_test(overflow_interrupts),
		cmocka_unit_test(overflow_in_the_hypervisor),
		cmocka_unit_test(cpuid_decides),
		cmocka_unit_test(version_1_needs_no_switch),
		cmocka_unit_test(client_disables),
		cmocka_unit_test(filter),
		cmocka_unit_test(filter_of_fixed_counters),
		cmocka_unit_test(filters_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
