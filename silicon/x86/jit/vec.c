/* SPDX-License-Identifier: MIT */
/*
 * Vector instructions: guest YMM0-15 are host YMM0-15 and guest MXCSR is host MXCSR
 * while cpu->vec_live says so; otherwise they are in cpu->fpu. They are loaded when a
 * block first needs them and go back before anything that is C.
 *
 * They are loaded only if no vector instruction can fault but by its memory operand:
 * the operating system has enabled them, CR0.TS is clear, every exception of MXCSR is
 * masked. In any other state the handlers execute them one by one and raise what there
 * is to raise. cpu->vec_live: legacy instructions; cpu->vec_live_avx: VEX ones too.
 */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/insn/fp_state.h"
#include "silicon/x86/jit/cache.h"
#include "silicon/x86/jit/jit_priv.h"

/* ---- Stubs ---- */

static void put(struct jit_asm *a, const struct jit_insn *in)
{
	jit_room(a);
	a->p += jit_encode(in, a->p);
}

static void ymm_move(struct jit_asm *a, bool load, unsigned r)
{
	struct jit_insn in = {
		.flags = JIT_I_MODRM | JIT_I_VEX | JIT_I_L | JIT_I_F3, .map = JIT_MAP_0F,
		.opcode = load ? 0x6f : 0x7f, .reg = (u8)r,	/* VMOVDQU */
	};

	jit_mem_base(&in, JIT_RBP, (s32)(offsetof(struct x86_cpu, fpu.ymm) + r * sizeof(struct x86_ymm)));
	put(a, &in);
}

static void mxcsr(struct jit_asm *a, bool load, struct jit_mem m)
{
	jit_op_rm(a, 0x0fae, load ? 2 : 3, m, 4);
}

/*
 * Load if that is allowed. Clobbers RAX and RCX, keeps the flags. The caller looks at
 * what it needs of vec_live afterwards.
 */
static void load_stub(struct jit_asm *a)
{
	u8 *no[6];
	unsigned n = 0;

	jit_push_flags(a);
	/* Live already, but not for VEX: what is in the registers counts. */
	jit_op_rm(a, 0x80, 7, JIT_FIELD(vec_live), 1);	/* cmp byte [..], 0 */
	jit_8(a, 0);
	no[n++] = jit_jcc(a, JIT_NE);
	jit_load(a, JIT_RCX, JIT_FIELD(cr0), 4);
	jit_test_ri(a, JIT_RCX, CR0_EM | CR0_TS);
	no[n++] = jit_jcc(a, JIT_NE);
	jit_load(a, JIT_RCX, JIT_FIELD(cr4), 4);
	jit_test_ri(a, JIT_RCX, CR4_OSFXSR);
	no[n++] = jit_jcc(a, JIT_E);
	jit_load(a, JIT_RCX, JIT_FIELD(fpu.mxcsr), 4);
	jit_op_rr(a, 0xf7, 2, JIT_RCX, 4);		/* not ecx */
	jit_test_ri(a, JIT_RCX, MXCSR_MASKS);
	no[n++] = jit_jcc(a, JIT_NE);
	mxcsr(a, false, JIT_FIELD(jit_host_mxcsr));
	mxcsr(a, true, JIT_FIELD(fpu.mxcsr));
	for (unsigned r = 0; r < 16; r++)
		ymm_move(a, true, r);
	jit_store_imm(a, JIT_FIELD(vec_live), 1, 1);
	jit_load(a, JIT_RCX, JIT_FIELD(cr4), 4);
	jit_test_ri(a, JIT_RCX, CR4_OSXSAVE);
	no[n++] = jit_jcc(a, JIT_E);
	jit_load(a, JIT_RCX, JIT_FIELD(xcr0), 4);
	jit_op_rr(a, 0xf7, 2, JIT_RCX, 4);
	jit_test_ri(a, JIT_RCX, XCR0_SSE | XCR0_AVX);
	no[n++] = jit_jcc(a, JIT_NE);
	jit_store_imm(a, JIT_FIELD(vec_live_avx), 1, 1);
	while (n)
		jit_bind(a, no[--n]);
	jit_pop_flags(a);
	jit_8(a, 0xc3);					/* ret */
}

