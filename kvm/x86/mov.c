// SPDX-License-Identifier: MIT
/*
 * The MOV forms that drivers use for device registers, decoded here: no second
 * processor has to be loaded. The exit told the guest-physical address; what is
 * missing is register, width and instruction length. Everything else, and
 * anything doubtful, is left to the emulator.
 */
#include <errno.h>
#include <string.h>

#include "base/epoch.h"
#include "kvm/x86/emulate.h"

struct mov {
	const u8 *p, *end;
	u8 rex;
	bool opsize, addr32;
	int seg;		/* override, or -1 */
	bool mode64;
	u8 modrm;
	u64 lin;
};

static bool next(struct mov *m, u8 *b)
{
	if (m->p == m->end)
		return false;
	*b = *m->p++;
	return true;
}

static bool prefixes(struct mov *m, u8 *op)
{
	while (next(m, op)) {
		switch (*op) {
		case 0x66: m->opsize = true; m->rex = 0; continue;
		case 0x67: m->addr32 = true; m->rex = 0; continue;
		case 0x26: m->seg = X86_ES; m->rex = 0; continue;
		case 0x2e: m->seg = X86_CS; m->rex = 0; continue;
		case 0x36: m->seg = X86_SS; m->rex = 0; continue;
		case 0x3e: m->seg = X86_DS; m->rex = 0; continue;
		case 0x64: m->seg = X86_FS; m->rex = 0; continue;
		case 0x65: m->seg = X86_GS; m->rex = 0; continue;
		case 0xf0: case 0xf2: case 0xf3:
			return false;
		default:
			break;
		}
		if (!m->mode64 || (*op & 0xf0) != 0x40)
			return true;
		m->rex = *op;
	}
	return false;
}

static bool displacement(struct mov *m, unsigned len, u64 *sum)
{
	s32 d = 0;

	if ((size_t)(m->end - m->p) < len)
		return false;
	if (len == 1)
		d = (s8)*m->p;
	else
		memcpy(&d, m->p, 4);
	m->p += len;
	*sum += (u64)(s64)d;
	return true;
}

/* ModRM with a memory operand in 32- or 64-bit addressing; sums up the offset. */
static bool memory_operand(struct hv_vcpu *v, struct mov *m, u64 *off, bool *rip_relative, int *seg)
{
	u8 mod, rm, sib;
	unsigned disp = 0;

	if (!next(m, &m->modrm))
		return false;
	mod = m->modrm >> 6;
	rm = m->modrm & 7;
	*off = 0;
	*rip_relative = false;
	*seg = X86_DS;
	if (mod == 3)
		return false;
	if (mod == 1)
		disp = 1;
	else if (mod == 2)
		disp = 4;
	if (rm == 4) {
		unsigned base, index;

		if (!next(m, &sib))
			return false;
		base = (sib & 7) | (m->rex & 1u) << 3;
		index = (sib >> 3 & 7) | (m->rex & 2u) << 2;
		if ((sib & 7) == 5 && mod == 0) {
			disp = 4;
		} else {
			*off += hv_get_gpr(v, base);
			if (base == X86_RSP || base == X86_RBP)
				*seg = X86_SS;
		}
		if (index != X86_RSP)
			*off += hv_get_gpr(v, index) << (sib >> 6);
	} else if (rm == 5 && mod == 0) {
		disp = 4;
		*rip_relative = m->mode64;
	} else {
		unsigned base = rm | (m->rex & 1u) << 3;

		*off += hv_get_gpr(v, base);
		if (base == X86_RBP)
			*seg = X86_SS;
	}
	return !disp || displacement(m, disp, off);
}

static u64 read_reg(struct hv_vcpu *v, u8 reg, unsigned size, bool rex)
{
	if (size == 1 && !rex && reg >= 4 && reg < 8)
		return hv_get_gpr(v, reg - 4) >> 8;	/* AH CH DH BH */
	return hv_get_gpr(v, reg);
}

