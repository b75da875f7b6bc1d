# SPDX-License-Identifier: GPL-2.0-or-later
"""harm.py PTGT: whatever the path of a disk is, and however the disk is configured, `ptgt check` and `ptgt run` agree
whether it can be served, and what was there before keeps its size, mode, owner, content and time of modification. Runs
in a directory of a system test (ci/lib.sh)."""

import contextlib
import hashlib
import itertools
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time

PTGT = sys.argv[1]
SIZE = 1 << 20
IN_MEMORY = {False: "on-disk", True: "in-memory"}


def sh(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


NO_DISK = sh("stat", "-f", "-c", "%T", ".") == "tmpfs"


def write(path, count, mode=0o640):
    with open(path, "wb") as file:
        file.write((b"these are the words of somebody else.\n" * (count // 38 + 1))[:count])
    os.chmod(path, mode)


# What a path may be: how it is made, and the size of the image that it leads to, if it leads to one. What is made is
# undone by what `undo` holds.
undo = contextlib.ExitStack()
KINDS = {}


def kind(size=None):
    def add(make):
        KINDS[make.__name__] = (make, size)
        return make

    return add


@kind()
def missing(path):
    pass


@kind()
def missing_with_directory(path):
    # The path itself is a directory that is there no more: what is asked for lies below it.
    return os.path.join(path, "a", "b.img")


@kind(0)
def empty(path):
    write(path, 0)


@kind(20_000)
def text(path):
    write(path, 20_000)


@kind(SIZE)
def right(path):
    write(path, SIZE)


@kind(SIZE)
def sparse(path):
    write(path, 4096)
    os.truncate(path, SIZE)


@kind(2 * SIZE)
def larger(path):
    write(path, 2 * SIZE)


@kind(SIZE + 100)
def odd(path):
    write(path, SIZE + 100)


@kind(100)
def less_than_a_block(path):
    write(path, 100)


@kind(SIZE)
def read_only_file(path):
    write(path, SIZE, 0o444)


@kind(SIZE)
def for_everybody(path):
    write(path, SIZE, 0o666)


@kind(SIZE)
def link_to_image(path):
    write(path + ".there", SIZE)
    os.symlink(path + ".there", path)


@kind()
def directory(path):
    os.mkdir(path)


@kind()
def link_to_directory(path):
    os.mkdir(path + ".there")
    os.symlink(path + ".there", path)


@kind()
def dangling_link(path):
    os.symlink(path + ".there", path)


@kind()
def link_to_itself(path):
    os.symlink(path, path)


@kind()
def below_a_file(path):
    write(path, 4096)
    return path + "/image"


@kind()
def fifo(path):
    os.mkfifo(path)


@kind()
def unix_socket(path):
    here = os.getcwd()
    os.chdir(os.path.dirname(path))
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(os.path.basename(path))
    os.chdir(here)


@kind()
def character_device(path):
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 7))


@kind()
def link_to_null(path):
    os.symlink("/dev/null", path)


@kind()
def immutable(path):
    write(path, SIZE)
    sh("chattr", "+i", path)
    undo.callback(sh, "chattr", "-i", path)


@kind()
def append_only(path):
    write(path, SIZE)
    sh("chattr", "+a", path)
    undo.callback(sh, "chattr", "-a", path)


@kind()
def behind_a_loop_device(path):
    write(path, SIZE)
    undo.callback(sh, "losetup", "-d", sh("losetup", "--find", "--show", path))


@kind()
def swap_space(path):
    write(path, SIZE, 0o600)
    sh("mkswap", path)
    sh("swapon", path)
    undo.callback(sh, "swapoff", path)


@kind(SIZE)
def loop_device(path):
    write(path + ".behind", SIZE)
    device = sh("losetup", "--find", "--show", path + ".behind")
    undo.callback(sh, "losetup", "-d", device)
    os.symlink(device, path)


@kind()
def mounted_device(path):
    write(path + ".behind", 0)
    sh("mke2fs", "-q", "-t", "ext4", path + ".behind", "1M")
    device = sh("losetup", "--find", "--show", path + ".behind")
    undo.callback(sh, "losetup", "-d", device)
    os.mkdir(path + ".mount")
    # Read-only, so that the kernel does not write to it by itself.
    sh("mount", "-o", "ro", device, path + ".mount")
    undo.callback(sh, "umount", path + ".mount")
    os.symlink(device, path)


# Those of which there are few, or which tmpfs does not have: made once for each configuration that differs for them.
COSTLY = {immutable, append_only, behind_a_loop_device, swap_space, loop_device, mounted_device}
# What may be read by all means.
READABLE = {"immutable": SIZE, "append_only": SIZE, "behind_a_loop_device": SIZE, "mounted_device": SIZE, "swap_space": SIZE}


class Case:
    def __init__(self, number, make, size, in_memory, create, given, thin, mapped, read_only):
        self.name = f"{number}-{make.__name__}"
        self.in_memory, self.mapped = in_memory, mapped
        self.path = os.path.abspath(f"{IN_MEMORY[in_memory]}/{self.name}")
        self.path = make(self.path) or self.path
        self.table = f'[[disk]]\nname = "{self.name}"\nstore = "file"\npath = "{self.path}"\n' + "".join(
            f"{key} = {str(value).lower()}\n"
            for key, value in dict(create=create, thin=thin, mapped=mapped, read_only=read_only).items()
        )
        self.table += f"size = {given}\n" if given else ""
        self.made = make in (missing, missing_with_directory)
        if read_only:
            size = READABLE.get(make.__name__, size)
        fits = (create and given and not read_only) if self.made else size is not None and given in (None, size) and size >= 512
        # A block device lies nowhere that could be mapped.
        mappable = (in_memory or NO_DISK) and make not in (loop_device, mounted_device)
        self.good = bool(fits and (mappable or not mapped))
        self.full = not thin or mapped

    def __str__(self):
        return f"{self.path}\n{self.table}"


def cases():
    number = itertools.count()
    flags = [False, True]
    for in_memory, (make, size) in itertools.product(flags, KINDS.values()):
        if in_memory and make in COSTLY:
            continue
        given = [None, SIZE, 2 * SIZE]
        for choice in itertools.product(flags, given, flags, flags, flags):
            create, size_given, thin, mapped, read_only = choice
            if create and not size_given:
                continue  # refused whatever is there
            if make in COSTLY and (mapped or size_given == 2 * SIZE or (create and thin)):
                continue
            try:
                yield Case(next(number), make, size, in_memory, *choice)
            except subprocess.CalledProcessError as error:
                print(f"left out, {make.__name__}: {error.stderr.strip()}", flush=True)
                break


def configuration(path, some):
    with open(path, "w") as file:
        file.write('[daemon]\nmemory = "16MiB"\nhugepages = "never"\nlog = "info"\n')
        file.write('[[port]]\nname = "net"\ndriver = "kernel"\n')
        file.write('[[portal]]\nname = "here"\nport = "net"\naddress = "127.0.0.1:3260"\n')
        file.writelines(case.table for case in some)
        luns = ", ".join(f'{{ lun = {lun}, disk = "{case.name}" }}' for lun, case in enumerate(some))
        file.write(f'[[target]]\nname = "iqn.2026-11.com.example.ptgt:test"\nluns = [{luns}]\n')


def seen():
    """All that is there: what it is, how large, whose, with which rights, and when it was last modified."""
    found = {}
    for top in IN_MEMORY.values():
        for folder, folders, files in os.walk(top):
            if folder.endswith(".mount"):
                folders.clear()
                continue
            for name in folders + files:
                path = os.path.join(folder, name)
                now = os.lstat(path)
                what = (now.st_mode, now.st_uid, now.st_gid, now.st_nlink)
                if stat.S_ISREG(now.st_mode):
                    with open(path, "rb") as file:
                        what += now.st_size, now.st_mtime_ns, hashlib.sha1(file.read()).hexdigest()
                if stat.S_ISLNK(now.st_mode):
                    what += (os.readlink(path),)
                found[path] = what
    return found


def unharmed(before, after, when):
    changed = [f"{path}: {what} became {after.get(path)}" for path, what in before.items() if after.get(path) != what]
    assert not changed, f"{when}: {len(changed)} things have changed:\n" + "\n".join(changed[:20])


def refused(path):
    """The disks that `check` and `run` refuse, which must be the same ones, each in words."""
    checked = subprocess.run([PTGT, "check", "--json", path], capture_output=True, text=True)
    (report,) = json.loads(checked.stdout)
    assert not report["warnings"], report["warnings"]
    for error in report["errors"]:
        assert error["line"] and error["message"] and error["help"], error
    keys = {error["key"] for error in report["errors"]}
    if not keys:
        return set()
    ran = subprocess.run([PTGT, "run", "--config", path], capture_output=True, text=True, timeout=20)
    assert ran.returncode == 1 and checked.returncode == 1, (ran, checked)
    told = re.findall(r"^[^ ]*\.toml:\d+:\d+: (disk[^:]*):", ran.stderr, re.M)
    assert set(told) == keys, (set(told) ^ keys, ran.stderr)
    return {int(re.match(r"disk\[(\d+)\]", key)[1]) for key in keys}


def serves(path):
    """Runs a configuration that is to start, and ends it."""
    with open("run.log", "w") as log:
        daemon = subprocess.Popen([PTGT, "run", "--config", path], stderr=log)
    end = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", 3260), 1):
            break
        with open("run.log") as log:
            assert daemon.poll() is None and time.monotonic() < end, log.read()
        time.sleep(0.05)
    daemon.send_signal(signal.SIGTERM)
    with open("run.log") as log:
        assert daemon.wait(30) == 0, log.read()
        return log.read()


def main():
    all_cases = list(cases())
    good = [case for case in all_cases if case.good]
    bad = [case for case in all_cases if not case.good]
    before = seen()
    configuration("all.toml", all_cases)
    found = refused("all.toml")
    wrong = [str(case) for number, case in enumerate(all_cases) if (number in found) == case.good]
    assert not wrong, f"{len(wrong)} of {len(all_cases)} are judged wrongly:\n" + "\n".join(wrong[:10])
    unharmed(before, seen(), "check, and a run that refuses")
    assert len(seen()) == len(before), "something new is there"
    # One of each kind by itself.
    ones = {case.name.split("-")[1] + str(case.in_memory): case for case in bad}
    for case in ones.values():
        configuration("one.toml", [case])
        assert refused("one.toml") == {0}, case
    configuration("good.toml", good)
    log = serves("good.toml")
    made = [case for case in good if case.made]
    unharmed(before, seen(), "a run that serves")
    for case in made:
        now = os.stat(case.path)
        assert (now.st_size, stat.S_IMODE(now.st_mode)) in ((SIZE, 0o600), (2 * SIZE, 0o600)), case
        assert (now.st_blocks * 512 >= now.st_size) == case.full, case
        assert log.count(f"created {case.path}: ") == 1, case
    assert log.count("created ") == len(made), "what was made is told, once"
    print(f"{len(all_cases)} disks: {len(bad)} refused, {len(good)} served, {len(made)} of them made")


os.umask(0o022)
for name in IN_MEMORY.values():
    os.mkdir(name)
sh("mount", "-t", "tmpfs", "none", IN_MEMORY[True])
if NO_DISK:
    print("the work directory lies in memory: nothing is tried on a disk", flush=True)
try:
    main()
finally:
    undo.close()