/* Clobbers flags. The host gets its own MXCSR and clean upper halves back. */
static void spill_stub(const struct x86_jit *j, struct jit_asm *a)
{
	static const u8 vzeroupper[] = { 0xc5, 0xf8, 0x77 };
	u8 *dead;

	jit_op_rm(a, 0x0fb7, JIT_RCX, JIT_FIELD(vec_live), 4);	/* movzx ecx, m16 */
	jit_alu_ri(a, JIT_CMP, JIT_RCX, 0, 4);
	dead = jit_jcc(a, JIT_E);
	for (unsigned r = 0; r < 16; r++)
		ymm_move(a, false, r);
	mxcsr(a, false, JIT_FIELD(fpu.mxcsr));
	mxcsr(a, true, JIT_FIELD(jit_host_mxcsr));
	jit_store_imm(a, JIT_FIELD(vec_live), 0, 2);
	jit_bytes(a, vzeroupper, sizeof(vzeroupper));
	jit_bind(a, dead);
	jit_op_rm(a, 0x80, 7, JIT_FIELD(x87_live), 1);		/* cmp byte [..], 0 */
	jit_8(a, 0);
	dead = jit_jcc(a, JIT_E);
	jit_call_to(a, j->x87_spill);
	jit_bind(a, dead);
	jit_8(a, 0xc3);
}

void jit_vec_stubs(struct x86_jit *j, struct jit_asm *a)
{
	_Static_assert(offsetof(struct x86_cpu, vec_pad) == offsetof(struct x86_cpu, vec_live) + 3 &&
		       offsetof(struct x86_cpu, vec_live) % 4 == 0, "one word");
	jit_x87_stubs(j, a);
	j->vec_load = jit_here(a);
	load_stub(a);
	j->vec_spill = jit_here(a);
	spill_stub(j, a);
}

void jit_vec_spill(const struct x86_jit *j, struct jit_asm *a)
{
	u8 *dead;

	jit_load(a, JIT_RCX, JIT_FIELD(vec_live), 4);
	dead = jit_jrcxz(a);
	jit_call_to(a, j->vec_spill);
	jit_bind8(a, dead);
}

/* ---- The state inside a block ---- */

/* The byte that says whether instructions of kind @vec work. */
static struct jit_mem live(unsigned vec)
{
	return vec & JIT_VEC_X87 ? JIT_FIELD(x87_live) : vec & JIT_VEC_AVX ? JIT_FIELD(vec_live_avx) :
	       JIT_FIELD(vec_live);
}

static void load_live(struct jit_asm *a, unsigned vec)
{
	jit_op_rm(a, 0x0fb6, JIT_RCX, live(vec), 4);		/* movzx ecx, byte [..] */
}

void jit_vec_reload(struct x86_jit_tr *t, unsigned vec, const u8 *go_on)
{
	unsigned sse = vec & (JIT_VEC_SSE | JIT_VEC_AVX), n = 0;
	u8 *no[2];

	if (sse) {
		jit_call_to(&t->a, t->cpu->jit->vec_load);
		load_live(&t->a, sse);
		no[n++] = jit_jrcxz(&t->a);
	}
	if (vec & JIT_VEC_X87) {
		jit_call_to(&t->a, t->cpu->jit->x87_load);
		load_live(&t->a, JIT_VEC_X87);
		no[n++] = jit_jrcxz(&t->a);
	}
	jit_jmp_to(&t->a, (u64)go_on + (u64)t->a.delta);
	while (n)
		jit_bind8(&t->a, no[--n]);
}

void jit_vec_need(struct x86_jit_tr *t, unsigned vec)
{
	struct jit_asm *a = &t->a;

	if (!(vec & ~t->vec))
		return;
	if (t->flags.where == JIT_FL_LIVE) {
		u8 *no, *yes;

		load_live(a, vec);
		no = jit_jrcxz(a);
		jit_room(a);
		jit_8(a, 0xeb);				/* jmp short */
		yes = a->p;
		jit_8(a, 0);
		jit_bind8(a, no);
		jit_cold_vec(t, jit_jmp(a), vec);
		jit_bind8(a, yes);
	} else {
		jit_op_rm(a, 0x80, 7, live(vec), 1);		/* cmp byte [..], 0 */
		jit_8(a, 0);
		jit_cold_vec(t, jit_jcc(a, JIT_E), vec);
	}
	t->vec |= (u8)vec;
}

/* ---- Instructions ---- */

static bool is_selector(const struct x86_op *op, x86_select_fn *s)
{
	return x86_insn_row(op->row)->select == s;
}

/* MOVD, PEXTRx: the general register in ModRM.rm is written. */
static bool rm_written(const struct jit_insn *in)
{
	return (in->map == JIT_MAP_0F && in->opcode == 0x7e) ||
	       (in->map == JIT_MAP_0F3A && in->opcode >= 0x14 && in->opcode <= 0x17);
}

