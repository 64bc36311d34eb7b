/* SPDX-License-Identifier: MIT */
/*
 * Instructions of kernels that touch little beside RFLAGS: PUSHF, CLI, PAUSE, RDTSC and RDTSCP,
 * bases of FS and GS, RDPKRU; CMPXCHG16B, and bit strings in memory. What privilege or a
 * VM-execution control forbids is left to the handlers.
 */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/jit/jit_priv.h"
#include "silicon/x86/vmx/vmcs.h"

static void imm32(struct x86_jit_tr *t, u32 v)
{
	jit_32(&t->a, v);
}

/* ---- RFLAGS ---- */

/* RFLAGS.RF and VM, which the image does not have, are 0 wherever translations run. */
static bool pushf(struct x86_jit_tr *t)
{
	static const u8 pushfq_pop_rax[] = { 0x9c, 0x58 };
	unsigned rsp = (unsigned)jit_home(X86_RSP);

	if (t->op->osize != t->word)
		return false;
	jit_mem_at(t, X86_SS, X86_RSP, -(s32)t->word, t->word, true);
	jit_flags_read(t);
	/* Put aside, but still in EFLAGS. */
	jit_flags_lost(t);
	jit_bytes(&t->a, pushfq_pop_rax, sizeof(pushfq_pop_rax));
	jit_alu_ri(&t->a, JIT_AND, JIT_RAX, RFLAGS_ARITH, 4);
	jit_alu_rm(&t->a, JIT_OR, JIT_RAX, JIT_FIELD(rflags), 8);
	jit_store(&t->a, JIT_RAX, jit_at(JIT_RCX, 0), t->word);
	jit_moves(t, X86_RSP, -(s32)t->word);
	jit_lea(&t->a, rsp, jit_at(rsp, -(s32)t->word), t->word);
	return true;
}

/* CPL 0 is always allowed to. */
static bool cli(struct x86_jit_tr *t)
{
	jit_flags_lost(t);
	jit_op_rm(&t->a, 0x80, 7, JIT_FIELD(cpl), 1);		/* cmp byte [..], 0 */
	jit_8(&t->a, 0);
	jit_slow_jcc(t, JIT_NE);
	jit_op_rm(&t->a, 0x81, JIT_AND, JIT_FIELD(rflags), 4);
	imm32(t, ~(u32)RFLAGS_IF);
	return true;
}

/* ---- PAUSE ---- */

/* Loops are detected, by the handler, at CPL 0 only. Controls of before matter in root mode as
 * little as the handler does. */
static bool pause_hint(struct x86_jit_tr *t)
{
	static const u8 insn[2] = {0xf3, 0x90};
	struct jit_asm *a = &t->a;

	jit_flags_lost(t);
	jit_op_rm(a, 0xf7, 0, JIT_FIELD(vmx.proc), 4); /* test dword [..], imm32 */
	imm32(t, PROC_PAUSE_EXITING);
	jit_slow_jcc(t, JIT_NE);
	if (t->cpu->mmu_idx != X86_MMU_USER) {
		jit_op_rm(a, 0xf7, 0, JIT_FIELD(vmx.proc2), 4);
		imm32(t, PROC2_PAUSE_LOOP_EXITING);
		jit_slow_jcc(t, JIT_NE);
	}
	jit_bytes(a, insn, sizeof(insn));
	return true;
}

/* ---- The time-stamp counter ---- */

