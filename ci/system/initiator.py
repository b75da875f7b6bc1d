# SPDX-License-Identifier: GPL-2.0-or-later
"""An iSCSI initiator that says what it is told to, right or wrong (PDU layouts: RFC 7143, 11)."""

import socket
import struct

NOP_OUT, COMMAND, TASK, LOGIN, TEXT, DATA_OUT, LOGOUT, SNACK = 0, 1, 2, 3, 4, 5, 6, 0x10
NOP_IN, RESPONSE, TASK_DONE, LOGIN_DONE, TEXT_DONE, DATA_IN, LOGOUT_DONE = range(0x20, 0x27)
R2T, REJECT = 0x31, 0x3F
IMMEDIATE = 0x40
NO_TAG = 0xFFFFFFFF


def bhs(opcode, flags=0x80, length=0, lun=0, itt=0, ahs=0, rest=b"", byte2=0, byte3=0):
    """A basic header segment; `rest` is its bytes from 20 on."""
    head = struct.pack(">BBBBB", opcode, flags, byte2, byte3, ahs) + length.to_bytes(3, "big")
    head += struct.pack(">HHI", lun & 0x3FFF, 0, 0) + struct.pack(">I", itt) + rest
    return head.ljust(48, b"\0")


def keys(**pairs):
    return b"".join(f"{key}={value}".encode() + b"\0" for key, value in pairs.items())


class Closed(Exception):
    """The target has ended the connection."""


class Pdu:
    def __init__(self, head, data):
        self.head, self.data = head, data
        self.opcode, self.flags = head[0] & 0x3F, head[1]
        self.itt, self.ttt = struct.unpack(">II", head[16:24])
        self.status_class, self.status_detail = head[36], head[37]
        self.scsi_status = head[3]
        self.status = self.status_class << 8 | self.status_detail


