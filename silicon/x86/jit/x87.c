/* SPDX-License-Identifier: MIT */
/*
 * x87 instructions on the host's own stack, which holds the guest's while cpu->x87_live.
 *
 * As with vectors, that is only while nothing can fault but a memory operand: CR0.TS and
 * CR0.EM clear, every exception masked, none pending. The pointers of the last instruction
 * are the guest's own and are kept in cpu->fpu beside it, for the host's would say where the
 * translation is. Loading environments and whole states is left to the handlers.
 */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/insn/fp_state.h"
#include "silicon/x86/jit/cache.h"
#include "silicon/x86/jit/jit_priv.h"

/* ---- Stubs ---- */

#define AREA(at) jit_at(JIT_RBP, JIT_TABLE(x87) + (at))
#define AREA_ST 32		/* ST(0), 16 bytes each */
#define AREA_BITMAP 512

_Static_assert(offsetof(struct x86_fpu, fsw) == offsetof(struct x86_fpu, fcw) + 2, "moved as one");
_Static_assert(JIT_HASH_SIZE && offsetof(struct jit_tables, x87) % 64 == 0, "XSAVE wants that");

/* XSAVE64 (/4) or XRSTOR64 (/5) of the x87 state alone; RAX and RDX are clobbered. */
static void transfer(struct jit_asm *a, unsigned digit)
{
	jit_mov_imm(a, JIT_RAX, 1);
	jit_mov_imm(a, JIT_RDX, 0);
	jit_op_rm(a, 0x0fae, digit, AREA(0), 8);
}

/* ECX := TOP of cpu->fpu.fsw. */
static void load_top(struct jit_asm *a)
{
	jit_op_rm(a, 0x0fb7, JIT_RCX, JIT_FIELD(fpu.fsw), 4);
	jit_op_rr(a, 0xc1, 5, JIT_RCX, 4);		/* shr ecx, 11 */
	jit_8(a, 11);
	jit_alu_ri(a, JIT_AND, JIT_RCX, 7, 4);
}

/* The state holds registers by their number, the area by their distance from the top. */
static void registers(struct jit_asm *a, bool load)
{
	load_top(a);
	for (unsigned i = 0; i < 8; i++) {
		struct jit_mem reg = jit_at_index(JIT_RBP, JIT_RAX, 0, (s32)offsetof(struct x86_cpu, fpu.st));
		struct jit_mem slot = AREA(AREA_ST + 16 * (s32)i);

		jit_mov_rr(a, JIT_RAX, JIT_RCX);
		jit_op_rr(a, 0xc1, 4, JIT_RAX, 4);	/* shl eax, 4 */
		jit_8(a, 4);
		jit_load(a, JIT_RDX, load ? reg : slot, 8);
		jit_store(a, JIT_RDX, load ? slot : reg, 8);
		reg.disp += 8;
		slot.disp += 8;
		jit_op_rm(a, 0x0fb7, JIT_RDX, load ? reg : slot, 4);
		jit_store(a, JIT_RDX, load ? slot : reg, 8);
		jit_lea(a, JIT_RCX, jit_at(JIT_RCX, 1), 4);
		jit_alu_ri(a, JIT_AND, JIT_RCX, 7, 4);
	}
}

