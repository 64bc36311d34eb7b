/* SPDX-License-Identifier: MIT */
/*
 * The freestanding test kit: what a guest program gets. A program is one C file with
 * main(); it calls report() for each thing that it checks and returns. The
 * kit prints TAP on the first serial port and leaves through port F4h: value 0
 * when all passed, 1 otherwise (QEMU's isa-debug-exit makes 1 and 3 of them).
 */
#ifndef GUEST_X86_KIT_H
#define GUEST_X86_KIT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kit_asm.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* ---- Console and results: console.c ---- */

/* %s %c %d %u %x with l and 0n widths. Any processor; a line at a time. */
void printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void report(const char *what, bool pass);
/* A check that this processor cannot do. */
void skip(const char *what, const char *why);
/*
 * report(), where QEMU's translator is known to deviate from the manual as @tcg
 * says: a failure there is skipped.
 */
void report_deviant(const char *what, const char *tcg, bool pass);
bool on_tcg(void);
/* Ends the program. */
_Noreturn void finish(void);
_Noreturn void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

int main(void);

void *memcpy(void *d, const void *s, size_t n);
void *memset(void *d, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);

/* ---- Instructions ---- */

static inline void outb(u16 port, u8 v) { asm volatile("outb %0, %1" :: "a"(v), "Nd"(port)); }
static inline void outw(u16 port, u16 v) { asm volatile("outw %0, %1" :: "a"(v), "Nd"(port)); }
static inline void outl(u16 port, u32 v) { asm volatile("outl %0, %1" :: "a"(v), "Nd"(port)); }
static inline u8 inb(u16 port) { u8 v; asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u16 inw(u16 port) { u16 v; asm volatile("inw %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u32 inl(u16 port) { u32 v; asm volatile("inl %1, %0" : "=a"(v) : "Nd"(port)); return v; }

static inline u64 rdmsr(u32 msr)
{
	u32 lo, hi;

	asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return lo | (u64)hi << 32;
}

static inline void wrmsr(u32 msr, u64 v)
{
	asm volatile("wrmsr" :: "c"(msr), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}

static inline u64 rdtsc(void)
{
	u32 lo, hi;

	asm volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return lo | (u64)hi << 32;
}

struct cpuid { u32 a, b, c, d; };
static inline struct cpuid cpuid(u32 leaf, u32 sub)
{
	struct cpuid r;

	asm volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(sub));
	return r;
}

#define REG_FN(name) \
	static inline u64 read_##name(void) { u64 v; asm volatile("mov %%" #name ", %0" : "=r"(v)); return v; } \
	static inline void write_##name(u64 v) { asm volatile("mov %0, %%" #name :: "r"(v) : "memory"); }
REG_FN(cr0) REG_FN(cr2) REG_FN(cr3) REG_FN(cr4) REG_FN(cr8)
REG_FN(dr0) REG_FN(dr1) REG_FN(dr2) REG_FN(dr3) REG_FN(dr6) REG_FN(dr7)
#undef REG_FN

static inline void sti(void) { asm volatile("sti" ::: "memory"); }
static inline void cli(void) { asm volatile("cli" ::: "memory"); }
/* Let pending interrupts in. Two NOPs: the first is in the shadow of STI. */
static inline void let_in(void) { asm volatile("sti; nop; nop; cli" ::: "memory"); }
/* Enable interrupts and halt: nothing can come in between. */
static inline void sti_hlt(void) { asm volatile("sti; hlt; cli" ::: "memory"); }
static inline void pause(void) { asm volatile("pause" ::: "memory"); }
static inline void invlpg(const volatile void *p) { asm volatile("invlpg (%0)" :: "r"(p) : "memory"); }
static inline u64 read_rflags(void) { u64 v; asm volatile("pushfq; pop %0" : "=r"(v)); return v; }

/* Wait until @cond holds, some seconds at most, with interrupts let in; its value at the end. */
#define wait_for(cond) ({ \
		u64 end_ = rdtsc() + kit_patience; \
		while (!(cond) && rdtsc() < end_) { let_in(); pause(); } \
		(cond); })
extern u64 kit_patience;	/* in TSC cycles */

/* ---- Interrupts and exceptions: idt.c ---- */

struct frame {
	u64 r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
	u64 vector, error, rip, cs, rflags, rsp, ss;
};
typedef void handler_fn(struct frame *f);
/* All processors; NULL: an exception ends the program, an interrupt is ignored. */
void set_handler(unsigned vector, handler_fn *fn);
/* IST stack 1..7 for a vector, 0 = none. */
void set_ist(unsigned vector, unsigned ist);
void set_gate_dpl(unsigned vector, unsigned dpl);
void set_gate_present(unsigned vector, bool present);

/* What a probed instruction did. */
struct fault {
	bool taken;
	u8 vector;
	u64 error, cr2, rip;
};
#define NO_FAULT 0xff
/*
 * Execute @insn (assembly text, operands as in asm, without outputs); a fault
 * continues behind it. RAX is clobbered.
 */
#define probe(insn, ...) ({ \
		probe_begin(); \
		asm volatile("lea 1f(%%rip), %%rax; mov %%rsp, %%gs:16; mov %%rax, %%gs:8\n\t" \
			     insn "\n1:\n\tmovq $0, %%gs:8" \
			     :: __VA_ARGS__ : "rax", "memory", "cc"); \
		probe_end(); })
