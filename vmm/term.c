// SPDX-License-Identifier: MIT
/* Terminal modes and escapes. */
#include "vmm/term.h"

#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#define CTRL_A 1

static int raw_fd = -1;
static struct termios saved;

void term_restore(void)
{
	if (raw_fd >= 0)
		tcsetattr(raw_fd, TCSANOW, &saved);
	raw_fd = -1;
}

void term_raw(int fd)
{
	static bool registered;
	struct termios t;

	if (raw_fd >= 0 || tcgetattr(fd, &saved))
		return;
	t = saved;
	cfmakeraw(&t);
	/* Our own messages still need carriage returns. */
	t.c_oflag |= OPOST;
	if (tcsetattr(fd, TCSANOW, &t))
		return;
	raw_fd = fd;
	if (!registered)
		atexit(term_restore);
	registered = true;
}

enum term_action term_filter(struct term_escape *e, const u8 *in, unsigned len, u8 *out,
			     unsigned *out_len)
{
	enum term_action action = TERM_NONE;
	unsigned n = 0;

	for (unsigned i = 0; i < len && action != TERM_QUIT; i++) {
		u8 c = in[i];

		if (!e->armed) {
			if (c == CTRL_A)
				e->armed = true;
			else
				out[n++] = c;
			continue;
		}
		e->armed = false;
		switch (c) {
		case 'x':
			action = TERM_QUIT;
			break;
		case 'h': case '?':
			action = TERM_HELP;
			break;
		case 'a': case CTRL_A:
			out[n++] = CTRL_A;
			break;
		default:
			out[n++] = CTRL_A;
			out[n++] = c;
			break;
		}
	}
	*out_len = n;
	return action;
}
