# SPDX-License-Identifier: GPL-2.0-or-later
"""listeners.py DIRECTORY: each pair of portals of different kinds side by side, each in a group and with a target of its own.

Whatever address is reached, the answer is that of the portal that listens there: its targets, its tag, its sessions; and where
SendTargets sends an initiator, it finds the tag that it was told. Portals that would share an address are no configuration.
"""

import itertools
import json
import os
import socket
import struct
import subprocess
import sys
import time

from initiator import NO_TAG, TEXT, Closed, Connection, bhs

PTGT = os.environ["PTGT"]
IQN = "iqn.2026-11.com.example:"
UNKNOWN, NO_SESSION, MOVED = 0x0203, 0x020A, 0x0101
# Of each kind of portal: port, address, and where it is reached.
KINDS = {
    "all of IPv4": ("host", "0.0.0.0", ["127.0.0.1", "10.77.0.1"]),
    "all of IPv6": ("host", "[::]", ["::1", "fd77::1", "fe80::77%va"]),
    "one of IPv4": ("host", "10.77.0.1", ["10.77.0.1"]),
    "one of IPv6": ("host", "[fd77::1]", ["fd77::1"]),
    "link-local": ("host", "[fe80::77%va]", ["fe80::77%va"]),
    "TAP, IPv4": ("tap", "10.78.0.2", ["10.78.0.2"]),
    "TAP, IPv6": ("tap", "[fd78::2]", ["fd78::2"]),
}
# Two of these cannot have one TCP port.
OVERLAPPING = [("all of IPv4", "one of IPv4"), ("all of IPv6", "one of IPv6"), ("all of IPv6", "link-local")]
HOSTS = """
[daemon]
reactors = %s
memory = "16MiB"
[[port]]
name = "host"
driver = "kernel"
[[port]]
name = "tap"
driver = "tap"
device = "ptgt0"
address = ["10.78.0.2/24", "fd78::2/64"]
host_address = ["10.78.0.1/24", "fd78::1/64"]
[[disk]]
name = "null"
store = "null"
size = "1MiB"
"""
failures = 0


def check(what, got, wanted):
    global failures
    if got != wanted:
        failures += 1
        print(f"{what}: {got!r}, wanted {wanted!r}", flush=True)


class Portal:
    def __init__(self, kind, group, tcp):
        self.kind, self.group, self.tcp = kind, group, tcp
        self.port, self.address, self.reached = KINDS[kind]
        self.name = f"portal{group}"

    def table(self):
        return (f'[[portal]]\nname = "{self.name}"\nport = "{self.port}"\naddress = "{self.address}:{self.tcp}"\n'
                f'group = {self.group}\n')


def configuration(portals, reactors):
    text = HOSTS % reactors + "".join(portal.table() for portal in portals)
    luns = 'luns = [{ lun = 0, disk = "null" }]\n'
    for portal in portals:
        text += f'[[target]]\nname = "{IQN}own{portal.group}"\nportals = ["{portal.name}"]\n{luns}'
    text += f'[[target]]\nname = "{IQN}all"\n{luns}[target.iscsi]\nmax_connections = 2\n'
    text += f'[[target]]\nname = "{IQN}moved"\n{luns}[[target.redirect]]\naddress = "there.example:3260"\ngroup = 2\n'
    return text


def write(text):
    with open("listeners.toml", "w") as file:
        file.write(text)
    return "listeners.toml"


def refused(text, lines):
    """`check` names both places of what cannot be."""
    done = subprocess.run([PTGT, "check", write(text)], capture_output=True, text=True)
    check("a configuration in which two portals share an address", done.returncode, 1)
    for line in lines:
        check(f"line {line} is named in {done.stderr!r}", f"line {line}" in done.stderr or f":{line}:" in done.stderr, True)


class Daemon:
    def __init__(self, text, log="target.log"):
        with open(log, "a") as file:
            self.process = subprocess.Popen([PTGT, "run", "--config", write(text)], stderr=file)

    def wait_for(self, address, tcp):
        end = time.monotonic() + 20
        while True:
            try:
                return Connection(address, port=tcp).close()
            except OSError:
                assert self.process.poll() is None and time.monotonic() < end, f"nobody listens at {address}"
                time.sleep(0.01)

    def stop(self):
        self.process.terminate()
        check("exit status", self.process.wait(20), 0)


def login(address, tcp, target, isid=None, tsih=0, cid=0):
    """Answers the status, the keys that were answered, and the connection."""
    c = Connection(address, port=tcp)
    c.isid, c.tsih, c.cid = isid or b"\x80" + os.urandom(5), tsih, cid
    kind = {"SessionType": "Discovery"} if target is None else {"SessionType": "Normal", "TargetName": IQN + target}
    pdu, said = c.ask(1, 3, InitiatorName=IQN + "initiator", MaxConnections=2, **kind)
    if pdu.status == 0:
        c.tsih = struct.unpack(">H", pdu.head[14:16])[0]
    return pdu.status, said, c


def send_targets(c, which):
    """The targets and where each is told to be."""
    text = f"SendTargets={which}\0".encode()
    c.send(bhs(TEXT, 0x80, len(text), itt=5, rest=struct.pack(">III", NO_TAG, c.cmd_sn, 0)), text)
    c.cmd_sn += 1
    found = {}
    for pair in c.receive().data.decode().split("\0"):
        key, _, value = pair.partition("=")
        if key == "TargetName":
            found[value.removeprefix(IQN)] = last = []
        elif key == "TargetAddress":
            last.append(value)
    return found


