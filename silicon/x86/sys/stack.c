/* SPDX-License-Identifier: MIT */
/*
 * Stacks of control transfers: pushes that happen before the transfer commits, on
 * the present stack or on one named by the TSS.
 * SDM vol. 3A "Stack Switching", "Task-State Segment (TSS)".
 */
#include "silicon/x86/sys/sys_priv.h"

struct stk stk_new(const struct x86_segment *ss, u64 sp, unsigned cpl, u32 error)
{
	return (struct stk){
		.sp = sp, .mask = ss->ar & X86_AR_DB ? 0xffffffff : 0xffff, .base = ss->base,
		.limit = ss->limit, .ar = ss->ar, .cpl = (u8)cpl, .error = error,
	};
}

struct stk stk_new64(u64 sp, unsigned cpl, u32 error)
{
	return (struct stk){
		.sp = sp, .mask = ~0ull, .flat = true, .cpl = (u8)cpl, .error = error,
	};
}

struct stk stk_current(struct x86_cpu *cpu, unsigned ext)
{
	if (x86_in_64(cpu))
		return stk_new64(cpu->gpr[X86_RSP], cpu->cpl, ext);
	return stk_new(&cpu->seg[X86_SS], cpu->gpr[X86_RSP], cpu->cpl, ext);
}

static bool in_limit(const struct x86_cpu *cpu, const struct stk *s, u64 off, unsigned size)
{
	u64 last = off + size - 1;

	if (s->ar & X86_AR_UNUSABLE)
		return false;
	/* The type is that of data: real mode does not look at it. */
	if (x86_prot(cpu) && (s->ar & AR_EXPAND_DOWN))
		return off > s->limit && last <= (s->ar & X86_AR_DB ? 0xffffffff : 0xffff);
	return last <= s->limit;
}

void stk_push(struct x86_cpu *cpu, struct stk *s, u64 val, unsigned size)
{
	u64 off = (s->sp - size) & s->mask;

	if (s->flat) {
		if (!x86_canonical(cpu, off) || !x86_canonical(cpu, off + size - 1))
			x86_fault_code(cpu, X86_SS_FAULT, s->error);
		if (size == 8)
			x86_store64_cpl(cpu, X86_SS, off, val, s->cpl);
		else
			x86_store_cpl(cpu, X86_SS, off, val, size, s->cpl);
	} else {
		if (!in_limit(cpu, s, off, size))
			x86_fault_code(cpu, X86_SS_FAULT, s->error);
		x86_store_cpl(cpu, X86_SS, (u32)(s->base + off), val, size, s->cpl);
	}
	s->sp = (s->sp & ~s->mask) | off;
}

void stk_commit(struct x86_cpu *cpu, const struct stk *s)
{
	/* A 16-bit stack keeps the upper half of ESP, a 32-bit one clears that of RSP. */
	cpu->gpr[X86_RSP] = s->mask == 0xffff ?
			    (cpu->gpr[X86_RSP] & ~0xffffull) | (s->sp & 0xffff) : s->sp & s->mask;
}

u64 stk_peek(struct x86_cpu *cpu, unsigned off, unsigned size)
{
	u64 lin = x86_lin_read(cpu, X86_SS, (cpu->gpr[X86_RSP] + off) & cpu->sp_mask, size);

	switch (size) {
	case 2: return x86_load16(cpu, X86_SS, lin);
	case 4: return x86_load32(cpu, X86_SS, lin);
	default: return x86_load64(cpu, X86_SS, lin);
	}
}

void stk_set_sp(struct x86_cpu *cpu, u64 sp)
{
	/* SP alone for a 16-bit stack: the rest of ESP keeps its value. */
	cpu->gpr[X86_RSP] = cpu->sp_mask == 0xffff ?
			    (cpu->gpr[X86_RSP] & ~0xffffull) | (sp & 0xffff) : sp & cpu->sp_mask;
}

void stk_release(struct x86_cpu *cpu, u64 bytes)
{
	stk_set_sp(cpu, cpu->gpr[X86_RSP] + bytes);
}

static u64 tss_load(struct x86_cpu *cpu, unsigned offset, unsigned size, unsigned ext)
{
	const struct x86_segment *tr = &cpu->seg[X86_TR];

	if (offset + size - 1 > tr->limit)
		x86_fault_code(cpu, X86_TS, (tr->sel & 0xfffcu) | ext);
	if (size == 8)
		return x86_sys_load64(cpu, tr->base + offset);
	return x86_sys_load(cpu, x86_lma(cpu) ? tr->base + offset : (u32)(tr->base + offset), size);
}

void tss_inner_stack(struct x86_cpu *cpu, unsigned cpl, unsigned ext, u16 *ss, u64 *sp)
{
	const struct x86_segment *tr = &cpu->seg[X86_TR];
	bool tss32 = (tr->ar & X86_AR_TYPE) >= TYPE_TSS_AVAIL;
	unsigned off = tss32 ? 4 + 8 * cpl : 2 + 4 * cpl;

	/* Both values lie inside the limit or nothing is read. */
	if (off + (tss32 ? 6 : 4) - 1 > tr->limit)
		x86_fault_code(cpu, X86_TS, (tr->sel & 0xfffcu) | ext);
	*sp = tss_load(cpu, off, tss32 ? 4 : 2, ext);
	*ss = (u16)tss_load(cpu, off + (tss32 ? 4 : 2), 2, ext);
}

u64 tss_stack64(struct x86_cpu *cpu, unsigned offset, unsigned ext)
{
	return tss_load(cpu, offset, 8, ext);
}
