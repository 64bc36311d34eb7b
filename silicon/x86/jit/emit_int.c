/* SPDX-License-Identifier: MIT */
/*
 * Integer instructions that the host executes as they are (JIT_CLASS_INT), and LEA.
 *
 * A guest register that has no home is used as memory operand [rbp + ...] where the
 * encoding has room for one, else it goes through RAX or RCX. So does AH, CH, DH, BH:
 * rotated into the low byte, which needs BMI2 and changes no flag.
 */
#include "silicon/x86/jit/jit_priv.h"

x86_select_fn x86_sel_lea;

/* Which operands an instruction writes; what is not known is taken as written. */
struct written { bool reg, rm; };

static struct written written_map_1(const struct jit_insn *in)
{
	unsigned op = in->opcode;

	if (op < 0x40)
		return (struct written){ .reg = (op & 2) && op < 0x38, .rm = !(op & 2) && op < 0x38 };
	switch (op) {
	case 0x80 ... 0x83:
		return (struct written){ .rm = in->reg != 7 };
	case 0x84: case 0x85:
		return (struct written){ false, false };
	case 0x86: case 0x87:
		return (struct written){ true, true };
	case 0x63: case 0x69: case 0x6b: case 0x8a: case 0x8b:
		return (struct written){ .reg = true };
	case 0xf6: case 0xf7:
		return (struct written){ .rm = in->reg > 1 };
	default:
		return (struct written){ .rm = true };
	}
}

static struct written written_map_0f(const struct jit_insn *in)
{
	switch (in->opcode) {
	case 0xa3:
		return (struct written){ false, false };
	case 0xba:
		return (struct written){ .rm = in->reg != 4 };
	case 0x90 ... 0x9f: case 0xa4: case 0xab: case 0xac: case 0xb3: case 0xbb: case 0xc3: case 0xc8 ... 0xcf:
		return (struct written){ .rm = true };
	case 0xc0: case 0xc1:
		return (struct written){ true, true };
	default:
		return (struct written){ .reg = true };
	}
}

static struct written written(const struct jit_insn *in)
{
	if (in->flags & JIT_I_VEX)
		return (struct written){ true, false };
	if (in->map == JIT_MAP_1)
		return written_map_1(in);
	if (in->map == JIT_MAP_0F)
		return written_map_0f(in);
	return (struct written){ true, false };
}

/* BLSI and its like have their destination there. */
static bool vvvv_written(const struct jit_insn *in)
{
	return in->flags & JIT_I_EXT;
}

/* A destination that is replaced as a whole. */
static bool only_written(const struct x86_jit_tr *t)
{
	if (t->op->osize < 4 || t->in.flags & JIT_I_VEX)
		return false;
	if (t->in.map == JIT_MAP_1)
		return t->in.opcode == 0x8b || t->in.opcode == 0x89 || t->in.opcode == 0xc7 ||
		       t->in.opcode == 0x63 || t->in.opcode >> 3 == 0xb8 >> 3;
	return t->in.map == JIT_MAP_0F && (t->in.opcode & 0xf6) == 0xb6;
}

/* BTx and XCHG mean something else with a memory operand. */
static bool rm_may_be_memory(const struct x86_jit_tr *t, bool is_written)
{
	const struct jit_insn *in = &t->in;

	if (!(in->flags & JIT_I_MODRM) || (is_written && t->op->osize == 4))
		return false;
	if (in->map == JIT_MAP_0F && (in->opcode & 0xe7) == 0xa3)
		return false;
	if (in->map == JIT_MAP_0F && in->opcode >> 1 == 0xc0 >> 1)	/* XADD of a register with itself */
		return false;
	/* A rotation of a register by an immediate keeps OF, one in memory does not (observed). */
	if (in->map == JIT_MAP_1 && in->opcode >> 1 == 0xc0 >> 1 && in->reg < 4)
		return false;
	return in->map != JIT_MAP_1 || in->opcode >> 1 != 0x86 >> 1;
}

static bool high_byte(unsigned r)
{
	return r >= JIT_HIGH_BYTE && r < JIT_HIGH_BYTE + 4;
}

static unsigned guest_of(unsigned r)
{
	return high_byte(r) ? r - JIT_HIGH_BYTE : r;
}

