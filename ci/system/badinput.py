# SPDX-License-Identifier: GPL-2.0-or-later
"""badinput.py ADDRESS TARGET LUN PID: peers that lie, stop halfway or come in thousands.

Each of them gets a clear answer or a closed connection, another session is served meanwhile, and the target's memory
stays bounded. Each line tells how many transfers of 4 KiB the other session has made meanwhile and how long the slowest
has taken, and the target's resident memory.
"""

import random
import resource
import socket
import struct
import sys
import threading
import time

from initiator import (COMMAND, DATA_OUT, IMMEDIATE, LOGIN_DONE, LOGOUT, LOGOUT_DONE, NO_TAG, NOP_IN, NOP_OUT, R2T, REJECT,
                       RESPONSE, SNACK, TASK, TASK_DONE, TEXT, TEXT_DONE, Closed, Connection, bhs, keys)

ADDRESS, TARGET, LUN, PID = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
WRITE8 = struct.pack(">BBIBHB", 0x2A, 0, 0, 0, 8, 0)
READ8 = struct.pack(">BBIBHB", 0x28, 0, 0, 0, 8, 0)
PATTERN = bytes(range(256)) * 16
CASES = []


def case(*outcomes, alone=False):
    """A case answers with one of these: closed, refused, reject, check, good, answer, silence. One that may happen to reset
    or to erase the disk is alone with it: the other session waits."""
    def add(function):
        CASES.append((function, outcomes, alone))
        return function
    return add


def outcome(connection):
    """What comes of what was sent."""
    while True:
        try:
            pdu = connection.receive()
        except Closed:
            return "closed"
        except socket.timeout:
            return "silence"
        if pdu.opcode == LOGIN_DONE:
            if pdu.status_class:
                return "refused"
        elif pdu.opcode == REJECT:
            return "reject"
        elif pdu.opcode == RESPONSE:
            return "good" if pdu.scsi_status == 0 else "check"
        elif pdu.opcode in (TEXT_DONE, TASK_DONE, LOGOUT_DONE):
            return "answer"
        elif pdu.opcode == NOP_IN and pdu.itt != NO_TAG:
            return "answer"
        elif pdu.opcode != R2T and pdu.opcode != NOP_IN and pdu.flags & 1:
            return "good"


def fresh(timeout=3):
    return Connection(ADDRESS, timeout)


def session(**more):
    connection = fresh().session(TARGET, **more)
    while connection.ready(LUN) != 0:  # Unit attentions of a new nexus.
        pass
    return connection


# Before the login.

@case("closed")
def random_bytes(c=None):
    with fresh() as c:
        c.send(random.randbytes(8192))
        return outcome(c)


@case("closed")
def another_protocol():
    with fresh() as c:
        c.send(b"GET / HTTP/1.1\r\nHost: ptgt\r\nAccept: */*\r\nUser-Agent: none at all\r\n\r\n")
        return outcome(c)


@case("closed", "reject")
def command_before_login():
    with fresh() as c:
        c.command(bytes(6))
        return outcome(c)


@case("refused")
def version_from_the_future():
    with fresh() as c:
        c.login(TARGET, version=7)
        return outcome(c)


@case("refused")
def no_initiator_name():
    with fresh() as c:
        c.login(TARGET, text=keys(TargetName=TARGET))
        return outcome(c)


@case("refused")
def no_such_target():
    with fresh() as c:
        c.login("iqn.2026-11.com.example:nobody")
        return outcome(c)


@case("refused", "closed")
def stage_that_does_not_exist():
    with fresh() as c:
        c.login(TARGET, csg=2, nsg=2)
        return outcome(c)


@case("closed", "refused")
def login_of_sixteen_megabytes():
    with fresh() as c:
        c.send(bhs(0x43, 0x87, 0xFFFFFF))
        return outcome(c)


@case("closed", "refused")
def login_with_additional_headers():
    with fresh() as c:
        c.send(bhs(0x43, 0x87, 0, ahs=255), bytes(1020))
        return outcome(c)


