# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# job: what was acknowledged as stable is there whenever the power goes: every mark of dm-log-writes is replayed
# nets: inside-kernel,inside-tap
# devices: file,file4k
# limit: 900
# needs: dd dmsetup mkfs.ext4 /etc/mke2fs.conf blockdev
# modules: dm_mod dm_log_writes virtio_blk ext4 crc32c_generic libcrc32c
# drives: data:192M log:4G
# expected: CONFIG_IMA_DISABLE_HTABLE|detected conn error \((1011|1019|1020)\)
#
# The image lies on ext4 on dm-log-writes, which records what reaches the disk, in an order that only flushes and FUA
# guarantee. The initiator writes step by step, has each step made stable by a flush or by FUA, and then leaves the
# step's number as a mark. The daemon is killed on the way; in the end the guest loses its power while it writes. For
# each mark the host then makes the disk as a power cut at that moment would have left it, and looks for the steps.
steps=70 slots=23

slot_of() { echo $(($1 * 7 % slots)); } # STEP
step_bytes() { echo $((4096 * (1 + $1 % 5))); } # STEP

before_target() {
  export DM_DISABLE_UDEV=1
  modprobe -a dm_mod dm_log_writes virtio_blk ext4
  local bytes
  bytes=$(blockdev --getsz /dev/vda)
  dmsetup create logged --table "0 $bytes log-writes /dev/vda /dev/vdb"
  mkfs.ext4 -q -F -E nodiscard /dev/mapper/logged
  mount -t ext4 ${mount_options:+-o "$mount_options"} /dev/mapper/logged var/lib/ptgt
  mount --bind var/lib/ptgt /var/lib/ptgt
  sed -i 's/^size = "1GiB"/size = "64MiB"/' target.toml
}

job() {
  attach node.session.timeo.replacement_timeout=600
  grep -q 'supports DPO and FUA' <(dmesg) || die "the disk has no FUA"
  echo 0 >reached
  write_steps &
  local writer=$! killed
  for killed in 10 20 30 40; do
    until_true 300 step_done $killed || die "step $killed is not reached"
    target_crash 1
    say "the target was killed after step $killed"
  done
  until_true 300 step_done 50 || die "step 50 is not reached"
  sleep "$((RANDOM % 3)).$((RANDOM % 10))"
  kill -0 $writer || die "all steps were written before the power went"
  say "the power goes"
  on_host power_cut
}
step_done() { [ "$(cat reached)" -ge "$1" ]; }

write_steps() {
  local step noise
  for step in $(seq $steps); do
    pattern "$step" "$(step_bytes "$step")" >step
    if [ $((step % 3)) -eq 0 ]; then
      dd if=step of="$disk" bs=4k seek=$(($(slot_of "$step") * 8)) oflag=direct,dsync
    else
      dd if=step of="$disk" bs=4k seek=$(($(slot_of "$step") * 8)) oflag=direct
      # Closing a block device would flush it in any case; fsync() says whether that went well.
      dd if=/dev/null of="$disk" bs=4k count=0 conv=notrunc,fsync
    fi
    dmsetup message logged 0 mark "$step"
    echo "$step" >reached
    # What nobody asks to be stable.
    noise=$((4096 + step * 40 % 8192))
    dd if=step of="$disk" bs=4k seek=$noise oflag=direct
  done 2>/dev/null
  sleep 600
}

# On the host: as many marks as the guest left, and what the disk has at each.
after_power_cut() {
  local mark last=0
  truncate -s 2M wanted.img
  coproc replay { python3 "$guest/replay.py" log.img replay.img 192; }
  while read -r -u "${replay[0]}" mark; do
    pattern "$mark" "$(step_bytes "$mark")" |
      dd of=wanted.img bs=4k seek=$(($(slot_of "$mark") * 8)) conv=notrunc iflag=fullblock status=none
    cp replay.img now.img
    e2fsck -fy now.img >fsck 2>&1 || [ $? -eq 1 ] || { cat fsck; die "mark $mark: the file system below the image is broken"; }
    # cmp has seen enough before debugfs has told all.
    { debugfs -R "cat /disk0.img" now.img 2>/dev/null || true; } | cmp -n $((slots * 32768)) - wanted.img || die "mark $mark: not what was stable"
    last=$mark
    echo >&"${replay[1]}"
  done
  [ "$last" -ge 45 ] || die "the log ends with mark $last"
  say "at each of $last marks there is all that was stable"
}
