/* SPDX-License-Identifier: MIT */
/*
 * Between C and translated code: the stubs at the start of the code memory, and
 * instructions that are executed by their handler.
 *
 * cpu->jit_flags: AH of LAHF in bits 15:8, OF in bit 0, as `lahf; seto al` makes it.
 *
 * The ring: translated code runs on the host's stack below the frame of the stub that entered
 * it, and keeps its calls there, two words each: the host's return address and the guest's
 * (emit_branch.c). It begins at cpu->ring_top and ends where the low 16 bits of RSP are 0, 127
 * calls deep; then it begins anew, as it does when a return is not the one that was expected.
 * At its bottom is an entry for guest address 0, which leaves. What is on it leads to code of
 * one kind (mode and TLB index) and to pages that may be entered, so that what changes either empties it too.
 * Handlers run below it.
 */
#include "silicon/x86/flags.h"
#include "silicon/x86/jit/cache.h"
#include "silicon/x86/jit/jit.h"

static u16 to_jit_flags(const struct x86_cpu *cpu)
{
	u64 f = x86_get_arith(cpu);

	return (u16)((f & 0xd5) << 8 | (f >> 11 & 1));
}

static void from_jit_flags(struct x86_cpu *cpu)
{
	x86_set_arith(cpu, (cpu->jit_flags >> 8 & 0xd5u) | (u64)(cpu->jit_flags & 1) << 11);
}

/* Let translated code run until the next event; see x86_post(). */
static void calm_down(struct x86_cpu *cpu)
{
	atomic_store(&cpu->calm, 1);
	if (atomic_load(&cpu->events))
		atomic_store(&cpu->calm, 0);
	jit_pages_set(cpu);
}

void jit_enter(struct x86_cpu *cpu, struct x86_jit_trans *t)
{
	struct x86_jit *j = cpu->jit;
	void (*enter)(struct x86_cpu *, u64) = (void (*)(struct x86_cpu *, u64))j->enter;

	if (unlikely(!atomic_load_explicit(&cpu->calm, memory_order_relaxed) ||
		     atomic_load_explicit(&cpu->jit_pages, memory_order_relaxed) == x86_jit_no_pages))
		calm_down(cpu);
	cpu->jit_flags = to_jit_flags(cpu);
	cpu->jit_left = t->block->nr_ops;
	j->ring_stale = false;
	enter(cpu, (u64)t->code + (u64)j->delta + (u64)t->at[true][JIT_MAIN]);
	from_jit_flags(cpu);
	if (cpu->jit_link)
		cpu->rip = cpu->jit_link->rip;
	if (unlikely(jit_tables(cpu)->crossed))
		jit_span_crossed(cpu);
	/* Counting may have begun in the last instruction of a chain, which is no branch. */
	if (!j->chain || cpu->slow & X86_SLOW_PMU)
		cpu->insn_count += cpu->jit_left;
	if (!j->chain)
		cpu->branch_count += x86_branches(t->block->op, t->block->op + cpu->jit_left);
}

u64 jit_call_c(struct x86_cpu *cpu, struct x86_jit_trans *t, u64 nr)
{
	const struct x86_op *op = &t->block->op[nr];
	struct x86_jit *j = cpu->jit;
	u64 next;

	if (unlikely(j->calls))
		j->calls[jit_kind_mode(t->page->kind) * x86_insn_rows() + op->row]++;
	from_jit_flags(cpu);
	cpu->rip = t->lin + t->off[nr];
	cpu->gpr[X86_REG_NEXT_RIP] = cpu->rip + op->len;
	cpu->op_first = t->block->op;
	cpu->op = op;
	if (unlikely(nr && nr == t->sti) && !(cpu->jit_sti_flags & RFLAGS_IF)) {
		/* Blocking by STI, which ends with this instruction. */
		cpu->slow |= X86_SLOW_SHADOW_STI;
		op->fn(cpu, op);
		cpu->slow &= ~(u32)X86_SLOW_SHADOW_STI;
	} else {
		op->fn(cpu, op);
	}
	cpu->op = NULL;
	/* Else they are what they were; what ends a block may load all of RFLAGS. */
	if (op->flags_out || op->flags & X86_OP_END)
		cpu->jit_flags = to_jit_flags(cpu);
	/* Behind the block all is looked at anyway: the table, the page. */
	if (op->flags & X86_OP_END)
		cpu->slow &= ~(u32)X86_SLOW_CODE;
	/* STAC and CLAC change the TLB array inside a block. */
	if (likely(!(op->flags & X86_OP_END) && !cpu->slow && jit_kind(cpu) == t->page->kind && !j->ring_stale))
		return JIT_GO_ON;
	cpu->jit_left = (u32)nr + 1;
	cpu->rip = cpu->gpr[X86_REG_NEXT_RIP];
	next = cpu->slow ? JIT_LEAVE : jit_next(cpu);
	cpu->jit_tmp = jit_kind(cpu) != t->page->kind || j->ring_stale;
	j->ring_stale = false;
	return next;
}

