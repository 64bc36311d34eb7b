# SPDX-License-Identifier: MIT
# Runs in the compiler's root, in a guest and on the host: writes $1 C files, compiles each, links them,
# runs the program, and prints one checksum of all objects and one of what the program says.
set -e
n=$1
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin
mkdir -p /tmp/src
cd /tmp/src
awk -v n="$n" '
function rnd(m) { seed = (seed * 16807) % 2147483647; return seed % m }
function expr(d) {
	if (d <= 0)
		return rnd(3) ? substr("abcx", rnd(4) + 1, 1) : rnd(100000) + 1
	return "(" expr(d - 1) " " substr("+-*&|^", rnd(6) + 1, 1) " " expr(d - 1 - rnd(2)) ")"
}
BEGIN {
	seed = 20261120
	for (f = 0; f < n; f++) {
		out = "f" f ".c"
		print "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <stdint.h>\n#include <math.h>" >out
		print "struct s" f " { uint32_t v[" rnd(30) + 4 "]; double d; char name[" rnd(20) + 8 "]; };" >out
		print "static const char text" f "[] = \"file " f "\";" >out
		for (i = 0; i < 6 + rnd(6); i++) {
			print "static uint32_t g" i "(uint32_t a, uint32_t b, uint32_t c)\n{\n\tuint32_t x = " rnd(1000000) ";\n" >out
			print "\tfor (uint32_t i = 0; i < " rnd(20) + 1 "; i++) {\n\t\tx += " expr(4) ";" >out
			print "\t\tswitch (x % 5) {\n\t\tcase 0: a ^= x >> 3; break;\n\t\tcase 1: b += " expr(2) "; break;" >out
			print "\t\tcase 2: c = " expr(3) "; break;\n\t\tdefault: x = x * 1664525u + 1013904223u; }\n\t}\n\treturn x ^ a ^ b ^ c;\n}\n" >out
		}
		print "uint32_t run" f "(uint32_t x)\n{\n\tstruct s" f " s;\n\tmemset(&s, 0, sizeof(s));" >out
		print "\tsnprintf(s.name, sizeof(s.name), \"%u\", x);\n\ts.d = x * 0.5 + strlen(text" f ");" >out
		for (k = 0; k < i; k++)
			print "\tx = g" k "(x, x >> 7, (uint32_t)s.d + s.name[0]);" >out
		print "\treturn x;\n}" >out
		close(out)
	}
	print "#include <stdio.h>\n#include <stdint.h>" >"main.c"
	for (f = 0; f < n; f++)
		print "uint32_t run" f "(uint32_t);" >"main.c"
	print "int main(void)\n{\n\tuint32_t x = 1;" >"main.c"
	for (f = 0; f < n; f++)
		print "\tx = run" f "(x); printf(\"%u\\n\", x);" >"main.c"
	print "\treturn 0;\n}" >"main.c"
}'
for c in *.c; do
	tcc -c "$c" -o "${c%.c}.o"
done
tcc -o all *.o -lm
./all >said
cat $(ls *.o | sort) | sha256sum | cut -d' ' -f1
sha256sum <said | cut -d' ' -f1
