// SPDX-License-Identifier: MIT
/* State of a vCPU through GET and SET: round trips, what is refused, what depends on what. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/abi/vmtest.h"

static void regs(void **state)
{
	struct kvm_regs r, want;
	struct vm vm;

	vm_new(&vm, 0);
	for (unsigned i = 0; i < sizeof(want); i++)
		((u8 *)&want)[i] = (u8)(i * 13 + 1);
	want.rflags = 0x246;
	vcpu_do(&vm, KVM_SET_REGS, &want);
	vcpu_do(&vm, KVM_GET_REGS, &r);
	assert_memory_equal(&r, &want, sizeof(r));
	assert_int_equal(vfs_ioctl(vm.vcpu, KVM_SET_REGS, 16), -EFAULT);
	vm_free(&vm);
}

static void power_on(void **state)
{
	struct kvm_sregs s;
	struct kvm_regs r;
	struct vm vm;

	vm_new(&vm, 0);
	vcpu_do(&vm, KVM_GET_SREGS, &s);
	vcpu_do(&vm, KVM_GET_REGS, &r);
	assert_int_equal(r.rip, 0xfff0);
	assert_int_equal(r.rflags, 2);
	assert_int_equal(s.cs.base, 0xffff0000);
	assert_int_equal(s.cs.selector, 0xf000);
	assert_int_equal(s.cs.limit, 0xffff);
	assert_int_equal(s.cr0, 0x60000010);
	assert_int_equal(s.tr.type, 11);
	assert_int_equal(s.apic_base, 0xfee00900);
	vm_free(&vm);
}

static void sregs_refused(void **state)
{
	struct kvm_sregs s, good, now;
	struct vm vm;

	vm_new(&vm, VM_IRQCHIP);
	vm_long(&vm, "\xf4", 1);
	vcpu_do(&vm, KVM_GET_SREGS, &good);
#define REFUSED(change) do { \
		s = good; \
		change; \
		assert_int_equal(vcpu_ioctl(&vm, KVM_SET_SREGS, &s), -EINVAL); \
		vcpu_do(&vm, KVM_GET_SREGS, &now); \
		assert_memory_equal(&now, &good, sizeof(now)); \
	} while (0)
	REFUSED(s.cr4 &= ~0x20ull);		/* long mode without PAE */
	REFUSED(s.efer &= ~0x400ull);		/* LME and PG without LMA */
	REFUSED(s.efer &= ~0x100ull);		/* LMA without LME */
	REFUSED(s.cr0 |= 1ull << 32);
	REFUSED(s.cr0 &= ~1ull);		/* PG without PE */
	REFUSED(s.cr0 |= 1u << 29);		/* NW without CD */
	REFUSED(s.cr4 |= 1u << 13);		/* VMXE: not in this CPUID */
	REFUSED(s.cr4 |= 1ull << 40);
	REFUSED(s.efer |= 1u << 12);		/* SVME */
	REFUSED(s.apic_base = 0xfee00d00 & ~0x800ull);	/* EXTD without EN */
	REFUSED(s.cr3 |= 1ull << 60);
#undef REFUSED
	vcpu_do(&vm, KVM_SET_SREGS, &good);
	vm_free(&vm);
}

static void sregs2_pdptrs(void **state)
{
	struct kvm_sregs2 s;
	struct vm vm;

	vm_new(&vm, 0);
	vm_prot(&vm, "\xf4", 1);
	vcpu_do(&vm, KVM_GET_SREGS2, &s);
	assert_int_equal(s.flags, 0);
	s.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_SREGS2, &s), -EINVAL);	/* no PAE paging */
	s.cr0 |= 1u << 31;
	s.cr4 |= 0x20;
	s.pdptrs[2] = 0x5001;
	vcpu_do(&vm, KVM_SET_SREGS2, &s);
	memset(&s.pdptrs, 0, sizeof(s.pdptrs));
	vcpu_do(&vm, KVM_GET_SREGS2, &s);
	assert_int_equal(s.flags, KVM_SREGS2_FLAGS_PDPTRS_VALID);
	assert_int_equal(s.pdptrs[2], 0x5001);
	s.flags = 2;
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_SREGS2, &s), -EINVAL);
	vm_free(&vm);
}

