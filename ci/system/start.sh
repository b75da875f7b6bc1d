#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# start.sh: what check says is what run does, whatever keeps a daemon from starting, and what one holds that runs already is
# in nobody's way; all that is wrong is told at once, and always (start.py).
. "$(dirname "$0")/../lib.sh"
use_port kernel
# Of these namespaces, too.
mount -t sysfs none /sys
chmod 755 "$work"
cp "$PTGT" ptgt
python3 -B "$root/ci/system/start.py" "$work/ptgt"
