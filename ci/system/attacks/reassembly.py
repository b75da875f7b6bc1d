# SPDX-License-Identifier: GPL-2.0-or-later
"""Peers whose data is never in order, for our own TCP."""

from forge import Device

from . import attack


@attack(ports=("tap",), lines=1000)
def out_of_order(victim):
    """300 connections of which each has sent a window but for its first byte."""
    device = Device("ptgt0", victim.address)
    peers = device.connect([(f"10.77.0.{20 + n % 200}", 20000 + n) for n in range(300)])
    part = bytes(60000)
    for ahead in range(1, 1 << 20, len(part)):
        for peer in peers.values():
            peer.send(part[:(1 << 20) - ahead], ahead)
            if victim.over():
                return
    print(f"    {len(peers)} connections have sent a window out of order", flush=True)