/* As the vector state's: clobbers RAX and RCX, keeps the flags. */
static void load_stub(struct jit_asm *a)
{
	u8 *no[4];
	unsigned n = 0;

	jit_push_flags(a);
	jit_op_rm(a, 0x80, 7, JIT_FIELD(x87_live), 1);	/* cmp byte [..], 0 */
	jit_8(a, 0);
	no[n++] = jit_jcc(a, JIT_NE);
	jit_load(a, JIT_RCX, JIT_FIELD(cr0), 4);
	jit_test_ri(a, JIT_RCX, CR0_EM | CR0_TS);
	no[n++] = jit_jcc(a, JIT_NE);
	jit_load(a, JIT_RCX, JIT_FIELD(fpu.fcw), 4);	/* and FSW above it */
	jit_test_ri(a, JIT_RCX, FSW_ES << 16);
	no[n++] = jit_jcc(a, JIT_NE);
	jit_op_rr(a, 0xf7, 2, JIT_RCX, 4);		/* not ecx */
	jit_test_ri(a, JIT_RCX, FP_FLAGS);
	no[n++] = jit_jcc(a, JIT_NE);
	jit_8(a, 0x52);					/* push rdx */
	jit_load(a, JIT_RAX, JIT_FIELD(fpu.fcw), 4);
	jit_store(a, JIT_RAX, AREA(0), 4);
	jit_op_rm(a, 0x0fb6, JIT_RAX, JIT_FIELD(fpu.ftw), 4);
	jit_store(a, JIT_RAX, AREA(4), 4);
	jit_store_imm(a, AREA(AREA_BITMAP), 1, 8);
	registers(a, true);
	transfer(a, 5);
	jit_room(a);
	jit_8(a, 0x5a);					/* pop rdx */
	jit_store_imm(a, JIT_FIELD(x87_live), 1, 1);
	while (n)
		jit_bind(a, no[--n]);
	jit_pop_flags(a);
	jit_8(a, 0xc3);					/* ret */
}

/* Clobbers RAX, RCX and flags. */
static void spill_stub(struct jit_asm *a)
{
	static const u8 fninit[] = { 0xdb, 0xe3 };

	jit_room(a);
	jit_8(a, 0x52);					/* push rdx */
	transfer(a, 4);
	jit_bytes(a, fninit, sizeof(fninit));
	jit_load(a, JIT_RAX, AREA(0), 4);
	jit_store(a, JIT_RAX, JIT_FIELD(fpu.fcw), 4);
	jit_load(a, JIT_RAX, AREA(4), 4);
	jit_store(a, JIT_RAX, JIT_FIELD(fpu.ftw), 1);
	registers(a, false);
	jit_store_imm(a, JIT_FIELD(x87_live), 0, 1);
	jit_room(a);
	jit_8(a, 0x5a);					/* pop rdx */
	jit_8(a, 0xc3);
}

void jit_x87_stubs(struct x86_jit *j, struct jit_asm *a)
{
	j->x87_load = jit_here(a);
	load_stub(a);
	j->x87_spill = jit_here(a);
	spill_stub(a);
}

/* ---- Instructions ---- */

/* Which are the host's own: those that note where they are (FIP), and those that do not. */
#define NOTED(f) \
	f(f2xm1) f(fabs) f(fadd) f(fbld) f(fbstp) f(fchs) f(fcmov) f(fcom) f(fcomi) f(fcos) f(fdiv) f(fdivr) \
	f(fiadd) f(fidiv) f(fidivr) f(fild) f(fimul) f(fist) f(fisttp) f(fisub) f(fisubr) f(fld) f(fld1) \
	f(fldl2e) f(fldl2t) f(fldlg2) f(fldln2) f(fldpi) f(fldz) f(fmul) f(fpatan) f(fprem) f(fprem1) f(fptan) \
	f(frndint) f(fscale) f(fsin) f(fsincos) f(fsqrt) f(fst) f(fsub) f(fsubr) f(ftst) f(fxam) f(fxch) \
	f(fxtract) f(fyl2x) f(fyl2xp1)
#define PLAIN(f) \
	f(fdecstp) f(ffree) f(ffreep) f(fincstp) f(fnclex) f(fnop) f(fnstcw) f(fnstsw)

enum kind { HANDLED, IS_PLAIN, IS_NOTED };

static enum kind kind_of(x86_select_fn *sel)
{
#define SELECTOR(name) x86_sel_x87_##name,
	static x86_select_fn *const noted[] = { NOTED(SELECTOR) }, *const plain[] = { PLAIN(SELECTOR) };
#undef SELECTOR

