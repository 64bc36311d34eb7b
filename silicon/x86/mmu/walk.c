// SPDX-License-Identifier: MIT
/*
 * The page walker: linear to (guest-)physical addresses in every paging mode,
 * permissions, accessed and dirty flags. Every entry is read and updated
 * through EPT where that is on, or through the bus of an emulating processor.
 *
 * Order, as in a combined walk on hardware: for each level translate the
 * entry's address by EPT, read it, present, reserved bits; at the leaf the
 * permission check over all levels; then the flags, top down, by locked
 * compare-and-exchange (a lost one starts the walk again); last the final
 * address through EPT. SDM vol. 3A "Paging", vol. 3C "EPT and Paging-Structure
 * Entries". So a walk that ends in #PF has set nothing.
 */
#include "silicon/x86/mmu/mmu_priv.h"

#define MAX_LEVELS 5

struct entry {
	u64 addr;	/* guest-physical */
	u64 pa;		/* where its bytes are */
	u64 val;
};

struct walker {
	struct x86_cpu *cpu;
	u64 lin;
	unsigned acc, idx;
	bool probe;
	unsigned n;		/* entries used */
	unsigned esize;		/* bytes per entry */
	struct entry e[MAX_LEVELS];
	u64 hi;			/* reserved in every entry: address bits above MAXPHYADDR, XD */
};

/*
 * Guest page tables under EPT or on an emulated bus hold guest-physical
 * addresses of the model's width. Without either an entry holds an address in
 * this process.
 */
static unsigned maxphyaddr(const struct x86_cpu *cpu)
{
	return cpu->bus || x86_ept_on(cpu) ? cpu->physbits : X86_PROCESS_BITS;
}

static u64 hi_bits(unsigned m)
{
	return m >= 52 ? 0 : BITS(51, m);
}

/* Where the entry's bytes are. @acc: X86_ACC_W when a flag is about to be set. */
static bool entry_pa(struct walker *w, u64 addr, unsigned acc, u64 *pa)
{
	struct x86_cpu *cpu = w->cpu;
	struct x86_ept_access a = {
		.gpa = addr, .lin = w->lin, .lin_valid = true, .probe = w->probe,
		.acc = (u8)(x86_ept_ad(cpu) ? X86_ACC_R | X86_ACC_W : acc),
	};

	if (!x86_ept_on(cpu)) {
		*pa = addr;
		return true;
	}
	return x86_ept_translate(cpu, &a, pa, NULL);
}

static bool read_entry(struct walker *w, u64 addr)
{
	struct entry *e = &w->e[w->n];

	e->addr = addr;
	if (!entry_pa(w, addr, X86_ACC_R, &e->pa))
		return false;
	if (w->probe && !w->cpu->bus && x86_no_memory(e->pa))
		return false;
	e->val = w->esize == 4 ? x86_entry_load32(w->cpu, e->pa) : x86_entry_load64(w->cpu, e->pa);
	w->n++;
	return true;
}

static bool set_flags(struct walker *w, struct entry *e, u64 flags)
{
	u64 pa = e->pa;

	if ((e->val & flags) == flags)
		return true;
	/* Without EPT A/D the read needed no write permission; this does. */
	if (x86_ept_on(w->cpu) && !x86_ept_ad(w->cpu))
		entry_pa(w, e->addr, X86_ACC_W, &pa);
	if (!x86_entry_cmpxchg(w->cpu, pa, e->val, e->val | flags, w->esize))
		return false;
	e->val |= flags;
	return true;
}

static u32 fault_code(const struct walker *w, u32 code)
{
	const struct x86_cpu *cpu = w->cpu;

	if (w->acc & X86_ACC_W)
		code |= PF_W;
	if (w->idx == X86_MMU_USER)
		code |= PF_U;
	if ((w->acc & X86_ACC_X) &&
	    ((cpu->cr4 & CR4_SMEP) || ((cpu->cr4 & CR4_PAE) && (cpu->efer & EFER_NXE))))
		code |= PF_ID;
	return code | PF_RAISE;
}

