/* SPDX-License-Identifier: MIT */
/* Low memory of modes.c and modes.S. */
#ifndef GUEST_X86_MODES_H
#define GUEST_X86_MODES_H

#define LOW_BASE 0x7000
#define REAL_VECTOR 0x70
#define RESULT_PROTECTED16 0x7e00
#define RESULT_REAL_INT 0x7e04
#define RESULT_SEGMENT 0x7e08
#define RESULT_VM86 0x7e0c

#endif
