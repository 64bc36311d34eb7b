/* SPDX-License-Identifier: MIT */
/* trace.dat of trace-cmd and KernelShark, version 6: trace-cmd.dat.v6(5). */
#ifndef TOOLS_TRACE_DAT_H
#define TOOLS_TRACE_DAT_H

#include <stdio.h>

#include "tools/trace_text.h"

/* Sorts the lines of @t. Returns 0 or negative errno. */
int trace_dat_write(struct trace_text *t, FILE *f);

#endif