/* In VMX non-root operation without exits and scaling, which is where guests are. */
static bool rdtsc(struct x86_jit_tr *t, bool p)
{
	static const u8 insn[2] = { 0x0f, 0x31 }, insn_p[3] = { 0x0f, 0x01, 0xf9 };
	struct jit_asm *a = &t->a;

	if (jit_home(X86_RDX) != JIT_RDX)
		return false;
	jit_writes(t, X86_RAX);
	jit_writes(t, X86_RDX);
	if (p)
		jit_writes(t, X86_RCX);
	jit_flags_lost(t);
	jit_op_rm(a, 0xf7, 0, JIT_FIELD(cr4), 4);		/* test dword [..], imm32 */
	imm32(t, CR4_TSD);
	jit_slow_jcc(t, JIT_NE);
	jit_op_rm(a, 0x80, 7, JIT_FIELD(vmx.non_root), 1);
	jit_8(a, 0);
	jit_slow_jcc(t, JIT_E);
	jit_op_rm(a, 0xf7, 0, JIT_FIELD(vmx.proc), 4);
	imm32(t, PROC_RDTSC_EXITING);
	jit_slow_jcc(t, JIT_NE);
	if (p) {
		jit_op_rm(a, 0xf7, 0, JIT_FIELD(vmx.proc2), 4);
		imm32(t, PROC2_RDTSCP);
		jit_slow_jcc(t, JIT_E);
	}
	jit_op_rm(a, 0x83, 7, JIT_FIELD(vmx.tsc_mult), 8);	/* cmp qword [..], 0 */
	jit_8(a, 0);
	jit_slow_jcc(t, JIT_NE);
	if (p)
		jit_bytes(&t->a, insn_p, sizeof(insn_p));
	else
		jit_bytes(&t->a, insn, sizeof(insn));
	jit_op_rr(a, 0xc1, 4, JIT_RDX, 8);			/* shl rdx, 32 */
	jit_8(a, 32);
	jit_alu_rr(a, JIT_OR, JIT_RDX, JIT_RAX, 8);
	jit_alu_rm(a, JIT_ADD, JIT_RDX, JIT_FIELD(tsc_offset), 8);
	jit_alu_rm(a, JIT_ADD, JIT_RDX, JIT_FIELD(vmx.tsc_offset), 8);
	jit_op_rr(a, 0x89, JIT_RDX, JIT_RAX, 4);		/* mov eax, edx */
	jit_op_rr(a, 0xc1, 5, JIT_RDX, 8);			/* shr rdx, 32 */
	jit_8(a, 32);
	jit_def(t, X86_RAX, JIT_RAX);
	if (p) {
		jit_load(a, JIT_RCX, JIT_FIELD(tsc_aux), 4);
		jit_def(t, X86_RCX, JIT_RCX);
	}
	return true;
}

/* ---- Bases of FS and GS, protection keys ---- */

static void need_cr4(struct x86_jit_tr *t, u32 bit)
{
	jit_flags_lost(t);
	jit_op_rm(&t->a, 0xf7, 0, JIT_FIELD(cr4), 4); /* test dword [..], imm32 */
	imm32(t, bit);
	jit_slow_jcc(t, JIT_E);
}

static bool read_base(struct x86_jit_tr *t, unsigned seg)
{
	unsigned r = t->op->rm;

	jit_writes(t, r);
	need_cr4(t, CR4_FSGSBASE);
	jit_load(&t->a, JIT_RAX, JIT_FIELD(seg[seg].base), t->op->osize);
	jit_def(t, r, JIT_RAX);
	return true;
}

/* An address that is canonical in 57 bits only, or not at all, is the handler's. */
static bool write_base(struct x86_jit_tr *t, unsigned seg)
{
	struct jit_asm *a = &t->a;

	need_cr4(t, CR4_FSGSBASE);
	jit_op_rr(a, 0x89, jit_use(t, t->op->rm, JIT_RCX), JIT_RCX, t->op->osize);
	jit_mov_rr(a, JIT_RAX, JIT_RCX);
	jit_op_rr(a, 0xc1, 7, JIT_RAX, 8); /* sar rax, 47 */
	jit_8(a, 47);
	jit_alu_ri(a, JIT_ADD, JIT_RAX, 1, 8);
	jit_alu_ri(a, JIT_CMP, JIT_RAX, 1, 8);
	jit_slow_jcc(t, JIT_A);
	jit_store(a, JIT_RCX, JIT_FIELD(seg[seg].base), 8);
	jit_store(a, JIT_RCX, JIT_FIELD(seg_base[seg]), 8);
	return true;
}

static bool rdpkru(struct x86_jit_tr *t)
{
	unsigned count = (unsigned)jit_home(X86_RCX);

	jit_writes(t, X86_RAX);
	jit_writes(t, X86_RDX);
	need_cr4(t, CR4_PKE);
	jit_op_rr(&t->a, 0x85, count, count, 4);
	jit_slow_jcc(t, JIT_NE);
	jit_load(&t->a, JIT_RAX, JIT_FIELD(pkru), 4);
	jit_def(t, X86_RAX, JIT_RAX);
	jit_mov_imm(&t->a, JIT_RAX, 0);
	jit_def(t, X86_RDX, JIT_RAX);
	return true;
}

/* ---- CMPXCHG16B ---- */

/*
 * All of RAX, RCX and RDX is taken: the address is where RCX is at home otherwise, and a host
 * fault puts that back before the handler is called.
 */
