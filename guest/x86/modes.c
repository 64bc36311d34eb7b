/* SPDX-License-Identifier: MIT */
/* Replay: guest/run modes   (or: userkvm boot -i none -k build/guest/modes) */
/* Every execution mode (compatibility, 32- and 16-bit protected, real, virtual-8086) and the ways between. */
#include "kit/kit.h"

#include "modes.h"

extern u64 kit_gdt[], idt32[];
extern u32 compat_cs, tour_protected, tour_efer, vm86_error, vm86_eip, vm86_flags, vm86_ds;
extern u8 low_begin[], low_end[], vm86_hlt[], vm86_gp[], tour_stack_end[], limit_resume[];
u32 compat_call(void);
u32 both_call(u32 selector);
u32 limit_call(void);
void modes_tour(void);

static volatile u32 gp_hits, gp_cs;
static volatile u64 gp_error;
static u32 tss32[26];
static u8 small[32];

static void on_gp(struct frame *f)
{
	gp_hits++;
	gp_cs = (u32)f->cs;
	gp_error = f->error;
	f->rip = (u64)limit_resume;
}

static void set_spare(u64 base, u32 limit, u64 type)
{
	kit_gdt[SEL_SPARE / 8] = (limit & 0xffff) | (base & 0xffffff) << 16 | type << 40 |
				 (u64)(limit >> 16 & 15) << 48 | (base >> 24 & 0xff) << 56;
}

static void compatibility(void)
{
	report("compatibility mode: 40h is INC", compat_call() == 2);
	report("its CS", (compat_cs & 0xffff) == SEL_CS32);
	set_spare((u64)small, 15, 0x93);
	set_handler(13, on_gp);
	report_deviant("a segment limit counts there", "TCG checks no limits",
		       limit_call() == 0 && gp_hits == 1 && gp_error == 0);
	report_deviant("the frame has the 32-bit CS", "TCG checks no limits", gp_cs == SEL_CS32);
	set_handler(13, NULL);
}

/* Often enough that each is translated, and that what is known of one mode is in the way of the other. */
static void alternate(void)
{
	u32 wrong = 0;

	for (unsigned i = 0; i < 200; i++) {
		wrong += both_call(SEL_CS32) != 1020;
		wrong += both_call(SEL_CS64) != 1000;
		wrong += i % 3 == 0 && both_call(SEL_CS64) != 1000;
	}
	report("the same code in two modes by turns", !wrong);
}

static volatile u16 *low(u32 addr)
{
	u64 a = addr;

	asm("" : "+r"(a));
	return (volatile u16 *)a;
}

static void make_tour(void)
{
	struct cpu *c = this_cpu();
	u64 gp = (u64)vm86_gp;

	memcpy((void *)low(LOW_BASE), low_begin, (size_t)(low_end - low_begin));
	memset((void *)low(RESULT_PROTECTED16), 0, 32);
	tss32[1] = (u32)(u64)tour_stack_end;
	tss32[2] = SEL_DS;
	tss32[25] = 104 << 16;
	set_spare((u64)tss32, sizeof(tss32) - 1, 0x89);
	idt32[13] = (gp & 0xffff) | SEL_CS32 << 16 | 0x8eull << 40 | (gp >> 16 & 0xffff) << 48;

	modes_tour();
	wrmsr(MSR_GS_BASE, (u64)c);	/* the tour loaded GS */
}

static void tour(void)
{
	/* Again with code that is known. */
	for (unsigned i = 0; i < 30; i++)
		make_tour();

	report("32-bit protected mode without paging", tour_protected == 0x32323232);
	report("leaving clears LMA", !(tour_efer & EFER_LMA) && (tour_efer & EFER_LME));
	report("16-bit protected mode", *low(RESULT_PROTECTED16) == 0x1616);
	report("INT in real mode", *low(RESULT_REAL_INT) == 1);
	report("real-mode segments", (*low(RESULT_SEGMENT) & 0xff) == 1);
	report("virtual-8086 mode", *low(RESULT_VM86) == 0xbeef);
	report("HLT there is #GP(0)", vm86_error == 0 && vm86_eip == (u32)(vm86_hlt - low_begin));
	report("the frame has VM", vm86_flags & 0x20000);
	report("data segments are null in its handler", (vm86_ds & 0xffff) == 0);
	report("back in long mode", (rdmsr(MSR_EFER) & EFER_LMA) && (read_cr0() & 0x80000000));
}

static void user_null(u64 arg)
{
}

static void segments(void)
{
	u64 base = 0x123456789000ull, v;

	wrmsr(0xc0000100, base);
	asm volatile("mov %%fs, %%eax; mov %%eax, %%fs" ::: "rax");
	v = rdmsr(0xc0000100);
	report("loading a null FS", v == 0 || v == base);	/* 0 on Intel, kept on older AMD */
	report_deviant("#GP for a non-canonical FS base", "TCG accepts it",
		is_fault(probe("xor %%eax, %%eax; wrmsr", "c"(0xc0000100), "d"(0x80000000)), 13, 0));
	wrmsr(0xc0000100, 0);
	report("IRET to CPL 3 and back", run_user(user_null, 0).vector == NO_FAULT);
}

int main(void)
{
	compatibility();
	alternate();
	tour();
	segments();
	return 0;
}
