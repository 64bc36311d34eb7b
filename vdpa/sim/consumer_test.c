// SPDX-License-Identifier: MIT
/*
 * The in-process block driver on each parent of this tree that has hardware
 * or simulates it. Parents differ in what a reset leaves mapped.
 */
#include "vdpa/sim/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vdpa/blk.h"
#include "vdpa/ifcvf/host.h"
#include "vdpa/ifcvf/ifcvf.h"
#include "vdpa/net.h"
#include "vdpa/sim/core.h"
#include "vdpa/virtio/session.h"

#define LEN (1u << 20)

/* Twice, so that the second driver finds what the first has left. */
static void write_and_read(const char *name)
{
	u8 *out = malloc(LEN), *in = malloc(LEN);

	for (unsigned round = 0; round < 2; round++) {
		struct vblk_cfg cfg = { .queues = 1 };
		char err[256] = "";
		struct vblk *b = vblk_open(vdpa_session_local(), name, &cfg, err);

		if (!b)
			fail_msg("%s: %s", name, err);
		for (unsigned i = 0; i < LEN; i++)
			out[i] = i * 7 + (i >> 8) + round;
		for (unsigned off = 0; off < LEN; off += LEN / 16) {
			assert_int_equal(vblk_io(b, 0, VBLK_WRITE, out + off, off, LEN / 16, 0), 0);
			memset(in, 0xaa, LEN / 16);
			assert_int_equal(vblk_io(b, 0, VBLK_READ, in, off, LEN / 16, 0), 0);
			assert_memory_equal(in, out + off, LEN / 16);
		}
		vblk_close(b);
	}
	free(out);
	free(in);
}

static void simulator(bool batch)
{
	struct vdpasim_params p = { .batch_mapping = batch, .max_iotlb_entries = 2048 };
	struct vdpa_device *d;

	assert_int_equal(vdpasim_create(NULL, &vdpasim_blk_type, &p, "disk", &(struct vdpa_dev_attrs){ 0 }), 0);
	write_and_read("disk");
	d = vdpa_find("disk");
	vdpa_unregister(d);
	vdpa_put(d);
}

static void test_simulator(void **state)
{
	simulator(true);
	simulator(false);
}

static void test_card(void **state)
{
	const struct vfunc_config c = { .model = VFUNC_C5000X_BLK, .queues = 1, .vectors = 2, .sectors = 8192 };
	struct host *h = host_new(&c);
	struct vdpa_mgmtdev *m;
	struct ifcvf *f;

	assert_non_null(h);
	assert_int_equal(ifcvf_attach(h, "0000:01:00.0", &f), 0);
	m = vdpa_mgmtdev_find("pci", "0000:01:00.0");
	assert_int_equal(m->dev_add(m, "disk", &(struct vdpa_dev_attrs){ 0 }), 0);
	write_and_read("disk");
	assert_int_equal(vdpa_delete("disk"), 0);
	ifcvf_detach(f);
	host_free(h);
}

static int other_probe(struct vdpa_device *d)
{
	return 0;
}

static unsigned removals;

static void other_remove(struct vdpa_device *d)
{
	removals++;
}

/* A driver that is for something else refuses a device, which stays with the one that it has. */
static void test_wrong_class(void **state)
{
	const struct vdpasim_params p = { .batch_mapping = true, .max_iotlb_entries = 2048 };
	static struct vdpa_driver other = { .name = "other", .probe = other_probe, .remove = other_remove };
	static const struct vdpasim_type *const types[] = { &vdpasim_blk_type, &vdpasim_net_type };

	assert_int_equal(vdpa_driver_register(&other), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
		char err[256] = "";
		struct vdpa_device *d;
		void *got;

		assert_int_equal(vdpasim_create(NULL, types[i], &p, "x", &(struct vdpa_dev_attrs){ 0 }), 0);
		d = vdpa_find("x");
		assert_int_equal(vdpa_bind(d, "other"), 0);
		removals = 0;
		if (i)
			got = vblk_open(vdpa_session_local(), "x", &(struct vblk_cfg){ 0 }, err);
		else
			got = vnet_open(vdpa_session_local(), "x", &(struct vnet_cfg){ 0 }, err);
		assert_null(got);
		assert_int_equal(errno, ENODEV);
		assert_string_equal(err, "vdpa device x: another class of device");
		assert_int_equal(removals, 0);
		assert_ptr_equal(d->driver, &other);
		vdpa_unregister(d);
		vdpa_put(d);
	}
	vdpa_driver_unregister(&other);
}

static int setup(void **state)
{
	return vdpa_mem_init() || vdpa_virtio_init();
}

static int teardown(void **state)
{
	vdpa_virtio_exit();
	return 0;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		{ "block driver on the simulator", test_simulator, NULL, NULL, NULL },
		{ "block driver on a card", test_card, NULL, NULL, NULL },
		{ "a driver of another class", test_wrong_class, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
