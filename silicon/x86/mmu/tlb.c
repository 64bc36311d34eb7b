// SPDX-License-Identifier: MIT
/*
 * The TLB: contexts, fills, invalidation.
 *
 * A tag names a linear page and a context: (VPID, PCID, EP4TA, paging mode), by their
 * sum, see struct x86_tlb.
 * Invalidating a context means never using its id again, so the flushes of
 * whole address spaces cost nothing but the misses that follow; when the ids
 * run out every array is wiped. Contexts that differ only in their PCID share
 * a group: an entry of a global page remembers its group, and a miss that
 * finds such an entry takes it over into the present context without a walk.
 *
 * A kernel's pages are global mostly, and under SMAP it reaches those of programs by another
 * array (AC = 1). So array KERNEL has one id for all contexts of a group: what is global need
 * not be taken over. Entries there that are not global after all are noted and dropped when the
 * context changes; when there are many, as in kernels that have page tables of their own
 * for each program, contexts keep to their own id.
 *
 * Pages with an enabled data breakpoint are never entered: their accesses take
 * the slow path, which does the check. Likewise the APIC-access page.
 *
 * Not-present and reserved translations are not entered either, and every #PF
 * comes from a walk just made, so raising a permission needs no INVLPG.
 */
#include <stdlib.h>

#include "silicon/x86/decode/codepage.h"
#include "silicon/x86/decode/decode.h"
#include "silicon/x86/jit/jit.h"
#include "silicon/x86/mmu/dry.h"
#include "silicon/x86/mmu/mmu_priv.h"

/* Info words of both TLBs: flags below the group id. */
#define INFO_W X86_TLB_INFO_W
#define INFO_GLOBAL BIT(1)
#define INFO_2M BIT(2)		/* fragment of a 2M or 4M page */
#define INFO_1G BIT(3)
#define INFO_VALID BIT(4)
#define INFO_CTX_SHIFT 8	/* 12 bits: struct x86_tlb only */
#define INFO_GROUP_SHIFT 20

#define TAG_NONE (~0ull)	/* of the fetch and guest-physical caches */

_Static_assert(X86_CTX_MAX < X86_TLB_SIZE, "one tag means one page and one context");

/* x86_ctx_key.mode */
#define KEY_PG BIT(0)
#define KEY_WP BIT(1)
#define KEY_PSE BIT(2)
#define KEY_PAE BIT(3)
#define KEY_PGE BIT(4)
#define KEY_LA57 BIT(5)
#define KEY_SMEP BIT(6)
#define KEY_SMAP BIT(7)
#define KEY_PKE BIT(8)
#define KEY_LMA BIT(9)
#define KEY_NXE BIT(10)
#define KEY_EPT BIT(11)

static struct x86_ctx_key current_key(const struct x86_cpu *cpu)
{
	struct x86_ctx_key k = { 0 };

	if (cpu->vmx.non_root) {
		k.vpid = cpu->vmx.vpid;
		if (cpu->vmx.eptp) {
			k.eptp = cpu->vmx.eptp & BITS(51, 12);
			k.mode |= KEY_EPT;
		}
	}
	if (!x86_paging(cpu))
		return k;
	k.mode |= KEY_PG;
	if (cpu->cr0 & CR0_WP)
		k.mode |= KEY_WP;
	if (cpu->cr4 & CR4_PSE)
		k.mode |= KEY_PSE;
	if (cpu->cr4 & CR4_PAE)
		k.mode |= KEY_PAE;
	if (cpu->cr4 & CR4_PGE)
		k.mode |= KEY_PGE;
	if (cpu->cr4 & CR4_LA57)
		k.mode |= KEY_LA57;
	if (cpu->cr4 & CR4_SMEP)
		k.mode |= KEY_SMEP;
	if (cpu->cr4 & CR4_SMAP)
		k.mode |= KEY_SMAP;
	if (cpu->efer & EFER_NXE)
		k.mode |= KEY_NXE;
	if (x86_lma(cpu)) {
		k.mode |= KEY_LMA;
		if (cpu->cr4 & CR4_PCIDE)
			k.pcid = cpu->cr3 & 0xfff;
		if (cpu->cr4 & CR4_PKE) {
			k.mode |= KEY_PKE;
			k.pkru = cpu->pkru;
		}
	}
	return k;
}