class Connection:
    def __init__(self, address, timeout=5, port=3260):
        family, kind, protocol, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        self.socket = socket.socket(family, kind, protocol)
        self.socket.settimeout(timeout)
        self.socket.connect(place)
        self.cmd_sn, self.itt, self.stat_sn, self.lun = 1, 1, 0, 0
        self.isid = struct.pack(">IH", 0x80000000 | id(self) & 0xFFFFFF, id(self) >> 24 & 0xFFFF)
        self.tsih, self.cid = 0, 0

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, head, data=b""):
        try:
            self.socket.sendall(head + data + bytes(-len(data) % 4))
        except (ConnectionError, BrokenPipeError):
            pass  # What the target had to say about it is read next.

    def exactly(self, count):
        got = b""
        while len(got) < count:
            try:
                part = self.socket.recv(count - len(got))
            except ConnectionError:
                part = b""
            if not part:
                raise Closed
            got += part
        return got

    def receive(self):
        head = self.exactly(48)
        self.exactly(head[4] * 4)
        length = int.from_bytes(head[5:8], "big")
        data = self.exactly(length + -length % 4)[:length]
        pdu = Pdu(head, data)
        self.stat_sn = struct.unpack(">I", head[24:28])[0]
        return pdu

    def login(self, target, csg=1, nsg=3, version=0, flags=None, text=None, isid=None, **more):
        flags = 0x80 | csg << 2 | nsg if flags is None else flags
        if text is None:
            text = keys(InitiatorName="iqn.2026-11.com.example:bad", SessionType="Normal", TargetName=target, **more)
        if isid:
            self.isid = isid
        head = struct.pack(">BBBBB", LOGIN | IMMEDIATE, flags, version, version, 0) + len(text).to_bytes(3, "big")
        head += self.isid + struct.pack(">HIHHII", self.tsih, 0, self.cid, 0, self.cmd_sn, 0)
        self.send(head.ljust(48, b"\0"), text)

    def ask(self, csg, nsg, **more):
        """A login request of a stage, and on to the next if there is one; answers the response and its keys."""
        flags = csg << 2 if nsg is None else 0x80 | csg << 2 | nsg
        self.login(None, flags=flags, text=keys(**more))
        pdu = self.receive()
        assert pdu.opcode == LOGIN_DONE, hex(pdu.opcode)
        return pdu, dict(pair.decode().split("=", 1) for pair in pdu.data.split(b"\0") if pair)

    def session(self, target, **more):
        self.login(target, **more)
        answer = self.receive()
        assert answer.opcode == LOGIN_DONE and answer.status_class == 0, (answer.opcode, answer.head[36:38].hex())
        return self

    def command(self, cdb, lun=0, flags=0x80, edtl=0, data=b"", length=None, itt=None, back=None):
        """Sends a SCSI command and answers its tag. Flags: 80h final, 40h read, 20h write; `back` is the read length of a
        command that does both."""
        self.itt += 1
        self.lun = lun
        itt = self.itt if itt is None else itt
        rest = struct.pack(">III", edtl, self.cmd_sn, self.stat_sn + 1) + cdb[:16].ljust(16, b"\0")
        self.cmd_sn += 1
        more = b""
        if len(cdb) > 16:
            more += struct.pack(">HBB", len(cdb) - 15, 1, 0) + cdb[16:] + bytes(-len(cdb) % 4)
        if back is not None:
            more += struct.pack(">HBBI", 5, 2, 0, back)
        length = len(data) if length is None else length
        self.send(bhs(COMMAND, flags, length, lun, itt, ahs=len(more) // 4, rest=rest) + more, data)
        return itt

    def data_out(self, itt, ttt, data, sn=0, offset=0, flags=0x80):
        """Sends data for the last command."""
        rest = struct.pack(">IIIIII", ttt, 0, self.stat_sn + 1, 0, sn, offset)
        self.send(bhs(DATA_OUT, flags, len(data), self.lun, itt, rest=rest), data)

    def run(self, cdb, lun=0, data=b"", room=0):
        """Sends a command; answers its status, its data, and of its sense data in fixed format key, code and INFORMATION."""
        itt = self.command(cdb, lun, 0x80 | (0x40 if room else 0) | (0x20 if data else 0), room or len(data), data)
        got = b""
        while True:
            pdu = self.receive()
            if pdu.itt != itt:
                continue
            if pdu.opcode == RESPONSE:
                sense = pdu.data[2:]
                if not sense:
                    return pdu.scsi_status, got, None
                information = struct.unpack(">I", sense[3:7])[0] if sense[0] & 0x80 else None
                return pdu.scsi_status, got, (sense[2] & 15, sense[12] << 8 | sense[13], information)
            got += pdu.data
            if pdu.flags & 1:
                return pdu.scsi_status, got, None

    def finish(self, itt):
        """Reads until the command has ended and answers its status and data; R2Ts are served with zeros."""
        got = b""
        while True:
            pdu = self.receive()
            if pdu.itt != itt:
                continue
            if pdu.opcode == R2T:
                offset, length = struct.unpack(">II", pdu.head[40:48])
                for at in range(0, length, 8192):
                    part = min(8192, length - at)
                    self.data_out(itt, pdu.ttt, bytes(part), at // 8192, offset + at, 0x80 if at + part == length else 0)
            elif pdu.opcode == DATA_IN:
                got += pdu.data
                if pdu.flags & 1:
                    return pdu.scsi_status, got
            elif pdu.opcode == RESPONSE:
                return pdu.scsi_status, got
            else:
                raise AssertionError(f"opcode {pdu.opcode:#x} in answer to a command")

    def ready(self, lun):
        return self.finish(self.command(bytes(6), lun))[0]

    def read(self, lun, lba, blocks, block=512):
        cdb = struct.pack(">BBIBHB", 0x28, 0, lba, 0, blocks, 0)
        status, data = self.finish(self.command(cdb, lun, 0xC0, blocks * block))
        assert status == 0, f"READ: status {status}"
        return data

    def write(self, lun, lba, data, block=512):
        cdb = struct.pack(">BBIBHB", 0x2A, 0, lba, 0, len(data) // block, 0)
        # Without unsolicited data: R2T asks for zeros, so the data goes along with the command.
        status, _ = self.finish(self.command(cdb, lun, 0xA0, len(data), data))
        assert status == 0, f"WRITE: status {status}"