	for (unsigned i = 0; i < ARRAY_SIZE(noted); i++)
		if (noted[i] == sel)
			return IS_NOTED;
	for (unsigned i = 0; i < ARRAY_SIZE(plain); i++)
		if (plain[i] == sel)
			return IS_PLAIN;
	return HANDLED;
}

/* What x87_status() does. */
static void note(struct x86_jit_tr *t)
{
	const struct x86_op *op = t->op;

	jit_mov_imm(&t->a, JIT_RAX, t->rip);
	jit_store(&t->a, JIT_RAX, JIT_FIELD(fpu.fip), 8);
	if (x86_has(t->cpu, X86_FEAT_FDP_EXCPTN_ONLY))
		return;
	jit_store_imm(&t->a, JIT_FIELD(fpu.fop), (op->vvvv & 7) << 8 | op->imm2, 2);
	if (op->flags & X86_OP_MEM) {
		jit_ea(t);
		jit_store(&t->a, JIT_RCX, JIT_FIELD(fpu.fdp), 8);
	}
}

static void fnstsw_ax(struct x86_jit_tr *t)
{
	static const u8 insn[] = { 0xdf, 0xe0 };
	unsigned rax = jit_use(t, X86_RAX, JIT_RAX);

	if (rax != JIT_RAX)
		jit_mov_rr(&t->a, JIT_RAX, rax);
	jit_bytes(&t->a, insn, sizeof(insn));
	jit_def(t, X86_RAX, JIT_RAX);
}

/* A control word that unmasks something is the handler's. */
static void fldcw(struct x86_jit_tr *t)
{
	struct jit_asm *a = &t->a;

	jit_mem(t, 2, false);
	jit_op_rm(a, 0x0fb7, JIT_RAX, jit_at(JIT_RCX, 0), 4);
	jit_store(a, JIT_RAX, JIT_FIELD(jit_tmp), 4);
	jit_op_rr(a, 0xf7, 2, JIT_RAX, 4);		/* not eax */
	jit_op_rr(a, 0xf7, 0, JIT_RAX, 4);		/* test eax, imm32 */
	jit_32(a, FP_FLAGS);
	jit_slow_jcc(t, JIT_NE);
	jit_op_rm(a, 0xd9, 5, JIT_FIELD(jit_tmp), 4);
}

static void pure(struct x86_jit_tr *t)
{
	const struct x86_op *op = t->op;
	struct jit_insn in = t->in;

	if (in.flags & JIT_I_MEM)
		jit_operand(t, &in, false);
	if (op->flags_in || (op->flags_out && op->flags_out != X86_AF_ALL))
		jit_flags_read(t);
	else if (op->flags_out)
		jit_flags_dead(t);
	jit_put(t, &in);
	if (op->flags_out)
		jit_flags_set(t);
}

bool jit_emit_x87(struct x86_jit_tr *t)
{
	const struct x86_op *op = t->op;
	x86_select_fn *sel;
	enum kind kind;

	if (!op->row || op->fn == x86_op_ud)
		return false;
	sel = x86_insn_row(op->row)->select;
	if (sel == x86_sel_x87_fwait) {
		jit_vec_need(t, JIT_VEC_X87);
		return true;
	}
	if (!t->parsed || t->in.map != JIT_MAP_1 || t->in.flags & JIT_I_VEX || (t->in.opcode & 0xf8) != 0xd8)
		return false;
	if (sel == x86_sel_x87_fldcw) {
		jit_vec_need(t, JIT_VEC_X87);
		fldcw(t);
		return true;
	}
	kind = kind_of(sel);
	if (kind == HANDLED)
		return false;
	jit_vec_need(t, JIT_VEC_X87);
	if (op->opnd & X86_OPND_IMPLICIT) {
		jit_writes(t, X86_RAX);
		fnstsw_ax(t);
		return true;
	}
	pure(t);
	if (kind == IS_NOTED)
		note(t);
	return true;
}
