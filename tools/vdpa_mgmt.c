// SPDX-License-Identifier: MIT
/*
 * vdpa(8) of iproute2 6.1 anew: its words, its text and its JSON to the byte,
 * blanks at line ends and in keys included. Messages about a wrong command line
 * are ours where its own say nothing.
 */
#include "tools/vdpa_mgmt.h"

#include <errno.h>
#include <getopt.h>
#include <net/ethernet.h>
#include <netinet/ether.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>

#include "abi/vdpa.h"
#include "tools/vdpa_json.h"
#include "tools/vdpa_nl.h"

struct show {
	bool json;
	struct vdpa_json j;
};

static int fail(const char *fmt, ...) __printf(1, 2);
static int fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return 1;
}

static int run(struct vdpa_req *r, void (*fn)(void *arg, const struct vdpa_attrs *a), void *arg)
{
	char why[256];
	int err = vdpa_req_run(r, fn, arg, why, sizeof(why));

	if (!err)
		return 0;
	if (*why)
		fprintf(stderr, "Error: %s.\n", why);
	return fail("kernel answers: %s", strerror(-err));
}

/* ---- Names of bits ---- */

static const char *feature_name(void *net, unsigned bit)
{
	static const char *const net_names[64] = {
#define NET(n, name) [n] = #name,
#define ANY(n, name)
#include "tools/vdpa_feature.def"
#undef NET
#undef ANY
	};
	static const char *const any_names[64] = {
#define NET(n, name)
#define ANY(n, name) [n] = #name,
#include "tools/vdpa_feature.def"
#undef NET
#undef ANY
	};
	static char number[16];

	if (any_names[bit])
		return any_names[bit];
	if (net && net_names[bit])
		return net_names[bit];
	snprintf(number, sizeof(number), "bit_%u", bit);
	return number;
}

static const char *class_name(void *arg, unsigned bit)
{
	return bit == VIRTIO_ID_NET ? "net" : bit == VIRTIO_ID_BLOCK ? "block" : "< unknown class >";
}

static const char *type_name(u32 id)
{
	return id == VIRTIO_ID_NET ? "network" : id == VIRTIO_ID_BLOCK ? "block" : "<unknown type>";
}

static void show_bits(struct show *s, const char *key, u64 bits, const char *(*name)(void *arg, unsigned bit),
		      void *arg)
{
	if (s->json) {
		vdpa_json_bits(&s->j, key, bits, name, arg);
		return;
	}
	printf("  %s", key);
	for (unsigned bit = 0; bit < 64; bit++)
		if (bits & 1ull << bit)
			printf(" %s", name(arg, bit));
	putchar('\n');
}

/* ---- Output ---- */

static void handle(const struct vdpa_attrs *a, char *to, size_t room)
{
	const char *bus = vdpa_attr_str(a, VDPA_ATTR_MGMTDEV_BUS_NAME);

	snprintf(to, room, "%s%s%s", bus, *bus ? "/" : "", vdpa_attr_str(a, VDPA_ATTR_MGMTDEV_DEV_NAME));
}

static void begin(struct show *s, const char *name)
{
	if (s->json)
		vdpa_json_open(&s->j, name);
	else
		printf("%s: ", name);
}

static void end(struct show *s)
{
	if (s->json)
		vdpa_json_close(&s->j);
}

static void show_mgmtdev(void *arg, const struct vdpa_attrs *a)
{
	struct show *s = arg;
	u64 classes = vdpa_attr_num(a, VDPA_ATTR_MGMTDEV_SUPPORTED_CLASSES);
	char name[512];

	handle(a, name, sizeof(name));
	begin(s, name);
	if (!s->json)
		putchar('\n');
	show_bits(s, "supported_classes", classes, class_name, NULL);
	if (s->json)
		vdpa_json_number(&s->j, "max_supported_vqs", vdpa_attr_num(a, VDPA_ATTR_DEV_MGMTDEV_MAX_VQS));
	else
		printf("  max_supported_vqs %d\n", (int)vdpa_attr_num(a, VDPA_ATTR_DEV_MGMTDEV_MAX_VQS));
	show_bits(s, "dev_features", vdpa_attr_num(a, VDPA_ATTR_DEV_SUPPORTED_FEATURES), feature_name,
		  classes & 1ull << VIRTIO_ID_NET ? s : NULL);
	end(s);
}

