/* SPDX-License-Identifier: MIT */
/*
 * FXSAVE, XSAVE and their relatives, XGETBV, XSETBV, and the same formats for
 * software in root mode. SDM vol. 1 "Managing State Using the XSAVE Feature Set".
 *
 * An area is reached through struct area: guest memory, or a buffer of this
 * process. Guest memory is checked whole before the first byte is written.
 */
#include <string.h>

#include "silicon/x86/decode/dec.h"
#include "silicon/x86/insn/fp_state.h"
#include "silicon/x86/mmu/mem.h"
#include "silicon/x86/model/model.h"
#include "silicon/x86/vmx/intercept.h"

#define LEGACY_SIZE 512
#define HEADER_SIZE 64
#define EXTENDED_START (LEGACY_SIZE + HEADER_SIZE)
#define AVX_SIZE 256
#define PKRU_SIZE 8
#define XCOMP_COMPACT BIT(63)

/* Offsets in the legacy region. */
#define OFF_MXCSR 24
#define OFF_ST 32
#define OFF_XMM 160

struct area {
	struct x86_cpu *cpu;
	u8 *buf;		/* NULL: guest memory at seg:lin */
	u64 lin;
	u8 seg;
	bool quad;		/* 64-bit FIP and FDP */
	u8 nr_regs;		/* vector registers of the mode: 8 or 16 */
};

static void put(const struct area *a, unsigned off, const void *src, unsigned len)
{
	if (a->buf)
		memcpy(a->buf + off, src, len);
	else
		x86_store_bytes(a->cpu, a->seg, a->lin + off, src, len);
}

static void get(const struct area *a, unsigned off, void *dst, unsigned len)
{
	if (a->buf)
		memcpy(dst, a->buf + off, len);
	else
		x86_load_bytes(a->cpu, a->seg, a->lin + off, dst, len);
}

/* ---- x87 component: bytes 0..23 and 32..159 ---- */

static void init_x87(struct x86_cpu *cpu)
{
	x86_fp_init(cpu);
	memset(cpu->fpu.st, 0, sizeof(cpu->fpu.st));
}

static void put_x87(const struct area *a)
{
	const struct x86_fpu *f = &a->cpu->fpu;
	u8 head[24] = { 0 }, st[128] = { 0 };
	unsigned top = bits_get(f->fsw, 13, 11);

	memcpy(head, &f->fcw, 2);
	memcpy(head + 2, &f->fsw, 2);
	head[4] = f->ftw;
	/* AMD keeps the pointers for a pending exception only. FCS and FDS, bytes 12 and 20, are 0.
	 */
	if (!x86_is_amd(a->cpu) || f->fsw & FSW_ES) {
		memcpy(head + 6, &f->fop, 2);
		memcpy(head + 8, &f->fip, a->quad ? 8 : 4);
		memcpy(head + 16, &f->fdp, a->quad ? 8 : 4);
	}
	for (unsigned i = 0; i < 8; i++)
		memcpy(st + 16 * i, &f->st[(top + i) & 7], 10);
	put(a, 0, head, sizeof(head));
	put(a, OFF_ST, st, sizeof(st));
}

static void get_x87(const struct area *a)
{
	struct x86_fpu *f = &a->cpu->fpu;
	u8 head[24], st[128];
	unsigned top;

	get(a, 0, head, sizeof(head));
	get(a, OFF_ST, st, sizeof(st));
	memcpy(&f->fcw, head, 2);
	memcpy(&f->fsw, head + 2, 2);
	f->fcw = (u16)((f->fcw & 0x1f7f) | 0x40);
	f->ftw = head[4];
	memcpy(&f->fop, head + 6, 2);
	f->fop &= 0x7ff;
	f->fip = f->fdp = 0;
	memcpy(&f->fip, head + 8, a->quad ? 8 : 4);
	memcpy(&f->fdp, head + 16, a->quad ? 8 : 4);
	top = bits_get(f->fsw, 13, 11);
	for (unsigned i = 0; i < 8; i++) {
		f->st[(top + i) & 7] = (x86_f80_t){ 0 };
		memcpy(&f->st[(top + i) & 7], st + 16 * i, 10);
	}
	x86_fp_update_es(a->cpu);
}

