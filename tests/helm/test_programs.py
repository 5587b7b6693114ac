# SPDX-License-Identifier: Apache-2.0
"""The built programs read what the chart renders: no key of theirs is misspelt here."""

import os
import pathlib
import signal
import subprocess
import time

import pytest

import chart

FILES = chart.ci_files()
BUILD = pathlib.Path(os.environ.get("DUMPCAST_BUILD_DIR")
                     or pathlib.Path(__file__).resolve().parents[2] / "build" / "dev")
RELAY = BUILD / "relay" / "dumpcast-relay"
ARM = BUILD / "kmod" / "arm" / "dumpcast-arm"


def program(path):
    if not path.is_file():
        pytest.fail(f"{path} is not built: run `./dev build`, or set DUMPCAST_BUILD_DIR")
    return path


def clean_environment(objects=None):
    env = {name: value for name, value in os.environ.items() if not name.startswith("DUMPCAST_")}
    if objects is not None:
        for item in objects.pod("StatefulSet")["containers"][0]["env"]:
            env[item["name"]] = item.get("value", "pod-0")
    return env


def check_relay(objects, folder):
    """dumpcast-relay --check-config on the rendered file, with the pod's files in folder."""
    key = folder / "key"
    key.write_text("1 " + "07" * 32 + "\n", encoding="ascii")
    key.chmod(0o400)
    text = objects.one("ConfigMap", "-relay")["data"]["relay.toml"]
    if "tls-cert" in text:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=relay",
                        "-keyout", folder / "tls.key", "-out", folder / "tls.crt"],
                       capture_output=True, check=True, timeout=60)
        (folder / "ca.crt").write_bytes((folder / "tls.crt").read_bytes())
    config = folder / "relay.toml"
    config.write_text(text.replace("/run/dumpcast-key", str(folder))
                      .replace("/run/dumpcast-tls", str(folder)), encoding="utf-8")
    return subprocess.run([program(RELAY), "--config", config, "--check-config"],
                          env=clean_environment(objects), capture_output=True, text=True,
                          check=False, timeout=60)


@pytest.mark.parametrize("file", FILES, ids=[path.name for path in FILES])
def test_relay_accepts_its_configuration(file, tmp_path):
    done = check_relay(chart.render(file=file), tmp_path)
    assert done.returncode == 0, done.stderr


def test_relay_refuses_a_misspelt_extra_key(tmp_path):
    """Proves that the test above can fail."""
    done = check_relay(chart.render({"relay": {"extraConfig": "seal-affter = \"2m\""}}), tmp_path)
    assert done.returncode == 2
    assert "did you mean `seal-after`" in done.stderr


ARMED = [path for path in FILES if chart.render(file=path).of("DaemonSet")]


@pytest.mark.parametrize("file", ARMED, ids=[path.name for path in ARMED])
def test_arm_accepts_its_configuration(file, tmp_path):
    config = tmp_path / "arm.toml"
    text = chart.render(file=file).one("ConfigMap", "-host")["data"]["arm.toml"]
    # This machine's own kernel settings must stay as they are.
    assert "fix_kernel = true" in text
    config.write_text(text.replace("fix_kernel = true", "fix_kernel = false"), encoding="utf-8")
    done = subprocess.run([program(ARM), "--config", config, "check"], env=clean_environment(),
                          capture_output=True, text=True, check=False, timeout=60)
    # 2 is a mistake in the file; others are about this machine, which is no host.
    assert done.returncode != 2, done.stderr
    assert str(config) not in done.stderr, done.stderr


@pytest.fixture
def fake_arm(tmp_path):
    """A dumpcast-arm that writes down how it was called; `arm` waits as the real one does."""
    def make(arm_body):
        fake = tmp_path / "dumpcast-arm"
        fake.write_text("#!/bin/sh\n"
                        f'echo "$*" >> {tmp_path}/calls\n'
                        f'case "$*" in *" arm --wait") {arm_body};; esac\n', encoding="ascii")
        fake.chmod(0o755)
        script, = chart.render({"relay": {"hostNetwork": True},
                                "host": {"enabled": True, "devices": ["eth0"]}}) \
            .pod("DaemonSet")["containers"][0]["args"]
        process = subprocess.Popen(["/bin/sh", "-c", script],
                                   env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
        return process, tmp_path / "calls"
    return make


def verbs(calls):
    return [line.split("arm.toml ")[1] for line in calls.read_text(encoding="ascii").splitlines()]


def test_stopping_the_pod_disarms_after_arm_has_ended(fake_arm, tmp_path):
    process, calls = fake_arm(
        f"trap 'sleep 0.3; echo - arm.toml ended >> {tmp_path}/calls; exit 0' TERM; "
        f"touch {tmp_path}/waits; while :; do sleep 0.05; done")
    try:
        while not (tmp_path / "waits").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert verbs(calls) == ["arm --wait", "ended", "disarm"]
    finally:
        process.kill()
        process.wait()


def test_arm_that_fails_ends_the_pod_with_its_status(fake_arm):
    process, calls = fake_arm("exit 2")
    assert process.wait(60) == 2
    assert verbs(calls) == ["arm --wait"]