/* An operand in the registers of the host. */
struct place {
	u8 guest;		/* as encoded, high bytes included */
	u8 host;
	bool written;
};

static struct place place(struct x86_jit_tr *t, unsigned r, bool is_written, unsigned scratch)
{
	struct place p = { .guest = (u8)r, .written = is_written };

	if (high_byte(r)) {
		jit_rorx(&t->a, scratch, (unsigned)jit_home(guest_of(r)), 8, 8);
		p.host = (u8)scratch;
	} else if (is_written && jit_home(r) < 0 && only_written(t)) {
		p.host = (u8)scratch;
	} else {
		p.host = (u8)jit_use(t, r, scratch);
	}
	return p;
}

static void put_back(struct x86_jit_tr *t, const struct place *p)
{
	unsigned home;

	if (!p->written)
		return;
	if (!high_byte(p->guest)) {
		jit_def(t, p->guest, p->host);
		return;
	}
	home = (unsigned)jit_home(guest_of(p->guest));
	jit_rorx(&t->a, home, home, 8, 8);
	jit_op_rr(&t->a, 0x88, p->host, home, 1);
	jit_rorx(&t->a, home, home, 56, 8);
}

/* INC or DEC of a register. */
static bool is_count(const struct jit_insn *in)
{
	return in->map == JIT_MAP_1 && in->opcode >> 1 == 0xfe >> 1 && in->reg <= 1 &&
	       !(in->flags & (JIT_I_MEM | JIT_I_VEX)) && !high_byte(in->rm);
}

/* How the flags that were just set can be made again. */
static void remember(struct x86_jit_tr *t)
{
	const struct jit_insn *in = &t->in;
	struct jit_flags *f = &t->flags;
	unsigned op = in->opcode, kind, a, b;
	bool imm = false;

	if (in->flags & (JIT_I_MEM | JIT_I_VEX) || in->map != JIT_MAP_1 || high_byte(in->rm))
		return;
	a = in->rm;
	b = in->reg;
	if (op < 0x40) {
		kind = op >> 3;
		if (op & 2) {
			a = in->reg;
			b = in->rm;
		}
	} else if (op >= 0x80 && op <= 0x83) {
		kind = in->reg;
		imm = true;
	} else if (op == 0x84 || op == 0x85) {
		kind = 8;
	} else if ((op == 0xf6 || op == 0xf7) && in->reg <= 1) {
		kind = 8;
		imm = true;
	} else if (is_count(in)) {
		*f = (struct jit_flags){ .again = in->reg ? JIT_AGAIN_DEC : JIT_AGAIN_INC, .size = t->op->osize,
					 .a = (u8)a, .b = JIT_NO_REG };
		return;
	} else if ((op == 0xf6 || op == 0xf7) && in->reg == 3) {
		*f = (struct jit_flags){ .again = JIT_AGAIN_NEG, .size = t->op->osize, .a = (u8)a, .b = JIT_NO_REG };
		return;
	} else {
		return;
	}
	if (!imm && high_byte(b))
		return;
	if (!imm && high_byte(a))
		return;
	*f = (struct jit_flags){ .size = t->op->osize, .a = (u8)a, .b = imm ? JIT_NO_REG : (u8)b,
				 .imm = (s32)t->op->imm };
	switch (kind) {
	case JIT_ADD:
		f->again = imm || a != b ? JIT_AGAIN_ADD : JIT_AGAIN_NONE;
		break;
	case JIT_SUB:
		f->again = imm || a != b ? JIT_AGAIN_SUB : JIT_AGAIN_NONE;
		break;
	case JIT_CMP:
		f->again = JIT_AGAIN_CMP;
		break;
	case 8:
		f->again = JIT_AGAIN_TEST;
		break;
	case JIT_AND: case JIT_OR: case JIT_XOR:
		/* Flags of the result alone. */
		f->again = JIT_AGAIN_TEST;
		f->b = f->a;
		break;
	default:
		break;
	}
}

