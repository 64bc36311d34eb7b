/* SPDX-License-Identifier: MIT */
/* Integer instructions: code, state before, state after. Values are those of Intel processors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "silicon/x86/test_cpu.h"

#define CF RFLAGS_CF
#define PF RFLAGS_PF
#define AF RFLAGS_AF
#define ZF RFLAGS_ZF
#define SF RFLAGS_SF
#define OF RFLAGS_OF
#define ALL RFLAGS_ARITH
#define M T_DATA
#define NONCANON 0x800000000000ull

enum { END, RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R13 = 14, MEM = 100, MEM8, RIP };

struct val { u8 what; u64 v; };		/* a GPR + 1, the qword at M or M + 8, RIP */

struct row {
	const char *name, *code;
	u64 flags_in, flags_out;
	struct val in[6], out[6];	/* ended by END */
	int fault;			/* vector + 1, 0 = none */
	s64 error;
	u8 mode;			/* 0: 64-bit, 4: 32-bit protected, 2: 16-bit protected, 1: real */
};
#define FAULT(v) .fault = (v) + 1

static const struct row rows[] = {
	/* 32-bit results zero-extend, 8- and 16-bit results do not */
	{ "add r32", "01 d8", 0, ALL & ~(SF | OF), { { RAX, ~0ull }, { RBX, 1 } }, { { RAX, 0 } } },
	{ "add r16", "66 01 d8", 0, CF | ZF | PF | AF, { { RAX, ~0ull }, { RBX, 1 } }, { { RAX, ~0xffffull } } },
	{ "add ah, bl", "00 dc", 0, OF | SF | AF, { { RAX, 0x7f00 }, { RBX, 1 } }, { { RAX, 0x8000 } } },
	{ "add spl with REX", "40 80 c4 01", 0, 0, { { RSP, 0x1000 } }, { { RSP, 0x1001 } } },
	{ "sub borrow", "48 29 d8", 0, CF | SF | PF | AF, { { RAX, 0 }, { RBX, 1 } }, { { RAX, ~0ull } } },
	{ "cmp overflow", "48 39 d8", 0, OF | AF | PF, { { RAX, 1ull << 63 }, { RBX, 1 } }, { { RAX, 1ull << 63 } } },
	{ "adc carry chain", "48 11 d8", CF, CF | AF | ZF | PF, { { RAX, 0 }, { RBX, ~0ull } }, { { RAX, 0 } } },
	{ "sbb self", "19 c0", CF, CF | AF | SF | PF, { { RAX, 5 } }, { { RAX, 0xffffffff } } },
	{ "inc keeps CF", "ff c0", CF, CF | OF | SF | AF | PF, { { RAX, 0x7fffffff } }, { { RAX, 0x80000000 } } },
	{ "dec keeps CF clear", "ff c8", 0, SF | AF | PF, { { RAX, 0 } }, { { RAX, 0xffffffff } } },
	{ "neg 0", "f7 d8", ALL, ZF | PF, { { RAX, 0 } }, { { RAX, 0 } } },
	{ "not keeps flags", "f7 d0", ALL, ALL, { { RAX, 0 } }, { { RAX, 0xffffffff } } },
	{ "and clears AF", "21 d8", ALL, ZF | PF, { { RAX, 1 }, { RBX, 2 } }, { { RAX, 0 } } },
	{ "test /1 alias", "f6 c8 80", 0, SF, { { RAX, 0x80 } }, { { RAX, 0x80 } } },
	{ "add al, imm", "04 ff", 0, CF | ZF | PF | AF, { { RAX, 1 } }, { { RAX, 0 } } },
	{ "lock add mem", "f0 48 01 1e", 0, PF, { { RSI, M }, { MEM, 1 }, { RBX, 2 } }, { { MEM, 3 } } },
	{ "lock add reg", "f0 48 01 d8", 0, 0, FAULT(X86_UD) },
	{ "lock cmp mem", "f0 39 1e", 0, 0, { { RSI, M } }, FAULT(X86_UD) },
	{ "lock mov", "f0 89 1e", 0, 0, { { RSI, M } }, FAULT(X86_UD) },
	{ "lock bt", "f0 0f a3 1e", 0, 0, { { RSI, M } }, FAULT(X86_UD) },
	{ "lock xchg", "f0 87 1e", ALL, ALL, { { RSI, M }, { MEM, 7 }, { RBX, 9 } }, { { MEM, 9 }, { RBX, 7 } } },

	/* moves */
	{ "mov imm sign-extends", "48 c7 c0 ff ff ff ff", 0, 0, { { END } }, { { RAX, ~0ull } } },
	{ "movabs", "48 b8 88 77 66 55 44 33 22 11", 0, 0, { { END } }, { { RAX, 0x1122334455667788 } } },
	{ "mov store byte high", "88 26", 0, 0, { { RSI, M }, { RAX, 0xab00 } }, { { MEM, 0xab } } },
	{ "movzx", "0f b6 06", 0, 0, { { RSI, M }, { MEM, 0xff80 }, { RAX, ~0ull } }, { { RAX, 0x80 } } },
	{ "movsx r64, m8", "48 0f be 06", 0, 0, { { RSI, M }, { MEM, 0x80 } }, { { RAX, (u64)-128 } } },
	{ "movsxd r32", "63 c3", 0, 0, { { RBX, ~0ull } }, { { RAX, 0xffffffff } } },
	{ "movsxd 66", "66 63 c3", 0, 0, { { RBX, ~0ull }, { RAX, 0 } }, { { RAX, 0xffff } } },
	{ "rex before 66 is ignored", "48 66 89 c1", 0, 0, { { RAX, ~0ull }, { RCX, 0 } }, { { RCX, 0xffff } } },
	{ "rex.w beats 66", "66 48 89 c1", 0, 0, { { RAX, ~0ull } }, { { RCX, ~0ull } } },
	{ "lea never faults", "48 8d 04 33", 0, 0, { { RBX, NONCANON }, { RSI, 1 } }, { { RAX, NONCANON + 1 } } },
	{ "lea 67", "67 48 8d 04 33", 0, 0, { { RBX, ~0ull }, { RSI, 2 } }, { { RAX, 1 } } },
	{ "lea reg", "8d c0", 0, 0, FAULT(X86_UD) },
	{ "rip-relative", "8b 05 f9 6f 00 00", 0, 0, { { MEM, 0 } }, { { RAX, 0 } } },
	{ "bswap 16 clears", "66 0f c8", 0, 0, { { RAX, 0x12345678 } }, { { RAX, 0x12340000 } } },
	{ "bswap 64", "48 0f c8", 0, 0, { { RAX, 0x0102030405060708 } }, { { RAX, 0x0807060504030201 } } },
	{ "movbe", "48 0f 38 f0 06", 0, 0, { { RSI, M }, { MEM, 1 } }, { { RAX, 1ull << 56 } } },
	{ "cmov false zero-extends", "0f 44 c3", 0, 0, { { RAX, ~0ull }, { RBX, 5 } }, { { RAX, 0xffffffff } } },
	{ "cmov false reads", "0f 44 06", 0, 0, { { RSI, T_UNMAPPED } }, FAULT(X86_PF) },
	{ "setcc", "0f 9c 06", SF, SF, { { RSI, M }, { MEM, 0xff00 } }, { { MEM, 0xff01 } } },
	{ "xlat", "d7", 0, 0, { { RBX, M }, { RAX, 3 }, { MEM, 0x44332211 } }, { { RAX, 0x44 } } },
	{ "lahf", "9f", ALL & ~OF, ALL & ~OF, { { RAX, 0 } }, { { RAX, 0xd700 } } },
	{ "sahf keeps OF", "9e", OF, OF | CF, { { RAX, 0x0100 } }, { { RAX, 0x0100 } } },
	{ "nop 90 keeps upper", "90", 0, 0, { { RAX, ~0ull } }, { { RAX, ~0ull } } },
	{ "xchg eax zero-extends", "87 c0", 0, 0, { { RAX, ~0ull } }, { { RAX, 0xffffffff } } },
	{ "41 90 exchanges r8", "49 90", 0, 0, { { RAX, 1 }, { R8, 2 } }, { { RAX, 2 }, { R8, 1 } } },

	/* addresses: SS by base register, canonical checks */
	{ "noncanonical #GP", "8b 06", 0, 0, { { RSI, NONCANON } }, FAULT(X86_GP) },
	{ "noncanonical rbp #SS", "8b 45 00", 0, 0, { { RBP, NONCANON } }, FAULT(X86_SS_FAULT) },
	{ "rbp index is not a base", "8b 04 2e", 0, 0, { { RBP, NONCANON } }, FAULT(X86_GP) },
	{ "r13 base is DS", "41 8b 45 00", 0, 0, { { R13, NONCANON } }, FAULT(X86_GP) },
	{ "ss override ignored", "36 8b 06", 0, 0, { { RSI, NONCANON } }, FAULT(X86_GP) },
	{ "ds override on rbp ignored", "3e 8b 45 00", 0, 0, { { RBP, NONCANON } }, FAULT(X86_SS_FAULT) },
	{ "straddles canonical end", "48 8b 06", 0, 0, { { RSI, NONCANON - 4 } }, FAULT(X86_GP) },
	{ "push noncanonical #SS", "50", 0, 0, { { RSP, NONCANON + 8 } }, { { RSP, NONCANON + 8 } }, FAULT(X86_SS_FAULT) },

	/* shifts */
	{ "shl by 0 keeps flags", "c1 e0 00", ALL, ALL, { { RAX, ~0ull } }, { { RAX, 0xffffffff } } },
	{ "shl OF as for 1", "c1 e0 04", 0, OF | ZF | PF, { { RAX, 0x80000000 } }, { { RAX, 0 } } },
	{ "shr 8 by 9", "c0 e8 09", CF | AF, ZF | PF | OF, { { RAX, 0x80 } }, { { RAX, 0 } } },
	{ "sar 8 by 31", "c0 f8 1f", 0, CF | SF | PF, { { RAX, 0x80 } }, { { RAX, 0xff } } },
	{ "shl /6 alias", "d1 f0", 0, 0, { { RAX, 1 } }, { { RAX, 2 } } },
	{ "rcl 8 mod 9", "c0 d0 09", ALL, ALL, { { RAX, 0x5a } }, { { RAX, 0x5a } } },
	{ "rcr through CF", "d1 d8", CF, OF, { { RAX, 0 } }, { { RAX, 0x80000000 } } },
	{ "rol 16 by 16 sets CF", "66 d3 c0", 0, CF, { { RAX, 1 }, { RCX, 16 } }, { { RAX, 1 } } },
	{ "shld 16 by 20", "66 0f a4 d8 14", 0, SF | CF, { { RAX, 0x1234 }, { RBX, 0x5c09 } },
	  { { RAX, 0xc091 } } },
	{ "shrd", "0f ac d8 08", 0, SF | OF | PF, { { RAX, 0x12345678 }, { RBX, 0xab } }, { { RAX, 0xab123456 } } },
	{ "shr by 0 on read-only page", "d3 2e", 0, 0, { { RSI, T_MEM + 0x20000 }, { RCX, 0 } },
	  FAULT(X86_PF), .error = 3 },

	/* multiplication and division */
	{ "mul overflow", "f7 e3", ZF, CF | OF, { { RAX, 0x80000001 }, { RBX, 2 } }, { { RAX, 2 }, { RDX, 1 } } },
	{ "imul 3", "6b c3 fe", 0, SF, { { RBX, 1 } }, { { RAX, 0xfffffffe } } },
	{ "imul 64 overflow", "48 0f af c3", 0, CF | OF | PF, { { RAX, 1ull << 62 }, { RBX, 4 } }, { { RAX, 0 } } },
	{ "div", "48 f7 f3", ALL, ALL, { { RDX, 1 }, { RAX, 0 }, { RBX, 2 } }, { { RAX, 1ull << 63 }, { RDX, 0 } } },
	{ "div overflow", "48 f7 f3", ALL, ALL, { { RDX, 2 }, { RAX, 7 }, { RBX, 2 } }, { { RAX, 7 }, { RDX, 2 } },
	  FAULT(X86_DE) },
	{ "div zero", "f7 f3", 0, 0, { { RBX, 0 } }, FAULT(X86_DE) },
	{ "idiv min by -1", "48 f7 fb", 0, 0, { { RDX, ~0ull }, { RAX, 1ull << 63 }, { RBX, ~0ull } }, FAULT(X86_DE) },
	{ "idiv min 128", "48 f7 fb", 0, 0, { { RDX, 1ull << 63 }, { RAX, 0 }, { RBX, ~0ull } }, FAULT(X86_DE) },
	{ "idiv signs", "f7 fb", 0, 0, { { RDX, 0xffffffff }, { RAX, (u32)-7 }, { RBX, 2 } },
	  { { RAX, (u32)-3 }, { RDX, (u32)-1 } } },
	{ "idiv 8 to -128", "f6 fb", 0, 0, { { RAX, 0xff80 }, { RBX, 1 } }, { { RAX, 0x0080 } } },

	/* bits */
	{ "bsf of 0 keeps 64 bits", "0f bc c3", ALL, ZF | PF, { { RAX, ~0ull }, { RBX, 0 } }, { { RAX, ~0ull } } },
	{ "bsr", "0f bd c3", ALL, 0, { { RBX, 0x80000000 } }, { { RAX, 31 } } },
	{ "tzcnt of 0", "f3 0f bc c3", 0, CF, { { RBX, 0 } }, { { RAX, 32 } } },
	{ "lzcnt 16", "66 f3 0f bd c3", ALL, ZF, { { RBX, 0x8000 }, { RAX, 0 } }, { { RAX, 0 } } },
	{ "popcnt, last prefix wins", "f2 f3 0f b8 c3", ALL, 0, { { RBX, 0xff } }, { { RAX, 8 } } },
	{ "f3 f2 0f b8", "f3 f2 0f b8 c3", 0, 0, FAULT(X86_UD) },
	{ "bt negative offset", "48 0f a3 1e", 0, CF, { { RSI, M + 8 }, { RBX, (u64)-1 }, { MEM, 1ull << 63 } },
	  { { MEM, 1ull << 63 } } },
	{ "bts mem far", "0f ab 1e", 0, 0, { { RSI, M }, { RBX, 64 } }, { { MEM8, 1 } } },
	{ "btc imm masks offset", "0f ba f8 21", 0, 0, { { RAX, 0 } }, { { RAX, 2 } } },
	{ "andn", "c4 e2 60 f2 c1", ALL, 0, { { RBX, 0xf0 }, { RCX, 0xff } }, { { RAX, 0x0f } } },
	{ "bzhi beyond", "c4 e2 60 f5 c1", 0, CF | SF, { { RBX, 200 }, { RCX, ~0ull } }, { { RAX, 0xffffffff } } },
	{ "pdep", "c4 e2 63 f5 c1", ALL, ALL, { { RBX, 5 }, { RCX, 0xf0 } }, { { RAX, 0x50 } } },
	{ "pext", "c4 e2 62 f5 c1", ALL, ALL, { { RBX, 0x50 }, { RCX, 0xf0 } }, { { RAX, 5 } } },
	{ "mulx equal destinations", "c4 e2 7b f6 c1", 0, 0, { { RDX, 0x80000000 }, { RCX, 2 } }, { { RAX, 1 } } },
	{ "rorx vvvv must be unused", "c4 e3 63 f0 c1 01", 0, 0, FAULT(X86_UD) },
	{ "vex after 66", "66 c4 e2 60 f2 c1", 0, 0, FAULT(X86_UD) },
	{ "vex after rex", "40 c4 e2 60 f2 c1", 0, 0, FAULT(X86_UD) },
	{ "adox leaves CF", "f3 0f 38 f6 c3", CF, CF | OF, { { RAX, ~0u }, { RBX, 1 } }, { { RAX, 0 } } },
	{ "crc32", "f2 48 0f 38 f1 c3", 0, 0, { { RAX, 0 }, { RBX, 1 } }, { { RAX, 0x493c7d27 } } },

	/* compare and exchange */
	{ "cmpxchg equal", "0f b1 cb", 0, ZF | PF, { { RAX, 0xffffffff00000005 }, { RBX, 5 }, { RCX, ~0ull } },
	  { { RAX, 0xffffffff00000005 }, { RBX, 0xffffffff } } },
	{ "cmpxchg differs", "0f b1 cb", 0, CF | SF | PF | AF, { { RAX, 4 }, { RBX, ~0ull << 32 | 5 } },
	  { { RAX, 5 }, { RBX, ~0ull << 32 | 5 } } },
	{ "cmpxchg failing writes", "0f b1 0e", 0, 0, { { RSI, T_MEM + 0x20000 }, { RAX, 99 } }, FAULT(X86_PF),
	  .error = 3 },
	{ "xadd same register", "0f c1 c0", 0, PF, { { RAX, 3 } }, { { RAX, 6 } } },
	{ "cmpxchg8b differs", "0f c7 0e", ALL, ALL & ~ZF, { { RSI, M }, { MEM, 0x0000000200000001 }, { RAX, ~0ull } },
	  { { RAX, 1 }, { RDX, 2 } } },
	{ "cmpxchg16b", "f0 48 0f c7 0e", 0, ZF, { { RSI, M }, { RBX, 1 }, { RCX, 2 } }, { { MEM, 1 }, { MEM8, 2 } } },
	{ "cmpxchg16b misaligned", "48 0f c7 0e", 0, 0, { { RSI, T_UNMAPPED + 8 } }, FAULT(X86_GP) },

	/* stack */
	{ "push rsp", "54", 0, 0, { { RSP, M + 8 } }, { { RSP, M }, { MEM, M + 8 } } },
	{ "pop rsp", "5c", 0, 0, { { RSP, M }, { MEM, 77 } }, { { RSP, 77 } } },
	{ "pop [rsp]", "8f 04 24", 0, 0, { { RSP, M }, { MEM, 77 } }, { { RSP, M + 8 }, { MEM8, 77 } } },
	{ "push imm8", "6a ff", 0, 0, { { RSP, M + 8 } }, { { MEM, ~0ull } } },
	{ "push 66", "66 6a ff", 0, 0, { { RSP, M + 8 } }, { { RSP, M + 6 }, { MEM, 0xffffull << 48 } } },
	{ "leave", "c9", 0, 0, { { RBP, M }, { MEM, 5 } }, { { RSP, M + 8 }, { RBP, 5 } } },
	{ "enter", "c8 08 00 00", 0, 0, { { RSP, M + 16 }, { RBP, 9 } }, { { RSP, M }, { RBP, M + 8 }, { MEM8, 9 } } },
	{ "enter probes", "c8 00 80 00", 0, 0, { { RSP, T_MEM + 0x8000 } }, { { RSP, T_MEM + 0x8000 } },
	  FAULT(X86_PF), .error = 2 },

	/* branches */
	{ "jmp 66 is ignored", "66 eb 10", 0, 0, { { END } }, { { RIP, T_CODE + 0x13 } } },
	{ "call noncanonical", "ff d0", 0, 0, { { RAX, NONCANON }, { RSP, M + 8 }, { MEM, 1 } },
	  { { RSP, M + 8 }, { MEM, 1 }, { RIP, T_CODE } }, FAULT(X86_GP) },
	{ "ret noncanonical", "c3", 0, 0, { { RSP, M }, { MEM, NONCANON } }, { { RSP, M } }, FAULT(X86_GP) },
	{ "ret imm", "c2 10 00", 0, 0, { { RSP, M }, { MEM, T_CODE } }, { { RSP, M + 24 }, { RIP, T_CODE } } },
	{ "loop 67 zero-extends", "67 e2 10", 0, 0, { { RCX, ~0ull << 32 | 2 } }, { { RCX, 1 }, { RIP, T_CODE + 0x13 } } },
	{ "jrcxz", "e3 10", 0, 0, { { RCX, 1ull << 32 } }, { { RIP, T_CODE + 2 } } },
	{ "jecxz", "67 e3 10", 0, 0, { { RCX, 1ull << 32 } }, { { RIP, T_CODE + 0x13 } } },

	/* strings */
	{ "rep count 0, bad pointers", "f3 a4", 0, 0, { { RCX, 0 }, { RSI, NONCANON } }, { { RSI, NONCANON } } },
	{ "rep a32 count 0", "67 f3 a4", 0, 0, { { RCX, 1ull << 32 }, { RSI, ~0ull }, { RDI, ~0ull } },
	  { { RCX, 0 }, { RSI, 0xffffffff }, { RDI, 0xffffffff } } },
	{ "rep stosb", "f3 aa", 0, 0, { { RCX, 8 }, { RDI, M }, { RAX, 0x5a } },
	  { { RCX, 0 }, { RDI, M + 8 }, { MEM, 0x5a5a5a5a5a5a5a5a } } },
	{ "rep movsb overlap repeats", "f3 a4", 0, 0, { { RCX, 7 }, { RSI, M }, { RDI, M + 1 }, { MEM, 0x41 } },
	  { { MEM, 0x4141414141414141 } } },
	{ "repne scasb", "f2 ae", 0, ZF | PF, { { RCX, 100 }, { RDI, M }, { MEM, 0x0011223344556677 }, { RAX, 0x33 } },
	  { { RCX, 95 }, { RDI, M + 5 } } },
	{ "repe cmpsb restores flags on a fault", "f3 a6", ALL, ALL,
	  { { RCX, 100 }, { RSI, T_MEM + 0xffff8 }, { RDI, T_MEM + 0xfeff8 } },
	  { { RCX, 92 }, { RSI, T_MEM + T_SIZE } }, FAULT(X86_PF) },

	/* not there */
	{ "0f 0a", "0f 0a", 0, 0, FAULT(X86_UD) },
	{ "push es in 64", "06", 0, 0, FAULT(X86_UD) },
	{ "82 in 64", "82 c0 01", 0, 0, FAULT(X86_UD) },
	{ "ud2", "0f 0b", 0, 0, FAULT(X86_UD) },
	{ "evex", "62 f1 7c 48 58 c0", 0, 0, FAULT(X86_UD) },
	{ "c6 /1", "c6 c8 00", 0, 0, FAULT(X86_UD) },
	{ "0f c7 /0", "0f c7 06", 0, 0, FAULT(X86_UD) },
	{ "3dnow", "0f 0f c0 bf", 0, 0, FAULT(X86_UD) },
	{ "hint nop reads nothing", "0f 1f 06", 0, 0, { { RSI, NONCANON } } },
	{ "endbr is a nop", "f3 0f 1e fa", 0, 0 },
	{ "0f 0d /7 is a nop", "0f 0d 3e", 0, 0, { { RSI, NONCANON } } },
	{ "prefetch", "0f 18 0e", 0, 0, { { RSI, NONCANON } } },
	{ "clflush translates", "0f ae 3e", 0, 0, { { RSI, T_UNMAPPED } }, FAULT(X86_PF), .error = 0 },
	{ "15 bytes", "66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", 0, 0, { { END } }, { { RIP, T_CODE + 15 } } },
	{ "16 bytes", "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", 0, 0, FAULT(X86_GP) },

	/* protected mode, 32-bit */
	{ "pusha", "60", 0, 0, { { RSP, M + 32 }, { RAX, 1 }, { RDI, 8 }, { RSI, 7 } },
	  { { RSP, M }, { MEM, 7ull << 32 | 8 } }, .mode = 4 },
	{ "salc", "d6", CF, CF, { { RAX, 0 } }, { { RAX, 0xff } }, .mode = 4 },
	{ "82 alias", "82 c0 01", 0, 0, { { RAX, 1 } }, { { RAX, 2 } }, .mode = 4 },
	{ "lock 82", "f0 82 06 01", 0, 0, { { RSI, M }, { MEM, 1 } }, { { MEM, 2 } }, .mode = 4 },
	{ "aaa carries twice", "37", 0, CF | AF | ZF | PF, { { RAX, 0x00fa } }, { { RAX, 0x0200 } }, .mode = 4 },
	{ "daa", "27", AF, CF | AF, { { RAX, 0x9b } }, { { RAX, 0x01 } }, .mode = 4 },
	{ "aam 0", "d4 00", 0, 0, FAULT(X86_DE), .mode = 4 },
	{ "aam", "d4 0a", ALL, PF, { { RAX, 63 } }, { { RAX, 0x0603 } }, .mode = 4 },
	{ "aad", "d5 0a", 0, 0, { { RAX, 0x0201 } }, { { RAX, 21 } }, .mode = 4 },
	{ "bound", "62 06", 0, 0, { { RSI, M }, { RAX, 5 }, { MEM, 4ull << 32 | 1 } }, FAULT(X86_BR), .mode = 4 },
	{ "jmp 66 truncates EIP", "66 eb 10", 0, 0, { { END } }, { { RIP, 0x1013 } }, .mode = 4 },
	{ "66 leave", "66 c9", 0, 0, { { RBP, M }, { MEM, 5 } }, { { RSP, M + 2 }, { RBP, (M & ~0xffffull) | 5 } },
	  .mode = 4 },

	/* real mode */
	{ "vex in real mode", "c5 f8 77", 0, 0, FAULT(X86_UD), .mode = 1 },
	{ "arpl in real mode", "63 c0", 0, 0, FAULT(X86_UD), .mode = 1 },
	{ "bp is SS, beyond the limit", "66 8b 46 ff", 0, 0, { { RBP, 0xffff } }, FAULT(X86_SS_FAULT), .mode = 1 },
	{ "wraps at 64 KiB", "8b 40 02", 0, 0, { { RBX, 0x7fff }, { RSI, 0xffff } }, { { RAX, 0 } }, .mode = 1 },
	{ "bx+si 66", "66 8b 00", 0, 0, { { RBX, 0x7000 }, { RSI, 0x1000 }, { MEM, 0x12345678 } },
	  { { RAX, 0x12345678 } }, .mode = 1 },
};