/* ---- Stubs ---- */

static const u8 callee_saved[6] = { JIT_RBX, JIT_RBP, JIT_R12, JIT_R13, JIT_R14, JIT_R15 };

/* Of @nr guest registers: those that the code which is left has in its host registers. */
static void save_homes(struct jit_asm *a, unsigned nr)
{
	for (unsigned r = 0; r < nr; r++)
		if (jit_home(r) >= 0)
			jit_store(a, (unsigned)jit_home(r), jit_gpr(r), 8);
}

static void load_homes(struct jit_asm *a)
{
	for (unsigned r = 0; r < X86_NR_GPRS; r++)
		if (jit_home(r) >= 0)
			jit_load(a, (unsigned)jit_home(r), jit_gpr(r), 8);
}

#define RING_SIZE 2048

/* In the stub that is entered from C. RAX is clobbered. */
static void make_ring(struct jit_asm *a, u64 bottom)
{
	jit_store(a, JIT_RSP, JIT_FIELD(host_sp), 8);
	/* Room for what a small ring is short of. */
	jit_lea(a, JIT_RAX, jit_at(JIT_RSP, -2 * RING_SIZE), 8);
	jit_alu_ri(a, JIT_AND, JIT_RAX, ~0xffff, 8);
	jit_lea(a, JIT_RSP, jit_at(JIT_RAX, RING_SIZE - 16), 8);
	jit_store(a, JIT_RSP, JIT_FIELD(ring_top), 8);
	jit_mov_imm(a, JIT_RAX, bottom);
	jit_store(a, JIT_RAX, jit_at(JIT_RSP, 0), 8);
	jit_store_imm(a, jit_at(JIT_RSP, 8), 0, 8);
}

static void leave(struct jit_asm *a)
{
	jit_load(a, JIT_RSP, JIT_FIELD(host_sp), 8);
	jit_alu_ri(a, JIT_ADD, JIT_RSP, 8, 8);
	for (unsigned i = ARRAY_SIZE(callee_saved); i-- > 0; )
		jit_pop(a, callee_saved[i]);
	jit_8(a, 0xc3);
}

void jit_asm_load_flags(struct jit_asm *a)
{
	jit_op_rm(a, 0x0fb7, JIT_RAX, JIT_FIELD(jit_flags), 4);	/* movzx eax, m16 */
	jit_8(a, 0x04);						/* add al, 7fh: OF */
	jit_8(a, 0x7f);
	jit_8(a, 0x9e);						/* sahf */
}

void jit_asm_save_flags(struct jit_asm *a)
{
	jit_room(a);
	jit_8(a, 0x9f);						/* lahf */
	jit_8(a, 0x0f);						/* seto al */
	jit_8(a, 0x90);
	jit_8(a, 0xc0);
	jit_store(a, JIT_RAX, JIT_FIELD(jit_flags), 2);
}

static u64 begin(struct jit_asm *a)
{
	while ((u64)a->p & 15)
		jit_8(a, 0xcc);
	return jit_here(a);
}

static void jump_rcx(struct jit_asm *a)
{
	jit_8(a, 0xff);
	jit_8(a, 0xe1);
}

/* rax = struct x86_jit_trans, ecx = index of the instruction; flags are in cpu->jit_flags. RCX := what C says. */
static void call_c(struct x86_jit *j, struct jit_asm *a, unsigned nr_gprs)
{
	save_homes(a, nr_gprs);
	jit_alu_ri(a, JIT_SUB, JIT_RSP, 8, 8);
	jit_mov_rr(a, JIT_RDI, JIT_RBP);
	jit_mov_rr(a, JIT_RSI, JIT_RAX);
	jit_mov_rr(a, JIT_RDX, JIT_RCX);
	jit_vec_spill(j, a);
	jit_mov_imm(a, JIT_RAX, (u64)jit_call_c);
	jit_op_rr(a, 0xff, 2, JIT_RAX, 4);
	jit_mov_rr(a, JIT_RCX, JIT_RAX);
}