static void fpu_and_xsave(void **state)
{
	struct kvm_fpu f, g;
	struct kvm_xsave *x = calloc(1, 16384);
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs = { { .xcr = 0, .value = 7 } } };
	long size;
	struct vm vm;
	u64 bv;

	vm_new(&vm, 0);
	size = vfs_ioctl(vm.sys, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
	assert_in_range(size, 4096, 16384);
	vcpu_do(&vm, KVM_GET_FPU, &f);
	assert_int_equal(f.fcw, 0x37f);	/* that of FNINIT, as KVM starts */
	assert_int_equal(f.mxcsr, 0x1f80);
	f.fcw = 0x37f;
	f.mxcsr = 0x1fa0;
	for (unsigned i = 0; i < sizeof(f.xmm); i++)
		((u8 *)f.xmm)[i] = (u8)i;
	vcpu_do(&vm, KVM_SET_FPU, &f);
	vcpu_do(&vm, KVM_GET_FPU, &g);
	assert_memory_equal(f.xmm, g.xmm, sizeof(f.xmm));
	assert_int_equal(g.fcw, 0x37f);

	/* SSE state of the one is that of the other. */
	vcpu_do(&vm, KVM_GET_XSAVE, x);
	assert_memory_equal((u8 *)x + 160, f.xmm, sizeof(f.xmm));
	vcpu_do(&vm, KVM_SET_XSAVE, x);
	vcpu_do(&vm, KVM_GET_XSAVE2, x);
	assert_memory_equal((u8 *)x + 160, f.xmm, sizeof(f.xmm));
	memcpy(&bv, (u8 *)x + 512, 8);
	bv |= 1ull << 40;
	memcpy((u8 *)x + 512, &bv, 8);
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_XSAVE, x), -EINVAL);

	vcpu_do(&vm, KVM_SET_XCRS, &xcrs);
	xcrs.xcrs[0].value = 0;
	vcpu_do(&vm, KVM_GET_XCRS, &xcrs);
	assert_int_equal(xcrs.nr_xcrs, 1);
	assert_int_equal(xcrs.xcrs[0].value, 7);
	xcrs.xcrs[0].value = 6;		/* x87 is not optional */
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_XCRS, &xcrs), -EINVAL);
	xcrs.xcrs[0].value = 7;
	xcrs.flags = 1;
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_XCRS, &xcrs), -EINVAL);
	vm_free(&vm);
	free(x);
}

static void debugregs(void **state)
{
	struct kvm_debugregs d = { .db = { 1, 2, 3, 4 }, .dr6 = 0xffff0ff1, .dr7 = 0x400 }, e;
	struct vm vm;

	vm_new(&vm, 0);
	vcpu_do(&vm, KVM_SET_DEBUGREGS, &d);
	vcpu_do(&vm, KVM_GET_DEBUGREGS, &e);
	assert_memory_equal(&d, &e, sizeof(d));
	d.flags = 1;
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_DEBUGREGS, &d), -EINVAL);
	d.flags = 0;
	d.dr7 = 1ull << 32;
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_DEBUGREGS, &d), -EINVAL);
	vm_free(&vm);
}

static void events(void **state)
{
	struct kvm_enable_cap payload = { .cap = KVM_CAP_EXCEPTION_PAYLOAD, .args = { 1 } };
	struct kvm_vcpu_events e;
	struct vm vm;

	vm_new(&vm, VM_IRQCHIP);
	vcpu_do(&vm, KVM_GET_VCPU_EVENTS, &e);
	assert_int_equal(e.exception.injected, 0);
	e.flags = KVM_VCPUEVENT_VALID_PAYLOAD;
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_VCPU_EVENTS, &e), -EINVAL);
	e.flags = KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_VCPU_EVENTS, &e), -EINVAL);
	e.flags = 0x80;
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_VCPU_EVENTS, &e), -EINVAL);
	e.flags = 0;
	e.exception.injected = 1;
	e.exception.nr = 32;
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_VCPU_EVENTS, &e), -EINVAL);

	vm_do(&vm, KVM_ENABLE_CAP, &payload);
	memset(&e, 0, sizeof(e));
	e.flags = KVM_VCPUEVENT_VALID_PAYLOAD | KVM_VCPUEVENT_VALID_SHADOW;
	e.exception.pending = 1;
	e.exception.nr = 14;
	e.exception.has_error_code = 1;
	e.exception.error_code = 2;
	e.exception_has_payload = 1;
	e.exception_payload = 0xabc000;
	e.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
	e.nmi.masked = 1;
	vcpu_do(&vm, KVM_SET_VCPU_EVENTS, &e);
	memset(&e, 0, sizeof(e));
	vcpu_do(&vm, KVM_GET_VCPU_EVENTS, &e);
	assert_int_equal(e.exception.pending, 1);
	assert_int_equal(e.exception.injected, 0);
	assert_int_equal(e.exception_payload, 0xabc000);
	assert_int_equal(e.interrupt.shadow, KVM_X86_SHADOW_INT_STI);
	assert_int_equal(e.nmi.masked, 1);
	vm_free(&vm);
}

