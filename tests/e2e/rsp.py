# SPDX-License-Identifier: MIT
"""A debugger's side of the gdb remote serial protocol, as much as tests need."""
import socket
import time


class Rsp:
    def __init__(self, path, timeout=60):
        self.s = socket.socket(socket.AF_UNIX)
        end = time.monotonic() + timeout
        while True:
            try:
                self.s.connect(path)
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
        self.s.settimeout(timeout)
        self.buffer = b""

    def close(self):
        self.s.close()

    def byte(self):
        if not self.buffer:
            self.buffer = self.s.recv(4096)
            if not self.buffer:
                raise ConnectionError("the stub closed the connection")
        b, self.buffer = self.buffer[:1], self.buffer[1:]
        return b

    def send(self, text):
        data = text.encode()
        self.s.sendall(b"$" + data + b"#%02x" % (sum(data) & 0xff))

    def receive(self):
        while self.byte() != b"$":
            pass
        data = b""
        while (b := self.byte()) != b"#":
            data += b
        given = int(self.byte() + self.byte(), 16)
        if given != sum(data) & 0xff:
            raise ConnectionError("bad checksum")
        self.s.sendall(b"+")
        return data.decode()

    def ask(self, text):
        self.send(text)
        return self.receive()

    def ok(self, text):
        answer = self.ask(text)
        if answer != "OK":
            raise ConnectionError(f"{text}: {answer}")

    # ---- x86-64: 16 registers of 8 bytes, RIP, then 4 bytes of flags ----

    def registers(self):
        raw = bytes.fromhex(self.ask("g"))
        names = "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip".split()
        return {n: int.from_bytes(raw[i * 8:i * 8 + 8], "little") for i, n in enumerate(names)}

    def memory(self, address, count):
        return bytes.fromhex(self.ask(f"m{address:x},{count:x}"))

    def set_register(self, number, value):
        self.ok(f"P{number:x}={value.to_bytes(8, 'little').hex()}")

    def resume(self, how="c"):
        """Until the next stop; returns the stop reply."""
        return self.ask(how)
