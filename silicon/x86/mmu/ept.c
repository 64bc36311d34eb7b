// SPDX-License-Identifier: MIT
/*
 * EPT as hardware: guest-physical to simulated physical addresses, violations
 * and misconfigurations, accessed and dirty flags, page-modification logging.
 * SDM vol. 3C "The Extended Page Table Mechanism (EPT)".
 *
 * Software on other threads changes and frees EPT tables while we read them.
 * A walk is therefore one epoch section: a table page that it reaches stays
 * readable until the walk ends. What the walk leaves behind (TLB entries) is
 * the business of INVEPT.
 *
 * Entries hold addresses of this process, hence the physical-address width of
 * the tables is that of process addresses, whatever the model's MAXPHYADDR.
 */
#include "base/epoch.h"
#include "silicon/vmx.h"
#include "silicon/x86/mmu/mmu_priv.h"
#include "silicon/x86/sys/sys.h"
#include "silicon/x86/vmx/intercept.h"

#define EPT_PS BIT(7)
#define EPT_A BIT(8)
#define EPT_D BIT(9)
#define EPT_USER_EXEC BIT(10)
#define EPT_ADDR BITS(X86_PROCESS_BITS - 1, 12)
#define EPT_ADDR_HI BITS(51, X86_PROCESS_BITS)

#define PERM_USER_EXEC 8u	/* in permission masks: entry bit 10 */

/* IA32_VMX_EPT_VPID_CAP */
#define MSR_EPT_VPID_CAP 0x48c
#define CAP_EXEC_ONLY BIT(0)
#define CAP_PAGE_1G BIT(17)
#define CAP_EXIT_INFO BIT(22)

enum ept_result { EPT_OK, EPT_VIOLATION, EPT_MISCONFIG, EPT_PML_FULL, EPT_NO_MEMORY, EPT_LOST };

struct ept_walk {
	u64 entry_pa[5], entry[5];
	unsigned n;
	unsigned shift;		/* of the leaf */
	unsigned perm;		/* AND over the entries used */
	u64 pa;
	bool dirty;		/* D is set, or there are no flags */
};

/* Looked at on rare paths only. */
static u64 ept_cap(struct x86_cpu *cpu)
{
	u64 v = 0;

	return x86_msr_read(cpu, MSR_EPT_VPID_CAP, &v) ? v : 0;
}

static bool mode_based(const struct x86_cpu *cpu)
{
	return cpu->vmx.proc2 & PROC2_MODE_BASED_EXEC;
}

static unsigned entry_perm(const struct x86_cpu *cpu, u64 e)
{
	unsigned perm = e & 7;

	return mode_based(cpu) && (e & EPT_USER_EXEC) ? perm | PERM_USER_EXEC : perm;
}

/* What @a needs: one execute bit by the kind of linear address. */
static unsigned needed(const struct x86_cpu *cpu, const struct x86_ept_access *a)
{
	if ((a->acc & X86_ACC_X) && mode_based(cpu) && a->user)
		return PERM_USER_EXEC;
	return a->acc;
}

static bool misconfigured(struct x86_cpu *cpu, u64 e, unsigned shift, bool leaf)
{
	unsigned perm = entry_perm(cpu, e), mt = e >> 3 & 7;

	if (!(perm & X86_ACC_R)) {
		if (perm & X86_ACC_W)
			return true;
		if (!(ept_cap(cpu) & CAP_EXEC_ONLY))
			return true;
	}
	if (e & EPT_ADDR_HI)
		return true;
	if (!leaf)
		return e & (shift >= 39 ? BITS(7, 3) : BITS(6, 3));
	if (mt == 2 || mt == 3 || mt == 7)
		return true;
	if (shift == 30)
		return (e & BITS(29, 12)) || !(ept_cap(cpu) & CAP_PAGE_1G);
	return shift == 21 && (e & BITS(20, 12));
}

static u64 *entry_ptr(u64 pa)
{
	return (u64 *)pa;
}

