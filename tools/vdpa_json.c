// SPDX-License-Identifier: MIT
/* JSON output, see vdpa_json.h. */
#include "tools/vdpa_json.h"

#include <stdio.h>

static void new_line(const struct vdpa_json *j)
{
	if (j->pretty)
		printf("\n%*s", (int)(4 * j->depth), "");
}

/* Names of devices may have any byte but zero. */
static void print_string(const char *s)
{
	putchar('"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			printf("\\%c", *s);
		else if ((unsigned char)*s < ' ')
			printf("\\u%04x", (unsigned)*s);
		else
			putchar(*s);
	}
	putchar('"');
}

static void print_key(struct vdpa_json *j, const char *key)
{
	if (j->count++)
		putchar(',');
	new_line(j);
	print_string(key);
	printf(j->pretty ? ": " : ":");
}

void vdpa_json_open(struct vdpa_json *j, const char *key)
{
	if (key)
		print_key(j, key);
	putchar('{');
	j->depth++;
	j->count = 0;
}

void vdpa_json_close(struct vdpa_json *j)
{
	j->depth--;
	if (j->count)
		new_line(j);
	putchar('}');
	j->count = 1;
	if (!j->depth)
		putchar('\n');
}

void vdpa_json_string(struct vdpa_json *j, const char *key, const char *value)
{
	print_key(j, key);
	print_string(value);
}

void vdpa_json_number(struct vdpa_json *j, const char *key, u64 value)
{
	print_key(j, key);
	printf("%llu", (unsigned long long)value);
}

void vdpa_json_bool(struct vdpa_json *j, const char *key, bool value)
{
	print_key(j, key);
	printf("%s", value ? "true" : "false");
}

void vdpa_json_bits(struct vdpa_json *j, const char *key, u64 bits,
		    const char *(*name)(void *arg, unsigned bit), void *arg)
{
	bool first = true;

	print_key(j, key);
	printf(j->pretty ? "[ " : "[");
	for (unsigned bit = 0; bit < 64; bit++) {
		if (!(bits & 1ull << bit))
			continue;
		if (!first)
			putchar(',');
		first = false;
		print_string(name(arg, bit));
	}
	printf(j->pretty && !first ? " ]" : "]");
}
