/* SPDX-License-Identifier: MIT */
/* What the files of mmu/ share: the walker's result, the TLB's records, physical accesses. */
#ifndef SILICON_X86_MMU_PRIV_H
#define SILICON_X86_MMU_PRIV_H

#include "silicon/x86/fault.h"
#include "silicon/x86/mmu/mem.h"

/* Kinds of access, numbered as in the EPT-violation qualification. */
#define X86_ACC_R 1u
#define X86_ACC_W 2u
#define X86_ACC_X 4u

/* #PF error code. */
#define PF_P BIT(0)
#define PF_W BIT(1)
#define PF_U BIT(2)
#define PF_RSVD BIT(3)
#define PF_ID BIT(4)
#define PF_PK BIT(5)
#define PF_RAISE (1u << 31)	/* "there is a fault": the code itself may be 0 */

/* Paging-structure entries. */
#define PTE_P BIT(0)
#define PTE_W BIT(1)
#define PTE_U BIT(2)
#define PTE_A BIT(5)
#define PTE_D BIT(6)
#define PTE_PS BIT(7)
#define PTE_G BIT(8)
#define PTE_XD BIT(63)

/* Widest address of process memory: root-mode page tables hold such. */
#define X86_PROCESS_BITS 48

/* ---- Walks: walk.c ---- */

#define X86_WALK_PROBE 1u	/* no A/D update, no unwinding: for x86_translate() */

struct x86_walk {
	u64 gpa;		/* of the byte; without EPT (or under a bus) the physical address */
	u64 pa;			/* of the byte after EPT */
	u8 page_shift;		/* of the guest's mapping: 12, 21, 22 or 30 */
	bool global;
	bool user;		/* U/S = 1 in every entry */
	bool writable;		/* a write needs no further walk: permitted, every D flag set */
	bool apic;		/* on the APIC-access page */
};

/*
 * Translate for an access of kind @acc (X86_ACC_*; R | W = read-modify-write)
 * made as @idx. Returns 0, or the #PF error code | PF_RAISE with no A or D flag
 * of the guest's changed. EPT exits and bus errors unwind unless @flags has
 * X86_WALK_PROBE; a probe leaves w->pa unset.
 */
u32 x86_walk(struct x86_cpu *cpu, u64 lin, unsigned acc, unsigned idx, unsigned flags,
	     struct x86_walk *w);

/* ---- EPT: ept.c ---- */

struct x86_ept_access {
	u64 gpa;
	u64 lin;
	u8 acc;			/* X86_ACC_* as reported in the qualification */
	bool lin_valid;
	bool final;		/* the translation of the linear address itself */
	bool user, writable, nx;	/* of the linear address by guest paging; if final */
	bool probe;		/* plain lookup: no flags, no exit */
};

/*
 * Guest-physical to simulated physical. @dirty_ok (may be NULL): a later write
 * needs no new walk. Returns false for a failed probe; exits otherwise.
 */
bool x86_ept_translate(struct x86_cpu *cpu, const struct x86_ept_access *a, u64 *pa, bool *dirty_ok);

/* Is @pa (after EPT) on the APIC-access page in force? */
bool x86_mmu_is_apic_page(struct x86_cpu *cpu, u64 pa);

static inline bool x86_ept_on(const struct x86_cpu *cpu)
{
	return cpu->vmx.non_root && cpu->vmx.eptp;
}

/* EPTP bit 6: accesses to guest paging structures count as writes. */
static inline bool x86_ept_ad(const struct x86_cpu *cpu)
{
	return cpu->vmx.eptp & BIT(6);
}

/* ---- Translations of single accesses: tlb.c ---- */

struct x86_xlat {
	u64 pa;			/* of the first byte */
	bool apic;
};
/* By TLB or walk; raises. */
void x86_xlat(struct x86_cpu *cpu, u64 lin, unsigned acc, unsigned idx, struct x86_xlat *x);
/* Where @size bytes at @lin may be stored, if all that is missing is that their page holds code; else NULL. */
void *x86_hit_code(struct x86_cpu *cpu, u64 lin, unsigned size);
void x86_xlat_fetch(struct x86_cpu *cpu, u64 lin, struct x86_xlat *x);

