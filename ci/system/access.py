# SPDX-License-Identifier: GPL-2.0-or-later
"""access.py ADDRESS IQN: who gets in, what they see, and sessions with several connections.

The hash functions are those of Python, so that each algorithm is judged by somebody else's.
"""

import hashlib
import os
import socket
import struct
import sys

from initiator import COMMAND, IMMEDIATE, LOGOUT, LOGOUT_DONE, NO_TAG, TEXT, Closed, Connection, bhs

ADDRESS, IQN = sys.argv[1], sys.argv[2]
HASHES = {5: "md5", 6: "sha1", 7: "sha256", 8: "sha3_256"}
SECRET, OWN = b"alices-own-secret", b"targets-own-secret"
AUTH, FORBIDDEN, UNKNOWN, NO_SESSION, TOO_MANY, RESOURCES = 0x0201, 0x0202, 0x0203, 0x020A, 0x0206, 0x0302
failures = 0


def check(what, got, wanted):
    global failures
    good = got == wanted
    failures += not good
    print(f"{what:<60} {'ok' if good else f'FAILED: {got!r}, wanted {wanted!r}'}", flush=True)


def answer(number, identifier, secret, challenge):
    return hashlib.new(HASHES[number], bytes([identifier]) + secret + challenge).digest()


def names(target, initiator):
    kind = {"SessionType": "Discovery"} if target is None else {"SessionType": "Normal", "TargetName": IQN + target}
    return {"InitiatorName": "iqn.2026-11.com.example:" + initiator, **kind}


def chap(target, offer="8,7,6,5", user="alice", secret=SECRET, mutual=False, reflect=False, initiator="one", isid=None):
    """Logs in; answers (status, connection, algorithm, challenge, whether the target knows its secret)."""
    c = Connection(ADDRESS)
    c.isid = isid or os.urandom(6)
    pdu, said = c.ask(0, 1, AuthMethod="CHAP,None", **names(target, initiator))
    if pdu.status:
        return pdu.status, c, None, None, None
    assert said["AuthMethod"] == "CHAP" and pdu.flags & 0x80 == 0, said
    pdu, said = c.ask(0, None, CHAP_A=offer)
    if pdu.status:
        return pdu.status, c, None, None, None
    number, identifier = int(said["CHAP_A"]), int(said["CHAP_I"])
    challenge = bytes.fromhex(said["CHAP_C"][2:])
    keys = {"CHAP_N": user, "CHAP_R": "0x" + answer(number, identifier, secret, challenge).hex()}
    mine = challenge if reflect else os.urandom(32)
    if mutual or reflect:
        keys |= {"CHAP_I": "99", "CHAP_C": "0x" + mine.hex()}
    pdu, said = c.ask(0, 1, **keys)
    if pdu.status:
        return pdu.status, c, number, challenge, None
    knows = said.get("CHAP_N") == "target" and said["CHAP_R"][2:] == answer(number, 99, OWN, mine).hex() if mutual else None
    pdu, _ = c.ask(1, 3, HeaderDigest="None")
    return pdu.status, c, number, challenge, knows


def plain(target, initiator="one", isid=None, tsih=0, cid=0, **more):
    c = Connection(ADDRESS)
    c.isid, c.tsih, c.cid = isid or os.urandom(6), tsih, cid
    pdu, said = c.ask(1, 3, **names(target, initiator), **more)
    if pdu.status == 0:
        c.tsih = struct.unpack(">H", pdu.head[14:16])[0]
    return pdu, c, said


def luns(c):
    while True:
        status, data = c.finish(c.command(b"\xa0" + bytes(5) + struct.pack(">IH", 256, 0), 0, 0xC0, 256))
        if status == 0:
            return [struct.unpack(">H", data[at:at + 2])[0] for at in range(8, 8 + struct.unpack(">I", data[:4])[0], 8)]


def enter(target, initiator, **more):
    """The status of a login with these names as they stand."""
    c = Connection(ADDRESS)
    c.isid = os.urandom(6)
    return c.ask(1, 3, InitiatorName=initiator, SessionType="Normal", TargetName=target, **more)[0].status, c