@case("closed", "refused")
def login_text_without_an_end():
    with fresh() as c:
        for _ in range(1000):
            c.login(TARGET, flags=0x44, text=b"X-com.example.a=" + b"y" * 8000)
            c.socket.settimeout(0.01)
            try:
                if c.receive().status_class:
                    return "refused"
            except Closed:
                return "closed"
            except socket.timeout:
                pass
        return "endless"


@case("refused", "closed")
def keys_of_a_thousand_letters():
    with fresh() as c:
        c.login(TARGET, text=keys(InitiatorName="iqn.2026-11.com.example:bad") + b"k" * 1000 + b"=1\0\0\0=\0")
        return outcome(c)


@case("answered Reject")
def numbers_that_are_none():
    with fresh() as c:
        c.login(TARGET, MaxBurstLength="99999999999999999999999", FirstBurstLength="-1")
        values = dict(pair.split(b"=") for pair in c.receive().data.split(b"\0") if pair)
        said = {values.get(key) for key in (b"MaxBurstLength", b"FirstBurstLength")}
        return "answered Reject" if said == {b"Reject"} else f"answered {said}"


@case("closed", "silence")
def half_a_login():
    c = fresh()
    c.socket.sendall(bhs(0x43, 0x87, 400)[:30])
    LATER.append(c)
    return outcome(c)


# In the full feature phase.

def sends(*outcomes, **fields):
    """A case that is one wrong header."""
    def add(function):
        def run():
            with session() as c:
                c.send(*function(c))
                return outcome(c)
        run.__name__ = function.__name__
        CASES.append((run, outcomes, False))
        return run
    return add


@sends("reject", "closed")
def unknown_opcode(c):
    return (bhs(0x1E, itt=7, rest=struct.pack(">III", 0, c.cmd_sn, 0)),)


@sends("reject", "closed")
def target_opcode(c):
    return (bhs(RESPONSE, itt=7, rest=struct.pack(">III", 0, c.cmd_sn, 0)),)


@sends("reject", "closed")
def login_again(c):
    return (bhs(0x43, 0x87, itt=7),)


@sends("reject", "closed")
def snack(_):
    return (bhs(SNACK, 0x80, itt=NO_TAG, rest=struct.pack(">I", NO_TAG)),)


@sends("closed", "reject")
def segment_above_what_was_declared(c):
    rest = struct.pack(">III", 0xFFFFFF, c.cmd_sn, 0) + WRITE8
    return bhs(COMMAND, 0xA0, 0xFFFFFF, LUN, 7, rest=rest), bytes(1 << 20)


@sends("closed", "reject", "check", "good")
def additional_header_that_lies(c):
    rest = struct.pack(">III", 0, c.cmd_sn, 0)
    return bhs(COMMAND, 0x80, 0, LUN, 7, ahs=3, rest=rest), b"\xff\xff\x01\x00" + bytes(8)


@sends("closed", "reject", "check", "good")
def additional_headers_without_end(c):
    rest = struct.pack(">III", 0, c.cmd_sn, 0)
    return bhs(COMMAND, 0x80, 0, LUN, 7, ahs=255, rest=rest), bytes(1020)


@sends("reject", "closed", "silence")
def data_that_nobody_asked_for(c):
    return bhs(DATA_OUT, 0x80, 512, LUN, 0x7777, rest=struct.pack(">IIIIII", 0x1234, 0, 0, 0, 0, 0)), bytes(512)


@sends("reject", "closed", "silence")
def nop_that_answers_nothing(c):
    return (bhs(NOP_OUT | IMMEDIATE, itt=NO_TAG, rest=struct.pack(">III", 0x99, c.cmd_sn, 0)),)


@sends("answer", "reject", "closed")
def text_that_is_none(c):
    return bhs(TEXT, 0x80, 8000, itt=7, rest=struct.pack(">III", NO_TAG, c.cmd_sn, 0)), random.randbytes(8000)