static bool same_key(const struct x86_ctx_key *a, const struct x86_ctx_key *b)
{
	return a->eptp == b->eptp && a->mode == b->mode && a->pkru == b->pkru && a->vpid == b->vpid &&
	       a->pcid == b->pcid;
}

static bool same_group(const struct x86_ctx_key *a, const struct x86_ctx_key *b)
{
	return a->eptp == b->eptp && a->mode == b->mode && a->vpid == b->vpid;
}

/*
 * The slot of @k, or the least recently used of the few where it may be: a
 * processor goes back and forth between some spaces, guest and root ones at
 * each exit, and these must not push each other out.
 */
static struct x86_ctx_slot *find_slot(struct x86_mmu *m, const struct x86_ctx_key *k, bool *found)
{
	u64 h = k->eptp ^ (u64)k->pkru << 32 ^ (u64)k->vpid << 20 ^ (u64)k->mode << 12 ^ k->pcid;
	unsigned set = (unsigned)(h * 0x9e3779b97f4a7c15ull >> 58) % (X86_CTX_SLOTS / X86_CTX_WAYS);
	struct x86_ctx_slot *first = &m->slots[set * X86_CTX_WAYS], *victim = first;

	for (struct x86_ctx_slot *s = first; s < first + X86_CTX_WAYS; s++) {
		if (s->ctx != X86_CTX_MAX && same_key(&s->key, k)) {
			*found = true;
			return s;
		}
		if (s->ctx == X86_CTX_MAX || (victim->ctx != X86_CTX_MAX && s->used < victim->used))
			victim = s;
	}
	*found = false;
	return victim;
}

/*
 * A tag that matches nothing in entry @index, in whatever context. It is 0 where that is
 * one, so that memory that was never used need not be touched: there is no context id that
 * takes @index to 0.
 */
static u64 no_tag(unsigned index)
{
	return index && index <= X86_TLB_SIZE - X86_CTX_MAX ? 0 : ((u64)index + X86_CTX_MAX) << PAGE_SHIFT;
}

static void drop(struct x86_tlb *t, unsigned index)
{
	t->rtag[index] = t->wtag[index] = no_tag(index);
	t->info[index] = 0;
}

static unsigned ctx_of(const struct x86_tlb *t, unsigned index)
{
	return t->info[index] >> INFO_CTX_SHIFT & 0xfff;
}

/* The present context, as info words of array @idx have it. */
static u64 ctx_info(const struct x86_cpu *cpu, unsigned idx)
{
	return cpu->tlb_ctx_page[idx] >> PAGE_SHIFT << INFO_CTX_SHIFT;
}

/* Does entry @index hold the page of @lin, in whatever context? @shift: compare from there up. */
static bool holds(const struct x86_tlb *t, unsigned index, u64 lin, unsigned shift)
{
	return t->info[index] && ((t->rtag[index] - ((u64)ctx_of(t, index) << PAGE_SHIFT)) ^ lin) >> shift == 0;
}

/* Remember that entry @index of TLB @idx has a write tag: x86_tlb_drop_writes() takes them back one by one. */
static void allow_write(struct x86_cpu *cpu, unsigned idx, unsigned index)
{
	struct x86_mmu *m = cpu->mmu;

	cpu->tlbs[idx].wtag[index] = cpu->tlbs[idx].rtag[index];
	if (m->nr_written < X86_WRITTEN)
		m->written[m->nr_written] = idx << X86_TLB_BITS | index;
	m->nr_written++;
}

static void drop_itlb(struct x86_mmu *m)
{
	for (unsigned u = 0; u < 2; u++)
		for (unsigned i = 0; i < X86_ITLB_SIZE; i++)
			m->itlb[u][i].tag = TAG_NONE;
}

