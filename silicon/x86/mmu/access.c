// SPDX-License-Identifier: MIT
/*
 * Loads and stores that the inline fast path of mem.h leaves over: TLB misses,
 * accesses across a page, alignment checks, data breakpoints, code pages, the
 * APIC-access page, the bus. Read-modify-write is in rmw.c.
 *
 * Order of checks, SDM vol. 3A "Priority Among Concurrent Events" and observed:
 * canonical or segment (#GP, #SS), alignment (#AC), translation (#PF). An
 * access across a page has both pages translated before a byte moves.
 */
#include "silicon/x86/decode/codepage.h"
#include "silicon/x86/mmu/phys.h"
#include "silicon/x86/mmu/access.h"
#include "silicon/x86/sys/sys.h"

/* ---- Segmentation ---- */

static _Noreturn void segment_fault(struct x86_cpu *cpu, unsigned seg)
{
	x86_fault_code(cpu, seg == X86_SS ? X86_SS_FAULT : X86_GP, 0);
}

/* SDM vol. 3A "Limit Checking", "Type Checking". */
u64 x86_lin_check(struct x86_cpu *cpu, unsigned seg, u64 ea, unsigned size, bool write)
{
	const struct x86_segment *s = &cpu->seg[seg];
	u64 last = ea + size - 1;
	bool code, expand_down;

	if (x86_in_64(cpu))
		return cpu->seg_base[seg] + ea;

	code = s->ar & 8;
	expand_down = !code && (s->ar & 4);
	/* Real and virtual-8086 mode have limits but no types: CS is written through at will. */
	if (x86_prot(cpu)) {
		if (s->ar & X86_AR_UNUSABLE)
			segment_fault(cpu, seg);
		if (write ? code || !(s->ar & 2) : code && !(s->ar & 2))
			segment_fault(cpu, seg);
	}
	if (expand_down) {
		u64 top = s->ar & X86_AR_DB ? 0xffffffff : 0xffff;

		if (ea <= s->limit || last > top)
			segment_fault(cpu, seg);
	} else if (last > s->limit && s->limit != 0xffffffff) {
		segment_fault(cpu, seg);
	}
	return (cpu->seg_base[seg] + ea) & cpu->lin_mask;
}

/* ---- Checks on linear addresses ---- */

void x86_check_linear(struct x86_cpu *cpu, unsigned seg, u64 lin, unsigned len)
{
	/* Wrapping from the top to 0 is canonical at both ends. */
	if (x86_lma(cpu) && (!x86_canonical(cpu, lin) || !x86_canonical(cpu, lin + len - 1)))
		segment_fault(cpu, seg);
}

void x86_check_align(struct x86_cpu *cpu, u64 lin, unsigned align)
{
	if (cpu->mmu_idx == X86_MMU_USER_ALIGN && (lin & (align - 1)))
		x86_fault_code(cpu, X86_AC, 0);
}

/*
 * Natural alignment of an operand by its length: far pointers, m80 and the x87
 * environments are the odd ones; vectors are never checked here.
 */
static unsigned natural_align(unsigned len)
{
	switch (len) {
	case 2: case 14: case 94:
		return 2;
	case 4: case 6: case 28: case 108:
		return 4;
	case 8: case 10:
		return 8;
	default:
		return 1;
	}
}

unsigned x86_data_idx(const struct x86_cpu *cpu)
{
	return cpu->mmu_idx == X86_MMU_USER_ALIGN ? X86_MMU_USER : cpu->mmu_idx;
}

static void watch(struct x86_cpu *cpu, u64 lin, unsigned len, bool write)
{
	if (unlikely(cpu->dr7 & 0xff))
		x86_check_watchpoint(cpu, lin, len, write);
}

/* ---- Moving bytes ---- */

unsigned x86_span_translate(struct x86_cpu *cpu, struct x86_span *s, u64 lin, unsigned len,
			    unsigned acc, unsigned idx, u64 mask)
{
	u64 room = PAGE_SIZE - (lin & ~PAGE_MASK);

	s->len[0] = (unsigned)min((u64)len, room);
	s->len[1] = len - s->len[0];
	x86_xlat(cpu, lin, acc, idx, &s->x[0]);
	if (!s->len[1])
		return 1;
	x86_xlat(cpu, (lin + s->len[0]) & mask, acc, idx, &s->x[1]);
	return 2;
}

/* Wrap-around of an access: 4 GiB outside 64-bit mode, but system structures of IA-32e mode. */
static u64 sys_mask(const struct x86_cpu *cpu)
{
	return x86_lma(cpu) ? ~0ull : 0xffffffff;
}

static void read_span(struct x86_cpu *cpu, u64 lin, void *buf, unsigned len, unsigned idx, u64 mask)
{
	struct x86_span s;
	unsigned n = x86_span_translate(cpu, &s, lin, len, X86_ACC_R, idx, mask);

	x86_xlat_read(cpu, &s.x[0], buf, s.len[0]);
	if (n == 2)
		x86_xlat_read(cpu, &s.x[1], (u8 *)buf + s.len[0], s.len[1]);
}