static void show_dev(void *arg, const struct vdpa_attrs *a)
{
	struct show *s = arg;
	const char *name = vdpa_attr_str(a, VDPA_ATTR_DEV_NAME);
	const char *type = type_name((u32)vdpa_attr_num(a, VDPA_ATTR_DEV_ID));
	char parent[512];

	handle(a, parent, sizeof(parent));
	begin(s, name);
	if (s->json) {
		vdpa_json_string(&s->j, "type", type);
		vdpa_json_string(&s->j, "mgmtdev", parent);
		vdpa_json_number(&s->j, "vendor_id", vdpa_attr_num(a, VDPA_ATTR_DEV_VENDOR_ID));
		vdpa_json_number(&s->j, "max_vqs", vdpa_attr_num(a, VDPA_ATTR_DEV_MAX_VQS));
		vdpa_json_number(&s->j, "max_vq_size", vdpa_attr_num(a, VDPA_ATTR_DEV_MAX_VQ_SIZE));
	} else {
		printf("type %s mgmtdev %s vendor_id %u max_vqs %u max_vq_size %u\n", type, parent,
		       (u32)vdpa_attr_num(a, VDPA_ATTR_DEV_VENDOR_ID), (u32)vdpa_attr_num(a, VDPA_ATTR_DEV_MAX_VQS),
		       (u32)vdpa_attr_num(a, VDPA_ATTR_DEV_MAX_VQ_SIZE));
	}
	end(s);
}

/* The two keys with a blank at their ends are iproute2's own. */
static void show_config(void *arg, const struct vdpa_attrs *a)
{
	struct show *s = arg;
	u16 status = (u16)vdpa_attr_num(a, VDPA_ATTR_DEV_NET_STATUS);
	u16 pairs = (u16)vdpa_attr_num(a, VDPA_ATTR_DEV_NET_CFG_MAX_VQP);
	u16 mtu = (u16)vdpa_attr_num(a, VDPA_ATTR_DEV_NET_CFG_MTU);
	const char *link = status & VIRTIO_NET_S_LINK_UP ? "up" : "down";
	bool announce = status & VIRTIO_NET_S_ANNOUNCE;
	char mac[20] = "";

	if (a->len[VDPA_ATTR_DEV_NET_CFG_MACADDR] == ETH_ALEN) {
		const u8 *m = a->at[VDPA_ATTR_DEV_NET_CFG_MACADDR];

		snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
	}
	begin(s, vdpa_attr_str(a, VDPA_ATTR_DEV_NAME));
	if (s->json) {
		vdpa_json_string(&s->j, "mac", mac);
		vdpa_json_string(&s->j, "link ", link);
		vdpa_json_bool(&s->j, "link_announce ", announce);
		if (a->at[VDPA_ATTR_DEV_NET_CFG_MAX_VQP])
			vdpa_json_number(&s->j, "max_vq_pairs", pairs);
		vdpa_json_number(&s->j, "mtu", mtu);
	} else {
		printf("mac %s link %s link_announce %s ", mac, link, announce ? "true" : "false");
		if (a->at[VDPA_ATTR_DEV_NET_CFG_MAX_VQP])
			printf("max_vq_pairs %d ", pairs);
		printf("mtu %d \n", mtu);
	}
	if (a->at[VDPA_ATTR_DEV_NEGOTIATED_FEATURES])
		show_bits(s, "negotiated_features", vdpa_attr_num(a, VDPA_ATTR_DEV_NEGOTIATED_FEATURES),
			  feature_name, vdpa_attr_num(a, VDPA_ATTR_DEV_ID) == VIRTIO_ID_NET ? s : NULL);
	end(s);
}

