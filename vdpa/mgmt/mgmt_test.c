// SPDX-License-Identifier: MIT
/*
 * The netlink family over fake devices: refusals by rows, dumps over several
 * datagrams, statistics, mutilated requests. Names carry the acceptance test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/genetlink.h>
#include <linux/netlink.h>

#include "abi/vdpa.h"
#include "vdpa/fake.h"
#include "vdpa/mgmt.h"
#include "vdpa/mgmt/mgmt.h"
#include "vdpa/mgmt/nl.h"

static int dev_add(struct vdpa_mgmtdev *m, const char *name, const struct vdpa_dev_attrs *a);

static void dev_del(struct vdpa_mgmtdev *m, struct vdpa_device *d)
{
	vdpa_unregister(d);
	vdpa_put(d);
}

static struct vdpa_mgmtdev parent = {
	.name = "fake", .classes = 1ull << 1, .max_vqs = 3, .features = 0x18, .attr_mask = VDPA_ATTR_MAC,
	.dev_add = dev_add, .dev_del = dev_del,
};
static struct vdpa_mgmtdev card = { .bus = "pci", .name = "0000:00:01.0", .dev_add = dev_add, .dev_del = dev_del };
static struct vdpa_dev_attrs last_attrs;

static int dev_add(struct vdpa_mgmtdev *m, const char *name, const struct vdpa_dev_attrs *a)
{
	struct fake *f = fake_new(m, name);
	int err = vdpa_register(&f->dev);

	if (err)
		vdpa_put(&f->dev);
	else if (m == &parent && strncmp(name, "churn", 5))
		last_attrs = *a;
	return err;
}

/* ---- Requests ---- */

struct req {
	_Alignas(4) u8 data[2048];
	u32 len;
};

static void begin(struct req *r, u16 type, u8 cmd, u16 flags)
{
	struct nlmsghdr *h = (struct nlmsghdr *)r->data;
	struct genlmsghdr *g = (struct genlmsghdr *)(r->data + NLMSG_HDRLEN);

	memset(r, 0, sizeof(*r));
	r->len = NLMSG_HDRLEN + GENL_HDRLEN;
	*h = (struct nlmsghdr){ .nlmsg_type = type, .nlmsg_flags = (u16)(NLM_F_REQUEST | flags), .nlmsg_seq = 77 };
	g->cmd = cmd;
	g->version = 1;
}

static void attr(struct req *r, u16 type, const void *data, u32 len)
{
	const struct nlattr a = { .nla_len = (u16)(NLA_HDRLEN + len), .nla_type = type };

	memcpy(r->data + r->len, &a, sizeof(a));
	memcpy(r->data + r->len + NLA_HDRLEN, data, len);
	r->len += NLA_HDRLEN + NLA_ALIGN(len);
}

static void attr_str(struct req *r, u16 type, const char *s)
{
	attr(r, type, s, (u32)strlen(s) + 1);
}

static void send_req(struct mgmt_session *s, struct req *r)
{
	((struct nlmsghdr *)r->data)->nlmsg_len = r->len;
	assert_int_equal(mgmt_send(s, r->data, r->len), 0);
}

/* The error of the acknowledgement; *@why its text or "". Other replies before it are counted. */
static int result(struct mgmt_session *s, char *why, unsigned *replies)
{
	_Alignas(4) u8 buf[8192];
	ssize_t n;
	int err = 1;

	*why = 0;
	*replies = 0;
	while ((n = mgmt_receive(s, buf, sizeof(buf))) > 0) {
		const struct nlmsghdr *h = (const struct nlmsghdr *)buf;

		assert_true(n <= NL_DATAGRAM);
		assert_int_equal(err, 1);	/* nothing comes behind it */
		for (int left = (int)n; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
			assert_int_equal(h->nlmsg_seq, 77);
			if (h->nlmsg_type == NLMSG_ERROR) {
				const struct nlmsgerr *e = NLMSG_DATA(h);

				err = e->error;
				if (h->nlmsg_flags & NLM_F_ACK_TLVS)
					strcpy(why, (const char *)(e + 1) + NLA_HDRLEN);
			} else if (h->nlmsg_type == NLMSG_DONE) {
				err = 0;
			} else {
				++*replies;
			}
		}
	}
	assert_int_equal(n, -EAGAIN);
	return err;
}

static int run(struct req *r, char *why, unsigned *replies)
{
	struct mgmt_session *s = mgmt_session_new();
	int err;

	send_req(s, r);
	err = result(s, why, replies);
	mgmt_session_free(s);
	return err;
}

/* ---- Tests ---- */

/* What a row gives; 0 ends. */
struct given { u16 type; const char *s; u64 num; u32 len; };

