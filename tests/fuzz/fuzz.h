/* SPDX-License-Identifier: MIT */
/*
 * What the fuzzers share: a random generator that a round's number sets, options, and the loop
 * over rounds. A round is replayable: --seed S --round N runs it alone.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/types.h"

static u64 rng;

static u64 rnd(void)
{
	rng ^= rng >> 12;
	rng ^= rng << 25;
	rng ^= rng >> 27;
	return rng * 0x2545f4914f6cdd1dull;
}

static u32 below(u32 n)
{
	return (u32)((rnd() >> 32) * n >> 32);
}

struct fuzz {
	const char *name, *what;	/* program; what its rounds are made of */
	u64 default_rounds;
	void (*round)(u64 nr, bool verbose);
	/* From the command line */
	u64 seed, rounds, first;
	long seconds;
	bool verbose;
};

/* False: usage was printed. Prints the plan and the seed. */
static bool fuzz_options(struct fuzz *f, int argc, char **argv)
{
	static const struct option opts[] = {
		{ "seed", 1, 0, 's' }, { "rounds", 1, 0, 'n' }, { "round", 1, 0, 'r' }, { "seconds", 1, 0, 't' },
		{ "verbose", 0, 0, 'v' }, { 0 }
	};
	int o;

	f->seed = (u64)time(NULL);
	f->rounds = ~0ull;
	while ((o = getopt_long(argc, argv, "", opts, NULL)) != -1) {
		switch (o) {
		case 's': f->seed = strtoull(optarg, NULL, 0); break;
		case 'n': f->rounds = strtoull(optarg, NULL, 0); break;
		case 'r': f->first = strtoull(optarg, NULL, 0); f->rounds = 1; break;
		case 't': f->seconds = strtol(optarg, NULL, 0); break;
		case 'v': f->verbose = true; break;
		default:
			fprintf(stderr, "usage: %s [--seed S] [--rounds N | --round N] [--seconds T] [--verbose]\n", f->name);
			return false;
		}
	}
	if (f->rounds == ~0ull && !f->seconds)
		f->rounds = f->default_rounds;
	printf("1..1\n# seed %llu\n", (unsigned long long)f->seed);
	fflush(stdout);
	return true;
}

static void fuzz_rounds(const struct fuzz *f)
{
	time_t end = f->seconds ? time(NULL) + f->seconds : 0;
	u64 done = 0;

	for (u64 i = f->first; i < f->first + f->rounds && (!end || time(NULL) < end); i++, done++) {
		if (f->verbose) {
			printf("# round %llu\n", (unsigned long long)i);
			fflush(stdout);
		}
		rng = (f->seed * 1000003 + i * 7919) | 1;
		f->round(i, f->verbose);
	}
	printf("ok 1 - %llu rounds of %s\n", (unsigned long long)done, f->what);
}

#endif