/* Linear and combined mappings of every context; the ids start anew. */
static void wipe(struct x86_cpu *cpu)
{
	struct x86_mmu *m = cpu->mmu;

	for (unsigned idx = 0; idx < X86_NR_TLBS; idx++)
		for (unsigned i = 0; i < X86_TLB_SIZE; i++)
			if (cpu->tlbs[idx].info[i])
				drop(&cpu->tlbs[idx], i);
	m->nr_written = 0;
	m->nr_strays = 0;
	drop_itlb(m);
	for (unsigned i = 0; i < X86_CTX_SLOTS; i++)
		m->slots[i].ctx = X86_CTX_MAX;
	memset(m->large_2m, 0, sizeof(m->large_2m));
	m->large_1g = 0;
	m->next_ctx = 0;
	x86_decode_flush(cpu);
}

/* ---- The shared id of array KERNEL ---- */

static bool may_share(const struct x86_ctx_key *k)
{
	return (k->mode & (KEY_PGE | KEY_SMAP)) == (KEY_PGE | KEY_SMAP);
}

static bool shares(const struct x86_ctx_slot *s)
{
	return s->shared != s->ctx;
}

static void drop_strays(struct x86_cpu *cpu)
{
	struct x86_mmu *m = cpu->mmu;
	struct x86_tlb *t = &cpu->tlbs[X86_MMU_KERNEL];

	/* What has taken the place of one is either global or under another id. */
	for (unsigned n = 0; n < m->nr_strays; n++)
		if (ctx_of(t, m->stray[n]) == m->stray_shared && !(t->info[m->stray[n]] & INFO_GLOBAL))
			drop(t, m->stray[n]);
	m->nr_strays = 0;
}

/* Contexts of the group of @s keep to their own ids from now on. */
static void stop_sharing(struct x86_mmu *m, const struct x86_ctx_slot *s)
{
	u64 group = s->group;

	for (unsigned i = 0; i < X86_CTX_SLOTS; i++)
		if (m->slots[i].group == group)
			m->slots[i].shared = m->slots[i].ctx;
}

static void set_ctx(struct x86_cpu *cpu, const struct x86_ctx_slot *s)
{
	struct x86_mmu *m = cpu->mmu;

	if (unlikely(m->nr_strays) && s->shared == m->stray_shared && s->ctx != m->stray_ctx)
		drop_strays(cpu);
	cpu->tlb_ctx = s->ctx;
	for (unsigned idx = 0; idx < X86_NR_TLBS; idx++)
		cpu->tlb_ctx_page[idx] = (u64)(idx == X86_MMU_KERNEL ? s->shared : s->ctx) << PAGE_SHIFT;
}

/* Entry @index of array KERNEL is about to be filled with a page that is not global. */
static void note_stray(struct x86_cpu *cpu, unsigned index)
{
	struct x86_mmu *m = cpu->mmu;
	const struct x86_ctx_slot *s = &m->slots[m->cur];

	if (m->nr_strays && (s->shared != m->stray_shared || s->ctx != m->stray_ctx))
		drop_strays(cpu);
	if (m->nr_strays == X86_STRAYS) {
		drop_strays(cpu);
		stop_sharing(m, s);
		set_ctx(cpu, s);
		return;
	}
	m->stray_shared = s->shared;
	m->stray_ctx = s->ctx;
	m->stray[m->nr_strays++] = index;
}

void x86_tlb_switch(struct x86_cpu *cpu)
{
	struct x86_mmu *m = cpu->mmu;
	struct x86_ctx_key k = current_key(cpu);
	bool found;
	struct x86_ctx_slot *s;

	x86_dry_refuse(cpu);
	s = find_slot(m, &k, &found);
	m->cur = (unsigned)(s - m->slots);
	s->used = ++m->switches;
	if (found) {
		set_ctx(cpu, s);
		return;
	}
	/* One may be for sharing. */
	if (m->next_ctx + 2 > X86_CTX_MAX)
		wipe(cpu);
	s->key = k;
	s->ctx = s->shared = (u16)m->next_ctx++;
	s->group = 0;
	for (unsigned i = 0; i < X86_CTX_SLOTS && !s->group; i++) {
		struct x86_ctx_slot *o = &m->slots[i];

		if (o == s || o->ctx == X86_CTX_MAX || !same_group(&o->key, &k))
			continue;
		s->group = o->group;
		if (shares(o))
			s->shared = o->shared;
	}
	if (!s->group) {
		s->group = m->next_group++;
		if (may_share(&k))
			s->shared = (u16)m->next_ctx++;
	}
	set_ctx(cpu, s);
}

