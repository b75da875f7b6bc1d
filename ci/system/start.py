# SPDX-License-Identifier: GPL-2.0-or-later
"""start.py PTGT: a table of configurations that a daemon can start with, or cannot. `ptgt check`, `ptgt doctor` and `ptgt run`
agree on each, and on the reasons. Runs in a directory of a system test (ci/lib.sh)."""

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time

PTGT = sys.argv[1]
HERE = os.getcwd()
IQN = "iqn.2026-11.com.example.ptgt:test"
SECRET = "a secret of the account"
MEMORY = next(int(line.split()[1]) << 10 for line in open("/proc/meminfo") if line.startswith("MemTotal"))

KERNEL = {"port": 'driver = "kernel"', "address": "127.0.0.1:3260"}
TAP = {
    "port": 'driver = "tap"\ndevice = "ptgt0"\naddress = ["10.77.0.2/24"]\nhost_address = ["10.77.0.1/24"]',
    "address": "10.77.0.2:3260",
}


def configuration(name="test", port="", address="", daemon="", disks=None, more="", target="", memory="16MiB"):
    """A configuration with one disk in memory, and what is asked for."""
    disks = disks if disks is not None else '[[disk]]\nname = "d"\nstore = "ram"\nsize = "16MiB"\n'
    units = re.findall(r'\[\[disk\]\]\nname = "(.*)"', disks)
    luns = "luns = [" + ", ".join(f'{{ lun = {lun}, unit = "{unit}" }}' for lun, unit in enumerate(units)) + "]\n"
    path = f"{HERE}/{name}.toml"
    with open(path, "w") as file:
        file.write(
            f'[daemon]\nmemory = "{memory}"\nlog = "info"\n{daemon}\n[[port]]\nname = "net"\n{port}\n'
            f'[[portal]]\nname = "four"\nport = "net"\naddress = "{address}"\n'
            f'{disks}{more}[[target]]\nname = "{IQN}"\n{luns}{target}'
        )
    os.chmod(path, 0o600)
    return path


def accounts(**files):
    """Two accounts with secrets in files, of given contents and modes, for both directions of a target."""
    more = ""
    for name, (text, mode) in files.items():
        path = f"{HERE}/{name}.secret"
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
        if text is not None:
            with open(path, "w") as file:
                file.write(text + "\n")
            os.chmod(path, mode)
        more += f'[[account]]\nname = "{name}"\nsecret = "file:{path}"\n'
    return {"more": more, "target": '[target.chap]\naccounts = ["one"]\noutgoing = "two"\n'}


def both_ways(one=SECRET, mode=0o600, two="the target's own secret"):
    return KERNEL | accounts(one=(one, mode), two=(two, 0o600))


@contextlib.contextmanager
def listener():
    with socket.create_server(("127.0.0.1", 3260)):
        yield


@contextlib.contextmanager
def tap_in_use():
    tun = os.open("/dev/net/tun", os.O_RDWR)
    # IFF_TAP and IFF_NO_PI.
    fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"ptgt0", 0x1002))
    yield
    os.close(tun)


@contextlib.contextmanager
def other_device():
    sh("ip", "link", "add", "ptgt0", "type", "veth", "peer", "name", "other0")
    yield
    sh("ip", "link", "delete", "ptgt0")


@contextlib.contextmanager
def locked():
    with open("locked.img", "rb+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def sh(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def image(path, **more):
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in (more | {"uuid": "0" * 31 + "1"}).items())
    return {"disks": f'[[disk]]\nname = "d"\nstore = "file"\npath = "{HERE}/{path}"\n{lines}'}


def in_memory(*sizes):
    names = ["d", *(f"d{n}" for n in range(1, len(sizes)))]
    return {"disks": "".join(f'[[disk]]\nname = "{n}"\nstore = "ram"\nsize = {s & ~4095}\n' for n, s in zip(names, sizes))}


