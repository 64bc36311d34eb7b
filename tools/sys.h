/* SPDX-License-Identifier: MIT */
/* The file calls that the machine gets: userkvm's own KVM, or the host's. */
#ifndef TOOLS_SYS_H
#define TOOLS_SYS_H

#include "vmm/vmm.h"

/* Opens only nodes that this program registered with vfs/, never the host's. */
extern const struct vmm_sys sys_userkvm;
extern const struct vmm_sys sys_host;

#endif