static struct x86_cpu *cpu;

static u64 *place(unsigned what)
{
	if (what == MEM)
		return (u64 *)test_mem(M);
	if (what == MEM8)
		return (u64 *)test_mem(M + 8);
	return what == RIP ? &cpu->rip : &cpu->gpr[what - RAX];
}

static void set_mode(unsigned mode)
{
	switch (mode) {
	case 0: test_mode(cpu, X86_MODE_64, 8); break;
	case 1: test_mode(cpu, X86_MODE_REAL, 2); break;
	case 2: test_mode(cpu, X86_MODE_PROT, 2); break;
	default: test_mode(cpu, X86_MODE_PROT, 4);
	}
	if (mode == 0)
		*test_pte(T_MEM + 0x20000) &= ~2ull;	/* a read-only page */
}

static unsigned failures;
#define WRONG(...) (print_error(__VA_ARGS__), failures++)

static void check_row(const struct row *r)
{
	int fault;

	set_mode(r->mode);
	test_hex(test_mem(T_CODE), r->code);
	for (const struct val *v = r->in; v->what != END; v++)
		*place(v->what) = v->v;
	x86_set_rflags(cpu, r->flags_in | RFLAGS_1);
	fault = test_step(cpu);
	if (fault + 1 != r->fault)
		WRONG("%s: vector %d, wanted %d\n", r->name, fault, r->fault - 1);
	if (fault == X86_PF && r->error && cpu->fault.error != r->error)
		WRONG("%s: error %x\n", r->name, cpu->fault.error);
	if (x86_get_arith(cpu) != (r->fault ? r->flags_in : r->flags_out))
		WRONG("%s: flags %lx\n", r->name, x86_get_arith(cpu));
	for (const struct val *v = r->out; v->what != END; v++)
		if (*place(v->what) != v->v)
			WRONG("%s: %u is %lx, wanted %lx\n", r->name, v->what, *place(v->what), v->v);
}