static bool x87_in_use(const struct x86_fpu *f)
{
	if (f->fcw != 0x37f || f->fsw || f->ftw || f->fop || f->fip || f->fdp)
		return true;
	for (unsigned i = 0; i < 8; i++)
		if (f->st[i].mant || f->st[i].exp)
			return true;
	return false;
}

/* ---- SSE, AVX, PKRU components ---- */

static void put_xmm(const struct area *a)
{
	u8 v[256];

	for (unsigned i = 0; i < a->nr_regs; i++)
		memcpy(v + 16 * i, &a->cpu->fpu.ymm[i], 16);
	put(a, OFF_XMM, v, 16u * a->nr_regs);
}

static void get_xmm(const struct area *a)
{
	u8 v[256];

	get(a, OFF_XMM, v, 16u * a->nr_regs);
	for (unsigned i = 0; i < a->nr_regs; i++)
		memcpy(&a->cpu->fpu.ymm[i], v + 16 * i, 16);
}

static void init_xmm(const struct area *a)
{
	for (unsigned i = 0; i < a->nr_regs; i++)
		memset(&a->cpu->fpu.ymm[i], 0, 16);
}

static void put_ymm(const struct area *a, unsigned off)
{
	u8 v[AVX_SIZE];

	for (unsigned i = 0; i < a->nr_regs; i++)
		memcpy(v + 16 * i, &a->cpu->fpu.ymm[i].q[2], 16);
	put(a, off, v, 16u * a->nr_regs);
}

static void get_ymm(const struct area *a, unsigned off)
{
	u8 v[AVX_SIZE];

	get(a, off, v, 16u * a->nr_regs);
	for (unsigned i = 0; i < a->nr_regs; i++)
		memcpy(&a->cpu->fpu.ymm[i].q[2], v + 16 * i, 16);
}

static void init_ymm(const struct area *a)
{
	for (unsigned i = 0; i < a->nr_regs; i++)
		memset(&a->cpu->fpu.ymm[i].q[2], 0, 16);
}

static void put_mxcsr(const struct area *a)
{
	u32 v[2] = { a->cpu->fpu.mxcsr, MXCSR_VALID };

	put(a, OFF_MXCSR, v, sizeof(v));
}

/* XINUSE, exactly: a component whose state is the initial one is not in use. */
static u64 in_use(const struct x86_cpu *cpu)
{
	u64 sse = 0, avx = 0;

	for (unsigned i = 0; i < 16; i++) {
		const struct x86_ymm *y = &cpu->fpu.ymm[i];

		sse |= y->q[0] | y->q[1];
		avx |= y->q[2] | y->q[3];
	}
	return (x87_in_use(&cpu->fpu) ? XCR0_X87 : 0) | (sse ? XCR0_SSE : 0) |
	       (avx ? XCR0_AVX : 0) | (cpu->pkru ? XCR0_PKRU : 0);
}

/* ---- Formats ---- */

static unsigned component_size(unsigned i)
{
	return i == 2 ? AVX_SIZE : PKRU_SIZE;
}

static unsigned standard_offset(struct x86_cpu *cpu, unsigned i)
{
	u32 leaf[4];

	if (i == 2)
		return EXTENDED_START;
	x86_cpuid(cpu, 0xd, i, leaf);
	return leaf[1];
}

/* Offset of component @i; no component of these models asks for alignment. */
static unsigned compact_offset(u64 xcomp, unsigned i)
{
	unsigned off = EXTENDED_START;

	for (unsigned k = 2; k < i; k++)
		if (xcomp & BIT(k))
			off += component_size(k);
	return off;
}

static const u8 extended[] = { 2, 9 };	/* AVX, PKRU */

static void put_extended(const struct area *a, unsigned i, unsigned off)
{
	u64 pkru = a->cpu->pkru;

	if (i == 2)
		put_ymm(a, off);
	else
		put(a, off, &pkru, PKRU_SIZE);
}