@sends("answer", "reject", "closed")
def logout_for_no_reason(c):
    return (bhs(LOGOUT | IMMEDIATE, 0xFF, itt=7, rest=struct.pack(">III", 0, c.cmd_sn, 0)),)


@sends("answer", "reject")
def task_management_of_tomorrow(c):
    return (bhs(TASK | IMMEDIATE, 0x9F, 0, LUN, 7, rest=struct.pack(">III", 0, c.cmd_sn, 0)),)


@sends("silence")
def command_far_outside_the_window(c):
    return (bhs(COMMAND, 0x80, 0, LUN, 7, rest=struct.pack(">III", 0, c.cmd_sn + 100_000, 0)),)


@case("check", "reject", "closed")
def more_immediate_data_than_expected():
    with session() as c:
        c.command(WRITE8, LUN, 0xA0, 512, bytes(4096))
        return outcome(c)


@case("check", "reject", "closed")
def immediate_data_for_a_read():
    with session() as c:
        c.command(READ8, LUN, 0xC0, 4096, bytes(4096))
        return outcome(c)


@case("check", "good")
def expects_less_than_the_cdb():
    with session() as c:
        c.command(READ8, LUN, 0xC0, 1000)
        return outcome(c)


@case("check", "good")
def expects_four_gigabytes():
    with session() as c:
        c.command(READ8, LUN, 0xC0, 0xFFFFFFFF)
        return outcome(c)


@case("check")
def offers_a_part_of_a_block():
    """It is not written, and not acknowledged as if it were; the residual tells."""
    with session() as c:
        c.write(LUN, 0, PATTERN)
        for blocks, offered in ((1, 200), (2, 1000), (8, 4095)):
            c.command(struct.pack(">BBIBHB", 0x2A, 0, 0, 0, blocks, 0), LUN, 0xA0, offered, bytes(offered))
            pdu = c.receive()
            residual = struct.unpack(">I", pdu.head[44:48])[0]
            wanted = (RESPONSE, 2, 4, 512 * blocks - offered)
            assert (pdu.opcode, pdu.scsi_status, pdu.flags & 6, residual) == wanted, pdu.head.hex()
            assert c.read(LUN, 0, 8) == PATTERN, "something was written"
        return "check"


@case("check", "good")
def writes_without_saying_so():
    with session() as c:
        c.command(WRITE8, LUN, 0x80, 0)
        return outcome(c)


def after_r2t(change):
    """Answers an R2T for 4096 bytes in a wrong way."""
    with session(InitialR2T="Yes", ImmediateData="No") as c:
        itt = c.command(WRITE8, LUN, 0xA0, 4096)
        pdu = c.receive()
        assert pdu.opcode == R2T, hex(pdu.opcode)
        change(c, itt, pdu.ttt)
        return outcome(c)


@case("check", "reject", "closed")
def wrong_data_sn():
    return after_r2t(lambda c, itt, ttt: c.data_out(itt, ttt, bytes(4096), sn=27))


@case("check", "reject", "closed")
def offset_beyond_the_buffer():
    return after_r2t(lambda c, itt, ttt: c.data_out(itt, ttt, bytes(4096), offset=1 << 20))


@case("check", "reject", "closed")
def offset_that_wraps():
    return after_r2t(lambda c, itt, ttt: c.data_out(itt, ttt, bytes(4096), offset=0xFFFFF800))


@case("check", "reject", "closed")
def more_data_than_asked_for():
    return after_r2t(lambda c, itt, ttt: c.data_out(itt, ttt, bytes(8192)))


@case("check", "reject", "closed")
def less_data_than_asked_for():
    return after_r2t(lambda c, itt, ttt: c.data_out(itt, ttt, bytes(512)))


@case("check", "reject", "closed")
def logical_unit_of_another():
    def change(c, itt, ttt):
        c.lun += 1
        c.data_out(itt, ttt, bytes(4096))
    return after_r2t(change)