static bool cmpxchg16b(struct x86_jit_tr *t)
{
	unsigned home = (unsigned)jit_home(X86_RCX);
	struct jit_asm *a = &t->a;
	u32 begin;
	u8 *over;

	if (!(t->op->flags & X86_OP_MEM) || jit_home(X86_RDX) != JIT_RDX ||
	    jit_home(X86_RBX) != JIT_RBX)
		return false;
	jit_mem(t, 16, true);
	jit_test_ri(a, JIT_RCX, 15);
	jit_slow_jcc(t, JIT_NE);
	jit_writes(t, X86_RAX);
	jit_writes(t, X86_RDX);
	jit_flags_read(t);
	jit_op_rr(a, 0x87, JIT_RCX, home, 8); /* xchg */
	jit_mov_rr(a, JIT_RAX, jit_use(t, X86_RAX, JIT_RAX));
	begin = (u32)(a->p - t->start);
	jit_room(a);
	jit_8(a, 0xf0);
	jit_op_rm(a, 0x0fc7, 1, jit_at(home, 0), 8);
	jit_mov_rr(a, home, JIT_RCX);
	jit_room(a);
	jit_8(a, 0xeb); /* jmp short */
	over = a->p;
	jit_8(a, 0);
	t->nr_access = t->first_access;
	t->access[t->nr_access++] = (struct jit_access){
		.begin = begin,
		.slow = (u32)(a->p - t->start),
		.cold = JIT_OWN_LANDING,
	};
	jit_mov_rr(a, home, JIT_RCX);
	jit_slow_jmp(t);
	jit_bind8(a, over);
	jit_def(t, X86_RAX, JIT_RAX);
	jit_flags_set(t);
	return true;
}

/* ---- Bit strings ---- */

/*
 * BT and its kin with memory and a register: the register's upper bits, signed, choose
 * the operand, the lower ones its bit. Only CF changes.
 */
static bool bit_string(struct x86_jit_tr *t)
{
	const struct x86_op *op = t->op;
	struct jit_insn in = t->in;
	unsigned size = op->osize, shift = size == 8 ? 6 : 5, reg = in.reg;
	struct jit_asm *a = &t->a;

	if (size < 4 || op->asize != t->word)
		return false;
	jit_flags_lost(t);
	jit_ea(t);
	jit_mov_rr(a, JIT_RAX, jit_use(t, reg, JIT_RAX));
	if (size == 4)
		jit_op_rr(a, 0x63, JIT_RAX, JIT_RAX, 8);	/* movsxd rax, eax */
	jit_op_rr(a, 0xc1, 7, JIT_RAX, 8);			/* sar rax, shift */
	jit_8(a, shift);
	jit_lea(a, JIT_RCX, jit_at_index(JIT_RCX, JIT_RAX, size == 8 ? 3 : 2, 0), t->word);
	jit_mem_ea(t, size, in.opcode != 0xa3);
	/* The bit inside the operand, past the flags, which want RAX. */
	jit_mov_rr(a, JIT_RAX, jit_use(t, reg, JIT_RAX));
	jit_alu_ri(a, JIT_AND, JIT_RAX, (s32)size * 8 - 1, 4);
	jit_store(a, JIT_RAX, JIT_FIELD(jit_tmp), 4);
	jit_flags_read(t);
	jit_load(a, JIT_RAX, JIT_FIELD(jit_tmp), 4);
	in.reg = JIT_RAX;
	jit_mem_base(&in, JIT_RCX, 0);
	jit_put(t, &in);
	jit_flags_set(t);
	return true;
}

bool jit_emit_system(struct x86_jit_tr *t)
{
	x86_select_fn *sel;

	if (t->op->fn == x86_op_ud || !t->op->row)
		return false;
	sel = x86_insn_row(t->op->row)->select;
	if (sel == x86_sel_pushf)
		return pushf(t);
	if (sel == x86_sel_cli)
		return cli(t);
	if (sel == x86_sel_pause)
		return pause_hint(t);
	if (sel == x86_sel_rdtsc || sel == x86_sel_rdtscp)
		return rdtsc(t, sel == x86_sel_rdtscp);
	if (sel == x86_sel_rdfsbase || sel == x86_sel_rdgsbase)
		return read_base(t, sel == x86_sel_rdfsbase ? X86_FS : X86_GS);
	if (sel == x86_sel_wrfsbase || sel == x86_sel_wrgsbase)
		return write_base(t, sel == x86_sel_wrfsbase ? X86_FS : X86_GS);
	if (sel == x86_sel_rdpkru)
		return rdpkru(t);
	if (sel == x86_sel_cmpxchg16b)
		return cmpxchg16b(t);
	if (t->parsed && t->in.flags & JIT_I_MEM && t->op->opnd & X86_OPND_REG_GPR &&
	    (sel == x86_sel_bt || sel == x86_sel_bts || sel == x86_sel_btr || sel == x86_sel_btc))
		return bit_string(t);
	return false;
}
