// SPDX-License-Identifier: MIT
/*
 * KVM_GET_SUPPORTED_CPUID: what the model has, less what this hypervisor does
 * not virtualize, plus the leaves of KVM itself.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "kvm/hv.h"
#include "kvm/x86/cpuid.h"

enum { EAX, EBX, ECX, EDX };

#define KVM_SIGNATURE_LEAF 0x40000000u
#define KVM_FEATURES_LEAF 0x40000001u
#define MAX_MODELS 8

/* ---- A processor of each model to ask ---- */

static pthread_mutex_t probe_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	const struct x86_model *model;
	struct x86_cpu *cpu;
} probes[MAX_MODELS];

/* Some CPUID bits show in 64-bit mode only. */
static void enter_long_mode(struct x86_cpu *cpu)
{
	struct x86_state s;

	x86_get_state(cpu, &s);
	s.cr0 = 0x80010031;
	s.cr4 = BIT(5);
	s.efer = 0xd01;
	s.seg[X86_CS].ar = 0xa09b;
	s.seg[X86_CS].base = 0;
	x86_set_state(cpu, &s);
}

static struct x86_cpu *probe(const struct x86_model *model)
{
	unsigned i;

	for (i = 0; i < MAX_MODELS && probes[i].model; i++) {
		if (probes[i].model == model)
			return probes[i].cpu;
	}
	BUG_ON(i == MAX_MODELS);
	probes[i].cpu = x86_cpu_new(model, 0);
	BUG_ON(!probes[i].cpu);
	enter_long_mode(probes[i].cpu);
	probes[i].model = model;
	return probes[i].cpu;
}

void hv_model_cpuid(const struct x86_model *model, u32 leaf, u32 subleaf, u32 out[4])
{
	pthread_mutex_lock(&probe_lock);
	x86_cpuid(probe(model), leaf, subleaf, out);
	pthread_mutex_unlock(&probe_lock);
}

int hv_model_rdmsr(const struct x86_model *model, u32 msr, u64 *val)
{
	int r;

	pthread_mutex_lock(&probe_lock);
	r = x86_rdmsr(probe(model), msr, val);
	pthread_mutex_unlock(&probe_lock);
	return r;
}

bool hv_model_is_intel(const struct x86_model *model)
{
	u32 d[4];

	hv_model_cpuid(model, 0, 0, d);
	return d[EBX] == 0x756e6547;	/* "Genu" */
}

bool hv_model_supported(const struct x86_model *model)
{
	u32 d[4];

	hv_model_cpuid(model, 1, 0, d);
	return d[ECX] & BIT(5);	/* VMX */
}

u64 hv_supported_xcr0(const struct x86_model *model)
{
	u32 d[4];

	hv_model_cpuid(model, 0xd, 0, d);
	return d[EAX] | (u64)d[EDX] << 32;
}

/* ---- Leaves ---- */

struct builder {
	const struct x86_model *model;
	struct kvm_cpuid_entry2 *e;
	u32 n, room;
	bool full;
};

static struct kvm_cpuid_entry2 *add(struct builder *b, u32 leaf, u32 index, bool indexed)
{
	static struct kvm_cpuid_entry2 waste;
	struct kvm_cpuid_entry2 *e = &waste;
	u32 d[4];

	if (b->n < b->room)
		e = &b->e[b->n];
	else
		b->full = true;
	b->n++;
	hv_model_cpuid(b->model, leaf, index, d);
	*e = (struct kvm_cpuid_entry2){
		.function = leaf, .index = index, .flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
		.eax = d[EAX], .ebx = d[EBX], .ecx = d[ECX], .edx = d[EDX],
	};
	return e;
}

static void clear(struct kvm_cpuid_entry2 *e)
{
	e->eax = e->ebx = e->ecx = e->edx = 0;
}

static void add_xsave_leaves(struct builder *b)
{
	u64 xcr0 = hv_supported_xcr0(b->model);
	struct kvm_cpuid_entry2 *e = add(b, 0xd, 0, true);

	/* EBX follows the guest's XCR0 at run time; here, the size for all of it. */
	e->ebx = e->ecx;
	e = add(b, 0xd, 1, true);
	/* No supervisor components are virtualized. */
	e->ecx = e->edx = 0;
	for (u32 i = 2; i < 63; i++) {
		if (xcr0 & BIT(i))
			add(b, 0xd, i, true);
	}
}