void probe_begin(void);
struct fault probe_end(void);
/* @f is vector @v with error code @error. */
bool is_fault(struct fault f, unsigned v, u64 error);

/* ---- Processors: smp.c ---- */

struct cpu {
	struct cpu *self;	/* GS:0 */
	u64 resume, resume_rsp;	/* GS:8, GS:16: where a probed fault continues, 0 = none */
	u32 id, apic_id;
	struct fault fault;
	u64 user_return;	/* kernel stack of run_user() */
	struct fault user_fault;
	void (*volatile work)(void *);
	void *work_arg;
	u8 tss[104] __attribute__((aligned(16)));
	u8 ist_stack[4096] __attribute__((aligned(16)));
	u8 kernel_stack[8192] __attribute__((aligned(16)));
};
extern struct cpu cpus[MAX_CPUS];
extern volatile u32 nr_online;

static inline struct cpu *this_cpu(void)
{
	struct cpu *c;

	asm volatile("mov %%gs:0, %0" : "=r"(c));
	return c;
}

/* Start the others; true when @n processors run. */
bool start_cpus(u32 n);
/* Have processor @id call @fn; does not wait. */
void run_on(u32 id, void (*fn)(void *), void *arg);
void wait_idle(u32 id);

/* ---- User mode: user.c ---- */

/* Memory is seen here by CPL 3, shifted up, one to one. */
#define USER_SHIFT 0x8000000000ull
#define user_ptr(p) ((void *)((u64)(p) + USER_SHIFT))
/*
 * Call @fn at CPL 3 (through the user alias: no absolute addresses, no kernel calls);
 * the fault that ended it, or NO_FAULT when it returned.
 */
struct fault run_user(void (*fn)(u64 arg), u64 arg);

/* ---- Page tables: paging.c ---- */

/* The 4 KiB entry of a linear address below 4 GiB; splits the large page once. */
u64 *pte_of(const volatile void *lin);
/* Change bits and flush. */
void pte_change(const volatile void *lin, u64 set, u64 clear);
/* A page of kit memory, 4 KiB aligned, zeroed. */
void *alloc_page(void);

/* ---- Local APIC: apic.c ---- */

#define APIC_ID 0x20
#define APIC_TPR 0x80
#define APIC_EOI 0xb0
#define APIC_SVR 0xf0
#define APIC_ISR 0x100
#define APIC_IRR 0x200
#define APIC_ICR 0x300
#define APIC_LVTT 0x320
#define APIC_TMICT 0x380
#define APIC_TMCCT 0x390
#define APIC_TDCR 0x3e0
#define LVT_MASKED 0x10000
#define LVT_PERIODIC 0x20000
#define LVT_DEADLINE 0x40000
#define ICR_NMI 0x400
#define ICR_INIT 0x4500
#define ICR_SIPI 0x4600
#define ICR_SELF 0x40000
#define ICR_OTHERS 0xc0000

/* Each processor for itself. x2APIC from then on where @x2. */
void apic_enable(bool x2);
bool apic_has_x2(void);
u32 apic_read(u32 reg);
void apic_write(u32 reg, u32 v);
void apic_eoi(void);
/* @dest: APIC id, ignored with a shorthand. */
void apic_ipi(u32 dest, u32 icr);

#endif
