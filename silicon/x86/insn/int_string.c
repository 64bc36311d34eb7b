/* SPDX-License-Identifier: MIT */
/*
 * String instructions: MOVS CMPS STOS LODS SCAS, alone and under REP.
 *
 * REP is interruptible: after every iteration, or run of iterations inside one
 * page, the registers are exact, and if something waits the instruction ends
 * with RIP still on itself and RF set (SDM "REP/REPE/REPZ/REPNE/REPNZ"). So a
 * REP form ends its block, as it may write X86_REG_NEXT_RIP.
 */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/insn/int.h"
#include "silicon/x86/mmu/phys.h"
#include "silicon/x86/model/model.h"

#define MAX_STEPS 65536		/* between two looks at the processor's state */

static __inline_all u64 index_reg(const struct x86_cpu *cpu, unsigned r, unsigned asize)
{
	return trunc_to(cpu->gpr[r], asize);
}

/* Index and count registers are zero-extended from 32 bits, left alone above 16. */
static __inline_all void set_index(struct x86_cpu *cpu, unsigned r, u64 v, unsigned asize)
{
	if (likely(asize == 8))
		cpu->gpr[r] = v;
	else if (asize == 4)
		cpu->gpr[r] = (u32)v;
	else
		*(u16 *)&cpu->gpr[r] = (u16)v;
}

static __inline_all u64 step(const struct x86_cpu *cpu, unsigned size)
{
	return cpu->rflags & RFLAGS_DF ? -(u64)size : size;
}

static __inline_all void advance(struct x86_cpu *cpu, const struct x86_op *op, unsigned r, u64 by)
{
	set_index(cpu, r, cpu->gpr[r] + by, op->asize);
}

static __inline_all u64 load_src(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u64 ea = index_reg(cpu, X86_RSI, op->asize);

	return load_lin(cpu, op->seg, x86_lin_read(cpu, op->seg, ea, size), size);
}

/* The destination is ES:rDI whatever the prefixes say. */
static __inline_all u64 load_dst(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u64 ea = index_reg(cpu, X86_RDI, op->asize);

	return load_lin(cpu, X86_ES, x86_lin_read(cpu, X86_ES, ea, size), size);
}

static __inline_all void store_dst(struct x86_cpu *cpu, const struct x86_op *op, u64 v, unsigned size)
{
	u64 ea = index_reg(cpu, X86_RDI, op->asize);

	store_lin(cpu, X86_ES, x86_lin_write(cpu, X86_ES, ea, size), v, size);
}

/* ---- One iteration each ---- */

static __inline_all void movs(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	store_dst(cpu, op, load_src(cpu, op, size), size);
	advance(cpu, op, X86_RSI, step(cpu, size));
	advance(cpu, op, X86_RDI, step(cpu, size));
}

static __inline_all void stos(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	store_dst(cpu, op, get_reg(cpu, X86_RAX, size), size);
	advance(cpu, op, X86_RDI, step(cpu, size));
}

static __inline_all void lods(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	set_reg(cpu, X86_RAX, load_src(cpu, op, size), size);
	advance(cpu, op, X86_RSI, step(cpu, size));
}

/* With both operands bad the fault is of the ES:rDI side (observed by tests/diff). */
static __inline_all void cmps(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u64 b = load_dst(cpu, op, size), a = load_src(cpu, op, size);

	x86_flags_sub(cpu, a, b, a - b, size);
	advance(cpu, op, X86_RSI, step(cpu, size));
	advance(cpu, op, X86_RDI, step(cpu, size));
}

static __inline_all void scas(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u64 a = get_reg(cpu, X86_RAX, size), b = load_dst(cpu, op, size);

	x86_flags_sub(cpu, a, b, a - b, size);
	advance(cpu, op, X86_RDI, step(cpu, size));
}

/* ---- Runs of iterations inside one page ---- */

enum until { COUNT, EQUAL, NOT_EQUAL };		/* what else ends a REP: ZF = 1, ZF = 0 */

/*
 * How many elements from @ea on lie in one page and before the address wraps,
 * at most @n. The element at a page's end may cross: 0 then.
 */
static u64 run_length(u64 lin, u64 ea, u64 n, unsigned size, unsigned asize)
{
	u64 in_page = (PAGE_SIZE - (lin & ~PAGE_MASK)) / size;
	u64 to_wrap = asize == 8 ? n : (width_mask(asize) - ea) / size;

	n = min(n, in_page);
	return min(n, to_wrap);
}

/*
 * Other processors may use these bytes meanwhile, which is the guest's affair.
 * ThreadSanitizer must see accesses like those of any other instruction.
 */
