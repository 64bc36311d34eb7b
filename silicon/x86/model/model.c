/* SPDX-License-Identifier: MIT */
/* The list of models, made from the tables. CPUID itself is in cpuid.c. */
#include <string.h>

#include "silicon/x86/model/model.h"

#define ANY X86_ANY_SUBLEAF
#define CPUID(leaf, subleaf, a, b, c, d) { leaf, subleaf, { a, b, c, d } },
static const struct x86_cpuid_row intel_rows[] = {
#include "spec/x86/cpuid_intel.def"
};
static const struct x86_cpuid_row amd_rows[] = {
#include "spec/x86/cpuid_amd.def"
};
#undef CPUID
#undef ANY

static const struct {
	u16 feat;
	bool has[2];	/* by enum x86_vendor */
} feature_rows[] = {
#define FEAT(name, word, bit, intel, amd) { X86_FEAT_##name, { intel, amd } },
#include "spec/x86/feature.def"
#undef FEAT
};

/*
 * MAXPHYADDR is 46 because a simulated physical address is an address of this
 * process, at most 47 bits; what kvm/ shows to its guests is its own choice.
 */
static const struct x86_model models[] = {
	{
		.name = "intel", .vendor = X86_INTEL, .physbits = 46, .linbits = 57,
		.brand = "userkvm simulated processor, Intel model",
		.rows = intel_rows, .nr_rows = ARRAY_SIZE(intel_rows),
		.max_basic = 0x1f, .max_extended = 0x80000008,
	},
	{
		.name = "amd", .vendor = X86_AMD, .physbits = 46, .linbits = 57,
		.brand = "userkvm simulated processor, AMD model",
		.rows = amd_rows, .nr_rows = ARRAY_SIZE(amd_rows),
		.max_basic = 0x10, .max_extended = 0x80000021,
	},
};

const struct x86_model *x86_model_find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(models); i++)
		if (!strcmp(models[i].name, name))
			return &models[i];
	return NULL;
}

const char *x86_model_name(unsigned i)
{
	return i < ARRAY_SIZE(models) ? models[i].name : NULL;
}

unsigned x86_model_physbits(const struct x86_model *model)
{
	return model->physbits;
}

unsigned x86_model_linbits(const struct x86_model *model)
{
	return model->linbits;
}

void x86_model_bind(struct x86_cpu *cpu, const struct x86_model *model)
{
	cpu->model = model;
	cpu->physbits = model->physbits;
	cpu->linbits = model->linbits;
	memset(cpu->feat, 0, sizeof(cpu->feat));
	for (unsigned i = 0; i < ARRAY_SIZE(feature_rows); i++)
		if (feature_rows[i].has[model->vendor])
			cpu->feat[feature_rows[i].feat / 32] |= 1u << feature_rows[i].feat % 32;
}