static void write_reg(struct hv_vcpu *v, u64 val)
{
	u8 reg = v->x86->mmio.mov.reg, out = v->x86->mmio.mov.out_size;
	u8 size = v->x86->mmio.mov.size;
	u64 old;

	if (v->x86->mmio.mov.sign)
		val = (u64)sign_extend(val, size * 8);
	if (v->x86->mmio.mov.high) {
		old = hv_get_gpr(v, reg - 4);
		hv_set_gpr(v, reg - 4, bits_set(old, 15, 8, val));
		return;
	}
	old = hv_get_gpr(v, reg);
	switch (out) {
	case 1:
		val = bits_set(old, 7, 0, val);
		break;
	case 2:
		val = bits_set(old, 15, 0, val);
		break;
	case 4:
		val = (u32)val;
		break;
	default:
		break;
	}
	hv_set_gpr(v, reg, val);
}

/* RIP behind the instruction; the exit's length field is not defined for EPT violations. */
static int skip(struct hv_vcpu *v)
{
	u64 rip = vmcs_get(v, VMCS_GUEST_RIP) + v->x86->mmio.mov.len;
	u64 flags = vmcs_get(v, VMCS_GUEST_RFLAGS);
	u32 shadow = (u32)vmcs_get(v, VMCS_GUEST_INTERRUPTIBILITY);

	vmcs_set(v, VMCS_GUEST_RIP, hv_is_64bit(v) ? rip : (u32)rip);
	if (shadow & (INTERRUPTIBILITY_STI | INTERRUPTIBILITY_MOVSS)) {
		vmcs_set(v, VMCS_GUEST_INTERRUPTIBILITY,
			 shadow & ~(INTERRUPTIBILITY_STI | INTERRUPTIBILITY_MOVSS));
		hv_set_request(v, HV_REQ_EVENT);
	}
	if (flags & RFLAGS_RF)
		vmcs_set(v, VMCS_GUEST_RFLAGS, flags & ~RFLAGS_RF);
	hv_pmu_insn(v);
	v->x86->emul_db_trap = flags & RFLAGS_TF;
	v->x86->emul_db_dr6 = DR6_BS;
	return 1;
}

static int finish_read(struct hv_vcpu *v)
{
	u64 val = 0;

	memcpy(&val, v->x86->mmio.log[0].data, v->x86->mmio.mov.size);
	write_reg(v, val);
	skip(v);
	return hv_emul_finish(v);
}

static int read_answered(struct hv_vcpu *v)
{
	/* A client that moved RIP does not want the instruction any more. */
	if (hv_linear_rip(v) != v->x86->pio.rip)
		return 1;
	hv_mmio_read_done(v);
	return finish_read(v);
}

static int do_read(struct hv_vcpu *v, u64 gpa)
{
	u8 buf[8];

	v->x86->emul_user_exit = false;
	switch (hv_mmio_read(v, gpa, buf, v->x86->mmio.mov.size)) {
	case X86_BUS_OK:
		return finish_read(v);
	case X86_BUS_RETRY:
		v->x86->pio.rip = hv_linear_rip(v);
		v->x86->complete = read_answered;
		return 0;
	case X86_BUS_ERROR:
		break;
	}
	return -EOPNOTSUPP;
}

/* Operand size of the non-byte forms. */
static u8 word_size(const struct mov *m)
{
	return m->rex & 8 ? 8 : m->opsize ? 2 : 4;
}

static bool immediate(struct mov *m, unsigned size, u64 *val)
{
	unsigned len = min(size, 4u);
	s32 imm = 0;

	if ((size_t)(m->end - m->p) < len)
		return false;
	memcpy(&imm, m->p, len);
	m->p += len;
	*val = (u64)(s64)imm;
	return true;
}

