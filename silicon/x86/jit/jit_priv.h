/* SPDX-License-Identifier: MIT */
/*
 * Translating one block: what the emitters of the instruction families share.
 *
 * Registers of translated code, the same in every block, so that blocks are chained
 * without any fix-up:
 *
 *	rbp		struct x86_cpu *
 *	rsp		host stack, 16-byte aligned: the ring of entry.c
 *	rax, rcx	scratch inside one guest instruction
 *	the others	twelve guest registers, see jit_home(); the rest live in cpu->gpr[].
 *			R8-R11 are scratch in code that is not 64-bit: legacy.c
 *
 * The guest's arithmetic flags are in EFLAGS or in cpu->jit_flags; inside a block they may
 * also be computed again from registers (struct jit_flags): memory operands cost flags. A
 * translation has entries for either place. Whoever does not know the translation that he
 * jumps to (calls, returns, indirect jumps, C) has the flags in cpu->jit_flags.
 *
 * An emitter emits one guest instruction, in this order, or returns false before it
 * has emitted anything:
 *
 *	jit_mem(...)		each memory operand: RCX = its host address. From here
 *				on to the end of the instruction a host fault re-executes
 *				the instruction in the interpreter, so nothing of the guest
 *				may change before the access.
 *	jit_flags_read(t)	if flags are read or some survive: they are in EFLAGS now
 *	jit_flags_lost(t)	if the host code that follows changes flags that the guest
 *				instruction does not: they are somewhere else now
 *	jit_writes(t, r)	for each guest register that changes
 *	jit_use(t, r, scratch)	host register with guest register r: r's home, or scratch
 *	... host code ...
 *	jit_def(t, r, host)	guest register r is what @host holds: stored if that is not its home
 *	jit_flags_set(t)	the host code has set EFLAGS as the guest instruction does
 *
 * jit_mem(), jit_writes() and jit_flags_*() clobber RAX (and jit_mem() RCX), so they come
 * before jit_use() into a scratch register.
 */
#ifndef SILICON_X86_JIT_JIT_PRIV_H
#define SILICON_X86_JIT_JIT_PRIV_H

#include "silicon/x86/cpu.h"
#include "silicon/x86/decode/decode.h"
#include "silicon/x86/jit/asm.h"
#include "silicon/x86/jit/rewrite.h"
#include "silicon/x86/op.h"

/* Where the arithmetic flags of the guest are while a block is emitted. */
struct jit_flags {
	enum jit_where {
		JIT_FL_LIVE, JIT_FL_SAVED, JIT_FL_AGAIN,
		JIT_FL_ANY,	/* as they were when the block was entered: all are set before anything wants them */
	} where;
	/* How to compute them again; NONE: only by having kept them. INC and DEC: all but CF. */
	enum { JIT_AGAIN_NONE, JIT_AGAIN_ADD, JIT_AGAIN_SUB, JIT_AGAIN_CMP, JIT_AGAIN_TEST, JIT_AGAIN_NEG,
	       JIT_AGAIN_INC, JIT_AGAIN_DEC } again;
	/*
	 * CF: where the others are; in cpu->jit_no_carry as well; only there, with INC or DEC.
	 * An INC in a loop keeps a CF that nobody asks for: it stays away.
	 */
	enum { JIT_CF_WITH, JIT_CF_KEPT, JIT_CF_AWAY } carry;
	u8 size;
	u8 a;			/* guest register: the result, of CMP and TEST the first operand */
	u8 b;			/* guest register, or JIT_NO_REG: @imm */
	s32 imm;
	s32 moved;		/* what has been added to @a since */
};

/* Operands at [base + (index << scale) + lo...hi - 1] that one look in the TLB speaks for: span.c. */
struct jit_span {
	bool valid, write;
	u8 base, index, scale;
	u8 aligned;		/* operands at this displacement are aligned to so many bytes; 0: nothing is known */
	s32 aligned_at;
	s32 lo, hi;
	bool pinned;		/* looked up for many rounds of a loop; the slot has registers that stay as they are as well: */
	bool fold_base, fold_index;
};
#define JIT_SPANS 8
#define JIT_SPAN_MAX 512		/* larger ones cross page ends too often */
#define JIT_DISP_MAX (1 << 28)		/* no sum of displacements overflows */

#define JIT_MAX_COLD 240

/* How a translation is left for another one: which of its entries may be taken. */
enum jit_way {
	JIT_WAY_JUMP,
	JIT_WAY_CALL,
	JIT_WAY_RETURN,		/* to the call that led here: entry.c, the ring */
	JIT_WAY_GUESS,		/* guess.c */
};

