# SPDX-License-Identifier: GPL-2.0-or-later
"""hostile.py OPTION...: peers that try to take the service away from others, as hostile.sh runs it.

Beside each attack a session writes and reads back what it knows, all the time, and newcomers log in. Of these no operation
may take over a second, throughput stays above a quarter of that at rest, and a newcomer is served within two seconds. The
daemon's memory stays within what it was given, and its log is not flooded.

The attacks are functions in the modules of attacks/: see attacks/__init__.py.
"""

import sys

# The library's modules come before their namesakes beside this file.
sys.path.append(sys.path.pop(0))

import argparse
import hashlib
import multiprocessing
import os
import signal
import struct
import time

import attacks
from initiator import Closed, Connection, DATA_IN, R2T, RESPONSE, keys

# What is asked of the daemon, in seconds; and what it may take beside the memory that it was given, in MiB.
OPERATION_MAX, NEWCOMER_MAX, THROUGHPUT_MIN, BESIDE_MEMORY = 1.0, 2.0, 0.25, 64
# How long an attack lasts, and how long the daemon is left alone after it.
SHORT, LONG, PAUSE = 1.2, 6.0, 0.15
REST = 0.6
SIZES = [4 << 10, 64 << 10, 256 << 10]
RANGE = 8 << 20


def session(address, target, lun, name, timeout=10):
    """A session that is ready for commands."""
    connection = Connection(address, timeout)
    connection.isid = struct.pack(">HHH", 0x8000, os.getpid() & 0xFFFF, time.monotonic_ns() & 0xFFFF)
    connection.login(target, text=keys(InitiatorName=name, SessionType="Normal", TargetName=target,
                                       MaxRecvDataSegmentLength=262144))
    answer = connection.receive()
    if answer.status:
        raise Closed(f"login refused: {answer.status:#x}")
    while connection.ready(lun):
        pass
    return connection


