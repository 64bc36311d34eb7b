/* SPDX-License-Identifier: MIT */
/*
 * Memory as instruction handlers see it: linear addresses, all sizes, faults
 * raised by unwinding. The fast path is inline: one tag compare in the TLB
 * array of the current privilege. Everything else (miss, page crossing, bus,
 * alignment checks, breakpoints, code pages, APIC page) is in mmu/access.c.
 *
 * Multi-byte accesses are single host accesses where they do not cross a
 * page, so they are as atomic as the manual promises.
 */
#ifndef SILICON_X86_MMU_MEM_H
#define SILICON_X86_MMU_MEM_H

#include <string.h>

#include "silicon/x86/cpu.h"
#include "silicon/x86/op.h"

/* ---- Effective and linear addresses ---- */

static inline u64 x86_ea(const struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 ea = cpu->gpr[op->base] + (cpu->gpr[op->index] << op->scale) + (u64)(s64)op->disp;

	return op->asize == 8 ? ea : op->asize == 4 ? (u32)ea : (u16)ea;
}

/* Limit, type, null and canonical checks: raise #GP(0) or #SS(0), or return the linear address. */
u64 x86_lin_check(struct x86_cpu *cpu, unsigned seg, u64 ea, unsigned size, bool write);

/* Linear address for an access of @size bytes at seg:ea. */
static inline u64 x86_lin_read(struct x86_cpu *cpu, unsigned seg, u64 ea, unsigned size)
{
	if (likely(cpu->seg_read_ok >> seg & 1))
		return (cpu->seg_base[seg] + ea) & cpu->lin_mask;
	return x86_lin_check(cpu, seg, ea, size, false);
}

static inline u64 x86_lin_write(struct x86_cpu *cpu, unsigned seg, u64 ea, unsigned size)
{
	if (likely(cpu->seg_write_ok >> seg & 1))
		return (cpu->seg_base[seg] + ea) & cpu->lin_mask;
	return x86_lin_check(cpu, seg, ea, size, true);
}

/*
 * The slow paths know the segment only through @seg: a non-canonical address
 * raises #SS(0) for X86_SS, else #GP(0).
 */
u64 x86_load_slow(struct x86_cpu *cpu, unsigned seg, u64 lin, unsigned size);
void x86_store_slow(struct x86_cpu *cpu, unsigned seg, u64 lin, u64 val, unsigned size);

static inline unsigned x86_tlb_index(u64 lin)
{
	return (lin >> PAGE_SHIFT) & (X86_TLB_SIZE - 1);
}

/* The tag of the page of @lin in the present context of array @idx. */
static inline u64 x86_tlb_tag(const struct x86_cpu *cpu, unsigned idx, u64 lin)
{
	return (lin & PAGE_MASK) + cpu->tlb_ctx_page[idx];
}

static inline bool x86_in_page(u64 lin, unsigned size)
{
	return likely((lin & ~PAGE_MASK) + size <= PAGE_SIZE);
}

/* Where the memory of @lin is by the entry that its page has, if it has one. */
static inline void *x86_tlb_host(const struct x86_tlb *t, u64 lin)
{
	return (void *)(lin + t->addend[x86_tlb_index(lin)]);
}

/* Host pointer for a read (write) of @size bytes if @t, array @idx, allows it at once, else NULL. */
static inline void *x86_tlb_read(const struct x86_cpu *cpu, const struct x86_tlb *t, unsigned idx, u64 lin, unsigned size)
{
	return likely(t->rtag[x86_tlb_index(lin)] == x86_tlb_tag(cpu, idx, lin) && x86_in_page(lin, size)) ?
	       x86_tlb_host(t, lin) : NULL;
}

static inline void *x86_tlb_write(const struct x86_cpu *cpu, const struct x86_tlb *t, unsigned idx, u64 lin, unsigned size)
{
	return likely(t->wtag[x86_tlb_index(lin)] == x86_tlb_tag(cpu, idx, lin) && x86_in_page(lin, size)) ?
	       x86_tlb_host(t, lin) : NULL;
}

/* The same for the program's own accesses. */
static inline void *x86_hit_read(struct x86_cpu *cpu, u64 lin, unsigned size)
{
	return x86_tlb_read(cpu, cpu->tlb, cpu->mmu_idx, lin, size);
}

static inline void *x86_hit_write(struct x86_cpu *cpu, u64 lin, unsigned size)
{
	return x86_tlb_write(cpu, cpu->tlb, cpu->mmu_idx, lin, size);
}

/*
 * Guest memory is shared with other simulated processors: plain accesses are
 * relaxed atomics of their size, which also keeps ThreadSanitizer's eye on us.
 * On x86-64 hosts they are single MOVs and may be unaligned.
 */
