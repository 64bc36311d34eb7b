// SPDX-License-Identifier: MIT
/* Recorders in place of mmu/, sys/ and vmx/: see fp_fake.h. */
#include "silicon/x86/insn/fp_fake.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/log.h"
#include "silicon/x86/decode/decode.h"
#include "silicon/x86/decode/table.h"
#include "silicon/x86/flags.h"
#include "silicon/x86/mmu/mem.h"
#include "silicon/x86/model/model.h"
#include "silicon/x86/vmx/intercept.h"

struct x86_cpu *fake_cpu;
u8 *fake_arena;

/* ---- Table: these three files only, so that the test links without the rest ---- */

#define INSN(mnemonic_, form_, gate_, modes_, priv_, vmx_, svm_, select_) \
	{ .name = #mnemonic_, .mnemonic = ZYDIS_MNEMONIC_##mnemonic_, .form = X86_FORM_##form_, \
	  .gate = X86_FEAT_##gate_, .modes = X86_IN_##modes_, .priv = X86_PRIV_##priv_, \
	  .vmx = X86_ICPT_##vmx_, .svm = X86_ICPT_##svm_, .select = x86_sel_##select_ },
static const struct x86_insn_row rows[] = {
#include "spec/x86/insn_x87.def"
#include "spec/x86/insn_sse.def"
#include "spec/x86/insn_avx.def"
};
#undef INSN

const struct x86_insn_row *x86_insn_find(unsigned mnemonic, unsigned forms)
{
	const struct x86_insn_row *any = NULL;

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		if (rows[i].mnemonic != mnemonic)
			continue;
		if (rows[i].form == X86_FORM_ANY)
			any = &rows[i];
		else if (forms >> rows[i].form & 1)
			return &rows[i];
	}
	return any;
}

const struct x86_insn_row *x86_insn_row(unsigned row)
{
	return &rows[row];
}

unsigned x86_insn_index(const struct x86_insn_row *row)
{
	return (unsigned)(row - rows);
}

bool x86_insn_is_system(const struct x86_insn_row *row)
{
	return false;
}

/* ---- Faults ---- */

void x86_unwind(struct x86_cpu *cpu, enum x86_unwind kind)
{
	cpu->fault.kind = (u8)kind;
	siglongjmp(*cpu->unwind, (int)kind);
}

void x86_fault_code(struct x86_cpu *cpu, enum x86_vector vector, u32 error)
{
	cpu->fault.vector = (u8)vector;
	cpu->fault.error = error;
	x86_unwind(cpu, X86_UNWIND_FAULT);
}

void x86_fault(struct x86_cpu *cpu, enum x86_vector vector)
{
	x86_fault_code(cpu, vector, 0);
}

void x86_page_fault(struct x86_cpu *cpu, u64 lin, u32 error)
{
	x86_fault_code(cpu, X86_PF, error);
}

/* ---- Memory ---- */

static void check(struct x86_cpu *cpu, u64 lin, unsigned len, bool write)
{
	if (lin < (u64)fake_arena || lin + len > (u64)fake_arena + FAKE_ARENA_SIZE)
		x86_page_fault(cpu, lin, write ? 6 : 4);
}

u64 x86_lin_check(struct x86_cpu *cpu, unsigned seg, u64 ea, unsigned size, bool write)
{
	return ea;
}

void x86_probe_read(struct x86_cpu *cpu, unsigned seg, u64 lin, unsigned len)
{
	check(cpu, lin, len, false);
}

void x86_probe_write(struct x86_cpu *cpu, unsigned seg, u64 lin, unsigned len)
{
	check(cpu, lin, len, true);
}

void x86_load_bytes(struct x86_cpu *cpu, unsigned seg, u64 lin, void *buf, unsigned len)
{
	check(cpu, lin, len, false);
	memcpy(buf, (void *)lin, len);
}

void x86_store_bytes(struct x86_cpu *cpu, unsigned seg, u64 lin, const void *buf, unsigned len)
{
	check(cpu, lin, len, true);
	memcpy((void *)lin, buf, len);
}

u64 x86_load_slow(struct x86_cpu *cpu, unsigned seg, u64 lin, unsigned size)
{
	u64 v = 0;

	x86_load_bytes(cpu, seg, lin, &v, size);
	return v;
}

