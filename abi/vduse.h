/* SPDX-License-Identifier: MIT */
/*
 * The VDUSE API's numbers and structs, in Linux spelling: the system's own
 * header (Debian 12: Linux 6.1, API version 0 with the umem calls of 6.0).
 */
#ifndef ABI_VDUSE_H
#define ABI_VDUSE_H

#include <linux/ioctl.h>
#include <linux/vduse.h>

#endif