/* Code behind the block. */
struct jit_cold {
	enum jit_cold_kind { JIT_COLD_SLOW, JIT_COLD_EXIT, JIT_COLD_VEC, JIT_COLD_POLL, JIT_COLD_GUESS,
			     JIT_COLD_TIRED, JIT_COLD_CACHE } kind;
	u8 *from;		/* rel32 of the jump that leads here; NULL: host faults do */
	u8 *back;		/* SLOW: the next instruction; NULL: there is none in this block */
	struct jit_flags before, after;
	u8 vec, vec_after;	/* VEC: what to load; t->vec behind the instruction */
	u16 nr;			/* index of the instruction */
	u8 code;		/* EXIT: kind of the code there */
	u8 lead;		/* 1 + slot of the span that the instruction is the first of, 0 = none */
	u8 grain;		/* SLOW: bytes of an operand to be written that may be data beside code; else 0 */
	struct jit_span span;
	u64 rip;		/* EXIT: where to */
	enum jit_way way;	/* EXIT */
	u8 *address, *otherwise, *learn;	/* GUESS: guess.c */
	u8 cache;		/* CACHE: its number */
	u8 *again;		/* CACHE: where to go on when it is filled */
};

/* Host faults from @begin to @end go on at @slow, a slow path of the instruction. */
struct jit_access {
	u32 begin, end, slow;	/* offsets from the start of the translation */
	u16 cold;		/* index of that cold code, or JIT_OWN_LANDING: @slow is known */
};
#define JIT_OWN_LANDING 0xffff

/* A block that ends in a branch to its own start: loop.c. */
#define JIT_LOOP_OPS 64		/* longer ones gain less and have less room for their cold code */
#define JIT_CACHES 4
struct jit_loop {
	bool allowed;
	u8 copies;		/* begun besides the first one */
	struct jit_flags flags;	/* the state at the branch, then that at @head */
	u8 vec;
	u8 *from;		/* rel32 of the branch of the first copy; NULL: there is none */
	u8 *pre, *head;		/* the newest copy: with what makes CF stay away, without; NULL: not there yet */
	u8 *body;		/* of the second copy, behind @head */

	/* What is known from the first copy: hoist.c. */
	bool called;		/* a handler is */
	bool hoists, caches;	/* there is a third copy; may some operands of it have caches? */
	u16 written;		/* guest registers that change, ... */
	u16 moved;		/* ... but for those to which something is only added, */
	s32 step[X86_NR_GPRS];	/* this in a round */
	struct jit_note {	/* operands */
		u8 nr, size;
		bool write, aligned;
		s64 at;		/* displacement if the registers were those at the head */
	} note[JIT_LOOP_OPS];
	unsigned nr_notes;
	int master;		/* register with a step, by which rounds are counted; -1: by a word in memory */
	struct jit_span span[JIT_SPANS];
	s32 span_step[JIT_SPANS];
	unsigned nr_spans;
	u8 cached[JIT_CACHES];	/* index of the instruction */
	unsigned nr_caches;
	s32 *budget;		/* of misses in caches */
	u8 rounds, round;	/* of the third copy, one behind the other; the present one */
	u8 *promote;		/* what looks up */
	u8 *from_head;		/* rel32 of the jump of the second copy there */
	u8 *fail[JIT_SPANS + 1];	/* rel32 of jumps to where a look is not possible */
	unsigned nr_fails;
};

/*
 * Stubs by which translated code is left; each kind of code puts away what is in its host registers.
 * exit_link: rax = struct x86_jit_link; exit: cpu->rip is set; [true]: the flags are in cpu->jit_flags. entry.c
 */
struct jit_doors {
	u64 exit[2], exit_link[2], call, call_end;
};

