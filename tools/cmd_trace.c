// SPDX-License-Identifier: MIT
/* `userkvm trace`: what `userkvm run --trace` wrote, for trace-cmd and KernelShark, or as JSON lines. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cmd.h"
#include "tools/trace_dat.h"

#define DAT_FILE "trace.dat"

static int fail(const char *what, int err)
{
	fprintf(stderr, "userkvm trace: %s: %s\n", what,
		err == -EINVAL ? "not what 'userkvm run --trace' writes" : strerror(-err));
	return EXIT_ERROR;
}

static void json_string(const char *s, size_t len, FILE *f)
{
	fputc('"', f);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c == '"' || c == '\\')
			fprintf(f, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			fprintf(f, "\\u%04x", c);
		else
			fputc(c, f);
	}
	fputc('"', f);
}

static void json(const struct trace_text *t, FILE *f)
{
	for (size_t i = 0; i < t->nr; i++) {
		const struct trace_line *l = &t->line[i];

		fprintf(f, "{\"time\": %llu.%06llu, \"cpu\": %u, \"pid\": %d, \"task\": ",
			(unsigned long long)(l->ns / 1000000000),
			(unsigned long long)(l->ns / 1000 % 1000000), l->cpu, l->pid);
		json_string(l->task, l->task_len, f);
		fprintf(f, ", \"event\": \"%s\", \"text\": ", trace_name(l->point));
		json_string(l->text, l->text_len, f);
		fprintf(f, "}\n");
	}
}

static int cmd_trace_run(const struct cmd *cmd, int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "output", required_argument, NULL, 'o' },
		{ 0 },
	};
	const char *output = NULL, *input;
	bool as_json = false;
	struct trace_text t;
	FILE *f;
	int c, ret;

	optind = 1;
	while ((c = getopt_long(argc, argv, "+:jo:", options, NULL)) != -1) {
		switch (c) {
		case 'j':
			as_json = true;
			break;
		case 'o':
			output = optarg;
			break;
		case ':':
			return cmd_usage(cmd, "option '%s' needs a value", argv[optind - 1]);
		default:
			return cmd_usage(cmd, "unknown option '%s'", argv[optind - 1]);
		}
	}
	if (optind + 1 != argc)
		return cmd_usage(cmd, optind == argc ? "no file given" : "one file at a time");
	input = argv[optind];
	ret = trace_text_read(&t, input);
	if (ret)
		return fail(input, ret);
	if (t.skipped)
		fprintf(stderr, "userkvm trace: %s: %zu lines are no trace points\n", input, t.skipped);
	if (!output && !as_json)
		output = DAT_FILE;
	f = output ? fopen(output, "we") : stdout;
	if (!f) {
		ret = -errno;
	} else {
		if (as_json)
			json(&t, f);
		else
			ret = trace_dat_write(&t, f);
		if (ferror(f) && !ret)
			ret = -EIO;
		if ((f == stdout ? fflush(f) : fclose(f)) && !ret)
			ret = -errno;
	}
	trace_text_free(&t);
	return ret ? fail(output ? output : "standard output", ret) : 0;
}

const struct cmd cmd_trace = {
	.name = "trace",
	.summary = "Convert a trace for trace-cmd, KernelShark or JSON readers",
	.help =
"usage: userkvm trace [-o " DAT_FILE "] FILE\n"
"       userkvm trace --json [-o OUTPUT] FILE\n"
"\n"
"FILE is what 'userkvm run --trace FILE' wrote: the text that 'trace-cmd report' prints.\n"
"\n"
"  -o, --output FILE    where to write (" DAT_FILE "; with --json: standard output)\n"
"  -j, --json           one JSON object a line: time, cpu, pid, task, event, text\n"
"\n"
"Then: trace-cmd report -i " DAT_FILE ", or kernelshark " DAT_FILE "\n",
	.run = cmd_trace_run,
};
