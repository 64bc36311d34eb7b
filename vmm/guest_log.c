// SPDX-License-Identifier: MIT
/* Panic messages in the console output of a Linux guest. */
#include "vmm/guest_log.h"

#include <stdio.h>
#include <string.h>

static const char mark[] = "Kernel panic - not syncing: ";

void guest_log_clean(char *s)
{
	for (; *s; s++)
		if ((u8)*s < ' ' || *s == 0x7f)
			*s = '?';
}

bool guest_log_byte(struct guest_log *g, u8 byte)
{
	const char *at;

	g->any = true;
	if (byte != '\n' && byte != '\r') {
		/* The beginning of a line too long is what counts. */
		if (g->len < sizeof(g->line) - 1)
			g->line[g->len++] = (char)byte;
		return false;
	}
	g->line[g->len] = 0;
	g->len = 0;
	at = g->panic[0] ? NULL : strstr(g->line, mark);
	if (!at)
		return false;
	snprintf(g->panic, sizeof(g->panic), "%s", at + strlen(mark));
	guest_log_clean(g->panic);
	return g->panic[0];
}
