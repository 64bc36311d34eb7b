// SPDX-License-Identifier: MIT
/*
 * The vDPA bus: names, lists, binding, and the rules that stand between a bus
 * driver and a parent. Neither descriptors nor clients are known here.
 *
 * Locks, outermost first:
 *   vdpa_device.bind	binding of one device: held over probe, remove and the way
 *			off the bus, any of which may block as long as a client or
 *			a VDUSE daemon likes
 *     bus_lock		the lists, names, and who is being deleted; never held
 *			across a call into a driver or a parent
 *       vdpa_device.lock	one operation
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vdpa/vdpa.h"

static pthread_mutex_t bus_lock = PTHREAD_MUTEX_INITIALIZER;
_Thread_local int vdpa_caller = -1;

static struct list devices = LIST_INIT(devices);
static struct list drivers = LIST_INIT(drivers);
static struct list mgmtdevs = LIST_INIT(mgmtdevs);

/* ---- References and walks ---- */

void vdpa_device_init(struct vdpa_device *d, struct vdpa_mgmtdev *m, const struct vdpa_config_ops *ops,
		      const char *name, u32 nvqs, u32 ngroups, u32 nas)
{
	memset(d, 0, sizeof(*d));
	d->ops = ops;
	d->mgmt = m;
	strncpy(d->name, name, VDPA_NAME_MAX);
	d->nvqs = nvqs;
	d->ngroups = ngroups;
	d->nas = nas;
	d->refs = 1;
	list_init(&d->node);
	pthread_mutex_init(&d->lock, NULL);
	pthread_mutex_init(&d->bind, NULL);
}

struct vdpa_device *vdpa_get(struct vdpa_device *d)
{
	__atomic_fetch_add(&d->refs, 1, __ATOMIC_RELAXED);
	return d;
}

void vdpa_put(struct vdpa_device *d)
{
	if (__atomic_sub_fetch(&d->refs, 1, __ATOMIC_ACQ_REL))
		return;
	pthread_mutex_destroy(&d->lock);
	pthread_mutex_destroy(&d->bind);
	if (d->ops->free)
		d->ops->free(d);
}

/* Bus lock held. */
static struct vdpa_device *find(const char *name)
{
	struct list *p;

	list_for_each(p, &devices) {
		struct vdpa_device *d = list_entry(p, struct vdpa_device, node);

		if (!strcmp(d->name, name))
			return d;
	}
	return NULL;
}

struct vdpa_device *vdpa_find(const char *name)
{
	struct vdpa_device *d;

	pthread_mutex_lock(&bus_lock);
	d = find(name);
	if (d)
		vdpa_get(d);
	pthread_mutex_unlock(&bus_lock);
	return d;
}

/* The devices of @m (NULL: all) with a reference each; free() the array. */
static int snapshot(const struct vdpa_mgmtdev *m, struct vdpa_device ***out)
{
	unsigned n = 0, count = 0;
	struct list *p;

	pthread_mutex_lock(&bus_lock);
	list_for_each(p, &devices)
		n++;
	*out = calloc(n + 1, sizeof(**out));
	if (*out) {
		list_for_each(p, &devices) {
			struct vdpa_device *d = list_entry(p, struct vdpa_device, node);

			if (!m || d->mgmt == m)
				(*out)[count++] = vdpa_get(d);
		}
	}
	pthread_mutex_unlock(&bus_lock);
	return *out ? (int)count : -ENOMEM;
}

static int for_each_of(const struct vdpa_mgmtdev *m, int (*fn)(void *arg, struct vdpa_device *d), void *arg)
{
	struct vdpa_device **all;
	int n = snapshot(m, &all), ret = 0;

	if (n < 0)
		return n;
	for (int i = 0; i < n; i++) {
		if (!ret)
			ret = fn(arg, all[i]);
		vdpa_put(all[i]);
	}
	free(all);
	return ret;
}

int vdpa_for_each(int (*fn)(void *arg, struct vdpa_device *d), void *arg)
{
	return for_each_of(NULL, fn, arg);
}

/* ---- Binding ---- */

/* Bus lock held. */
static struct vdpa_driver *find_driver(const char *name)
{
	struct list *p;

	list_for_each(p, &drivers) {
		struct vdpa_driver *drv = list_entry(p, struct vdpa_driver, node);

		if (!strcmp(drv->name, name))
			return drv;
	}
	return NULL;
}

/* The driver after @prev (NULL: the first) that @d may be bound to. */
static struct vdpa_driver *next_match(const struct vdpa_device *d, struct vdpa_driver *prev)
{
	struct list *p;
	struct vdpa_driver *found = NULL;