/* Linear address of the operand; false unless the segment is plainly good for the access. */
static bool linear(struct hv_vcpu *v, const struct mov *m, int seg, u64 off, bool write, u64 *lin)
{
	u32 ar;

	*lin = off;
	if (m->mode64) {
		if (seg == X86_FS || seg == X86_GS)
			*lin += vmcs_get(v, VMCS_GUEST_ES_BASE + 2 * seg);
		return true;
	}
	/* Writable expand-up data without a limit; others need the rules of the manual. */
	ar = (u32)vmcs_get(v, VMCS_GUEST_ES_AR + 2 * seg);
	if ((ar & (X86_AR_UNUSABLE | BIT(3) | BIT(2))) || (write && !(ar & BIT(1))) ||
	    vmcs_get(v, VMCS_GUEST_ES_LIMIT + 2 * seg) != 0xffffffff)
		return false;
	*lin = (u32)(off + vmcs_get(v, VMCS_GUEST_ES_BASE + 2 * seg));
	return true;
}

/* Operand, direction and length into mmio.mov, the value of a store into *@val. */
static bool decode(struct hv_vcpu *v, u64 gpa, bool *write, u64 *val)
{
	struct hv_vcpu_x86 *x = v->x86;
	struct mov m = { .seg = -1 };
	bool two_byte = false, rip_relative;
	u64 off, lin, check;
	u8 insn[15], op, reg, size;
	int seg;

	m.mode64 = hv_is_64bit(v);
	if (!m.mode64 && !(hv_is_prot(v) && (vmcs_get(v, VMCS_GUEST_CS_AR) & X86_AR_DB)))
		return false;
	m.p = insn;
	m.end = insn + hv_fetch_insn(v, insn);
	if (!prefixes(&m, &op) || (m.addr32 && !m.mode64))
		return false;
	if (op == 0x0f) {
		two_byte = true;
		if (!next(&m, &op))
			return false;
	}
	if (!memory_operand(v, &m, &off, &rip_relative, &seg))
		return false;
	reg = (m.modrm >> 3 & 7) | (m.rex & 4u) << 1;
	*write = false;
	x->mmio.mov.sign = x->mmio.mov.high = false;
	x->mmio.mov.reg = reg;
	x->mmio.mov.out_size = size = word_size(&m);
	switch (two_byte << 8 | op) {
	case 0x88:
		size = 1;
		/* fallthrough */
	case 0x89:
		*write = true;
		*val = read_reg(v, reg, size, m.rex);
		break;
	case 0x8a:
		x->mmio.mov.out_size = size = 1;
		x->mmio.mov.high = !m.rex && reg >= 4;
		break;
	case 0x8b:
		break;
	case 0xc6:
		size = 1;
		/* fallthrough */
	case 0xc7:
		*write = true;
		if ((m.modrm >> 3 & 7) != 0 || !immediate(&m, size, val))
			return false;
		break;
	case 0x1b6: case 0x1be:
		size = 1;
		x->mmio.mov.sign = op == 0xbe;
		break;
	case 0x1b7: case 0x1bf:
		size = 2;
		x->mmio.mov.sign = op == 0xbf;
		break;
	default:
		return false;
	}
	x->mmio.mov.size = size;
	x->mmio.mov.len = (u8)(m.p - insn);
	if (rip_relative)
		off += vmcs_get(v, VMCS_GUEST_RIP) + x->mmio.mov.len;
	if (m.addr32)
		off = (u32)off;
	if (!linear(v, &m, m.seg >= 0 ? m.seg : seg, off, *write, &lin))
		return false;
	/* The exit may have been for a page table or the code: then this is another address. */
	return (lin & ~PAGE_MASK) + size <= PAGE_SIZE &&
	       hv_walk(v, lin, (*write ? HV_WALK_WRITE : 0) | (hv_get_cpl(v) == 3 ? HV_WALK_USER : 0),
		       &check) && check == gpa;
}

int hv_mov_mmio(struct hv_vcpu *v, u64 gpa)
{
	bool write, ok;
	u64 val = 0;

	/* One section for all the reads of a walk: those inside nest. */
	epoch_enter();
	ok = decode(v, gpa, &write, &val);
	epoch_exit();
	if (!ok)
		return -EOPNOTSUPP;
	if (!write)
		return do_read(v, gpa);
	if (hv_mmio_write(v, gpa, &val, v->x86->mmio.mov.size) != X86_BUS_OK)
		return -EOPNOTSUPP;
	skip(v);
	return hv_mmio_send_writes(v);
}