#ifdef __SANITIZE_THREAD__
#define BULK 0
#else
#define BULK 1
#endif

/* Byte for byte upwards, as the instruction would: an overlap repeats a pattern. */
static void copy_up(u8 *d, const u8 *s, u64 bytes, unsigned size)
{
	if (!BULK) {
		for (u64 i = 0; i < bytes; i += size)
			x86_mem_copy(d + i, s + i, size);
		return;
	}
	if (d <= s || d >= s + bytes) {
		memmove(d, s, bytes);
		return;
	}
	for (u64 i = 0; i < bytes; i += size)
		memmove(d + i, s + i, size);
}

static void fill(u8 *d, u64 v, u64 n, unsigned size)
{
	if (BULK && size == 1) {
		memset(d, (int)v, n);
		return;
	}
#ifdef __x86_64__
	if (BULK && size == 8) {
		__asm__ volatile("rep stosq" : "+D"(d), "+c"(n) : "a"(v) : "memory");
		return;
	}
#endif
	for (u64 i = 0; i < n; i++) {
		if (BULK)
			memcpy(d + i * size, &v, size);
		else
			x86_mem_copy(d + i * size, &v, size);
	}
}

static bool flat(const struct x86_cpu *cpu, unsigned src_seg)
{
	return cpu->seg_read_ok >> src_seg & cpu->seg_write_ok >> X86_ES & 1 && !(cpu->rflags & RFLAGS_DF);
}

/* MOVS over pages that both hit the TLB: elements moved, 0 = do one the slow way. */
static u64 movs_run(struct x86_cpu *cpu, const struct x86_op *op, u64 n, enum until until, unsigned size)
{
	u64 si = index_reg(cpu, X86_RSI, op->asize), di = index_reg(cpu, X86_RDI, op->asize), from, to;
	const u8 *s;
	u8 *d;

	if (!flat(cpu, op->seg))
		return 0;
	from = (cpu->seg_base[op->seg] + si) & cpu->lin_mask;
	to = (cpu->seg_base[X86_ES] + di) & cpu->lin_mask;
	s = x86_hit_read(cpu, from, 1);
	d = x86_hit_write(cpu, to, 1);
	if (!s || !d)
		return 0;
	n = run_length(from, si, n, size, op->asize);
	n = run_length(to, di, n, size, op->asize);
	copy_up(d, s, n * size, size);
	advance(cpu, op, X86_RSI, n * size);
	advance(cpu, op, X86_RDI, n * size);
	return n;
}

static u64 stos_run(struct x86_cpu *cpu, const struct x86_op *op, u64 n, enum until until, unsigned size)
{
	u64 di = index_reg(cpu, X86_RDI, op->asize), to;
	u8 *d;

	if (!flat(cpu, X86_ES))
		return 0;
	to = (cpu->seg_base[X86_ES] + di) & cpu->lin_mask;
	d = x86_hit_write(cpu, to, 1);
	if (!d)
		return 0;
	n = run_length(to, di, n, size, op->asize);
	fill(d, cpu->gpr[X86_RAX], n, size);
	advance(cpu, op, X86_RDI, n * size);
	return n;
}

static __inline_all u64 element(const u8 *p, unsigned size)
{
	switch (size) {
	case 1: return __atomic_load_n(p, __ATOMIC_RELAXED);
	case 2: return __atomic_load_n((const x86_mem_u16 *)p, __ATOMIC_RELAXED);
	case 4: return __atomic_load_n((const x86_mem_u32 *)p, __ATOMIC_RELAXED);
	default: return __atomic_load_n((const x86_mem_u64 *)p, __ATOMIC_RELAXED);
	}
}

static u64 lods_run(struct x86_cpu *cpu, const struct x86_op *op, u64 n, enum until until, unsigned size)
{
	u64 si = index_reg(cpu, X86_RSI, op->asize), from;
	const u8 *s;

	if (!(cpu->seg_read_ok >> op->seg & 1) || cpu->rflags & RFLAGS_DF)
		return 0;
	from = (cpu->seg_base[op->seg] + si) & cpu->lin_mask;
	s = x86_hit_read(cpu, from, 1);
	if (!s)
		return 0;
	n = run_length(from, si, n, size, op->asize);
	if (!n)
		return 0;
	set_reg(cpu, X86_RAX, element(s + (n - 1) * size, size), size);
	advance(cpu, op, X86_RSI, n * size);
	return n;
}

