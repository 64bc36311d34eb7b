/* SPDX-License-Identifier: MIT */
/* For tests with cmocka: the test daemon's device "disk" on the bus, one at a time. */
#ifndef VDPA_VDUSE_TEST_ATTACHED_H
#define VDPA_VDUSE_TEST_ATTACHED_H

#include "vdpa/vdpa.h"
#include "vdpa/vduse/test_daemon.h"

extern struct test_daemon td;
extern struct vdpa_device *dev;
extern const struct vdpa_config_ops *ops;	/* the device's */

/* Made, served and attached; and the end of all that. */
void up(unsigned queues);
void down(void);

/* Of a group of tests. */
int attached_set_up(void **state);
int attached_tear_down(void **state);

#endif