	pthread_mutex_lock(&bus_lock);
	for (p = prev ? prev->node.next : drivers.next; p != &drivers && !found; p = p->next) {
		struct vdpa_driver *drv = list_entry(p, struct vdpa_driver, node);

		if (!d->override[0] || !strcmp(d->override, drv->name))
			found = drv;
	}
	pthread_mutex_unlock(&bus_lock);
	return found;
}

static int probe(struct vdpa_device *d, struct vdpa_driver *drv)
{
	u16 least = d->ops->get_vq_num_min ? d->ops->get_vq_num_min(d) : 1;
	int err;

	if (d->ops->get_vq_num_max(d) < least)
		return -EINVAL;
	d->driver = drv;
	err = drv->probe(d);
	if (err)
		d->driver = NULL;
	return err;
}

/* Bind lock held, nothing bound. The first driver that takes it; the last error if none does. */
static int bind(struct vdpa_device *d)
{
	int err = 0;

	for (struct vdpa_driver *drv = next_match(d, NULL); drv; drv = next_match(d, drv)) {
		err = probe(d, drv);
		if (!err)
			return 0;
		log_info("vdpa: %s does not take %s: %s", drv->name, d->name, strerror(-err));
	}
	return err;
}

/* Bind lock held. May block until the driver's users are gone. */
static void unbind(struct vdpa_device *d)
{
	if (!d->driver)
		return;
	d->driver->remove(d);
	d->driver = NULL;
	d->driver_data = NULL;
}

/* Bind lock held. Deleted devices are bound no more. */
static bool on_bus(struct vdpa_device *d)
{
	bool on;

	pthread_mutex_lock(&bus_lock);
	on = !list_empty(&d->node) && !d->deleting;
	pthread_mutex_unlock(&bus_lock);
	return on;
}

int vdpa_bind(struct vdpa_device *d, const char *driver)
{
	bool known;
	int err = 0;

	pthread_mutex_lock(&bus_lock);
	known = !*driver || find_driver(driver);
	pthread_mutex_unlock(&bus_lock);
	if (!known)
		return -ENODEV;
	pthread_mutex_lock(&d->bind);
	strncpy(d->override, driver, sizeof(d->override) - 1);
	d->override[sizeof(d->override) - 1] = 0;
	if (d->driver && *driver && strcmp(d->driver->name, driver))
		unbind(d);
	if (!d->driver)
		err = on_bus(d) ? bind(d) : -ENODEV;
	pthread_mutex_unlock(&d->bind);
	return err;
}

static int bind_if_free(void *arg, struct vdpa_device *d)
{
	pthread_mutex_lock(&d->bind);
	if (!d->driver && on_bus(d))
		bind(d);
	pthread_mutex_unlock(&d->bind);
	return 0;
}

int vdpa_driver_register(struct vdpa_driver *drv)
{
	int err = 0;

	pthread_mutex_lock(&bus_lock);
	if (find_driver(drv->name))
		err = -EEXIST;
	else
		list_add_tail(&drv->node, &drivers);
	pthread_mutex_unlock(&bus_lock);
	return err ? err : vdpa_for_each(bind_if_free, NULL);
}

static int unbind_from(void *arg, struct vdpa_device *d)
{
	pthread_mutex_lock(&d->bind);
	if (d->driver == arg)
		unbind(d);
	pthread_mutex_unlock(&d->bind);
	return 0;
}

void vdpa_driver_unregister(struct vdpa_driver *drv)
{
	pthread_mutex_lock(&bus_lock);
	list_del(&drv->node);
	pthread_mutex_unlock(&bus_lock);
	if (vdpa_for_each(unbind_from, drv))
		log_error("vdpa: out of memory, devices keep driver %s", drv->name);
}

/* ---- On and off the bus ---- */

int vdpa_register(struct vdpa_device *d)
{
	int err = 0;

	if (!d->ops->set_map && !d->ops->dma_map && (d->ngroups > 1 || d->nas > 1))
		return -EINVAL;
	pthread_mutex_lock(&d->bind);
	pthread_mutex_lock(&bus_lock);
	if (find(d->name))
		err = -EEXIST;
	else
		list_add_tail(&vdpa_get(d)->node, &devices);
	pthread_mutex_unlock(&bus_lock);
	if (!err)
		bind(d);
	pthread_mutex_unlock(&d->bind);
	return err;
}

void vdpa_unregister(struct vdpa_device *d)
{
	bool was_on;

	pthread_mutex_lock(&bus_lock);
	d->deleting = true;
	pthread_mutex_unlock(&bus_lock);
	pthread_mutex_lock(&d->bind);
	unbind(d);
	pthread_mutex_lock(&bus_lock);
	was_on = !list_empty(&d->node);
	list_del(&d->node);
	pthread_mutex_unlock(&bus_lock);
	pthread_mutex_unlock(&d->bind);
	if (was_on)
		vdpa_put(d);
}