static void get_extended(const struct area *a, unsigned i, unsigned off)
{
	u32 pkru;

	if (i == 2) {
		get_ymm(a, off);
		return;
	}
	get(a, off, &pkru, sizeof(pkru));
	x86_set_pkru(a->cpu, pkru);
}

static void init_extended(const struct area *a, unsigned i)
{
	if (i == 2)
		init_ymm(a);
	else
		x86_set_pkru(a->cpu, 0);
}

/* Bytes that saving @mask may touch. */
static unsigned area_size(struct x86_cpu *cpu, u64 mask, bool compact)
{
	unsigned end = EXTENDED_START;

	for (unsigned k = 0; k < ARRAY_SIZE(extended); k++) {
		unsigned i = extended[k];

		if (mask & BIT(i))
			end = (compact ? compact_offset(mask, i) : standard_offset(cpu, i)) +
			      component_size(i);
	}
	return end;
}

/* @write: components to write, all those of @mask or only those in use. */
static void save_standard(const struct area *a, u64 mask, u64 write)
{
	u64 bv;

	get(a, LEGACY_SIZE, &bv, 8);
	if (write & XCR0_X87)
		put_x87(a);
	if (mask & (XCR0_SSE | XCR0_AVX))
		put_mxcsr(a);
	if (write & XCR0_SSE)
		put_xmm(a);
	for (unsigned k = 0; k < ARRAY_SIZE(extended); k++)
		if (write & BIT(extended[k]))
			put_extended(a, extended[k], standard_offset(a->cpu, extended[k]));
	bv = (bv & ~mask) | (in_use(a->cpu) & mask);
	put(a, LEGACY_SIZE, &bv, 8);
}

static void save_compact(const struct area *a, u64 mask)
{
	u64 header[2] = { in_use(a->cpu) & mask, mask | XCOMP_COMPACT };

	/* MXCSR is part of the component here. */
	if (mask & XCR0_SSE && a->cpu->fpu.mxcsr != MXCSR_RESET)
		header[0] |= XCR0_SSE;
	if (header[0] & XCR0_X87)
		put_x87(a);
	if (header[0] & XCR0_SSE) {
		put_mxcsr(a);
		put_xmm(a);
	}
	for (unsigned k = 0; k < ARRAY_SIZE(extended); k++)
		if (header[0] & BIT(extended[k]))
			put_extended(a, extended[k], compact_offset(mask, extended[k]));
	put(a, LEGACY_SIZE, header, sizeof(header));
}

/*
 * Restore the components of @mask as the header says. @valid: components that
 * exist now. False: #GP(0), nothing changed.
 */
static bool restore(const struct area *a, u64 mask, u64 valid, bool need_compact)
{
	struct x86_cpu *cpu = a->cpu;
	u64 header[8], bv, comp;
	u32 mxcsr = MXCSR_RESET;
	bool compact, load_mxcsr;

	get(a, LEGACY_SIZE, header, sizeof(header));
	bv = header[0];
	comp = header[1];
	compact = comp & XCOMP_COMPACT;
	if (compact) {
		if (comp & ~(valid | XCOMP_COMPACT) || bv & ~comp)
			return false;
		for (unsigned i = 2; i < ARRAY_SIZE(header); i++)
			if (header[i])
				return false;
	} else if (need_compact || comp || header[2] || bv & ~valid) {
		return false;
	}

	load_mxcsr = compact ? mask & bv & XCR0_SSE : mask & (XCR0_SSE | XCR0_AVX);
	if (load_mxcsr) {
		get(a, OFF_MXCSR, &mxcsr, sizeof(mxcsr));
		if (mxcsr & ~MXCSR_VALID)
			return false;
	}
	if (mask & XCR0_X87) {
		if (bv & XCR0_X87)
			get_x87(a);
		else
			init_x87(cpu);
	}
	if (load_mxcsr || (compact && mask & XCR0_SSE))
		cpu->fpu.mxcsr = mxcsr;
	if (mask & XCR0_SSE) {
		if (bv & XCR0_SSE)
			get_xmm(a);
		else
			init_xmm(a);
	}
	for (unsigned k = 0; k < ARRAY_SIZE(extended); k++) {
		unsigned i = extended[k];

		if (!(mask & BIT(i)))
			continue;
		if (bv & BIT(i))
			get_extended(a, i,
				     compact ? compact_offset(comp, i) : standard_offset(cpu, i));
		else
			init_extended(a, i);
	}
	return true;
}