@case("good")
def data_without_a_logical_unit():
    def change(c, itt, ttt):
        c.lun = 0
        c.data_out(itt, ttt, bytes(4096))
    return after_r2t(change)


@case("good")
def data_in_pieces_of_which_some_are_empty():
    def change(c, itt, ttt):
        for sn, (offset, length, last) in enumerate(((0, 0, 0), (0, 1024, 0), (1024, 0, 0), (1024, 3072, 0), (4096, 0, 0x80))):
            c.data_out(itt, ttt, bytes(length), sn, offset, last)
    return after_r2t(change)


@case("good")
def data_as_asked_for():
    return after_r2t(lambda c, itt, ttt: c.data_out(itt, ttt, bytes(4096)))


@case("check", "reject", "closed", "silence")
def wrong_transfer_tag():
    return after_r2t(lambda c, itt, ttt: c.data_out(itt, ttt ^ 0x5555, bytes(4096)))


@case("reject", "closed", "check", "silence")
def the_same_tag_twice():
    """Silence is two tasks that wait for their data: transfer tags tell them apart."""
    with session(InitialR2T="Yes", ImmediateData="No") as c:
        itt = c.command(WRITE8, LUN, 0xA0, 4096)
        c.command(WRITE8, LUN, 0xA0, 4096, itt=itt)
        return outcome(c)


@case("silence")
def half_a_command_then_nothing():
    c = session()
    c.socket.settimeout(0.5)
    c.socket.sendall(bhs(COMMAND, 0xA0, 4096, LUN, 9, rest=struct.pack(">III", 4096, c.cmd_sn, 0) + WRITE8) + bytes(1000))
    LATER.append(c)
    return outcome(c)


@case("good")
def a_byte_at_a_time():
    with session() as c:
        c.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = bhs(COMMAND, 0xA0, 4096, LUN, 9, rest=struct.pack(">III", 4096, c.cmd_sn, 0) + WRITE8)
        for byte in head:
            c.socket.sendall(bytes([byte]))
        for at in range(0, 4096, 100):
            c.socket.sendall(PATTERN[at:at + 100])
        return outcome(c)


@case("silence")
def writes_that_never_send_data():
    c = session(InitialR2T="Yes", ImmediateData="No")
    for _ in range(4000):
        c.command(struct.pack(">BBIBHB", 0x2A, 0, 0, 0, 128, 0), LUN, 0xA0, 65536)
    c.socket.settimeout(1)
    LATER.append(c)
    return outcome(c)


@case("done")
def reads_that_are_never_taken():
    c = session()
    c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(2000):
        c.command(struct.pack(">BBIBHB", 0x28, 0, 0, 0, 2048, 0), LUN, 0xC0, 1 << 20)
    LATER.append(c)
    return "done"


@case("good")
def more_than_an_initiator_may_hold():
    """The session above and another one are stuck with all that they may take of what there is for the commands of this
    initiator: something is left for the next one."""
    other = session()
    # What has gone to a socket's buffers is the target's no longer: more follows, until those are full.
    for _ in range(4):
        for _ in range(16):
            other.command(struct.pack(">BBIBHB", 0x28, 0, 0, 0, 2048, 0), LUN, 0xC0, 1 << 20)
        time.sleep(0.2)
    LATER.append(other)
    with session() as c:
        large = c.finish(c.command(struct.pack(">BBIBHB", 0x28, 0, 0, 0, 2048, 0), LUN, 0xC0, 1 << 20))[0]
        small = c.finish(c.command(READ8, LUN, 0xC0, 4096))[0]
        return "good" if (large, small) == (0, 0) else f"status {large}, then {small}"


