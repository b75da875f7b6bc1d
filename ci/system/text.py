# SPDX-License-Identifier: GPL-2.0-or-later
"""text.py ADDRESS IQN PTGT LOG: every key that an initiator can send, with every text that a terminal would obey.

Beside it a session goes on. text.py --look FILE: whether a file is lines of printable text. text.py --serve SOCKET: a control
socket that lies."""

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time

from initiator import IMMEDIATE, LOGIN_DONE, NO_TAG, TEXT, Closed, Connection, bhs

TEXTS = [b"\x1b]0;title\x07", b"x\n<0>forged", b"x\r\x08y\tz\x7f", b"\xc2\x9b31m\xc2\x85", b"\xe2\x80\xaexod.exe\xe2\x81\xa6",
         b"\xe2\x80\xa8\xe2\x80\xa9\xef\xbb\xbf\xf3\xa0\x81\x81", b"\xff\xfe\xc3", b"nul\0more", b"%s%n{0}\\", b"y" * 65000]
NAME = b"iqn.2026-11.com.example:"
OPERATIONAL = ["HeaderDigest", "DataDigest", "MaxRecvDataSegmentLength", "DefaultTime2Wait", "DefaultTime2Retain",
               "ErrorRecoveryLevel", "MaxConnections", "InitialR2T", "ImmediateData", "MaxBurstLength", "FirstBurstLength",
               "MaxOutstandingR2T", "DataPDUInOrder", "DataSequenceInOrder", "IFMarker", "OFMarker", "IFMarkInt", "OFMarkInt",
               "iSCSIProtocolLevel", "TaskReporting", "RDMAExtensions", "InitiatorRecvDataSegmentLength",
               "TargetRecvDataSegmentLength", "MaxOutstandingUnexpectedPDUs", "X-com.example.key", "TargetAlias",
               "TargetAddress", "TargetPortalGroupTag", "SendTargets"]
SECURITY = ["CHAP_A", "CHAP_N", "CHAP_R", "CHAP_I", "CHAP_C"]
# What a terminal gets of a log that is flooded: lines of a kind in ten seconds.
LINES, SECONDS = 20, 10


