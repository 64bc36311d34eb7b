/* SPDX-License-Identifier: MIT */
/*
 * Instructions that change what code may do: STI, CLAC and STAC, SWAPGS, SYSCALL and
 * SYSRET between 64-bit modes. Ways that software seldom takes are left to the handlers,
 * before anything has changed. A translation belongs to a TLB index, and CPL 1 and 2 are
 * not translated, so CPL and AC are known.
 */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/jit/cache.h"
#include "silicon/x86/jit/jit_priv.h"
#include "silicon/x86/model/model.h"

static bool kernel(const struct x86_jit_tr *t)
{
	return t->cpu->mmu_idx != X86_MMU_USER;
}

/* ---- STI ---- */

/*
 * Sets IF by instructions that keep the flags. An event is noticed behind the next
 * instruction, where the translation ends (translate.c). Only a handler called for that
 * instruction can tell that STI blocks interrupts until then: jit_call_c().
 */
static bool sti(struct x86_jit_tr *t)
{
	struct jit_asm *a = &t->a;

	if (!kernel(t) || t->sti || t->nr + 1 == t->block->nr_ops)
		return false;
	jit_mov_imm(a, JIT_RAX, ~(u32)RFLAGS_IF);
	jit_load(a, JIT_RCX, JIT_FIELD(rflags), 4);
	jit_store(a, JIT_RCX, JIT_FIELD(jit_sti_flags), 4);
	jit_pext(a, JIT_RCX, JIT_RCX, JIT_RAX);
	jit_pdep(a, JIT_RCX, JIT_RCX, JIT_RAX);
	jit_lea(a, JIT_RCX, jit_at(JIT_RCX, (s32)RFLAGS_IF), 4);
	jit_store(a, JIT_RCX, JIT_FIELD(rflags), 4);
	t->sti = t->nr + 1;
	return true;
}

/* ---- CLAC, STAC ---- */

/* The ring of calls (entry.c) leads to code of one index. */
static void set_mmu_idx(struct x86_jit_tr *t, unsigned idx)
{
	jit_load(&t->a, JIT_RSP, JIT_FIELD(ring_top), 8);
	jit_store_imm(&t->a, JIT_FIELD(mmu_idx), (s32)idx, 1);
	jit_lea(&t->a, JIT_RAX, jit_at(JIT_RBP, (s32)(offsetof(struct x86_cpu, tlbs) + idx * sizeof(t->cpu->tlbs[0]))), 8);
	jit_store(&t->a, JIT_RAX, JIT_FIELD(tlb), 8);
}

static bool set_ac(struct x86_jit_tr *t, bool ac)
{
	unsigned idx = ac ? X86_MMU_KERNEL_AC : X86_MMU_KERNEL;

	if (!kernel(t))
		return false;
	if (t->cpu->mmu_idx == idx)
		return true;
	jit_flags_settle(t);
	jit_load(&t->a, JIT_RAX, JIT_FIELD(rflags), 4);
	jit_lea(&t->a, JIT_RAX, jit_at(JIT_RAX, ac ? (s32)RFLAGS_AC : -(s32)RFLAGS_AC), 4);
	jit_store(&t->a, JIT_RAX, JIT_FIELD(rflags), 4);
	set_mmu_idx(t, idx);
	jit_exit_to_idx(t, jit_jmp(&t->a), t->next_rip, idx);
	t->ended = true;
	return true;
}

/* ---- SWAPGS ---- */

static bool swapgs(struct x86_jit_tr *t)
{
	struct jit_asm *a = &t->a;

	if (!kernel(t))
		return false;
	jit_load(a, JIT_RAX, JIT_FIELD(kernel_gs_base), 8);
	jit_load(a, JIT_RCX, JIT_FIELD(seg[X86_GS].base), 8);
	jit_store(a, JIT_RAX, JIT_FIELD(seg[X86_GS].base), 8);
	jit_store(a, JIT_RAX, JIT_FIELD(seg_base[X86_GS]), 8);
	jit_store(a, JIT_RCX, JIT_FIELD(kernel_gs_base), 8);
	return true;
}

/* ---- SYSCALL, SYSRET ---- */

#define FLAT_CODE 0xbu	/* readable, accessed */
#define FLAT_DATA 0x3u	/* writable, accessed */
#define SYSRET_FLAGS 0x3c7fd7ull

