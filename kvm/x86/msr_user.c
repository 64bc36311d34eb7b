// SPDX-License-Identifier: MIT
/*
 * RDMSR and WRMSR of the guest: the client's filter (KVM_X86_SET_MSR_FILTER),
 * then the register, then (KVM_CAP_X86_USER_SPACE_MSR) the client instead of
 * #GP. The VMX bitmap lets through only what no filter denies.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/epoch.h"
#include "base/log.h"
#include "base/trace.h"
#include "kvm/hv.h"
#include "kvm/vcpu_life.h"
#include "kvm/x86/x86.h"

struct hv_msr_filter {
	struct epoch_node node;
	bool default_allow;
	unsigned n;
	struct {
		u32 flags, base, nmsrs;
		u8 *bitmap;
	} range[KVM_MSR_FILTER_MAX_RANGES];
};

/* ---- The filter ---- */

static void filter_destroy(struct hv_msr_filter *f)
{
	for (unsigned i = 0; i < f->n; i++)
		free(f->range[i].bitmap);
	free(f);
}

static void filter_free(struct epoch_node *n)
{
	filter_destroy(container_of(n, struct hv_msr_filter, node));
}

void hv_msr_filter_free(struct hv_vm *vm)
{
	struct hv_msr_filter *f = atomic_load(&vm->msr_filter);

	if (f)
		filter_destroy(f);
}

static int add_range(struct hv_msr_filter *f, const struct kvm_msr_filter_range *r)
{
	size_t bytes = (r->nmsrs + 7) / 8;
	u8 *copy;

	if (r->flags & ~(u32)(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE))
		return -EINVAL;
	if (!r->nmsrs)
		return 0;
	/* As many MSRs as one VMX bitmap has of a kind. */
	if (!r->flags || bytes > 0x600)
		return -EINVAL;
	copy = malloc(bytes);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, r->bitmap, bytes);
	f->range[f->n].flags = r->flags;
	f->range[f->n].base = r->base;
	f->range[f->n].nmsrs = r->nmsrs;
	f->range[f->n].bitmap = copy;
	f->n++;
	return 0;
}

int hv_set_msr_filter(struct hv_vm *vm, const struct kvm_msr_filter *k)
{
	struct hv_msr_filter *f, *old;
	bool empty = true;
	int r;

	if (k->flags & ~(u32)KVM_MSR_FILTER_DEFAULT_DENY)
		return -EINVAL;
	for (unsigned i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++)
		empty &= !k->ranges[i].nmsrs;
	/* Denying everything is not a filter but a broken guest. */
	if (empty && (k->flags & KVM_MSR_FILTER_DEFAULT_DENY))
		return -EINVAL;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->default_allow = !(k->flags & KVM_MSR_FILTER_DEFAULT_DENY);
	for (unsigned i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++) {
		r = add_range(f, &k->ranges[i]);
		if (r < 0) {
			filter_destroy(f);
			return r;
		}
	}
	pthread_mutex_lock(&vm->lock);
	old = atomic_exchange(&vm->msr_filter, f);
	pthread_mutex_unlock(&vm->lock);
	if (old)
		epoch_defer(&old->node, filter_free);
	hv_request_all(vm, HV_REQ_MSR_FILTER, true);
	return 0;
}

bool hv_msr_filtered(struct hv_vcpu *v, u32 msr, bool write)
{
	u32 type = write ? KVM_MSR_FILTER_WRITE : KVM_MSR_FILTER_READ;
	const struct hv_msr_filter *f;
	bool allowed = true;

	/* The local APIC's registers are never filtered. */
	if (msr >= 0x800 && msr <= 0x8ff)
		return false;
	epoch_enter();
	f = atomic_load(&v->vm->msr_filter);
	if (f) {
		allowed = f->default_allow;
		for (unsigned i = 0; i < f->n; i++) {
			u32 k = msr - f->range[i].base;

			if (k < f->range[i].nmsrs && (f->range[i].flags & type)) {
				allowed = f->range[i].bitmap[k / 8] >> (k % 8) & 1;
				break;
			}
		}
	}
	epoch_exit();
	return !allowed;
}

/* ---- The VMX bitmap: SDM vol. 3C "MSR-Bitmap Address" ---- */

static const struct {
	u32 msr;
	bool read, write;
} pass_through[] = {
	{ 0x10, true, false },		/* TSC: the offset applies to reads */
	{ 0x174, true, true }, { 0x175, true, true }, { 0x176, true, true },
	{ 0xc0000100, true, true }, { 0xc0000101, true, true }, { 0xc0000102, true, true },
};

static void allow(u8 *bitmap, u32 msr, bool write)
{
	unsigned base = write ? 0x800 : 0;
	u32 bit = msr & 0x1fff;

	if (msr >= 0xc0000000)
		base += 0x400;
	bitmap[base + bit / 8] &= (u8)~(1u << bit % 8);
}

/* Ranges of the performance counters: what the guest may have of them is pmu.c's. */
static const struct { u32 first, last; } counters[] = {
	{ 0xc1, 0xc8 }, { 0x309, 0x30b }, { 0x38f, 0x38f }, { 0x4c1, 0x4c8 },
};

