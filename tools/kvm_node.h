/* SPDX-License-Identifier: MIT */
/* userkvm's own /dev/kvm in this process. */
#ifndef TOOLS_KVM_NODE_H
#define TOOLS_KVM_NODE_H

#include "base/types.h"

/*
 * Put the node in place, with processors of @model (NULL = the default).
 * Returns 0, or an exit code after printing one line.
 */
int kvm_node_register(const char *model);
/* Can a KVM run on processors of @model? (Today: do they have VT-x?) */
bool kvm_node_can_use(const char *model);
/* Model in use when none is named. */
const char *kvm_node_default_model(void);

#endif
