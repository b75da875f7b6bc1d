#!/usr/lib/busybox/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# init.sh: the first process of a guest. It leads to /usr/lib/rig/ci/guest/guest.sh, in the initramfs or, with "hostroot" on the
# kernel's command line, in the root file system of the host, of which nothing is changed. With "first=systemd" systemd comes
# in between: it is the first process from then on, and the guest's side of the rig is a service of it.
export PATH=/usr/sbin:/usr/bin:/usr/lib/busybox HOME=/root TERM=dumb LC_ALL=C
mount -t proc proc /proc
mount -t sysfs sysfs /sys
[ -c /dev/null ] || mount -t devtmpfs devtmpfs /dev
root=
if grep -q hostroot /proc/cmdline; then
  modprobe -a virtio_pci 9pnet_virtio 9p overlay
  mkdir -p /run/lower /run/upper /run/new
  mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 hostroot /run/lower
  mount -t tmpfs tmpfs /run/upper
  mkdir /run/upper/files /run/upper/work
  mount -t overlay -o lowerdir=/run/lower,upperdir=/run/upper/files,workdir=/run/upper/work overlay /run/new
  for directory in proc sys dev; do mount --move /$directory /run/new/$directory; done
  # Sockets, locks and scratch files of the host are none of the guest's business.
  for directory in /run /tmp; do mount -t tmpfs tmpfs /run/new$directory; done
  mkdir -p /run/new/usr/lib/rig && cp -a /usr/lib/rig/. /run/new/usr/lib/rig
  root=/run/new
else
  # A program that finds out where it is mounted, as mount(8) and its like do, has to find something.
  mount -t tmpfs tmpfs /run
fi
mkdir -p $root/dev/pts $root/dev/shm $root/run/lock
ln -sf /proc/self/fd $root/dev/fd
mount -t devpts devpts $root/dev/pts
mount -t tmpfs tmpfs $root/dev/shm
first="/bin/bash /usr/lib/rig/ci/guest/guest.sh"
if grep -q first=systemd /proc/cmdline; then
  mkdir -p $root/etc/systemd/system
  cp /usr/lib/rig/ci/guest/rig.service $root/etc/systemd/system
  first="/lib/systemd/systemd --unit=rig.service"
fi
[ -z "$root" ] || exec switch_root /run/new $first
exec $first