struct x86_jit_tr {
	struct jit_asm a;	/* first: t is passed on as &t->a */
	struct x86_cpu *cpu;
	const struct jit_doors *door;
	u8 word;		/* bytes of an address, a stack slot and the instruction pointer: 4, 8 */
	struct x86_block *block;
	u64 lin;		/* of the block */
	u8 *start;		/* of the code */
	u8 *out;		/* the jump to the way out */
	const u8 *bytes;	/* of the present instruction */
	const struct x86_op *op;
	struct x86_op own_op;	/* @op, if it is not as decoded */
	struct jit_insn in;	/* its encoding, if @parsed */
	bool parsed;
	unsigned nr;		/* its index */
	u64 rip, next_rip;
	struct jit_flags flags;
	enum jit_where entry;	/* where they are at the start: LIVE, SAVED or ANY */
	bool wrong_entry;	/* ANY was wrong */
	u8 vec;			/* JIT_VEC_*: vector state known to be in host registers */
	struct jit_mem at;	/* where the memory operand is: what jit_operand() and jit_mem*() leave */
	struct jit_loop loop;
	bool spans;		/* may there be any? */
	struct jit_span span[JIT_SPANS];
	unsigned next_span, first_span;	/* those before @first_span are pinned */
	u8 lead;		/* as in struct jit_cold, of the present instruction */
	bool ended;		/* an emitter has emitted all ways out of the block */
	unsigned sti;		/* index of the instruction behind an STI; 0 = none */
	struct jit_cold cold[JIT_MAX_COLD];
	unsigned nr_cold, first_cold;	/* @first_cold: of the present instruction */
	unsigned first_guess;
	struct jit_guess *guess;	/* the last one that was made */
	struct jit_access access[JIT_MAX_COLD];
	unsigned nr_access, first_access;
};

/* Emits t->op, or returns false with nothing emitted. */
typedef bool jit_emit_fn(struct x86_jit_tr *t);

/* The families, tried in the order of the table in translate.c. */
jit_emit_fn jit_emit_branch, jit_emit_stack, jit_emit_int, jit_emit_vec, jit_emit_x87, jit_emit_implicit,
	jit_emit_system, jit_emit_privilege, jit_emit_string, jit_emit_string_one;

/* ---- Registers ---- */

/* Host register of guest register @r (0..15), or -1: it lives in cpu->gpr[]. */
int jit_home(unsigned r);

static inline struct jit_mem jit_gpr(unsigned r)
{
	return jit_at(JIT_RBP, (s32)(offsetof(struct x86_cpu, gpr) + r * 8));
}

#define JIT_FIELD(f) jit_at(JIT_RBP, (s32)offsetof(struct x86_cpu, f))

/* What tags of the TLB array in use have beside the page's address. */
static inline struct jit_mem jit_ctx_page(const struct x86_jit_tr *t)
{
	return jit_at(JIT_RBP, (s32)(offsetof(struct x86_cpu, tlb_ctx_page) + t->cpu->mmu_idx * 8));
}

unsigned jit_use(struct x86_jit_tr *t, unsigned r, unsigned scratch);
void jit_writes(struct x86_jit_tr *t, unsigned r);
void jit_def(struct x86_jit_tr *t, unsigned r, unsigned host);
/* As jit_writes(), when @by is added to all of guest register @r by code that changes no flag. */
void jit_moves(struct x86_jit_tr *t, unsigned r, s32 by);
/* The same by code that changes flags. */
void jit_adds(struct x86_jit_tr *t, unsigned r, s32 by);
/* Is all that @op, whose encoding is @in, does to registers adding @by to all of @r, which has @word bytes? */
bool jit_is_add(const struct x86_op *op, const struct jit_insn *in, unsigned word, unsigned *r, s32 *by);

/* ---- Flags ---- */

/* EFLAGS from and to cpu->jit_flags; RAX is clobbered. */
void jit_asm_load_flags(struct jit_asm *a);
void jit_asm_save_flags(struct jit_asm *a);

void jit_flags_read(struct x86_jit_tr *t);
/* They are in EFLAGS or in cpu->jit_flags: so the block may be left. */
void jit_flags_settle(struct x86_jit_tr *t);
/* CF alone is wanted: the instruction sets all others, or CF as well. */
void jit_flags_carry(struct x86_jit_tr *t);
/* The same for INC and DEC of a register, without bringing CF there if it is kept; true: it stays away. */
bool jit_flags_carry_away(struct x86_jit_tr *t);
/* Condition @cc is about to be tested. */
void jit_flags_test(struct x86_jit_tr *t, unsigned cc);
/* EFLAGS, now there, can be computed again but for CF, which is put away. */
void jit_flags_keep_carry(struct x86_jit_tr *t);
void jit_flags_lost(struct x86_jit_tr *t);
/* They are in cpu->jit_flags now. */
void jit_flags_save(struct x86_jit_tr *t);
/* All flags or some have been set. The caller may then say in t->flags how to compute them again. */
void jit_flags_set(struct x86_jit_tr *t);
/* The instruction is about to set all flags and can fault no more: what they were does not matter. */
void jit_flags_dead(struct x86_jit_tr *t);

/* ---- Memory ---- */

/*
 * Anything but a plain hit re-executes the instruction in the interpreter.
 *
 * jit_operand(): the memory operand of t->op as the encoding has it, in the place of that
 * of @in and in t->at; @aligned: it must be aligned to its size, a power of two. RCX is in
 * use as part of its address, RAX is free, and no guest register that is part of the
 * guest's address may change before the access.
 */
