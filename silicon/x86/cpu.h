/* SPDX-License-Identifier: MIT */
/*
 * struct x86_cpu: the whole state of one logical processor. Private to
 * silicon/x86.
 *
 * Invariant: between instructions every architectural register is in this
 * struct and exact. An instruction that faults has changed nothing except
 * where the manual says so: a handler makes all accesses that can fault
 * before it writes a register. Faults and VM exits leave a handler by longjmp
 * to the run loop (fault.h), so a handler holds no lock and owns no memory.
 */
#ifndef SILICON_X86_CPU_H
#define SILICON_X86_CPU_H

#include <setjmp.h>
#include <stdatomic.h>

#include "base/bits.h"
#include "base/types.h"
#include "silicon/x86.h"
#include "silicon/x86_regs.h"
#include "silicon/x86_emul.h"
#include "silicon/x86/sys/pmu.h"
#include "silicon/x86/vmx/vmx_state.h"

/* Register-file slots beyond the GPRs, so that address forms need no branch. */
#define X86_REG_ZERO 16		/* always 0: no base, no index */
#define X86_REG_NEXT_RIP 17	/* RIP of the next instruction: RIP-relative base */
#define X86_NR_REGSLOTS 18

/* CPUID words that carry feature bits; see spec/x86/feature.def. */
enum x86_feat_word {
	X86_W_1C, X86_W_1D, X86_W_6A, X86_W_7B, X86_W_7C, X86_W_7D, X86_W_7A1, X86_W_AA, X86_W_DA1,
	X86_W_X1C, X86_W_X1D, X86_W_X7D, X86_W_X8B, X86_NR_FEAT_WORDS
};
enum x86_feat {
#define FEAT(name, word, bit, intel, amd) X86_FEAT_##name = X86_W_##word * 32 + (bit),
#include "spec/x86/feature.def"
#undef FEAT
	X86_FEAT_NONE = 0xffff	/* ungated */
};

/* What code at CS:RIP means; part of the key of decoded blocks. */
enum x86_mode {
	X86_MODE_REAL,		/* CR0.PE = 0; 16-bit default unless CS.D (big real) */
	X86_MODE_VM86,
	X86_MODE_PROT,		/* legacy protected mode */
	X86_MODE_COMPAT,	/* LMA = 1, CS.L = 0 */
	X86_MODE_64,
};

/*
 * The code that is translated, by what translations rely on beside the TLB array: 64-bit mode; and
 * 32-bit code in which CS, SS and DS are flat, readable and (SS, DS) writable segments of 4 GiB with
 * base 0, in compatibility and in protected mode. All other code is interpreted.
 */
enum x86_jit_mode { X86_JIT_64, X86_JIT_COMPAT, X86_JIT_PROT, X86_NR_JIT_MODES, X86_JIT_NONE = X86_NR_JIT_MODES };

/* Which of the TLB arrays applies: fixed by CPL, AC and CR0/CR4, see x86_update_mode(). */
enum x86_mmu_idx {
	X86_MMU_KERNEL,		/* CPL 0-2 with AC = 0, and every implicit supervisor access */
	X86_MMU_KERNEL_AC,	/* CPL 0-2 with AC = 1: SMAP suspended */
	X86_MMU_USER,		/* CPL 3 */
	X86_NR_MMU_IDX,
	/* Always misses: alignment checks on (CPL 3, CR0.AM, AC). Walks as USER. */
	X86_MMU_USER_ALIGN = X86_NR_MMU_IDX,
	X86_NR_TLBS
};

/*
 * A TLB. Entry n of each array belongs together; pages go by bits 27:12 of the address. A
 * tag is linear page address + cpu->tlb_ctx_page, where the context id stands for (VPID,
 * PCID, EPTP, paging mode), in X86_MMU_KERNEL perhaps for all PCIDs of these (mmu/tlb.c):
 * with not more ids than entries the sum is unique in its place,
 * so that translated code can subtract tag and context from an address and is left with
 * the offset in the page exactly if the entry is the right one. So many entries need no
 * mask to find the index (16 bits are an operand size), and only those in use take memory;
 * neighbours share cache lines.
 * The write tag is absent while a write must take the slow path: D bit clear, page holds
 * decoded code, data breakpoint near, PML.
 */
