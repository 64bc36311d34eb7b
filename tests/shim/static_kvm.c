// SPDX-License-Identifier: MIT
/* A client that loads no preload objects: linked with -static. Tells what it was given. */
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	volatile int whatever = access("/dev/kvm", F_OK);

	(void)whatever;
	return 10 * argc + (getenv("GIVEN") ? 1 : 0);
}