/* Reserved bits of the entry at @shift beyond w->hi. */
static u64 reserved_bits(const struct walker *w, unsigned shift, u64 val, bool leaf)
{
	unsigned m = maxphyaddr(w->cpu);

	if (w->esize == 4) {
		if (shift != 22 || !leaf)
			return 0;
		/* PSE-36: bits 20:13 are physical address bits 39:32. */
		return BIT(21) | (m < 40 ? BITS(20, 13 + (m - 32)) : 0);
	}
	switch (shift) {
	case 48:
	case 39:
		return BIT(7);
	case 30:
		if (!x86_has(w->cpu, X86_FEAT_PDPE1GB))
			return BIT(7);
		return leaf ? BITS(29, 13) : 0;
	case 21:
		return leaf ? BITS(20, 13) : 0;
	default:
		return 0;
	}
}

static bool is_leaf(const struct walker *w, unsigned shift, u64 val)
{
	if (shift == 12)
		return true;
	if (!(val & PTE_PS) || shift > 30)
		return false;
	return w->esize == 8 || (w->cpu->cr4 & CR4_PSE);
}

/*
 * Protection-key verdict: true = denied. Keys apply to data accesses of user
 * pages in long mode; a supervisor ignores WD unless CR0.WP is set.
 */
static bool key_denies(const struct x86_cpu *cpu, unsigned idx, unsigned acc, bool user_page, u64 leaf)
{
	unsigned key = (unsigned)bits_get(leaf, 62, 59);

	if (!(cpu->cr4 & CR4_PKE) || !x86_lma(cpu) || !user_page || (acc & X86_ACC_X))
		return false;
	if (cpu->pkru >> (2 * key) & 1)
		return true;
	return (acc & X86_ACC_W) && (cpu->pkru >> (2 * key + 1) & 1) &&
	       (idx == X86_MMU_USER || (cpu->cr0 & CR0_WP));
}

/* U/S, R/W, XD, SMEP, SMAP. */
static bool page_denies(const struct x86_cpu *cpu, unsigned idx, unsigned acc, bool user, bool w, bool xd)
{
	if ((acc & X86_ACC_X) && xd)
		return true;
	if (idx == X86_MMU_USER)
		return !user || ((acc & X86_ACC_W) && !w);
	if (acc & X86_ACC_X)
		return user && (cpu->cr4 & CR4_SMEP);
	if (user && (cpu->cr4 & CR4_SMAP) && idx != X86_MMU_KERNEL_AC)
		return true;
	return (acc & X86_ACC_W) && !w && (cpu->cr0 & CR0_WP);
}

static void final_translate(struct walker *w, struct x86_walk *r, bool gw, bool xd)
{
	struct x86_cpu *cpu = w->cpu;
	bool dirty_ok;
	struct x86_ept_access a = {
		.gpa = r->gpa, .lin = w->lin, .acc = (u8)w->acc, .lin_valid = true, .final = true,
		.user = r->user, .writable = gw, .nx = xd,
	};

	if (w->probe)
		return;
	r->pa = r->gpa;
	if (x86_ept_on(cpu)) {
		x86_ept_translate(cpu, &a, &r->pa, &dirty_ok);
		r->writable = r->writable && dirty_ok;
	}
	r->apic = x86_mmu_is_apic_page(cpu, r->pa);
}

static u32 walk_unpaged(struct walker *w, struct x86_walk *r)
{
	r->gpa = w->lin;
	r->page_shift = 12;
	r->global = false;
	r->user = true;		/* for EPT: "user-mode" with CR0.PG = 0 */
	r->writable = true;
	final_translate(w, r, true, false);
	return 0;
}

u32 x86_walk(struct x86_cpu *cpu, u64 lin, unsigned acc, unsigned idx, unsigned flags,
	     struct x86_walk *r)
{
	struct walker w = {
		.cpu = cpu, .lin = lin, .acc = acc, .idx = idx, .probe = flags & X86_WALK_PROBE,
	};
	u64 table, all, xd, rsvd, page_mask;
	struct entry *e;
	unsigned shift, bits;
	bool leaf, key, gw;

