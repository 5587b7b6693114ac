# SPDX-License-Identifier: Apache-2.0
"""Flags, files and keys with mistakes are refused with the place, and what to do about it."""

from __future__ import annotations

import os
import secrets

import pytest
from vmtest.build import binary
from vmtest.util import run

HEX = secrets.token_hex(32)


def relay(*flags: object, env: dict[str, str] | None = None):
    return run([binary("dumpcast-relay"), "--check-config", *flags], check=False, timeout=30,
               env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **(env or {})})


@pytest.mark.parametrize("flags, says", [
    (["--sotre", "x"], ["--sotre"]),
    (["--memory", "lots"], ["--memory", "256MiB", "lots"]),
    (["--memory", "2MiB", "--dump-memory", "4MiB"], ["--memory is less than --dump-memory"]),
    (["--silent-after", "-3s"], ["--silent-after", "15s"]),
    (["--lanes", "65"], ["--lanes", "64"]),
    (["--group", "10.0.0.1"], ["--group", "239.192.68.67", "10.0.0.1"]),
    (["--group6", "fe80::1"], ["--group6", "ff08::4443"]),
    (["--port", "70000"], ["--port", "65535"]),
    (["--tls-cert", "c.pem"], ["--tls-cert and --tls-key belong together"]),
    (["--key-file", "/nonexistent/key"], ["--key-file", "/nonexistent/key"]),
    (["--config", "/nonexistent/relay.toml"], ["--config", "/nonexistent/relay.toml"]),
    (["--peers", "relay-1:70000"], ["--peers", "relay-1:70000"]),
    (["--log-level", "loud"], ["--log-level", "debug"]),
], ids=lambda value: value[0].strip("-") if value[0].startswith("--") and " " not in value[0] else "")
def test_bad_flag(flags, says):
    done = relay("--store", "/tmp", *flags)
    assert done.returncode == 2, done
    for words in says:
        assert words in done.stderr, done.stderr


@pytest.mark.parametrize("line, says", [
    ('sotre = "/x"', "did you mean `store`?"),
    ("memory = true", "256MiB"),
    ('lanes = "many"', "lanes"),
    ("peers = 5.5", "a list of strings"),
    ("port = [1, 2]", "one value"),
    ('name = "unclosed', ""),
    ("check-config = true", "unknown key"),
], ids=["misspelt", "wrong-kind", "no-number", "no-list", "list-for-one", "syntax", "flag-only"])
def test_bad_config_file_names_the_line(tmp_path, line, says):
    path = tmp_path / "relay.toml"
    path.write_text(f'# a comment\nlog-level = "warn"\n\n{line}\n', encoding="ascii")
    done = relay("--store", "/tmp", "--config", path)
    assert done.returncode == 2, done
    assert f"{path}:4:" in done.stderr and says in done.stderr, done.stderr


def test_bad_environment(tmp_path):
    done = relay("--store", tmp_path, env={"DUMPCAST_LANES": "none"})
    assert done.returncode == 2 and "lanes" in done.stderr.lower(), done
    assert relay("--store", tmp_path, env={"DUMPCAST_LANES": "3"}).returncode == 0


@pytest.mark.parametrize("line, says", [
    (f"{HEX}", ":2:"), (f"70000 {HEX}", ":2:"), (f"0 {HEX}", ":2:"), (f"1 {HEX[:-1]}", ":2:"),
    (f"1 {HEX[:-1]}g", ":2:"), (f"1 {HEX}\n1 {HEX}", ":3:"), ("# nothing", "epoch"),
], ids=["no-epoch", "epoch-too-high", "epoch-0", "short", "no-hex", "twice", "empty"])
def test_bad_key_file_names_the_line_and_no_key(tmp_path, line, says):
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(f"# cluster keys\n{line}\n", encoding="ascii")
    done = relay("--store", tmp_path, "--key-file", path)
    assert done.returncode == 2, done
    assert str(path) in done.stderr and says in done.stderr, done.stderr
    assert HEX[:-1] not in done.stderr, "the key is in the message"


def test_what_only_a_start_can_tell(tmp_path):
    """Exit status 1: the configuration is right, the machine is not."""
    folder = tmp_path / "file"
    folder.write_text("not a folder", encoding="ascii")
    done = run([binary("dumpcast-relay"), "--store", folder / "store"], check=False, timeout=30)
    assert done.returncode == 1 and "choose a folder" in done.stderr, done
    done = run([binary("dumpcast-relay"), "--store", tmp_path, "--interface", "nosuch0"],
               check=False, timeout=30)
    assert done.returncode == 1 and "nosuch0" in done.stderr and "lo" in done.stderr, done


@pytest.mark.parametrize("flags, says", [
    (["--file", "/nonexistent/vmcore"], "/nonexistent/vmcore"),
    (["--file", "/etc/hostname", "--format", "elf"], "give an ELF64 or kdump-compressed vmcore"),
    (["--file", "/etc/hostname", "--mode", "both"], "--mode"),
    (["--file", "/etc/hostname", "--host-id", "12"], "32 hex digits"),
    (["--file", "/etc/hostname", "--group", "10.0.0.1"], "give it as --relay"),
    (["--file", "/etc/hostname", "--interface", "nosuch0"], "ip link"),
    ([], "--file"),
], ids=["no-file", "no-elf", "mode", "host-id", "group", "interface", "nothing"])
def test_bad_sender_flag(flags, says):
    done = run([binary("dumpcast-send"), "--arm", 0, *flags], check=False, timeout=30)
    assert done.returncode == 2 and says in done.stderr, done