/* ---- Filling ---- */

static bool watched(const struct x86_mmu *m, u64 lin)
{
	for (unsigned i = 0; i < m->nr_watch; i++)
		if (m->watch[i] == (lin & PAGE_MASK))
			return true;
	return false;
}

static u64 fill_info(struct x86_cpu *cpu, u64 lin, const struct x86_walk *w)
{
	struct x86_mmu *m = cpu->mmu;
	const struct x86_ctx_slot *s = &m->slots[m->cur];
	u64 info = s->group << INFO_GROUP_SHIFT;

	/* PKRU is no part of a group: a user page stays with its context while keys are on. */
	if (w->global && !(w->user && (s->key.mode & KEY_PKE)))
		info |= INFO_GLOBAL;
	if (w->page_shift == 30) {
		info |= INFO_1G;
		m->large_1g |= BIT(lin >> 30 & 63);
	} else if (w->page_shift > 12) {
		/* Both halves of a 4M page are marked when they are used. */
		info |= INFO_2M;
		m->large_2m[lin >> 27 & 63] |= BIT(lin >> 21 & 63);
	}
	return info;
}

static void fill(struct x86_cpu *cpu, u64 lin, unsigned idx, const struct x86_walk *w)
{
	unsigned index = x86_tlb_index(lin);
	struct x86_tlb *t = &cpu->tlbs[idx];
	u64 pa = w->pa & PAGE_MASK, info;

	if (cpu->bus || w->apic || watched(cpu->mmu, lin))
		return;
	info = fill_info(cpu, lin, w) | (w->writable ? INFO_W : 0) | INFO_VALID;
	if (idx == X86_MMU_KERNEL && !(info & INFO_GLOBAL) && shares(&cpu->mmu->slots[cpu->mmu->cur]))
		note_stray(cpu, index);
	t->rtag[index] = x86_tlb_tag(cpu, idx, lin);
	t->wtag[index] = no_tag(index);
	t->addend[index] = pa - (lin & PAGE_MASK);
	t->info[index] = info | ctx_info(cpu, idx);
	if (w->writable && x86_codepage_may_write(pa))
		allow_write(cpu, idx, index);
}

/*
 * Is the translation here although the inline compare failed? Write tags go
 * when code gets decoded, and global pages belong to every PCID.
 */
static bool revive(struct x86_cpu *cpu, u64 lin, unsigned acc, unsigned idx)
{
	struct x86_tlb *t = &cpu->tlbs[idx];
	unsigned i = x86_tlb_index(lin);
	u64 tag = x86_tlb_tag(cpu, idx, lin);
	const struct x86_ctx_slot *s = &cpu->mmu->slots[cpu->mmu->cur];

	if (!t->info[i])
		return false;
	if (t->rtag[i] != tag) {
		if (!holds(t, i, lin, PAGE_SHIFT) || !(t->info[i] & INFO_GLOBAL) ||
		    t->info[i] >> INFO_GROUP_SHIFT != s->group)
			return false;
		t->rtag[i] = tag;
		t->wtag[i] = no_tag(i);
		t->info[i] = (t->info[i] & ~(0xfffull << INFO_CTX_SHIFT)) | ctx_info(cpu, idx);
	}
	if (t->wtag[i] != tag && (t->info[i] & INFO_W) && x86_codepage_may_write((u64)x86_tlb_host(t, lin & PAGE_MASK)))
		allow_write(cpu, idx, i);
	return !(acc & X86_ACC_W) || (t->info[i] & INFO_W);
}