static void add_basic_leaf(struct builder *b, u32 leaf)
{
	struct kvm_cpuid_entry2 *e;

	switch (leaf) {
	case 1:
		e = add(b, 1, 0, false);
		/*
		 * Not DTES64, MONITOR, VMX (no nesting), SMX, OSXSAVE (follows CR4);
		 * TSC-deadline is offered as a capability. The local APIC of the hypervisor
		 * has x2APIC on every model.
		 */
		e->ecx &= ~(u32)(BIT(2) | BIT(3) | BIT(5) | BIT(6) | BIT(24) | BIT(27));
		e->ecx |= BIT(21) | BIT(31);
		/* Topology is the client's: no HTT, no initial APIC id. */
		e->edx &= ~(u32)BIT(28);
		e->ebx &= 0x00ffffff;
		break;
	case 4:
		for (u32 i = 0; i < 8; i++) {
			e = add(b, 4, i, true);
			if (!(e->eax & 0x1f))
				break;
		}
		break;
	case 6:
		e = add(b, 6, 0, false);
		e->eax &= BIT(2);	/* ARAT: the emulated timer never stops */
		e->ebx = e->ecx = e->edx = 0;
		break;
	case 7:
		e = add(b, 7, 0, true);
		e->ecx &= ~(u32)BIT(4);	/* OSPKE follows CR4 */
		if (e->eax >= 1)
			add(b, 7, 1, true);
		break;
	case 0xa:
		/* The processor's, but for a bit that says what no guest has: AnyThread. */
		e = add(b, 0xa, 0, false);
		if (e->eax)
			e->edx |= BIT(15);
		break;
	case 0xb:
	case 0x1f:
		/* A valid topology would have subleaf 1. */
		clear(add(b, leaf, 0, true));
		break;
	case 0xd:
		add_xsave_leaves(b);
		break;
	case 0:
	case 2:
		add(b, leaf, 0, false);
		break;
	default:
		/* Power management, TSC and bus frequency: not virtualized. */
		clear(add(b, leaf, 0, false));
		break;
	}
}

static void add_extended_leaf(struct builder *b, u32 leaf)
{
	struct kvm_cpuid_entry2 *e = add(b, leaf, 0, false);

	switch (leaf) {
	case 0x80000001:
		e->ecx &= ~(u32)BIT(2);	/* SVM: no nesting */
		e->ebx = 0;
		break;
	case 0x80000007:
		e->eax = e->ebx = e->ecx = 0;
		e->edx &= BIT(8);	/* invariant TSC */
		break;
	case 0x80000008:
		e->ecx = e->edx = 0;	/* core count: the client's */
		break;
	case 0x8000000a:
	case 0x8000001e:
		clear(e);
		break;
	default:
		break;
	}
}

static void add_kvm_leaves(struct builder *b)
{
	struct kvm_cpuid_entry2 *e = add(b, KVM_SIGNATURE_LEAF, 0, false);
	u32 sig[3];

	memcpy(sig, "KVMKVMKVM\0\0\0", 12);
	e->eax = KVM_FEATURES_LEAF;
	e->ebx = sig[0];
	e->ecx = sig[1];
	e->edx = sig[2];
	e = add(b, KVM_FEATURES_LEAF, 0, false);
	clear(e);
	e->eax = HV_PV_FEATURES;
}

int hv_supported_cpuid(const struct x86_model *model, struct kvm_cpuid_entry2 *entries, u32 *nent)
{
	struct builder b = { .model = model, .e = entries, .room = *nent };
	u32 d[4];

	hv_model_cpuid(model, 0, 0, d);
	for (u32 leaf = 0; leaf <= d[EAX]; leaf++)
		add_basic_leaf(&b, leaf);
	add_kvm_leaves(&b);
	hv_model_cpuid(model, 0x80000000, 0, d);
	for (u32 leaf = 0x80000000; leaf <= d[EAX]; leaf++)
		add_extended_leaf(&b, leaf);
	if (b.full)
		return -E2BIG;
	*nent = b.n;
	return 0;
}