static void test_refusals(void **state)
{
	static const struct {
		u8 cmd;
		int err;
		const char *why;
		struct given a[4];
	} rows[] = {
		{ VDPA_CMD_MGMTDEV_GET, -EINVAL, "", { { 0 } } },
		{ VDPA_CMD_MGMTDEV_GET, -ENODEV, "management device", { { VDPA_ATTR_MGMTDEV_DEV_NAME, "x" } } },
		{ VDPA_CMD_MGMTDEV_GET, -ENODEV, "", { { VDPA_ATTR_MGMTDEV_DEV_NAME, "0000:00:01.0" } } },
		{ VDPA_CMD_MGMTDEV_GET, 0, "", { { VDPA_ATTR_MGMTDEV_DEV_NAME, "0000:00:01.0" },
						 { VDPA_ATTR_MGMTDEV_BUS_NAME, "pci" } } },
		{ VDPA_CMD_DEV_NEW, -EINVAL, "", { { VDPA_ATTR_DEV_NAME, "x" } } },
		{ VDPA_CMD_DEV_NEW, -EINVAL, "", { { VDPA_ATTR_MGMTDEV_DEV_NAME, "fake" } } },
		{ VDPA_CMD_DEV_NEW, -ENODEV, "", { { VDPA_ATTR_MGMTDEV_DEV_NAME, "x" }, { VDPA_ATTR_DEV_NAME, "x" } } },
		{ VDPA_CMD_DEV_NEW, -EEXIST, "", { { VDPA_ATTR_MGMTDEV_DEV_NAME, "fake" }, { VDPA_ATTR_DEV_NAME, "dev" } } },
		{ VDPA_CMD_DEV_NEW, -EINVAL, "", { { VDPA_ATTR_MGMTDEV_DEV_NAME, "fake" }, { VDPA_ATTR_DEV_NAME, "" } } },
		{ VDPA_CMD_DEV_NEW, -ERANGE, "range", { { VDPA_ATTR_MGMTDEV_DEV_NAME, "fake" }, { VDPA_ATTR_DEV_NAME, "x" },
				{ VDPA_ATTR_DEV_NET_CFG_MTU, NULL, 67, 2 } } },
		{ VDPA_CMD_DEV_NEW, -EOPNOTSUPP, "attributes", { { VDPA_ATTR_MGMTDEV_DEV_NAME, "fake" },
				{ VDPA_ATTR_DEV_NAME, "x" }, { VDPA_ATTR_DEV_NET_CFG_MTU, NULL, 68, 2 } } },
		{ VDPA_CMD_DEV_NEW, -EINVAL, "one pair", { { VDPA_ATTR_MGMTDEV_DEV_NAME, "fake" }, { VDPA_ATTR_DEV_NAME, "x" },
				{ VDPA_ATTR_DEV_NET_CFG_MAX_VQP, NULL, 0, 2 } } },
		{ VDPA_CMD_DEV_NEW, -EOPNOTSUPP, "", { { VDPA_ATTR_MGMTDEV_DEV_NAME, "fake" }, { VDPA_ATTR_DEV_NAME, "x" },
				{ VDPA_ATTR_DEV_FEATURES, NULL, 1, 8 } } },
		{ VDPA_CMD_DEV_NEW, -ERANGE, "", { { VDPA_ATTR_MGMTDEV_DEV_NAME, "fake" }, { VDPA_ATTR_DEV_NAME, "x" },
				{ VDPA_ATTR_DEV_NET_CFG_MTU, NULL, 1500, 4 } } },
		{ VDPA_CMD_DEV_NEW, -EINVAL, "", { { VDPA_ATTR_MGMTDEV_DEV_NAME, "fake" }, { VDPA_ATTR_DEV_NAME, "x" },
				{ VDPA_ATTR_DEV_NET_CFG_MACADDR, NULL, 1500, 5 } } },
		{ VDPA_CMD_DEV_DEL, -EINVAL, "", { { 0 } } },
		{ VDPA_CMD_DEV_DEL, -ENODEV, "not found", { { VDPA_ATTR_DEV_NAME, "x" } } },
		{ VDPA_CMD_DEV_GET, -EINVAL, "", { { 0 } } },
		{ VDPA_CMD_DEV_GET, -ENODEV, "not found", { { VDPA_ATTR_DEV_NAME, "x" } } },
		{ VDPA_CMD_DEV_CONFIG_GET, -ENODEV, "not found", { { VDPA_ATTR_DEV_NAME, "x" } } },
		{ VDPA_CMD_DEV_VSTATS_GET, -EINVAL, "", { { VDPA_ATTR_DEV_NAME, "dev" } } },
		{ VDPA_CMD_DEV_VSTATS_GET, -EOPNOTSUPP, "", { { VDPA_ATTR_DEV_NAME, "dev" },
				{ VDPA_ATTR_DEV_QUEUE_INDEX, NULL, 0, 4 } } },
		{ 99, -EOPNOTSUPP, "", { { 0 } } },
		{ VDPA_CMD_DEV_GET, 0, "", { { VDPA_ATTR_DEV_NAME, "dev" } } },
		{ VDPA_CMD_DEV_CONFIG_GET, 0, "", { { VDPA_ATTR_DEV_NAME, "dev" } } },
	};
	unsigned replies;
	char why[256];

	assert_int_equal(dev_add(&parent, "dev", &(struct vdpa_dev_attrs){ 0 }), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct req r;

		begin(&r, VDPA_MGMT_FAMILY_ID, rows[i].cmd, NLM_F_ACK);
		for (const struct given *g = rows[i].a; g < rows[i].a + 4 && g->type; g++) {
			if (g->s)
				attr_str(&r, g->type, g->s);
			else
				attr(&r, g->type, &g->num, g->len);
		}
		assert_int_equal(run(&r, why, &replies), rows[i].err);
		assert_non_null(strstr(why, rows[i].why));
		assert_int_equal(replies, rows[i].err ? 0 : 1);
	}
	assert_int_equal(vdpa_delete("dev"), 0);
}

