/* SPDX-License-Identifier: MIT */
/* Verbs of `userkvm vdpa`. argv[0] is the verb; returns the exit code. */
#ifndef TOOLS_CMD_VDPA_H
#define TOOLS_CMD_VDPA_H

struct cmd;

int vdpa_vduse(const struct cmd *cmd, int argc, char **argv);
int vdpa_nbd(const struct cmd *cmd, int argc, char **argv);

#endif
