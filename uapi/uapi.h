/* SPDX-License-Identifier: MIT */
/* The /dev/kvm front end. */
#ifndef UAPI_UAPI_H
#define UAPI_UAPI_H

/*
 * Make /dev/kvm a node of vfs/ whose VMs have processors of @model ("intel").
 * 0; -ENOENT: no such model; -ENODEV: the model cannot run guests; -EEXIST:
 * the node is there already.
 * Its first open installs a handler of SIGSEGV and SIGBUS that passes on what is not ours.
 */
int uapi_register(const char *model);

#endif
