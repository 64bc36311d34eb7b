/* SPDX-License-Identifier: MIT */
/* Replay: guest/run exceptions   (or: userkvm boot -i none -k build/guest/exceptions) */
/* Every exception that 64-bit code can raise: vector, error code, pushed RIP, nesting. */
#include "kit/kit.h"

extern u64 kit_gdt[];
#define NONCANON 0x8000000000000000ull

static volatile u32 hits;
static volatile u64 seen_rip, seen_error;

static void count(struct frame *f)
{
	hits++;
	seen_rip = f->rip;
	seen_error = f->error;
}

static void arithmetic_and_opcode(void)
{
	report("#DE by DIV", is_fault(probe("xor %%eax, %%eax; div %%al"), 0, 0));
	report("#DE by overflow", is_fault(probe("mov $0xff01, %%eax; div %%al"), 0, 0));
	report("#UD by UD2", is_fault(probe("ud2"), 6, 0));
	report("#UD by LOCK", is_fault(probe(".byte 0xf0, 0x90"), 6, 0));
	report("#UD by PUSH ES", is_fault(probe(".byte 0x06"), 6, 0));
	report("#BP by INT3", is_fault(probe("int3"), 3, 0));
}

static void fpu(void)
{
	u32 mxcsr = 0x1f80, mxcsr_div = 0x1d80;	/* divide-by-zero unmasked */
	u16 cw = 0x37b;				/* zero-divide unmasked */

	write_cr0(read_cr0() | CR0_TS);
	report("#NM by TS", is_fault(probe("fninit"), 7, 0));
	asm volatile("clts; fninit");
	report("#MF at the next waiting instruction",
	       is_fault(probe("fldcw %0; fldz; fld1; fdivp; fwait", "m"(cw)), 16, 0));
	asm volatile("fnclex; fninit");
	write_cr4(read_cr4() | 0x400);		/* OSXMMEXCPT */
	report_deviant("#XM by DIVSS", "TCG raises no SIMD exceptions",
		       is_fault(probe("ldmxcsr %0; mov $0x3f800000, %%eax; movd %%eax, %%xmm0;"
			      "xorps %%xmm1, %%xmm1; divss %%xmm1, %%xmm0", "m"(mxcsr_div)), 19, 0));
	asm volatile("ldmxcsr %0" :: "m"(mxcsr));
	write_cr4(read_cr4() & ~0x400ull);
}

static void protection(void)
{
	u16 np = SEL_SPARE;

	report("#GP(0) non-canonical", is_fault(probe("mov (%0), %%al", "r"(NONCANON)), 13, 0));
	probe_begin();
	asm volatile("lea 1f(%%rip), %%rax; mov %%rsp, %%gs:16; mov %%rax, %%gs:8; "
		     "mov %%rbp, %%rdx; mov %0, %%rbp; mov (%%rbp), %%al\n"
		     "1:	mov %%rdx, %%rbp; movq $0, %%gs:8" :: "c"(NONCANON) : "rax", "rdx", "memory");
	report_deviant("#SS(0) non-canonical", "TCG raises #GP(0)", is_fault(probe_end(), 12, 0));
	if (on_tcg())
		skip("#GP(0) reserved CR4 bit", "TCG hangs");
	else
		report("#GP(0) reserved CR4 bit", is_fault(probe("mov %0, %%cr4", "r"(read_cr4() | 1ull << 31)), 13, 0));
	report_deviant("#GP(0) unknown MSR", "TCG reads 0", is_fault(probe("rdmsr", "c"(0x40000fff)), 13, 0));
	report("#GP(sel) beyond the GDT", is_fault(probe("mov %0, %%fs", "r"(0xfff8)), 13, 0xfff8));
	kit_gdt[SEL_SPARE / 8] = 0x00cf13000000ffff;	/* data, not present */
	report("#NP(sel)", is_fault(probe("mov %w0, %%fs", "r"(np)), 11, SEL_SPARE));
	report("#SS(sel) not present", is_fault(probe("mov %w0, %%ss", "r"(np)), 12, SEL_SPARE));
	kit_gdt[SEL_SPARE / 8] = 0;
	report_deviant("#GP(0) null SS for CPL 0 with RPL 3", "TCG accepts it",
		       is_fault(probe("mov %w0, %%ss", "r"((u16)3)), 13, 0));
	report("#PF not present", is_fault(probe("mov (%0), %%al", "r"(0x4000000000ull)), 14, 0));
}