static enum ept_result ept_walk(struct x86_cpu *cpu, const struct x86_ept_access *a, struct ept_walk *w)
{
	u64 table = cpu->vmx.eptp & EPT_ADDR;
	unsigned levels = (cpu->vmx.eptp >> 3 & 7) + 1;

	w->n = 0;
	w->perm = mode_based(cpu) ? 7 | PERM_USER_EXEC : 7;
	w->shift = 12 + 9 * (levels - 1);
	if (a->gpa >> (w->shift + 9)) {
		w->perm = 0;
		return EPT_VIOLATION;
	}
	for (;; w->shift -= 9) {
		u64 pa = table + (a->gpa >> w->shift & 511) * 8, e;
		bool leaf;

		if (x86_no_memory(pa)) {
			w->pa = pa;
			return EPT_NO_MEMORY;
		}
		e = __atomic_load_n(entry_ptr(pa), __ATOMIC_ACQUIRE);
		w->entry_pa[w->n] = pa;
		w->entry[w->n++] = e;
		if (!entry_perm(cpu, e)) {
			w->perm = 0;
			return EPT_VIOLATION;
		}
		leaf = w->shift == 12 || (w->shift <= 30 && (e & EPT_PS));
		if (misconfigured(cpu, e, w->shift, leaf))
			return EPT_MISCONFIG;
		w->perm &= entry_perm(cpu, e);
		if (leaf) {
			u64 mask = (1ull << w->shift) - 1;

			w->pa = (e & EPT_ADDR & ~mask) | (a->gpa & mask);
			w->dirty = !x86_ept_ad(cpu) || (e & EPT_D);
			break;
		}
		table = e & EPT_ADDR;
	}
	return (needed(cpu, a) & ~w->perm) ? EPT_VIOLATION : EPT_OK;
}

/* Log the page of a dirty flag that went 0 -> 1; the index was tested before. */
static void pml_log(struct x86_cpu *cpu, u64 gpa)
{
	u16 index = (u16)x86_vmcs_get(cpu, VMCS_PML_INDEX);
	u64 pa = (x86_vmcs_get(cpu, VMCS_PML_ADDR) & EPT_ADDR) + index * 8ull;

	__atomic_store_n(entry_ptr(pa), gpa & PAGE_MASK, __ATOMIC_RELAXED);
	x86_vmcs_set(cpu, VMCS_PML_INDEX, (u16)(index - 1));
}

/*
 * Accessed flags of every entry used, dirty flag of the leaf for a write.
 * EPT_LOST: an entry changed under us, walk again.
 */
static enum ept_result ept_set_flags(struct x86_cpu *cpu, const struct x86_ept_access *a, struct ept_walk *w)
{
	bool pml = cpu->vmx.proc2 & PROC2_PML, tested = false;