static void test_add(void **state)
{
	static const u8 mac[6] = { 0, 1, 2, 3, 4, 5 };
	unsigned replies;
	char why[256];
	struct req r;

	begin(&r, VDPA_MGMT_FAMILY_ID, VDPA_CMD_DEV_NEW, NLM_F_ACK);
	attr_str(&r, VDPA_ATTR_MGMTDEV_DEV_NAME, "fake");
	attr_str(&r, VDPA_ATTR_DEV_NAME, "dev");
	attr(&r, VDPA_ATTR_DEV_NET_CFG_MACADDR, mac, sizeof(mac));
	assert_int_equal(run(&r, why, &replies), 0);
	assert_int_equal(last_attrs.mask, VDPA_ATTR_MAC);
	assert_memory_equal(last_attrs.mac, mac, sizeof(mac));
	assert_int_equal(vdpa_delete("dev"), 0);
}

static void test_family(void **state)
{
	struct { const char *name; int err; } rows[] = { { "vdpa", 0 }, { "nl80211", -ENOENT }, { "", -EINVAL } };
	unsigned replies;
	char why[256];
	struct req r;

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		begin(&r, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, NLM_F_ACK);
		attr_str(&r, CTRL_ATTR_FAMILY_NAME, rows[i].name);
		assert_int_equal(run(&r, why, &replies), rows[i].err);
		assert_int_equal(replies, !rows[i].err);
	}
	begin(&r, VDPA_MGMT_FAMILY_ID + 1, VDPA_CMD_DEV_GET, NLM_F_ACK);
	assert_int_equal(run(&r, why, &replies), -ENOENT);
}

static void test_dump(void **state)
{
	const struct { u8 cmd; unsigned replies; } rows[] = {
		{ VDPA_CMD_DEV_GET, 200 }, { VDPA_CMD_DEV_CONFIG_GET, 200 }, { VDPA_CMD_MGMTDEV_GET, 2 },
	};
	unsigned replies;
	char name[32], why[256];
	struct req r;

	for (unsigned i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "a-rather-long-name-%u", i);
		assert_int_equal(dev_add(&parent, name, &(struct vdpa_dev_attrs){ 0 }), 0);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		begin(&r, VDPA_MGMT_FAMILY_ID, rows[i].cmd, NLM_F_DUMP | NLM_F_ACK);
		assert_int_equal(run(&r, why, &replies), 0);
		assert_int_equal(replies, rows[i].replies);
	}
	begin(&r, VDPA_MGMT_FAMILY_ID, VDPA_CMD_DEV_NEW, NLM_F_DUMP | NLM_F_ACK);
	assert_int_equal(run(&r, why, &replies), -EOPNOTSUPP);
	for (unsigned i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "a-rather-long-name-%u", i);
		assert_int_equal(vdpa_delete(name), 0);
	}
}

static int stat_of(struct vdpa_device *d, u16 vq, unsigned i, const char **name, u64 *value)
{
	*name = i ? "completed_desc" : "received_desc";
	*value = 1000 * vq + i;
	return i < 2 ? 0 : -ENOENT;
}

