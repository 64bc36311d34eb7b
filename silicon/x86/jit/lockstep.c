// SPDX-License-Identifier: MIT
/*
 * The engine lockstep: each translation against the handlers of its block.
 *
 * The handlers go first, in a dry run: registers are put back afterwards, and stores never
 * leave a buffer (mmu/dry.h), so other processors and devices see only what the translation
 * does then. Registers, flags, vector and x87 state, faults and stored memory are compared.
 *
 * Not compared: blocks with system instructions or exits, which are executed by their
 * translation alone; dry runs that meet the APIC page, decoded code or anything else that is
 * more than registers and memory; translations that an event cuts short; and differences that
 * come from memory that somebody else has changed between the two runs.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "silicon/x86/cpulist.h"
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/flags.h"
#include "silicon/x86/jit/cache.h"
#include "silicon/x86/jit/jit.h"
#include "silicon/x86/mmu/dry.h"
#include "silicon/x86/vmx/intercept.h"

/* What instructions that may be run dry can change; the rest of the struct others may write to. */
static const struct { size_t from, to; } own[] = {
	{ 0, offsetof(struct x86_cpu, events) },
	{ offsetof(struct x86_cpu, slow), offsetof(struct x86_cpu, op) },
	{ offsetof(struct x86_cpu, seg), offsetof(struct x86_cpu, star) },
	{ offsetof(struct x86_cpu, fpu), offsetof(struct x86_cpu, apic_id) },
};

struct state {
	u8 at[offsetof(struct x86_cpu, apic_id)];
	u64 rflags;
	u8 kind, vector, has_error;	/* of a fault; kind = 0: none */
	u32 error;
	u64 payload;
};

struct jit_lockstep {
	struct x86_dry dry;
	struct state before, want, got;
	u32 executed;			/* instructions of the dry run */
	u64 nr_same, nr_alone, nr_given_up, nr_cut, nr_disturbed;
};

int jit_lockstep_new(struct x86_jit *j)
{
	j->lockstep = calloc(1, sizeof(*j->lockstep));
	return j->lockstep ? 0 : -ENOMEM;
}

void jit_lockstep_free(struct x86_jit *j, bool statistics)
{
	const struct jit_lockstep *ls = j->lockstep;

	if (ls && statistics)
		dprintf(STDERR_FILENO, "lockstep: %llu blocks were the same; not compared: %llu by their instructions, "
			"%llu given up, %llu cut short, %llu disturbed by others\n",
			(unsigned long long)ls->nr_same, (unsigned long long)ls->nr_alone,
			(unsigned long long)ls->nr_given_up, (unsigned long long)ls->nr_cut,
			(unsigned long long)ls->nr_disturbed);
	free(j->lockstep);
	j->lockstep = NULL;
}

/* ---- What may be run dry ---- */

static bool dry_op(const struct x86_op *op, const u8 *bytes, unsigned word)
{
	static x86_select_fn *const always[] = { x86_sel_stac, x86_sel_clac, x86_sel_cli };
	static x86_select_fn *const branch[] = {
		x86_sel_jcc, x86_sel_jmp, x86_sel_call, x86_sel_ret, x86_sel_jcxz, x86_sel_loop, x86_sel_loope,
		x86_sel_loopne,
	};
	const struct x86_insn_row *row = x86_insn_row(op->row);

	if (op->fn == x86_op_ud)
		return true;
	for (unsigned i = 0; i < ARRAY_SIZE(always); i++)
		if (row->select == always[i])
			return true;
	if (row->vmx != X86_ICPT_NONE || row->priv != X86_PRIV_ANY)
		return false;
	if (!(op->flags & X86_OP_END))
		return true;
	for (unsigned i = 0; i < ARRAY_SIZE(branch); i++)
		if (row->select == branch[i])
			return jit_is_near(op, bytes, word);
	return row->select == x86_sel_movs || row->select == x86_sel_stos || row->select == x86_sel_lods ||
	       row->select == x86_sel_cmps || row->select == x86_sel_scas;
}

enum { DRY_UNKNOWN, DRY_YES, DRY_NO };

static bool may_run_dry(struct x86_jit_trans *t)
{
	const struct x86_block *b = t->block;
	const u8 *bytes = x86_block_bytes(b);

	if (t->dry == DRY_UNKNOWN) {
		t->dry = DRY_YES;
		for (unsigned i = 0; i < b->nr_ops; i++)
			if (!dry_op(&b->op[i], bytes + t->off[i], jit_word(t->page->kind)))
				t->dry = DRY_NO;
	}
	return t->dry == DRY_YES;
}