/* Elements that are equal at @a and @b, eight bytes at a time where that is possible. */
static __inline_all u64 equal_run(const u8 *a, const u8 *b, u64 n, unsigned size)
{
	u64 bytes = n * size, i = 0;

	while (i + 8 <= bytes && element(a + i, 8) == element(b + i, 8))
		i += 8;
	while (i < bytes && element(a + i, size) == element(b + i, size))
		i += size;
	return i / size;
}

/* @same elements of @n went on; the one behind them ended it and counts as well. */
static __inline_all u64 compared(u64 same, u64 n)
{
	return same < n ? same + 1 : n;
}

static u64 cmps_run(struct x86_cpu *cpu, const struct x86_op *op, u64 n, enum until until, unsigned size)
{
	u64 si = index_reg(cpu, X86_RSI, op->asize), di = index_reg(cpu, X86_RDI, op->asize), from, to, i = 0, x, y;
	const u8 *s, *d;

	if (!flat(cpu, op->seg))
		return 0;
	from = (cpu->seg_base[op->seg] + si) & cpu->lin_mask;
	to = (cpu->seg_base[X86_ES] + di) & cpu->lin_mask;
	s = x86_hit_read(cpu, from, 1);
	d = x86_hit_read(cpu, to, 1);
	if (!s || !d)
		return 0;
	n = run_length(from, si, n, size, op->asize);
	n = run_length(to, di, n, size, op->asize);
	if (!n)
		return 0;
	if (until == NOT_EQUAL)
		i = equal_run(s, d, n, size);
	else
		while (i < n && element(s + i * size, size) != element(d + i * size, size))
			i++;
	n = compared(i, n);
	x = element(s + (n - 1) * size, size);
	y = element(d + (n - 1) * size, size);
	x86_flags_sub(cpu, x, y, x - y, size);
	advance(cpu, op, X86_RSI, n * size);
	advance(cpu, op, X86_RDI, n * size);
	return n;
}

static u64 scas_run(struct x86_cpu *cpu, const struct x86_op *op, u64 n, enum until until, unsigned size)
{
	u64 di = index_reg(cpu, X86_RDI, op->asize), x = get_reg(cpu, X86_RAX, size), i = 0, to, y;
	const u8 *d;

	if (!flat(cpu, X86_ES))
		return 0;
	to = (cpu->seg_base[X86_ES] + di) & cpu->lin_mask;
	d = x86_hit_read(cpu, to, 1);
	if (!d)
		return 0;
	n = run_length(to, di, n, size, op->asize);
	if (!n)
		return 0;
	while (i < n && (element(d + i * size, size) == x) == (until == NOT_EQUAL))
		i++;
	n = compared(i, n);
	y = element(d + (n - 1) * size, size);
	x86_flags_sub(cpu, x, y, x - y, size);
	advance(cpu, op, X86_RDI, n * size);
	return n;
}

/* ---- REP ---- */

/*
 * Intel: a count of 0 with 32-bit addresses in 64-bit mode still clears the upper
 * halves of the registers that MOVS and STOS write.
 */
static void count_zero(struct x86_cpu *cpu, const struct x86_op *op, bool si, bool di)
{
	if (op->asize != 4 || !x86_in_64(cpu))
		return;
	cpu->gpr[X86_RCX] = 0;
	if (x86_is_amd(cpu))
		return;
	if (si)
		cpu->gpr[X86_RSI] = (u32)cpu->gpr[X86_RSI];
	if (di)
		cpu->gpr[X86_RDI] = (u32)cpu->gpr[X86_RDI];
}

/* More iterations remain: must the processor look around first? */
static __inline_all bool interrupted(const struct x86_cpu *cpu, u32 slow_at_start)
{
	return atomic_load_explicit(&cpu->events, memory_order_relaxed) || cpu->slow != slow_at_start ||
	       (slow_at_start & (X86_SLOW_TF | X86_SLOW_MTF)) || cpu->bus;
}

/* Come back to this instruction. The emulation bus wants one iteration at a time, without RF. */
static void suspend(struct x86_cpu *cpu)
{
	cpu->gpr[X86_REG_NEXT_RIP] = cpu->rip;
	if (cpu->bus)
		return;
	if (!cpu->dry)
		cpu->insn_partial++;
	cpu->rflags |= RFLAGS_RF;
	/* Set by the instruction itself: not what a completed one clears. */
	cpu->slow = (cpu->slow | X86_SLOW_RF) & ~((u32)X86_SLOW_RF << X86_SLOW_START_SHIFT);
}

typedef void iteration_fn(struct x86_cpu *cpu, const struct x86_op *op, unsigned size);
typedef u64 run_fn(struct x86_cpu *cpu, const struct x86_op *op, u64 n, enum until until, unsigned size);

struct arith { u64 z, s, c; };

