// SPDX-License-Identifier: MIT
/* The test daemon's device on the bus; see the header. */
#include "vdpa/vduse/test_attached.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"

struct test_daemon td;
struct vdpa_device *dev;
const struct vdpa_config_ops *ops;

void up(unsigned queues)
{
	td_create(&td, "disk", queues, 128, 1 << 20, 0);
	td_start(&td);
	assert_int_equal(td_attach("disk"), 0);
	dev = vdpa_find("disk");
	assert_non_null(dev);
	ops = dev->ops;
}

void down(void)
{
	vdpa_put(dev);
	td_detach("disk");
	td_destroy(&td);
	assert_int_equal(vduse_count(), 0);
}

int attached_set_up(void **state)
{
	log_set_level(LOG_ERROR);
	return vdpa_mem_init() || vduse_init();
}

int attached_tear_down(void **state)
{
	vduse_exit();
	return 0;
}