void *x86_hit_code(struct x86_cpu *cpu, u64 lin, unsigned size)
{
	const struct x86_tlb *t = cpu->tlb;
	unsigned i = x86_tlb_index(lin);
	void *p = x86_tlb_host(t, lin);

	if (t->rtag[i] != x86_tlb_tag(cpu, cpu->mmu_idx, lin) || !(t->info[i] & INFO_W) || !x86_in_page(lin, size) ||
	    !x86_codepage_test((u64)p))
		return NULL;
	return p;
}

void x86_xlat(struct x86_cpu *cpu, u64 lin, unsigned acc, unsigned idx, struct x86_xlat *x)
{
	struct x86_tlb *t = &cpu->tlbs[idx];
	struct x86_walk w;
	u32 err;

	if (revive(cpu, lin, acc, idx)) {
		x->pa = (u64)x86_tlb_host(t, lin);
		x->apic = false;
		return;
	}
	err = x86_walk(cpu, lin, acc, idx, 0, &w);
	if (err) {
		/* SDM "Operations that Invalidate TLBs": a page fault drops the entry it met. */
		if (holds(t, x86_tlb_index(lin), lin, PAGE_SHIFT))
			drop(t, x86_tlb_index(lin));
		x86_page_fault(cpu, lin, err & ~PF_RAISE);
	}
	if (!cpu->bus && x86_no_memory(w.pa))
		x86_bus_error(cpu, w.pa);
	fill(cpu, lin, idx, &w);
	x->pa = w.pa;
	x->apic = w.apic;
}

void x86_xlat_fetch(struct x86_cpu *cpu, u64 lin, struct x86_xlat *x)
{
	bool user = cpu->cpl == 3;
	struct x86_mmu *m = cpu->mmu;
	struct x86_itlbe *e = &m->itlb[user][(lin >> PAGE_SHIFT ^ lin >> 20) % X86_ITLB_SIZE];
	u64 tag = (lin & PAGE_MASK) | cpu->tlb_ctx;
	struct x86_walk w;
	u32 err;

	x->apic = false;
	if (!((e->tag ^ lin) & PAGE_MASK) && e->tag != TAG_NONE && (e->info & INFO_GLOBAL) &&
	    e->info >> INFO_GROUP_SHIFT == m->slots[m->cur].group)
		e->tag = tag;
	if (e->tag == tag) {
		x->pa = e->pa | (lin & ~PAGE_MASK);
		return;
	}
	err = x86_walk(cpu, lin, X86_ACC_X, user ? X86_MMU_USER : X86_MMU_KERNEL, 0, &w);
	if (err)
		x86_page_fault(cpu, lin, err & ~PF_RAISE);
	if (!cpu->bus && x86_no_memory(w.pa))
		x86_bus_error(cpu, w.pa);
	x->pa = w.pa;
	x->apic = w.apic;
	if (cpu->bus || w.apic)
		return;
	e->tag = tag;
	e->pa = w.pa & PAGE_MASK;
	e->info = fill_info(cpu, lin, &w);
}

/* ---- Invalidation of contexts ---- */

/* Contexts outside of what is invalidated may share the group of @s: it ends for all. Sharing is tried anew. */
static void end_group(struct x86_mmu *m, const struct x86_ctx_slot *s)
{
	u64 group = s->group, fresh = m->next_group++;
	bool share = may_share(&s->key);
	u16 shared = share ? (u16)m->next_ctx++ : 0;

	for (unsigned i = 0; i < X86_CTX_SLOTS; i++) {
		if (m->slots[i].group != group)
			continue;
		m->slots[i].group = fresh;
		if (share)
			m->slots[i].shared = shared;
	}
}

