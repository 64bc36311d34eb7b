/* SPDX-License-Identifier: MIT */
/*
 * Stores to data on pages that hold code. Their entry in the TLB has no write tag, so the
 * check in front of the access fails; cold code then looks whether the operand lies in a
 * granule where nothing was ever decoded (cpu->grain, decode/codepage.c), and goes back
 * behind the check. Only if it does not is the handler called.
 *
 * A stub for each TLB index and size: RAX = index of the entry, RCX as the check has left it
 * (address - write tag + context), neither changes; ZF = such an operand. Flags are clobbered.
 */
#include "silicon/x86/jit/cache.h"

#define TLB(idx, array) \
	jit_at_index(JIT_RBP, JIT_RAX, 3, (s32)(offsetof(struct x86_cpu, tlbs[0].array) + (idx) * sizeof(struct x86_tlb)))

static void stub(struct jit_asm *a, unsigned idx, unsigned size)
{
	u8 *no[3];

	jit_push(a, JIT_RDX);
	jit_push(a, JIT_RCX);
	jit_push(a, JIT_RAX);
	jit_alu_rm(a, JIT_ADD, JIT_RCX, TLB(idx, wtag), 8);
	/* The entry of this page, and may it be written to? */
	jit_mov_rr(a, JIT_RDX, JIT_RCX);
	jit_alu_rm(a, JIT_SUB, JIT_RDX, TLB(idx, rtag), 8);
	jit_alu_ri(a, JIT_CMP, JIT_RDX, PAGE_SIZE - 1, 8);
	no[0] = jit_jcc8(a, JIT_A);
	jit_op_rm(a, 0xf6, 0, TLB(idx, info), 1);		/* test byte [..], imm8 */
	jit_8(a, X86_TLB_INFO_W);
	no[1] = jit_jcc8(a, JIT_E);
	jit_alu_rm(a, JIT_SUB, JIT_RCX, jit_at(JIT_RBP, (s32)(offsetof(struct x86_cpu, tlb_ctx_page) + idx * 8)), 8);
	jit_alu_rm(a, JIT_ADD, JIT_RCX, TLB(idx, addend), 8);
	jit_op_rr(a, 0x89, JIT_RCX, JIT_RDX, 4);
	jit_alu_ri(a, JIT_AND, JIT_RDX, (1 << X86_GRANULE_SHIFT) - 1, 4);
	jit_alu_ri(a, JIT_CMP, JIT_RDX, (1 << X86_GRANULE_SHIFT) - (s32)size, 4);
	no[2] = jit_jcc8(a, JIT_A);
	jit_rorx(a, JIT_RDX, JIT_RCX, X86_GRANULE_SHIFT, 4);
	_Static_assert(X86_GRAINS == 256, "MOVZX");
	jit_op_rr(a, 0x0fb6, JIT_RDX, JIT_RDX, 4);		/* movzx edx, dl */
	jit_alu_ri(a, JIT_AND, JIT_RCX, -(1 << X86_GRANULE_SHIFT), 8);
	jit_alu_rm(a, JIT_CMP, JIT_RCX,
		   jit_at_index(JIT_RBP, JIT_RDX, 3, (s32)offsetof(struct x86_cpu, grain)), 8);
	jit_bind8(a, no[0]);
	jit_bind8(a, no[2]);
	jit_pop(a, JIT_RAX);
	jit_pop(a, JIT_RCX);
	jit_pop(a, JIT_RDX);
	jit_8(a, 0xc3);
	/* Any value with ZF clear. */
	jit_bind8(a, no[1]);
	jit_op_rr(a, 0x85, JIT_RSP, JIT_RSP, 8);
	jit_pop(a, JIT_RAX);
	jit_pop(a, JIT_RCX);
	jit_pop(a, JIT_RDX);
	jit_8(a, 0xc3);
}

void jit_grain_stubs(struct x86_jit *j, struct jit_asm *a)
{
	for (unsigned idx = 0; idx < X86_NR_MMU_IDX; idx++)
		for (unsigned i = 0; i < JIT_GRAIN_SIZES; i++) {
			j->grain[idx][i] = jit_here(a);
			stub(a, idx, 1u << i);
		}
}

void jit_grain_allow(struct x86_jit_tr *t, unsigned size)
{
	if (!(size & (size - 1)) && size < 1u << JIT_GRAIN_SIZES)
		t->cold[t->nr_cold - 1].grain = (u8)size;
}

void jit_grain_refuse(struct x86_jit_tr *t)
{
	t->cold[t->nr_cold - 1].grain = 0;
}

void jit_grain_look(struct x86_jit_tr *t, const struct jit_cold *c)
{
	const struct x86_jit *j = t->cpu->jit;
	u8 *back;

	jit_call_to(&t->a, j->grain[t->cpu->mmu_idx][__builtin_ctz(c->grain)]);
	back = jit_jcc(&t->a, JIT_E);
	jit_bind_to(back, c->from + 4);
}
