// SPDX-License-Identifier: MIT
/*
 * A short cut through the guest's page tables, for decoding common MMIO
 * instructions without loading the emulating processor. It answers only where
 * the answer is plain; anything else ("false") goes to the emulator, which
 * knows all rules. SDM vol. 3A "Paging".
 */
#include <string.h>

#include "kvm/mem.h"
#include "kvm/x86/x86.h"

#define PTE_P BIT(0)
#define PTE_W BIT(1)
#define PTE_U BIT(2)
#define PTE_PS BIT(7)
#define PTE_NX BIT(63)

struct walk {
	struct hv_vcpu *v;
	u64 addr_mask;
	bool nx, user, write, fetch;
	bool lost;		/* a table is in no memory */
};

static bool read_entry(struct walk *w, u64 gpa, void *e, unsigned size)
{
	w->lost = hv_read_guest(w->v->vm, hv_as(w->v), gpa, e, size) < 0;
	return !w->lost;
}

/* Is an entry with these rights good enough? Supervisor accesses to user pages are left to SMEP/SMAP rules. */
static bool allows(const struct walk *w, u64 e)
{
	if (w->user && !(e & PTE_U))
		return false;
	if (w->write && !(e & PTE_W))
		return false;
	return !(w->fetch && w->nx && (e & PTE_NX));
}

static bool walk64(struct walk *w, u64 table, unsigned levels, u64 lin, u64 *gpa)
{
	bool all_user = true;

	for (unsigned level = levels; level > 0; level--) {
		unsigned shift = 12 + 9 * (level - 1);
		u64 e, page = 1ull << shift;

		if (!read_entry(w, table + ((lin >> shift) & 0x1ff) * 8, &e, 8))
			return false;
		if (!(e & PTE_P) || !allows(w, e))
			return false;
		all_user = all_user && (e & PTE_U);
		if (level == 1 || (level <= 3 && (e & PTE_PS))) {
			/* SMEP and SMAP decide about a supervisor on a user page. */
			if (!w->user && all_user && hv_get_cr4(w->v) & (CR4_SMEP | CR4_SMAP))
				return false;
			*gpa = (e & w->addr_mask & ~(page - 1)) | (lin & (page - 1));
			return true;
		}
		table = e & w->addr_mask;
	}
	return false;
}

static bool walk32(struct walk *w, u64 table, u64 lin, u64 *gpa)
{
	u32 e;

	if (!read_entry(w, (table & 0xfffff000) + (lin >> 22 & 0x3ff) * 4, &e, 4))
		return false;
	if (!(e & PTE_P) || !allows(w, e))
		return false;
	if ((e & PTE_PS) && (hv_get_cr4(w->v) & CR4_PSE)) {
		if (e & BITS(21, 13))	/* PSE-36 and reserved bits */
			return false;
		*gpa = (e & 0xffc00000u) | (lin & 0x3fffff);
		return true;
	}
	if (!read_entry(w, (e & 0xfffff000u) + (lin >> 12 & 0x3ff) * 4, &e, 4))
		return false;
	if (!(e & PTE_P) || !allows(w, e))
		return false;
	*gpa = (e & 0xfffff000u) | (lin & 0xfff);
	return true;
}

static bool walk(struct walk *w, u64 lin, unsigned access, u64 *gpa)
{
	struct hv_vcpu *v = w->v;
	u64 cr0 = v->x86->cr0, cr3, cr4;

	w->addr_mask = BITS(v->x86->f.physbits - 1, 12);
	w->user = access & HV_WALK_USER;
	w->write = access & HV_WALK_WRITE;
	w->fetch = access & HV_WALK_FETCH;

	if (!(cr0 & CR0_PG)) {
		*gpa = (u32)lin;
		return true;
	}
	cr3 = vmcs_get(v, VMCS_GUEST_CR3);
	cr4 = hv_get_cr4(v);
	w->nx = vmcs_get(v, VMCS_GUEST_EFER) & EFER_NXE;
	/* A supervisor may write read-only pages while CR0.WP = 0. */
	if (!w->user && !(hv_get_cr0(v) & CR0_WP))
		w->write = false;
	if (v->x86->entry_ctls & ENTRY_IA32E_GUEST)
		return walk64(w, cr3 & w->addr_mask, cr4 & CR4_LA57 ? 5 : 4, lin, gpa);
	if (cr4 & CR4_PAE) {
		u64 pdpte = vmcs_get(v, VMCS_GUEST_PDPTE0 + 2 * (lin >> 30 & 3));

		return (pdpte & PTE_P) && walk64(w, pdpte & w->addr_mask, 2, (u32)lin, gpa);
	}
	w->nx = false;
	return walk32(w, cr3, (u32)lin, gpa);
}

bool hv_walk(struct hv_vcpu *v, u64 lin, unsigned access, u64 *gpa)
{
	struct walk w = { .v = v };

	return walk(&w, lin, access, gpa);
}

static unsigned fetch_access(struct hv_vcpu *v)
{
	return HV_WALK_FETCH | (hv_get_cpl(v) == 3 ? HV_WALK_USER : 0);
}

bool hv_code_is_memory(struct hv_vcpu *v)
{
	struct walk w = { .v = v };
	u64 gpa;

	if (walk(&w, hv_linear_rip(v), fetch_access(v), &gpa))
		return hv_gpa_is_ram(v->vm, hv_as(v), gpa, false);
	return !w.lost;
}

unsigned hv_fetch_insn(struct hv_vcpu *v, u8 buf[15])
{
	unsigned access = fetch_access(v);
	u64 lin = hv_linear_rip(v), gpa;
	unsigned n = min(15u, (unsigned)(PAGE_SIZE - (lin & ~PAGE_MASK))), more;

	if (!hv_walk(v, lin, access, &gpa) || hv_read_guest(v->vm, hv_as(v), gpa, buf, n) < 0)
		return 0;
	more = 15 - n;
	if (more && hv_walk(v, lin + n, access, &gpa) &&
	    hv_read_guest(v->vm, hv_as(v), gpa, buf + n, more) == 0)
		n = 15;
	return n;
}
