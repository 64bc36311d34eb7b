/* SPDX-License-Identifier: MIT */
/*
 * The page of a VDUSE device that the hub writes and clients read: what lets
 * kicks and interrupts pass between daemon and driver without the hub.
 *
 * Each queue has two counters. A client that got an eventfd from the hub
 * together with a counter's value may go on using that eventfd for as long as
 * the counter is unchanged: @irq covers queue callback, readiness and device
 * status, @kick the daemon's eventfd and readiness. It looks at the counter
 * again after writing the eventfd; if it has changed, the hub is asked too, so
 * that nothing is lost. A superfluous event is harmless.
 */
#ifndef VDPA_VDUSE_PAGE_H
#define VDPA_VDUSE_PAGE_H

#include <stdatomic.h>

#include "base/types.h"

struct vduse_page_vq {
	_Atomic u32 irq, kick;
};

#endif
