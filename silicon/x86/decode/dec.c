/* SPDX-License-Identifier: MIT */
/*
 * From bytes to struct x86_op: libZydis finds mnemonic and fields, this file
 * extracts the operands, applies the gates of the instruction table and corrects
 * libZydis where a processor behaves differently.
 */
#include "silicon/x86/decode/dec.h"

#include <pthread.h>

#include "base/log.h"
#include "silicon/x86/decode/decode.h"
#include "silicon/x86/decode/table.h"
#include "silicon/x86/fault.h"
#include "silicon/x86/model/model.h"

/* One per code size; the reserved-NOP space is kept free of what the models lack. */
static ZydisDecoder decoders[3];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_decoders(void)
{
	/*
	 * Real and virtual-8086 mode are decoded as legacy modes: which
	 * instructions they lack is a column of our table.
	 */
	ZydisDecoderInit(&decoders[0], ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
	ZydisDecoderInit(&decoders[1], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
	ZydisDecoderInit(&decoders[2], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (unsigned i = 0; i < ARRAY_SIZE(decoders); i++) {
		ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
		ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
		ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
	}
}

void x86_op_ud(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_ud(cpu);
}

static void op_too_long(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_gp0(cpu);
}

/* An operation that ends its block with a fault. */
static enum x86_dec_result faulting(struct x86_op *op, x86_fn *fn, unsigned len)
{
	*op = (struct x86_op){ .fn = fn, .flags = X86_OP_END, .len = (u8)len, .asize = 8, .osize = 8,
			       .base = X86_REG_ZERO, .index = X86_REG_ZERO };
	return X86_DEC_OK;
}

/* F2, F3: the last one counts. Segments: the last one counts, ES CS SS DS mean nothing in 64-bit mode. */
static void prefixes(const struct x86_dec *d, struct x86_op *op)
{
	int seg = -1;

	for (unsigned i = 0; i < d->insn.raw.prefix_count; i++) {
		u8 p = d->insn.raw.prefixes[i].value;

		switch (p) {
		case 0xf0:
			op->flags |= X86_OP_LOCK;
			break;
		case 0xf2:
			op->flags = (u16)((op->flags & ~X86_OP_REP) | X86_OP_REPNE);
			break;
		case 0xf3:
			op->flags = (u16)((op->flags & ~X86_OP_REPNE) | X86_OP_REP);
			break;
		case 0x66:
			op->flags |= X86_OP_OSZ;
			break;
		case 0x26: case 0x2e: case 0x36: case 0x3e:
			if (d->mode != X86_MODE_64)
				seg = X86_ES + (p - 0x26) / 8;
			break;
		case 0x64: case 0x65:
			seg = X86_FS + (p - 0x64);
			break;
		}
	}
	op->seg = X86_DS;
	if (seg >= 0) {
		op->flags |= X86_OP_SEGOVR;
		op->seg = (u8)seg;
	}
}

/* Register extension bits of REX or VEX, already positioned as bit 3. */
struct ext { u8 r, x, b; };

static struct ext extensions(const struct x86_dec *d, struct x86_op *op)
{
	const ZydisDecodedInstruction *in = &d->insn;
	struct ext e = { 0 };

	if (in->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
		op->flags |= X86_OP_VEX;
		if (in->raw.vex.W)
			op->flags |= X86_OP_REXW;
		op->vl = in->raw.vex.L ? 32 : 16;
		op->vvvv = ~in->raw.vex.vvvv & 15;
		if (d->code_size == 8)
			e = (struct ext){ !in->raw.vex.R << 3, !in->raw.vex.X << 3, !in->raw.vex.B << 3 };
		else
			op->vvvv &= 7;
	} else if (in->attributes & ZYDIS_ATTRIB_HAS_REX) {
		op->flags |= X86_OP_REX;
		if (in->raw.rex.W)
			op->flags |= X86_OP_REXW;
		e = (struct ext){ (u8)(in->raw.rex.R << 3), (u8)(in->raw.rex.X << 3),
				  (u8)(in->raw.rex.B << 3) };
	}
	return e;
}

static void memory16(const struct x86_dec *d, struct x86_op *op)
{
	static const struct { u8 base, index; } form[8] = {
		{ X86_RBX, X86_RSI }, { X86_RBX, X86_RDI }, { X86_RBP, X86_RSI }, { X86_RBP, X86_RDI },
		{ X86_REG_ZERO, X86_RSI }, { X86_REG_ZERO, X86_RDI },
		{ X86_RBP, X86_REG_ZERO }, { X86_RBX, X86_REG_ZERO },
	};
	unsigned rm = d->insn.raw.modrm.rm;

	op->base = form[rm].base;
	op->index = form[rm].index;
	if (d->insn.raw.modrm.mod == 0 && rm == 6)
		op->base = X86_REG_ZERO;
	if (op->base == X86_RBP && !(op->flags & X86_OP_SEGOVR))
		op->seg = X86_SS;
}

static void memory(const struct x86_dec *d, struct x86_op *op, struct ext e)
{
	const ZydisDecodedInstruction *in = &d->insn;
	unsigned mod = in->raw.modrm.mod, rm = in->raw.modrm.rm;

	op->flags |= X86_OP_MEM;
	op->disp = (s32)in->raw.disp.value;
	if (op->asize == 2) {
		memory16(d, op);
		return;
	}
	op->index = X86_REG_ZERO;
	if (rm == 4) {
		bool vsib = false;

		for (unsigned i = 0; i < in->operand_count_visible; i++)
			if (d->operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
			    d->operands[i].mem.type == ZYDIS_MEMOP_TYPE_VSIB)
				vsib = true;
		op->base = in->raw.sib.base | e.b;
		op->scale = in->raw.sib.scale;
		if (vsib || (in->raw.sib.index | e.x) != 4)
			op->index = in->raw.sib.index | e.x;
		if (mod == 0 && in->raw.sib.base == 5)
			op->base = X86_REG_ZERO;
	} else if (mod == 0 && rm == 5) {
		op->base = d->code_size == 8 ? X86_REG_NEXT_RIP : X86_REG_ZERO;
	} else {
		op->base = rm | e.b;
	}
	if ((op->base == X86_RSP || op->base == X86_RBP) && !(op->flags & X86_OP_SEGOVR))
		op->seg = X86_SS;
}

/* libZydis numbers AL..BL, AH..BH, SPL..DIL, R8B..R15B. */
static u8 reg8_number(ZydisRegister reg)
{
	unsigned id = (unsigned)(reg - ZYDIS_REGISTER_AL);

	return (u8)(id < 4 ? id : id < 8 ? 0x10 | (id - 4) : id - 4);
}

/* Registers named by the opcode, and the special numbers of byte registers. */
static void registers(const struct x86_dec *d, struct x86_op *op)
{
	for (unsigned i = 0; i < d->insn.operand_count_visible; i++) {
		const ZydisDecodedOperand *o = &d->operands[i];
		bool byte;
		u8 n;

		if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		byte = ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_GPR8;
		n = byte ? reg8_number(o->reg.value) : (u8)ZydisRegisterGetId(o->reg.value);
		switch (o->encoding) {
		case ZYDIS_OPERAND_ENCODING_OPCODE:
			op->reg = n;
			break;
		case ZYDIS_OPERAND_ENCODING_MODRM_REG:
			if (byte)
				op->reg = n;
			break;
		case ZYDIS_OPERAND_ENCODING_MODRM_RM:
			if (byte)
				op->rm = n;
			break;
		case ZYDIS_OPERAND_ENCODING_IS4:
			op->imm2 = (u8)ZydisRegisterGetId(o->reg.value);
			break;
		default:
			break;
		}
	}
}

static void immediates(const struct x86_dec *d, struct x86_op *op)
{
	const ZydisDecodedInstruction *in = &d->insn;

	if (in->raw.imm[0].size)
		op->imm = (u64)sign_extend(in->raw.imm[0].value.u, in->raw.imm[0].size);
	if (in->operand_count_visible && d->operands[0].type == ZYDIS_OPERAND_TYPE_POINTER)
		op->imm = (in->raw.imm[0].value.u & 0xffffffff) | (in->raw.imm[1].value.u & 0xffff) << 32;
	else if (in->raw.imm[1].size)
		op->imm2 = (u8)in->raw.imm[1].value.u;
	if (!(in->attributes & ZYDIS_ATTRIB_HAS_MODRM) && in->raw.disp.size)
		op->imm = (u64)in->raw.disp.value & (~0ull >> (64 - op->asize * 8));
}

/* ---- What the operands are ---- */

static bool is_gpr(const ZydisDecodedOperand *o)
{
	ZydisRegisterClass c;

	if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
		return false;
	c = ZydisRegisterGetClass(o->reg.value);
	return c == ZYDIS_REGCLASS_GPR8 || c == ZYDIS_REGCLASS_GPR16 || c == ZYDIS_REGCLASS_GPR32 ||
	       c == ZYDIS_REGCLASS_GPR64;
}

/* ADD AL, imm8 and the like, TEST, XCHG: a short form of an encoding with ModRM. */
static bool short_form(const ZydisDecodedInstruction *in)
{
	if (in->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT || in->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		return false;
	return (in->opcode < 0x40 && (in->opcode & 6) == 4) || (in->opcode & 0xf8) == 0x90 ||
	       (in->opcode & 0xfe) == 0xa8;
}

static u8 gpr_operand(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *o)
{
	switch (o->encoding) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG:
	case ZYDIS_OPERAND_ENCODING_OPCODE:
		return X86_OPND_REG_GPR;
	case ZYDIS_OPERAND_ENCODING_MODRM_RM:
		return X86_OPND_RM_GPR;
	case ZYDIS_OPERAND_ENCODING_NDSNDD:
		return X86_OPND_VVVV_GPR;
	default:
		return short_form(in) ? X86_OPND_REG_GPR : X86_OPND_IMPLICIT;
	}
}

static void operands(const struct x86_dec *d, struct x86_op *op)
{
	for (unsigned i = 0; i < d->insn.operand_count; i++) {
		const ZydisDecodedOperand *o = &d->operands[i];

		if (is_gpr(o)) {
			op->opnd |= gpr_operand(&d->insn, o);
		} else if (o->type == ZYDIS_OPERAND_TYPE_MEMORY &&
			   o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM &&
			   o->mem.type != ZYDIS_MEMOP_TYPE_AGEN) {
			op->msize = (u8)min(o->size / 8, 255);
			if (o->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
				op->opnd |= X86_OPND_READ;
			if (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
				op->opnd |= X86_OPND_WRITE;
		}
	}
}

static u8 flag_byte(ZydisAccessedFlagsMask m)
{
	return (u8)((m & RFLAGS_ARITH & 0xff) | (m & RFLAGS_OF ? X86_AF_OF : 0));
}

/* May @op leave the flags as they are after all? A count of 0 does. */
static bool flags_by_count(const ZydisDecodedInstruction *in)
{
	switch (in->mnemonic) {
	case ZYDIS_MNEMONIC_SHL: case ZYDIS_MNEMONIC_SHR: case ZYDIS_MNEMONIC_SAR:
	case ZYDIS_MNEMONIC_ROL: case ZYDIS_MNEMONIC_ROR: case ZYDIS_MNEMONIC_RCL:
	case ZYDIS_MNEMONIC_RCR: case ZYDIS_MNEMONIC_SHLD: case ZYDIS_MNEMONIC_SHRD:
		/* The forms with an implied count of 1 have neither CL nor an immediate. */
		return !(in->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (in->opcode & 0xfe) == 0xd0);
	default:
		return in->attributes & (ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
	}
}

static void accessed_flags(const struct x86_dec *d, struct x86_op *op)
{
	const ZydisAccessedFlags *f = d->insn.cpu_flags;

	if (!f)
		return;
	op->flags_in = flag_byte(f->tested);
	op->flags_out = flag_byte(f->modified | f->set_0 | f->set_1 | f->undefined);
	if (flags_by_count(&d->insn))
		op->flags_in |= op->flags_out;
}

/* What a performance counter of branches counts. */
static bool is_branch(ZydisInstructionCategory c)
{
	return c == ZYDIS_CATEGORY_COND_BR || c == ZYDIS_CATEGORY_UNCOND_BR || c == ZYDIS_CATEGORY_CALL ||
	       c == ZYDIS_CATEGORY_RET || c == ZYDIS_CATEGORY_INTERRUPT || c == ZYDIS_CATEGORY_SYSCALL ||
	       c == ZYDIS_CATEGORY_SYSRET;
}

static void extract(const struct x86_dec *d, struct x86_op *op)
{
	const ZydisDecodedInstruction *in = &d->insn;
	struct ext e;

	*op = (struct x86_op){ .len = in->length, .base = X86_REG_ZERO, .index = X86_REG_ZERO,
			       .osize = in->operand_width / 8, .asize = in->address_width / 8, .vl = 16 };
	prefixes(d, op);
	e = extensions(d, op);
	if (in->attributes & ZYDIS_ATTRIB_HAS_MODRM) {
		/* MOV to and from control and debug registers takes any mod as 3. */
		bool force_reg = in->opcode_map == ZYDIS_OPCODE_MAP_0F && in->opcode >= 0x20 &&
				 in->opcode <= 0x23;

		op->reg = in->raw.modrm.reg | e.r;
		if (in->raw.modrm.mod == 3 || force_reg)
			op->rm = in->raw.modrm.rm | e.b;
		else
			memory(d, op, e);
	}
	if (d->code_size == 8 && op->asize == 8 && op->seg != X86_FS && op->seg != X86_GS)
		op->flags |= X86_OP_FLAT;
	registers(d, op);
	immediates(d, op);
	operands(d, op);
	accessed_flags(d, op);
	if (in->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE)
		op->flags |= X86_OP_END;
	if (is_branch(in->meta.category))
		op->flags |= X86_OP_BRANCH;
}

static unsigned forms(const struct x86_dec *d)
{
	unsigned f = 0;

	if (d->insn.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
		return 1u << X86_FORM_VEX;
	if (d->insn.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (d->insn.opcode & 0xf8) == 0xd8)
		return 1u << X86_FORM_X87;
	for (unsigned i = 0; i < d->insn.operand_count_visible; i++) {
		if (d->operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		switch (ZydisRegisterGetClass(d->operands[i].reg.value)) {
		case ZYDIS_REGCLASS_MMX:
			f |= 1u << X86_FORM_MMX;
			break;
		case ZYDIS_REGCLASS_XMM:
		case ZYDIS_REGCLASS_YMM:
			f |= 1u << X86_FORM_XMM;
			break;
		default:
			break;
		}
	}
	return f;
}

static unsigned mode_bit(unsigned mode)
{
	switch (mode) {
	case X86_MODE_REAL:
	case X86_MODE_VM86:
		return X86_IN_REAL;
	case X86_MODE_64:
		return X86_IN_64;
	default:
		return X86_IN_LEGACY;
	}
}

/* The handler, or NULL for an instruction that this processor does not have. */
static x86_fn *select_handler(struct x86_dec *d, struct x86_op *op)
{
	ZydisInstructionEncoding enc = d->insn.encoding;

	if (enc != ZYDIS_INSTRUCTION_ENCODING_LEGACY && enc != ZYDIS_INSTRUCTION_ENCODING_VEX)
		return NULL;	/* EVEX, XOP and 3DNow! are on no model */
	if (d->insn.meta.isa_ext == ZYDIS_ISA_EXT_KNC)
		return NULL;	/* nor are the VEX forms of POPCNT, TZCNT and LZCNT */
	if (enc == ZYDIS_INSTRUCTION_ENCODING_VEX && mode_bit(d->mode) == X86_IN_REAL)
		return NULL;
	d->row = x86_insn_find(d->insn.mnemonic, forms(d));
	if (!d->row) {
		log_debug("no row: INSN(%s, ...)", ZydisMnemonicGetString(d->insn.mnemonic));
		return NULL;
	}
	if (!(d->row->modes & mode_bit(d->mode)) || !x86_has(d->cpu, d->row->gate))
		return NULL;
	op->row = (u16)x86_insn_index(d->row);
	if (x86_insn_is_system(d->row))
		op->flags |= X86_OP_END;
	return d->row->select(d, op);
}

static ZyanStatus run_zydis(struct x86_dec *d, const u8 *bytes, unsigned n)
{
	ZydisDecoder z = decoders[d->code_size == 8 ? 2 : d->code_size == 4 ? 1 : 0];

	/* Without the feature F3 is ignored and the older BSF and BSR remain. */
	if (!x86_has(d->cpu, X86_FEAT_LZCNT))
		ZydisDecoderEnableMode(&z, ZYDIS_DECODER_MODE_LZCNT, ZYAN_FALSE);
	if (!x86_has(d->cpu, X86_FEAT_BMI1))
		ZydisDecoderEnableMode(&z, ZYDIS_DECODER_MODE_TZCNT, ZYAN_FALSE);
	if (x86_is_amd(d->cpu))
		ZydisDecoderEnableMode(&z, ZYDIS_DECODER_MODE_AMD_BRANCHES, ZYAN_TRUE);
	return ZydisDecoderDecodeFull(&z, bytes, n, &d->insn, d->operands);
}

enum x86_dec_result x86_decode_bytes(struct x86_cpu *cpu, unsigned mode, unsigned code_size,
				     const u8 *bytes, unsigned n, struct x86_op *op)
{
	struct x86_dec d = { .cpu = cpu, .mode = (u8)mode, .code_size = (u8)code_size };
	ZyanStatus status;
	x86_fn *fn;

	pthread_once(&once, init_decoders);
	status = run_zydis(&d, bytes, n);
	if (status == ZYDIS_STATUS_NO_MORE_DATA && n < 15)
		return X86_DEC_MORE;
	if (status == ZYDIS_STATUS_NO_MORE_DATA || status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG)
		return faulting(op, op_too_long, n);
	if (!ZYAN_SUCCESS(status))
		return faulting(op, x86_op_ud, 1);
	extract(&d, op);
	fn = select_handler(&d, op);
	if (!fn || fn == x86_op_ud)
		return faulting(op, x86_op_ud, op->len);
	op->fn = fn;
	return X86_DEC_OK;
}