/* Retire the contexts that @match selects; with @globals their groups too. */
static void retire(struct x86_cpu *cpu, bool (*match)(const struct x86_ctx_key *k, u64 arg), u64 arg,
		   bool globals)
{
	struct x86_mmu *m = cpu->mmu;
	u64 first_fresh = m->next_group;
	unsigned before = cpu->tlb_ctx;

	for (unsigned i = 0; i < X86_CTX_SLOTS; i++) {
		struct x86_ctx_slot *s = &m->slots[i];
		bool alone;

		if (s->ctx == X86_CTX_MAX || !match(&s->key, arg))
			continue;
		if (m->next_ctx + 2 > X86_CTX_MAX) {
			wipe(cpu);
			break;
		}
		if (s->ctx == m->stray_ctx)
			drop_strays(cpu);
		alone = !shares(s);
		s->ctx = (u16)m->next_ctx++;
		if (alone)
			s->shared = s->ctx;
		if (globals && s->group < first_fresh)
			end_group(m, s);
	}
	/* Contexts that are not retired keep their fetch translations, and global ones stay in the others. */
	x86_tlb_switch(cpu);
	if (globals)
		x86_decode_flush(cpu);
	else
		x86_decode_flush_nonglobal(cpu, before);
}

static u16 current_vpid(const struct x86_cpu *cpu)
{
	return cpu->vmx.non_root ? cpu->vmx.vpid : 0;
}

static bool match_vpid(const struct x86_ctx_key *k, u64 vpid)
{
	return vpid == 0xffffffff || k->vpid == vpid;
}

static bool match_pcid(const struct x86_ctx_key *k, u64 arg)
{
	return k->vpid == (u16)arg && k->pcid == (u16)(arg >> 16);
}

static bool match_ept(const struct x86_ctx_key *k, u64 eptp)
{
	return (k->mode & KEY_EPT) && (!eptp || k->eptp == eptp);
}

void x86_tlb_flush_all(struct x86_cpu *cpu)
{
	retire(cpu, match_vpid, current_vpid(cpu), true);
}

void x86_tlb_flush_nonglobal(struct x86_cpu *cpu)
{
	retire(cpu, match_vpid, current_vpid(cpu), false);
}

void x86_tlb_flush_pcid(struct x86_cpu *cpu, u16 pcid)
{
	retire(cpu, match_pcid, current_vpid(cpu) | (u64)pcid << 16, false);
}

void x86_tlb_flush_vpid(struct x86_cpu *cpu, u32 vpid, bool keep_global)
{
	retire(cpu, match_vpid, vpid, !keep_global);
}

void x86_tlb_flush_ept(struct x86_cpu *cpu, u64 eptp)
{
	u64 ep4ta = eptp & BITS(51, 12);

	for (unsigned i = 0; i < X86_GPA_TLB_SIZE; i++) {
		struct x86_gpa_tlbe *c = &cpu->mmu->gpa_tlb[i];

		if (!eptp || c->ep4ta == ep4ta)
			c->tag = TAG_NONE;
	}
	retire(cpu, match_ept, ep4ta, true);
}

/* ---- Invalidation of pages ---- */

/* Fragments of a large page around @lin: neighbours, but for those of 1 GiB, which fill the array. */
static void drop_fragments(struct x86_tlb *t, u64 lin, bool large_1g)
{
	unsigned first = large_1g ? 0 : x86_tlb_index(lin & ~BITS(21, 0));
	unsigned n = large_1g ? X86_TLB_SIZE : 1u << (22 - PAGE_SHIFT);

	for (unsigned i = first; i < first + n; i++) {
		/* 4M pages: two of 2M, both go. */
		if (((t->info[i] & INFO_2M) && holds(t, i, lin, 22)) ||
		    ((t->info[i] & INFO_1G) && holds(t, i, lin, 30)))
			drop(t, i);
	}
}

/*
 * Drop @lin in every context: more than any of the operations asks for, and
 * its entry can only be in one place of each array. Fragments of a large page
 * are looked for only if the filters say that there may be some.
 */
