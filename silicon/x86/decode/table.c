/* SPDX-License-Identifier: MIT */
/* The instruction table: rows of spec/x86/insn_*.def, found by mnemonic and form. */
#include "silicon/x86/decode/table.h"

#include <pthread.h>
#include <string.h>

#include "base/log.h"
#include "silicon/x86/decode/decode.h"
#include "silicon/x86/vmx/intercept.h"

#define INSN(mnemonic_, form_, gate_, modes_, priv_, vmx_, svm_, select_) \
	{ .name = #mnemonic_, .mnemonic = ZYDIS_MNEMONIC_##mnemonic_, .form = X86_FORM_##form_, \
	  .gate = X86_FEAT_##gate_, .modes = X86_IN_##modes_, .priv = X86_PRIV_##priv_, \
	  .vmx = X86_ICPT_##vmx_, .svm = X86_ICPT_##svm_, .select = x86_sel_##select_ },
static const struct x86_insn_row rows[] = {
#include "spec/x86/insn_all.def"
};
#undef INSN

/* Rows of one file are adjacent: where each begins. */
#define INSN(...) + 1
enum {
	BASE_ROWS = 0,
	SYSTEM_ROWS = 0
#include "spec/x86/insn_base.def"
	,
	VMX_ROWS = SYSTEM_ROWS
#include "spec/x86/insn_system.def"
	,
	X87_ROWS = VMX_ROWS
#include "spec/x86/insn_vmx.def"
	,
	SSE_ROWS = X87_ROWS
#include "spec/x86/insn_x87.def"
	,
	AVX_ROWS = SSE_ROWS
#include "spec/x86/insn_sse.def"
	,
	END_ROWS = AVX_ROWS
#include "spec/x86/insn_avx.def"
};
#undef INSN
_Static_assert(END_ROWS == ARRAY_SIZE(rows), "insn_all.def includes the files in this order");

/* Rows of a mnemonic, possibly in several files: lists of index + 1, 0 ends. */
static u16 first_row[ZYDIS_MNEMONIC_MAX_VALUE + 1];
static u16 next_row[ARRAY_SIZE(rows)];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void index_rows(void)
{
	for (unsigned i = ARRAY_SIZE(rows); i-- > 0; ) {
		next_row[i] = first_row[rows[i].mnemonic];
		first_row[rows[i].mnemonic] = (u16)(i + 1);
	}
}

/* A row for the operand kinds present wins over one for ANY. */
const struct x86_insn_row *x86_insn_find(unsigned mnemonic, unsigned forms)
{
	const struct x86_insn_row *any = NULL;

	pthread_once(&once, index_rows);
	for (unsigned i = first_row[mnemonic]; i; i = next_row[i - 1]) {
		const struct x86_insn_row *r = &rows[i - 1];

		if (r->form == X86_FORM_ANY)
			any = r;
		else if (forms >> r->form & 1)
			return r;
	}
	return any;
}

unsigned x86_insn_index(const struct x86_insn_row *row)
{
	return (unsigned)(row - rows);
}

bool x86_insn_is_system(const struct x86_insn_row *row)
{
	return row >= rows + SYSTEM_ROWS && row < rows + X87_ROWS;
}

const struct x86_insn_row *x86_insn_row(unsigned row)
{
	BUG_ON(row >= ARRAY_SIZE(rows));
	return &rows[row];
}

unsigned x86_insn_rows(void)
{
	return ARRAY_SIZE(rows);
}

static bool begins_file(unsigned i)
{
	return i == BASE_ROWS || i == SYSTEM_ROWS || i == VMX_ROWS || i == X87_ROWS ||
	       i == SSE_ROWS || i == AVX_ROWS;
}

static bool duplicate(const struct x86_insn_row *row)
{
	for (unsigned i = first_row[row->mnemonic]; i; i = next_row[i - 1])
		if (&rows[i - 1] != row && rows[i - 1].form == row->form)
			return true;
	return false;
}

/*
 * Every file sorted by name and form; one row per (mnemonic, form) in all.
 * That selectors exist is proved by linking.
 */
const char *x86_insn_table_lint(void)
{
	pthread_once(&once, index_rows);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct x86_insn_row *r = &rows[i], *prev = r - 1;
		int order;

		if (!r->modes || duplicate(r))
			return r->name;
		if (begins_file(i))
			continue;
		order = strcmp(prev->name, r->name);
		if (order > 0 || (order == 0 && prev->form >= r->form))
			return r->name;
	}
	return NULL;
}