def content(place, turn, size):
    """Bytes that are of one write only."""
    seed = hashlib.sha256(struct.pack(">QQ", place, turn)).digest()
    return (seed * (size // len(seed) + 1))[:size]


def write(connection, lun, at, data):
    """A WRITE, with as much data at once as the session may send without being asked."""
    cdb = struct.pack(">BBIBHB", 0x2A, 0, at // 512, 0, len(data) // 512, 0)
    first = data[:65536]
    itt = connection.command(cdb, lun, 0xA0, len(data), first)
    while True:
        pdu = connection.receive()
        if pdu.opcode == R2T:
            offset, length = struct.unpack(">II", pdu.head[40:48])
            for sn, part in enumerate(range(offset, offset + length, 131072)):
                end = min(part + 131072, offset + length)
                connection.data_out(itt, pdu.ttt, data[part:end], sn, part, 0x80 if end == offset + length else 0)
        elif pdu.opcode == RESPONSE and pdu.itt == itt:
            return pdu.scsi_status


def read(connection, lun, at, size):
    cdb = struct.pack(">BBIBHB", 0x28, 0, at // 512, 0, size // 512, 0)
    itt, got = connection.command(cdb, lun, 0xC0, size), []
    while True:
        pdu = connection.receive()
        if pdu.itt == itt and pdu.opcode == DATA_IN:
            got.append(pdu.data)
            if pdu.flags & 1:
                return pdu.scsi_status, b"".join(got)
        elif pdu.itt == itt and pdu.opcode == RESPONSE:
            return pdu.scsi_status, b"".join(got)


class Verifier:
    """The verified session, in a process of its own."""

    def __init__(self, options):
        self.options = options
        # Operations, nanoseconds of the slowest, when the one under way began.
        self.count, self.worst, self.began = (multiprocessing.Value("q", 0, lock=False) for _ in range(3))
        # Its TCP port, for attacks on it.
        self.port = multiprocessing.Value("i", 0, lock=False)
        self.fault, self.told = multiprocessing.Pipe(duplex=False)
        self.process = multiprocessing.Process(target=self.run, daemon=True)
        self.process.start()

    def run(self):
        try:
            self.verify()
        except BaseException as e:  # Whatever it is, it is told.
            self.told.send(f"{type(e).__name__}: {e}")
            raise SystemExit(0)

    def timed(self, operation, *arguments):
        """Does it until the target is not busy; SAM leaves it to the initiator to try again."""
        self.began.value = time.monotonic_ns()
        while (result := operation(*arguments)) in (8, 0x28) or isinstance(result, tuple) and result[0] in (8, 0x28):
            time.sleep(0.001)
        self.worst.value = max(self.worst.value, time.monotonic_ns() - self.began.value)
        self.began.value = 0
        self.count.value += 1
        return result

    def verify(self):
        o = self.options
        c = session(o.address, o.target, o.lun, "iqn.2026-11.com.example:verified")
        self.port.value = c.socket.getsockname()[1]
        turn = 0
        while True:
            turn += 1
            size = SIZES[turn % len(SIZES)]
            at = turn * (256 << 10) % RANGE
            data = content(at, turn, size)
            status = self.timed(write, c, o.lun, at, data)
            assert status == 0, f"WRITE: status {status}"
            status, got = self.timed(read, c, o.lun, at, size)
            assert status == 0 and got == data, f"READ: status {status}, {len(got)} bytes, wrong ones: {got != data}"

    def begin(self):
        self.worst.value = 0
        self.since, self.before = time.monotonic(), self.count.value

    def end(self):
        """Operations per second, and seconds of the slowest, since begin()."""
        began, passed = self.began.value, time.monotonic() - self.since
        worst = max(self.worst.value, time.monotonic_ns() - began if began else 0) / 1e9
        return (self.count.value - self.before) / passed, worst

    def wrong(self):
        if self.fault.poll():
            return self.fault.recv()
        return None if self.process.is_alive() else "it has ended"


class Newcomers:
    """Initiators that log in, read, and go, one after the other, in a process of their own."""

    def __init__(self, options):
        self.options = options
        self.count, self.worst, self.began = (multiprocessing.Value("q", 0, lock=False) for _ in range(3))
        self.stopping = multiprocessing.Event()
        self.fault, self.told = multiprocessing.Pipe(duplex=False)
        self.process = multiprocessing.Process(target=self.run, daemon=True)
        self.process.start()

    def run(self):
        o, serial = self.options, 0
        while not self.stopping.is_set():
            serial += 1
            self.began.value = time.monotonic_ns()
            try:
                with session(o.address, o.target, o.lun, f"iqn.2026-11.com.example:newcomer.{os.getpid()}.{serial}") as c:
                    while (status := read(c, o.lun, 12 << 20, 4096)[0]) in (8, 0x28):
                        time.sleep(0.001)
                    assert status == 0, f"READ: status {status}"
            except Exception as e:
                self.told.send(f"{type(e).__name__}: {e}")
                return
            self.worst.value = max(self.worst.value, time.monotonic_ns() - self.began.value)
            self.began.value = 0
            self.count.value += 1
            time.sleep(0.1)

    def end(self):
        """How many there were, seconds of the slowest, and what went wrong."""
        self.stopping.set()
        self.process.join(0.3)
        began = self.began.value
        worst = max(self.worst.value, time.monotonic_ns() - began if began else 0) / 1e9
        self.process.kill()
        return self.count.value, worst, self.fault.recv() if self.fault.poll() else None


def resident(pid):
    """MiB of memory that is in place, without huge pages."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) // 1024


def lines(path):
    with open(path, "rb") as log:
        return log.read().count(b"\n")


def attack(options, entry, verifier, rest):
    """Runs an attack. Answers what is wrong."""
    seconds = (LONG if options.full else SHORT) * entry.length
    before = lines(options.log)
    peak = 0
    claims, broken = multiprocessing.Pipe(duplex=False)

    def hostile():
        # Whoever attacks has processors of his own.
        os.nice(5)
        os.setsid()
        try:
            entry.function(attacks.Victim(options, time.monotonic() + seconds, verifier.port.value))
        except (Closed, OSError) as e:
            print(f"    {entry.name}: {type(e).__name__}: {e}", flush=True)
        except Exception as e:
            broken.send(f"{type(e).__name__}: {e}")
        while True:
            time.sleep(1)

    process = multiprocessing.Process(target=hostile)
    verifier.begin()
    process.start()
    time.sleep(min(0.3, seconds / 4))
    newcomers = Newcomers(options)
    end = time.monotonic() + seconds - 0.3
    while time.monotonic() < end:
        peak = max(peak, resident(options.pid))
        time.sleep(0.05)
    came, slowest, fault = newcomers.end()
    rate, worst = verifier.end()
    process.kill()
    process.join()
    told = lines(options.log) - before
    wrong = [claims.recv()] if claims.poll() else []
    if not verifier.process.is_alive():
        wrong.append("the verified session has ended")
    if worst > OPERATION_MAX:
        wrong.append(f"an operation of the verified session took over {OPERATION_MAX:.0f} s")
    if rate < rest * THROUGHPUT_MIN:
        wrong.append(f"the verified session had {rate / rest:.0%} of its throughput")
    if fault or slowest > NEWCOMER_MAX or not came and seconds > NEWCOMER_MAX:
        wrong.append(f"newcomers are not served within {NEWCOMER_MAX:.0f} s: {fault or f'{came} came'}")
    if peak > options.resident + BESIDE_MEMORY:
        wrong.append(f"{peak} MiB are resident of {options.resident}")
    if told > entry.lines:
        wrong.append(f"the log has {told} new lines")
    print(f"  {entry.name:32} {rate / rest:5.0%} of {rest:.0f}/s, slowest {worst * 1000:5.0f} ms; {came:2} newcomers, slowest "
          f"{slowest * 1000:5.0f} ms; {peak} MiB, {told} lines{''.join(f'; WRONG: {what}' for what in wrong)}", flush=True)
    return wrong


def main():
    parser = argparse.ArgumentParser()
    for name in ("address", "target", "port", "log"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("lun", "pid", "resident"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("only", nargs="*")
    options = parser.parse_args()
    chosen = [entry for entry in attacks.load() if options.port in entry.ports and
              (entry.name in options.only if options.only else options.full or not entry.full)]
    assert chosen, f"no such attack: {options.only}"
    verifier = Verifier(options)
    verifier.begin()
    while verifier.count.value < 50 and not verifier.wrong():
        time.sleep(0.02)
    verifier.begin()
    time.sleep(REST)
    rest, _ = verifier.end()
    failed = []
    for entry in chosen:
        if attack(options, entry, verifier, rest):
            failed.append(entry.name)
        if fault := verifier.wrong():
            print(f"  the verified session: {fault}")
            verifier = Verifier(options)
        time.sleep(PAUSE)
    if fault := verifier.wrong():
        failed.append(f"the verified session: {fault}")
    verifier.process.kill()
    if failed:
        sys.exit(f"FAILED: {', '.join(failed)}")


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    main()