def raw(c, lun, cdb, room):
    """A command with a LUN of eight bytes as they stand; answers status and data."""
    c.itt += 1
    head = bhs(COMMAND, 0xC0 if room else 0x80, 0, 0, c.itt, rest=struct.pack(">III", room, c.cmd_sn, 0) + cdb.ljust(16, b"\0"))
    c.cmd_sn += 1
    c.send(head[:8] + lun + head[16:])
    return c.finish(c.itt)


def ready(c, lun):
    status = 2
    for _ in range(8):
        status = c.ready(lun)
        if status == 0:
            break
    return status


def discovered(c):
    """The targets and their addresses."""
    text = b"SendTargets=All\0"
    c.send(bhs(TEXT, 0x80, len(text), itt=5, rest=struct.pack(">III", NO_TAG, c.cmd_sn, 0)), text)
    found = {}
    for pair in c.receive().data.split(b"\0"):
        key, _, value = pair.decode().partition("=")
        if key == "TargetName":
            last = value.removeprefix(IQN)
            found[last] = []
        elif key == "TargetAddress":
            found[last].append(value)
    return found


# CHAP.
for number, name in HASHES.items():
    status, c, got, _, _ = chap(":chap", str(number))
    check(f"CHAP {name}, one way", (status, got), (0, number))
    check(f"CHAP {name}, the disk is there", ready(c, 0), 0)
    c.close()
    status, c, got, _, knows = chap(":chap", str(number), mutual=True)
    check(f"CHAP {name}, mutual", (status, got, knows), (0, number, True))
    c.close()
check("the first algorithm of the initiator's list that is allowed", chap(":chap", "1,6,5,8,7")[2], 6)
check("a wrong secret", chap(":chap", secret=b"another secret")[0], AUTH)
check("another's name", chap(":chap", user="bob")[0], AUTH)
check("nobody's name", chap(":chap", user="nobody")[0], AUTH)
check("the target's own account", chap(":chap", user="target", secret=OWN)[0], AUTH)
check("a reflected challenge", chap(":chap", reflect=True)[0], AUTH)
check("an unknown algorithm", chap(":chap", "1,2,50")[0], AUTH)
check("no CHAP at all", plain(":chap")[0].status, AUTH)
challenges = set()
for _ in range(64):
    status, c, _, challenge, _ = chap(":chap", "5")
    challenges.add(challenge)
    c.close()
check("64 logins have 64 challenges", len(challenges), 64)

# Access rules and LUN masking.
_, one, _ = plain(":masked", "one")
check("initiator one sees LUN 0 and 2", luns(one), [0, 2])
check("LUN 0 is there for it", ready(one, 0), 0)
check("LUN 1 is not", one.ready(1), 2)
_, two, _ = plain(":masked", "two")
check("initiator two sees LUN 1", luns(two), [1])
check("LUN 1 is there for it", ready(two, 1), 0)
check("LUN 0 is not", two.ready(0), 2)
one.close(), two.close()
check("a stranger is refused", plain(":masked", "three")[0].status, FORBIDDEN)
check("by address everybody gets in", plain(":here", "three")[0].status, 0)
check("but not from elsewhere", plain(":elsewhere", "three")[0].status, FORBIDDEN)
status, c, *_ = chap(":account", user="bob", secret=b"a secret of bob's")
check("an account without access", status, FORBIDDEN)
status, c, *_ = chap(":account")
check("an account with access to LUN 2", (status, luns(c)), (0, [2]))
c.close()
check("no such target", plain(":none")[0].status, UNKNOWN)

# Names in every spelling.
for target in ("eui.02004567a425678d", "EUI.02004567A425678D", "eui.02004567A425678d"):
    for initiator in ("iqn.2026-11.com.example:one", "IQN.2026-11.COM.EXAMPLE:ONE", "naa.62004567ba64678d0123456789abcdef",
                      "NAA.62004567BA64678D0123456789ABCDEF"):
        status, c = enter(target, initiator)
        check(f"{initiator[:12]}.. at {target}", (status, status or luns(c)), (0, [0]))
        c.close()
    check(f"a stranger at {target}", enter(target, "iqn.2026-11.com.example:two")[0], FORBIDDEN)