/* ---- Both runs ---- */

static void keep(const struct x86_cpu *cpu, struct state *s, int kind)
{
	for (unsigned i = 0; i < ARRAY_SIZE(own); i++)
		memcpy(s->at + own[i].from, (const u8 *)cpu + own[i].from, own[i].to - own[i].from);
	s->rflags = x86_get_rflags(cpu);
	s->kind = (u8)kind;
	if (kind == X86_UNWIND_FAULT) {
		s->vector = cpu->fault.vector;
		s->has_error = cpu->fault.has_error;
		s->error = cpu->fault.has_error ? cpu->fault.error : 0;
		s->payload = cpu->fault.payload;
	}
}

static void put_back(struct x86_cpu *cpu, const struct state *s)
{
	for (unsigned i = 0; i < ARRAY_SIZE(own); i++)
		memcpy((u8 *)cpu + own[i].from, s->at + own[i].from, own[i].to - own[i].from);
}

static void handlers(struct x86_cpu *cpu, const struct x86_jit_trans *t)
{
	const struct x86_block *b = t->block;
	struct jit_lockstep *ls = cpu->jit->lockstep;
	u8 idx = cpu->mmu_idx;

	cpu->op_first = b->op;
	for (ls->executed = 0; ls->executed < b->nr_ops && cpu->mmu_idx == idx; ) {
		const struct x86_op *op = &b->op[ls->executed];

		/* An array that nothing is ever found in: every access comes to the buffer. */
		cpu->tlb = &cpu->tlbs[X86_MMU_USER_ALIGN];
		cpu->op = op;
		cpu->rip = t->lin + t->off[ls->executed];
		cpu->gpr[X86_REG_NEXT_RIP] = cpu->rip + op->len;
		op->fn(cpu, op);
		ls->executed++;
		/* Something between instructions is to be done: a suspended REP, a trap. */
		if (cpu->slow)
			x86_dry_give_up(cpu);
		/* A branch in the middle of the block, taken. */
		if (cpu->gpr[X86_REG_NEXT_RIP] != cpu->rip + op->len)
			break;
	}
	cpu->rip = cpu->gpr[X86_REG_NEXT_RIP];
}

#define GIVEN_UP (-1)

/* 0, X86_UNWIND_FAULT or GIVEN_UP. */
static __attribute__((noinline)) int run_handlers(struct x86_cpu *cpu, const struct x86_jit_trans *t)
{
	sigjmp_buf here, *volatile outer = cpu->unwind;

	cpu->unwind = &here;
	if (sigsetjmp(here, 0)) {
		cpu->unwind = outer;
		return cpu->fault.kind == X86_UNWIND_FAULT ? X86_UNWIND_FAULT : GIVEN_UP;
	}
	handlers(cpu, t);
	cpu->unwind = outer;
	return 0;
}

/* The processor is as before then, ls->want as the block left it. False: given up. */
static bool run_dry(struct x86_cpu *cpu, const struct x86_jit_trans *t)
{
	struct jit_lockstep *ls = cpu->jit->lockstep;
	int kind;

	keep(cpu, &ls->before, 0);
	x86_dry_reset(&ls->dry);
	cpu->dry = &ls->dry;
	kind = run_handlers(cpu, t);
	cpu->dry = NULL;
	cpu->op = NULL;
	if (kind != GIVEN_UP)
		keep(cpu, &ls->want, kind);
	put_back(cpu, &ls->before);
	return kind != GIVEN_UP;
}

/* 0, or the enum x86_unwind by which the translation was left. */
static __attribute__((noinline)) int run_translation(struct x86_cpu *cpu, struct x86_jit_trans *t)
{
	sigjmp_buf here, *volatile outer = cpu->unwind;

	cpu->unwind = &here;
	if (sigsetjmp(here, 0)) {
		cpu->unwind = outer;
		return cpu->fault.kind;
	}
	jit_enter(cpu, t);
	cpu->unwind = outer;
	return 0;
}

/* ---- Comparing ---- */

/* Differences are reported if @print. */
struct compare {
	const struct jit_lockstep *ls;
	bool print, bad;
};

