# SPDX-License-Identifier: GPL-2.0-or-later
"""ends.py WHAT HOST TARGET IMAGE: the kernel's TCP as the peer where connections stall and end. LUN 1 begins with IMAGE.

stall  a reader that stops while megabytes are on their way, until its window is shut, and then goes on
idle   a session that says nothing until its standard input ends, and then reads
fin    our FIN crosses data: what was queued still comes, whole, and then the other side's FIN
rst    our RST crosses data, ten times; the target goes on to serve
"""

import socket
import struct
import sys
import time

from initiator import DATA_IN, Closed, Connection

LENGTH, READS = 256 << 10, 8


def session(host, target):
    connection = Connection(host, 30).session(target)
    connection.ready(1)  # Takes the unit attention of the login.
    return connection


def ask(connection):
    """Asks for the first megabytes of the image, and reads nothing yet."""
    blocks = LENGTH // 512
    for number in range(READS):
        cdb = struct.pack(">BBIBHB", 0x28, 0, number * blocks, 0, blocks, 0)
        connection.command(cdb, 1, 0xC0, LENGTH)


def take(connection, image):
    """Takes Data-In PDUs and compares them with the image, until all is there or the target ends; answers how much it was.

    Data come in order within a command, the commands in any order: the tag says which part of the image a PDU belongs to.
    """
    first, got = connection.itt - READS + 1, [0] * READS
    while sum(got) < READS * LENGTH:
        try:
            pdu = connection.receive()
        except Closed:
            break
        if pdu.opcode == DATA_IN:
            number = pdu.itt - first
            at = number * LENGTH + got[number]
            assert pdu.data == image[at : at + len(pdu.data)], f"wrong bytes at {at}"
            got[number] += len(pdu.data)
    return sum(got)


def stall(host, target, image):
    with session(host, target) as connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 10)
        ask(connection)
        time.sleep(3)
        assert take(connection, image) == READS * LENGTH, "the stream ends early"


def idle(host, target, image):
    with session(host, target) as connection:
        print("idle", flush=True)
        sys.stdin.read()
        assert connection.read(1, 0, 64) == image[: 64 * 512], "wrong bytes after the silence"


def fin(host, target, image):
    with session(host, target) as connection:
        ask(connection)
        time.sleep(0.05)
        connection.socket.shutdown(socket.SHUT_WR)
        got = take(connection, image)
        assert connection.socket.recv(1) == b"", "bytes behind the end"
        print(f"  {got} bytes came behind our FIN")
        assert got > 0


def rst(host, target, image):
    for _ in range(10):
        connection = session(host, target)
        ask(connection)
        connection.exactly(48)
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    with session(host, target) as connection:
        ask(connection)
        assert take(connection, image) == READS * LENGTH


what, host, target, path = sys.argv[1:]
with open(path, "rb") as file:
    {"stall": stall, "idle": idle, "fin": fin, "rst": rst}[what](host, target, file.read())