void jit_operand(struct x86_jit_tr *t, struct jit_insn *in, bool aligned);
/* t->at alone. */
void jit_operand_in_place(struct x86_jit_tr *t, bool aligned);
/* Put t->at into another encoding. */
void jit_put_operand(const struct x86_jit_tr *t, struct jit_insn *in);
/* t->at := linear address [guest register @r + @disp] with segment rules of @seg, for reading or (also) writing. */
void jit_mem_base_disp(struct x86_jit_tr *t, unsigned seg, unsigned r, s32 disp, unsigned size, bool write);
/* The same, with the host address in RCX. */
void jit_mem_at(struct x86_jit_tr *t, unsigned seg, unsigned r, s32 disp, unsigned size, bool write);
/* t->at := linear address [RSP + @disp], of a word, where jit_stack_word() says that t->op has one. */
void jit_mem_stack(struct x86_jit_tr *t, s32 disp, bool write);
/* RCX, t->at := host address of the memory operand of t->op. */
void jit_mem(struct x86_jit_tr *t, unsigned size, bool write);
/* The same for the effective address in RCX, with the flags put aside (jit_flags_lost()) before it was made. */
void jit_mem_ea(struct x86_jit_tr *t, unsigned size, bool write);
/* RCX := effective address of the memory operand, without segment base. No flag changes. */
void jit_ea(struct x86_jit_tr *t);

/* Fill slot @n of @s again; returns the place of the rel32 to where that is not possible. RAX, RCX, flags: clobbered. */
u8 *jit_span_fill(struct x86_jit_tr *t, const struct jit_span *s, unsigned n);

/* RAX += JIT_NO_WRITE if all of @s is in one page. RCX and flags are clobbered. */
void jit_span_if_inside(struct x86_jit_tr *t, const struct jit_span *s);

/* ---- Code that is not 64-bit: legacy.c ---- */

#define JIT_LEGACY_GPRS 8

/* Prepare t->op for the emitters; false: it is one for its handler. */
bool jit_legacy_op(struct x86_jit_tr *t);
/* The functions above that have an address, with t->at = [R8 + RCX]. */
void jit_legacy_operand(struct x86_jit_tr *t, bool aligned);
void jit_legacy_mem(struct x86_jit_tr *t, unsigned size, bool write);
void jit_legacy_mem_ea(struct x86_jit_tr *t, unsigned size, bool write);
void jit_legacy_base_disp(struct x86_jit_tr *t, unsigned seg, unsigned r, s32 disp, unsigned size, bool write);
u8 *jit_legacy_span_fill(struct x86_jit_tr *t, const struct jit_span *s, unsigned n);

/*
 * The check just made, of @size bytes to be written, may have found data on a page of code
 * (grain.c). The code behind it must do with RAX, and with RCX as its SUB and ADD left it.
 */
void jit_grain_allow(struct x86_jit_tr *t, unsigned size);
/* It must not: more is written than it says. */
void jit_grain_refuse(struct x86_jit_tr *t);
/* In cold code @c of that check: look, and go back. */
void jit_grain_look(struct x86_jit_tr *t, const struct jit_cold *c);

/* ---- Spans: span.c ---- */

/* Can an operand of @op be in a span? */
bool jit_span_eligible(const struct x86_jit_tr *t, const struct x86_op *op);
/* What adding @by to register @r adds to [base + (index << scale)]. */
s64 jit_span_step(unsigned base, unsigned index, unsigned scale, unsigned r, s32 by);
/* The slot of the span that covers the operand of t->op, or -1. */
int jit_span_of(const struct x86_jit_tr *t, bool aligned);
/* The slot of a new span for it and operands of later instructions, or -1: there are none. */
int jit_span_plan(struct x86_jit_tr *t, bool aligned);
struct jit_mem jit_span_slot(unsigned n);
/* Guest register @r changes; by @by; nothing is known any more. */
void jit_span_writes(struct x86_jit_tr *t, unsigned r);
void jit_span_moves(struct x86_jit_tr *t, unsigned r, s32 by);
void jit_span_clear(struct x86_jit_tr *t);

/* A word that @op pushes or pops beside registers, at [RSP + @disp], and what it adds to RSP then. emit_stack.c */
struct jit_stack {
	bool write;
	s32 disp, by;
};
bool jit_stack_word(const struct x86_op *op, struct jit_stack *s);
/* Does @op write memory, by its operand or in this way? span.c */
bool jit_span_written(const struct x86_op *op);