static void show_stats(void *arg, const struct vdpa_attrs *a)
{
	struct show *s = arg;
	u64 features = vdpa_attr_num(a, VDPA_ATTR_DEV_NEGOTIATED_FEATURES);
	u32 index = (u32)vdpa_attr_num(a, VDPA_ATTR_DEV_QUEUE_INDEX);
	u32 pairs = (u32)vdpa_attr_num(a, VDPA_ATTR_DEV_NET_CFG_MAX_VQP);
	bool control = features & 1ull << VIRTIO_NET_F_CTRL_VQ && index == 2 * max(pairs, 1u);
	const char *type = control ? "control_vq" : index & 1 ? "tx" : "rx", *name = "";
	const u8 *pos = a->all;
	const void *data;
	u16 attr;

	begin(s, vdpa_attr_str(a, VDPA_ATTR_DEV_NAME));
	if (s->json)
		vdpa_json_string(&s->j, "queue_type", type);
	else
		printf("queue_type %s ", type);
	while (vdpa_attr_next(a, &pos, &attr, &data)) {
		u64 value;

		if (attr == VDPA_ATTR_DEV_VENDOR_ATTR_NAME) {
			name = data;
		} else if (attr == VDPA_ATTR_DEV_VENDOR_ATTR_VALUE) {
			memcpy(&value, data, sizeof(value));
			if (s->json)
				vdpa_json_number(&s->j, name, value);
			else
				printf("%s %llu ", name, (unsigned long long)value);
		}
	}
	if (!s->json)
		putchar('\n');
	end(s);
}

/* One object by the request's name, or all: within the outer object @what. */
static int show(struct show *s, const char *what, struct vdpa_req *r,
		void (*fn)(void *arg, const struct vdpa_attrs *a))
{
	struct show quiet = *s;
	int ret;

	if (!s->json)
		return run(r, fn, s);
	quiet.j.depth = 0;
	vdpa_json_open(&quiet.j, NULL);
	vdpa_json_open(&quiet.j, what);
	ret = run(r, fn, &quiet);
	vdpa_json_close(&quiet.j);
	vdpa_json_close(&quiet.j);
	return ret;
}

/* ---- Commands: argv is what is left, ending in NULL ---- */

/* As iproute2 matches words: any beginning will do. */
static bool is(const char *word, const char *full)
{
	return word && *word && !strncmp(word, full, strlen(word));
}

static int usage(void)
{
	fputs("Usage: vdpa [ OPTIONS ] OBJECT { COMMAND | help }\n"
	      "where  OBJECT := { mgmtdev | dev }\n"
	      "       OPTIONS := { -V[ersion] | -n[o-nice-names] | -j[son] | -p[retty] }\n"
	      "Verbs that iproute2 does not have: see 'userkvm help vdpa'\n", stderr);
	return 0;
}

static int usage_mgmtdev(void)
{
	fputs("Usage: vdpa mgmtdev show [ DEV ]\n", stderr);
	return 0;
}

static int usage_vstats(void)
{
	fputs("Usage: vdpa dev vstats show DEV [qidx QUEUE_INDEX]\n", stderr);
	return 1;
}

static int usage_dev(void)
{
	fputs("Usage: vdpa dev show [ DEV ]\n"
	      "       vdpa dev add name NAME mgmtdev MANAGEMENTDEV [ mac MACADDR ] [ mtu MTU ]\n"
	      "                                                    [ max_vqp MAX_VQ_PAIRS ]\n"
	      "                                                    [ device_features DEVICE_FEATURES ]\n"
	      "       vdpa dev del DEV\n"
	      "Usage: vdpa dev config COMMAND [ OPTIONS ]\n"
	      "Usage: vdpa dev vstats COMMAND\n", stderr);
	return 0;
}

