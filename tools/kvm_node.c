// SPDX-License-Identifier: MIT
/* Choice of the processor model and registration of the KVM node. */
#include "tools/kvm_node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvm/hv.h"
#include "silicon/x86.h"
#include "tools/cmd.h"
#include "uapi/uapi.h"

const char *kvm_node_default_model(void)
{
	return x86_model_name(0);
}

bool kvm_node_can_use(const char *model)
{
	const struct x86_model *m = x86_model_find(model);

	return m && hv_model_supported(m);
}

static int refuse(const char *model, const char *why)
{
	fprintf(stderr, "userkvm: %s '%s'; there are:", why, model);
	for (unsigned i = 0; x86_model_name(i); i++)
		if (kvm_node_can_use(x86_model_name(i)))
			fprintf(stderr, " %s", x86_model_name(i));
	fprintf(stderr, "\n");
	return EXIT_USAGE;
}

int kvm_node_register(const char *model)
{
	int ret;

	if (!model)
		model = kvm_node_default_model();
	if (!x86_model_find(model))
		return refuse(model, "no processor model");
	if (!kvm_node_can_use(model))
		return refuse(model, "no KVM yet on processor model");
	ret = uapi_register(model);
	if (ret) {
		fprintf(stderr, "userkvm: cannot set up /dev/kvm: %s\n", strerror(-ret));
		return EXIT_ERROR;
	}
	return 0;
}