/* A jump to the interpreter's handler for the whole instruction; nothing of the guest has changed yet. */
void jit_slow_jcc(struct x86_jit_tr *t, unsigned cc);
void jit_slow_jmp(struct x86_jit_tr *t);

/* ---- Ways out ---- */

/* The jump whose rel32 is at @from leaves the block for @rip; flags are where jit_flags_settle() or _save() left them. */
void jit_exit(struct x86_jit_tr *t, u8 *from, u64 rip);
void jit_exit_as(struct x86_jit_tr *t, enum jit_way way, u8 *from, u64 rip);
/* The same, cpu->mmu_idx having become @mmu_idx. */
void jit_exit_to_idx(struct x86_jit_tr *t, u8 *from, u64 rip, unsigned mmu_idx);
struct jit_cold *jit_cold(struct x86_jit_tr *t, enum jit_cold_kind kind, u8 *from);

/* ---- Guesses of indirect jumps: guess.c ---- */

/* RAX = target, flags are in cpu->jit_flags: to where it led before, or on. */
void jit_guess(struct x86_jit_tr *t);
/* The table knows the target: learn it, or on. RCX is in use. */
void jit_guess_learn(struct x86_jit_tr *t);

/* Cold code of an operand with a cache: fill it and go back; the place of the rel32 to where that is not possible. */
u8 *jit_cache_fill(struct x86_jit_tr *t, const struct jit_cold *c);
/* Fill slot @n of pinned span @s; RCX := its offset in the page. jit_hoist_fail() is told where that is not possible. */
void jit_span_pin(struct x86_jit_tr *t, const struct jit_span *s, unsigned n);

/* ---- Looks in the TLB for many rounds of a loop: hoist.c ---- */

/* Of the first copy: guest register @r changes; by @by; an operand. */
void jit_loop_writes(struct x86_jit_tr *t, unsigned r);
void jit_loop_moves(struct x86_jit_tr *t, unsigned r, s32 by);
void jit_loop_note(struct x86_jit_tr *t, bool aligned);
/* At its end: is it worth while? */
bool jit_hoist_plan(struct x86_jit_tr *t);
/* Head of the second and third copy: is another look due? Flags are as at the head. */
void jit_hoist_entry(struct x86_jit_tr *t);
void jit_hoist_head(struct x86_jit_tr *t);
/* What is looked up, between the second copy and the third: falls through to the latter. */
void jit_hoist_promote(struct x86_jit_tr *t);
/* The jump whose rel32 is at @from is taken where a look is not possible. */
void jit_hoist_fail(struct x86_jit_tr *t, u8 *from);
/* The number of the cache of the present operand, or -1. */
int jit_hoist_cache(const struct x86_jit_tr *t);
struct jit_mem jit_cache_page(unsigned n), jit_cache_limit(unsigned n), jit_cache_addend(unsigned n);

/* ---- Loops: loop.c ---- */

/* May a branch to the block's own start, taken in the present state, go to a copy made for that? */
bool jit_loop_fits(struct x86_jit_tr *t);
/* If so: that branch has its rel32 at @from. */
void jit_loop_back(struct x86_jit_tr *t, u8 *from);
/* Behind the block: begin the copy for its loop. False: none is wanted. */
bool jit_loop_begin(struct x86_jit_tr *t);
/* Is it to be followed by the code of the next round? */
bool jit_loop_again(struct x86_jit_tr *t);
/* Does the branch back just go on with the code behind it? */
bool jit_loop_unrolled(const struct x86_jit_tr *t);

/* ---- Vector state: vec.c ---- */

#define JIT_VEC_SSE 1u
#define JIT_VEC_AVX 2u
#define JIT_VEC_X87 4u

/* From here on in this block the registers of @vec are in the host's. */
void jit_vec_need(struct x86_jit_tr *t, unsigned vec);
/* @from leads to the loading of @vec, and back behind itself. translate.c */
void jit_cold_vec(struct x86_jit_tr *t, u8 *from, unsigned vec);
/* Load, and jump to @go_on (in writable memory) if @vec is usable; else fall through. Flags are kept. */
void jit_vec_reload(struct x86_jit_tr *t, unsigned vec, const u8 *go_on);

/* @op of @bytes, a branch in code with addresses of @word bytes, is none to another code segment. emit_branch.c */
bool jit_is_near(const struct x86_op *op, const u8 *bytes, unsigned word);

/* ---- The whole instruction by its handler ---- */

void jit_call_handler(struct x86_jit_tr *t);

/* ---- Rewriting ---- */

/* Encode @in, whose registers are host registers. */
void jit_put(struct x86_jit_tr *t, const struct jit_insn *in);

#endif
