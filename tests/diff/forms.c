// SPDX-License-Identifier: MIT
/*
 * Filter of instruction forms. User-mode instructions that the model advertises
 * and the host has; not those that leave the program (system calls), that read
 * what differs by nature (time, random numbers, the host's identity), or that
 * the host kernel needs untouched (segment registers, FS base).
 */
#include "tests/diff/forms.h"

#include <string.h>

#define F_CF 0x1
#define F_PF 0x4
#define F_AF 0x10
#define F_ZF 0x40
#define F_SF 0x80
#define F_OF 0x800

static const struct {
	ZydisMnemonic mnemonic;
	u32 flags;
} undefined[] = {
#define UNDEF(m, f, source) { ZYDIS_MNEMONIC_##m, f },
#include "tests/diff/undefined.def"
#undef UNDEF
};

u64 diff_form_undefined(const ZydisDecodedInstruction *in)
{
	for (unsigned i = 0; i < ARRAY_SIZE(undefined); i++)
		if (undefined[i].mnemonic == in->mnemonic)
			return undefined[i].flags;
	return 0;
}

static bool host_has(const char *feature)
{
	__builtin_cpu_init();
	if (!strcmp(feature, "avx2"))
		return __builtin_cpu_supports("avx2");
	if (!strcmp(feature, "fma"))
		return __builtin_cpu_supports("fma");
	if (!strcmp(feature, "bmi2"))
		return __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
	if (!strcmp(feature, "avx"))
		return __builtin_cpu_supports("avx");
	return true;
}

static bool host_leaf7(unsigned ebx_bit)
{
	static u32 ebx;

	if (!ebx) {
		u32 a = 7, c = 0, d;

		__asm__("cpuid" : "+a"(a), "=b"(ebx), "+c"(c), "=d"(d));
	}
	return ebx >> ebx_bit & 1;
}

static bool host_leaf7c(unsigned ecx_bit)
{
	static u32 ecx, known;

	if (!known) {
		u32 a = 7, b, d;

		ecx = 0;
		__asm__("cpuid" : "+a"(a), "=b"(b), "+c"(ecx), "=d"(d));
		known = 1;
	}
	return ecx >> ecx_bit & 1;
}

static bool isa_allowed(ZydisISASet isa)
{
	switch (isa) {
	case ZYDIS_ISA_SET_I86: case ZYDIS_ISA_SET_I186: case ZYDIS_ISA_SET_I286REAL:
	case ZYDIS_ISA_SET_I386: case ZYDIS_ISA_SET_I486REAL: case ZYDIS_ISA_SET_PENTIUMREAL:
	case ZYDIS_ISA_SET_PENTIUMMMX: case ZYDIS_ISA_SET_PPRO: case ZYDIS_ISA_SET_LONGMODE:
	case ZYDIS_ISA_SET_CMOV: case ZYDIS_ISA_SET_FCMOV: case ZYDIS_ISA_SET_LAHF:
	case ZYDIS_ISA_SET_X87: case ZYDIS_ISA_SET_SSE: case ZYDIS_ISA_SET_SSEMXCSR:
	case ZYDIS_ISA_SET_SSE2: case ZYDIS_ISA_SET_SSE2MMX: case ZYDIS_ISA_SET_SSE3:
	case ZYDIS_ISA_SET_SSE3X87: case ZYDIS_ISA_SET_SSSE3: case ZYDIS_ISA_SET_SSSE3MMX:
	case ZYDIS_ISA_SET_SSE4: case ZYDIS_ISA_SET_SSE42: case ZYDIS_ISA_SET_CMPXCHG16B:
	case ZYDIS_ISA_SET_POPCNT: case ZYDIS_ISA_SET_FAT_NOP: case ZYDIS_ISA_SET_PREFETCH_NOP:
	case ZYDIS_ISA_SET_SSE_PREFETCH: case ZYDIS_ISA_SET_CLFSH: case ZYDIS_ISA_SET_PAUSE:
	case ZYDIS_ISA_SET_MOVBE: case ZYDIS_ISA_SET_LZCNT: case ZYDIS_ISA_SET_AES:
	case ZYDIS_ISA_SET_PCLMULQDQ:
		return true;
	case ZYDIS_ISA_SET_AVX: case ZYDIS_ISA_SET_AVXAES: case ZYDIS_ISA_SET_F16C:
		return host_has("avx");
	case ZYDIS_ISA_SET_AVX2: case ZYDIS_ISA_SET_AVX2GATHER:
		return host_has("avx2");
	case ZYDIS_ISA_SET_FMA:
		return host_has("fma");
	case ZYDIS_ISA_SET_BMI1: case ZYDIS_ISA_SET_BMI2:
		return host_has("bmi2");
	case ZYDIS_ISA_SET_SHA:
		return host_leaf7(29);
	case ZYDIS_ISA_SET_ADOX_ADCX:
		return host_leaf7(19);
	case ZYDIS_ISA_SET_CLFLUSHOPT:
		return host_leaf7(23);
	case ZYDIS_ISA_SET_CLWB:
		return host_leaf7(24);
	case ZYDIS_ISA_SET_MOVDIR:
		return host_leaf7c(27);
	default:
		return false;
	}
}

