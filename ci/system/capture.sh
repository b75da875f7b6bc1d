#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# capture.sh: what our TCP/IP and iSCSI put on the wire is what Wireshark takes for well-formed, over IPv4 and IPv6.
. "$(dirname "$0")/../lib.sh"
use_port tap
configuration test.toml 1500
{
  printf '[[account]]\nname = "alice"\nsecret = "alices-own-secret"\n'
  printf '[[account]]\nname = "target"\nsecret = "targets-own-secret"\n'
  printf '[[target]]\nname = "%s:chap"\n[target.chap]\naccounts = ["alice"]\noutgoing = "target"\n' "$iqn"
  printf '[[target]]\nname = "%s:moved"\n[[target.redirect]]\naddress = "10.1.2.3:3260"\npermanent = true\n' "$iqn"
  printf '[[target]]\nname = "%s:away"\n[[target.redirect]]\naddress = "there.example:3261"\n' "$iqn"
  printf '[[target]]\nname = "%s:events"\nluns = [{ lun = 0, disk = "thin0" }]\n' "$iqn"
  printf '[target.iscsi]\nscsi_events = true\n'
} >>test.toml
start test.toml
tcpdump -Z root --immediate-mode -B 65536 -i ptgt0 -U -w wire.pcap 2>tcpdump.log &
sniffer=$!
until_true 10 grep -q 'listening on' tcpdump.log
ip neigh flush dev ptgt0
make_image one.img 16 "$root/src"
# Without -s, which would follow the redirections.
iscsi-ls "iscsi://$host" >/dev/null
ping -c 2 -q "$host" >/dev/null
ping -c 2 -q "$host6" >/dev/null
upload one.img "$disk"
same one.img "$disk"
upload one.img "$url6/1"
same one.img "$url6/1"
digest="driver=iscsi,transport=tcp,portal=$host:3260,target=$iqn,lun=0,header-digest=crc32c"
qemu-img convert --image-opts "$digest" -O raw back.img
python3 -B "$root/ci/system/talk.py" "$host" "$iqn" >talk.log 2>&1 &
talk=$!
until_true 30 eval "grep -q '^ready' talk.log || ! kill -0 $talk" || die "talk.py does not get to its end"
sleep 0.5
stop TERM 10 0
wait "$talk" || { cat talk.log; die "talk.py"; }
sleep 0.5
# The device has gone with the daemon, and the sniffer with the device.
kill -INT "$sniffer" 2>/dev/null || true
wait "$sniffer" || true
grep '^0 packets dropped' tcpdump.log || { cat tcpdump.log; die "the capture has holes of its own"; }

decode() { tshark -r wire.pcap -d tcp.port==3260,iscsi "$@" 2>/dev/null; }
ours='(eth.src[0] == 02)'
say "no malformed packet, nothing that Wireshark calls an error"
# QEMU asks for 64 bytes of VPD page 83h first; the dissector runs past the end of a page that is cut.
cut='(scsi_sbc.opcode == 0x12 && iscsi.datasegmentlength == 64)'
decode -Y "$ours && (_ws.malformed || _ws.expert.severity == 8388608) && !$cut" >bad
[ ! -s bad ] || { head -n 20 bad; die "$(wc -l <bad) malformed packets"; }
say "IP checksums, header digests and the TCP stream are right"
decode -o ip.check_checksum:TRUE -Y "$ours && ip.checksum.status == 0" >bad
[ ! -s bad ] || { head -n 20 bad; die "$(wc -l <bad) wrong IP checksums"; }
decode -V -Y "$ours && iscsi.headerdigest32" | grep 'HeaderDigest:' >digests
grep -v 'Good CRC32' digests && die "wrong header digests"
# A window of the peer that is full is none of our faults: what it offers may be used to the last byte.
decode -Y "$ours && (tcp.analysis.lost_segment || tcp.analysis.zero_window)" >bad
[ ! -s bad ] || { head -n 20 bad; die "$(wc -l <bad) holes in the stream"; }
count() { decode -Y "$1" | wc -l; }
for filter in 'iscsi.opcode == 0x23' 'iscsi.opcode == 0x25' 'iscsi.opcode == 0x21' 'iscsi.opcode == 0x26' \
  'iscsi.opcode == 0x31' 'iscsi.opcode == 0x22' 'iscsi.opcode == 0x24' 'iscsi.asyncevent == 0' 'iscsi.asyncevent == 1' \
  'iscsi.asyncevent == 2' 'iscsi.asyncevent == 3' 'iscsi.asyncevent == 5' 'iscsi.login.status == 0x0101' \
  'iscsi.login.status == 0x0102' 'iscsi.login.status == 0x0201' 'iscsi.keyvalue contains "CHAP_C="' 'ipv6 && iscsi' 'arp' 'icmp.type == 0' 'icmpv6.type == 129' 'icmpv6.type == 136'; do
  seen=$(count "$ours && $filter")
  say "$filter: $seen"
  [ "$seen" -gt 0 ] || die "there is nothing of that kind to judge"
done