static void write_span(struct x86_cpu *cpu, u64 lin, const void *buf, unsigned len, unsigned idx, u64 mask)
{
	struct x86_span s;
	unsigned n = x86_span_translate(cpu, &s, lin, len, X86_ACC_W, idx, mask);

	x86_xlat_write(cpu, &s.x[0], buf, s.len[0]);
	if (n == 2)
		x86_xlat_write(cpu, &s.x[1], (const u8 *)buf + s.len[0], s.len[1]);
}

u64 x86_load_slow(struct x86_cpu *cpu, unsigned seg, u64 lin, unsigned size)
{
	u64 v = 0;

	x86_check_linear(cpu, seg, lin, size);
	x86_check_align(cpu, lin, size);
	read_span(cpu, lin, &v, size, x86_data_idx(cpu), cpu->lin_mask);
	watch(cpu, lin, size, false);
	return v;
}

void x86_store_slow(struct x86_cpu *cpu, unsigned seg, u64 lin, u64 val, unsigned size)
{
	/* Data beside code: the translation is there, the write tag is not. */
	void *p = x86_hit_code(cpu, lin, size);

	if (p) {
		x86_mem_copy(p, &val, size);
		if (!x86_codepage_data(cpu, (u64)p, size))
			x86_codepage_store(cpu, (u64)p, size);
		return;
	}
	x86_check_linear(cpu, seg, lin, size);
	x86_check_align(cpu, lin, size);
	write_span(cpu, lin, &val, size, x86_data_idx(cpu), cpu->lin_mask);
	watch(cpu, lin, size, true);
}

void x86_load_bytes(struct x86_cpu *cpu, unsigned seg, u64 lin, void *buf, unsigned len)
{
	x86_check_linear(cpu, seg, lin, len);
	x86_check_align(cpu, lin, natural_align(len));
	read_span(cpu, lin, buf, len, x86_data_idx(cpu), cpu->lin_mask);
	watch(cpu, lin, len, false);
}

void x86_store_bytes(struct x86_cpu *cpu, unsigned seg, u64 lin, const void *buf, unsigned len)
{
	x86_check_linear(cpu, seg, lin, len);
	x86_check_align(cpu, lin, natural_align(len));
	write_span(cpu, lin, buf, len, x86_data_idx(cpu), cpu->lin_mask);
	watch(cpu, lin, len, true);
}

static void probe(struct x86_cpu *cpu, unsigned seg, u64 lin, unsigned len, unsigned acc)
{
	struct x86_span s;

	x86_check_linear(cpu, seg, lin, len);
	x86_check_align(cpu, lin, natural_align(len));
	x86_span_translate(cpu, &s, lin, len, acc, x86_data_idx(cpu), cpu->lin_mask);
}

void x86_probe_write(struct x86_cpu *cpu, unsigned seg, u64 lin, unsigned len)
{
	probe(cpu, seg, lin, len, X86_ACC_W);
}

void x86_probe_read(struct x86_cpu *cpu, unsigned seg, u64 lin, unsigned len)
{
	probe(cpu, seg, lin, len, X86_ACC_R);
}

/* ---- The processor's own accesses ---- */

u64 x86_sys_load(struct x86_cpu *cpu, u64 lin, unsigned size)
{
	u64 v = 0;

	x86_check_linear(cpu, X86_DS, lin, size);
	read_span(cpu, lin, &v, size, X86_MMU_KERNEL, sys_mask(cpu));
	return v;
}

void x86_sys_store(struct x86_cpu *cpu, u64 lin, u64 val, unsigned size)
{
	x86_check_linear(cpu, X86_DS, lin, size);
	write_span(cpu, lin, &val, size, X86_MMU_KERNEL, sys_mask(cpu));
}

u64 x86_load_cpl(struct x86_cpu *cpu, unsigned seg, u64 lin, unsigned size, unsigned cpl)
{
	u64 v = 0;

	x86_check_linear(cpu, seg, lin, size);
	read_span(cpu, lin, &v, size, cpl == 3 ? X86_MMU_USER : X86_MMU_KERNEL, sys_mask(cpu));
	watch(cpu, lin, size, false);
	return v;
}

void x86_store_cpl(struct x86_cpu *cpu, unsigned seg, u64 lin, u64 val, unsigned size, unsigned cpl)
{
	x86_check_linear(cpu, seg, lin, size);
	write_span(cpu, lin, &val, size, cpl == 3 ? X86_MMU_USER : X86_MMU_KERNEL, sys_mask(cpu));
	watch(cpu, lin, size, true);
}

/* ---- Fetch ---- */

/* No instruction is longer: all that a bus is asked for. */
#define FETCH_MAX 15u

const u8 *x86_fetch_page(struct x86_cpu *cpu, u64 lin, u64 *spa)
{
	u64 off = lin & ~PAGE_MASK;
	struct x86_xlat x;

	x86_check_linear(cpu, X86_CS, lin, 1);
	x86_xlat_fetch(cpu, lin, &x);
	*spa = x.pa & PAGE_MASK;
	if (cpu->bus) {
		u8 *buf = cpu->mmu->fetch;

		x86_xlat_read(cpu, &x, buf + off, (unsigned)min((u64)FETCH_MAX, PAGE_SIZE - off));
		return buf;
	}
	if (x.apic) {
		u64 v;

		/* Fetches from the APIC-access page always exit. */
		x86_vmx_apic_access(cpu, x.pa, 1, false, true, &v);
	}
	return (const u8 *)(x.pa & PAGE_MASK);
}
