// SPDX-License-Identifier: MIT
/* A program that loads no preload objects: linked with -static. */
int main(void)
{
	return 0;
}