/* ---- Instructions ---- */

static struct area guest_area(struct x86_cpu *cpu, const struct x86_op *op, unsigned size,
			      unsigned align, bool write)
{
	struct area a = {
		.cpu = cpu, .seg = op->seg, .quad = x86_in_64(cpu) && op->flags & X86_OP_REXW,
		.nr_regs = x86_in_64(cpu) ? 16 : 8,
	};

	a.lin = write ? x86_lin_write(cpu, op->seg, x86_ea(cpu, op), size) :
			x86_lin_read(cpu, op->seg, x86_ea(cpu, op), size);
	if (a.lin & (align - 1))
		x86_gp0(cpu);
	if (write)
		x86_probe_write(cpu, op->seg, a.lin, size);
	else
		x86_probe_read(cpu, op->seg, a.lin, size);
	return a;
}

static void check_xsave(struct x86_cpu *cpu)
{
	if (!(cpu->cr4 & CR4_OSXSAVE))
		x86_ud(cpu);
	if (cpu->cr0 & CR0_TS)
		x86_fault(cpu, X86_NM);
}

static u64 requested(const struct x86_cpu *cpu)
{
	return (u64)(u32)cpu->gpr[X86_RDX] << 32 | (u32)cpu->gpr[X86_RAX];
}

static void op_fxsave(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct area a;

	x86_check_x87_nowait(cpu);
	a = guest_area(cpu, op, LEGACY_SIZE, 16, true);
	put_x87(&a);
	if (cpu->cr4 & CR4_OSFXSR) {
		put_mxcsr(&a);
		put_xmm(&a);
	}
}

static void op_fxrstor(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct area a;
	u32 mxcsr;

	x86_check_x87_nowait(cpu);
	a = guest_area(cpu, op, LEGACY_SIZE, 16, false);
	get(&a, OFF_MXCSR, &mxcsr, sizeof(mxcsr));
	if (cpu->cr4 & CR4_OSFXSR) {
		if (mxcsr & ~MXCSR_VALID)
			x86_gp0(cpu);
		cpu->fpu.mxcsr = mxcsr;
		get_xmm(&a);
	}
	get_x87(&a);
}

static void op_xsave(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct area a;
	u64 mask;

	check_xsave(cpu);
	mask = requested(cpu) & cpu->xcr0;
	a = guest_area(cpu, op, area_size(cpu, mask, false), 64, true);
	save_standard(&a, mask, mask);
}

/* The "modified" optimisation is optional and not made: it would need the last XRSTOR's identity.
 */
static void op_xsaveopt(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct area a;
	u64 mask;

	check_xsave(cpu);
	mask = requested(cpu) & cpu->xcr0;
	a = guest_area(cpu, op, area_size(cpu, mask, false), 64, true);
	save_standard(&a, mask, mask & in_use(cpu));
}

static void op_xsavec(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct area a;
	u64 mask;

	check_xsave(cpu);
	mask = requested(cpu) & cpu->xcr0;
	a = guest_area(cpu, op, area_size(cpu, mask, true), 64, true);
	save_compact(&a, mask);
}

static void supervisor_xsave(struct x86_cpu *cpu, const struct x86_op *op, bool restoring)
{
	x86_icpt_enabled(cpu, restoring ? X86_ICPT_XRSTORS : X86_ICPT_XSAVES);
	if (!(cpu->cr4 & CR4_OSXSAVE))
		x86_ud(cpu);
	if (cpu->cpl)
		x86_gp0(cpu);
	x86_icpt_xsaves(cpu, op, restoring);
	check_xsave(cpu);
}