static void flush_page(struct x86_cpu *cpu, u64 lin)
{
	struct x86_mmu *m = cpu->mmu;
	unsigned index = x86_tlb_index(lin);
	bool large_1g = m->large_1g & BIT(lin >> 30 & 63);
	bool large = large_1g || (m->large_2m[lin >> 27 & 63] & BIT(lin >> 21 & 63)) ||
		     (m->large_2m[lin >> 27 & 63] & BIT((lin >> 21 ^ 1) & 63));

	for (unsigned idx = 0; idx < X86_NR_MMU_IDX; idx++) {
		struct x86_tlb *t = &cpu->tlbs[idx];

		if (holds(t, index, lin, PAGE_SHIFT))
			drop(t, index);
		if (large)
			drop_fragments(t, lin, large_1g);
	}
	if (large) {
		drop_itlb(m);
		x86_decode_flush(cpu);
	} else {
		for (unsigned u = 0; u < 2; u++) {
			struct x86_itlbe *e = &m->itlb[u][(lin >> PAGE_SHIFT ^ lin >> 20) % X86_ITLB_SIZE];

			if (!((e->tag ^ lin) & PAGE_MASK))
				e->tag = TAG_NONE;
		}
		x86_decode_flush_page(cpu, lin);
	}
}

u64 x86_tlb_group(const struct x86_cpu *cpu)
{
	return cpu->mmu->slots[cpu->mmu->cur].group;
}

bool x86_fetch_is_global(const struct x86_cpu *cpu, u64 lin)
{
	const struct x86_itlbe *e = &cpu->mmu->itlb[cpu->cpl == 3][(lin >> PAGE_SHIFT ^ lin >> 20) % X86_ITLB_SIZE];

	return e->tag == ((lin & PAGE_MASK) | cpu->tlb_ctx) && (e->info & INFO_GLOBAL);
}

void x86_tlb_flush_page(struct x86_cpu *cpu, u64 lin)
{
	flush_page(cpu, lin);
}

void x86_tlb_flush_page_pcid(struct x86_cpu *cpu, u16 pcid, u64 lin)
{
	flush_page(cpu, lin);
}

void x86_tlb_flush_vpid_page(struct x86_cpu *cpu, u16 vpid, u64 lin)
{
	flush_page(cpu, lin);
}

/* ---- Slow-path conditions ---- */

void x86_tlb_watch_update(struct x86_cpu *cpu)
{
	struct x86_mmu *m = cpu->mmu;

	m->nr_watch = 0;
	for (unsigned i = 0; i < 4; i++) {
		/* L or G set, and not an instruction breakpoint. */
		if (!(cpu->dr7 >> (2 * i) & 3) || !(cpu->dr7 >> (16 + 4 * i) & 3))
			continue;
		m->watch[m->nr_watch++] = cpu->dr[i] & PAGE_MASK;
		flush_page(cpu, cpu->dr[i]);
	}
}

void x86_tlb_drop_writes(struct x86_cpu *cpu)
{
	struct x86_mmu *m = cpu->mmu;

	if (m->nr_written > X86_WRITTEN) {
		for (unsigned idx = 0; idx < X86_NR_MMU_IDX; idx++)
			for (unsigned i = 0; i < X86_TLB_SIZE; i++)
				if (cpu->tlbs[idx].info[i])
					cpu->tlbs[idx].wtag[i] = no_tag(i);
	} else {
		for (unsigned n = 0; n < m->nr_written; n++) {
			unsigned i = m->written[n] % X86_TLB_SIZE;

			cpu->tlbs[m->written[n] >> X86_TLB_BITS].wtag[i] = no_tag(i);
		}
	}
	m->nr_written = 0;
	memset(cpu->grain, 0, sizeof(cpu->grain));
}

/* ---- Life ---- */

int x86_mmu_new(struct x86_cpu *cpu)
{
	struct x86_mmu *m = calloc(1, sizeof(*m));

	if (!m)
		return -1;
	cpu->mmu = m;
	m->next_group = 1;
	for (unsigned i = 0; i < X86_GPA_TLB_SIZE; i++)
		m->gpa_tlb[i].tag = TAG_NONE;
	/* The TLBs are zeroed memory. */
	for (unsigned idx = 0; idx < X86_NR_TLBS; idx++)
		for (unsigned i = 0; i < X86_TLB_SIZE; i++)
			if (no_tag(i))
				drop(&cpu->tlbs[idx], i);
	wipe(cpu);
	x86_tlb_switch(cpu);
	return 0;
}

void x86_mmu_free(struct x86_cpu *cpu)
{
	free(cpu->mmu);
	cpu->mmu = NULL;
}