@case("done", alone=True)
def every_cdb_gets_an_answer():
    """All operation codes, with zeros and with noise, in both directions and none."""
    with session() as c:
        for opcode in range(256):
            for _ in range(4):
                cdb = bytes([opcode]) + (bytes(15) if random.random() < 0.3 else random.randbytes(15))
                flags, edtl = random.choice([(0x80, 0), (0xC0, 4096), (0xA0, 4096), (0xC0, 1 << 20), (0xA0, 1 << 20)])
                lun = random.choice([LUN, LUN, LUN, 77])
                try:
                    c.finish(c.command(cdb, lun, flags, edtl))
                except Closed:
                    raise AssertionError(f"connection closed after CDB {cdb.hex()} flags {flags:#x} length {edtl}")
                except socket.timeout:
                    raise AssertionError(f"no answer to CDB {cdb.hex()} flags {flags:#x} length {edtl} LUN {lun}")
    return "done"


@case("done", alone=True)
def headers_with_flipped_bits():
    """Valid command headers with some bits changed: any answer will do, other sessions do not notice."""
    c = session()
    for _ in range(1500):
        head = bytearray(bhs(random.choice([COMMAND, COMMAND, NOP_OUT, TASK, TEXT, DATA_OUT]), 0xC0, 0, LUN, c.itt,
                             rest=struct.pack(">III", 4096, c.cmd_sn, c.stat_sn) + READ8))
        for _ in range(random.randint(1, 4)):
            head[random.randrange(48)] ^= 1 << random.randrange(8)
        c.itt += 1
        c.cmd_sn += 1
        c.socket.settimeout(0.002)
        c.send(bytes(head))
        try:
            c.receive()
        except socket.timeout:
            if random.random() > 0.1:
                continue
            c.close()
            c = session()
        except Closed:
            c.close()
            c = session()
    c.close()
    return "done"


@case("done")
def thousands_of_connections():
    """Most of them say nothing, some say half a word; new ones get in again when they are gone."""
    many = []
    for i in range(2500):
        c = fresh(10)
        if i % 3 == 0:
            c.socket.sendall(bhs(0x43, 0x87, 400)[:40])
        many.append(c)
        if i % 500 == 0:
            WITNESS.check()
    WITNESS.check()
    for c in many:
        c.close()
    session().close()
    return "done"


@case("done")
def hundreds_of_sessions():
    many = [session() for _ in range(300)]
    for c in many:
        assert c.ready(LUN) == 0
    for c in many:
        c.close()
    return "done"


@case("closed")
def a_peer_that_never_answers_pings():
    with fresh(10).session(TARGET + ":soon") as c:
        began = time.monotonic()
        pinged = False
        try:
            while True:
                pdu = c.receive()
                pinged |= pdu.opcode == NOP_IN and pdu.itt == NO_TAG
        except (Closed, ConnectionError):
            took = time.monotonic() - began
            return "closed" if pinged and 1.5 < took < 6 else f"closed after {took:.1f} s"


@case("closed")
def a_window_that_is_shut_for_ever_though_the_peer_speaks():
    """It asks for data, takes nothing of it, and sends signs of life: the connection ends, and what it held is free."""
    c = fresh(5).session(TARGET + ":soon")
    c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(64):
        c.command(struct.pack(">BBIBHB", 0x28, 0, 0, 0, 2048, 0), LUN, 0xC0, 1 << 20)
    began = time.monotonic()
    while time.monotonic() < began + 20:
        try:
            c.socket.sendall(bhs(NOP_OUT | IMMEDIATE, itt=NO_TAG, rest=struct.pack(">III", NO_TAG, c.cmd_sn, 0)))
        except OSError:
            c.close()
            return "closed"
        time.sleep(0.2)
    c.close()
    return "served for ever"


@case("done")
def a_storm_of_logins():
    began = time.monotonic()
    for _ in range(1000):
        with fresh() as c:
            c.session(TARGET)
    WITNESS.check()
    print(f"  1000 logins one after the other: {1000 / (time.monotonic() - began):.0f} per second", flush=True)
    return "done"