static void differ(struct compare *c, const char *name, const void *want, const void *got, unsigned size)
{
	char line[2][2 * 32 + 1];

	if (!memcmp(want, got, size))
		return;
	c->bad = true;
	if (!c->print)
		return;
	for (unsigned k = 0; k < 2; k++)
		for (unsigned i = 0; i < size; i++)
			snprintf(line[k] + 2 * i, 3, "%02x", ((const u8 *)(k ? got : want))[size - 1 - i]);
	log_error("lockstep: %-8s interp %s  jit %s", name, line[0], line[1]);
}

/* Costs more than all comparing, so only where it will be read. */
#define NAME(c, name, ...) ((c)->print ? (void)snprintf(name, sizeof(name), __VA_ARGS__) : (void)0)

#define FIELD(c, name, f) \
	differ(c, name, (c)->ls->want.at + offsetof(struct x86_cpu, f), \
	       (c)->ls->got.at + offsetof(struct x86_cpu, f), sizeof(((struct x86_cpu *)0)->f))
#define VALUE(c, f) differ(c, #f, &(c)->ls->want.f, &(c)->ls->got.f, sizeof((c)->ls->got.f))

static void compare_registers(struct compare *c)
{
	static const char *const gpr[] = {
		"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
	};
	char name[8] = "";

	for (unsigned i = 0; i < X86_NR_GPRS; i++)
		FIELD(c, gpr[i], gpr[i]);
	FIELD(c, "rip", rip);
	VALUE(c, rflags);
	for (unsigned i = 0; i < 16; i++) {
		NAME(c, name, "ymm%u", i);
		FIELD(c, name, fpu.ymm[i]);
	}
	FIELD(c, "mxcsr", fpu.mxcsr);
	for (unsigned i = 0; i < 8; i++) {
		NAME(c, name, "st%u", i);
		FIELD(c, name, fpu.st[i].mant);
		FIELD(c, name, fpu.st[i].exp);
	}
	FIELD(c, "fcw", fpu.fcw);
	FIELD(c, "fsw", fpu.fsw);
	FIELD(c, "ftw", fpu.ftw);
	FIELD(c, "fip", fpu.fip);
	FIELD(c, "fdp", fpu.fdp);
	VALUE(c, kind);
	if (c->ls->want.kind == X86_UNWIND_FAULT && c->ls->got.kind == X86_UNWIND_FAULT) {
		VALUE(c, vector);
		VALUE(c, has_error);
		VALUE(c, error);
		VALUE(c, payload);
	}
}

static void compare_memory(struct compare *c)
{
	const struct x86_dry *d = &c->ls->dry;
	char name[24] = "";

	for (unsigned i = 0; i < d->nr; i++) {
		const struct x86_dry_word *w = &d->word[i];

		for (unsigned n = 0; n < 8; n++) {
			u8 now;

			if (!(w->stored >> n & 1))
				continue;
			now = __atomic_load_n((const u8 *)w->at + n, __ATOMIC_RELAXED);
			NAME(c, name, "%llx", (unsigned long long)w->at + n);
			differ(c, name, &w->now[n], &now, 1);
		}
	}
}

static bool compare(const struct jit_lockstep *ls, bool print)
{
	struct compare c = { .ls = ls, .print = print };

	compare_registers(&c);
	compare_memory(&c);
	return c.bad;
}

static bool others_run(const struct x86_cpu *cpu)
{
	bool found = false;

	while (!x86_cpu_list_trylock())
		;
	for (const struct x86_cpu *c = x86_cpu_list(); c; c = c->next_cpu)
		found |= c != cpu && c->jit;
	x86_cpu_list_unlock();
	return found;
}

/*
 * May another processor or a device have caused the difference: is memory that was loaded not
 * what it was, or, where others execute, memory that both of us change?
 */
static bool disturbed(const struct x86_cpu *cpu)
{
	const struct x86_dry *d = &cpu->jit->lockstep->dry;
	bool others = others_run(cpu);

	for (unsigned i = 0; i < d->nr; i++)
		for (unsigned n = 0; n < 8; n++) {
			const struct x86_dry_word *w = &d->word[i];
			bool loaded = w->loaded >> n & 1, stored = w->stored >> n & 1;

			if (stored ? loaded && others :
			    loaded && __atomic_load_n((const u8 *)w->at + n, __ATOMIC_RELAXED) != w->seen[n])
				return true;
		}
	return false;
}

/* ---- Reporting ---- */

