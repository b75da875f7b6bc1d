#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""service.py SECONDS COMMAND...: a service manager for one service: runs COMMAND with NOTIFY_SOCKET and a watchdog of
SECONDS, and checks what it is told (sd_notify(3)): READY once, WATCHDOG at least twice in each period while the service
runs, STOPPING after SIGTERM. Then stops the service as a watchdog would find it, with SIGSTOP, and checks that nothing is
told any more."""
import os
import select
import signal
import socket
import subprocess
import sys
import time

period = float(sys.argv[1])


def fail(why):
    service.kill()
    sys.exit(f"service.py: {why}")


def told(listener, seconds):
    """What is told within so many seconds, and when."""
    end, heard = time.monotonic() + seconds, []
    while (left := end - time.monotonic()) > 0:
        if select.select([listener], [], [], left)[0]:
            heard.append((time.monotonic(), listener.recv(4096).decode()))
    return heard


def wait_for(listener, state, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if state in (text for _, text in told(listener, 0.1)):
            return
    fail(f"not told {state} within {seconds} s")


def start(path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(path)
    shown = "@" + path[1:] if path[0] == "\0" else path
    environment = dict(os.environ, NOTIFY_SOCKET=shown, WATCHDOG_USEC=str(int(period * 1e6)))
    environment.pop("WATCHDOG_PID", None)
    return listener, subprocess.Popen(sys.argv[2:], env=environment)


for path in "notify.sock", "\0ptgt-notify":
    listener, service = start(path)
    wait_for(listener, "READY=1", 20)
    beats = [when for when, text in told(listener, 3 * period) if text == "WATCHDOG=1"]
    if len(beats) < 6:
        fail(f"{len(beats)} signs of life in three periods")
    service.send_signal(signal.SIGSTOP)
    time.sleep(0.1)
    told(listener, 0.1)
    if told(listener, 2 * period):
        fail("a service that is stopped tells something")
    service.send_signal(signal.SIGCONT)
    wait_for(listener, "WATCHDOG=1", period)
    service.send_signal(signal.SIGTERM)
    wait_for(listener, "STOPPING=1", 5)
    if service.wait(10) != 0:
        fail(f"exit status {service.returncode}")
    listener.close()
print(f"told READY, {len(beats)} signs of life in three periods of {period:g} s, and STOPPING")
