/* SPDX-License-Identifier: MIT */
/* Interrupt descriptor table, handlers, probes of faulting instructions. */
#include "kit.h"

struct gate {
	u16 off0, sel;
	u8 ist, type;
	u16 off1;
	u32 off2, rsvd;
};

extern const u8 vector_entries[256][16];
extern _Noreturn void leave_user(u64 rsp);

static struct gate idt[256] __attribute__((aligned(16)));
static handler_fn *handlers[256];

void kit_interrupt(struct frame *f);
void idt_init(void);
void idt_load(void);

void set_handler(unsigned vector, handler_fn *fn)
{
	handlers[vector] = fn;
}

void set_ist(unsigned vector, unsigned ist)
{
	idt[vector].ist = (u8)ist;
}

void set_gate_dpl(unsigned vector, unsigned dpl)
{
	idt[vector].type = (u8)((idt[vector].type & ~0x60u) | dpl << 5);
}

void set_gate_present(unsigned vector, bool present)
{
	idt[vector].type = (u8)((idt[vector].type & 0x7f) | (present ? 0x80 : 0));
}

void idt_init(void)
{
	for (unsigned i = 0; i < 256; i++) {
		u64 off = (u64)vector_entries[i];

		idt[i] = (struct gate){
			.off0 = (u16)off, .off1 = (u16)(off >> 16), .off2 = (u32)(off >> 32),
			.sel = SEL_CS64, .type = 0x8e,
		};
	}
	set_gate_dpl(VEC_USER_EXIT, 3);
}

void idt_load(void)
{
	const struct { u16 limit; u64 base; } __attribute__((packed)) p = { sizeof(idt) - 1, (u64)idt };

	asm volatile("lidt %0" :: "m"(p));
}

static const char *const names[] = {
	"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "9", "#TS", "#NP", "#SS", "#GP",
	"#PF", "15", "#MF", "#AC", "#MC", "#XM",
};

void kit_interrupt(struct frame *f)
{
	struct cpu *c = this_cpu();
	struct fault fault = { true, (u8)f->vector, f->error, 0, f->rip };

	if (f->vector == 14)
		fault.cr2 = read_cr2();
	/* A program's handler may change the frame and is then the whole answer. */
	if (handlers[f->vector]) {
		handlers[f->vector](f);
		return;
	}
	if ((f->cs & 3) == 3 && c->user_return) {
		u64 rsp = c->user_return;

		if (f->vector == VEC_USER_EXIT)
			fault = (struct fault){ .vector = NO_FAULT };
		c->user_fault = fault;
		c->user_return = 0;
		leave_user(rsp);
	}
	if (f->vector >= 32)
		return;
	if (c->resume) {
		c->fault = fault;
		f->rip = c->resume;
		f->rsp = c->resume_rsp;		/* a CALL may have pushed */
		f->rflags &= ~0x10100ull;	/* RF and TF */
		return;
	}
	die("unexpected %s (vector %lu, error %lx) at %lx, cs %lx, rsp %lx, cr2 %lx",
	    f->vector < ARRAY_SIZE(names) ? names[f->vector] : "exception", f->vector, f->error, f->rip, f->cs,
	    f->rsp, read_cr2());
}

void probe_begin(void)
{
	this_cpu()->fault = (struct fault){ .vector = NO_FAULT };
}

struct fault probe_end(void)
{
	return this_cpu()->fault;
}

bool is_fault(struct fault f, unsigned v, u64 error)
{
	bool ok = f.taken && f.vector == v && f.error == error;

	if (!ok)
		printf("# got %s vector %u error %lx cr2 %lx rip %lx; want vector %u error %lx\n",
		       f.taken ? "a fault," : "no fault,", f.vector, f.error, f.cr2, f.rip, v, error);
	return ok;
}
