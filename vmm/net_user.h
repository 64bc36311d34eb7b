/* SPDX-License-Identifier: MIT */
/* The user-mode network (libslirp): DHCP, NAT, port forwards. */
#ifndef VMM_NET_USER_H
#define VMM_NET_USER_H

#include "vmm/vmm.h"

extern const struct vmm_net_ops net_user_ops;

#endif
