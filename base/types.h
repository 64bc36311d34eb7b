/* SPDX-License-Identifier: MIT */
/*
 * Basic integer types and the address spaces of the project.
 *
 * Addresses that cross a folder's border carry their space in their type, so
 * that mixing two spaces does not compile. Inside a folder plain u64 is fine.
 */
#ifndef BASE_TYPES_H
#define BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
typedef unsigned __int128 u128;
typedef __int128 s128;

/* Guest-virtual (linear), guest-physical and simulated-physical addresses. */
typedef struct { u64 v; } gva_t;
typedef struct { u64 v; } gpa_t;
typedef struct { u64 v; } spa_t;	/* = an address in this process */

#define GVA(x) ((gva_t){ (x) })
#define GPA(x) ((gpa_t){ (x) })
#define SPA(x) ((spa_t){ (x) })

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096ul
#define PAGE_MASK (~(PAGE_SIZE - 1))

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define __must_check __attribute__((warn_unused_result))
#define __printf(f, a) __attribute__((format(printf, f, a)))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) \
	((type *)((char *)(ptr) - offsetof(type, member)))
#define min(a, b) ({ __typeof__(a) mna_ = (a); __typeof__(b) mnb_ = (b); mna_ < mnb_ ? mna_ : mnb_; })
#define max(a, b) ({ __typeof__(a) mxa_ = (a); __typeof__(b) mxb_ = (b); mxa_ > mxb_ ? mxa_ : mxb_; })

#endif
