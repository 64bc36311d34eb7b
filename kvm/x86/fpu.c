// SPDX-License-Identifier: MIT
/* Extended state: KVM_GET/SET_FPU, XSAVE, XSAVE2, XCRS. Formats: SDM vol. 1 "XSAVE Area". */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "kvm/hv.h"
#include "kvm/x86/cpuid.h"
#include "kvm/x86/x86.h"

#define XSTATE_FP BIT(0)
#define XSTATE_SSE BIT(1)
#define XSTATE_FPSSE (XSTATE_FP | XSTATE_SSE)
#define XSTATE_BV_OFFSET 512
#define MXCSR_DEFAULT 0x1f80
#define KVM_XSAVE_BYTES 4096u

/* The legacy region: SDM vol. 1 "Non-64-Bit-Mode Layout of FXSAVE Map" with 64-bit pointers. */
struct fxsave {
	u16 fcw, fsw;
	u8 ftw, reserved0;
	u16 fop;
	u64 fip, fdp;
	u32 mxcsr, mxcsr_mask;
	u8 st[8][16];
	u8 xmm[16][16];
	u8 reserved1[96];
};
_Static_assert(sizeof(struct fxsave) == 512, "FXSAVE image");

static void *area_new(struct hv_vcpu *v)
{
	size_t size = round_up(max(x86_xsave_size(v->cpu), KVM_XSAVE_BYTES), 64);
	void *p = aligned_alloc(64, size);

	if (p)
		memset(p, 0, size);
	return p;
}

void hv_fpu_reset(struct hv_vcpu *v)
{
	u8 *area = area_new(v);
	struct fxsave *fx = (struct fxsave *)area;

	BUG_ON(!area);
	BUG_ON(x86_set_xcr0(v->cpu, XSTATE_FP) < 0);
	/* XSTATE_BV 0 initializes every component; MXCSR is loaded all the same. */
	fx->mxcsr = MXCSR_DEFAULT;
	BUG_ON(x86_xrstor_area(v->cpu, area, hv_supported_xcr0(v->vm->model)) < 0);
	x86_set_pkru(v->cpu, 0);
	free(area);
}

void hv_get_fpu(struct hv_vcpu *v, struct kvm_fpu *f)
{
	u8 *area = area_new(v);
	const struct fxsave *fx = (const struct fxsave *)area;

	memset(f, 0, sizeof(*f));
	if (!area)
		return;
	x86_xsave_area(v->cpu, area, XSTATE_FPSSE);
	memcpy(f->fpr, fx->st, sizeof(f->fpr));
	f->fcw = fx->fcw;
	f->fsw = fx->fsw;
	f->ftwx = fx->ftw;
	f->last_opcode = fx->fop;
	f->last_ip = fx->fip;
	f->last_dp = fx->fdp;
	memcpy(f->xmm, fx->xmm, sizeof(f->xmm));
	f->mxcsr = fx->mxcsr;
	free(area);
}

int hv_set_fpu(struct hv_vcpu *v, const struct kvm_fpu *f)
{
	u8 *area = area_new(v);
	struct fxsave *fx = (struct fxsave *)area;
	const u64 bv = XSTATE_FPSSE;
	int r;

	if (!area)
		return -ENOMEM;
	memcpy(fx->st, f->fpr, sizeof(f->fpr));
	fx->fcw = f->fcw;
	fx->fsw = f->fsw;
	fx->ftw = f->ftwx;
	fx->fop = f->last_opcode;
	fx->fip = f->last_ip;
	fx->fdp = f->last_dp;
	memcpy(fx->xmm, f->xmm, sizeof(f->xmm));
	fx->mxcsr = f->mxcsr;
	memcpy(area + XSTATE_BV_OFFSET, &bv, 8);
	r = x86_xrstor_area(v->cpu, area, XSTATE_FPSSE);
	free(area);
	return r < 0 ? -EINVAL : 0;
}

unsigned hv_xsave2_size(const struct x86_model *model)
{
	u32 d[4];

	hv_model_cpuid(model, 0xd, 0, d);
	return max(KVM_XSAVE_BYTES, d[2]);
}

void hv_get_xsave(struct hv_vcpu *v, void *buf, unsigned size)
{
	u8 *area = area_new(v);

	memset(buf, 0, size);
	if (!area)
		return;
	x86_xsave_area(v->cpu, area, hv_supported_xcr0(v->vm->model));
	memcpy(buf, area, min(size, x86_xsave_size(v->cpu)));
	free(area);
}

int hv_set_xsave(struct hv_vcpu *v, const void *buf)
{
	u64 supported = hv_supported_xcr0(v->vm->model), bv;
	u8 *area;
	int r;

	memcpy(&bv, (const u8 *)buf + XSTATE_BV_OFFSET, 8);
	if (bv & ~supported)
		return -EINVAL;
	area = area_new(v);
	if (!area)
		return -ENOMEM;
	memcpy(area, buf, x86_xsave_size(v->cpu));
	r = x86_xrstor_area(v->cpu, area, supported);
	free(area);
	return r < 0 ? -EINVAL : 0;
}

void hv_get_xcrs(struct hv_vcpu *v, struct kvm_xcrs *x)
{
	memset(x, 0, sizeof(*x));
	x->nr_xcrs = 1;
	x->xcrs[0].xcr = 0;
	x->xcrs[0].value = x86_get_xcr0(v->cpu);
}

int hv_set_xcrs(struct hv_vcpu *v, const struct kvm_xcrs *x)
{
	if (x->nr_xcrs > KVM_MAX_XCRS || x->flags)
		return -EINVAL;
	for (u32 i = 0; i < x->nr_xcrs; i++) {
		/* XCR0 is the only one. */
		if (x->xcrs[i].xcr == 0)
			return hv_guest_set_xcr0(v, x->xcrs[i].value) ? -EINVAL : 0;
	}
	return 0;
}