/* As seg_load_flat(); the selector is in @sel. */
static void load_flat(struct x86_jit_tr *t, unsigned seg, unsigned sel, unsigned type, unsigned dpl)
{
	u32 ar = type | X86_AR_S | dpl << X86_AR_DPL_SHIFT | X86_AR_P | X86_AR_G |
		 (seg == X86_CS ? X86_AR_L : X86_AR_DB);

	jit_store_imm(&t->a, JIT_FIELD(seg[seg].base), 0, 8);
	jit_store_imm(&t->a, JIT_FIELD(seg[seg].limit), -1, 4);
	jit_store_imm(&t->a, JIT_FIELD(seg[seg].ar), (s32)ar, 4);
	jit_store(&t->a, sel, JIT_FIELD(seg[seg].sel), 2);
}

static void set_cpl(struct x86_jit_tr *t, unsigned cpl)
{
	jit_store_imm(&t->a, JIT_FIELD(cpl), (s32)cpl, 1);
	set_mmu_idx(t, cpl ? X86_MMU_USER : X86_MMU_KERNEL);
}

/* To the address in RAX, under TLB index @idx. The flags are in cpu->jit_flags. */
static void go_to(struct x86_jit_tr *t, unsigned idx)
{
	s32 first = (s32)(idx * JIT_HASH_SIZE * 8);
	struct jit_asm *a = &t->a;
	u8 *hit;

	jit_op_rr(a, 0x0fb7, JIT_RCX, JIT_RAX, 4);		/* movzx ecx, ax */
	jit_alu_rm(a, JIT_CMP, JIT_RAX, jit_at_index(JIT_RBP, JIT_RCX, 3, first + JIT_TABLE(rip)), 8);
	hit = jit_jcc8(a, JIT_E);
	jit_store(a, JIT_RAX, JIT_FIELD(rip), 8);
	jit_jmp_to(a, t->door->exit[true]);
	jit_bind8(a, hit);
	jit_op_rm(a, 0xff, 4, jit_at_index(JIT_RBP, JIT_RCX, 3, first + JIT_TABLE(entry)), 4);
	t->ended = true;
}

static void test_field(struct x86_jit_tr *t, struct jit_mem field, u64 bits)
{
	jit_op_rm(&t->a, 0xf7, 0, field, 4);			/* test dword [..], imm32 */
	jit_32(&t->a, (u32)bits);
}

/* Performance counters that count at some levels only make an account at every change. */
static void only_if_no_counter_cares(struct x86_jit_tr *t)
{
	test_field(t, JIT_FIELD(pmu.by_level), 1);
	jit_slow_jcc(t, JIT_NE);
}

/* With a mask that clears AC and all arithmetic flags: what then holds needs no computing. */
static bool syscall(struct x86_jit_tr *t)
{
	static const u8 pushfq_pop_rax[] = { 0x9c, 0x58 };
	struct jit_asm *a = &t->a;

	if (kernel(t))
		return false;
	jit_flags_read(t);
	jit_writes(t, X86_RCX);
	jit_writes(t, X86_R11);
	/* Put aside, but still in EFLAGS. */
	jit_flags_lost(t);
	jit_bytes(a, pushfq_pop_rax, sizeof(pushfq_pop_rax));
	jit_alu_ri(a, JIT_AND, JIT_RAX, (s32)RFLAGS_ARITH, 4);
	jit_alu_rm(a, JIT_OR, JIT_RAX, JIT_FIELD(rflags), 4);
	test_field(t, JIT_FIELD(efer), EFER_SCE);
	jit_slow_jcc(t, JIT_E);
	only_if_no_counter_cares(t);
	jit_load(a, JIT_RCX, JIT_FIELD(fmask), 4);
	jit_op_rr(a, 0xf7, 2, JIT_RCX, 4);			/* not ecx */
	jit_test_ri(a, JIT_RCX, (u32)(RFLAGS_ARITH | RFLAGS_AC));
	jit_slow_jcc(t, JIT_NE);
	jit_def(t, X86_R11, JIT_RAX);
	jit_alu_rr(a, JIT_AND, JIT_RAX, JIT_RCX, 4);
	jit_alu_ri(a, JIT_OR, JIT_RAX, (s32)RFLAGS_1, 4);
	jit_store(a, JIT_RAX, JIT_FIELD(rflags), 8);
	jit_mov_imm(a, JIT_RAX, t->next_rip);
	jit_def(t, X86_RCX, JIT_RAX);
	jit_load(a, JIT_RCX, jit_at(JIT_RBP, (s32)offsetof(struct x86_cpu, star) + 4), 4);
	jit_alu_ri(a, JIT_AND, JIT_RCX, 0xfffc, 4);
	load_flat(t, X86_CS, JIT_RCX, FLAT_CODE, 0);
	jit_alu_ri(a, JIT_ADD, JIT_RCX, 8, 4);
	load_flat(t, X86_SS, JIT_RCX, FLAT_DATA, 0);
	set_cpl(t, 0);
	/* All six flags 0. */
	jit_store_imm(a, JIT_FIELD(jit_flags), 0, 2);
	jit_load(a, JIT_RAX, JIT_FIELD(lstar), 8);
	go_to(t, X86_MMU_KERNEL);
	return true;
}