static void mp_state(void **state)
{
	struct kvm_mp_state m = { .mp_state = KVM_MP_STATE_HALTED };
	struct vm vm;

	vm_new(&vm, 0);
	/* Without an APIC in the hypervisor there is nothing but running. */
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_MP_STATE, &m), -EINVAL);
	vm_free(&vm);
	vm_new(&vm, VM_IRQCHIP);
	vcpu_do(&vm, KVM_GET_MP_STATE, &m);
	assert_int_equal(m.mp_state, KVM_MP_STATE_RUNNABLE);
	m.mp_state = KVM_MP_STATE_HALTED;
	vcpu_do(&vm, KVM_SET_MP_STATE, &m);
	m.mp_state = 9;
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_MP_STATE, &m), -EINVAL);
	vcpu_do(&vm, KVM_GET_MP_STATE, &m);
	assert_int_equal(m.mp_state, KVM_MP_STATE_HALTED);
	vm_free(&vm);
}

/* A guest outside of VMX operation has a state too, and no other is taken. */
static void nested_state_of_nobody(void **state)
{
	struct kvm_nested_state s = { .size = 127 }, bad;
	struct vm vm;

	vm_new(&vm, 0);
	assert_int_equal(vcpu_ioctl(&vm, KVM_GET_NESTED_STATE, &s), -E2BIG);
	assert_int_equal(s.size, 128);
	vcpu_do(&vm, KVM_GET_NESTED_STATE, &s);
	assert_int_equal(s.flags | s.format, 0);
	vcpu_do(&vm, KVM_SET_NESTED_STATE, &s);
	for (unsigned i = 0; i < 5; i++) {
		bad = s;
		if (i == 0)
			bad.flags = KVM_STATE_NESTED_GUEST_MODE;
		else if (i == 1)
			bad.format = KVM_STATE_NESTED_FORMAT_SVM;
		else if (i == 2)
			bad.hdr.vmx.vmxon_pa = 0x1000;
		else if (i == 3)
			bad.hdr.vmx.vmcs12_pa = 0x1000;
		else
			bad.size = 64;
		assert_int_equal(vcpu_ioctl(&vm, KVM_SET_NESTED_STATE, &bad), -EINVAL);
	}
	vm_free(&vm);
}

static void wrong_state(void **state)
{
	static const struct { unsigned long req; long want; } rows[] = {
		{ KVM_GET_LAPIC, -EINVAL }, { KVM_SET_VAPIC_ADDR, -EINVAL },
		{ KVM_CREATE_VCPU, -EINVAL },
	};
	struct kvm_interrupt irq = { .irq = 256 };
	struct kvm_signal_mask mask = { .len = 4 };
	struct kvm_vapic_addr vapic = { 0 };
	struct kvm_device_attr attr = { .group = 5 };
	char buf[4096];
	u64 cap;
	struct vm vm;

	vm_new(&vm, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(vcpu_ioctl(&vm, rows[i].req, buf), rows[i].want);
	assert_int_equal(vcpu_ioctl(&vm, KVM_RUN, buf), -EINVAL);
	assert_int_equal(vcpu_ioctl(&vm, KVM_INTERRUPT, &irq), -EINVAL);
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_SIGNAL_MASK, &mask), -EINVAL);
	assert_int_equal(vcpu_ioctl(&vm, KVM_HAS_DEVICE_ATTR, &attr), -ENXIO);
	cap = 33;
	assert_int_equal(vcpu_ioctl(&vm, KVM_X86_SETUP_MCE, &cap), -EINVAL);
	cap = 10 | 1 << 8;
	vcpu_do(&vm, KVM_X86_SETUP_MCE, &cap);
	vm.run->kvm_valid_regs = 8;
	assert_int_equal(vcpu_ioctl(&vm, KVM_RUN, NULL), -EINVAL);
	vm_free(&vm);
	vm_new(&vm, VM_IRQCHIP);
	irq.irq = 0x20;
	assert_int_equal(vcpu_ioctl(&vm, KVM_INTERRUPT, &irq), -ENXIO);
	vcpu_do(&vm, KVM_SET_VAPIC_ADDR, &vapic);
	vm_free(&vm);
}

