/* SPDX-License-Identifier: MIT */
/* What the unit tests of vmm/ share. */
#ifndef VMM_TEST_H
#define VMM_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#endif