/* Which fields name general registers: of the general form, where op->opnd speaks of the encoded one. */
static unsigned registers(const struct x86_jit_tr *t)
{
	const struct jit_insn *in = &t->in;
	unsigned n = 0;

	/* Fences have a ModRM byte without operands. */
	if (!(t->op->opnd & (X86_OPND_REG_GPR | X86_OPND_RM_GPR | X86_OPND_VVVV_GPR)))
		return 0;
	if ((in->flags & (JIT_I_MODRM | JIT_I_EXT)) == JIT_I_MODRM)
		n |= X86_OPND_REG_GPR;
	if ((in->flags & (JIT_I_MODRM | JIT_I_MEM)) == JIT_I_MODRM || in->flags & JIT_I_OPREG)
		n |= X86_OPND_RM_GPR;
	if (t->op->opnd & X86_OPND_VVVV_GPR)
		n |= X86_OPND_VVVV_GPR;
	return n;
}

/* Scratch registers needed. */
static unsigned without_home(const struct x86_jit_tr *t, unsigned opnd, struct written w)
{
	const struct jit_insn *in = &t->in;
	unsigned n = in->flags & JIT_I_MEM ? 1 : 0;

	if (opnd & X86_OPND_REG_GPR && (high_byte(in->reg) || jit_home(in->reg) < 0))
		n++;
	if (opnd & X86_OPND_VVVV_GPR && jit_home(in->vvvv) < 0)
		n++;
	if (opnd & X86_OPND_RM_GPR &&
	    (high_byte(in->rm) || (jit_home(in->rm) < 0 && !rm_may_be_memory(t, w.rm))))
		n++;
	return n;
}

/* A shift by an immediate that is not 0 reads no flag. */
static bool reads_flags(const struct x86_jit_tr *t)
{
	const struct jit_insn *in = &t->in;

	if (in->map == JIT_MAP_1 && !(in->flags & JIT_I_VEX) && (in->opcode & 0xfe) == 0xc0 && in->reg >= 4 &&
	    in->imm & (t->op->osize == 8 ? 63 : 31))
		return false;
	return t->op->flags_in;
}

/* True: the instruction keeps CF, which is not there but in cpu->jit_no_carry. */
static bool prepare_flags(struct x86_jit_tr *t)
{
	const struct x86_op *op = t->op;
	unsigned kept = op->flags_out ? X86_AF_ALL & ~(unsigned)op->flags_out : 0, wanted = kept | op->flags_in;

	if (is_count(&t->in))
		return jit_flags_carry_away(t);
	/* INC, ADC and the like: all flags are new, of the old ones CF alone matters. */
	if (wanted == RFLAGS_CF && (op->flags_out | RFLAGS_CF) == X86_AF_ALL)
		jit_flags_carry(t);
	else if (reads_flags(t) || kept)
		jit_flags_read(t);
	else if (op->flags_out)
		jit_flags_dead(t);
	return false;
}

bool jit_is_add(const struct x86_op *op, const struct jit_insn *in, unsigned word, unsigned *r, s32 *by)
{
	s64 v = (s64)op->imm;

	if (in->map != JIT_MAP_1 || in->flags & JIT_I_VEX || op->osize != word ||
	    (in->opcode == 0x8d && op->asize != word))
		return false;
	*r = in->rm;
	if (in->opcode == 0x8d) {
		*r = in->reg;
		*by = in->disp;
		return in->base == in->reg && in->index == JIT_NO_REG;
	}
	if (in->flags & JIT_I_MEM)
		return false;
	if (in->opcode == 0xff && in->reg <= 1) {
		*by = in->reg ? -1 : 1;
		return true;
	}
	if ((in->opcode != 0x81 && in->opcode != 0x83) || (in->reg != JIT_ADD && in->reg != JIT_SUB))
		return false;
	v = in->reg == JIT_SUB ? -v : v;
	*by = (s32)v;
	return v == *by;
}

static void announce(struct x86_jit_tr *t, unsigned opnd, struct written w)
{
	const struct jit_insn *in = &t->in;
	unsigned r;
	s32 by;

	if (jit_is_add(t->op, in, t->word, &r, &by)) {
		jit_adds(t, r, by);
		return;
	}
	if (w.reg && opnd & X86_OPND_REG_GPR)
		jit_writes(t, guest_of(in->reg));
	if (w.rm && opnd & X86_OPND_RM_GPR)
		jit_writes(t, guest_of(in->rm));
	if (opnd & X86_OPND_VVVV_GPR && vvvv_written(in))
		jit_writes(t, in->vvvv);
}

