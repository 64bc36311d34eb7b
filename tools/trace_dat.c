// SPDX-License-Identifier: MIT
/*
 * Writes trace.dat: a header that describes the events, then for each processor the
 * pages of the kernel's ring buffer.
 *
 * Every event carries its text, which is the kernel's. Those that readers take
 * apart by field (trace-cmd's plugin for KVM, KernelShark's for guests) have the
 * kernel's fields besides.
 *
 * A page: time and length of the data, 8 bytes each, then events: a word of 5 bits of
 * type or length (in words) and 27 bits of time since the event before.
 */
#include "tools/trace_dat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "kvm/exit_stat.h"

#define PAGE 4096u
#define PAGE_HEAD 16u
#define FIRST_ID 1000u		/* of events; any number does */
#define MAX_SHORT 28u		/* words of data that the type itself can tell */
#define TIME_EXTEND 30u
#define DELTA_BITS 27
#define MAX_EVENT 700u		/* a line is at most 512 bytes */
#define ISA_VMX 1u

/* ---- Payloads: common part, fields, where the text is, the text ---- */

struct common {
	u16 type;
	u8 flags, preempt_count;
	s32 pid;
};

struct entry {
	struct common c;
	u32 vcpu_id;
	u32 text;
	u64 rip;
};

struct exit {
	struct common c;
	u32 exit_reason;
	u32 isa;
	u64 guest_rip;
	u64 info1;
	u64 info2;
	u32 intr_info;
	u32 error_code;
	u32 vcpu_id;
	u32 text;
};

struct insn {
	struct common c;
	u64 rip;
	u32 csbase;
	u8 len;
	u8 insn[15];
	u8 flags;
	u8 failed;
	u16 pad;
	u32 text;
};

struct plain {
	struct common c;
	u32 text;
};