@case("done")
def more_logins_than_there_is_room_for():
    """The oldest of those that do not go on is cut for the next."""
    many = [fresh(10) for _ in range(4200)]
    session().close()
    WITNESS.check()
    cut = 0
    for c in many[:200]:
        c.socket.setblocking(False)
        try:
            cut += c.socket.recv(1) == b""
        except BlockingIOError:
            pass
        except ConnectionError:
            cut += 1
    for c in many:
        c.close()
    return "done" if cut >= 100 else f"{cut} were cut"


@case("done")
def slow_writers():
    """200 sessions with a PDU that arrives byte by byte and never ends."""
    many = [session() for _ in range(200)]
    head = bhs(COMMAND, 0xA0, 8192, LUN, 9, rest=struct.pack(">III", 8192, 0, 0) + WRITE8)
    for at in range(60):
        for c in many:
            c.socket.sendall((head + bytes(8192))[at:at + 1])
    WITNESS.check()
    for c in many:
        c.close()
    return "done"


class Witness(threading.Thread):
    """A session that does nothing wrong, all the time."""

    def __init__(self):
        super().__init__(daemon=True)
        self.connection = session()
        self.goes_on = threading.Event()
        self.lock = threading.Lock()
        self.transfers, self.slowest, self.wrong = 0, 0.0, None
        self.goes_on.set()
        self.start()

    def run(self):
        try:
            while True:
                self.goes_on.wait()
                with self.lock:
                    self.transfer()
                time.sleep(0.005)
        except (AssertionError, Closed, OSError) as e:
            self.wrong = f"{type(e).__name__} {e}"

    def transfer(self):
        # A new nexus elsewhere may reset the unit: its unit attention is no fault, the data must be right.
        while self.connection.ready(LUN) != 0:
            pass
        for transfer in (lambda: self.connection.write(LUN, 4096, PATTERN), lambda: self.connection.read(LUN, 4096, 8)):
            began = time.monotonic()
            got = transfer()
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.transfers += 1
            assert got in (None, PATTERN), "the witness reads something else"

    def check(self):
        """It is served now."""
        self.goes_on.set()
        end, wanted = time.monotonic() + 10, self.transfers + 2
        while self.transfers < wanted:
            assert self.wrong is None, self.wrong
            assert time.monotonic() < end, "the witness makes no progress"
            time.sleep(0.002)

    def pause(self):
        self.goes_on.clear()
        with self.lock:
            pass

    def take(self):
        """Transfers since the last time, and the milliseconds of the slowest."""
        got = self.transfers, self.slowest * 1000
        self.transfers, self.slowest = 0, 0.0
        return got


def resident():
    """Resident memory of the target in KiB."""
    with open(f"/proc/{PID}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


random.seed(20261124)
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
LATER = []  # Connections that stay open until the end.
WITNESS = Witness()
WITNESS.check()
before = peak = resident()
failures = 0
WITNESS.take()
for function, wanted, alone in CASES:
    if alone:
        WITNESS.pause()
    try:
        got = function()
    except (AssertionError, Closed, OSError) as e:
        got = f"{type(e).__name__} {e}"
    try:
        WITNESS.check()
    except (AssertionError, Closed, OSError) as e:
        got += f"; the witness is not served: {type(e).__name__} {e}"
    peak = max(peak, resident())
    verdict = "ok" if got in wanted else f"FAILED, wanted {' or '.join(wanted)}"
    failures += got not in wanted
    transfers, slowest = WITNESS.take()
    other = f"the other session: {transfers} transfers, slowest {slowest:.1f} ms"
    print(f"{function.__name__:<36} {got:<10} {verdict} ({other}; {resident() // 1024} MiB)", flush=True)
for connection in LATER:
    connection.close()
print(f"resident memory: {before // 1024} MiB before, {peak // 1024} MiB at most")
if peak - before > 128 << 10:
    print("FAILED: the target's memory grew by more than 128 MiB")
    failures += 1
sys.exit(1 if failures else 0)