def bracketed(address):
    bare = address.split("%")[0]
    return f"[{bare}]" if ":" in bare else bare


def told(portal, visited, address):
    """How somebody who has reached `visited` at `address` is told of a portal; None if he is not."""
    if portal.address in ("0.0.0.0", "[::]"):
        # It listens at the address that was reached, if that is one of the kernel's and of its family.
        same = visited.port == portal.port and (":" in address) == (":" in portal.address)
        return same and f"{bracketed(address)}:{portal.tcp},{portal.group}" or None
    if "%" in portal.address and "%" not in address:
        return None
    return f"{portal.address.split('%')[0]}{']' if '%' in portal.address else ''}:{portal.tcp},{portal.group}"


def lives(c):
    try:
        return c.ready(0) in (0, 2)
    except (Closed, ConnectionError):
        return False


def visit(portal, other, address):
    what = f"{portal.kind} beside {other.kind}, at {address}"
    own, foreign = f"own{portal.group}", f"own{other.group}"
    connections = []

    def at(target, **more):
        status, said, c = login(address, portal.tcp, target, **more)
        connections.append(c)
        return status, said.get("TargetPortalGroupTag"), c

    tag = str(portal.group)
    check(f"{what}: its own target", at(own)[:2], (0, tag))
    check(f"{what}: the other's target", at(foreign)[0], UNKNOWN)
    check(f"{what}: a target that is elsewhere for group 2", at("moved")[0], MOVED if portal.group == 2 else 0)
    # What is told, in a discovery session and in a normal one.
    places = [place for place in (told(it, portal, address) for it in (portal, other)) if place]
    mine = [place for place in places if place.endswith(f",{portal.group}")]
    theirs = [place for place in places if place not in mine]
    expected = {own: mine, **({foreign: theirs} if theirs else {}), "all": places, "moved": places}
    status, _, c = at(None)
    found = {target: sorted(places) for target, places in send_targets(c, "All").items()}
    check(f"{what}: discovery", found, {target: sorted(places) for target, places in expected.items()})
    isid = b"\x80" + os.urandom(5)
    status, _, first = at("all", isid=isid)
    check(f"{what}: the target of both", status, 0)
    check(f"{what}: SendTargets in a session", sorted(send_targets(first, "").get("all", [])), sorted(places))
    # Whoever goes where he was sent finds the tag that he was told.
    for place in found.get("all", []):
        there, _, group = place.rpartition(",")
        there, _, tcp = there.rpartition(":")
        there = there.strip("[]") + ("%va" if there.startswith("[fe80:") else "")
        status, said, c = login(there, int(tcp), "all")
        connections.append(c)
        check(f"{what}: told {place}, found", (status, said.get("TargetPortalGroupTag")), (0, group))
    # Sessions are those of a portal group: the same ISID elsewhere is another, and what joins must come to the same.
    status, _, elsewhere = login(other.reached[0], other.tcp, "all", isid=isid)
    connections.append(elsewhere)
    check(f"{what}: the same ISID at the other", (status, lives(first), lives(elsewhere)), (0, True, True))
    joins, _, c = login(other.reached[0], other.tcp, "all", isid=isid, tsih=first.tsih, cid=1)
    connections.append(c)
    check(f"{what}: joining it through the other", joins, NO_SESSION)
    check(f"{what}: joining it", at("all", isid=isid, tsih=first.tsih, cid=1)[0], 0)
    status = json.loads(subprocess.check_output([PTGT, "status", "--json"]))
    shown = {s["tsih"]: [c["portal"] for c in s["connections"]] for s in status["sessions"] if s["target"] == IQN + "all"}
    check(f"{what}: status", (shown.get(first.tsih), shown.get(elsewhere.tsih)), ([portal.name] * 2, [other.name]))
    status, _, again = at("all", isid=isid)
    check(f"{what}: the same ISID again", (status, lives(first), lives(elsewhere), lives(again)), (0, False, True, True))
    for c in connections:
        c.close()


def mapped(portal):
    """IPv4 in the clothes of IPv6 is IPv4: it reaches no listener of IPv6."""
    if ":" not in portal.address:
        return
    s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    s.settimeout(5)
    try:
        s.connect(("::ffff:10.77.0.1", portal.tcp))
        check(f"{portal.kind}: an address of IPv4", "is reached", "refused")
    except ConnectionRefusedError:
        pass
    s.close()


def pairs(reactors):
    for one, two in itertools.combinations(KINDS, 2):
        portals = [Portal(one, 1, 3260), Portal(two, 2, 3260)]
        if (one, two) in OVERLAPPING:
            text = configuration(portals, reactors)
            refused(text, [number for number, line in enumerate(text.split("\n"), 1) if line == "[[portal]]"])
            portals[1].tcp = 3261
        daemon = Daemon(configuration(portals, reactors))
        for portal in portals:
            for address in portal.reached:
                daemon.wait_for(address, portal.tcp)
        for portal, other in (portals, portals[::-1]):
            for address in portal.reached:
                visit(portal, other, address)
            if not any("." in it.address and it.tcp == portal.tcp for it in portals):
                mapped(portal)
        daemon.stop()
    print(f"{len(list(itertools.combinations(KINDS, 2)))} pairs", flush=True)


pairs(sys.argv[1])
sys.exit(1 if failures else 0)
