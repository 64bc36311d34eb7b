/* SPDX-License-Identifier: MIT */
/* The instruction table as dec.c uses it. */
#ifndef SILICON_X86_DECODE_TABLE_H
#define SILICON_X86_DECODE_TABLE_H

#include "silicon/x86/decode/dec.h"

/* @forms: bit per enum x86_form that the decoded instruction has. NULL: no such instruction. */
const struct x86_insn_row *x86_insn_find(unsigned mnemonic, unsigned forms);
unsigned x86_insn_index(const struct x86_insn_row *row);
/* A row of insn_system.def or insn_vmx.def: ends a block. */
bool x86_insn_is_system(const struct x86_insn_row *row);

#endif