# Answers of negotiation, one to each key, as they are in force.
for keys in ({"FirstBurstLength": "262144", "MaxBurstLength": "8192"}, {"MaxBurstLength": "8192"}):
    pdu, c, said = plain(":here", InitialR2T="No", **keys)
    first = int(said.get("FirstBurstLength", 65536))
    check(f"FirstBurstLength with {keys}", first, 8192 if len(keys) == 2 else 65536)
    while c.ready(0):
        pass
    blocks = first // 512
    try:
        status = c.finish(c.command(struct.pack(">BBIBHB", 0x2A, 0, 0, 0, blocks, 0), 0, 0xA0, first, bytes(first)))[0]
    except Closed:
        status = "closed"
    check("as much is taken as was answered", status, 0)
    c.close()
c = Connection(ADDRESS)
c.isid = os.urandom(6)
c.login(None, text=b"".join(f"{key}={value}\0".encode() for key, value in
                            (names(":here", "one") | {"MaxRecvDataSegmentLength": "100"}).items()))
answers = [pair for pair in c.receive().data.split(b"\0") if pair.startswith(b"MaxRecv")]
check("a length out of range is rejected, and that is all", answers, [b"MaxRecvDataSegmentLength=Reject"])
c.close()

# LUN 300 in both forms; no LUN 0; the REPORT LUNS well-known unit.
_, c, _ = plain(":far")
LIST, INQUIRY, FAR = b"\xa0" + bytes(5) + struct.pack(">IH", 256, 0), bytes([0x12, 0, 0, 0, 96, 0]), b"\x41\x2c" + bytes(6)
while raw(c, FAR, bytes(6), 0)[0]:
    pass
for lun in (b"\x01\x2c" + bytes(6), FAR):
    check(f"LUN 300 as {lun[:2].hex()}", raw(c, lun, bytes(6), 0)[0], 0)
    check("it is a disk", raw(c, lun, INQUIRY, 96)[1][16:28], b"VIRTUAL-DISK")
check("LUN 0 is not there, in text", (raw(c, bytes(8), bytes(6), 0)[0], raw(c, bytes(8), INQUIRY, 96)[1]),
      (2, b"\x7f\0\6\2\x1f\0\0\0" + b" " * 28))
check("but it tells what is", raw(c, bytes(8), LIST, 256), (0, b"\0\0\0\x08" + bytes(4) + FAR))
KNOWN = b"\xc1\1" + bytes(6)
check("the well-known unit is ready", raw(c, KNOWN, bytes(6), 0)[0], 0)
check("it is what it is", raw(c, KNOWN, INQUIRY, 96)[1][:1], b"\x1e")
for lun in (KNOWN, bytes(8), FAR):
    check("all units", raw(c, lun, LIST[:2] + b"\2" + LIST[3:], 256), (0, b"\0\0\0\x10" + bytes(4) + FAR + KNOWN))
c.close()

# Discovery.
status, c, *_ = chap(None, "7")
check("discovery with CHAP", status, 0)
found = discovered(c)
check("initiator one discovers what is open to it", sorted(found), sorted(
    [":account", ":away", ":chap", ":far", ":here", ":many", ":masked", ":moved", ":small", "eui.02004567a425678d"]))
check("with portals of both groups", [a.rsplit(",")[1] for a in found[":many"]], ["1", "2"])
c.close()
status, c, *_ = chap(None, "7", initiator="three")
check("a stranger does not discover the masked target", ":masked" in discovered(c), False)
c.close()
check("discovery without CHAP", plain(None)[0].status, AUTH)

# Redirection.
for target, status, address in ((":moved", 0x0102, "10.1.2.3:3260"), (":away", 0x0101, "there.example:3261")):
    pdu, c, said = plain(target)
    check(f"{target} is elsewhere", (pdu.status, said), (status, {"TargetAddress": address}))

# SendTargets in a normal session.
_, c, _ = plain(":many")
text = b"SendTargets=\0"
c.send(bhs(TEXT, 0x80, len(text), itt=5, rest=struct.pack(">III", NO_TAG, c.cmd_sn, 0)), text)
check("SendTargets in a normal session", c.receive().data.split(b"\0")[0], f"TargetName={IQN}:many".encode())
c.close()

# Limits.
held = [plain(":small")[1] for _ in range(2)]
check("a third session of the target", plain(":small")[0].status, RESOURCES)
held.pop().close()
for _ in range(50):
    pdu, c, _ = plain(":small")
    if pdu.status == 0:
        break
