// SPDX-License-Identifier: MIT
/* Archive format, module order, and module files that lie. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <elf.h>

#include "base/log.h"
#include "tools/cpio.h"
#include "tools/initrd.h"
#include "tools/modinfo.h"

static u32 hex8(const u8 *p)
{
	char s[9];

	memcpy(s, p, 8);
	s[8] = 0;
	return (u32)strtoul(s, NULL, 16);
}

/* Find an entry by walking the archive as a reader would; counts them all. */
static const u8 *cpio_find(const u8 *data, size_t len, const char *want, u32 *size, u32 *mode)
{
	size_t at = 0;

	while (at + 110 <= len) {
		const u8 *h = data + at;
		u32 namesize = hex8(h + 94), filesize = hex8(h + 54);
		const char *name = (const char *)h + 110;
		size_t body = at + ((110 + namesize + 3) & ~3ul);

		assert_memory_equal(h, "070701", 6);
		assert_int_equal(at & 3, 0);
		if (!strcmp(name, want)) {
			*size = filesize;
			*mode = hex8(h + 14);
			return data + body;
		}
		if (!strcmp(name, "TRAILER!!!"))
			return NULL;
		at = body + ((filesize + 3) & ~3ul);
	}
	fail_msg("archive without a trailer");
	return NULL;
}

static void test_cpio(void **state)
{
	struct cpio c = { 0 };
	const u8 *p;
	u32 size, mode;

	cpio_dir(&c, "a", 0755);
	cpio_file(&c, "a/five", 0600, "12345", 5);
	cpio_file(&c, "a/empty", 0600, NULL, 0);
	cpio_link(&c, "l", "a/five");
	cpio_chardev(&c, "con", 0600, 5, 1);
	assert_int_equal(cpio_end(&c), 0);
	p = cpio_find(c.data, c.len, "a/five", &size, &mode);
	assert_non_null(p);
	assert_int_equal(size, 5);
	assert_int_equal(mode, S_IFREG | 0600);
	assert_memory_equal(p, "12345", 5);
	p = cpio_find(c.data, c.len, "l", &size, &mode);
	assert_non_null(p);
	assert_int_equal(mode, S_IFLNK | 0777);
	assert_int_equal(size, 6);
	p = cpio_find(c.data, c.len, "con", &size, &mode);
	assert_non_null(p);
	assert_int_equal(mode, S_IFCHR | 0600);
	assert_null(cpio_find(c.data, c.len, "absent", &size, &mode));
	free(c.data);

	/* Sizes beyond the format's fields are refused, not cut. */
	memset(&c, 0, sizeof(c));
	cpio_file(&c, "big", 0600, "", 1ull << 32);
	assert_int_equal(cpio_end(&c), -EFBIG);
	free(c.data);
}

/* A minimal module: section 1 is .shstrtab, section 2 .modinfo. */
static size_t make_module(u8 *buf, const char *info, size_t info_len)
{
	static const char names[] = "\0.shstrtab\0.modinfo";
	Elf64_Ehdr eh = {
		.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64},
		.e_shoff = sizeof(eh),
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = 3,
		.e_shstrndx = 1,
	};
	size_t data = sizeof(eh) + 3 * sizeof(Elf64_Shdr);
	Elf64_Shdr sh[3] = {
		[1] = {.sh_name = 1,
		       .sh_type = SHT_STRTAB,
		       .sh_offset = data,
		       .sh_size = sizeof(names)},
		[2] = {.sh_name = 11,
		       .sh_type = SHT_PROGBITS,
		       .sh_offset = data + sizeof(names),
		       .sh_size = info_len},
	};

	memcpy(buf, &eh, sizeof(eh));
	memcpy(buf + sizeof(eh), sh, sizeof(sh));
	memcpy(buf + data, names, sizeof(names));
	memcpy(buf + data + sizeof(names), info, info_len);
	return data + sizeof(names) + info_len;
}

