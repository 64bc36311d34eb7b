// SPDX-License-Identifier: MIT
/* Choice of the processor model and registration of the KVM node. */
#include "tools/kvm_node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "silicon/x86.h"
#include "tools/cmd.h"
#include "uapi/uapi.h"

const char *kvm_node_default_model(void)
{
	return x86_model_name(0);
}

int kvm_node_register(const char *model)
{
	int ret;

	if (!model)
		model = kvm_node_default_model();
	if (!x86_model_find(model)) {
		fprintf(stderr, "userkvm: no processor model '%s'; there are:", model);
		for (unsigned i = 0; x86_model_name(i); i++)
			fprintf(stderr, " %s", x86_model_name(i));
		fprintf(stderr, "\n");
		return EXIT_USAGE;
	}
	ret = uapi_register(model);
	/* Guest memory that went away ends KVM_RUN with EFAULT, not this program. */
	if (!ret)
		ret = x86_install_fault_handler();
	if (ret) {
		fprintf(stderr, "userkvm: cannot set up /dev/kvm: %s\n", strerror(-ret));
		return EXIT_ERROR;
	}
	return 0;
}
