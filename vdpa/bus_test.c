// SPDX-License-Identifier: MIT
/* The bus: names, binding and its refusals, deleting while in use, the rules about features. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

#include "vdpa/fake.h"

static _Atomic unsigned probes, waiting, removes, freed;
static int probe_err;
static _Atomic bool in_use;	/* remove waits */

static int probe(struct vdpa_device *d)
{
	atomic_fetch_add(&probes, 1);
	return probe_err;
}

static void remove_dev(struct vdpa_device *d)
{
	atomic_fetch_add(&waiting, 1);
	while (atomic_load(&in_use))
		sched_yield();
	atomic_fetch_add(&removes, 1);
}

static struct vdpa_driver one = { .name = VDPA_DRIVER_VHOST, .probe = probe, .remove = remove_dev };
static struct vdpa_driver two = { .name = VDPA_DRIVER_VIRTIO, .probe = probe, .remove = remove_dev };

static void dev_del(struct vdpa_mgmtdev *m, struct vdpa_device *d)
{
	vdpa_unregister(d);
	vdpa_put(d);	/* the parent's own */
}

static struct vdpa_mgmtdev mgmt = { .name = "fake", .dev_del = dev_del };
static struct vdpa_mgmtdev pci = { .bus = "pci", .name = "fake", .dev_del = dev_del };

static struct fake *make(const char *name)
{
	struct fake *f = fake_new(&mgmt, name);

	f->freed = &freed;
	return f;
}

static int count(void *arg, struct vdpa_device *d)
{
	++*(unsigned *)arg;
	return 0;
}

static unsigned on_bus(void)
{
	unsigned n = 0;

	assert_int_equal(vdpa_for_each(count, &n), 0);
	return n;
}

static void test_names(void **state)
{
	struct fake *a = make("a"), *again = make("a"), *groups = make("g");
	struct vdpa_device *found;

	assert_int_equal(vdpa_register(&a->dev), 0);
	assert_int_equal(vdpa_register(&again->dev), -EEXIST);
	vdpa_put(&again->dev);
	groups->ops.set_map = NULL;
	assert_int_equal(vdpa_register(&groups->dev), -EINVAL);
	vdpa_put(&groups->dev);
	found = vdpa_find("a");
	assert_ptr_equal(found, &a->dev);
	assert_null(vdpa_find("b"));
	assert_int_equal(vdpa_delete("b"), -ENODEV);
	atomic_store(&freed, 0);
	assert_int_equal(vdpa_delete("a"), 0);
	assert_int_equal(on_bus(), 0);
	assert_int_equal(freed, 0);
	vdpa_put(found);
	assert_int_equal(freed, 1);
}

static void test_binding(void **state)
{
	struct fake *f = make("a");

	assert_int_equal(vdpa_register(&f->dev), 0);
	assert_ptr_equal(f->dev.driver, &one);
	assert_int_equal(vdpa_bind(&f->dev, "none"), -ENODEV);
	assert_int_equal(vdpa_bind(&f->dev, VDPA_DRIVER_VIRTIO), 0);
	assert_ptr_equal(f->dev.driver, &two);
	assert_int_equal(vdpa_bind(&f->dev, ""), 0);
	assert_ptr_equal(f->dev.driver, &two);	/* any will do, and it has one */
	probe_err = -EIO;
	assert_int_equal(vdpa_bind(&f->dev, VDPA_DRIVER_VHOST), -EIO);
	assert_null(f->dev.driver);
	probe_err = 0;
	assert_int_equal(vdpa_bind(&f->dev, VDPA_DRIVER_VHOST), 0);
	vdpa_driver_unregister(&one);
	assert_null(f->dev.driver);
	assert_int_equal(vdpa_driver_register(&two), -EEXIST);
	assert_null(f->dev.driver);		/* the override says vhost_vdpa */
	assert_int_equal(vdpa_driver_register(&one), 0);
	assert_ptr_equal(f->dev.driver, &one);
	assert_int_equal(vdpa_delete("a"), 0);

	f = make("min");
	f->num_min = 257;
	assert_int_equal(vdpa_register(&f->dev), 0);
	assert_null(f->dev.driver);
	assert_int_equal(vdpa_bind(&f->dev, VDPA_DRIVER_VHOST), -EINVAL);
	assert_int_equal(vdpa_delete("min"), 0);
}

static void *delete_a(void *arg)
{
	return (void *)(long)vdpa_delete("a");
}