#define X86_MEM_FN(bits) \
	typedef u##bits __attribute__((aligned(1), may_alias)) x86_mem_u##bits; \
	static inline u##bits x86_load##bits(struct x86_cpu *cpu, unsigned seg, u64 lin) \
	{ \
		x86_mem_u##bits *p = x86_hit_read(cpu, lin, bits / 8); \
		if (likely(p)) \
			return __atomic_load_n(p, __ATOMIC_RELAXED); \
		return (u##bits)x86_load_slow(cpu, seg, lin, bits / 8); \
	} \
	static inline void x86_store##bits(struct x86_cpu *cpu, unsigned seg, u64 lin, u##bits v) \
	{ \
		x86_mem_u##bits *p = x86_hit_write(cpu, lin, bits / 8); \
		if (likely(p)) \
			__atomic_store_n(p, v, __ATOMIC_RELAXED); \
		else \
			x86_store_slow(cpu, seg, lin, v, bits / 8); \
	}
X86_MEM_FN(8)
X86_MEM_FN(16)
X86_MEM_FN(32)
X86_MEM_FN(64)
#undef X86_MEM_FN

/*
 * Any length 1..4096, may cross one page. For a store both pages are checked
 * before the first byte is written. Not atomic beyond 8 bytes, except that
 * aligned 16-byte accesses are done as one where the host can.
 */
void x86_load_bytes(struct x86_cpu *cpu, unsigned seg, u64 lin, void *buf, unsigned len);
void x86_store_bytes(struct x86_cpu *cpu, unsigned seg, u64 lin, const void *buf, unsigned len);
/* As the store would, check that all bytes can be written; nothing is written. */
void x86_probe_write(struct x86_cpu *cpu, unsigned seg, u64 lin, unsigned len);
void x86_probe_read(struct x86_cpu *cpu, unsigned seg, u64 lin, unsigned len);

/*
 * Read-modify-write. x86_rmw() checks for writing (error code W = 1, D set)
 * and reads; then exactly one of x86_rmw_write() or x86_rmw_locked() follows.
 * @p non-NULL: the operand lies in one page of plain memory.
 */
struct x86_rmw {
	void *p;
	u64 lin;
	u64 old;
	u8 size, seg;
};
void x86_rmw_slow(struct x86_cpu *cpu, struct x86_rmw *m);

static inline u64 x86_rmw(struct x86_cpu *cpu, struct x86_rmw *m, unsigned seg, u64 lin, unsigned size)
{
	m->lin = lin;
	m->size = (u8)size;
	m->seg = (u8)seg;
	m->p = x86_hit_write(cpu, lin, size);
	if (unlikely(!m->p)) {
		x86_rmw_slow(cpu, m);
		return m->old;
	}
	switch (size) {
	case 1: return m->old = __atomic_load_n((u8 *)m->p, __ATOMIC_RELAXED);
	case 2: return m->old = __atomic_load_n((x86_mem_u16 *)m->p, __ATOMIC_RELAXED);
	case 4: return m->old = __atomic_load_n((x86_mem_u32 *)m->p, __ATOMIC_RELAXED);
	default: return m->old = __atomic_load_n((x86_mem_u64 *)m->p, __ATOMIC_RELAXED);
	}
}

void x86_rmw_write_slow(struct x86_cpu *cpu, struct x86_rmw *m, u64 val);

static inline void x86_rmw_write(struct x86_cpu *cpu, struct x86_rmw *m, u64 val)
{
	if (unlikely(!m->p)) {
		x86_rmw_write_slow(cpu, m, val);
		return;
	}
	switch (m->size) {
	case 1: __atomic_store_n((u8 *)m->p, (u8)val, __ATOMIC_RELAXED); break;
	case 2: __atomic_store_n((x86_mem_u16 *)m->p, (u16)val, __ATOMIC_RELAXED); break;
	case 4: __atomic_store_n((x86_mem_u32 *)m->p, (u32)val, __ATOMIC_RELAXED); break;
	default: __atomic_store_n((x86_mem_u64 *)m->p, val, __ATOMIC_RELAXED); break;
	}
}

/*
 * Locked: replace m->old by @val if memory still holds it. False: m->old now
 * has what was found, compute again. Page-crossing operands and the emulation
 * bus are handled (split locks are serialised against each other).
 */
bool x86_rmw_cmpxchg(struct x86_cpu *cpu, struct x86_rmw *m, u64 val);
/* 16 bytes, aligned (the caller has raised #GP otherwise); @old is updated on failure. */
bool x86_cmpxchg16(struct x86_cpu *cpu, unsigned seg, u64 lin, u64 old[2], const u64 val[2]);

/* ---- Accesses of the processor itself ---- */

/*
 * Descriptor tables, TSS, IDT: supervisor accesses whatever the CPL, never
 * under EFLAGS.AC. Stacks of a new privilege level: as @cpl would.
 */
u64 x86_sys_load(struct x86_cpu *cpu, u64 lin, unsigned size);
void x86_sys_store(struct x86_cpu *cpu, u64 lin, u64 val, unsigned size);
bool x86_sys_cmpxchg(struct x86_cpu *cpu, u64 lin, u64 *old, u64 val, unsigned size);
u64 x86_load_cpl(struct x86_cpu *cpu, unsigned seg, u64 lin, unsigned size, unsigned cpl);
void x86_store_cpl(struct x86_cpu *cpu, unsigned seg, u64 lin, u64 val, unsigned size, unsigned cpl);

/* x86_sys_load() and x86_store_cpl() of 8 bytes, inline where the TLB allows it at once. */
static inline u64 x86_sys_load64(struct x86_cpu *cpu, u64 lin)
{
	const x86_mem_u64 *p = x86_tlb_read(cpu, &cpu->tlbs[X86_MMU_KERNEL], X86_MMU_KERNEL, lin, 8);

	if (likely(p))
		return __atomic_load_n(p, __ATOMIC_RELAXED);
	return x86_sys_load(cpu, lin, 8);
}

static inline void x86_store64_cpl(struct x86_cpu *cpu, unsigned seg, u64 lin, u64 val, unsigned cpl)
{
	unsigned idx = cpl == 3 ? X86_MMU_USER : X86_MMU_KERNEL;
	x86_mem_u64 *p = x86_tlb_write(cpu, &cpu->tlbs[idx], idx, lin, 8);

	if (likely(p))
		__atomic_store_n(p, val, __ATOMIC_RELAXED);
	else
		x86_store_cpl(cpu, seg, lin, val, 8, cpl);
}

/*
 * Instruction fetch: host pointer to the page that holds linear address @lin
 * (its first byte is at the returned pointer + (lin & 4095)), *@spa its
 * simulated physical address (guest-physical under a bus, then the pointer is
 * to a private copy valid until the next call). Raises fetch faults.
 */
const u8 *x86_fetch_page(struct x86_cpu *cpu, u64 lin, u64 *spa);
/* Is the translation just made for a fetch from @lin known to be global? */
bool x86_fetch_is_global(const struct x86_cpu *cpu, u64 lin);
/* Number shared by the contexts that differ from the present one in their PCID only. */
u64 x86_tlb_group(const struct x86_cpu *cpu);

/* ---- TLB control: mmu/tlb.c ---- */

/*
 * Context id for the present (VPID, PCID, EPTP, CR0/CR4/EFER paging bits, PKRU);
 * sets cpu->tlb_ctx. To be called after any of them changed, WRPKRU and XRSTOR included.
 */
void x86_tlb_switch(struct x86_cpu *cpu);
/* The rows of x86-silicon "what flushes what". */
void x86_tlb_flush_all(struct x86_cpu *cpu);		/* current VPID, all PCIDs, globals too */
void x86_tlb_flush_nonglobal(struct x86_cpu *cpu);	/* all PCIDs of the current VPID */
void x86_tlb_flush_pcid(struct x86_cpu *cpu, u16 pcid);	/* non-global of it */
void x86_tlb_flush_page(struct x86_cpu *cpu, u64 lin);	/* INVLPG */
void x86_tlb_flush_page_pcid(struct x86_cpu *cpu, u16 pcid, u64 lin);	/* INVPCID 0 */
/* VMX. @vpid 0xffffffff = all; @eptp 0 = all. */
void x86_tlb_flush_vpid(struct x86_cpu *cpu, u32 vpid, bool keep_global);
void x86_tlb_flush_vpid_page(struct x86_cpu *cpu, u16 vpid, u64 lin);
void x86_tlb_flush_ept(struct x86_cpu *cpu, u64 eptp);
/* Debug registers changed: data breakpoints must take the slow path. */
void x86_tlb_watch_update(struct x86_cpu *cpu);
/* Drop every write tag (a page got decoded). */
void x86_tlb_drop_writes(struct x86_cpu *cpu);

/* Load the four PDPTEs of PAE paging from @cr3. False: reserved bit set, nothing changed. */
bool x86_load_pdptes(struct x86_cpu *cpu, u64 cr3);

/* Translate without side effects (no A/D, no fault raised): 0 and *@pa, or #PF code | 1u << 31. */
u32 x86_translate(struct x86_cpu *cpu, u64 lin, bool write, bool user, bool fetch, u64 *pa);

/*
 * A run loop, or a VMX operation that touches guest memory, brackets itself:
 * in between a host fault of this thread unwinds with X86_UNWIND_BUS_ERROR.
 * May nest (emulation inside a hypervisor's own access): pass what begin returned to end.
 */
struct x86_cpu *x86_access_begin(struct x86_cpu *cpu);
void x86_access_end(struct x86_cpu *cpu, struct x86_cpu *before);

int x86_mmu_new(struct x86_cpu *cpu);
void x86_mmu_free(struct x86_cpu *cpu);

#endif