/* "[BUS/]DEV" into @r. */
static int put_handle(struct vdpa_req *r, const char *word)
{
	const char *slash = strchr(word, '/');
	char bus[128];

	if (slash && strchr(slash + 1, '/')) {
		fputs("Wrong vdpa mgmtdev identification string format\n"
		      "Expected \"mgmtdev_bus_name/mgmtdev_name\"\n", stderr);
		return fail("Expected \"mgmtdev_name\"");
	}
	if (slash) {
		snprintf(bus, sizeof(bus), "%.*s", (int)(slash - word), word);
		if (!vdpa_req_str(r, VDPA_ATTR_MGMTDEV_BUS_NAME, bus))
			return fail("%s: too long", word);
		word = slash + 1;
	}
	return vdpa_req_str(r, VDPA_ATTR_MGMTDEV_DEV_NAME, word) ? 0 : fail("%s: too long", word);
}

static int mgmtdev_show(struct show *s, char **argv)
{
	struct vdpa_req r;

	vdpa_req_init(&r, VDPA_CMD_MGMTDEV_GET, !*argv);
	if (*argv && put_handle(&r, *argv))
		return 1;
	if (*argv && argv[1])
		return fail("Unknown option \"%s\"", argv[1]);
	return show(s, "mgmtdev", &r, show_mgmtdev);
}

static int cmd_mgmtdev(struct show *s, char **argv)
{
	if (!*argv || is(*argv, "help"))
		return usage_mgmtdev();
	if (is(*argv, "show") || is(*argv, "list"))
		return mgmtdev_show(s, argv + 1);
	return fail("Command \"%s\" not found", *argv);
}

/* Commands about one device or all of them. */
static int dev_show(struct show *s, char **argv, u8 cmd, const char *what,
		    void (*fn)(void *arg, const struct vdpa_attrs *a))
{
	struct vdpa_req r;

	vdpa_req_init(&r, cmd, !*argv);
	if (*argv && !vdpa_req_str(&r, VDPA_ATTR_DEV_NAME, *argv))
		return fail("%s: too long", *argv);
	if (*argv && argv[1])
		return fail("Unknown option \"%s\"", argv[1]);
	return show(s, what, &r, fn);
}

static bool parse_num(const char *word, int base, u64 most, u64 *v)
{
	char *rest;

	errno = 0;
	*v = strtoull(word, &rest, base);
	return *word && *word != '-' && !*rest && !errno && *v <= most;
}

/* A word and its value into @r. */
static int put_option(struct vdpa_req *r, const char *word, const char *value)
{
	struct ether_addr mac;
	u16 v16;
	u64 v;

	if (!value)
		return fail("%s: a value is missing", word);
	if (!strcmp(word, "name"))
		return vdpa_req_str(r, VDPA_ATTR_DEV_NAME, value) ? 0 : fail("%s: too long", value);
	if (!strcmp(word, "mgmtdev"))
		return put_handle(r, value);
	if (!strcmp(word, "mac")) {
		if (!ether_aton_r(value, &mac))
			return fail("\"%s\" is invalid lladdr.", value);
		return !vdpa_req_attr(r, VDPA_ATTR_DEV_NET_CFG_MACADDR, &mac, sizeof(mac));
	}
	if (!strcmp(word, "mtu") || !strcmp(word, "max_vqp")) {
		if (!parse_num(value, 0, UINT16_MAX, &v))
			return fail("%s: \"%s\" is no number below 65536", word, value);
		v16 = (u16)v;
		return !vdpa_req_attr(r, *word == 'm' && word[1] == 't' ? VDPA_ATTR_DEV_NET_CFG_MTU :
									  VDPA_ATTR_DEV_NET_CFG_MAX_VQP,
				      &v16, sizeof(v16));
	}
	if (!strcmp(word, "device_features")) {
		if (!parse_num(value, 16, UINT64_MAX, &v))
			return fail("%s: \"%s\" is no hexadecimal number", word, value);
		return !vdpa_req_attr(r, VDPA_ATTR_DEV_FEATURES, &v, sizeof(v));
	}
	return fail("Unknown option \"%s\"", word);
}

static int dev_add(char **argv)
{
	bool has_name = false, has_parent = false;
	struct vdpa_req r;

	vdpa_req_init(&r, VDPA_CMD_DEV_NEW, false);
	for (; *argv; argv += 2) {
		if (put_option(&r, *argv, argv[1]))
			return 1;
		has_name |= !strcmp(*argv, "name");
		has_parent |= !strcmp(*argv, "mgmtdev");
	}
	if (!has_parent)
		return fail("management device handle not set.");
	if (!has_name)
		return fail("device name is not set.");
	return run(&r, NULL, NULL);
}

