// SPDX-License-Identifier: MIT
/*
 * diff: compare the simulated processor with the host's, instruction by
 * instruction or (--blocks) block by block. TAP output, a line for each engine;
 * a difference prints the case so that --seed and --skip replay it.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include <Zydis/Zydis.h>

#include "silicon/x86.h"
#include "tests/diff/diff.h"

#define FLAGS_CHECKED 0x10dd5ull	/* arithmetic, TF, DF, RF */

#define STUCK 60	/* seconds of one case */

static const char *const engine_name[DIFF_NR_ENGINES] = { [DIFF_INTERP] = "interp", [DIFF_JIT] = "jit" };

static const char *const gpr_name[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					  "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };

static bool strict;
static u64 case_nr;	/* for the watchdog */
static u32 counts[ZYDIS_MNEMONIC_MAX_VALUE + 1], bad[ZYDIS_MNEMONIC_MAX_VALUE + 1];

static bool show(const char *what, u64 host, u64 sim)
{
	printf("#   %-8s host %016llx  simulated %016llx\n", what, (unsigned long long)host, (unsigned long long)sim);
	return false;
}

static void dump(const u8 *p, size_t n, char *out)
{
	for (size_t i = 0; i < n; i++)
		sprintf(out + 2 * i, "%02x", p[n - 1 - i]);
}

static bool show_bytes(const char *what, const u8 *in, const u8 *host, const u8 *sim, size_t n)
{
	char a[128], b[128], c[128];

	dump(in, n, a);
	dump(host, n, b);
	dump(sim, n, c);
	printf("#   %-8s in   %s\n#            host %s\n#            sim  %s\n", what, a, b, c);
	return false;
}

static bool same(const struct diff_case *c, const struct diff_result *h, const struct diff_result *s, bool print)
{
	u64 mask = FLAGS_CHECKED & ~(strict ? 0 : diff_undefined_flags(c, h->vector, h->out.rip));
	bool ok = true;
	char what[16];

#define CMP(what, a, b) do { if ((a) != (b)) { ok = false; if (print) show(what, a, b); else return false; } } while (0)
	CMP("vector", h->vector, s->vector);
	CMP("rip", h->out.rip, s->out.rip);
	/* The upper half is mapped on the host (it has a kernel), not here: P differs. */
	if (h->vector != 3)
		CMP("error", h->error & ~(u32)(h->cr2 >> 63), s->error & ~(u32)(s->cr2 >> 63));
	CMP("cr2 page", h->cr2 & PAGE_MASK, s->cr2 & PAGE_MASK);
	for (int i = 0; i < 16; i++)
		CMP(gpr_name[i], h->out.gpr[i], s->out.gpr[i]);
	CMP("rflags", h->out.rflags & mask, s->out.rflags & mask);
	CMP("mxcsr", h->out.mxcsr, s->out.mxcsr);
	CMP("fcw", h->out.fcw, s->out.fcw);
	CMP("fsw", h->out.fsw, s->out.fsw);
	CMP("ftw", h->out.ftw, s->out.ftw);
	for (int i = 0; i < 16; i++) {
		if (memcmp(h->out.ymm[i], s->out.ymm[i], 32)) {
			ok = false;
			snprintf(what, sizeof(what), "ymm%d", i);
			if (!print)
				return false;
			show_bytes(what, c->in.ymm[i], h->out.ymm[i], s->out.ymm[i], 32);
		}
	}
	for (int i = 0; i < 8; i++) {
		if (memcmp(h->out.st[i], s->out.st[i], 10)) {
			ok = false;
			snprintf(what, sizeof(what), "st%d", i);
			if (!print)
				return false;
			show_bytes(what, c->in.st[i], h->out.st[i], s->out.st[i], 10);
		}
	}
	if (memcmp(h->data, s->data, DIFF_DATA_SIZE)) {
		size_t i = 0;

		ok = false;
		if (!print)
			return false;
		while (h->data[i] == s->data[i])
			i++;
		snprintf(what, sizeof(what), "+%zx", i);
		show(what, h->data[i], s->data[i]);
	}
	return ok;
}

static void report(const struct diff_case *c, const struct diff_result *h, const struct diff_result *s, u64 nr,
		   const char *engine)
{
	char text[160], hex[40];

	if (c->nr) {
		printf("# case %llu, %s: block of %u instructions, smallest that differs:\n", (unsigned long long)nr, engine, c->nr);
		diff_disas_block(c, "#   ");
	} else {
		diff_disas(c, text, sizeof(text));
		for (int i = 0; i < c->len; i++)
			sprintf(hex + 2 * i, "%02x", c->code[i]);
		hex[2 * c->len] = 0;
		printf("# case %llu, %s: %s  [%s]%s rip %llx\n", (unsigned long long)nr, engine, text, hex,
		       c->bits32 ? " 32-bit" : "", (unsigned long long)c->in.rip);
	}
	printf("#   in: rflags %llx mxcsr %x fcw %x fsw %x ftw %x", (unsigned long long)c->in.rflags, c->in.mxcsr, c->in.fcw,
	       c->in.fsw, c->in.ftw);
	for (int i = 0; i < 16; i++)
		printf("%s%s %llx", i % 8 ? " " : "\n#     ", gpr_name[i], (unsigned long long)c->in.gpr[i]);
	printf("\n");
	same(c, h, s, true);
	fflush(stdout);
}

static struct diff_result host, sim;
static enum diff_engine now;

/* Run the case natively and on @now, the latter often enough to be translated; do they agree? */
static bool agrees(const struct diff_case *c)
{
	memset(&host, 0, sizeof(host.out));
	diff_native_run(c, &host);
	if (diff_sim_run(now, c, &sim)) {
		memset(&sim, 0, sizeof(sim));
		sim.vector = 0xff;
	}
	return same(c, &host, &sim, false);
}

static bool differs(const struct diff_case *c)
{
	return !agrees(c);
}

static void stuck(int sig)
{
	printf("# case %llu does not end\nnot ok 1 - watchdog\n", (unsigned long long)case_nr);
	fflush(stdout);
	_exit(1);
}

static void usage(void)
{
	printf("usage: diff [--blocks] [--engine NAME]... [--cases N] [--seed S] [--skip N] [--model NAME]\n"
	       "            [--max-reports N] [--strict] [--coverage] [--only MNEMONIC]\n");
}

/* Engines given by name, or all that are here. Returns how many. */
static unsigned set_up(const char *model, bool *use)
{
	bool any = use[DIFF_INTERP] || use[DIFF_JIT];
	unsigned n = 0;

	if (diff_native_init())
		return 0;
	for (unsigned e = 0; e < DIFF_NR_ENGINES; e++) {
		bool wanted = use[e] || !any;

		use[e] = wanted && !diff_sim_init(model, (enum diff_engine)e);
		if (wanted && any && !use[e])
			return 0;
		n += use[e];
	}
	return n;
}

static bool engine_option(const char *name, bool *use)
{
	for (unsigned e = 0; e < DIFF_NR_ENGINES; e++)
		if (!strcmp(name, engine_name[e]))
			return use[e] = true;
	return false;
}

int main(int argc, char **argv)
{
	static const struct option opts[] = {
		{ "cases", 1, 0, 'n' }, { "seed", 1, 0, 's' }, { "skip", 1, 0, 'k' }, { "model", 1, 0, 'm' },
		{ "max-reports", 1, 0, 'r' }, { "strict", 0, 0, 't' }, { "coverage", 0, 0, 'c' }, { "blocks", 0, 0, 'b' },
		{ "engine", 1, 0, 'e' }, { "only", 1, 0, 'o' }, { "help", 0, 0, 'h' }, { 0 },
	};
	u64 cases = 100000, seed = 0, skip = 0, differ[DIFF_NR_ENGINES] = { 0 }, at_end = 0;
	unsigned max_reports = 10, per_mnemonic = 2, forms = 0, engines, failed = 0, line = 0;
	const char *model = "intel", *only = NULL;
	u32 ends[32] = { 0 };
	bool coverage = false, blocks = false, use[DIFF_NR_ENGINES] = { false };
	static struct diff_case c;
	struct diff_gen *g;
	int o;

	while ((o = getopt_long(argc, argv, "", opts, NULL)) != -1) {
		switch (o) {
		case 'n': cases = strtoull(optarg, NULL, 0); break;
		case 's': seed = strtoull(optarg, NULL, 0); break;
		case 'k': skip = strtoull(optarg, NULL, 0); break;
		case 'm': model = optarg; break;
		case 'r': max_reports = (unsigned)strtoul(optarg, NULL, 0); break;
		case 't': strict = true; break;
		case 'c': coverage = true; break;
		case 'b': blocks = true; break;
		case 'o': only = optarg; break;
		case 'h': usage(); return 0;
		case 'e':
			if (engine_option(optarg, use))
				break;
			/* fallthrough */
		default: usage(); return 2;
		}
	}
	if (!seed)
		seed = (u64)time(NULL);
	printf("# seed %llu, %llu %s, model %s%s\n", (unsigned long long)seed, (unsigned long long)cases,
	       blocks ? "blocks" : "instructions", model, strict ? ", undefined flags compared" : "");
	fflush(stdout);
	signal(SIGALRM, stuck);
	engines = set_up(model, use);
	if (!engines) {
		printf("1..1\nnot ok 1 - set-up\n");
		return 1;
	}
	g = diff_gen_new(seed);
	for (u64 nr = 0; nr < cases; nr++) {
		u16 m = 0;

		case_nr = nr;
		if (nr % 256 == 0)
			alarm(STUCK);
		if (blocks) {
			diff_gen_block(g, &c);
		} else {
			while (!diff_gen_next(g, &c))
				;
			m = diff_mnemonic(&c);
		}
		if (nr < skip || (only && strcasecmp(only, ZydisMnemonicGetString(m))))
			continue;
		forms += !counts[m]++;
		for (unsigned e = 0; e < DIFF_NR_ENGINES; e++) {
			now = (enum diff_engine)e;
			if (!use[e])
				continue;
			if (agrees(&c)) {
				if (host.vector < ARRAY_SIZE(ends))
					ends[host.vector]++;
				at_end += host.out.rip == c.in.rip + c.len + 1;
				continue;
			}
			differ[e]++;
			if ((blocks || bad[m]++ < per_mnemonic) && max_reports) {
				struct diff_case small = c;

				max_reports--;
				alarm(STUCK);
				if (blocks)
					diff_minimise(&small, differs);
				agrees(&small);
				report(&small, &host, &sim, nr, engine_name[e]);
			}
		}
	}
	if (coverage && blocks) {
		printf("# to the end: %llu, exception of each vector:", (unsigned long long)at_end);
		for (unsigned v = 0; v < ARRAY_SIZE(ends); v++)
			if (ends[v])
				printf(" %u: %u", v, ends[v]);
		printf("\n");
	}
	if (coverage && !blocks)
		for (unsigned m = 0; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++)
			if (counts[m])
				printf("# %-16s %u cases, %u differ\n", ZydisMnemonicGetString((ZydisMnemonic)m), counts[m], bad[m]);
	printf("1..%u\n", engines);
	for (unsigned e = 0; e < DIFF_NR_ENGINES; e++) {
		if (!use[e])
			continue;
		failed += differ[e] != 0;
		printf("%s %u - %s: %llu ", differ[e] ? "not ok" : "ok", ++line, engine_name[e], (unsigned long long)(cases - skip));
		if (blocks)
			printf("blocks");
		else
			printf("instructions of %u mnemonics", forms);
		printf(" agree with the host (%llu differ, seed %llu)\n", (unsigned long long)differ[e], (unsigned long long)seed);
	}
	return failed != 0;
}