static bool pure(struct x86_jit_tr *t)
{
	struct written w = written(&t->in);
	struct place reg = { 0 }, rm = { 0 }, vvvv = { 0 };
	unsigned scratch[2] = { JIT_RAX, JIT_RCX }, used = 0, opnd = registers(t);
	struct jit_insn in;
	bool away;

	if (without_home(t, opnd, w) > 2)
		return false;
	in = t->in;
	if (in.flags & JIT_I_MEM)
		jit_operand(t, &in, false);
	away = prepare_flags(t);
	announce(t, opnd, w);
	if (opnd & X86_OPND_REG_GPR) {
		reg = place(t, in.reg, w.reg, scratch[used]);
		used += reg.host == scratch[used];
		in.reg = reg.host;
	}
	if (opnd & X86_OPND_VVVV_GPR) {
		vvvv = place(t, in.vvvv, vvvv_written(&in), scratch[used]);
		used += vvvv.host == scratch[used];
		in.vvvv = vvvv.host;
	}
	if (opnd & X86_OPND_RM_GPR && !(in.flags & JIT_I_MEM)) {
		if (!high_byte(in.rm) && jit_home(in.rm) < 0 && rm_may_be_memory(t, w.rm)) {
			struct jit_mem m = jit_gpr(in.rm);

			jit_mem_base(&in, m.base, m.disp);
		} else {
			rm = place(t, in.rm, w.rm, scratch[used]);
			in.rm = rm.host;
		}
	}
	jit_put(t, &in);
	put_back(t, &reg);
	put_back(t, &vvvv);
	put_back(t, &rm);
	if (t->op->flags_out) {
		jit_flags_set(t);
		remember(t);
		if (away)
			t->flags.carry = JIT_CF_AWAY;
	}
	return true;
}

static void narrow_lea(struct x86_jit_tr *t)
{
	const struct x86_op *op = t->op;
	int home = jit_home(op->reg);

	jit_ea(t);
	if (op->osize == 2) {
		unsigned to = jit_use(t, op->reg, JIT_RAX);

		jit_op_rr(&t->a, 0x89, JIT_RCX, to, 2);
		jit_def(t, op->reg, to);
	} else if (op->osize == 4 && home >= 0) {
		jit_op_rr(&t->a, 0x89, JIT_RCX, (unsigned)home, 4);
	} else {
		if (op->osize == 4)
			jit_op_rr(&t->a, 0x89, JIT_RCX, JIT_RCX, 4);
		jit_def(t, op->reg, JIT_RCX);
	}
}

static bool lea(struct x86_jit_tr *t)
{
	const struct x86_op *op = t->op;
	unsigned b = op->base, x = op->index;
	int home = jit_home(op->reg);
	struct jit_mem m = { .index = JIT_RSP, .scale = op->scale, .disp = op->disp };
	unsigned r;
	s32 by;

	if (t->parsed && jit_is_add(op, &t->in, t->word, &r, &by))
		jit_moves(t, r, by);
	else
		jit_writes(t, op->reg);
	if (op->asize != t->word || op->osize == 2 || home < 0 || b >= X86_NR_GPRS || jit_home(b) < 0 ||
	    (x < X86_NR_GPRS && jit_home(x) < 0)) {
		narrow_lea(t);
		return true;
	}
	m.base = (u8)jit_home(b);
	if (x < X86_NR_GPRS)
		m.index = (u8)jit_home(x);
	jit_lea(&t->a, (unsigned)home, m, op->osize);
	return true;
}

bool jit_emit_int(struct x86_jit_tr *t)
{
	if (!t->op->row)
		return false;
	if (x86_insn_row(t->op->row)->select == x86_sel_lea && t->op->flags & X86_OP_MEM)
		return lea(t);
	if (!t->parsed)
		return false;
	switch (jit_classify(t->op, &t->in)) {
	case JIT_CLASS_NOP:
		return true;
	case JIT_CLASS_INT:
		return pure(t);
	default:
		return false;
	}
}
