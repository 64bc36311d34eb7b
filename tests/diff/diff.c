// SPDX-License-Identifier: MIT
/*
 * diff: compare the simulated processor with the host's, instruction by
 * instruction. TAP output; a difference prints the case so that --seed and
 * --skip replay it.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <Zydis/Zydis.h>

#include "silicon/x86.h"
#include "tests/diff/diff.h"

#define FLAGS_CHECKED 0x10dd5ull	/* arithmetic, TF, DF, RF */

static bool strict;
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
	static const char *const names[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					       "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };
	u64 mask = FLAGS_CHECKED & ~(strict ? 0 : diff_undefined_flags(c));
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
		CMP(names[i], h->out.gpr[i], s->out.gpr[i]);
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

static void report(const struct diff_case *c, const struct diff_result *h, const struct diff_result *s, u64 nr)
{
	char text[160], hex[40];

	diff_disas(c, text, sizeof(text));
	for (int i = 0; i < c->len; i++)
		sprintf(hex + 2 * i, "%02x", c->code[i]);
	hex[2 * c->len] = 0;
	printf("# case %llu: %s  [%s]%s rip %llx\n", (unsigned long long)nr, text, hex, c->bits32 ? " 32-bit" : "",
	       (unsigned long long)c->in.rip);
	printf("#   in: rflags %llx mxcsr %x fcw %x fsw %x ftw %x rax %llx rcx %llx rdx %llx rbx %llx rsp %llx rsi %llx rdi %llx\n",
	       (unsigned long long)c->in.rflags, c->in.mxcsr, c->in.fcw, c->in.fsw, c->in.ftw,
	       (unsigned long long)c->in.gpr[0], (unsigned long long)c->in.gpr[1], (unsigned long long)c->in.gpr[2],
	       (unsigned long long)c->in.gpr[3], (unsigned long long)c->in.gpr[4],
	       (unsigned long long)c->in.gpr[6], (unsigned long long)c->in.gpr[7]);
	same(c, h, s, true);
	fflush(stdout);
}

static void usage(void)
{
	printf("usage: diff [--cases N] [--seed S] [--skip N] [--model NAME] [--max-reports N] [--strict] [--coverage] [--only MNEMONIC]\n");
}

int main(int argc, char **argv)
{
	static const struct option opts[] = {
		{ "cases", 1, 0, 'n' }, { "seed", 1, 0, 's' }, { "skip", 1, 0, 'k' }, { "model", 1, 0, 'm' },
		{ "max-reports", 1, 0, 'r' }, { "strict", 0, 0, 't' }, { "coverage", 0, 0, 'c' },
		{ "only", 1, 0, 'o' }, { "help", 0, 0, 'h' }, { 0 },
	};
	u64 cases = 100000, seed = 0, skip = 0, differ = 0;
	unsigned max_reports = 10, per_mnemonic = 2, forms = 0;
	const char *model = "intel", *only = NULL;
	bool coverage = false;
	static struct diff_result host, sim;
	struct diff_case c;
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
		case 'o': only = optarg; break;
		case 'h': usage(); return 0;
		default: usage(); return 2;
		}
	}
	if (!seed)
		seed = (u64)time(NULL);
	printf("1..1\n# seed %llu, %llu cases, model %s%s\n", (unsigned long long)seed, (unsigned long long)cases,
	       model, strict ? ", undefined flags compared" : "");
	fflush(stdout);
	if (diff_native_init() || diff_sim_init(model)) {
		printf("not ok 1 - set-up\n");
		return 1;
	}
	g = diff_gen_new(seed);
	for (u64 nr = 0; nr < cases; nr++) {
		u16 m;

		while (!diff_gen_next(g, &c))
			;
		m = diff_mnemonic(&c);
		if (nr < skip || (only && strcasecmp(only, ZydisMnemonicGetString(m))))
			continue;
		forms += !counts[m]++;
		memset(&host, 0, sizeof(host.out));
		diff_native_run(&c, &host);
		if (diff_sim_run(&c, &sim)) {
			memset(&sim, 0, sizeof(sim));
			sim.vector = 0xff;
		}
		if (!same(&c, &host, &sim, false)) {
			differ++;
			if (bad[m]++ < per_mnemonic && max_reports) {
				max_reports--;
				report(&c, &host, &sim, nr);
			}
		}
	}
	if (coverage)
		for (unsigned m = 0; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++)
			if (counts[m])
				printf("# %-16s %u cases, %u differ\n", ZydisMnemonicGetString((ZydisMnemonic)m), counts[m], bad[m]);
	printf("%s 1 - %llu cases of %u mnemonics agree with the host (%llu differ, seed %llu)\n",
	       differ ? "not ok" : "ok", (unsigned long long)(cases - skip), forms, (unsigned long long)differ,
	       (unsigned long long)seed);
	return differ != 0;
}
