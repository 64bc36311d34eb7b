// SPDX-License-Identifier: MIT
/* A case as text, what it leaves undefined, and the smallest case that still fails. */
#include <stdio.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "tests/diff/diff.h"
#include "tests/diff/forms.h"

static bool decode(const struct diff_case *c, unsigned offset, ZydisDecodedInstruction *in, ZydisDecodedOperand *ops)
{
	ZydisDecoder dec;

	ZydisDecoderInit(&dec, c->bits32 ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32 : ZYDIS_MACHINE_MODE_LONG_64,
			 c->bits32 ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_64);
	return offset < c->len && ZYAN_SUCCESS(ZydisDecoderDecodeFull(&dec, c->code + offset, c->len - offset, in, ops));
}

u16 diff_mnemonic(const struct diff_case *c)
{
	ZydisDecodedInstruction in;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];

	return decode(c, 0, &in, ops) ? in.mnemonic : ZYDIS_MNEMONIC_INVALID;
}

static unsigned disas(const struct diff_case *c, unsigned offset, char *buf, size_t len)
{
	ZydisDecodedInstruction in;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	ZydisFormatter f;

	if (!decode(c, offset, &in, ops)) {
		snprintf(buf, len, "(undecodable)");
		return 0;
	}
	ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
	ZydisFormatterFormatInstruction(&f, &in, ops, in.operand_count_visible, buf, len, c->in.rip + offset, NULL);
	return in.length;
}

void diff_disas(const struct diff_case *c, char *buf, size_t len)
{
	disas(c, 0, buf, len);
}

void diff_disas_block(const struct diff_case *c, const char *prefix)
{
	for (unsigned i = 0; i < c->nr; i++) {
		unsigned at = c->insn[i].offset, end = i + 1 < c->nr ? c->insn[i + 1].offset : c->len, len;
		char text[160], hex[40];

		if (c->code[at] == 0x90)
			continue;
		len = disas(c, at, text, sizeof(text));
		/* What is no instruction: bytes that the block writes to. */
		if (!len)
			len = end - at;
		for (unsigned k = 0; k < len && k < 16; k++)
			sprintf(hex + 2 * k, "%02x", c->code[at + k]);
		printf("%s%llx: %-32s %s\n", prefix, (unsigned long long)c->in.rip + at, hex, text);
	}
}

u64 diff_undefined_flags(const struct diff_case *c, u8 vector, u64 rip)
{
	ZydisDecodedInstruction in;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	u64 at = rip - c->in.rip - (vector == 3);

	if (!c->nr)
		return decode(c, 0, &in, ops) ? diff_form_undefined(&in) : 0;
	for (unsigned i = 0; i <= c->nr; i++)
		if (c->insn[i].offset == at)
			return c->insn[i].undefined;
	return 0;
}

/* Instruction @i and its group become NOPs. */
static void drop(struct diff_case *c, unsigned i)
{
	u16 group = c->insn[i].group;

	for (unsigned k = 0; k < c->nr; k++) {
		unsigned at = c->insn[k].offset, end = k + 1 < c->nr ? c->insn[k + 1].offset : c->len;

		if (k == i || (group && c->insn[k].group == group))
			memset(c->code + at, 0x90, end - at);
	}
}

void diff_minimise(struct diff_case *c, bool (*fails)(const struct diff_case *c))
{
	bool smaller = true;

	while (smaller) {
		smaller = false;
		/* From the end: what follows the failure goes first. */
		for (unsigned i = c->nr; i-- > 0; ) {
			struct diff_case try = *c;

			if (c->code[c->insn[i].offset] == 0x90)
				continue;
			drop(&try, i);
			if (diff_flow(&try) && fails(&try)) {
				*c = try;
				smaller = true;
			}
		}
	}
}