static void allow_counters(struct hv_vcpu *v, u8 *bitmap)
{
	for (unsigned i = 0; i < ARRAY_SIZE(counters); i++)
		for (u32 msr = counters[i].first; msr <= counters[i].last; msr++) {
			if (!hv_pmu_passes(v, msr))
				continue;
			if (!hv_msr_filtered(v, msr, false))
				allow(bitmap, msr, false);
			if (!hv_msr_filtered(v, msr, true))
				allow(bitmap, msr, true);
		}
}

void hv_update_msr_bitmap(struct hv_vcpu *v)
{
	u8 *bitmap = v->x86->msr_bitmap;

	memset(bitmap, 0xff, PAGE_SIZE);
	for (unsigned i = 0; i < ARRAY_SIZE(pass_through); i++) {
		u32 msr = pass_through[i].msr;

		if (pass_through[i].read && !hv_msr_filtered(v, msr, false))
			allow(bitmap, msr, false);
		if (pass_through[i].write && !hv_msr_filtered(v, msr, true))
			allow(bitmap, msr, true);
	}
	allow_counters(v, bitmap);
}

/* ---- The instructions ---- */

enum outcome { DONE, GP, TO_USER };

static enum outcome refused(struct hv_vcpu *v, u32 msr, bool write, u64 val, u32 reason)
{
	struct kvm_run *run = v->run;

	if (!(v->vm->user_space_msr_mask & reason))
		return GP;
	run->exit_reason = write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR;
	run->msr.error = 0;
	memset(run->msr.pad, 0, sizeof(run->msr.pad));
	run->msr.reason = reason;
	run->msr.index = msr;
	run->msr.data = val;
	return TO_USER;
}

static u32 reason_of(int r)
{
	return r == -ENOENT ? KVM_MSR_EXIT_REASON_UNKNOWN : KVM_MSR_EXIT_REASON_INVAL;
}

static enum outcome read_msr(struct hv_vcpu *v, u32 msr, u64 *val)
{
	int r;

	if (hv_msr_filtered(v, msr, false))
		return refused(v, msr, false, 0, KVM_MSR_EXIT_REASON_FILTER);
	r = hv_msr_read(v, msr, val, false);
	if (r == -ENOENT)
		log_debug("vcpu %u: unknown MSR: HV_MSR(0x%08x, 0x%08x, ?, NONE, ALWAYS, zero, none)",
			  v->id, msr, msr);
	trace(kvm_msr, "msr_read %x = 0x%llx%s", msr, (unsigned long long)*val, r ? " (#GP)" : "");
	return r ? refused(v, msr, false, 0, reason_of(r)) : DONE;
}

static enum outcome write_msr(struct hv_vcpu *v, u32 msr, u64 val)
{
	int r;

	if (hv_msr_filtered(v, msr, true))
		return refused(v, msr, true, val, KVM_MSR_EXIT_REASON_FILTER);
	r = hv_msr_write(v, msr, val, false);
	if (r == -ENOENT)
		log_debug("vcpu %u: unknown MSR: HV_MSR(0x%08x, 0x%08x, ?, NONE, ALWAYS, none, ignore)",
			  v->id, msr, msr);
	trace(kvm_msr, "msr_write %x = 0x%llx%s", msr, (unsigned long long)val, r ? " (#GP)" : "");
	return r ? refused(v, msr, true, val, reason_of(r)) : DONE;
}

static void put_edx_eax(struct hv_vcpu *v, u64 val)
{
	x86_gprs(v->cpu)[X86_RAX] = (u32)val;
	x86_gprs(v->cpu)[X86_RDX] = val >> 32;
}

static int rdmsr_answered(struct hv_vcpu *v)
{
	if (!v->run->msr.error)
		put_edx_eax(v, v->run->msr.data);
	return hv_complete_insn_gp(v, v->run->msr.error);
}

static int wrmsr_answered(struct hv_vcpu *v)
{
	return hv_complete_insn_gp(v, v->run->msr.error);
}

int hv_exit_rdmsr(struct hv_vcpu *v)
{
	u64 val = 0;

	switch (read_msr(v, (u32)x86_gprs(v->cpu)[X86_RCX], &val)) {
	case DONE:
		put_edx_eax(v, val);
		return hv_skip_insn(v);
	case GP:
		break;
	case TO_USER:
		v->x86->complete = rdmsr_answered;
		return 0;
	}
	return hv_complete_insn_gp(v, 1);
}

int hv_exit_wrmsr(struct hv_vcpu *v)
{
	const u64 *gpr = x86_gprs(v->cpu);
	u64 val = (u32)gpr[X86_RAX] | gpr[X86_RDX] << 32;

	switch (write_msr(v, (u32)gpr[X86_RCX], val)) {
	case DONE:
		return hv_skip_insn(v);
	case GP:
		break;
	case TO_USER:
		v->x86->complete = wrmsr_answered;
		return 0;
	}
	return hv_complete_insn_gp(v, 1);
}

/* No instruction that is emulated for its memory operand touches an MSR the client decides about. */
int hv_emul_rdmsr(struct hv_vcpu *v, u32 msr, u64 *val)
{
	return hv_msr_filtered(v, msr, false) || hv_msr_read(v, msr, val, false);
}

int hv_emul_wrmsr(struct hv_vcpu *v, u32 msr, u64 val)
{
	return hv_msr_filtered(v, msr, true) || hv_msr_write(v, msr, val, false);
}
