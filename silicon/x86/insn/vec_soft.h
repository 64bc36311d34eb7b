/* SPDX-License-Identifier: MIT */
/*
 * Bodies of vector instructions in portable C. SOFT(NAME) computes what the
 * row NAME of vec_body.def does; bytes of *d above the operand size are ignored.
 */
#ifndef SILICON_X86_INSN_VEC_SOFT_H
#define SILICON_X86_INSN_VEC_SOFT_H

#include <string.h>

#include "silicon/x86/insn/vec.h"

#define SOFT(name) \
	void x86_soft_##name(struct x86_ymm *d, const struct x86_ymm *s1, const struct x86_ymm *s2, \
			     const struct x86_ymm *s3, u8 imm)

/* Of every row whose class is AES, CLM or SHA. */
#define CLASS_IF_SOFT_INT(...)
#define CLASS_IF_SOFT_FP(...)
#define CLASS_IF_SOFT_AES(...) __VA_ARGS__
#define CLASS_IF_SOFT_CLM(...) __VA_ARGS__
#define CLASS_IF_SOFT_SHA(...) __VA_ARGS__
#define VEC(name, shape, widths, class) CLASS_IF_SOFT_##class(SOFT(name);)
#define VECI(name, shape, widths, class, n) CLASS_IF_SOFT_##class(SOFT(name);)
#define LEG(name, shape, class) CLASS_IF_SOFT_##class(SOFT(name);)
#define LEGI(name, shape, class, n) CLASS_IF_SOFT_##class(SOFT(name);)
#include "silicon/x86/insn/vec_body.def"

#endif