static void leave_if_said(struct jit_asm *a)
{
	u8 *jump;

	jit_alu_ri(a, JIT_CMP, JIT_RCX, JIT_LEAVE, 8);
	jump = jit_jcc8(a, JIT_NE);
	leave(a);
	jit_bind8(a, jump);
}

/* An instruction inside a block: return to the next one, or go on elsewhere with the ring emptied. */
static void call_stub(struct x86_jit *j, struct jit_asm *a, unsigned nr_gprs)
{
	u8 *go_on;

	call_c(j, a, nr_gprs);
	go_on = jit_jrcxz(a);
	leave_if_said(a);
	jit_load(a, JIT_RSP, JIT_FIELD(ring_top), 8);
	load_homes(a);
	jump_rcx(a);
	jit_bind8(a, go_on);
	load_homes(a);
	jit_alu_ri(a, JIT_ADD, JIT_RSP, 8, 8);
	jit_8(a, 0xc3);
}

/* The last one of a block: return to a jump to RCX. */
static void call_end_stub(struct x86_jit *j, struct jit_asm *a, unsigned nr_gprs)
{
	u8 *same;

	call_c(j, a, nr_gprs);
	leave_if_said(a);
	jit_op_rm(a, 0x83, JIT_CMP, JIT_FIELD(jit_tmp), 4);
	jit_8(a, 0);
	same = jit_jcc8(a, JIT_E);
	jit_load(a, JIT_RAX, jit_at(JIT_RSP, 8), 8);
	jit_load(a, JIT_RSP, JIT_FIELD(ring_top), 8);
	jit_push(a, JIT_RAX);
	jit_push(a, JIT_RAX);
	jit_bind8(a, same);
	load_homes(a);
	jit_lea(a, JIT_RSP, jit_at(JIT_RSP, 8), 8);
	jit_8(a, 0xc3);
}

static void doors(struct x86_jit *j, struct jit_asm *a, struct jit_doors *d, unsigned nr_gprs)
{
	d->exit_link[false] = begin(a);
	jit_store(a, JIT_RAX, JIT_FIELD(jit_link), 8);
	d->exit[false] = jit_here(a);
	jit_asm_save_flags(a);
	d->exit[true] = jit_here(a);
	jit_vec_spill(j, a);
	save_homes(a, nr_gprs);
	leave(a);

	d->exit_link[true] = begin(a);
	jit_store(a, JIT_RAX, JIT_FIELD(jit_link), 8);
	jit_jmp_to(a, d->exit[true]);

	d->call = begin(a);
	call_stub(j, a, nr_gprs);
	d->call_end = begin(a);
	call_end_stub(j, a, nr_gprs);
}

void jit_stubs(struct x86_jit *j)
{
	struct jit_asm asm_ = { .p = j->p, .end = j->end - JIT_ASM_SLACK, .delta = j->delta }, *a = &asm_;
	u64 bottom;
	u8 *is_64;

	begin(a);
	jit_vec_stubs(j, a);
	doors(j, a, &j->door[0], X86_NR_GPRS);
	doors(j, a, &j->door[1], JIT_LEGACY_GPRS);

	/* A return to address 0 with an empty ring. */
	bottom = begin(a);
	jit_store_imm(a, JIT_FIELD(rip), 0, 8);
	jit_op_rm(a, 0x0fb6, JIT_RCX, JIT_FIELD(jit_mode), 4);	/* movzx ecx, m8 */
	is_64 = jit_jrcxz(a);
	jit_jmp_to(a, j->door[1].exit[true]);
	jit_bind8(a, is_64);
	jit_jmp_to(a, j->door[0].exit[true]);

	/* enter(rdi = cpu, rsi = code) */
	j->enter = begin(a);
	for (unsigned i = 0; i < ARRAY_SIZE(callee_saved); i++)
		jit_push(a, callee_saved[i]);
	jit_alu_ri(a, JIT_SUB, JIT_RSP, 8, 8);
	jit_mov_rr(a, JIT_RBP, JIT_RDI);
	jit_mov_rr(a, JIT_RCX, JIT_RSI);
	make_ring(a, bottom);
	load_homes(a);
	jump_rcx(a);
	jit_grain_stubs(j, a);
	begin(a);
	j->p = a->p;
}