void x86_store_slow(struct x86_cpu *cpu, unsigned seg, u64 lin, u64 v, unsigned size)
{
	x86_store_bytes(cpu, seg, lin, &v, size);
}

/* ---- The rest of the processor ---- */

void x86_set_pkru(struct x86_cpu *cpu, u32 v)
{
	cpu->pkru = v;
}

int x86_set_xcr0(struct x86_cpu *cpu, u64 v)
{
	if (!(v & 1) || v & ~7ull)
		return -1;
	cpu->xcr0 = v;
	return 0;
}

void x86_icpt(struct x86_cpu *cpu, const struct x86_op *op, enum x86_intercept what)
{
}

void x86_icpt_enabled(struct x86_cpu *cpu, enum x86_intercept what)
{
}

void x86_icpt_xsaves(struct x86_cpu *cpu, const struct x86_op *op, bool restore)
{
}

/* CPUID leaf 0Dh, standard offsets of AVX and PKRU; the models' tables are tested elsewhere. */
void x86_cpuid(struct x86_cpu *cpu, u32 leaf, u32 subleaf, u32 out[4])
{
	out[0] = subleaf == 2 ? 256 : 8;
	out[1] = subleaf == 2 ? 0x240 : 0xa80;
	out[2] = out[3] = 0;
}

u64 x86_xcr0_supported(const struct x86_cpu *cpu)
{
	return 0x207;
}

unsigned x86_xsave_bytes(const struct x86_cpu *cpu, u64 mask, bool compacted)
{
	return 0xa88;
}

static const struct x86_model model = { .name = "test", .vendor = X86_INTEL };

void fake_reset(void)
{
	if (!fake_cpu) {
		fake_cpu = aligned_alloc(64, round_up(sizeof(*fake_cpu), 64));
		fake_arena = mmap(NULL, FAKE_ARENA_SIZE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		BUG_ON(!fake_cpu || fake_arena == MAP_FAILED);
		memset(fake_cpu->tlbs, 0xff, sizeof(fake_cpu->tlbs));
	}
	memset(fake_cpu, 0, offsetof(struct x86_cpu, tlbs));
	memset(fake_cpu->tlbs + X86_NR_TLBS, 0, sizeof(*fake_cpu) - offsetof(struct x86_cpu, tlbs) - sizeof(fake_cpu->tlbs));
	memset(fake_cpu->feat, 0xff, sizeof(fake_cpu->feat));
	memset(fake_arena, 0, FAKE_ARENA_SIZE);
	fake_cpu->model = &model;
	fake_cpu->mode = X86_MODE_64;
	fake_cpu->code_size = 8;
	fake_cpu->lin_mask = fake_cpu->ip_mask = ~0ull;
	fake_cpu->seg_read_ok = fake_cpu->seg_write_ok = 0x3f;
	fake_cpu->tlb = &fake_cpu->tlbs[0];
	fake_cpu->cpl = 3;
	fake_cpu->cr0 = CR0_PG | CR0_PE | CR0_NE | CR0_MP | CR0_ET;
	fake_cpu->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_PAE;
	fake_cpu->xcr0 = 7;
	fake_cpu->fpu.fcw = 0x37f;
	fake_cpu->fpu.mxcsr = 0x1f80;
	fake_cpu->rip = 0x1000;
	x86_set_rflags(fake_cpu, RFLAGS_1);
}

u8 fake_run(const u8 *code, unsigned len, void *mem)
{
	struct x86_op op;
	sigjmp_buf unwind;

	if (mem)
		fake_cpu->gpr[X86_RBX] = (u64)mem;
	fake_cpu->gpr[X86_REG_ZERO] = 0;
	fake_cpu->gpr[X86_REG_NEXT_RIP] = fake_cpu->rip + len;
	fake_cpu->unwind = &unwind;
	if (sigsetjmp(unwind, 0))
		return fake_cpu->fault.vector;
	if (x86_decode_bytes(fake_cpu, fake_cpu->mode, fake_cpu->code_size, code, len, &op) !=
	    X86_DEC_OK)
		BUG();
	op.fn(fake_cpu, &op);
	return FAKE_NO_FAULT;
}
