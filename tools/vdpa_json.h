/* SPDX-License-Identifier: MIT */
/*
 * JSON as iproute2 prints it: in one line, or with indents of four and arrays
 * in a line. Values come as pairs; strings are names of ours or devices'.
 */
#ifndef TOOLS_VDPA_JSON_H
#define TOOLS_VDPA_JSON_H

#include "base/types.h"

struct vdpa_json {
	bool pretty;
	unsigned depth, count;	/* open objects; members so far of the innermost */
};

/* @key NULL: the outermost. */
void vdpa_json_open(struct vdpa_json *j, const char *key);
void vdpa_json_close(struct vdpa_json *j);
void vdpa_json_string(struct vdpa_json *j, const char *key, const char *value);
void vdpa_json_number(struct vdpa_json *j, const char *key, u64 value);
void vdpa_json_bool(struct vdpa_json *j, const char *key, bool value);
/* An array of the strings that @name gives for the bits of @bits. */
void vdpa_json_bits(struct vdpa_json *j, const char *key, u64 bits,
		    const char *(*name)(void *arg, unsigned bit), void *arg);

#endif
