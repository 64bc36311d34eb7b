# SPDX-License-Identifier: MIT
"""A QEMU under `userkvm run`: its serial console, its monitor (QMP), its end.

Knows nothing of single scenarios. Whoever makes a Qemu() uses it in a `with`
statement: the process is gone after it, whatever happened.
"""
import json
import os
import signal
import socket
import subprocess
import threading
import time

QEMU = "qemu-system-x86_64"
# Interpreted guests are slower by an order of magnitude.
PATIENCE = 6 if os.environ.get("USERKVM_ENGINE") == "interp" else 1
GUEST = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "userkvm/guest/current")


class Failure(Exception):
    """What a scenario did not find as it should be."""


class Qemu:
    def __init__(self, userkvm, folder, name, args, accel="kvm", run_args=(), kernel_args=(), before=(),
                 env=None):
        self.folder, self.name = folder, name
        self.text = b""
        self.more = threading.Condition()
        self.qmp_path = os.path.join(folder, name + ".qmp")
        # The guest's console is the standard output; the monitor has a socket of its own.
        # @before: a program that starts it. @env: variables that differ.
        command = [userkvm, "run", *run_args, "--", *before, QEMU, "-accel", accel, "-display", "none",
                   "-nodefaults", "-serial", "stdio", "-no-reboot",
                   "-qmp", f"unix:{self.qmp_path},server=on,wait=off", *args, *kernel_args]
        self.stderr_path = os.path.join(folder, name + ".err")
        with open(self.stderr_path, "wb") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err,
                                            env={**os.environ, **(env or {})})
        self.reader = threading.Thread(target=self.read_console, daemon=True)
        self.reader.start()
        self.qmp_socket = None

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.kill()

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.reader.join(10)
        if self.qmp_socket:
            self.qmp_socket.close()
            self.qmp_socket = None
        if os.path.exists(self.qmp_path):
            os.unlink(self.qmp_path)

    def stderr(self):
        with open(self.stderr_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    # ---- console ----

    def read_console(self):
        while True:
            piece = os.read(self.process.stdout.fileno(), 65536)
            with self.more:
                self.text += piece
                self.more.notify_all()
            if not piece:
                return

    def wait_for(self, wanted, timeout=120, start=0):
        """Until @wanted is on the console behind offset @start. Returns the offset behind it."""
        wanted = wanted.encode()
        end = time.monotonic() + timeout * PATIENCE
        with self.more:
            while (at := self.text.find(wanted, start)) < 0:
                left = end - time.monotonic()
                if left <= 0 or (self.process.poll() is not None and not self.reader.is_alive()):
                    why = "time is over" if left <= 0 else f"QEMU ended with {self.process.poll()}"
                    raise Failure(f"{self.name}: no {wanted!r} on the console: {why}; it ends with "
                                  f"{self.text[-300:]!r}; {self.stderr()[:500]}")
                self.more.wait(min(left, 1))
            return at + len(wanted)

    def type(self, line):
        """Returns where the console's text was before."""
        with self.more:
            at = len(self.text)
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        return at

    def wait_end(self, timeout=120, status=0):
        try:
            got = self.process.wait(timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} does not end; console: {self.text[-300:]!r}; {self.stderr()[:500]}") from None
        if got != status:
            raise Failure(f"{self.name} ended with {got}, not {status}; console: {self.text[-300:]!r}; "
                          f"{self.stderr()[:500]}")

    # ---- monitor ----

    def qmp(self, command, timeout=120, **arguments):
        if not self.qmp_socket:
            self.qmp_connect()
        request = {"execute": command}
        if arguments:
            request["arguments"] = {k.replace("_", "-"): v for k, v in arguments.items()}
        self.qmp_socket.settimeout(timeout * PATIENCE)
        self.qmp_file.write(json.dumps(request) + "\n")
        self.qmp_file.flush()
        while True:
            answer = json.loads(self.qmp_line())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise Failure(f"{self.name}: {command}: {answer['error']['desc']}")

    def qmp_line(self):
        line = self.qmp_file.readline()
        if not line:
            raise Failure(f"{self.name}: the monitor is gone: {self.stderr()[:500]}")
        return line

    def qmp_connect(self):
        s = socket.socket(socket.AF_UNIX)
        end = time.monotonic() + 60
        while True:
            try:
                s.connect(self.qmp_path)
                break
            except OSError as e:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise Failure(f"{self.name}: no monitor: {e}; {self.stderr()[:500]}") from None
                time.sleep(0.05)
        s.settimeout(60)
        self.qmp_socket, self.qmp_file = s, s.makefile("rw")
        self.qmp_line()
        self.qmp("qmp_capabilities")

    def hmp(self, line, timeout=300):
        said = self.qmp("human-monitor-command", timeout=timeout, command_line=line)
        if "rror" in said:
            raise Failure(f"{self.name}: {line}: {said.strip()}")
        return said

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
