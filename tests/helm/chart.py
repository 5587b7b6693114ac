# SPDX-License-Identifier: Apache-2.0
"""Runs Helm on the chart and hands back parsed objects."""

from __future__ import annotations

import functools
import pathlib
import shutil
import subprocess
import tempfile
import tomllib

import yaml

import helm_binary

CHART = pathlib.Path(__file__).resolve().parents[2] / "helm" / "dumpcast"
RELEASE = "rel"
NAMESPACE = "crash"
# The least values that render: the chart refuses to run without a key by accident.
KEY = {"key": {"existingSecret": "cluster-key"}}


class Refused(Exception):
    """Helm ended with an error; the text is what it said."""


def ci_files() -> list[pathlib.Path]:
    return sorted((CHART / "ci").glob("*-values.yaml"))


@functools.cache
def helm_path() -> str:
    return str(helm_binary.helm())


def run(*arguments: str, values: dict | None = None) -> str:
    """Helm's standard output. `values` goes to its standard input as a values file."""
    command = [helm_path(), *arguments]
    if values is not None:
        command += ["--values", "-"]
    done = subprocess.run(command, input=yaml.safe_dump(values or {}), capture_output=True,
                          text=True, check=False, timeout=120)
    if done.returncode != 0:
        raise Refused(done.stderr + done.stdout)
    return done.stdout


def notes(values: dict) -> str:
    """What an installation prints. `helm template` leaves NOTES.txt out, and installing wants
    a cluster: a copy of the chart renders the same text as an object."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "dumpcast"
        shutil.copytree(CHART, copy)
        text = (copy / "templates" / "NOTES.txt").read_text(encoding="utf-8")
        (copy / "templates" / "shown.yaml").write_text(
            '{{- define "shown" }}' + text + '{{ end -}}\n'
            '{{ dict "kind" "Notes" "text" (include "shown" .) | toJson }}\n', encoding="utf-8")
        out = run("template", RELEASE, str(copy), "--namespace", NAMESPACE,
                  "--show-only", "templates/shown.yaml", values=values)
    return Objects(out).all[0]["text"]


def merged(*parts: dict) -> dict:
    """Deep merge, the later wins."""
    out: dict = {}
    for part in parts:
        for key, value in part.items():
            if isinstance(value, dict) and isinstance(out.get(key), dict):
                out[key] = merged(out[key], value)
            else:
                out[key] = value
    return out


class Objects:
    """The rendered objects of one release."""

    def __init__(self, text: str):
        self.all = [item for item in yaml.safe_load_all(text) if item]

    def of(self, kind: str) -> list[dict]:
        return [item for item in self.all if item["kind"] == kind]

    def one(self, kind: str, suffix: str = "") -> dict:
        found = [item for item in self.of(kind) if item["metadata"]["name"].endswith(suffix)]
        assert len(found) == 1, f"wanted one {kind} *{suffix}, found {len(found)}"
        return found[0]

    def pod(self, kind: str) -> dict:
        return self.one(kind)["spec"]["template"]["spec"]

    def relay_config(self) -> dict:
        return tomllib.loads(self.one("ConfigMap", "-relay")["data"]["relay.toml"])

    def host_config(self) -> dict:
        return tomllib.loads(self.one("ConfigMap", "-host")["data"]["arm.toml"])


def render(values: dict | None = None, file: pathlib.Path | None = None) -> Objects:
    """Renders with the chart's defaults, a key unless `file` is given, and `values`."""
    arguments = ["template", RELEASE, str(CHART), "--namespace", NAMESPACE]
    if file is not None:
        return Objects(run(*arguments, "--values", str(file), values=values or {}))
    return Objects(run(*arguments, values=merged(KEY, values or {})))
