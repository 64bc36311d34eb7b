/* SPDX-License-Identifier: MIT */
/* Which instruction forms the tester may run on the host, and what they leave undefined. */
#ifndef TESTS_DIFF_FORMS_H
#define TESTS_DIFF_FORMS_H

#include <Zydis/Zydis.h>

#include "base/types.h"

bool diff_form_allowed(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *ops, bool bits32);
u64 diff_form_undefined(const ZydisDecodedInstruction *in);

#endif
