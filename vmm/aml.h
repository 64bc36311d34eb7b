/* SPDX-License-Identifier: MIT */
/*
 * Writer of AML, the byte code of ACPI tables: only the terms that the
 * machine's DSDT uses. Source: ACPI 6.4 "AML Grammar Definition".
 */
#ifndef VMM_AML_H
#define VMM_AML_H

#include "base/types.h"

#define AML_MAX_DEPTH 8

struct aml {
	u8 *buf;
	size_t len, cap;
	size_t open[AML_MAX_DEPTH];	/* where the lengths of the open packages are */
	unsigned depth;
	bool overflow;
};

void aml_byte(struct aml *a, u8 b);
void aml_le(struct aml *a, u64 v, unsigned bytes);
/* One name segment, padded with '_', or a whole path if it contains '.', '\\' or '^'. */
void aml_name(struct aml *a, const char *name);
void aml_int(struct aml *a, u64 v);
void aml_string(struct aml *a, const char *s);
/* "PNPxxxx" as the compressed integer of _HID. */
void aml_eisaid(struct aml *a, const char *id);
/* Name (@name, ...): the object follows. */
void aml_named(struct aml *a, const char *name);

/* Terms with a length; each is closed by aml_end(). */
void aml_scope(struct aml *a, const char *name);
void aml_device(struct aml *a, const char *name);
void aml_package(struct aml *a, unsigned elements);
/* A resource template: descriptors follow; aml_resources_end() adds the end tag. */
void aml_resources(struct aml *a);
void aml_resources_end(struct aml *a);
void aml_end(struct aml *a);

/* Resource descriptors. ACPI 6.4 "Resource Data Types for ACPI". */
void aml_res_io(struct aml *a, u16 base, u8 len);
void aml_res_irq(struct aml *a, unsigned irq);
void aml_res_bus(struct aml *a, u16 first, u16 last);
void aml_res_io_window(struct aml *a, u16 first, u16 last);
void aml_res_mem_window(struct aml *a, u32 first, u32 last);
void aml_res_mem(struct aml *a, u32 base, u32 len);

#endif