static void test_rows(void **state)
{
	failures = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		check_row(&rows[i]);
	assert_int_equal(failures, 0);
}

/* A store that crosses into a page that cannot be written leaves no trace in the first. */
static void test_crossing_store(void **state)
{
	set_mode(0);
	test_hex(test_mem(T_CODE), "48 89 06");
	cpu->gpr[X86_RSI] = T_MEM + 0x20000 - 4;
	cpu->gpr[X86_RAX] = ~0ull;
	assert_int_equal(test_step(cpu), X86_PF);
	assert_int_equal(cpu->fault.payload, T_MEM + 0x20000);
	assert_int_equal(*(u32 *)test_mem(T_MEM + 0x20000 - 4), 0);
}

/* Page end: what is missing is fetched only if it is needed. */
static void test_fetch_order(void **state)
{
	static const struct { const char *code; int fault; } order[] = {
		{ "0f 0a", X86_UD }, { "06", X86_UD }, { "8b", X86_PF }, { "f0 89", X86_PF }, { "0f ff", X86_PF },
		{ "0f 0b", X86_UD }, { "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66", X86_GP },
		{ "66 66 66 66 66 66 66 66 66 66 66 66 66 66", X86_PF },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(order); i++) {
		u8 code[16];
		unsigned n = test_hex(code, order[i].code);

		set_mode(0);
		*test_pte(T_CODE + PAGE_SIZE) = 0;
		memcpy(test_mem(T_CODE + PAGE_SIZE - n), code, n);
		cpu->rip = T_CODE + PAGE_SIZE - n;
		if (test_step(cpu) != order[i].fault)
			fail_msg("%s: vector %d", order[i].code, cpu->fault.vector);
		if (order[i].fault == X86_PF)
			assert_int_equal(cpu->fault.payload, T_CODE + PAGE_SIZE);
	}
}

static int setup(void **state)
{
	cpu = test_cpu_new();
	return 0;
}

static int teardown(void **state)
{
	test_cpu_free(cpu);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_crossing_store),
		cmocka_unit_test(test_fetch_order),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