/* A physical-address width that no processor has. */
static void absurd_cpuid(void **state)
{
	struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 e[1]; } c = { .head.nent = 1 };
	struct kvm_sregs s;
	struct vm vm;

	vm_new(&vm, 0);
	c.e[0].function = 0x80000008;
	c.e[0].eax = 0x30ff;
	vcpu_do(&vm, KVM_SET_CPUID2, &c);
	vcpu_do(&vm, KVM_GET_SREGS, &s);
	vcpu_do(&vm, KVM_SET_SREGS, &s);
	c.e[0].eax = 0x3130;	/* 49 linear bits */
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_CPUID2, &c), -EINVAL);
	vm_free(&vm);
}

static void guest_debug_refused(void **state)
{
	struct kvm_guest_debug d = { .control = 1u << 30 };
	struct vm vm;

	vm_new(&vm, 0);
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_GUEST_DEBUG, &d), -EINVAL);
	d.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_INJECT_DB;
	vcpu_do(&vm, KVM_SET_GUEST_DEBUG, &d);
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_GUEST_DEBUG, &d), -EBUSY);
	vm_free(&vm);
}

#define CR4_SMAP (1ull << 21)
#define CR0_WP (1ull << 16)

static void translate(void **state)
{
	static const struct {
		u64 lin, entry;		/* bits of the 1 GiB page */
		u64 cr0_off, cr4_on;
		bool valid, writeable, usermode;
	} rows[] = {
		{ 0x12345, 0x87, 0, 0, true, true, true }, { 0x12345, 0x83, 0, 0, true, true, false },
		{ 0x12345, 0x85, 0, 0, true, false, true }, { 0x12345, 0x81, 0, 0, true, false, false },
		{ 0x12345, 0x81, CR0_WP, 0, true, true, false }, { 0x12345, 0x86, 0, 0, false, false, false },
		{ 0x12345, 0x87, 0, CR4_SMAP, true, true, true }, { 0x12345, 0x85, 0, CR4_SMAP, true, false, true },
		{ 0x12345, 0x83, 0, CR4_SMAP, true, true, false },
		{ 1ull << 40, 0x87, 0, 0, false, false, false },
	};
	struct vm vm;

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct kvm_translation t = { .linear_address = rows[i].lin };
		struct kvm_sregs s;

		vm_new(&vm, 0);
		vm_cpuid(&vm);
		vm_long(&vm, "\xf4", 1);
		memcpy(vm.ram + 0x101000, &rows[i].entry, 8);
		vcpu_do(&vm, KVM_GET_SREGS, &s);
		s.cr0 &= ~rows[i].cr0_off;
		s.cr4 |= rows[i].cr4_on;
		vcpu_do(&vm, KVM_SET_SREGS, &s);
		vcpu_do(&vm, KVM_TRANSLATE, &t);
		assert_int_equal(t.valid, rows[i].valid);
		assert_int_equal(t.physical_address, rows[i].valid ? rows[i].lin : ~0ull);
		assert_int_equal(t.writeable, rows[i].writeable);
		assert_int_equal(t.usermode, rows[i].usermode);
		vm_free(&vm);
	}
}

static void sync_regs(void **state)
{
	struct vm vm;

	vm_new(&vm, 0);
	/* mov ebx,eax; hlt */
	vm_prot(&vm, "\x89\xc3\xf4", 3);
	vm.run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
	vcpu_do(&vm, KVM_GET_REGS, &vm.run->s.regs.regs);
	vm.run->s.regs.regs.rax = 0x1234;
	vm.run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	vm_run(&vm, KVM_EXIT_HLT);
	assert_int_equal(vm.run->kvm_dirty_regs, 0);
	assert_int_equal(vm.run->s.regs.regs.rbx, 0x1234);
	assert_int_equal(vm.run->s.regs.regs.rip, VM_CODE + 3);
	assert_int_equal(vm.run->s.regs.sregs.cr0, 0x11);
	vm_free(&vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(regs),
		cmocka_unit_test(power_on),
		cmocka_unit_test(sregs_refused),
		cmocka_unit_test(sregs2_pdptrs),
		cmocka_unit_test(fpu_and_xsave),
		cmocka_unit_test(debugregs),
		cmocka_unit_test(events),
		cmocka_unit_test(mp_state),
		cmocka_unit_test(nested_state_of_nobody),
		cmocka_unit_test(wrong_state),
		cmocka_unit_test(absurd_cpuid),
		cmocka_unit_test(guest_debug_refused),
		cmocka_unit_test(translate),
		cmocka_unit_test(sync_regs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
