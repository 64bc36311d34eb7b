// SPDX-License-Identifier: MIT
/* The report of `userkvm stat`: sums over vCPUs, order, columns. */
#include "tools/exit_report.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name, *title;
} events[HV_NR_EXIT_EVENTS] = {
	[HV_EVENT_VMEXIT] = { "vmexit", "VM-EXIT" },
	[HV_EVENT_MMIO] = { "mmio", "MMIO Access" },
	[HV_EVENT_IOPORT] = { "ioport", "IO Port Access" },
};

bool exit_event_find(const char *name, enum hv_exit_event *event)
{
	for (unsigned i = 0; i < HV_NR_EXIT_EVENTS; i++) {
		if (!strcmp(events[i].name, name)) {
			*event = i;
			return true;
		}
	}
	return false;
}

static int add_row(struct exit_report *r, const struct hv_exit_row *row)
{
	struct hv_exit_row *to = NULL, *more;
	u128 sq;

	for (unsigned i = 0; i < r->nr && !to; i++) {
		if (r->rows[i].key == row->key)
			to = &r->rows[i];
	}
	if (!to) {
		more = reallocarray(r->rows, r->nr + 1, sizeof(*r->rows));
		if (!more)
			return -ENOMEM;
		r->rows = more;
		r->rows[r->nr++] = *row;
		return 0;
	}
	sq = ((u128)to->sq_hi << 64 | to->sq_lo) + ((u128)row->sq_hi << 64 | row->sq_lo);
	to->sq_lo = (u64)sq;
	to->sq_hi = (u64)(sq >> 64);
	to->count += row->count;
	to->sum += row->sum;
	to->min = min(to->min, row->min);
	to->max = max(to->max, row->max);
	return 0;
}

int exit_report_add(struct exit_report *r, const struct hv_exit_area *area)
{
	const struct hv_exit_row *rows = r->event == HV_EVENT_VMEXIT ? area->vmexit :
					 r->event == HV_EVENT_MMIO ? area->mmio : area->ioport;
	unsigned n = r->event == HV_EVENT_VMEXIT ? HV_EXIT_STAT_REASONS : HV_EXIT_STAT_KEYS;
	int ret = 0;

	if (r->vcpu >= 0 && (u32)r->vcpu != area->vcpu)
		return 0;
	for (unsigned i = 0; i < n && !ret; i++) {
		/* Its owner may be counting: what was counted before the load is whole. */
		if (__atomic_load_n(&rows[i].count, __ATOMIC_ACQUIRE))
			ret = add_row(r, &rows[i]);
	}
	r->lost += area->lost[r->event];
	return ret;
}

void exit_report_clear(struct exit_report *r)
{
	free(r->rows);
	r->rows = NULL;
	r->nr = 0;
	r->lost = 0;
}

static int more_samples(const void *a, const void *b)
{
	const struct hv_exit_row *x = a, *y = b;

	return x->count != y->count ? (x->count < y->count ? 1 : -1) : x->key < y->key ? -1 : 1;
}

static int more_time(const void *a, const void *b)
{
	const struct hv_exit_row *x = a, *y = b;

	return x->sum != y->sum ? (x->sum < y->sum ? 1 : -1) : x->key < y->key ? -1 : 1;
}

/* The deviation of the mean, in per cent of the mean. */
static double deviation(const struct hv_exit_row *row)
{
	double n = (double)row->count, mean = (double)row->sum / n;
	double sq = (double)row->sq_hi * 0x1p64 + (double)row->sq_lo;
	double variance = row->count > 1 ? (sq - n * mean * mean) / (n - 1) : 0;

	return mean > 0 && variance > 0 ? 100 * sqrt(variance / n) / mean : 0;
}

static void print_key(const struct exit_report *r, u64 key, char out[32])
{
	switch (r->event) {
	case HV_EVENT_VMEXIT:
		snprintf(out, 32, "%s", hv_exit_stat_reason((u32)key));
		break;
	case HV_EVENT_MMIO:
		snprintf(out, 32, "0x%llx:%s", (unsigned long long)(key >> 1), key & 1 ? "W" : "R");
		break;
	case HV_EVENT_IOPORT:
		snprintf(out, 32, "0x%llx:%s", (unsigned long long)(key >> 1), key & 1 ? "POUT" : "PIN");
		break;
	case HV_NR_EXIT_EVENTS:
		break;
	}
}

static void sort_and_sum(struct exit_report *r, u64 *samples, u64 *ns)
{
	if (r->nr)
		qsort(r->rows, r->nr, sizeof(*r->rows), r->by_time ? more_time : more_samples);
	*samples = *ns = 0;
	for (unsigned i = 0; i < r->nr; i++) {
		*samples += r->rows[i].count;
		*ns += r->rows[i].sum;
	}
}

void exit_report_json(struct exit_report *r, const char *whose, FILE *f)
{
	u64 samples, ns;
	char key[32] = "";

	sort_and_sum(r, &samples, &ns);
	fprintf(f, "{\"event\": \"%s\", \"whose\": \"%s\", \"vcpu\": ", events[r->event].name, whose);
	if (r->vcpu < 0)
		fprintf(f, "null");
	else
		fprintf(f, "%d", r->vcpu);
	fprintf(f, ", \"samples\": %llu, \"time_ns\": %llu, \"lost\": %llu, \"rows\": [",
		(unsigned long long)samples, (unsigned long long)ns, (unsigned long long)r->lost);
	for (unsigned i = 0; i < r->nr; i++) {
		const struct hv_exit_row *row = &r->rows[i];

		print_key(r, row->key, key);
		fprintf(f, "%s{\"key\": \"%s\", \"samples\": %llu, \"time_ns\": %llu, \"min_ns\": %llu, "
			"\"max_ns\": %llu, \"deviation_percent\": %.2f}", i ? ", " : "", key,
			(unsigned long long)row->count, (unsigned long long)row->sum,
			(unsigned long long)row->min, (unsigned long long)row->max, deviation(row));
	}
	fprintf(f, "]}\n");
}

void exit_report_print(struct exit_report *r, const char *whose, FILE *f)
{
	u64 samples, ns;
	char key[32] = "";

	sort_and_sum(r, &samples, &ns);
	fprintf(f, "\n\nAnalyze events for %s, ", whose);
	if (r->vcpu < 0)
		fprintf(f, "all VCPUs:\n\n");
	else
		fprintf(f, "VCPU %d:\n\n", r->vcpu);
	fprintf(f, "%20s %10s %9s %9s %11s %11s %16s \n\n", events[r->event].title, "Samples", "Samples%",
		"Time%", "Min Time", "Max Time", "Avg time");
	for (unsigned i = 0; i < r->nr; i++) {
		const struct hv_exit_row *row = &r->rows[i];

		print_key(r, row->key, key);
		fprintf(f, "%20s %10llu %8.2f%% %8.2f%% %9.2fus %9.2fus %9.2fus ( +-%7.2f%% ) \n", key,
			(unsigned long long)row->count, 100. * (double)row->count / (double)samples,
			ns ? 100. * (double)row->sum / (double)ns : 0, (double)row->min / 1e3,
			(double)row->max / 1e3, (double)row->sum / (double)row->count / 1e3, deviation(row));
	}
	fprintf(f, "\nTotal Samples:%llu, Total events handled time:%.2fus.\n\n", (unsigned long long)samples,
		(double)ns / 1e3);
	if (r->lost)
		fprintf(f, "\nLost events: %llu\n\n", (unsigned long long)r->lost);
}