#define X86_TLB_BITS 16
#define X86_TLB_SIZE (1u << X86_TLB_BITS)
#define X86_TLB_PAD 24			/* the words of one entry are not in one set of the host's cache */
struct x86_tlb {
	u64 rtag[X86_TLB_SIZE + X86_TLB_PAD];
	u64 wtag[X86_TLB_SIZE + X86_TLB_PAD];
	u64 addend[X86_TLB_SIZE + X86_TLB_PAD];	/* process address - linear address */
	u64 info[X86_TLB_SIZE];			/* mmu/ only; 0 = none */
};

/* struct x86_tlb.info: the translation permits writes, though the write tag may be absent. */
#define X86_TLB_INFO_W BIT(0)

/* Granules of memory by which code is told from data on its page: decode/codepage.h. */
#define X86_GRANULE_SHIFT 7
#define X86_GRAINS 256

typedef struct { u64 mant; u16 exp; u8 pad[6]; } x86_f80_t;	/* as in FXSAVE slots */

struct x86_ymm { _Alignas(32) union { u8 b[32]; u16 w[16]; u32 d[8]; u64 q[4]; float f[8]; double lf[4]; }; };

struct x86_fpu {
	struct x86_ymm ymm[16];
	x86_f80_t st[8];	/* physical register i at st[i]; ST(n) = st[(top + n) & 7] */
	u16 fcw, fsw;		/* fsw with TOP in 13:11 */
	u8 ftw;			/* abridged: bit i = physical register i is not empty */
	u16 fop;
	u64 fip, fdp;
	u32 mxcsr;
};

/* Why ordinary block execution must stop: bits of cpu->events (any thread sets). */
enum x86_event {
	X86_EV_INTR = 1 << 0,		/* physical local APIC has something pending */
	X86_EV_NMI = 1 << 1,
	X86_EV_INIT = 1 << 2,
	X86_EV_SIPI = 1 << 3,
	X86_EV_SMI = 1 << 4,
	X86_EV_CODE_PAGE = 1 << 5,	/* drop write tags: a page got decoded elsewhere */
	X86_EV_STOP = 1 << 6,		/* leave x86_run() */
	X86_EV_TIMER = 1 << 7,		/* VMX: look at timer, windows, virtual interrupts between blocks */
	X86_EV_JIT = 1 << 8,		/* code that may be translated here was stored to elsewhere */
	X86_EV_PMU = 1 << 9,		/* a counter of cycles may overflow: x86_pmu_boundary() */
};
/* Own-thread reasons to leave the fast path: bits of cpu->slow. */
enum x86_slow {
	X86_SLOW_TF = 1 << 0,		/* RFLAGS.TF */
	X86_SLOW_RF = 1 << 1,		/* RFLAGS.RF */
	X86_SLOW_SHADOW_STI = 1 << 2,
	X86_SLOW_SHADOW_SS = 1 << 3,
	X86_SLOW_DB_PENDING = 1 << 4,	/* pending debug exceptions (cpu->pending_db) */
	X86_SLOW_IBP = 1 << 5,		/* an enabled instruction breakpoint exists */
	X86_SLOW_MTF = 1 << 8,
	X86_SLOW_VMX_TRAP = 1 << 9,	/* x86_vmx_boundary_high() has work: injection, APIC write, ... */
	X86_SLOW_HALTED = 1 << 11,	/* activity state is not active */
	X86_SLOW_PMU = 1 << 12,		/* what is counted has changed: x86_pmu_boundary() */
	X86_SLOW_CODE = 1 << 14,	/* a store hit the block in execution: look up again */
	/*
	 * The low four bits as they were when the present instruction started:
	 * set by x86_boundary(), consumed by x86_after_insn().
	 */
	X86_SLOW_START_SHIFT = 16,
	X86_SLOW_START = 0xf << 16,
};

/* What the ticker raises: X86_EV_TIMER, X86_EV_PMU. */
enum x86_tick { X86_TICK_VMX, X86_TICK_PMU, X86_NR_TICKS };

enum x86_activity { X86_ACT_ACTIVE, X86_ACT_HLT, X86_ACT_SHUTDOWN, X86_ACT_WAIT_SIPI };

struct x86_op;
struct x86_block;
struct x86_decode;	/* decode/: this processor's blocks */
struct x86_jit;		/* jit/: its translations */
struct x86_jit_link;
struct x86_dry;

