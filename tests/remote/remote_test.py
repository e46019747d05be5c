#!/usr/bin/env python3
"""`greta remote` and its front against a real sshd on loopback.

usage: remote_test.py --greta BINARY --source TREE [--heavy] [unittest arguments]
The sshd is this test's own: port, keys, configuration and a home directory of its own, so that nothing of the user's is read or
written. The remote build is seeded with BINARY; with --heavy it is really built there instead.
"""

import argparse
import contextlib
import getpass
import hashlib
import os
import pathlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

ARGS = None
DATE = "2026-01-31"


def checksums(directory):
    """{relative path: digest} of every file below `directory`."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Loopback:
    """A remote machine: sshd on a loopback port, `base/home` as home and `base/tmp` as TMPDIR."""

    def __init__(self, base):
        self.base = base
        self.home = base / "home"
        self.tmp = base / "tmp"
        self.bin = base / "bin"  # first in PATH there
        for directory in (self.home, self.tmp, self.bin, base / "keys"):
            directory.mkdir()
        self.config = base / "ssh_config"
        self.port = free_port()
        self._keys()
        self._configure()
        self._start()

    def _keys(self):
        for name in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.base / "keys" / name], check=True
            )
        shutil.copy(self.base / "keys/user.pub", self.base / "keys/authorized_keys")
        host_key = (self.base / "keys/host.pub").read_text().split()[:2]
        (self.base / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {' '.join(host_key)}\n")

    def _configure(self):
        session = self.base / "session"  # what the login shell runs instead of the command: our home, then the command
        session.write_text(
            "#!/bin/sh\n"
            f"export HOME={shlex.quote(str(self.home))} TMPDIR={shlex.quote(str(self.tmp))}\n"
            f"export PATH={shlex.quote(str(self.bin))}:$PATH\n"
            "echo 'a login script that is not quiet' >&2\n"
            'cd "$HOME" && exec sh -c "$SSH_ORIGINAL_COMMAND"\n'
        )
        session.chmod(0o755)
        (self.base / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.base}/keys/host\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self.base}/keys/authorized_keys\nStrictModes no\nPasswordAuthentication no\n"
            f"KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nForceCommand {session}\n"
        )
        self.config.write_text(
            f"Host loop\n  HostName 127.0.0.1\n  Port {self.port}\nHost closed\n  HostName 127.0.0.1\n  Port {free_port()}\n"
            f"Host *\n  IdentityFile {self.base}/keys/user\n  IdentitiesOnly yes\n  IdentityAgent none\n  BatchMode yes\n"
            f"  StrictHostKeyChecking yes\n  UserKnownHostsFile {self.base}/known_hosts\n  GlobalKnownHostsFile none\n"
        )

    def _start(self):
        if os.geteuid() == 0:
            pathlib.Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # privilege separation wants it
        sshd = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
        if sshd is None:
            raise RuntimeError("sshd is not installed; run scripts/install-deps.sh")
        self.log = open(self.base / "sshd.log", "wb")
        self.process = subprocess.Popen([sshd, "-D", "-e", "-f", self.base / "sshd_config"], stderr=self.log)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        self.stop()
        raise RuntimeError("sshd did not start: " + (self.base / "sshd.log").read_text())

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()

    def cache(self, source_hash):
        return self.home / ".cache/greta" / f"src-{source_hash}"

    def leftovers(self):
        """What lies there beside the source cache."""
        return sorted(p.name for p in self.tmp.iterdir()) + sorted(p.name for p in self.home.iterdir() if p.name != ".cache")


class RemoteTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="greta-remote-test-")
        cls.addClassCleanup(cls.folder.cleanup)
        base = pathlib.Path(cls.folder.name)
        cls.there = Loopback(base)
        cls.addClassCleanup(cls.there.stop)
        cls.hash = subprocess.run(
            [ARGS.greta, "remote", "loop", "b3_41", "--dry-run"], check=True, capture_output=True, text=True
        ).stdout.split()[1]
        if not ARGS.heavy:
            cls.seed()
        cls.model = base / "home2 with 'quotes'" / "tiny model.gguf"  # on "the other machine", small
        cls.model.parent.mkdir()
        subprocess.run(
            [ARGS.greta, "models", "synth", "--shape", "tiny", "--seed", "1", "--out", cls.model],
            check=True, capture_output=True,
        )

    @classmethod
    def seed(cls):
        """The build that the remote machine would make; the source itself is still sent by greta."""
        cache = cls.there.cache(cls.hash)
        (cache / "build/release").mkdir(parents=True)
        shutil.copy(ARGS.greta, cache / "build/release/greta")
        (cache / ".greta-built").write_text(cls.hash + "\n")

    def setUp(self):
        self.cwd = pathlib.Path(tempfile.mkdtemp(dir=self.folder.name))

    def tearDown(self):
        self.assertEqual(self.there.leftovers(), [], "the remote machine is left as it was")

    def command(self, *args, host="loop", date=DATE, then=()):
        return [ARGS.greta, "remote", host, "b3_41", "-F", str(self.there.config), "--date", date, *args, *then]

    def greta(self, *args, **kwargs):
        return self.run_command(self.command(*args, **kwargs))

    def run_command(self, command, env=None):
        return subprocess.run(command, cwd=self.cwd, capture_output=True, text=True, timeout=1500 if ARGS.heavy else 240,
                              stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})

    def place(self, date=DATE):
        return self.cwd / "artifacts_remote" / date / "b3_41"

    def run_directory(self, date=DATE):
        return self.place(date) / "root/gretacore/artifacts/alignment" / date

    def assert_refused(self, done, *words):
        """Exit 2 and one line of error that says `words`; nothing here."""
        self.assertEqual(done.returncode, 2, done.stderr)
        errors = [line for line in done.stderr.splitlines() if line.startswith("greta: error: ")]
        self.assertEqual(len(errors), 1, done.stderr)
        for word in words:
            self.assertIn(word, errors[0])
        self.assertEqual([str(p) for p in self.cwd.rglob("*")], [])

    def test_a_run_comes_back_whole_to_its_place_and_is_never_overwritten(self):
        front = [ARGS.source + "/tools/benchmarks/run_b3_41_mi300x.sh", f"{getpass.getuser()}@loop", DATE,
                 "--backend", "auto", "-F", str(self.there.config)]
        done = self.run_command(front, {"GRETA": ARGS.greta})
        self.assertEqual(done.returncode, 0, done.stderr)
        run = self.run_directory()
        self.assertTrue((run / "manifest.json").is_file())
        self.assertTrue((run / "captures/a").is_dir())
        self.assertEqual(sorted(p.name for p in self.place().iterdir()), ["b3_41_analysis.txt", "root"])
        self.assertEqual([p.name for p in self.place().parent.iterdir()], ["b3_41"])  # nothing incomplete beside it

        table = (self.place() / "b3_41_analysis.txt").read_text().splitlines()[1:]
        self.assertEqual(table, (run / "b3_41_analysis.txt").read_text().splitlines()[1:])
        again = self.cwd / "again.txt"
        analyzed = self.run_command(
            [sys.executable, ARGS.source + "/tools/benchmarks/analyze_b3_41_post_wo.py", "--dir", str(run), "--out", str(again)],
            {"GRETA": ARGS.greta},
        )
        self.assertEqual(analyzed.returncode, 0, analyzed.stderr)
        self.assertEqual(table, again.read_text().splitlines()[1:])

        before = checksums(self.cwd)
        repeated = self.run_command(front, {"GRETA": ARGS.greta})
        self.assertEqual(repeated.returncode, 2)
        self.assertEqual(len(repeated.stderr.splitlines()), 1, repeated.stderr)
        self.assertIn("not overwritten", repeated.stderr)
        self.assertEqual(before, checksums(self.cwd))

    def test_the_source_is_sent_once(self):
        model = ["--model", str(self.model)]
        self.assertEqual(self.greta(*model, date="warm").returncode, 0)
        source = self.there.cache(self.hash) / "src/cli/remote.cpp"
        self.assertEqual(source.read_bytes(), pathlib.Path(ARGS.source, "src/cli/remote.cpp").read_bytes())
        second = self.greta(*model, date="second")
        self.assertEqual(second.returncode, 0, second.stderr)
        self.assertNotIn("sending", second.stderr)

    def test_the_verdict_is_the_exit_code(self):
        done = self.greta("--model", str(self.model), then=["--", "--fault", "b3_41"])
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertTrue((self.run_directory() / "manifest.json").is_file())

    def test_hosts_that_do_not_answer(self):
        self.assert_refused(self.greta(host="closed"), "closed", "Connection refused")
        with socket.socket() as silent:  # accepts, and never says a word
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            port = silent.getsockname()[1]
            done = self.greta("--ssh-option", f"Port={port}", "--ssh-option", "ConnectTimeout=1")
        self.assert_refused(done, "loop", "timed out")

    def test_bad_requests(self):
        self.assert_refused(self.greta("--model", "/nowhere/x.gguf"), "'/nowhere/x.gguf' cannot be read there")
        self.assert_refused(self.greta(date="../up"), "'../up'")
        self.assert_refused(self.greta(host="a b"), "'a b' is no host")
        not_a_model = self.there.base / "not-a-model.gguf"
        not_a_model.write_text("not a model")
        done = self.greta("--model", str(not_a_model))
        self.assertEqual(done.returncode, 2)
        self.assertIn("left no run there", done.stderr)
        self.assertEqual(list(self.cwd.iterdir()), [])

    def test_a_broken_transfer_leaves_nothing_to_be_taken_for_a_run(self):
        fake = self.cwd / "bin"
        fake.mkdir()
        (fake / "rsync").write_text(  # brings one file, then breaks; sending the source works
            "#!/bin/sh\nfor last; do :; done\n"
            'case $last in */DATE/|*/alignment/*) echo "{}" >"$last/manifest.json"; echo "rsync: broken pipe" >&2; exit 12;; esac\n'
            f'exec {shutil.which("rsync")} "$@"\n'
        )
        (fake / "rsync").chmod(0o755)
        done = self.run_command(self.command("--model", str(self.model)), {"PATH": f"{fake}:{os.environ['PATH']}"})
        shutil.rmtree(fake)
        self.assert_refused(done, "rsync: broken pipe", "the run stays in")
        for stayed in self.there.tmp.iterdir():
            self.assertTrue((stayed / "run/manifest.json").is_file())
            shutil.rmtree(stayed)

    def test_an_interrupt_cleans_up_both_sides(self):
        slow = self.there.base / "slow"  # the remote greta waits, as a large model would
        binary = self.there.cache(self.hash) / "build/release/greta"
        if ARGS.heavy and not binary.exists():
            self.assertEqual(self.greta("--model", str(self.model)).returncode, 0)
            shutil.rmtree(self.cwd / "artifacts_remote")
        saved = binary.with_suffix(".saved")
        binary.rename(saved)
        try:
            binary.write_text(f"#!/bin/sh\necho $$ >{shlex.quote(str(slow))}\nexec sleep 60\n")
            binary.chmod(0o755)
            process = subprocess.Popen(self.command(), cwd=self.cwd, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
            deadline = time.monotonic() + 60
            while not (slow.exists() and slow.read_text().strip()) and time.monotonic() < deadline:
                time.sleep(0.02)
            pid = int(slow.read_text())
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(timeout=60), 130)
            time.sleep(0.1)
            with self.assertRaises(ProcessLookupError):
                os.kill(pid, 0)  # the remote greta has ended too
        finally:
            saved.replace(binary)
        self.assertEqual(list(self.cwd.iterdir()), [])

    def test_missing_packages_are_named_and_nothing_is_installed(self):
        (self.there.bin / "dpkg-query").write_text("#!/bin/sh\nexit 1\n")
        (self.there.bin / "apt-get").write_text(f"#!/bin/sh\ntouch {shlex.quote(str(self.there.home / 'apt-was-run'))}\n")
        for tool in self.there.bin.iterdir():
            tool.chmod(0o755)
        stamp = self.there.cache(self.hash) / ".greta-built"
        saved = stamp.read_text() if stamp.exists() else None
        if saved:
            stamp.unlink()
        try:
            done = self.greta()
        finally:
            if saved:
                stamp.write_text(saved)
            for tool in self.there.bin.iterdir():
                tool.unlink()
        self.assert_refused(done, "packages are missing there", "g++", "scripts/install-deps.sh --build-only")


def main():
    global ARGS
    parser = argparse.ArgumentParser()
    parser.add_argument("--greta", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--heavy", action="store_true")
    ARGS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)


if __name__ == "__main__":
    main()