static void op_xsaves(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct area a;
	u64 mask;

	supervisor_xsave(cpu, op, false);
	mask = requested(cpu) & (cpu->xcr0 | cpu->xss);
	a = guest_area(cpu, op, area_size(cpu, mask, true), 64, true);
	save_compact(&a, mask);
}

static void restore_op(struct x86_cpu *cpu, const struct x86_op *op, u64 valid, bool need_compact)
{
	struct area a = guest_area(cpu, op, EXTENDED_START, 64, false);
	u64 comp, mask = requested(cpu) & valid;

	/* Reach the rest before anything is loaded: a page fault then leaves the state whole. */
	get(&a, LEGACY_SIZE + 8, &comp, 8);
	x86_probe_read(cpu, op->seg, a.lin,
		       comp & XCOMP_COMPACT ? area_size(cpu, comp & valid, true)
					    : area_size(cpu, mask, false));
	if (!restore(&a, mask, valid, need_compact))
		x86_gp0(cpu);
}

static void op_xrstor(struct x86_cpu *cpu, const struct x86_op *op)
{
	check_xsave(cpu);
	restore_op(cpu, op, cpu->xcr0, false);
}

static void op_xrstors(struct x86_cpu *cpu, const struct x86_op *op)
{
	supervisor_xsave(cpu, op, true);
	restore_op(cpu, op, cpu->xcr0 | cpu->xss, true);
}

static void op_xgetbv(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 v;

	if (!(cpu->cr4 & CR4_OSXSAVE))
		x86_ud(cpu);
	switch ((u32)cpu->gpr[X86_RCX]) {
	case 0:
		v = cpu->xcr0;
		break;
	case 1:
		if (!x86_has(cpu, X86_FEAT_XGETBV1))
			x86_gp0(cpu);
		v = cpu->xcr0 & (in_use(cpu) | (cpu->fpu.mxcsr != MXCSR_RESET ? XCR0_SSE : 0));
		break;
	default:
		x86_gp0(cpu);
	}
	cpu->gpr[X86_RAX] = (u32)v;
	cpu->gpr[X86_RDX] = v >> 32;
}

static void op_xsetbv(struct x86_cpu *cpu, const struct x86_op *op)
{
	if (!(cpu->cr4 & CR4_OSXSAVE))
		x86_ud(cpu);
	if (cpu->cpl)
		x86_gp0(cpu);
	x86_icpt(cpu, op, X86_ICPT_XSETBV);
	if ((u32)cpu->gpr[X86_RCX] || x86_set_xcr0(cpu, requested(cpu)))
		x86_gp0(cpu);
}

/* Register forms of the memory instructions do not decode. */
#define SELECT(name) \
	x86_fn *x86_sel_##name(const struct x86_dec *d, struct x86_op *op) { return op_##name; }
SELECT(fxsave)
SELECT(fxrstor)
SELECT(xsave)
SELECT(xsaveopt)
SELECT(xsavec)
SELECT(xsaves)
SELECT(xrstor)
SELECT(xrstors)
SELECT(xgetbv)
SELECT(xsetbv)

/* ---- For software in root mode ---- */

unsigned x86_xsave_size(const struct x86_cpu *cpu)
{
	return x86_xsave_bytes(cpu, x86_xcr0_supported(cpu), false);
}

void x86_xsave_area(struct x86_cpu *cpu, void *buf, u64 mask)
{
	struct area a = { .cpu = cpu, .buf = buf, .quad = true, .nr_regs = 16 };

	mask &= x86_xcr0_supported(cpu);
	memset(buf, 0, x86_xsave_size(cpu));
	save_standard(&a, mask, mask);
}

int x86_xrstor_area(struct x86_cpu *cpu, const void *buf, u64 mask)
{
	struct area a = { .cpu = cpu, .buf = (void *)buf, .quad = true, .nr_regs = 16 };
	u64 comp, valid = x86_xcr0_supported(cpu);

	memcpy(&comp, (const u8 *)buf + LEGACY_SIZE + 8, sizeof(comp));
	if (comp)	/* the standard format only */
		return -1;
	return restore(&a, mask & valid, valid, false) ? 0 : -1;
}