struct x86_cpu {
	/* ---- hot: every instruction ---- */
	u64 gpr[X86_NR_REGSLOTS];
	u64 rip;			/* of the current instruction */
	u64 cc_z, cc_s, cc_c;		/* arithmetic flags, see flags.h */
	u64 rflags;			/* all others; arithmetic bits are 0, bit 1 is 1 */
	_Atomic u32 events;		/* enum x86_event */
	u32 slow;			/* enum x86_slow */
	u64 seg_base[X86_NR_SREGS];	/* effective: 0 for ES CS SS DS in 64-bit mode */
	u64 lin_mask;			/* ~0 in 64-bit mode, else ffffffff */
	u64 ip_mask;			/* ~0, ffffffff or ffff by CS */
	u64 sp_mask;			/* by mode and SS.B */
	/* Eight bytes that decode/ also reads as one word, to tag its jump cache. */
	union {
		struct {
			u8 seg_read_ok, seg_write_ok;	/* bit n: Sreg n needs no limit/type check (flat or 64-bit) */
			u8 mmu_idx;		/* enum x86_mmu_idx */
			u8 cpl;
			u8 mode;		/* enum x86_mode */
			u8 code_size;		/* default operand size of CS: 2, 4; 64-bit mode: 8 */
			u16 tlb_ctx;		/* 0..4095, of the current address space */
		};
		u64 mode_word;
	};
	struct x86_tlb *tlb;		/* = &tlbs[mmu_idx] */
	u64 tlb_ctx_page[X86_NR_TLBS];	/* context id of each << PAGE_SHIFT: tlb_ctx, or a shared one */
	const struct x86_op *op;	/* in execution, NULL between blocks: set by the run loop */
	const struct x86_op *op_first;	/* first of its block */
	u64 insn_count;			/* completed instructions (REP counts one each time it leaves) */
	u64 insn_partial;		/* of those, REPs that left with iterations to do */
	u64 branch_count;		/* completed branches; both only while insn_limit is not ~0 */
	u64 insn_limit;			/* look around when insn_count reaches it; ~0: nobody needs to know */
	u64 run_limit;			/* of x86_run(); ~0: none */

	/* ---- translated code: jit/ ---- */
	struct x86_jit *jit;		/* NULL: interpreted only, or not needed so far */
	u8 engine;			/* enum x86_engine */
	u8 jit_mode;			/* enum x86_jit_mode */
	_Atomic u32 calm;		/* 0: translated code is to be left, see x86_post() */
	const u8 *_Atomic jit_pages;	/* by page id: may it be entered? Of the context whose code is executed, or none */
	u64 host_sp, ring_top;		/* of translated code: jit/entry.c */
	struct x86_jit_link *jit_link;	/* the jump by which translated code was left, if it may be linked */
	u64 jit_tmp;			/* inside one instruction */
	u32 jit_sti_flags;		/* RFLAGS before STI, for the instruction behind it */
	u32 jit_left;			/* instructions of the last block that were executed */
	/* Vector and x87 state is in the host's registers: jit/vec.c, jit/x87.c. Read as one word. */
	u8 vec_live, vec_live_avx, x87_live, vec_pad;
	u16 jit_flags;			/* arithmetic flags, see jit/entry.c */
	u8 jit_no_carry;		/* inside a block: not CF, see jit/flags.c */
	u32 jit_host_mxcsr;		/* meanwhile */
	struct x86_dry *dry;		/* not NULL in a dry run: mmu/dry.h */
	_Atomic u64 tick[X86_NR_TICKS];	/* jit/ticker.c: host TSC of their next events, 0 = none */

	/* ---- segments, tables, control ---- */
	struct x86_segment seg[X86_NR_SEGS];
	struct x86_dtable gdtr, idtr;
	u64 cr0, cr2, cr3, cr4;
	u64 efer;
	u64 pdpte[4];
	u64 dr[4], dr6, dr7;
	u64 xcr0, xss;
	u32 pkru;
	u64 pending_db;			/* VMCS pending-debug format */
	u64 start_rip;			/* of the instruction that x86_boundary() let start, if TF */
	bool nmi_blocked;
	u8 activity;			/* enum x86_activity */
	_Atomic bool asleep;		/* in the guest, halted: x86_post() must wake it */

	/* ---- MSRs with storage of their own (sys/msr.c has the table) ---- */
	u64 star, lstar, cstar, fmask, kernel_gs_base;
	u32 sysenter_cs;
	u64 sysenter_esp, sysenter_eip;
	u64 tsc_aux, tsc_offset, tsc_adjust;
	u64 pat, mtrr_def_type, mtrr_fixed[11], mtrr_var[16];
	u64 misc_enable, misc_features, feature_control, spec_ctrl, debugctl;
	u64 apic_base;
	u64 mcg_status, mcg_ctl, mc_bank[4 * 32];
	u64 mperf, aperf;
	u64 hwcr, syscfg;	/* AMD */

