/* SPDX-License-Identifier: MIT */
/* Rows of kvm/exit_stat.h from many vCPUs, summed and printed as `perf kvm stat report` does. */
#ifndef TOOLS_EXIT_REPORT_H
#define TOOLS_EXIT_REPORT_H

#include <stdio.h>

#include "kvm/exit_stat.h"

struct exit_report {
	enum hv_exit_event event;
	int vcpu;			/* -1: all */
	bool by_time;			/* the first rows have the most time, not the most samples */
	/* the result */
	struct hv_exit_row *rows;
	unsigned nr;
	u64 lost;
};

/* "vmexit", "mmio", "ioport"; false for another name. */
bool exit_event_find(const char *name, enum hv_exit_event *event);

/* Add what @area has counted, if its vCPU is asked for. 0 or -ENOMEM. */
int exit_report_add(struct exit_report *r, const struct hv_exit_area *area);
/* @whose: "all VMs" or "pid(s) 12". Sorts the rows. */
void exit_report_print(struct exit_report *r, const char *whose, FILE *f);
/* The same as one JSON object on one line. */
void exit_report_json(struct exit_report *r, const char *whose, FILE *f);
/* Forget the rows, keep what is asked for. */
void exit_report_clear(struct exit_report *r);

#endif