	if (!x86_ept_ad(cpu))
		return EPT_OK;
	for (unsigned i = 0; i < w->n; i++) {
		bool leaf = i == w->n - 1;
		u64 set = EPT_A | (leaf && (a->acc & X86_ACC_W) ? EPT_D : 0), old = w->entry[i];

		if ((old & set) == set)
			continue;
		/* SDM "Page-Modification Logging": before any flag of the access is set. */
		if (pml && !tested && x86_vmcs_get(cpu, VMCS_PML_INDEX) > 511)
			return EPT_PML_FULL;
		tested = true;
		if (!__atomic_compare_exchange_n(entry_ptr(w->entry_pa[i]), &w->entry[i], old | set, false,
						 __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			return EPT_LOST;
		if (leaf && (a->acc & X86_ACC_W)) {
			w->dirty = true;
			if (pml && !(old & EPT_D))
				pml_log(cpu, a->gpa);
		}
	}
	return EPT_OK;
}

static u64 violation_qual(struct x86_cpu *cpu, const struct x86_ept_access *a, unsigned perm)
{
	u64 q = a->acc | (u64)(perm & 7) << 3 | (perm & PERM_USER_EXEC ? BIT(6) : 0);

	if (!a->lin_valid)
		return q;
	q |= BIT(7);
	if (a->final) {
		q |= BIT(8);
		if (ept_cap(cpu) & CAP_EXIT_INFO)
			q |= (a->user ? BIT(9) : 0) | (a->writable ? BIT(10) : 0) | (a->nx ? BIT(11) : 0);
	}
	return q;
}

/* A host fault inside leaves the section for us: hostfault.c. */
static void section_begin(struct x86_cpu *cpu)
{
	epoch_enter();
	cpu->mmu->in_epoch = true;
}

static void section_end(struct x86_cpu *cpu)
{
	cpu->mmu->in_epoch = false;
	epoch_exit();
}

static bool ept_probe(struct x86_cpu *cpu, const struct x86_ept_access *a, u64 *pa)
{
	struct ept_walk w;
	enum ept_result res;

	section_begin(cpu);
	res = ept_walk(cpu, a, &w);
	section_end(cpu);
	*pa = w.pa;
	return res == EPT_OK;
}

bool x86_ept_translate(struct x86_cpu *cpu, const struct x86_ept_access *a, u64 *pa, bool *dirty_ok)
{
	struct x86_gpa_tlbe *c = &cpu->mmu->gpa_tlb[(a->gpa >> PAGE_SHIFT ^ a->gpa >> 21) %
						   X86_GPA_TLB_SIZE];
	u64 ep4ta = cpu->vmx.eptp & EPT_ADDR;
	struct ept_walk w;
	enum ept_result res;

	if (likely(c->tag == (a->gpa & PAGE_MASK) && c->ep4ta == ep4ta) &&
	    !(needed(cpu, a) & ~c->perm) && (c->dirty || !(a->acc & X86_ACC_W))) {
		*pa = c->pa | (a->gpa & ~PAGE_MASK);
		if (dirty_ok)
			*dirty_ok = c->dirty && (c->perm & X86_ACC_W);
		return true;
	}
	if (a->probe)
		return ept_probe(cpu, a, pa);

	section_begin(cpu);
	do {
		res = ept_walk(cpu, a, &w);
		if (res == EPT_OK)
			res = ept_set_flags(cpu, a, &w);
	} while (res == EPT_LOST);
	section_end(cpu);

	if (res != EPT_OK) {
		/* SDM "Operations that Invalidate Cached Mappings": a violation drops this address. */
		c->tag = ~0ull;
		switch (res) {
		case EPT_VIOLATION:
			x86_vmx_ept_exit(cpu, VMX_EXIT_EPT_VIOLATION, violation_qual(cpu, a, w.perm),
					 a->gpa, a->lin, a->lin_valid);
		case EPT_MISCONFIG:
			x86_vmx_ept_exit(cpu, VMX_EXIT_EPT_MISCONFIG, 0, a->gpa, a->lin, a->lin_valid);
		case EPT_PML_FULL:
			x86_vmx_ept_exit(cpu, VMX_EXIT_PML_FULL, 0, a->gpa, a->lin, a->lin_valid);
		default:
			x86_bus_error(cpu, w.pa);
		}
	}
	c->tag = a->gpa & PAGE_MASK;
	c->ep4ta = ep4ta;
	c->pa = w.pa & PAGE_MASK;
	c->perm = (u8)w.perm;
	c->dirty = w.dirty;
	*pa = w.pa;
	if (dirty_ok)
		*dirty_ok = w.dirty && (w.perm & X86_ACC_W);
	return true;
}

bool x86_mmu_is_apic_page(struct x86_cpu *cpu, u64 pa)
{
	return cpu->vmx.non_root && (cpu->vmx.proc2 & PROC2_VIRT_APIC_ACCESSES) &&
	       ((pa ^ x86_vmcs_get(cpu, VMCS_APIC_ACCESS_ADDR)) & PAGE_MASK) == 0;
}