static void pure(struct x86_jit_tr *t, struct jit_insn *in, bool aligned)
{
	const struct x86_op *op = t->op;
	int dst = -1;
	unsigned host = JIT_RAX;

	/* Misaligned ones go to the handler, which raises #GP. */
	if (in->flags & JIT_I_MEM)
		jit_operand(t, in, aligned);
	if (op->flags_out)
		jit_flags_dead(t);
	if (op->opnd & X86_OPND_REG_GPR) {
		dst = in->reg;
	} else if (op->opnd & X86_OPND_RM_GPR) {
		if (rm_written(in))
			dst = in->rm;
		else
			in->rm = (u8)jit_use(t, in->rm, JIT_RAX);
	}
	if (dst >= 0) {
		jit_writes(t, (unsigned)dst);
		if (jit_home((unsigned)dst) >= 0)
			host = (unsigned)jit_home((unsigned)dst);
		if (op->opnd & X86_OPND_REG_GPR)
			in->reg = (u8)host;
		else
			in->rm = (u8)host;
	}
	jit_put(t, in);
	if (dst >= 0)
		jit_def(t, (unsigned)dst, host);
	if (op->flags_out)
		jit_flags_set(t);
}

/* A value that unmasks something, or #GP: the handler's affair. */
static void ldmxcsr(struct x86_jit_tr *t)
{
	struct jit_asm *a = &t->a;

	jit_mem(t, 4, false);
	jit_load(a, JIT_RAX, jit_at(JIT_RCX, 0), 4);
	jit_alu_ri(a, JIT_XOR, JIT_RAX, MXCSR_MASKS, 4);
	jit_op_rr(a, 0xf7, 0, JIT_RAX, 4);		/* test eax, imm32 */
	jit_32(a, ~MXCSR_VALID | (u32)MXCSR_MASKS);
	jit_slow_jcc(t, JIT_NE);
	jit_alu_ri(a, JIT_XOR, JIT_RAX, MXCSR_MASKS, 4);
	/* Not from the guest's memory, where another value may be by now. */
	jit_store(a, JIT_RAX, JIT_FIELD(fpu.mxcsr), 4);
	mxcsr(a, true, JIT_FIELD(fpu.mxcsr));
}

/* Explicit lengths are in EAX and EDX: RDX is at home there, RAX is free. ECX is written. */
static bool pcmpstr(struct x86_jit_tr *t, struct jit_insn *in, unsigned vec)
{
	bool index = in->opcode & 1, lengths = in->opcode < 0x62;

	if (jit_home(X86_RDX) != JIT_RDX)
		return false;
	jit_vec_need(t, vec);
	if (in->flags & JIT_I_MEM)
		jit_operand(t, in, false);
	jit_flags_dead(t);
	if (lengths)
		jit_mov_rr(&t->a, JIT_RAX, jit_use(t, X86_RAX, JIT_RAX));
	jit_put(t, in);
	if (index) {
		jit_writes(t, X86_RCX);
		jit_def(t, X86_RCX, JIT_RCX);
	}
	jit_flags_set(t);
	return true;
}

/* Outside 64-bit mode VZEROALL and VZEROUPPER leave YMM8-15 alone. */
static void zero_lower(struct jit_asm *a, bool all)
{
	for (unsigned r = 0; r < 8; r++) {
		struct jit_insn in = {
			.flags = JIT_I_MODRM | JIT_I_VEX, .map = JIT_MAP_0F, .opcode = 0x28,	/* VMOVAPS xmm, xmm */
			.reg = (u8)r, .rm = (u8)r,
		};

		if (all) {
			in.flags |= JIT_I_66;
			in.opcode = 0xef;						/* VPXOR */
			in.vvvv = (u8)r;
		}
		put(a, &in);
	}
}

bool jit_emit_vec(struct x86_jit_tr *t)
{
	struct jit_insn in = t->in;
	unsigned vec = in.flags & JIT_I_VEX ? JIT_VEC_SSE | JIT_VEC_AVX : JIT_VEC_SSE;
	enum jit_class class;

	if (!t->parsed || t->op->fn == x86_op_ud)
		return false;
	class = jit_classify(t->op, &in);
	if (class == JIT_CLASS_VEC || class == JIT_CLASS_VEC_ALIGNED) {
		jit_vec_need(t, vec);
		pure(t, &in, class == JIT_CLASS_VEC_ALIGNED);
		return true;
	}
	if (is_selector(t->op, x86_sel_vec_pcmpstr))
		return pcmpstr(t, &in, vec);
	if (is_selector(t->op, x86_sel_vec_ldmxcsr)) {
		jit_vec_need(t, vec);
		ldmxcsr(t);
		return true;
	}
	if (is_selector(t->op, x86_sel_avx_zeroupper) || is_selector(t->op, x86_sel_avx_zeroall)) {
		jit_vec_need(t, vec);
		if (t->word == 8)
			jit_put(t, &in);
		else
			zero_lower(&t->a, is_selector(t->op, x86_sel_avx_zeroall));
		return true;
	}
	return false;
}