/* To the lower half in 64-bit mode, with neither TF nor AC. */
static bool sysret(struct x86_jit_tr *t)
{
	struct jit_asm *a = &t->a;
	unsigned r11;

	if (t->cpu->mmu_idx != X86_MMU_KERNEL || !(t->op->flags & X86_OP_REXW) || x86_is_amd(t->cpu))
		return false;
	jit_flags_lost(t);
	test_field(t, JIT_FIELD(efer), EFER_SCE);
	jit_slow_jcc(t, JIT_E);
	only_if_no_counter_cares(t);
	jit_mov_rr(a, JIT_RAX, jit_use(t, X86_RCX, JIT_RAX));
	jit_op_rr(a, 0xc1, 5, JIT_RAX, 8);			/* shr rax, 47 */
	jit_8(a, 47);
	jit_slow_jcc(t, JIT_NE);
	r11 = jit_use(t, X86_R11, JIT_RCX);
	jit_op_rr(a, 0xf7, 0, r11, 4);				/* test r11d, imm32 */
	jit_32(a, (u32)(RFLAGS_TF | RFLAGS_AC));
	jit_slow_jcc(t, JIT_NE);

	jit_op_rr(a, 0x89, r11, JIT_RAX, 4);
	jit_alu_ri(a, JIT_AND, JIT_RAX, (s32)(SYSRET_FLAGS & ~RFLAGS_ARITH), 4);
	jit_alu_ri(a, JIT_OR, JIT_RAX, (s32)RFLAGS_1, 4);
	jit_store(a, JIT_RAX, JIT_FIELD(rflags), 8);
	/* The arithmetic flags as jit_asm_load_flags() has them. */
	jit_op_rr(a, 0x89, r11, JIT_RAX, 4);
	jit_store(a, JIT_RAX, jit_at(JIT_RBP, (s32)offsetof(struct x86_cpu, jit_flags) + 1), 1);
	jit_op_rr(a, 0xc1, 5, JIT_RAX, 4);			/* shr eax, 11 */
	jit_8(a, 11);
	jit_alu_ri(a, JIT_AND, JIT_RAX, 1, 4);
	jit_store(a, JIT_RAX, JIT_FIELD(jit_flags), 1);

	jit_op_rm(a, 0x0fb7, JIT_RCX, jit_at(JIT_RBP, (s32)offsetof(struct x86_cpu, star) + 6), 4);
	jit_lea(a, JIT_RAX, jit_at(JIT_RCX, 16), 4);
	jit_alu_ri(a, JIT_OR, JIT_RAX, 3, 4);
	load_flat(t, X86_CS, JIT_RAX, FLAT_CODE, 3);
	jit_alu_ri(a, JIT_ADD, JIT_RCX, 8, 4);
	jit_alu_ri(a, JIT_OR, JIT_RCX, 3, 4);
	load_flat(t, X86_SS, JIT_RCX, FLAT_DATA, 3);
	set_cpl(t, 3);
	jit_mov_rr(a, JIT_RAX, jit_use(t, X86_RCX, JIT_RAX));
	go_to(t, X86_MMU_USER);
	return true;
}

bool jit_emit_privilege(struct x86_jit_tr *t)
{
	x86_select_fn *sel = x86_insn_row(t->op->row)->select;

	if (t->op->fn == x86_op_ud || !t->op->row)
		return false;
	if (sel == x86_sel_sti)
		return sti(t);
	if (sel == x86_sel_clac || sel == x86_sel_stac)
		return set_ac(t, sel == x86_sel_stac);
	if (t->word != 8)
		return false;
	if (sel == x86_sel_swapgs)
		return swapgs(t);
	if (sel == x86_sel_syscall)
		return syscall(t);
	if (sel == x86_sel_sysret)
		return sysret(t);
	return false;
}
