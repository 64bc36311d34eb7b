/* SPDX-License-Identifier: MIT */
/* vdpa(8): arguments, requests, output. */
#ifndef TOOLS_VDPA_MGMT_H
#define TOOLS_VDPA_MGMT_H

/* argv[0] is the command's name. Returns the exit code, 0 or 1. */
int vdpa_mgmt_main(int argc, char **argv);

#endif
