# SPDX-License-Identifier: GPL-2.0-or-later
"""talk.py ADDRESS IQN: one of everything that a target may have to say, for capture.sh to look at.

Discovery, CHAP, redirection, long CDBs, both residuals, every task management function, every asynchronous message. At
the end a session waits for the daemon to ask for its logout.
"""

import hashlib
import struct
import sys

from initiator import (DATA_IN, IMMEDIATE, LOGOUT, LOGOUT_DONE, NO_TAG, R2T, RESPONSE, TASK, TASK_DONE, TEXT, Closed,
                       Connection, bhs)

ADDRESS, IQN = sys.argv[1], sys.argv[2]
ASYNC = 0x32
ME = "iqn.2026-11.com.example:talk"


def login(target, **more):
    c = Connection(ADDRESS)
    pdu, said = c.ask(1, 3, InitiatorName=ME, SessionType="Normal", TargetName=target, **more)
    return c, pdu, said


def session(target, **more):
    c, pdu, _ = login(target, **more)
    assert pdu.status == 0, hex(pdu.status)
    while c.ready(0):
        pass
    return c


def until(c, opcode):
    while True:
        pdu = c.receive()
        if pdu.opcode == opcode:
            return pdu


def function(c, code, tag=NO_TAG):
    """A task management request, and its response."""
    c.itt += 1
    rest = struct.pack(">IIII", tag, c.cmd_sn, c.stat_sn + 1, c.cmd_sn - 1)
    c.send(bhs(TASK | IMMEDIATE, 0x80 | code, 0, 0, c.itt, rest=rest))
    return until(c, TASK_DONE).head[2]


def write_that_waits(c):
    itt = c.command(struct.pack(">BBIBHB", 0x2A, 0, 0, 0, 8, 0), 0, 0xA0, 4096)
    until(c, R2T)
    return itt


# Discovery, with a list of targets.
c = Connection(ADDRESS)
c.ask(1, 3, InitiatorName=ME, SessionType="Discovery")
c.send(bhs(TEXT, 0x80, 16, itt=5, rest=struct.pack(">III", NO_TAG, c.cmd_sn, 0)), b"SendTargets=All\0")
assert IQN.encode() in c.receive().data
c.close()

# CHAP in both directions, and what is said to a wrong secret.
for secret, wanted in ((b"alices-own-secret", 0), (b"something else..", 0x0201)):
    c = Connection(ADDRESS)
    c.ask(0, None, InitiatorName=ME, SessionType="Normal", TargetName=IQN + ":chap", AuthMethod="CHAP,None")
    _, said = c.ask(0, None, CHAP_A="7,5")
    response = hashlib.sha256(bytes([int(said["CHAP_I"])]) + secret + bytes.fromhex(said["CHAP_C"][2:])).hexdigest()
    pdu, said = c.ask(0, 3, CHAP_N="alice", CHAP_R="0x" + response, CHAP_I="5", CHAP_C="0x" + "5a" * 16)
    assert pdu.status == wanted, hex(pdu.status)
    c.close()

# Redirection, for good and for now.
for target, status in ((":moved", 0x0102), (":away", 0x0101)):
    c, pdu, said = login(IQN + target)
    assert pdu.status == status and "TargetAddress" in said
    c.close()

# Additional headers: CDBs of 32 and of 260 bytes, and a command that is to move data both ways.
c = session(IQN)
block = bytes(range(256)) * 16


def cdb32(action, lba, blocks):
    return struct.pack(">BB5xBHBxQIHHI", 0x7F, 0, 0x18, action, 0, lba, 0, 0, 0, blocks)


assert c.finish(c.command(cdb32(0x000B, 64, 8), 0, 0xA0, 4096, block))[0] == 0, "WRITE(32)"
assert c.finish(c.command(cdb32(0x0009, 64, 8), 0, 0xC0, 4096)) == (0, block), "READ(32)"
assert c.read(0, 64, 8) == block
c.command(struct.pack(">BB5xBH", 0x7F, 0, 252, 0xFFFF).ljust(260, b"\x5a"))
pdu = until(c, RESPONSE)
assert (pdu.scsi_status, pdu.data[2 + 2] & 15) == (2, 5), "no such command of 260 bytes"
# A READ that would write, too: nothing is taken of 1000 bytes, and 512 are sent of 8192.
c.command(struct.pack(">BBIBHB", 0x28, 0, 64, 0, 1, 0), 0, 0xE0, 1000, back=8192)
pdu = until(c, DATA_IN)
assert pdu.data == block[:512] and not pdu.flags & 1
pdu = until(c, RESPONSE)
assert (pdu.scsi_status, pdu.flags & 0x1E, struct.unpack(">II", pdu.head[40:48])) == (0, 0x0A, (7680, 1000)), pdu.head.hex()
c.close()

# Task management: a task that waits for its data, no task, all functions, one that does not exist.
c = session(IQN, InitialR2T="Yes", ImmediateData="No")
assert function(c, 1, write_that_waits(c)) == 0
assert function(c, 1, 0x4711) == 1
for code in (2, 4, 5, 6):
    write_that_waits(c)
    assert function(c, code) == 0, code
    while c.ready(0):
        pass
assert function(c, 8, 0x4711) == 4
assert function(c, 31) == 5
function(c, 3)

# Another initiator's reset is told where nothing is under way, if that is wanted: event 0.
other = session(IQN + ":events")
assert function(c, 5) == 0
assert until(other, ASYNC).head[36] == 0
while c.ready(0):
    pass
other.close()
# It puts an end to a task: event 5.
other = session(IQN, InitialR2T="Yes", ImmediateData="No", TaskReporting="FastAbort,RFC3720")
write_that_waits(other)
assert function(c, 5) == 0
assert until(other, ASYNC).head[36] == 5
# A violation: event 2.
other.send(bhs(0x43, 0x87, itt=7))
assert until(other, ASYNC).head[36] == 2
# A cold reset ends all sessions: event 3.
last = session(IQN)
assert function(c, 7) == 0
for each in (c, last):
    assert until(each, ASYNC).head[36] == 3
    try:
        while each.receive():
            pass
    except Closed:
        pass

# The daemon stops: event 1.
c = session(IQN)
print("ready", flush=True)
c.socket.settimeout(60)
assert until(c, ASYNC).head[36] == 1
c.send(bhs(LOGOUT | IMMEDIATE, 0x80, itt=99, rest=struct.pack(">HHII", 0, 0, c.cmd_sn, c.stat_sn + 1)))
until(c, LOGOUT_DONE)
