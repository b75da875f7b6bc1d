#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# portals.sh tap|kernel: IPv4 and IPv6, discovery, small and large MTU, header digests, two reactors on one disk.
. "$(dirname "$0")/../lib.sh"
use_port "${1:?tap or kernel}"
make_image one.img 64 /usr/share/perl
make_image two.img 64 "$root/ci"

# Eight sessions are spread over two reactors evenly, wherever the kernel lets them come in; those that come when some have
# ended, without a word, take the places of these. Who only looks, asks what there is or is refused takes nobody's place.
even() {
  PYTHONPATH=$root/ci/system python3 -B - "$host" "$iqn" <<'python' || die "sessions are not spread evenly"
import json, os, subprocess, sys, time
from initiator import Connection, keys

host, target = sys.argv[1:]


def reactors(sessions, sockets):
    """The reactor of each session, by the initiator's port, when there are so many, and so many sockets."""
    end = time.monotonic() + 10
    while True:
        status = json.loads(subprocess.check_output([os.environ["PTGT"], "status", "--json"]))
        by_port = {}
        for session in status["sessions"]:
            if session.get("target"):
                by_port[int(session["connections"][0]["peer"].rsplit(":", 1)[1])] = session["reactor"]
        if len(by_port) == sessions and sum(port["counters"]["open"] for port in status["ports"]) == sockets:
            return by_port
        assert time.monotonic() < end, status
        time.sleep(0.05)


def spread(sessions, sockets):
    found = list(reactors(sessions, sockets).values())
    return [found.count(reactor) for reactor in (0, 1)]


def others():
    """A scanner and one that is refused, who go; and one that asks what there is, who stays."""
    scanner, asks, refused = (Connection(host, 30) for _ in range(3))
    asks.login(None, text=keys(InitiatorName="iqn.2026-11.com.example:asks", SessionType="Discovery"))
    assert asks.receive().status == 0
    refused.login("iqn.2026-11.com.example:nobody")
    assert refused.receive().status != 0
    scanner.close()
    refused.close()
    return asks


for _ in range(5):
    asks = others()
    assert spread(0, 1) == [0, 0]
    sessions = [Connection(host, 30).session(target) for _ in range(8)]
    assert spread(8, 9) == [4, 4], reactors(8, 9)
    places = reactors(8, 9)
    first = places[sessions[0].socket.getsockname()[1]]
    for session in [it for it in sessions if places[it.socket.getsockname()[1]] == first]:
        sessions.remove(session)
        session.close()
    assert spread(4, 5) == ([0, 4] if first == 0 else [4, 0]), reactors(4, 5)
    sessions += [Connection(host, 30).session(target) for _ in range(4)]
    assert spread(8, 9) == [4, 4], reactors(8, 9)
    for session in [*sessions, asks]:
        session.close()
    assert spread(0, 0) == [0, 0]
python
}

# Sixteen sessions read the same blocks of one disk; with several reactors none of those is without a session.
spread() { # REACTORS
  mkfifo hold
  PYTHONPATH=$root/ci/system python3 -B -c '
import sys
from initiator import Connection
sessions = [Connection(sys.argv[1], 30).session(sys.argv[2]) for _ in range(16)]
assert all(session.ready(0) in (0, 2) for session in sessions)
assert len({session.read(0, 0, 64) for session in sessions}) == 1
print("read", flush=True)
sys.stdin.read()' "$host" "$iqn" <hold >sixteen &
  local reader=$!
  exec 8>hold
  until_true 20 grep -q read sixteen || die "sixteen sessions do not read"
  "$PTGT" status --json | jq -c '[.sessions[].reactor]' | tee reactors
  jq -e "unique | length == $1" reactors >/dev/null || die "a reactor has no session"
  exec 8>&-
  wait "$reader" || die "the sixteen sessions"
  rm hold
}

round() { # MTU REACTORS
  say "MTU $1, reactors $2"
  configuration test.toml "$1" "$2"
  start test.toml "$host" "$host6"
  # A thousand sessions that speak at once fit into the queue of the TAP device.
  [ "$port" != tap ] || [ "$(ip -j link show ptgt0 | jq ".[0].txqlen")" -ge 16384 ] || die "few frames may wait for the daemon"

  iscsi-ls "iscsi://$host" | tee list
  grep -q "Target:$iqn Portal:$host:3260" list || die "discovery does not show the IPv4 portal"
  iscsi-ls "iscsi://[$host6]" | tee list
  grep -qF "Portal:[$host6]:3260" list || die "discovery does not show the IPv6 portal"

  upload one.img "$url6/0"
  same one.img "$disk"
  say "header digests"
  digest="driver=iscsi,transport=tcp,portal=$host:3260,target=$iqn,lun=0,header-digest=crc32c"
  qemu-img convert -n -f raw two.img --target-image-opts "$digest"
  qemu-img convert --image-opts "$digest" -O raw back.img
  cmp -n "$(stat -c %s two.img)" two.img back.img || die "two.img came back different"
  same two.img "$url6/0"

  say "two sessions, each with its half of one disk, at once"
  head -c 33554432 /dev/urandom >half
  upload half "$url6/1" &
  writer=$!
  qemu-io -f raw "$ram" -c 'write -P 77 128M 32M' -c 'read -P 77 128M 32M' >both || die "the second session fails"
  wait "$writer"
  grep -qi 'failed\|error' both && die "the second session reads something else"
  same half "$ram"
  say "sessions of one disk on all reactors"
  spread "$(jq length <<<"$2")"
  [ "$port $2" != 'kernel [0, 1]' ] || even
  stop TERM 10 0
}

[ "$port" = tap ] && round 1500 '[0]'
round 65521 '[0]'
[ "$(nproc)" -lt 2 ] || round 65521 '[0, 1]'

if [ "$port" = tap ]; then
  say "a user without privileges, on a device that root has made"
  configuration all.toml 1500 '[0]'
  sed -e '/^host_address/d' -e '/^\[daemon\]/a control_socket = "user.sock"' all.toml >test.toml
  ip tuntap add ptgt0 mode tap vnet_hdr user nobody
  ip address add 10.77.0.1/24 dev ptgt0
  ip address add fd77::1/64 dev ptgt0 nodad
  ip link set ptgt0 mtu 1500 up
  # Wherever the binary is: a user may not look into root's directories.
  cp "$PTGT" ptgt
  chown -R nobody "$work" var/lib/ptgt
  printf '#!/bin/sh\nexec setpriv --reuid nobody --regid nogroup --clear-groups --no-new-privs ./ptgt "$@"\n' >as_user
  chmod +x as_user
  PTGT=./as_user start test.toml
  upload half "$ram"
  same half "$ram"
  stop TERM 10 0
  ip link set ptgt0 mtu 1400
  ./as_user run --config test.toml >said 2>&1 && die "runs with another MTU than the device's"
  grep 'ERROR.*ptgt0' said | grep -q 'ip link set ptgt0 mtu 1500' || { cat said; die "no clear error"; }
fi