def wrong(data):
    """The first thing in bytes that does not belong on a terminal."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return str(error)
    for number, line in enumerate(text.split("\n"), 1):
        bad = [c for c in line if not c.isprintable()]
        if bad:
            return f"line {number}: {ascii(bad[0])} in {ascii(line[:200])}"
    return None


def pairs(**more):
    return b"".join(key.encode() + b"=" + value + b"\0" for key, value in more.items())


def say(address, *requests):
    """Login requests (stage, next stage, text), as far as the target answers; answers the last status, None if it hung up."""
    status = None
    with Connection(address) as c:
        for csg, nsg, text in requests:
            rest = text
            while True:
                part, rest = rest[:8192], rest[8192:]
                goes_on = 0x40 if rest else 0
                c.login(None, flags=csg << 2 | goes_on | (0x80 | nsg if nsg is not None and not rest else 0), text=part)
                try:
                    pdu = c.receive()
                except (Closed, socket.timeout):
                    return status
                if pdu.opcode != LOGIN_DONE:
                    return status
                status = pdu.status
                if status or not rest:
                    break
            if status:
                return status
        return status


def text_request(c, text):
    c.itt += 1
    c.send(bhs(TEXT | IMMEDIATE, 0x80, len(text), itt=c.itt, rest=struct.pack(">III", NO_TAG, c.cmd_sn, c.stat_sn + 1)), text)
    try:
        return c.receive()
    except (Closed, socket.timeout):
        return None


def transport_id(name):
    text = name + b",i,0x800000000001\0"
    text += bytes(-len(text) % 4)
    text = text.ljust(20, b"\0")
    return struct.pack(">BBH", 0x45, 0, len(text)) + text


def register(c, name):
    """PERSISTENT RESERVE OUT, REGISTER with SPEC_I_PT; answers the status."""
    ids = transport_id(name)
    data = struct.pack(">QQIB3x", 0, 0x77, 0, 0x08) + struct.pack(">I", len(ids)) + ids
    cdb = struct.pack(">BBBHIB", 0x5F, 0, 0, 0, len(data), 0)
    return c.finish(c.command(cdb, 1, 0xA0, len(data), data))[0]


class Beside(threading.Thread):
    """A session that writes and reads, and notes how long that takes."""

    def __init__(self, address, target):
        super().__init__(daemon=True)
        self.connection = Connection(address, 20).session(target)
        while self.connection.ready(1):
            pass
        self.over, self.slowest, self.count, self.wrong = False, 0, 0, None

    def run(self):
        try:
            while not self.over:
                begin = time.monotonic()
                data = struct.pack(">Q", self.count) * 512
                self.connection.write(1, 8 * (self.count % 64), data)
                if self.connection.read(1, 8 * (self.count % 64), 8) != data:
                    self.wrong = "wrong bytes"
                self.slowest = max(self.slowest, time.monotonic() - begin)
                self.count += 1
                time.sleep(0.005)
        except BaseException as error:
            self.wrong = repr(error)


def main(address, target, ptgt, log):
    beside = Beside(address, target)
    beside.start()
    iqn = target.encode()
    good = pairs(InitiatorName=NAME + b"good", TargetName=iqn, SessionType=b"Normal")
    assert say(address, (1, 3, good)) == 0
    for name in (b"host_1", b"UPPER", "größe_北京".encode()):
        assert say(address, (1, 3, pairs(InitiatorName=NAME + name, TargetName=iqn, SessionType=b"Normal"))) == 0, name
    held, tried = [], 0
    for text in TEXTS:
        harmless = text.startswith(b"%")
        # Names: whatever is no name is refused, and told.
        status = say(address, (1, 3, pairs(InitiatorName=NAME + text, TargetName=iqn, SessionType=b"Normal")))
        assert harmless or status in (0x0200, None), (text[:20], status)
        assert say(address, (1, 3, pairs(InitiatorName=text, TargetName=iqn, SessionType=b"Normal"))) in (0x0200, None)
        for key, value in (("TargetName", iqn + text), ("TargetName", text), ("SessionType", text), ("InitiatorAlias", text)):
            names = dict(InitiatorName=NAME + b"bad", TargetName=iqn, SessionType=b"Normal")
            names[key] = value
            status = say(address, (1, 3, pairs(**names)))
            assert key == "InitiatorAlias" or status != 0, (key, text[:20], status)
        # Every other key, and a key that is none.
        for key in OPERATIONAL:
            say(address, (1, 3, good + pairs(**{key: text})))
            tried += 1
        say(address, (1, 3, good + text[:60] + b"=1\0"))
        say(address, (0, None, good + b"AuthMethod=" + text + b"\0"))
        chap = pairs(InitiatorName=NAME + b"chap", TargetName=iqn + b":chap", SessionType=b"Normal", AuthMethod=b"CHAP")
        for key in SECURITY:
            said = {"CHAP_N": b"alice", "CHAP_R": b"0x00"}
            said[key] = text
            first = text if key == "CHAP_A" else b"5"
            say(address, (0, None, chap), (0, None, pairs(CHAP_A=first)), (0, 3, pairs(**said)))
            tried += 1
        # The full feature phase: text requests, and names in TransportIDs.
        c = Connection(address).session(target)
        for key in ["SendTargets", "InitiatorAlias", *OPERATIONAL[:3]]:
            if text_request(c, pairs(**{key: text[:8000]})) is None:
                c = Connection(address).session(target)
        text_request(c, text[:60] + b"=1\0")
        c.close()
        c = Connection(address).session(target)
        while c.ready(1):
            pass
        if b"\0" not in text and b"\xff" not in text:
            register(c, NAME + text[:150])
        register(c, NAME + b"seen")
        held.append(c)
    # More logins than anybody wants to read of.
    begin, refused = time.monotonic(), 0
    while refused < 1500 and time.monotonic() - begin < 6:
        assert say(address, (1, 3, pairs(InitiatorName=b"flood \x1b[2J", TargetName=iqn, SessionType=b"Normal"))) == 0x0200
        refused += 1
    flooded = time.monotonic() - begin
    looks = {}
    for name, command in (("status", ["status"]), ("status --json", ["status", "--json"])):
        looks[name] = subprocess.run([ptgt, *command], stdout=subprocess.PIPE, check=True).stdout
    looks["the control socket"] = ask("/run/ptgt/control.sock")
    with open(log, "rb") as file:
        looks["the log"] = file.read()
    beside.over = True
    beside.join(10)
    assert beside.wrong is None, beside.wrong
    for name, data in looks.items():
        found = wrong(data)
        assert found is None, f"{name}: {found}"
    status = json.loads(looks["status --json"])
    registered = {registration["initiator"] for registration in status["disks"][1]["reservations"]["registrations"]}
    assert any("seen" in name for name in registered), registered
    lines = looks["the log"].decode().split("\n")
    flood = [line for line in lines if "flood" in line and "not shown" not in line]
    most = LINES * (2 + int(flooded / SECONDS))
    assert 0 < len(flood) <= most, f"{len(flood)} lines of {refused} refused logins"
    assert not any(line.startswith("<0>") for line in lines)
    assert beside.slowest < 1, f"{beside.slowest:.3f} s for a write and a read beside it"
    print(f"{tried} keys, {refused} refused logins in {flooded:.1f} s are {len(flood)} lines of the log;",
          f"beside it {beside.count} writes and reads, the slowest {beside.slowest * 1000:.0f} ms")


def ask(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(path)
        s.sendall(b'{"jsonrpc":"2.0","id":"\\u001b\\u009b","method":"status"}\n')
        s.sendall('{"jsonrpc":"2.0","id":2,"method":"\u202e\u009b"}\n'.encode())
        data = b""
        while data.count(b"\n") < 2:
            data += s.recv(65536)
        return data


def serve(path):
    """Answers one request with an error that is no text for people."""
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
        s.listen(1)
        c, _ = s.accept()
        c.recv(65536)
        c.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "liar \x1b[2J\x9b\u202e\n<0>x"}}).encode() + b"\n")
        c.close()
        os.unlink(path)


if sys.argv[1] == "--look":
    with open(sys.argv[2], "rb") as file:
        found = wrong(file.read())
    if found:
        sys.exit(found)
elif sys.argv[1] == "--serve":
    serve(sys.argv[2])
else:
    main(*sys.argv[1:])
