// SPDX-License-Identifier: MIT
/*
 * A client that brings a device up to DRIVER_OK and keeps it until its standard input ends: negotiate NODE.
 * Run by `userkvm run`. Says "ready" once it is.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/vhost.h>

int main(int argc, char **argv)
{
	static const uint8_t steps[] = { 1, 3, 11, 15 };
	int fd = argc == 2 ? open(argv[1], O_RDWR) : -1;
	uint64_t features;
	char c;

	if (fd < 0 || ioctl(fd, VHOST_SET_OWNER) < 0 || ioctl(fd, VHOST_GET_FEATURES, &features) < 0) {
		perror(argc == 2 ? argv[1] : "usage: negotiate NODE");
		return 1;
	}
	for (unsigned i = 0; i < sizeof(steps); i++) {
		if ((steps[i] == 11 && ioctl(fd, VHOST_SET_FEATURES, &features) < 0) ||
		    ioctl(fd, VHOST_VDPA_SET_STATUS, &steps[i]) < 0) {
			perror("negotiation");
			return 1;
		}
	}
	puts("ready");
	fflush(stdout);
	return read(0, &c, 1) < 0;
}