static int dev_del(char **argv)
{
	struct vdpa_req r;

	if (!*argv)
		return fail("String parameter expected");
	vdpa_req_init(&r, VDPA_CMD_DEV_DEL, false);
	if (!vdpa_req_str(&r, VDPA_ATTR_DEV_NAME, *argv))
		return fail("%s: too long", *argv);
	if (argv[1])
		return fail("Unknown option \"%s\"", argv[1]);
	return run(&r, NULL, NULL);
}

static int dev_config(struct show *s, char **argv)
{
	if (!*argv)
		return dev_show(s, argv, VDPA_CMD_DEV_CONFIG_GET, "config", show_config);
	if (is(*argv, "help"))
		return fail("Usage: vdpa dev config show [ DEV ]");
	if (is(*argv, "show"))
		return dev_show(s, argv + 1, VDPA_CMD_DEV_CONFIG_GET, "config", show_config);
	return fail("Command \"%s\" not found", *argv);
}

static int dev_vstats(struct show *s, char **argv)
{
	struct vdpa_req r;
	u64 index = 0;
	u32 index32;

	if (!*argv || !is(*argv, "show") || !argv[1])
		return usage_vstats();
	argv++;
	vdpa_req_init(&r, VDPA_CMD_DEV_VSTATS_GET, false);
	if (!vdpa_req_str(&r, VDPA_ATTR_DEV_NAME, *argv))
		return fail("%s: too long", *argv);
	if (argv[1]) {
		if (!is(argv[1], "qidx") || !argv[2] || argv[3] || !parse_num(argv[2], 0, UINT32_MAX, &index))
			return usage_vstats();
		index32 = (u32)index;
		if (!vdpa_req_attr(&r, VDPA_ATTR_DEV_QUEUE_INDEX, &index32, sizeof(index32)))
			return 1;
	}
	return show(s, "vstats", &r, show_stats);
}

static int cmd_dev(struct show *s, char **argv)
{
	if (!*argv)
		return dev_show(s, argv, VDPA_CMD_DEV_GET, "dev", show_dev);
	if (is(*argv, "help"))
		return usage_dev();
	if (is(*argv, "show") || is(*argv, "list"))
		return dev_show(s, argv + 1, VDPA_CMD_DEV_GET, "dev", show_dev);
	if (is(*argv, "add"))
		return dev_add(argv + 1);
	if (is(*argv, "del"))
		return dev_del(argv + 1);
	if (is(*argv, "config"))
		return dev_config(s, argv + 1);
	if (is(*argv, "vstats"))
		return dev_vstats(s, argv + 1);
	return fail("Command \"%s\" not found", *argv);
}

int vdpa_mgmt_main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "Version", no_argument, NULL, 'V' }, { "json", no_argument, NULL, 'j' },
		{ "pretty", no_argument, NULL, 'p' }, { "no-nice-names", no_argument, NULL, 'n' },
		{ "help", no_argument, NULL, 'h' }, { 0 },
	};
	struct show s = { 0 };
	int c;

	optind = 1;
	while ((c = getopt_long(argc, argv, "Vjpnh", options, NULL)) != -1) {
		switch (c) {
		case 'V':
			printf("vdpa utility, userkvm %s\n", USERKVM_VERSION);
			return 0;
		case 'j':
			s.json = true;
			break;
		case 'p':
			s.j.pretty = true;
			break;
		case 'n':	/* no names here are nicer than others */
			break;
		case 'h':
			return usage();
		default:
			usage();
			return 1;
		}
	}
	argv += optind;
	if (!*argv || is(*argv, "help"))
		return usage();
	if (is(*argv, "mgmtdev"))
		return cmd_mgmtdev(&s, argv + 1);
	if (is(*argv, "dev"))
		return cmd_dev(&s, argv + 1);
	return fail("Object \"%s\" not found", *argv);
}
