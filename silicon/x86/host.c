// SPDX-License-Identifier: MIT
/* What the simulated processors need of the one that they run on. */
#include <cpuid.h>

#include "silicon/x86.h"

const char *x86_host_lacks(void)
{
	u32 a, b, c, d;

	/*
	 * x86-64-v3 as far as vector bodies and translated code use it. The compiler's
	 * check includes the operating system's part, XCR0.
	 */
	if (!__builtin_cpu_supports("avx2"))
		return "AVX2";
	if (!__builtin_cpu_supports("fma"))
		return "FMA";
	if (!__builtin_cpu_supports("bmi"))
		return "BMI1";
	if (!__builtin_cpu_supports("bmi2"))
		return "BMI2";
	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_F16C))
		return "F16C";
	return NULL;
}