/* ---- struct x86_mmu ---- */

#define X86_CTX_MAX 4095u	/* ids 0..4094: with id 4095 the tag of the top page would be ~0 */
#define X86_CTX_SLOTS 64
#define X86_CTX_WAYS 4
#define X86_ITLB_SIZE 256
#define X86_GPA_TLB_SIZE 512
#define X86_WRITTEN 1024
#define X86_STRAYS 64

/* What a context id stands for. */
struct x86_ctx_key {
	u64 eptp;		/* EP4TA, 0 = none */
	u32 mode;		/* paging bits of CR0, CR4, EFER; X86_KEY_* of tlb.c */
	u32 pkru;		/* 0 unless protection keys are on */
	u16 vpid, pcid;
};

struct x86_ctx_slot {
	struct x86_ctx_key key;
	u16 ctx;		/* X86_CTX_MAX = free */
	u16 shared;		/* id of array KERNEL: the same in all of a group, or @ctx */
	u64 used;		/* m->switches at the last use */
	u64 group;		/* shared by the contexts that differ in PCID only: tag of global pages */
};

struct x86_itlbe {
	u64 tag;
	u64 pa;			/* of the page */
	u64 info;		/* as x86_tlb.info */
};

/* A guest-physical mapping. SDM "Information That May Be Cached" (EPT). */
struct x86_gpa_tlbe {
	u64 tag;		/* gpa page; ~0 = none */
	u64 ep4ta;
	u64 pa;
	u8 perm;		/* X86_ACC_*, bit 3: user-mode execute */
	bool dirty;
};

struct x86_mmu {
	struct x86_ctx_slot slots[X86_CTX_SLOTS];
	unsigned cur;			/* slot in force */
	u64 switches;
	unsigned next_ctx;
	u64 next_group;
	/* Entries of array KERNEL that have the shared id but are not global: good in context @stray_ctx only. */
	unsigned nr_strays;
	u16 stray_ctx, stray_shared;
	u32 stray[X86_STRAYS];
	u64 large_2m[64], large_1g;	/* filters: regions that large pages are cached of */
	/* Entries that got their write tag since all were dropped: idx << X86_TLB_BITS | index. */
	unsigned nr_written;		/* more than X86_WRITTEN: and others */
	u32 written[X86_WRITTEN];

	u64 watch[4];			/* pages with an enabled data breakpoint */
	unsigned nr_watch;

	struct x86_itlbe itlb[2][X86_ITLB_SIZE];	/* [user] */
	struct x86_gpa_tlbe gpa_tlb[X86_GPA_TLB_SIZE];

	bool in_epoch;			/* a walk holds an epoch section */
	struct x86_xlat rmw[2];		/* between x86_rmw_slow() and its end */
	u8 fetch[PAGE_SIZE];		/* bus: bytes last fetched */
};

/* ---- Physical accesses ---- */

_Noreturn void x86_bus_error(struct x86_cpu *cpu, u64 pa);
/* The bus declined: unwinds by its answer. */
_Noreturn void x86_bus_declined(struct x86_cpu *cpu, enum x86_bus_result r);

/*
 * No process has memory here (below the lowest mapping, above user space), so
 * that a host fault at such an address is a bug of ours and stays visible.
 */
static inline bool x86_no_memory(u64 pa)
{
	return pa - 0x10000 >= (1ull << 47) - 0x10000;
}

u32 x86_entry_load32(struct x86_cpu *cpu, u64 pa);
u64 x86_entry_load64(struct x86_cpu *cpu, u64 pa);
/* Locked compare and exchange of a 4- or 8-byte entry; false: somebody else changed it. */
bool x86_entry_cmpxchg(struct x86_cpu *cpu, u64 pa, u64 old, u64 val, unsigned size);

#endif