static void test_modinfo(void **state)
{
	static const char info[] = "license=MIT\0depends=b,c\0name=a";
	u8 buf[1024];
	size_t len = make_module(buf, info, sizeof(info));
	bool ok;

	assert_string_equal(modinfo_get(buf, len, "depends", &ok), "b,c");
	assert_true(ok);
	assert_string_equal(modinfo_get(buf, len, "name", &ok), "a");
	assert_null(modinfo_get(buf, len, "depend", &ok));
	/* Any truncation: an answer or a refusal, no read beyond the end. */
	for (size_t n = 0; n < len; n++) {
		u8 *copy = malloc(n ? n : 1);

		memcpy(copy, buf, n);
		modinfo_get(copy, n, "name", &ok);
		free(copy);
	}
	/* Any byte of the headers broken in three ways. */
	for (size_t i = 0; i < sizeof(Elf64_Ehdr) + 3 * sizeof(Elf64_Shdr); i++) {
		static const u8 bad[] = { 0xff, 0x80, 0x01 };

		for (unsigned j = 0; j < sizeof(bad); j++) {
			u8 *copy = malloc(len);

			memcpy(copy, buf, len);
			copy[i] = bad[j];
			modinfo_get(copy, len, "name", &ok);
			free(copy);
		}
	}
}

static void put_file(const char *dir, const char *name, const void *data, size_t len)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	fclose(f);
}

static void put_module(const char *dir, const char *name, const char *info, size_t info_len)
{
	u8 buf[1024];

	put_file(dir, name, buf, make_module(buf, info, info_len));
}

/* Refusals log a line each, which would disturb the test protocol's reader. */
static void drop_line(void *ctx, enum log_level level, const char *line)
{
}

static void test_initrd(void **state)
{
	static const char blk[] = "depends=virtio-ring,virtio";
	static const char ring[] = "depends=virtio";
	static const char virtio[] = "depends=";
	char dir[] = "/tmp/userkvm-initrd.XXXXXX", busybox[64], cmd[64];
	struct initrd_params p = { .busybox = busybox, .modules = dir, .command = "exit 3" };
	struct initrd out;
	const u8 *list;
	u32 size, mode;

	assert_non_null(mkdtemp(dir));
	snprintf(busybox, sizeof(busybox), "%s/busybox", dir);
	put_file(dir, "busybox", "BUSY", 4);
	put_module(dir, "virtio_blk.ko", blk, sizeof(blk));
	put_module(dir, "virtio-ring.ko", ring, sizeof(ring));
	put_module(dir, "virtio.ko", virtio, sizeof(virtio));
	put_module(dir, "unwanted.ko", virtio, sizeof(virtio));

	assert_int_equal(initrd_build(&p, &out), 0);
	list = cpio_find(out.data, out.len, "userkvm/modules", &size, &mode);
	assert_non_null(list);
	assert_int_equal(
		size,
		strlen("/userkvm/virtio.ko\n/userkvm/virtio_ring.ko\n/userkvm/virtio_blk.ko\n"));
	assert_memory_equal(list,
			    "/userkvm/virtio.ko\n/userkvm/virtio_ring.ko\n/userkvm/virtio_blk.ko\n",
			    size);
	assert_null(cpio_find(out.data, out.len, "userkvm/unwanted.ko", &size, &mode));
	list = cpio_find(out.data, out.len, "userkvm/run", &size, &mode);
	assert_non_null(list);
	assert_memory_equal(list, "exit 3", 6);
	assert_non_null(cpio_find(out.data, out.len, "init", &size, &mode));
	assert_int_equal(mode, S_IFREG | 0755);
	initrd_free(&out);

	/* A dependency that is not there, a module that is none: refused. */
	log_set_sink(drop_line, NULL);
	put_module(dir, "virtio.ko", "depends=absent", 15);
	assert_int_equal(initrd_build(&p, &out), -ENOENT);
	put_file(dir, "virtio.ko", "\xfd" "7zXZ", 5);
	assert_int_equal(initrd_build(&p, &out), -ENOEXEC);
	p.busybox = "/nonexistent";
	assert_int_equal(initrd_build(&p, &out), -ENOENT);
	log_set_sink(NULL, NULL);

	snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
	assert_int_equal(system(cmd), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cpio),
		cmocka_unit_test(test_modinfo),
		cmocka_unit_test(test_initrd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