static __inline_all struct arith get_arith(const struct x86_cpu *cpu)
{
	return (struct arith){ cpu->cc_z, cpu->cc_s, cpu->cc_c };
}

static __inline_all void set_arith(struct x86_cpu *cpu, struct arith a)
{
	cpu->cc_z = a.z;
	cpu->cc_s = a.s;
	cpu->cc_c = a.c;
}

/*
 * A fault in REPE/REPNE CMPS or SCAS restores EFLAGS to what they were before the
 * instruction, though the iterations done stay done.
 */
static __inline_all void rep(struct x86_cpu *cpu, const struct x86_op *op, iteration_fn *one, run_fn *run,
			     enum until until, unsigned size)
{
	u64 n = index_reg(cpu, X86_RCX, op->asize);
	struct arith before = get_arith(cpu);
	u32 slow = cpu->slow;
	bool single = slow & (X86_SLOW_TF | X86_SLOW_MTF) || cpu->bus;

	/* ECX is zero-extended even if the first iteration faults (observed). */
	set_index(cpu, X86_RCX, n, op->asize);
	for (unsigned steps = 0; ; steps++) {
		u64 done = single ? 0 : run(cpu, op, n, until, size);

		if (!done) {
			one(cpu, op, size);
			done = 1;
		}
		n -= done;
		set_index(cpu, X86_RCX, n, op->asize);
		if (!n || (until == EQUAL && x86_zf(cpu)) || (until == NOT_EQUAL && !x86_zf(cpu)))
			return;
		if (unlikely(interrupted(cpu, slow)) || steps == MAX_STEPS) {
			suspend(cpu);
			return;
		}
		if (until != COUNT)
			set_arith(cpu, before);
	}
}

/* MOVS STOS LODS: F2 means the same as F3. */
#define SIMPLE_SIZE(f, n, run, si, di) \
	static void f##_##n(struct x86_cpu *cpu, const struct x86_op *op) { f(cpu, op, n); } \
	static void rep_##f##_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		if (index_reg(cpu, X86_RCX, op->asize)) \
			rep(cpu, op, f, run, COUNT, n); \
		else \
			count_zero(cpu, op, si, di); \
	}
#define SEL_SIMPLE(f, run, si, di) \
	SIMPLE_SIZE(f, 1, run, si, di) SIMPLE_SIZE(f, 2, run, si, di) \
	SIMPLE_SIZE(f, 4, run, si, di) SIMPLE_SIZE(f, 8, run, si, di) \
	x86_fn *x86_sel_##f(const struct x86_dec *d, struct x86_op *op) \
	{ \
		static x86_fn *const one[4] = HANDLERS(f), *const repeated[4] = HANDLERS(rep_##f); \
		if (!(op->flags & (X86_OP_REP | X86_OP_REPNE))) \
			return by_size(one, op->osize); \
		op->flags |= X86_OP_END; \
		return by_size(repeated, op->osize); \
	}
SEL_SIMPLE(movs, movs_run, true, true)
SEL_SIMPLE(stos, stos_run, false, true)
SEL_SIMPLE(lods, lods_run, false, false)

/* CMPS SCAS: the count is tested before the flag. */
#define COMPARE_SIZE(f, n) \
	static void f##_##n(struct x86_cpu *cpu, const struct x86_op *op) { f(cpu, op, n); } \
	static void repe_##f##_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		if (index_reg(cpu, X86_RCX, op->asize)) \
			rep(cpu, op, f, f##_run, NOT_EQUAL, n); \
		else \
			count_zero(cpu, op, false, false); \
	} \
	static void repne_##f##_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		if (index_reg(cpu, X86_RCX, op->asize)) \
			rep(cpu, op, f, f##_run, EQUAL, n); \
		else \
			count_zero(cpu, op, false, false); \
	}
#define SEL_COMPARE(f) \
	COMPARE_SIZE(f, 1) COMPARE_SIZE(f, 2) COMPARE_SIZE(f, 4) COMPARE_SIZE(f, 8) \
	x86_fn *x86_sel_##f(const struct x86_dec *d, struct x86_op *op) \
	{ \
		static x86_fn *const one[4] = HANDLERS(f), *const repe[4] = HANDLERS(repe_##f), \
			*const repne[4] = HANDLERS(repne_##f); \
		if (!(op->flags & (X86_OP_REP | X86_OP_REPNE))) \
			return by_size(one, op->osize); \
		op->flags |= X86_OP_END; \
		return by_size(op->flags & X86_OP_REP ? repe : repne, op->osize); \
	}
SEL_COMPARE(cmps)
SEL_COMPARE(scas)