	if (!x86_paging(cpu))
		return walk_unpaged(&w, r);
again:
	w.n = 0;
	w.esize = cpu->cr4 & CR4_PAE ? 8 : 4;
	w.hi = 0;
	all = PTE_U | PTE_W;
	xd = 0;
	bits = 9;
	if (w.esize == 4) {
		table = cpu->cr3 & BITS(31, 12);
		shift = 22;
		bits = 10;
	} else {
		w.hi = hi_bits(maxphyaddr(cpu)) | (cpu->efer & EFER_NXE ? 0 : PTE_XD);
		if (x86_lma(cpu)) {
			table = cpu->cr3 & BITS(51, 12);
			shift = cpu->cr4 & CR4_LA57 ? 48 : 39;
		} else {
			u64 pdpte = cpu->pdpte[lin >> 30 & 3];

			if (!(pdpte & PTE_P))
				return fault_code(&w, 0);
			table = pdpte & BITS(51, 12);
			w.hi |= BITS(62, 52);
			shift = 21;
		}
	}

	for (;; shift -= bits) {
		u64 index = lin >> shift & ((1u << bits) - 1);
		u64 val;

		if (!read_entry(&w, table + index * w.esize))
			return fault_code(&w, 0);
		val = w.e[w.n - 1].val;
		if (!(val & PTE_P))
			return fault_code(&w, 0);
		leaf = is_leaf(&w, shift, val);
		rsvd = w.hi | reserved_bits(&w, shift, val, leaf);
		if (val & rsvd)
			return fault_code(&w, PF_P | PF_RSVD);
		all &= val;
		xd |= val & PTE_XD;
		if (leaf)
			break;
		table = val & (w.esize == 4 ? BITS(31, 12) : BITS(51, 12));
	}

	e = &w.e[w.n - 1];
	r->user = all & PTE_U;
	gw = all & PTE_W;
	key = key_denies(cpu, idx, acc, r->user, e->val);
	if (key || page_denies(cpu, idx, acc, r->user, gw, xd))
		return fault_code(&w, PF_P | (key ? PF_PK : 0));

	if (!w.probe) {
		for (unsigned i = 0; i < w.n; i++) {
			u64 set = PTE_A;

			if (i == w.n - 1 && (acc & X86_ACC_W))
				set |= PTE_D;
			if (!set_flags(&w, &w.e[i], set))
				goto again;
		}
	}

	page_mask = (1ull << shift) - 1;
	if (w.esize == 4 && shift == 22)
		r->gpa = (e->val & BITS(31, 22)) | bits_get(e->val, 20, 13) << 32;
	else
		r->gpa = e->val & BITS(51, 12) & ~page_mask;
	r->gpa |= lin & page_mask;
	r->page_shift = (u8)shift;
	r->global = (cpu->cr4 & CR4_PGE) && (e->val & PTE_G);
	r->writable = (e->val & PTE_D) && !page_denies(cpu, idx, X86_ACC_W, r->user, gw, xd) &&
		      !key_denies(cpu, idx, X86_ACC_W, r->user, e->val);
	final_translate(&w, r, gw, xd);
	return 0;
}

u32 x86_translate(struct x86_cpu *cpu, u64 lin, bool write, bool user, bool fetch, u64 *pa)
{
	struct x86_walk r;
	unsigned acc = fetch ? X86_ACC_X : write ? X86_ACC_W : X86_ACC_R;
	unsigned idx = user ? X86_MMU_USER : cpu->mmu_idx == X86_MMU_KERNEL_AC ? X86_MMU_KERNEL_AC :
		       X86_MMU_KERNEL;
	u32 err = x86_walk(cpu, lin, acc, idx, X86_WALK_PROBE, &r);

	if (!err)
		*pa = r.gpa;
	return err;
}

/* SDM "PDPTE Registers": all four are read, the present ones checked, then loaded. */
bool x86_load_pdptes(struct x86_cpu *cpu, u64 cr3)
{
	u64 rsvd = BITS(2, 1) | BITS(8, 5) | BITS(63, 52) | hi_bits(maxphyaddr(cpu));
	u64 table = cr3 & BITS(31, 5), pdpte[4];

	for (unsigned i = 0; i < 4; i++) {
		struct x86_ept_access a = { .gpa = table + i * 8, .acc = X86_ACC_R };
		u64 pa = a.gpa;

		/* A plain read for EPT, even with EPT A/D; no linear address belongs to it. */
		if (x86_ept_on(cpu))
			x86_ept_translate(cpu, &a, &pa, NULL);
		pdpte[i] = x86_entry_load64(cpu, pa);
		if ((pdpte[i] & PTE_P) && (pdpte[i] & rsvd))
			return false;
	}
	memcpy(cpu->pdpte, pdpte, sizeof(pdpte));
	return true;
}
