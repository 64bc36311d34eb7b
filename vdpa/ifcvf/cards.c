// SPDX-License-Identifier: MIT
/*
 * Which functions there are: the simulated bus of this process.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vdpa/ifcvf/host.h"
#include "vdpa/ifcvf/ifcvf.h"

#define MAX_CARDS 8

static const struct {
	const char *name;
	struct vfunc_config config;
} models[] = {
	{ "n3000-net", { .model = VFUNC_N3000_NET, .queues = 2, .vectors = 3, .notify_multiplier = PAGE_SIZE } },
	{ "c5000x-net", { .model = VFUNC_C5000X_NET, .queues = 2, .vectors = 3, .notify_multiplier = PAGE_SIZE } },
	{ "c5000x-blk", { .model = VFUNC_C5000X_BLK, .queues = 4, .vectors = 5, .notify_multiplier = PAGE_SIZE,
			  .sectors = 64 << 11 } },
};

static struct card {
	struct host *host;
	struct ifcvf *driver;
} cards[MAX_CARDS];
static unsigned nr_cards;

static int plug_in(const char *name)
{
	struct card *c = &cards[nr_cards];
	struct vfunc_config config;
	char address[16];
	unsigned i;
	int err;

	for (i = 0; i < ARRAY_SIZE(models); i++)
		if (!strcmp(models[i].name, name))
			break;
	if (i == ARRAY_SIZE(models) || nr_cards == MAX_CARDS) {
		log_warn("vdpa: USERKVM_IFCVF: %s: unknown model, or more than %u", name, MAX_CARDS);
		return 0;
	}
	config = models[i].config;
	/* Locally administered, and each its own. */
	memcpy(config.mac, (u8[]){ 0x02, 0x1f, 0xcf, 0, 0, nr_cards + 1 }, sizeof(config.mac));
	c->host = host_new(&config);
	if (!c->host)
		return -ENOMEM;
	snprintf(address, sizeof(address), "0000:01:00.%u", nr_cards);
	err = ifcvf_attach(c->host, address, &c->driver);
	if (err) {
		host_free(c->host);
		return err;
	}
	nr_cards++;
	return 0;
}

int ifcvf_init(void)
{
	const char *env = getenv("USERKVM_IFCVF");
	char *list = strdup(env ? env : "c5000x-net"), *save = NULL;
	int err = list ? 0 : -ENOMEM;

	for (char *p = list ? strtok_r(list, ",", &save) : NULL; p && !err; p = strtok_r(NULL, ",", &save))
		err = plug_in(p);
	free(list);
	if (err)
		ifcvf_exit();
	return err;
}

void ifcvf_exit(void)
{
	while (nr_cards) {
		struct card *c = &cards[--nr_cards];

		ifcvf_detach(c->driver);
		host_free(c->host);
	}
}