	struct x86_fpu fpu;

	struct x86_pmu pmu;

	/* ---- the physical local APIC: what root-mode software needs of it ---- */
	u32 apic_id;
	_Atomic u64 irr[4];
	u8 tpr;				/* CR8 << 4 */

	/* ---- VT-x ---- */
	struct x86_vmx vmx;

	/* ---- faults and exits out of handlers: fault.h ---- */
	sigjmp_buf *unwind;
	struct {
		u8 kind;		/* enum x86_unwind */
		u8 vector, type;	/* exceptions: type as in VMCS interruption info */
		bool has_error;
		u32 error;
		u64 payload;		/* #PF: CR2; #DB: DR6 bits; bus error: spa */
	} fault;
	u8 delivering;			/* an event is being delivered: 0 or 1 + its class */
	u32 idt_vectoring;		/* of that event, VMCS format; 0 = none */
	u32 idt_vectoring_error;

	/* ---- memory ---- */
	/*
	 * By bits of the address: granules of code pages that may be stored to at once, as nothing
	 * was ever decoded there; others have how often they were stored to in the low bits.
	 */
	u64 grain[X86_GRAINS];
	struct x86_tlb tlbs[X86_NR_TLBS];
	struct x86_mmu *mmu;		/* mmu/: contexts, walk caches */
	struct x86_decode *decode;
	const struct x86_bus_ops *bus;	/* NULL: physical address = process address */
	void *bus_ctx;
	volatile bool in_access;	/* a host fault now belongs to us */

	const struct x86_model *model;
	u32 feat[X86_NR_FEAT_WORDS];
	u8 physbits, linbits;
	struct x86_cpu *next_cpu;	/* machine-wide list */
	_Atomic bool running;		/* inside a run loop */
	_Atomic u64 code_epoch;		/* code-page handshakes served: decode/codepage.c */
};

static inline bool x86_has(const struct x86_cpu *cpu, enum x86_feat f)
{
	return f == X86_FEAT_NONE || (cpu->feat[f / 32] >> (f % 32) & 1);
}

static inline bool x86_lma(const struct x86_cpu *cpu)
{
	return cpu->efer & EFER_LMA;
}

static inline bool x86_paging(const struct x86_cpu *cpu)
{
	return cpu->cr0 & CR0_PG;
}

static inline bool x86_in_64(const struct x86_cpu *cpu)
{
	return cpu->mode == X86_MODE_64;
}

/* Protected mode proper: not real, not virtual-8086. */
static inline bool x86_prot(const struct x86_cpu *cpu)
{
	return cpu->mode >= X86_MODE_PROT;
}

/* In VMX non-root operation. */
static inline bool x86_guest(const struct x86_cpu *cpu)
{
	return cpu->vmx.non_root;
}

/*
 * Set bits of cpu->events, for another thread's processor, which wakes if it is halted in the
 * guest, or one's own. Any thread, signal handlers.
 *
 * Translated code polls cpu->calm, which is not 0 while nothing is pending. Its owner sets it,
 * then looks at the events, and clears it again if there are any (jit_enter()); everybody else
 * only ever clears it, after the event is there. No event is lost: all four accesses are in
 * one order, so either the owner's look sees the event, or it came before, and then the
 * owner's 1 came before the 0 here. Being late, that 0 may stay behind when the event has been
 * served already; it costs one way out and back. The same holds for cpu->jit_pages, where no page
 * may be entered then: who looks there need not poll.
 */
void x86_post(struct x86_cpu *cpu, u32 events);

/*
 * Recompute what is derived from CR0, CR4, EFER, segments, RFLAGS.VM/AC and
 * CPL: mode, sizes, masks, effective bases, TLB index. To be called after any
 * of them changed, before the next access. Does not flush TLBs.
 */
void x86_update_mode(struct x86_cpu *cpu);

/* Canonical by the current width (CR4.LA57) / by the widest that the model has. */
static inline bool x86_canonical(const struct x86_cpu *cpu, u64 a)
{
	unsigned w = cpu->cr4 & CR4_LA57 ? 57 : 48;

	return (u64)sign_extend(a, w) == a;
}

static inline bool x86_canonical_max(const struct x86_cpu *cpu, u64 a)
{
	return (u64)sign_extend(a, cpu->linbits) == a;
}

#endif