/* Only one caller gets to delete a device, whoever else asks meanwhile. */
static int delete(struct vdpa_device *d)
{
	bool mine;

	pthread_mutex_lock(&bus_lock);
	mine = !d->deleting;
	d->deleting = true;
	pthread_mutex_unlock(&bus_lock);
	if (!mine)
		return -EBUSY;
	d->mgmt->dev_del(d->mgmt, d);
	return 0;
}

int vdpa_delete(const char *name)
{
	struct vdpa_device *d = vdpa_find(name);
	int err;

	if (!d)
		return -ENODEV;
	err = d->mgmt ? delete(d) : -EINVAL;
	vdpa_put(d);
	return err;
}

static bool same_handle(const struct vdpa_mgmtdev *a, const char *bus, const char *name)
{
	if (!a->bus != !bus || (bus && strcmp(a->bus, bus)))
		return false;
	return !strcmp(a->name, name);
}

/* Bus lock held. */
static struct vdpa_mgmtdev *find_mgmtdev(const char *bus, const char *name)
{
	struct list *p;

	list_for_each(p, &mgmtdevs) {
		struct vdpa_mgmtdev *m = list_entry(p, struct vdpa_mgmtdev, node);

		if (same_handle(m, bus, name))
			return m;
	}
	return NULL;
}

struct vdpa_mgmtdev *vdpa_mgmtdev_find(const char *bus, const char *name)
{
	struct vdpa_mgmtdev *m;

	pthread_mutex_lock(&bus_lock);
	m = find_mgmtdev(bus, name);
	pthread_mutex_unlock(&bus_lock);
	return m;
}

int vdpa_mgmtdev_register(struct vdpa_mgmtdev *m)
{
	int err = 0;

	pthread_mutex_lock(&bus_lock);
	if (find_mgmtdev(m->bus, m->name))
		err = -EEXIST;
	else
		list_add_tail(&m->node, &mgmtdevs);
	pthread_mutex_unlock(&bus_lock);
	return err;
}

static int delete_one(void *arg, struct vdpa_device *d)
{
	delete(d);
	return 0;
}

void vdpa_mgmtdev_unregister(struct vdpa_mgmtdev *m)
{
	pthread_mutex_lock(&bus_lock);
	list_del(&m->node);
	pthread_mutex_unlock(&bus_lock);
	if (for_each_of(m, delete_one, NULL))
		log_error("vdpa: out of memory, devices of %s stay", m->name);
}

int vdpa_mgmtdev_for_each(int (*fn)(void *arg, struct vdpa_mgmtdev *m), void *arg)
{
	struct list *p;
	int ret = 0;

	pthread_mutex_lock(&bus_lock);
	list_for_each(p, &mgmtdevs) {
		ret = fn(arg, list_entry(p, struct vdpa_mgmtdev, node));
		if (ret)
			break;
	}
	pthread_mutex_unlock(&bus_lock);
	return ret;
}

/* ---- Operations ---- */

int vdpa_reset(struct vdpa_device *d)
{
	int ret;

	pthread_mutex_lock(&d->lock);
	d->features_valid = false;
	ret = d->ops->reset(d);
	pthread_mutex_unlock(&d->lock);
	return ret;
}

void vdpa_set_status(struct vdpa_device *d, u8 status)
{
	pthread_mutex_lock(&d->lock);
	d->ops->set_status(d, status);
	pthread_mutex_unlock(&d->lock);
}

/* Device lock held. */
static int set_features(struct vdpa_device *d, u64 features)
{
	d->features_valid = true;
	return d->ops->set_driver_features(d, features);
}

int vdpa_set_features(struct vdpa_device *d, u64 features)
{
	int ret;

	pthread_mutex_lock(&d->lock);
	ret = set_features(d, features);
	pthread_mutex_unlock(&d->lock);
	return ret;
}

void vdpa_get_config(struct vdpa_device *d, u32 off, void *buf, u32 len)
{
	pthread_mutex_lock(&d->lock);
	/* A driver that looks before it negotiates is a legacy one. A refusal of 0 is no matter. */
	if (!d->features_valid)
		set_features(d, 0);
	d->ops->get_config(d, off, buf, len);
	pthread_mutex_unlock(&d->lock);
}

void vdpa_set_config(struct vdpa_device *d, u32 off, const void *buf, u32 len)
{
	pthread_mutex_lock(&d->lock);
	d->ops->set_config(d, off, buf, len);
	pthread_mutex_unlock(&d->lock);
}