# What it is: the configuration, words of the reasons against it (none: it is good), and what is so meanwhile.
nothing = contextlib.nullcontext
CASES = {
    "plain": (KERNEL, [], nothing),
    "secrets in files": (both_ways(), [], nothing),
    "an image": (KERNEL | image("good.img"), [], nothing),
    "a secret that is not there": (lambda: both_ways(one=None), ["No such file"], nothing),
    "a secret that others may read": (lambda: both_ways(mode=0o644), ["users other than its owner"], nothing),
    "a secret that others may change": (lambda: both_ways(mode=0o620), ["users other than its owner"], nothing),
    "a short secret": (lambda: both_ways(one="short"), ["wrong length"], nothing),
    "an empty secret": (lambda: both_ways(one=""), ["wrong length"], nothing),
    "a long secret": (lambda: both_ways(one="x" * 256), ["wrong length"], nothing),
    "one secret both ways": (lambda: both_ways(two=SECRET), ["other direction"], nothing),
    "one secret both ways, for discovery": (
        lambda: both_ways() | accounts(one=(SECRET, 0o600), two=(SECRET, 0o600))
        | {"target": "", "daemon": '[discovery]\naccounts = ["one"]\noutgoing = "two"'},
        ["other direction"], nothing),
    "a directory as a secret": (
        KERNEL | {"more": f'[[account]]\nname = "one"\nsecret = "file:{HERE}"\n'}, ["users other than its owner"], nothing),
    "not an address of this host": (KERNEL | {"address": "192.0.2.1:3260"}, ["not an address of this host"], nothing),
    "an address in use": (KERNEL, ["address in use"], listener),
    "any address, in use": (KERNEL | {"address": "0.0.0.0:3260"}, ["address in use"], listener),
    "a directory as an image": (KERNEL | image("folder"), ["is a directory"], nothing),
    "an image that another process has": (KERNEL | image("locked.img"), ["in use by process"], locked),
    "a TAP device": (TAP, [], nothing),
    "a TAP device in use": (TAP, ["ptgt0 is in use by process"], tap_in_use),
    "another device of that name": (TAP, ["ptgt0 is not a TAP device"], other_device),
    "a network device that is not there": (
        {"port": 'driver = "packet"\ndevice = "nowhere0"\naddress = ["10.77.0.2/24"]', "address": "10.77.0.2:3260"},
        ["nowhere0 is not there"], nothing),
    "more memory than there is": (KERNEL | {"memory": "1TiB"}, ["are needed"], nothing),
    "memory beyond all bounds": (KERNEL | {"memory": "1PiB"}, ["memory"], nothing),
    "a disk larger than memory": (KERNEL | in_memory(MEMORY + (1 << 30)), ["are needed"], nothing),
    "disks that are together larger than memory": (KERNEL | in_memory(MEMORY * 6 // 10, MEMORY * 6 // 10), ["are needed"], nothing),
    "more huge pages than there are": (
        KERNEL | {"daemon": 'hugepages = "require"', "memory": f"{MEMORY >> 21}MiB"}, ["huge pages"], nothing),
    "a control socket that is a file": (KERNEL | {"daemon": f'control_socket = "{HERE}/good.img"'}, ["something else"], nothing),
    "a control socket below a file": (KERNEL | {"daemon": f'control_socket = "{HERE}/good.img/s"'}, ["control socket"], nothing),
    "a state directory that is a file": (KERNEL | {"daemon": f'state_dir = "{HERE}/good.img"'}, ["state directory"], nothing),
    "a state directory below a file": (KERNEL | {"daemon": f'state_dir = "{HERE}/good.img/s"'}, ["state directory"], nothing),
    "much at once": (
        lambda: both_ways(one=None, two="short") | {"memory": "1TiB", "address": "192.0.2.1:3260"},
        ["No such file", "wrong length", "are needed", "not an address of this host"], nothing),
    "no LUNs": (KERNEL | {"disks": ""}, [], nothing),
    "qcow2": (KERNEL | image("foreign.img"), [], nothing),
}
# What check warns of, though all is good; otherwise it is silent.
WARNED = {"no LUNs": "has no LUNs", "qcow2": "in the format qcow2"}


def checked(path, *arguments, **options):
    done = subprocess.run([PTGT, "check", "--json", *arguments, path], capture_output=True, text=True, **options)
    (report,) = json.loads(done.stdout)
    assert (done.returncode == 0) == (not report["errors"]), done
    return report


def start(path):
    log = open("run.log", "w")
    return subprocess.Popen([PTGT, "run", "--config", path], stderr=log)


def said():
    with open("run.log") as log:
        return log.read()


def wait_for(daemon, path):
    address = next(line.split('"')[1] for line in open(path) if line.startswith("address = ") and ":3260" in line)
    host = address.rsplit(":", 1)[0].replace("0.0.0.0", "127.0.0.1")
    end = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError), socket.create_connection((host, 3260), 1):
            return
        assert daemon.poll() is None and time.monotonic() < end, said()
        time.sleep(0.02)


def stop(daemon):
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(20) == 0, said()


def agree(name, make, reasons, meanwhile):
    path = configuration(**(make() if callable(make) else make))
    with meanwhile():
        report = checked(path)
        doctor = subprocess.run([PTGT, "doctor", "--config", path], capture_output=True, text=True)
        daemon = start(path)
        if reasons:
            assert daemon.wait(20) == 1, f"{name}: runs"
        else:
            wait_for(daemon, path)
            stop(daemon)
    told = [f'{error["key"]}: {error["message"]}' for error in report["errors"]]
    assert len(told) == len(reasons), f"{name}: {report}"
    for reason in reasons:
        assert any(reason in line for line in told), f"{name}: check does not say {reason!r}: {told}"
        assert reason in said(), f"{name}: run does not say {reason!r}: {said()}"
    for error in report["errors"]:
        assert error["message"] in said() and error["help"] in said(), f"{name}: run does not say {error}: {said()}"
    warnings, wanted = report["warnings"], WARNED.get(name)
    assert len(warnings) == bool(wanted) and all(wanted in warning for warning in warnings), f"{name}: {warnings}"
    assert not wanted or wanted in said(), f"{name}: run does not warn: {said()}"
    assert (doctor.returncode != 0) == bool(reasons), f"{name}: {doctor}"


def whole_table():
    for path, size in ("good.img", 1 << 20), ("locked.img", 1 << 20):
        with open(path, "wb") as file:
            file.truncate(size)
    os.mkdir("folder")
    sh("qemu-img", "create", "-q", "-f", "qcow2", "foreign.img", "64M")
    cases = dict(CASES)
    if not os.path.exists("/dev/net/tun"):
        print("left out, TAP devices: no /dev/net/tun")
        cases = {name: case for name, case in cases.items() if "TAP" not in name and "of that name" not in name}
    for name, case in cases.items():
        agree(name, *case)
    print(f"check, doctor and run agree on {len(cases)} configurations")


def a_running_daemon_is_in_nobodys_way():
    for port in [KERNEL] + [TAP] * os.path.exists("/dev/net/tun"):
        path = configuration(**(port | image("good.img")))
        daemon = start(path)
        wait_for(daemon, path)
        report = checked(path)
        assert not report["errors"] and not report["warnings"], report
        # The same of another daemon is.
        other = configuration(name="other", daemon=f'control_socket = "{HERE}/other.sock"', **(port | image("good.img")))
        keys = sorted(error["key"].split(":")[0] for error in checked(other)["errors"])
        assert keys == ['disk "d"', 'portal "four"'], keys
        second = subprocess.run([PTGT, "run", "--config", other], capture_output=True, text=True, timeout=20)
        assert second.returncode == 1 and "in use" in second.stderr, second
        stop(daemon)


def who_may_not_look_is_told_so():
    path = configuration(**both_ways())
    os.chmod(path, 0o644)
    public = dict(user=65534, group=65534, extra_groups=[])
    report = checked(path, **public)
    assert not report["errors"], report
    for reason in "one.secret: Permission denied", "two.secret: Permission denied":
        assert any(reason in warning for warning in report["warnings"]), report
    ran = subprocess.run([PTGT, "run", "--config", path], capture_output=True, text=True, timeout=20, **public)
    assert ran.returncode == 1, ran


def a_processor_that_is_not_there_is_a_warning():
    """The one thing that check only warns of although run refuses it: a configuration may be for another machine."""
    path = configuration(**(KERNEL | {"daemon": "reactors = [1023]"}))
    report = checked(path)
    assert not report["errors"] and "processor 1023: not there" in str(report["warnings"]), report
    ran = subprocess.run([PTGT, "run", "--config", path], capture_output=True, text=True, timeout=20)
    assert ran.returncode == 1 and "cannot run on processor 1023" in ran.stderr, ran


def the_file_alone():
    path = configuration(**(both_ways(one=None) | {"address": "192.0.2.1:3260"}))
    assert len(checked(path)["errors"]) == 2 and not checked(path, "--offline")["errors"]
    with open(path) as file:
        text = file.read()
    for arguments, status in ([], 1), (["--offline"], 0):
        done = subprocess.run([PTGT, "check", *arguments, "-"], input=text, capture_output=True, text=True)
        assert done.returncode == status, done
    with open(path, "wb") as file:
        file.write(text.replace("size", "# umlaut \xe4\nsize").encode("latin-1"))
    (error,) = checked(path)["errors"]
    wanted = text[: text.index("size")].count("\n") + 1
    assert (error["line"], error["column"]) == (wanted, 10) and "UTF-8" in error["message"], error


def an_end_is_told_whatever_the_levels():
    path = configuration(**(KERNEL | {"address": "192.0.2.1:3260"}))
    for levels in "warning", "off", "ptgt::net=debug", "nonsense=", "info":
        done = subprocess.run([PTGT, "run", "--config", path], capture_output=True, text=True, env=os.environ | {"RUST_LOG": levels})
        assert done.returncode == 1 and "not an address of this host" in done.stderr, (levels, done)
        assert ("ignored" in done.stderr) == (levels in ("warning", "nonsense=")), (levels, done)


def sighup_is_ignored():
    path = configuration(**KERNEL)
    daemon = start(path)
    wait_for(daemon, path)
    daemon.send_signal(signal.SIGHUP)
    end = time.monotonic() + 10
    while "SIGHUP: ignored" not in said():
        assert daemon.poll() is None and time.monotonic() < end, said()
        time.sleep(0.02)
    wait_for(daemon, path)
    stop(daemon)


def processor_time(daemon):
    with open(f"/proc/{daemon.pid}/stat") as file:
        return sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")


def until(what, seconds=20):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, said()
        time.sleep(0.05)


def portal_is_down():
    status = json.loads(sh(PTGT, "status", "--json"))
    return status["targets"][0]["portals"][0]["down"]


def a_device_that_goes_comes_back():
    if not os.path.exists("/dev/net/tun"):
        return
    daemon = start(path := configuration(**TAP))
    wait_for(daemon, path)
    assert not portal_is_down()
    sh("ip", "link", "delete", "ptgt0")
    # Its place is taken, so that it cannot be made again.
    with other_device():
        until(portal_is_down)
        before = processor_time(daemon)
        time.sleep(3)
        used = (processor_time(daemon) - before) / 3
        assert used < 0.1, f"a port without a device takes {used:.0%} of a processor"
        assert said().count("it was removed") == 1, said()
        assert ": down, its device is gone" in sh(PTGT, "status")
    wait_for(daemon, path)
    until(lambda: not portal_is_down())
    assert said().count("it is back") == 1 and said().count("it was removed") == 1, said()
    stop(daemon)


def what_happens_to_an_image_is_told_once():
    os.mkdir("small")
    with open("small.img", "wb") as file:
        file.truncate(8 << 20)
    sh("mke2fs", "-q", "-t", "ext4", "small.img")
    sh("mount", "-o", "loop", "small.img", "small")
    disks = image("small/d.img", create=True, size="64MiB")
    daemon = start(path := configuration(**(KERNEL | disks)))
    wait_for(daemon, path)
    url = f"iscsi://127.0.0.1/{IQN}/0"
    done = bench(url, "--reads", "0", "--block", "64KiB", "--pattern", "sequential", count="300")
    assert done.returncode == 1 and "operations failed" in done.stderr, done
    until(lambda: 'disk "d": a write at byte' in said())
    assert "No space left on device" in said(), said()
    os.truncate("small/d.img", 32 << 20)
    until(lambda: 'disk "d": its image has been cut from 67108864 to 33554432 bytes' in said())
    os.truncate("small/d.img", 40 << 20)
    until(lambda: 'disk "d": its image has grown from 33554432 to 41943040 bytes' in said())
    os.remove("small/d.img")
    until(lambda: 'disk "d": its image has been deleted' in said())
    sh(PTGT, "port-group", "1", "standby")
    until(lambda: 'port group "1": standby from now on, for all disks' in said())
    time.sleep(1.5)
    lines = [line for line in said().splitlines() if 'disk "d": ' in line and "WARN" in line and "not shown" not in line]
    # One of each kind, however many writes have failed; a limit holds for ten seconds.
    assert len(lines) == 4, lines
    stop(daemon)
    sh("umount", "small")


def bench(*arguments, count="10", **environment):
    words = [PTGT, "bench", *arguments, "--count", count, "--quiet"]
    return subprocess.run(words, capture_output=True, text=True, env=os.environ | environment, timeout=60)


def bench_is_understood():
    huge = '[[disk]]\nname = "d"\nstore = "null"\nsize = "1EiB"\n'
    daemon = start(path := configuration(**(both_ways() | {"disks": huge})))
    wait_for(daemon, path)
    url, good = f"iscsi://127.0.0.1/{IQN}/0", ("--user", "one", "--secret-file", "one.secret")
    assert "wants authentication" in bench(url).stderr
    done = bench(url, *good)
    assert done.returncode == 0, done
    done = bench(url, "--user", "one", PTGT_BENCH_SECRET=SECRET)
    assert done.returncode == 0, done
    assert "PTGT_BENCH_SECRET" in bench(url, "--user", "one").stderr
    assert "another secret" in bench(url, "--user", "one", PTGT_BENCH_SECRET="another secret").stderr
    os.chmod("one.secret", 0o644)
    assert "chmod 600" in bench(url, *good).stderr
    os.chmod("one.secret", 0o600)
    done = bench(url[:-1] + "7", *good)
    assert done.returncode == 1 and "there is no LUN 7" in done.stderr, done
    done = bench(url, "--verify", *good)
    assert done.returncode == 1 and "give --range" in done.stderr, done
    done = bench(url, "--verify", "--range", "64MiB", *good)
    assert done.returncode == 0, done
    stop(daemon)


os.umask(0o022)
whole_table()
a_running_daemon_is_in_nobodys_way()
who_may_not_look_is_told_so()
a_processor_that_is_not_there_is_a_warning()
the_file_alone()
an_end_is_told_whatever_the_levels()
sighup_is_ignored()
bench_is_understood()
a_device_that_goes_comes_back()
what_happens_to_an_image_is_told_once()