#define FIELD(type, s, name, sign) \
	{ type " " #name, offsetof(struct s, name), sizeof(((struct s *)0)->name), sign }

static const struct field {
	const char *decl;
	size_t at, size;
	int sign;
} entry_fields[] = {
	FIELD("unsigned int", entry, vcpu_id, 0), FIELD("__data_loc char[]", entry, text, 0),
	FIELD("unsigned long", entry, rip, 0),
}, exit_fields[] = {
	FIELD("unsigned int", exit, exit_reason, 0), FIELD("u32", exit, isa, 0),
	FIELD("unsigned long", exit, guest_rip, 0), FIELD("u64", exit, info1, 0),
	FIELD("u64", exit, info2, 0), FIELD("u32", exit, intr_info, 0), FIELD("u32", exit, error_code, 0),
	FIELD("unsigned int", exit, vcpu_id, 0), FIELD("__data_loc char[]", exit, text, 0),
}, insn_fields[] = {
	FIELD("__u64", insn, rip, 0), FIELD("__u32", insn, csbase, 0), FIELD("__u8", insn, len, 0),
	{ "__u8 insn[15]", offsetof(struct insn, insn), 15, 0 }, FIELD("__u8", insn, flags, 0),
	FIELD("__u8", insn, failed, 0), FIELD("__data_loc char[]", insn, text, 0),
}, plain_fields[] = {
	FIELD("__data_loc char[]", plain, text, 0),
};

static const struct shape {
	const struct field *field;
	size_t nr, size, text;
} entry_shape = { entry_fields, ARRAY_SIZE(entry_fields), sizeof(struct entry), offsetof(struct entry, text) },
  exit_shape = { exit_fields, ARRAY_SIZE(exit_fields), sizeof(struct exit), offsetof(struct exit, text) },
  insn_shape = { insn_fields, ARRAY_SIZE(insn_fields), sizeof(struct insn), offsetof(struct insn, text) },
  plain_shape = { plain_fields, ARRAY_SIZE(plain_fields), sizeof(struct plain), offsetof(struct plain, text) };

static const struct shape *shape_of(enum trace_point p)
{
	return p == TRACE_kvm_entry ? &entry_shape : p == TRACE_kvm_exit ? &exit_shape :
	       p == TRACE_kvm_emulate_insn ? &insn_shape : &plain_shape;
}

static u32 reason_number(const char *name)
{
	for (u32 i = 0; i < HV_EXIT_STAT_REASONS; i++) {
		if (!strcmp(hv_exit_stat_reason(i), name))
			return i;
	}
	return ~0u;
}

/* Flags as the kernel has them, by the name of the mode. */
static const struct { const char *name; u8 flags; } insn_modes[] = {
	{ "(vm16)", 3 }, { "(prot16)", 1 }, { "(prot32)", 5 }, { "(prot64)", 9 },
};

/* "0:ffffffff81000000: 0f 01 d9 (prot64) failed" */
static void fill_insn(const char *text, struct insn *in)
{
	unsigned long long rip = 0;
	unsigned base = 0, byte;
	int at = 0;

	sscanf(text, "%x:%llx:%n", &base, &rip, &at);
	in->csbase = base;
	in->rip = rip;
	for (text += at; in->len < sizeof(in->insn) && sscanf(text, " %2x", &byte) == 1; text += 3)
		in->insn[in->len++] = (u8)byte;
	for (unsigned i = 0; i < ARRAY_SIZE(insn_modes); i++)
		if (strstr(text, insn_modes[i].name))
			in->flags = insn_modes[i].flags;
	in->failed = strstr(text, "failed") != NULL;
}

/* What a text does not say stays 0. */
static void fill_fields(const struct trace_line *l, void *payload)
{
	struct entry *en = payload;
	struct exit *ex = payload;
	struct insn *in = payload;
	char name[32] = "";
	unsigned long long rip = 0, i1 = 0, i2 = 0;

	if (l->point == TRACE_kvm_entry) {
		sscanf(l->text, "vcpu %u, rip 0x%llx", &en->vcpu_id, &rip);
		en->rip = rip;
	} else if (l->point == TRACE_kvm_exit) {
		sscanf(l->text, "vcpu %u reason %31s rip 0x%llx info1 0x%llx info2 0x%llx intr_info 0x%x error_code 0x%x",
		       &ex->vcpu_id, name, &rip, &i1, &i2, &ex->intr_info, &ex->error_code);
		ex->exit_reason = reason_number(name);
		ex->isa = ISA_VMX;
		ex->guest_rip = rip;
		ex->info1 = i1;
		ex->info2 = i2;
	} else if (l->point == TRACE_kvm_emulate_insn) {
		fill_insn(l->text, in);
	}
}

/* Returns its length in bytes, a multiple of 4. */
static u32 make_payload(const struct trace_line *l, u8 out[MAX_EVENT])
{
	const struct shape *s = shape_of(l->point);
	u32 len = (u32)min(l->text_len, MAX_EVENT - s->size - 8), loc = (len + 1) << 16 | (u32)s->size;
	struct common c = { .type = (u16)(FIRST_ID + (u32)l->point), .pid = l->pid };

	memset(out, 0, MAX_EVENT);
	fill_fields(l, out);
	memcpy(out, &c, sizeof(c));
	memcpy(out + s->text, &loc, sizeof(loc));
	memcpy(out + s->size, l->text, len);
	return ((u32)s->size + len + 1 + 3) & ~3u;
}

/* ---- Header ---- */

/* Errors of stdio add up: they are looked at once, in the end. */
static void put(FILE *f, const void *data, size_t len)
{
	fwrite(data, 1, len, f);
}

static void put32(FILE *f, u32 v)
{
	put(f, &v, sizeof(v));
}

static void put64(FILE *f, u64 v)
{
	put(f, &v, sizeof(v));
}

static void put_sized(FILE *f, const char *name, const char *text)
{
	if (name)
		put(f, name, strlen(name) + 1);
	put64(f, strlen(text));
	put(f, text, strlen(text));
}

static int put_format(FILE *f, enum trace_point p)
{
	const struct shape *s = shape_of(p);
	size_t len;
	char *text;
	FILE *m = open_memstream(&text, &len);

	if (!m)
		return -ENOMEM;
	fprintf(m, "name: %s\nID: %u\nformat:\n"
		"\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n"
		"\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n"
		"\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n"
		"\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n", trace_name(p), FIRST_ID + (u32)p);
	for (size_t i = 0; i < s->nr; i++)
		fprintf(m, "\tfield:%s;\toffset:%zu;\tsize:%zu;\tsigned:%d;\n", s->field[i].decl,
			s->field[i].at, s->field[i].size, s->field[i].sign);
	fprintf(m, "\nprint fmt: \"%%s\", __get_str(text)\n");
	if (fclose(m))
		return -ENOMEM;
	put_sized(f, NULL, text);
	free(text);
	return 0;
}

static int by_pid(const void *a, const void *b)
{
	const struct trace_line *x = a, *y = b;

	return (x->pid > y->pid) - (x->pid < y->pid);
}

/* "PID NAME", once each. */
static int put_tasks(FILE *f, struct trace_text *t)
{
	size_t len;
	char *text;
	FILE *m = open_memstream(&text, &len);

	if (!m)
		return -ENOMEM;
	qsort(t->line, t->nr, sizeof(*t->line), by_pid);
	for (size_t i = 0; i < t->nr; i++) {
		if (i == 0 || t->line[i].pid != t->line[i - 1].pid)
			fprintf(m, "%d %.*s\n", t->line[i].pid, (int)t->line[i].task_len, t->line[i].task);
	}
	if (fclose(m))
		return -ENOMEM;
	put_sized(f, NULL, text);
	free(text);
	return 0;
}

static int put_header(FILE *f, struct trace_text *t)
{
	int ret = 0;

	put(f, "\x17\x08\x44tracing6\0\0\x08", 14);	/* version 6, little endian, longs of 8 bytes */
	put32(f, PAGE);
	put_sized(f, "header_page",
		  "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
		  "\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n"
		  "\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n"
		  "\tfield: char data;\toffset:16;\tsize:4080;\tsigned:1;\n");
	put_sized(f, "header_event",
		  "# compressed entry header\n\ttype_len    :    5 bits\n\ttime_delta  :   27 bits\n"
		  "\tarray       :   32 bits\n\n\tpadding     : type == 29\n\ttime_extend : type == 30\n"
		  "\ttime_stamp : type == 31\n\tdata max type_len  == 28\n");
	put32(f, 0);			/* events of ftrace itself */
	put32(f, 1);
	put(f, "kvm", 4);
	put32(f, TRACE_NR_POINTS);
	for (int i = 0; i < TRACE_NR_POINTS && !ret; i++)
		ret = put_format(f, (enum trace_point)i);
	put32(f, 0);			/* symbols */
	put32(f, 0);			/* formats of trace_printk() */
	if (!ret)
		ret = put_tasks(f, t);
	put32(f, t->cpus);
	put(f, "options  \0\0", 12);	/* none */
	put(f, "flyrecord", 10);
	return ret;
}

/* ---- Data ---- */

static int by_time(const void *a, const void *b)
{
	const struct trace_line *x = a, *y = b;

	if (x->cpu != y->cpu)
		return x->cpu < y->cpu ? -1 : 1;
	if (x->ns != y->ns)
		return x->ns < y->ns ? -1 : 1;
	return (x->text > y->text) - (x->text < y->text);	/* as in the file */
}

struct page {
	u8 byte[PAGE];
	u64 used, last;		/* bytes of data; time of the last event */
};

static void start_page(struct page *p, u64 ns)
{
	memset(p->byte, 0, sizeof(p->byte));
	memcpy(p->byte, &ns, 8);
	p->used = 0;
	p->last = ns;
}

static void end_page(const struct page *p, FILE *f)
{
	struct page out = *p;

	memcpy(out.byte + 8, &p->used, 8);
	put(f, out.byte, PAGE);
}

static void put_word(struct page *p, u32 v)
{
	memcpy(p->byte + PAGE_HEAD + p->used, &v, 4);
	p->used += 4;
}

static bool put_event(struct page *p, const struct trace_line *l)
{
	u8 payload[MAX_EVENT];
	u32 len = make_payload(l, payload), words = len / 4;
	u64 delta = l->ns - p->last;
	bool extend = delta >> DELTA_BITS;

	if (PAGE_HEAD + p->used + (extend ? 8 : 0) + 8 + len > PAGE)
		return false;
	if (extend) {
		put_word(p, TIME_EXTEND | (u32)(delta << 5));
		put_word(p, (u32)(delta >> DELTA_BITS));
		delta = 0;
	}
	put_word(p, (words <= MAX_SHORT ? words : 0) | (u32)(delta << 5));
	if (words > MAX_SHORT)
		put_word(p, len + 4);
	memcpy(p->byte + PAGE_HEAD + p->used, payload, len);
	p->used += len;
	p->last = l->ns;
	return true;
}

/* The pages of one processor; returns the index of the next one's first line. */
static size_t put_cpu(const struct trace_text *t, size_t i, unsigned cpu, FILE *f)
{
	struct page p;

	if (i == t->nr || t->line[i].cpu != cpu)
		return i;
	start_page(&p, t->line[i].ns);
	for (; i < t->nr && t->line[i].cpu == cpu; i++) {
		if (put_event(&p, &t->line[i]))
			continue;
		end_page(&p, f);
		start_page(&p, t->line[i].ns);
		if (!put_event(&p, &t->line[i]))
			BUG();
	}
	end_page(&p, f);
	return i;
}

int trace_dat_write(struct trace_text *t, FILE *f)
{
	static const u8 zero[PAGE];
	long table, at;
	size_t i = 0;
	int ret = put_header(f, t);

	if (ret)
		return ret;
	qsort(t->line, t->nr, sizeof(*t->line), by_time);
	table = ftell(f);
	for (unsigned c = 0; c < t->cpus; c++)
		put(f, zero, 16);
	at = ftell(f);
	if (table < 0 || at < 0)
		return -errno;
	put(f, zero, (size_t)(-at & (PAGE - 1)));
	for (unsigned c = 0; c < t->cpus; c++) {
		long start = ftell(f), end;

		i = put_cpu(t, i, c, f);
		end = ftell(f);
		if (fseek(f, table + 16 * (long)c, SEEK_SET))
			return -errno;
		put64(f, (u64)start);
		put64(f, (u64)(end - start));
		if (fseek(f, end, SEEK_SET))
			return -errno;
	}
	return ferror(f) ? -EIO : 0;
}