static void disassemble(const struct x86_jit_trans *t)
{
	const struct x86_block *b = t->block;
	const u8 *bytes = x86_block_bytes(b);
	ZydisDecoder dec;
	ZydisFormatter fmt;

	if (jit_word(t->page->kind) == 8)
		ZydisDecoderInit(&dec, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	else
		ZydisDecoderInit(&dec, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
	ZydisFormatterInit(&fmt, ZYDIS_FORMATTER_STYLE_INTEL);
	for (unsigned i = 0; i < b->nr_ops; i++) {
		ZydisDecodedInstruction in;
		ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
		const u8 *p = bytes + t->off[i];
		u64 rip = t->lin + t->off[i];
		char text[128] = "?", hex[2 * 15 + 1] = "";

		for (unsigned k = 0; k < b->op[i].len; k++)
			snprintf(hex + 2 * k, 3, "%02x", p[k]);
		if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&dec, p, b->op[i].len, &in, ops)))
			ZydisFormatterFormatInstruction(&fmt, &in, ops, in.operand_count_visible, text, sizeof(text), rip, NULL);
		log_error("lockstep: %#llx  %-30s %s", (unsigned long long)rip, hex, text);
	}
}

static void print_start(const struct state *s)
{
	const u64 *g = (const u64 *)s->at;	/* gpr is first */

	for (unsigned i = 0; i < X86_NR_GPRS; i += 4)
		log_error("lockstep: before: r%u.. %016llx %016llx %016llx %016llx", i, (unsigned long long)g[i],
			  (unsigned long long)g[i + 1], (unsigned long long)g[i + 2], (unsigned long long)g[i + 3]);
	log_error("lockstep: before: rflags %llx", (unsigned long long)s->rflags);
}

/* Memory holds what the translation did, so nothing can go on from here. */
static _Noreturn void report(const struct jit_lockstep *ls, const struct x86_jit_trans *t)
{
	_Static_assert(offsetof(struct x86_cpu, gpr) == 0, "print_start() reads it");
	log_error("lockstep: the engines differ in the block at %#llx, after %llu that were the same",
		  (unsigned long long)t->lin, (unsigned long long)ls->nr_same);
	disassemble(t);
	print_start(&ls->before);
	compare(ls, true);
	_exit(X86_LOCKSTEP_EXIT);
}

/*
 * Did an event, or state that only handlers know, end the translation before its last
 * instruction, or before the one that faults?
 */
static bool cut_short(const struct x86_cpu *cpu, const struct x86_jit_trans *t, int kind, u32 executed)
{
	const struct jit_lockstep *ls = cpu->jit->lockstep;
	u32 end = ls->executed + (ls->want.kind == X86_UNWIND_FAULT);

	if (kind)
		return kind != X86_UNWIND_FAULT;
	if (cpu->slow)
		return true;
	return executed < end && cpu->rip == t->lin + t->off[executed];
}

/* A page that a store of the same block may have made present: walks read memory, not the buffer. */
static bool blind_walk(const struct jit_lockstep *ls, int kind)
{
	if (ls->want.kind != X86_UNWIND_FAULT || ls->want.vector != X86_PF || kind)
		return false;
	for (unsigned i = 0; i < ls->dry.nr; i++)
		if (ls->dry.word[i].stored)
			return true;
	return false;
}

bool x86_lockstep_run(struct x86_cpu *cpu)
{
	struct x86_jit_trans *t = jit_find(cpu, false);
	struct jit_lockstep *ls = cpu->jit->lockstep;
	u64 count = cpu->insn_count;
	int kind;

	cpu->jit_link = NULL;
	if (!t)
		return false;
	cpu->jit->nr_enter++;
	if (!may_run_dry(t) || cpu->dr7 & 0xff) {
		ls->nr_alone++;
		jit_enter(cpu, t);
		return true;
	}
	if (!run_dry(cpu, t)) {
		ls->nr_given_up++;
		jit_enter(cpu, t);
		return true;
	}
	kind = run_translation(cpu, t);
	if (cut_short(cpu, t, kind, (u32)(cpu->insn_count - count)) || blind_walk(ls, kind)) {
		ls->nr_cut++;
	} else {
		keep(cpu, &ls->got, kind);
		if (!compare(ls, false))
			ls->nr_same++;
		else if (disturbed(cpu))
			ls->nr_disturbed++;
		else
			report(ls, t);
	}
	if (kind)
		x86_unwind(cpu, (enum x86_unwind)kind);
	return true;
}
