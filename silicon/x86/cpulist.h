/* SPDX-License-Identifier: MIT */
/* The machine-wide list of processors (cpu->next_cpu), kept by cpu.c. */
#ifndef SILICON_X86_CPULIST_H
#define SILICON_X86_CPULIST_H

#include "silicon/x86/cpu.h"

/* A processor inside a run loop must serve X86_EV_CODE_PAGE while it tries. */
bool x86_cpu_list_trylock(void);
void x86_cpu_list_unlock(void);
/* First of the list; lock held. */
struct x86_cpu *x86_cpu_list(void);

#endif
