/* SPDX-License-Identifier: MIT */
/* For tests that run the same on two processors: the first interprets, the second translates at once. */
#ifndef SILICON_X86_JIT_TEST_PAIR_H
#define SILICON_X86_JIT_TEST_PAIR_H

#include <stdlib.h>

#include "silicon/x86/test_cpu.h"

/* 0, or -errno of the engine that is not to be had. */
static inline int test_pair_new(struct x86_cpu *cpus[2])
{
	int err;

	setenv("USERKVM_JIT_HOT", "0", 1);
	cpus[0] = test_cpu_new();
	cpus[1] = x86_cpu_new(x86_model_find("intel"), 1);
	err = x86_set_engine(cpus[0], X86_ENGINE_INTERP);
	return err ? err : x86_set_engine(cpus[1], X86_ENGINE_JIT);
}

static inline void test_pair_free(struct x86_cpu *cpus[2])
{
	x86_cpu_free(cpus[1]);
	test_cpu_free(cpus[0]);
}

#endif
