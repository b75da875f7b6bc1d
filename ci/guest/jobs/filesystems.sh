# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: ext4 and xfs: trees of files, fsck, checksums after another login
# nets: tap,kernel,inside-tap,inside-kernel
# devices: file,file4k,ram,ram4k
# limit: 400
# needs: sha256sum mkfs.ext4 fsck.ext4 /etc/mke2fs.conf mkfs.xfs xfs_repair blkid
# modules: ext4 xfs crc32c_generic libcrc32c
job() {
  modprobe -a ext4 xfs
  mkdir -p mnt
  attach
  local kind
  for kind in ext4 xfs; do
    say "$kind"
    case $kind in
      ext4) mkfs.ext4 -q -F "$disk" ;;
      xfs) mkfs.xfs -q -f "$disk" ;;
    esac
    mount -t $kind "$disk" mnt
    make_tree mnt
    (cd mnt && find . -type f -print0 | sort -z | xargs -0 sha256sum) >sums
    [ "$(wc -l <sums)" -gt 40 ] || die "the tree has $(wc -l <sums) files"
    umount mnt

    logout
    login "$address"
    wait_for_disks "$lun"
    check_file_system $kind
    mount -t $kind -o ro "$disk" mnt
    (cd mnt && sha256sum --status -c "$OLDPWD/sums") || die "files on $kind have changed"
    umount mnt
  done
  logout
}

check_file_system() { # KIND
  case $1 in
    ext4) fsck.ext4 -fn "$disk" >fsck 2>&1 ;;
    xfs) xfs_repair -n "$disk" >fsck 2>&1 ;;
  esac || { cat fsck; die "$1 has errors"; }
}

# Files of many sizes in directories, some of them overwritten, moved and removed again, some sparse.
make_tree() { # DIRECTORY
  local directory n
  pattern 7 4194304 >big
  for directory in a b/c; do
    mkdir -p "$1/$directory"
    for n in $(seq 20); do
      head -c $((n * n * 331)) big >"$1/$directory/file$n"
    done
    dd if=big of="$1/$directory/large" bs=64k conv=fsync 2>/dev/null
    dd if=big of="$1/$directory/sparse" bs=4k count=100 seek=4000 2>/dev/null
    dd if=big of="$1/$directory/large" bs=1000 skip=7 seek=999 count=500 conv=notrunc 2>/dev/null
    for n in $(seq 1 3 20); do mv "$1/$directory/file$n" "$1/$directory/moved$n"; done
    cp "$1/$directory/large" "$1/$directory/gone"
    ln -s large "$1/$directory/link"
    cp big "$1/$directory/whole"
    cp "$1/$directory/whole" "$1/$directory/again"
    sync
    rm "$1/$directory/gone"
  done
}
