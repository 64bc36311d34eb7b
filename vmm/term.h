/* SPDX-License-Identifier: MIT */
/* The host's terminal as the guest's console: raw mode, escapes. */
#ifndef VMM_TERM_H
#define VMM_TERM_H

#include "base/types.h"

/* Put @fd, if it is a terminal, into raw mode; restored by term_restore() and at exit. */
void term_raw(int fd);
void term_restore(void);

/* State of the escape sequences: Ctrl-A and a second key. */
struct term_escape {
	bool armed;
};

enum term_action { TERM_NONE, TERM_QUIT, TERM_HELP };

/*
 * Take the escapes out of @len bytes of input; what is left goes to @out, which
 * has room for @len + 1 bytes, and its length to *@out_len. Ctrl-A x leaves (and
 * drops what follows), Ctrl-A h asks for help, Ctrl-A a and Ctrl-A Ctrl-A send
 * Ctrl-A; any other second key is sent with its Ctrl-A.
 */
enum term_action term_filter(struct term_escape *e, const u8 *in, unsigned len, u8 *out,
			     unsigned *out_len);

#endif
