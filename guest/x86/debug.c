/* SPDX-License-Identifier: MIT */
/* Replay: guest/run debug   (or: userkvm boot -i none -k build/guest/debug) */
/* Debug exceptions: single step, breakpoints on code, data and ports, DR6, DR7.GD, RF, shadows. */
#include "kit/kit.h"

#define DR6_INIT 0xffff0ff0
#define DR6_BD 0x2000
#define DR6_BS 0x4000
#define DR7_INIT 0x400
#define DR7(n, kind, len) (DR7_INIT | 2u << 2 * (n) | (kind) << (16 + 4 * (n)) | (len) << (18 + 4 * (n)))
enum { EXEC, WRITE, IO, ACCESS };
enum { LEN1, LEN2, LEN8, LEN4 };
#define TF 0x100
#define RF 0x10000

static volatile u32 hits;
static volatile u64 rip[32], dr6[32], flags[32];
static volatile bool stop_stepping;
static u64 data[4] __attribute__((aligned(32)));

static void on_debug(struct frame *f)
{
	if (hits < ARRAY_SIZE(rip)) {
		rip[hits] = f->rip;
		dr6[hits] = read_dr6();
		flags[hits] = f->rflags;
	}
	hits++;
	write_dr6(DR6_INIT);
	/* An instruction breakpoint is a fault: go on behind it. */
	f->rflags |= RF;
	if (stop_stepping)
		f->rflags &= ~(u64)TF;
}

#define begin() do { hits = 0; stop_stepping = false; write_dr6(DR6_INIT); } while (0)
#define STEP_ON "pushfq; orq $0x100, (%%rsp); popfq\n\t"
#define STEP_OFF "pushfq; andq $~0x100, (%%rsp); popfq\n\t"

static void single_step(void)
{
	u64 a, b;

	begin();
	asm volatile(STEP_ON "1: nop; 2: nop; " STEP_OFF "lea 1b(%%rip), %0; lea 2b(%%rip), %1"
		     : "=r"(a), "=r"(b) :: "memory", "cc");
	/* Behind each NOP, PUSHF, AND and the POPF that ends it. */
	report("one #DB an instruction", hits == 5);
	report("RIP behind the instruction", rip[0] == b && rip[1] == b + 1);
	report("DR6.BS", (dr6[0] & (DR6_BS | 0xf)) == DR6_BS);
	(void)a;

	begin();
	asm volatile("mov %%ss, %%eax\n\t" STEP_ON "mov %%eax, %%ss; nop; " STEP_OFF ::: "rax", "memory", "cc");
	report("none behind MOV SS", hits == 4);

	begin();
	asm volatile("mov $3, %%ecx; lea %0, %%rdi; xor %%eax, %%eax\n\t" STEP_ON "rep stosb; " STEP_OFF
		     : "=m"(data) :: "rax", "rcx", "rdi", "memory", "cc");
	report("one an iteration of REP", hits == 3 + 3);
}

static void code_breakpoint(void)
{
	u64 at;

	begin();
	asm volatile("lea 1f(%%rip), %0; mov %0, %%dr0; mov %1, %%dr7; nop; 1: nop; mov %2, %%dr7"
		     : "=&r"(at) : "r"((u64)DR7(0, EXEC, LEN1)), "r"((u64)DR7_INIT) : "memory");
	report("instruction breakpoint: before it", hits == 1 && rip[0] == at);
	report("DR6.B0", (dr6[0] & 0xf) == 1 && !(dr6[0] & DR6_BS));
	report("RF in the handler's frame is 0", !(flags[0] & RF));
}

static void data_breakpoints(void)
{
	u64 next;
	u32 v;

	write_dr1((u64)&data[1]);
	write_dr7(DR7(1, WRITE, LEN8));
	begin();
	asm volatile("movl $1, %1; 1: lea 1b(%%rip), %0" : "=r"(next), "=m"(data[1]) :: "memory");
	report("write: a trap behind the store", hits == 1 && rip[0] == next && (dr6[0] & 0xf) == 2);
	begin();
	v = *(volatile u32 *)&data[1];
	report("a read does not match", hits == 0);
	begin();
	*(volatile u8 *)((u8 *)&data[1] + 7) = 1;
	report("its last byte", hits == 1);
	begin();
	*(volatile u8 *)&data[2] = 1;
	report("the byte behind", hits == 0);
	begin();
	*(volatile u32 *)((u8 *)&data[1] - 2) = 1;
	report("overlap from below", hits == 1);
	write_dr7(DR7(1, ACCESS, LEN4));
	begin();
	v = *(volatile u32 *)&data[1];
	report("access: a read matches", hits == 1);
	begin();
	asm volatile("lock incl %0" : "+m"(data[1]) :: "memory");
	report("a read-modify-write: once", hits == 1);
	(void)v;

	/* Disabled: nothing, though DR6 may show it. */
	write_dr7(DR7_INIT);
	begin();
	*(volatile u32 *)&data[1] = 1;
	report("disabled", hits == 0);
}

static void port_breakpoint(void)
{
	write_cr4(read_cr4() | CR4_DE);
	write_dr2(0x80);
	write_dr7(DR7(2, IO, LEN1));
	begin();
	outb(0x80, 0);
	/* A hypervisor that exits for the port must look for itself, and hardly any does. */
	if (cpuid(1, 0).c >> 31 && !hits)
		skip("port breakpoint", "the port is a hypervisor's");
	else
		report("port breakpoint", hits == 1 && (dr6[0] & 0xf) == 4);
	begin();
	outb(0x81, 0);
	report("another port", hits == 0);
	write_dr7(DR7_INIT);
	report("DR4 is #UD with DE", is_fault(probe("mov %%dr4, %%rax"), 6, 0));
	write_cr4(read_cr4() & ~(u64)CR4_DE);
	report("DR4 is DR6 without", !probe("mov %%dr4, %%rax").taken);
}

static void general_detect(void)
{
	begin();
	write_dr7(DR7_INIT | 1 << 13);
	asm volatile("mov %%dr0, %%rax" ::: "rax");
	report_deviant("DR7.GD", "TCG has none", hits == 1 && (dr6[0] & DR6_BD));
	report_deviant("and GD is clear afterwards", "TCG has none", !(read_dr7() & 1 << 13));
}

static void others(void)
{
	u64 next;

	begin();
	if (on_tcg()) {
		skip("INT1: a trap without DR6 bits", "TCG raises #UD");
	} else {
		asm volatile(".byte 0xf1; 1: lea 1b(%%rip), %0" : "=r"(next) :: "memory");
		report("INT1: a trap without DR6 bits", hits == 1 && rip[0] == next && !(dr6[0] & 0x600f));
	}
	report("#GP for upper bits of DR7", is_fault(probe("mov %0, %%dr7", "r"(1ull << 32)), 13, 0));
	write_dr6(0);
	report("DR6 reads its fixed ones", read_dr6() == DR6_INIT);
	write_dr6(DR6_INIT);
}

int main(void)
{
	set_handler(1, on_debug);
	single_step();
	code_breakpoint();
	data_breakpoints();
	port_breakpoint();
	general_detect();
	others();
	return 0;
}
