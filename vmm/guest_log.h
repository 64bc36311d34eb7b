/* SPDX-License-Identifier: MIT */
/* What a guest's kernel says on its console: finds the words of a panic. */
#ifndef VMM_GUEST_LOG_H
#define VMM_GUEST_LOG_H

#include "base/types.h"

#define GUEST_LOG_LINE 256

struct guest_log {
	char line[GUEST_LOG_LINE];
	unsigned len;
	bool any;			/* there was output at all */
	char panic[GUEST_LOG_LINE];	/* empty = no panic seen */
};

/* One byte of output. Returns true when it completes the line that tells of the first panic. */
bool guest_log_byte(struct guest_log *g, u8 byte);

/* A line of text of the guest: control characters become '?', so that it can be shown. */
void guest_log_clean(char *s);

#endif