check("one that ends makes room", pdu.status, 0)
c.close(), held.pop().close()

# Several connections.
isid = os.urandom(6)
check("no session to join", plain(":many", isid=isid, tsih=0x4242)[0].status, NO_SESSION)
pdu, first, said = plain(":many", isid=isid, MaxConnections="8")
check("MaxConnections", said.get("MaxConnections"), "4")
assert ready(first, 0) == 0
session = [first]
for cid in range(1, 4):
    pdu, c, _ = plain(":many", isid=isid, tsih=first.tsih, cid=cid)
    check(f"connection {cid} joins", (pdu.status, c.tsih), (0, first.tsih))
    session.append(c)
check("a fifth is one too many", plain(":many", isid=isid, tsih=first.tsih, cid=9)[0].status, TOO_MANY)
check("another initiator cannot join", plain(":many", "two", isid=isid, tsih=first.tsih, cid=9)[0].status, NO_SESSION)
check("another ISID cannot join", plain(":many", isid=os.urandom(6), tsih=first.tsih, cid=9)[0].status, NO_SESSION)


def turn(c, cmd_sn):
    """CmdSN is the session's."""
    c.cmd_sn = cmd_sn
    return c


number = first.cmd_sn
good = True
for round in range(100):
    c = turn(session[round % 4], number)
    c.itt = 1000 + round
    block = bytes([round]) * 4096
    c.write(0, 8 * round, block)
    number = c.cmd_sn
    d = turn(session[(round + 1) % 4], number)
    d.itt = 5000 + round
    good &= d.read(0, 8 * round, 8) == block
    number = d.cmd_sn
check("100 writes and reads over four connections", good, True)
# Commands that overtake each other on different connections wait for their turn.
late = turn(session[1], number + 1).command(struct.pack(">BBIBHB", 0x28, 0, 8, 0, 8, 0), 0, 0xC0, 4096, itt=9001)
session[1].socket.settimeout(0.3)
try:
    session[1].receive()
    early = True
except socket.timeout:
    early = False
check("a command before its turn waits", early, False)
session[1].socket.settimeout(5)
turn(session[2], number).command(bytes(6), 0, itt=9002)
check("the one before it", session[2].finish(9002)[0], 0)
check("and then itself", session[1].finish(late)[1], bytes([1]) * 4096)
number += 2
# Connection reinstatement: the same CID again.
pdu, again, _ = plain(":many", isid=isid, tsih=first.tsih, cid=3)
check("a connection is reinstated", pdu.status, 0)
try:
    while session[3].receive():
        pass
except (Closed, ConnectionError):
    check("the old one ends", True, True)
session[3] = again
turn(again, number).command(bytes(6), 0, itt=9003)
check("the new one serves", again.finish(9003)[0], 0)
number += 1
# Wherever a connection comes in, it is served: some come in at another reactor than the session's.
served = 0
for round in range(16):
    pdu, c, _ = plain(":many", isid=isid, tsih=first.tsih, cid=3)
    try:
        while session[3].receive():
            pass
    except (Closed, ConnectionError):
        session[3] = c
    turn(c, number).command(bytes(6), 0, itt=9100 + round)
    served += pdu.status == 0 and c.finish(9100 + round)[0] == 0
    number += 1
check("16 connections, one after the other", served, 16)
# One connection logs another out; then the session goes as a whole.
first.send(bhs(LOGOUT | IMMEDIATE, 0x81, itt=9004, rest=struct.pack(">HHII", 3, 0, number, first.stat_sn + 1)))
pdu = first.receive()
check("another connection is logged out", (pdu.opcode, pdu.head[2]), (LOGOUT_DONE, 0))
turn(session[2], number).command(bytes(6), 0, itt=9005)
check("the others go on", session[2].finish(9005)[0], 0)
number += 1
print("status", flush=True)
sys.stdin.readline()  # The caller looks at the status now.
first.send(bhs(LOGOUT | IMMEDIATE, 0x80, itt=9006, rest=struct.pack(">HHII", 0, 0, number, first.stat_sn + 1)))
check("logout of the session", first.receive().opcode, LOGOUT_DONE)
for c in session[:3]:
    try:
        while c.receive():
            pass
    except (Closed, ConnectionError):
        pass
sys.exit(1 if failures else 0)