static void user_hlt(u64 arg) { asm volatile("hlt"); }
static void user_cli(u64 arg) { asm volatile("cli"); }
static void user_int(u64 arg) { asm volatile("int $0x41"); }
static void user_in(u64 arg) { asm volatile("in $0x60, %%al" ::: "rax"); }
static void user_cr(u64 arg) { asm volatile("mov %%cr0, %%rax" ::: "rax"); }
static void user_align(u64 arg)
{
	asm volatile("pushfq; orq $0x40000, (%%rsp); popfq; mov 1(%0), %%eax" :: "r"(arg) : "rax", "memory");
}

static void user_mode(void)
{
	static u64 data[2];

	report("#GP(0) HLT at CPL 3", is_fault(run_user(user_hlt, 0), 13, 0));
	report("#GP(0) CLI at CPL 3", is_fault(run_user(user_cli, 0), 13, 0));
	report("#GP(0) IN at CPL 3", is_fault(run_user(user_in, 0), 13, 0));
	report("#GP(0) MOV from CR0 at CPL 3", is_fault(run_user(user_cr, 0), 13, 0));
	report_deviant("#GP(vector * 8 + 2) gate privilege", "TCG counts 16-byte entries",
		       is_fault(run_user(user_int, 0), 13, 0x41 * 8 + 2));
	write_cr0(read_cr0() | CR0_AM);
	report_deviant("#AC(0)", "TCG checks no alignment",
		       is_fault(run_user(user_align, (u64)user_ptr(data)), 17, 0));
	write_cr0(read_cr0() & ~(u64)CR0_AM);
	report("no #AC without CR0.AM", run_user(user_align, (u64)user_ptr(data)).vector == NO_FAULT);
}

static void software_interrupt(void)
{
	u64 next;

	set_handler(0x40, count);
	hits = 0;
	asm volatile("lea 1f(%%rip), %0; int $0x40; 1:" : "=r"(next) :: "memory");
	report("INT n pushes the next RIP", hits == 1 && seen_rip == next);
	set_gate_present(0x40, false);
	report_deviant("#NP(vector * 8 + 2) by INT n", "TCG counts 16-byte entries",
		       is_fault(probe("int $0x40"), 11, 0x40 * 8 + 2));
	set_gate_present(0x40, true);
}

static volatile u64 df_resume;

static void on_double_fault(struct frame *f)
{
	hits++;
	seen_error = f->error;
	f->rip = df_resume;
}

static void double_fault(void)
{
	u64 rsp_before, rsp_after;

	set_handler(8, on_double_fault);
	set_ist(8, 1);
	set_gate_present(13, false);	/* #GP becomes #NP in delivery: contributory twice */
	hits = 0;
	asm volatile("lea 1f(%%rip), %%rax; mov %%rax, %2; mov %%rsp, %0; mov (%3), %%al; 1: mov %%rsp, %1"
		     : "=&r"(rsp_before), "=&r"(rsp_after), "=m"(df_resume) : "r"(NONCANON) : "rax", "memory");
	set_gate_present(13, true);
	set_ist(8, 0);
	set_handler(8, NULL);
	report("#DF(0) on its IST stack", hits == 1 && seen_error == 0 && rsp_before == rsp_after);
}

static void on_nmi(struct frame *f)
{
	hits++;
	/* A second one waits for our IRET. */
	if (hits == 1) {
		apic_ipi(this_cpu()->apic_id, ICR_NMI);
		for (int i = 0; i < 1000; i++)
			pause();
		seen_error = hits;
	}
}

static void nmi(void)
{
	set_handler(2, on_nmi);
	hits = 0;
	apic_ipi(this_cpu()->apic_id, ICR_NMI);
	report("NMIs are blocked until IRET", wait_for(hits == 2) && seen_error == 1);
}

int main(void)
{
	arithmetic_and_opcode();
	fpu();
	protection();
	user_mode();
	software_interrupt();
	double_fault();
	nmi();
	return 0;
}
