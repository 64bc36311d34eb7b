/* SPDX-License-Identifier: MIT */
/*
 * Between C and translated code: the stubs at the start of the code memory, and
 * instructions that are executed by their handler.
 *
 * cpu->jit_flags: AH of LAHF in bits 15:8, OF in bit 0, as `lahf; seto al` makes it.
 */
#include "silicon/x86/flags.h"
#include "silicon/x86/jit/cache.h"

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
}

void jit_enter(struct x86_cpu *cpu, struct x86_jit_trans *t)
{
	struct x86_jit *j = cpu->jit;
	void (*enter)(struct x86_cpu *, u64) = (void (*)(struct x86_cpu *, u64))j->enter;

	if (unlikely(!atomic_load_explicit(&cpu->calm, memory_order_relaxed)))
		calm_down(cpu);
	cpu->jit_flags = to_jit_flags(cpu);
	cpu->jit_left = t->block->nr_ops;
	enter(cpu, (u64)t->code + (u64)j->delta + t->main);
	from_jit_flags(cpu);
	if (cpu->jit_link)
		cpu->rip = cpu->jit_link->rip;
	if (!j->chain)
		cpu->insn_count += cpu->jit_left;
}

u64 jit_call_c(struct x86_cpu *cpu, struct x86_jit_trans *t, u64 nr)
{
	const struct x86_op *op = &t->block->op[nr];

	if (unlikely(cpu->jit->calls))
		cpu->jit->calls[op->row]++;
	from_jit_flags(cpu);
	cpu->rip = t->lin + t->off[nr];
	cpu->gpr[X86_REG_NEXT_RIP] = cpu->rip + op->len;
	cpu->op_first = t->block->op;
	cpu->op = op;
	op->fn(cpu, op);
	cpu->op = NULL;
	/* Else they are what they were; what ends a block may load all of RFLAGS. */
	if (op->flags_out || op->flags & X86_OP_END)
		cpu->jit_flags = to_jit_flags(cpu);
	/* STAC and CLAC change the TLB array inside a block. */
	if (likely(!(op->flags & X86_OP_END) && !cpu->slow && cpu->mmu_idx == t->page->idx))
		return JIT_GO_ON;
	cpu->jit_left = (u32)nr + 1;
	cpu->rip = cpu->gpr[X86_REG_NEXT_RIP];
	return cpu->slow ? JIT_LEAVE : jit_next(cpu);
}

/* ---- Stubs ---- */

static const u8 callee_saved[6] = { JIT_RBX, JIT_RBP, JIT_R12, JIT_R13, JIT_R14, JIT_R15 };

static void push(struct jit_asm *a, unsigned r)
{
	if (r & 8)
		jit_8(a, 0x41);
	jit_8(a, 0x50 | (r & 7));
}

static void pop(struct jit_asm *a, unsigned r)
{
	if (r & 8)
		jit_8(a, 0x41);
	jit_8(a, 0x58 | (r & 7));
}

static void save_homes(struct jit_asm *a)
{
	for (unsigned r = 0; r < X86_NR_GPRS; r++)
		if (jit_home(r) >= 0)
			jit_store(a, (unsigned)jit_home(r), jit_gpr(r), 8);
}

static void load_homes(struct jit_asm *a)
{
	for (unsigned r = 0; r < X86_NR_GPRS; r++)
		if (jit_home(r) >= 0)
			jit_load(a, (unsigned)jit_home(r), jit_gpr(r), 8);
}

static void leave(struct jit_asm *a)
{
	jit_alu_ri(a, JIT_ADD, JIT_RSP, 8, 8);
	for (unsigned i = ARRAY_SIZE(callee_saved); i-- > 0; )
		pop(a, callee_saved[i]);
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

void jit_stubs(struct x86_jit *j)
{
	struct jit_asm asm_ = { .p = j->p, .end = j->end - JIT_ASM_SLACK, .delta = j->delta }, *a = &asm_;
	u8 *go_on, *jump;

	begin(a);
	jit_vec_stubs(j, a);

	/* enter(rdi = cpu, rsi = code) */
	j->enter = begin(a);
	for (unsigned i = 0; i < ARRAY_SIZE(callee_saved); i++)
		push(a, callee_saved[i]);
	jit_alu_ri(a, JIT_SUB, JIT_RSP, 8, 8);
	jit_mov_rr(a, JIT_RBP, JIT_RDI);
	jit_mov_rr(a, JIT_RCX, JIT_RSI);
	load_homes(a);
	jit_asm_load_flags(a);
	jit_8(a, 0xff);			/* jmp rcx */
	jit_8(a, 0xe1);

	/* exit_link: rax = struct x86_jit_link. exit: cpu->rip is set. */
	j->exit_link = begin(a);
	jit_store(a, JIT_RAX, JIT_FIELD(jit_link), 8);
	j->exit = jit_here(a);
	jit_asm_save_flags(a);
	jit_vec_spill(j, a);
	save_homes(a);
	leave(a);

	/* call: rax = struct x86_jit_trans, ecx = index of the instruction; flags are in cpu->jit_flags. */
	j->call = begin(a);
	save_homes(a);
	jit_alu_ri(a, JIT_SUB, JIT_RSP, 8, 8);
	jit_mov_rr(a, JIT_RDI, JIT_RBP);
	jit_mov_rr(a, JIT_RSI, JIT_RAX);
	jit_mov_rr(a, JIT_RDX, JIT_RCX);
	jit_vec_spill(j, a);
	jit_mov_imm(a, JIT_RAX, (u64)jit_call_c);
	jit_op_rr(a, 0xff, 2, JIT_RAX, 4);
	jit_mov_rr(a, JIT_RCX, JIT_RAX);
	go_on = jit_jrcxz(a);
	jit_alu_ri(a, JIT_ADD, JIT_RSP, 16, 8);
	jit_alu_ri(a, JIT_CMP, JIT_RCX, JIT_LEAVE, 8);
	jump = jit_jcc8(a, JIT_NE);
	leave(a);
	jit_bind8(a, jump);
	load_homes(a);
	jit_asm_load_flags(a);
	jit_8(a, 0xff);			/* jmp rcx */
	jit_8(a, 0xe1);
	jit_bind8(a, go_on);
	load_homes(a);
	jit_alu_ri(a, JIT_ADD, JIT_RSP, 8, 8);
	jit_8(a, 0xc3);
	begin(a);
	j->p = a->p;
}
