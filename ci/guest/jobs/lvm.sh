# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: LVM over both disks of the target: a striped volume, a snapshot, growing, activation after another login
# nets: tap,kernel
# devices: file,file4k
# limit: 400
# needs: sha256sum lvm mkfs.ext4 fsck.ext4 resize2fs /etc/mke2fs.conf
# expected: CONFIG_IMA_DISABLE_HTABLE
# modules: dm_mod dm_snapshot ext4 crc32c_generic libcrc32c
job() {
  modprobe -a dm_mod dm_snapshot ext4
  mkdir -p mnt /etc/lvm
  export LVM_SUPPRESS_FD_WARNINGS=1
  # There is no udev here.
  cat >/etc/lvm/lvm.conf <<'X'
devices { dir = "/dev" scan = "/dev" obtain_device_list_from_udev = 0 external_device_info_source = "none" use_devicesfile = 0 }
activation { udev_sync = 0 udev_rules = 0 verify_udev_operations = 0 monitoring = 0 }
backup { backup = 0 archive = 0 }
global { event_activation = 0 }
X
  attach
  wait_for_disks "$thin_lun"; local thin=$disk
  wait_for_disks "$ram_lun"; local ram=$disk
  lvm pvcreate -q "$thin" "$ram"
  lvm vgcreate -q group "$thin" "$ram"
  lvm lvcreate -q -y -W n -i 2 -I 64 -L 128M -n striped group
  mkfs.ext4 -q -F /dev/group/striped
  mount -t ext4 /dev/group/striped mnt
  pattern 11 16777216 >mnt/file
  sync
  sha256sum mnt/file >sum
  umount mnt

  say "a snapshot keeps what there was"
  lvm lvcreate -q -y -s -L 64M -n snap /dev/group/striped
  mount -t ext4 /dev/group/striped mnt
  pattern 12 16777216 >mnt/file
  umount mnt
  mount -t ext4 -o ro /dev/group/snap mnt
  sha256sum --status -c sum || die "the snapshot has changed"
  umount mnt
  lvm lvremove -q -y /dev/group/snap

  say "the volume grows"
  lvm lvextend -q -L 256M /dev/group/striped
  fsck.ext4 -fy /dev/group/striped >/dev/null 2>&1
  resize2fs /dev/group/striped >/dev/null 2>&1
  mount -t ext4 /dev/group/striped mnt
  pattern 13 33554432 >mnt/more
  sha256sum mnt/file mnt/more >sum
  umount mnt

  say "after another login"
  lvm vgchange -q -an group
  logout
  login "$address"
  wait_for_disks "$thin_lun"
  wait_for_disks "$ram_lun"
  lvm vgchange -q -ay group
  fsck.ext4 -fn /dev/group/striped >fsck 2>&1 || { cat fsck; die "the file system has errors"; }
  mount -t ext4 -o ro /dev/group/striped mnt
  sha256sum --status -c sum || die "files have changed"
  umount mnt
  lvm vgchange -q -an group
  lvm vgremove -q -ff -y group
  logout
}
