/* SPDX-License-Identifier: MIT */
/* cmocka and what it wants included before it. */
#ifndef VDPA_SIM_TEST_H
#define VDPA_SIM_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