/* Blocked in remove: the name stays taken, others are undisturbed, a second deletion is refused. */
static void test_delete_waits(void **state)
{
	struct fake *f = make("a"), *other = make("other"), *again = make("a");
	struct vdpa_device *d;
	pthread_t t;
	void *ret;

	assert_int_equal(vdpa_register(&f->dev), 0);
	atomic_store(&in_use, true);
	atomic_store(&removes, 0);
	atomic_store(&waiting, 0);
	assert_int_equal(pthread_create(&t, NULL, delete_a, NULL), 0);
	while (!atomic_load(&waiting))
		sched_yield();
	assert_int_equal(vdpa_delete("a"), -EBUSY);
	assert_int_equal(removes, 0);
	assert_int_equal(vdpa_register(&again->dev), -EEXIST);
	assert_int_equal(vdpa_register(&other->dev), 0);
	assert_int_equal(on_bus(), 2);
	d = vdpa_find("a");
	assert_non_null(d);
	vdpa_put(d);
	atomic_store(&in_use, false);
	assert_int_equal(pthread_join(t, &ret), 0);
	assert_int_equal((long)ret, 0);
	assert_int_equal(vdpa_register(&again->dev), 0);
	assert_int_equal(vdpa_delete("a"), 0);
	assert_int_equal(vdpa_delete("other"), 0);
}

static void test_mgmtdev(void **state)
{
	struct fake *a = make("a"), *b = make("b");

	assert_int_equal(vdpa_mgmtdev_register(&mgmt), -EEXIST);
	assert_int_equal(vdpa_mgmtdev_register(&pci), 0);
	assert_ptr_equal(vdpa_mgmtdev_find(NULL, "fake"), &mgmt);
	assert_ptr_equal(vdpa_mgmtdev_find("pci", "fake"), &pci);
	assert_null(vdpa_mgmtdev_find("pci", "x"));
	b->dev.mgmt = &pci;
	assert_int_equal(vdpa_register(&a->dev), 0);
	assert_int_equal(vdpa_register(&b->dev), 0);
	vdpa_mgmtdev_unregister(&pci);
	assert_null(vdpa_find("b"));
	assert_int_equal(on_bus(), 1);
	assert_int_equal(vdpa_delete("a"), 0);
}

/* Reading the configuration first makes a legacy driver; negotiation or a reset ends that. */
static void test_legacy(void **state)
{
	struct fake *f = make("a");
	u8 byte;

	assert_int_equal(vdpa_register(&f->dev), 0);
	f->features = 1;
	f->features_err = -EPERM;	/* seen as "nothing was set" */
	vdpa_get_config(&f->dev, 0, &byte, 1);
	assert_true(f->dev.features_valid);
	assert_int_equal(vdpa_reset(&f->dev), 0);
	assert_false(f->dev.features_valid);
	f->features_err = 0;
	assert_int_equal(vdpa_set_features(&f->dev, 1ull << 33), 0);
	vdpa_get_config(&f->dev, 0, &byte, 1);
	assert_int_equal(f->features, 1ull << 33);
	assert_int_equal(vdpa_delete("a"), 0);
}

/* Add, delete, bind and walk at once. */
static void *churn(void *arg)
{
	char name[16];

	for (unsigned i = 0; i < 300; i++) {
		struct vdpa_device *d;
		unsigned n = 0;

		snprintf(name, sizeof(name), "c%u", i % 7);
		switch ((i + (unsigned)(long)arg) % 4) {
		case 0: {
			struct fake *f = make(name);

			if (vdpa_register(&f->dev))
				vdpa_put(&f->dev);
			break;
		}
		case 1:
			vdpa_delete(name);
			break;
		case 2:
			d = vdpa_find(name);
			if (d) {
				vdpa_bind(d, i & 1 ? VDPA_DRIVER_VIRTIO : VDPA_DRIVER_VHOST);
				vdpa_put(d);
			}
			break;
		default:
			vdpa_for_each(count, &n);
			break;
		}
	}
	return NULL;
}

static void test_churn(void **state)
{
	pthread_t t[4];
	char name[16];

	for (long i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, churn, (void *)i), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	for (unsigned i = 0; i < 7; i++) {
		snprintf(name, sizeof(name), "c%u", i);
		vdpa_delete(name);
	}
	assert_int_equal(on_bus(), 0);
}

static int set_up(void **state)
{
	return vdpa_driver_register(&one) || vdpa_driver_register(&two) || vdpa_mgmtdev_register(&mgmt);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_binding),
		cmocka_unit_test(test_delete_waits),
		cmocka_unit_test(test_mgmtdev),
		cmocka_unit_test(test_legacy),
		cmocka_unit_test(test_churn),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