static bool mnemonic_excluded(ZydisMnemonic m)
{
	switch (m) {
	/* Of the instruction set of MOVDIRI, but with a CPUID bit of its own. */
	case ZYDIS_MNEMONIC_MOVDIR64B:
	/* Leave the program or the mode. */
	case ZYDIS_MNEMONIC_INT: case ZYDIS_MNEMONIC_SYSCALL: case ZYDIS_MNEMONIC_SYSENTER:
	case ZYDIS_MNEMONIC_SYSEXIT: case ZYDIS_MNEMONIC_SYSRET: case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD: case ZYDIS_MNEMONIC_IRETQ: case ZYDIS_MNEMONIC_INT1:
	case ZYDIS_MNEMONIC_HLT: case ZYDIS_MNEMONIC_IN: case ZYDIS_MNEMONIC_OUT:
	case ZYDIS_MNEMONIC_INSB: case ZYDIS_MNEMONIC_INSW: case ZYDIS_MNEMONIC_INSD:
	case ZYDIS_MNEMONIC_OUTSB: case ZYDIS_MNEMONIC_OUTSW: case ZYDIS_MNEMONIC_OUTSD:
	/* The kernel emulates or traces them, or they tell of the host. */
	case ZYDIS_MNEMONIC_SGDT: case ZYDIS_MNEMONIC_SIDT: case ZYDIS_MNEMONIC_SLDT:
	case ZYDIS_MNEMONIC_STR: case ZYDIS_MNEMONIC_SMSW: case ZYDIS_MNEMONIC_CPUID:
	case ZYDIS_MNEMONIC_RDTSC: case ZYDIS_MNEMONIC_RDTSCP: case ZYDIS_MNEMONIC_RDPMC:
	case ZYDIS_MNEMONIC_LAR: case ZYDIS_MNEMONIC_LSL: case ZYDIS_MNEMONIC_VERR:
	case ZYDIS_MNEMONIC_VERW: case ZYDIS_MNEMONIC_ARPL:
	/* Segment registers. */
	case ZYDIS_MNEMONIC_LDS: case ZYDIS_MNEMONIC_LES: case ZYDIS_MNEMONIC_LFS:
	case ZYDIS_MNEMONIC_LGS: case ZYDIS_MNEMONIC_LSS:
	/* Image holds FIP/FDP, which the signal frame does not keep exactly. */
	case ZYDIS_MNEMONIC_FNSTENV: case ZYDIS_MNEMONIC_FNSAVE: case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64: case ZYDIS_MNEMONIC_FXRSTOR: case ZYDIS_MNEMONIC_FXRSTOR64:
	case ZYDIS_MNEMONIC_FLDENV: case ZYDIS_MNEMONIC_FRSTOR:
	/* TF and AC would hit the tester itself. */
	case ZYDIS_MNEMONIC_POPF: case ZYDIS_MNEMONIC_POPFD: case ZYDIS_MNEMONIC_POPFQ:
	/* Partial effects of a fault differ by core: unit tests cover them. */
	case ZYDIS_MNEMONIC_POPA: case ZYDIS_MNEMONIC_POPAD:
		return true;
	default:
		return false;
	}
}

bool diff_form_allowed(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *ops, bool bits32)
{
	if (in->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX || in->encoding == ZYDIS_INSTRUCTION_ENCODING_MVEX ||
	    in->encoding == ZYDIS_INSTRUCTION_ENCODING_XOP || in->encoding == ZYDIS_INSTRUCTION_ENCODING_3DNOW)
		return false;
	if (!isa_allowed(in->meta.isa_set) || mnemonic_excluded(in->mnemonic))
		return false;
	if (in->attributes & ZYDIS_ATTRIB_IS_PRIVILEGED)
		return false;
	switch (in->meta.category) {
	case ZYDIS_CATEGORY_COND_BR: case ZYDIS_CATEGORY_UNCOND_BR: case ZYDIS_CATEGORY_CALL:
	case ZYDIS_CATEGORY_RET:
		/* Near, relative, to where INT3s are; the rest has unit tests. */
		if (in->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
			return false;
		if (in->meta.category != ZYDIS_CATEGORY_COND_BR || in->operand_width == 16)
			return false;
		/* Not back into the instruction itself: that would not end. */
		if (!in->raw.imm[0].is_relative || in->raw.imm[0].value.s < -32 || in->raw.imm[0].value.s > 31 ||
		    (in->raw.imm[0].value.s < 0 && in->raw.imm[0].value.s >= -(s64)in->length))
			return false;
		break;
	case ZYDIS_CATEGORY_SYSTEM: case ZYDIS_CATEGORY_SYSCALL: case ZYDIS_CATEGORY_SYSRET:
	case ZYDIS_CATEGORY_INTERRUPT: case ZYDIS_CATEGORY_IO: case ZYDIS_CATEGORY_IOSTRINGOP:
		return in->mnemonic == ZYDIS_MNEMONIC_INT3;
	default:
		break;
	}
	for (unsigned i = 0; i < in->operand_count; i++) {
		if (ops[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    ZydisRegisterGetClass(ops[i].reg.value) == ZYDIS_REGCLASS_SEGMENT)
			return false;
		if (ops[i].type == ZYDIS_OPERAND_TYPE_MEMORY && ops[i].mem.type == ZYDIS_MEMOP_TYPE_MIB)
			return false;
	}
	return true;
}