static void test_stats(void **state)
{
	struct fake *f = fake_new(&parent, "dev");
	u32 vq = 1, big = FAKE_VQS;
	unsigned replies;
	char why[256];
	struct req r;

	f->ops.get_vendor_stat = stat_of;
	assert_int_equal(vdpa_register(&f->dev), 0);
	begin(&r, VDPA_MGMT_FAMILY_ID, VDPA_CMD_DEV_VSTATS_GET, NLM_F_ACK);
	attr_str(&r, VDPA_ATTR_DEV_NAME, "dev");
	attr(&r, VDPA_ATTR_DEV_QUEUE_INDEX, &vq, sizeof(vq));
	assert_int_equal(run(&r, why, &replies), -EAGAIN);
	assert_non_null(strstr(why, "negotiation"));
	f->status = 0xb;
	assert_int_equal(run(&r, why, &replies), 0);
	assert_int_equal(replies, 1);
	begin(&r, VDPA_MGMT_FAMILY_ID, VDPA_CMD_DEV_VSTATS_GET, NLM_F_ACK);
	attr_str(&r, VDPA_ATTR_DEV_NAME, "dev");
	attr(&r, VDPA_ATTR_DEV_QUEUE_INDEX, &big, sizeof(big));
	assert_int_equal(run(&r, why, &replies), -ERANGE);
	assert_int_equal(vdpa_delete("dev"), 0);
}

/* Several requests in a datagram; ones that are cut off; lengths that lie. */
static void test_shapes(void **state)
{
	struct mgmt_session *s = mgmt_session_new();
	_Alignas(4) u8 buf[8192] = { 0 };
	unsigned seed = 3;
	struct req r;

	begin(&r, VDPA_MGMT_FAMILY_ID, VDPA_CMD_MGMTDEV_GET, NLM_F_ACK);
	attr_str(&r, VDPA_ATTR_MGMTDEV_DEV_NAME, "fake");
	((struct nlmsghdr *)r.data)->nlmsg_len = r.len;
	memcpy(buf, r.data, r.len);
	memcpy(buf + r.len, r.data, r.len);
	assert_int_equal(mgmt_send(s, buf, 2 * r.len), 0);
	for (unsigned i = 0; i < 4; i++)	/* a reply and an acknowledgement, twice */
		assert_true(mgmt_receive(s, buf, sizeof(buf)) > 0);
	assert_int_equal(mgmt_receive(s, buf, sizeof(buf)), -EAGAIN);
	assert_int_equal(mgmt_send(s, r.data, 0), 0);
	assert_int_equal(mgmt_send(s, buf, 8193), -EMSGSIZE);
	for (unsigned i = 0; i < 20000; i++) {
		u32 len = (u32)rand_r(&seed) % (r.len + 1);

		memcpy(buf, r.data, r.len);
		for (unsigned j = (unsigned)rand_r(&seed) % 4; j; j--)
			buf[(u32)rand_r(&seed) % r.len] = (u8)rand_r(&seed);
		assert_int_equal(mgmt_send(s, buf, len), 0);
		while (mgmt_receive(s, buf, (size_t)rand_r(&seed) % sizeof(buf)) >= 0)
			;
	}
	mgmt_session_free(s);
}

/* ---- G.C 3: dumps while devices come and go ---- */

static _Atomic bool stop;

static void *come_and_go(void *arg)
{
	const struct vdpa_dev_attrs none = { 0 };
	char name[32];

	for (unsigned i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "churn%ld-%u", (long)arg, i % 5);
		if (dev_add(&parent, name, &none))
			vdpa_delete(name);
	}
	for (unsigned i = 0; i < 5; i++) {
		snprintf(name, sizeof(name), "churn%ld-%u", (long)arg, i);
		vdpa_delete(name);
	}
	return NULL;
}

static void *dump(void *arg)
{
	while (!atomic_load(&stop)) {
		unsigned replies;
		char why[256];
		struct req r;

		begin(&r, VDPA_MGMT_FAMILY_ID, VDPA_CMD_DEV_GET, NLM_F_DUMP);
		if (run(&r, why, &replies))
			return (void *)1;
	}
	return NULL;
}

static void test_churn(void **state)
{
	pthread_t t[4];
	void *ret;

	atomic_store(&stop, false);
	for (long i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, i < 2 ? come_and_go : dump, (void *)i), 0);
	for (unsigned i = 0; i < 4; i++) {
		if (i == 2)
			atomic_store(&stop, true);
		assert_int_equal(pthread_join(t[i], &ret), 0);
		assert_null(ret);
	}
}

static int set_up(void **state)
{
	return vdpa_mgmtdev_register(&parent) || vdpa_mgmtdev_register(&card);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{ "G.C 2: refusals", test_refusals, NULL, NULL, NULL },
		{ "add", test_add, NULL, NULL, NULL },
		{ "the controller", test_family, NULL, NULL, NULL },
		{ "G.C 3: dumps", test_dump, NULL, NULL, NULL },
		{ "statistics", test_stats, NULL, NULL, NULL },
		{ "shapes of datagrams", test_shapes, NULL, NULL, NULL },
		{ "G.C 3: dumps under churn", test_churn, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
