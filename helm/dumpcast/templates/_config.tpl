{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}

{{- /* relay.toml: what `dumpcast-relay --config` reads; its keys are the flags' names. */ -}}
{{- define "dumpcast.relay.toml" -}}
{{- $relay := .Values.relay -}}
store = "/var/lib/dumpcast/store"
min-free = {{ $relay.minFree | quote }}
listen = [{{ printf "0.0.0.0:%d" (int $relay.ports.grpc) | quote }}]
group = {{ $relay.group | quote }}
group6 = {{ $relay.group6 | quote }}
port = {{ $relay.ports.udp }}
lanes = {{ $relay.lanes }}
metrics = {{ printf "0.0.0.0:%d" (int $relay.ports.metrics) | quote }}
{{- with $relay.memory }}
memory = {{ . | quote }}
{{- end }}
log-level = {{ $relay.logLevel | quote }}
log-format = {{ $relay.logFormat | quote }}
{{- with $relay.interfaces }}
interface = {{ toJson . }}
{{- end }}
{{- if include "dumpcast.key.secretName" . }}
key-file = "/run/dumpcast-key/key"
{{- end }}
{{- if $relay.tls.existingSecret }}
tls-cert = "/run/dumpcast-tls/tls.crt"
tls-key = "/run/dumpcast-tls/tls.key"
tls-ca = "/run/dumpcast-tls/ca.crt"
{{- end }}
{{- with $relay.extraConfig | trim }}
{{ . }}
{{- end }}
{{- end -}}

{{- /* What differs from relay to relay, or follows from their number. */ -}}
{{- define "dumpcast.relay.env" -}}
- name: DUMPCAST_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: DUMPCAST_PEERS
  value: {{ include "dumpcast.peers" . | quote }}
{{- end -}}

{{- /*
arm.toml: what `dumpcast-arm --config` reads. extraConfig stands before the first table,
where TOML wants the keys that belong to none.
*/ -}}
{{- define "dumpcast.host.toml" -}}
{{- $host := .Values.host -}}
{{- if include "dumpcast.key.secretName" . -}}
key_file = "/run/dumpcast-key/key"
{{ end -}}
fix_kernel = {{ $host.fixKernel }}
dump_level = {{ $host.dumpLevel }}
mode = {{ $host.pathMode | quote }}
commits = {{ $host.commits }}
lanes = {{ .Values.relay.lanes }}
{{- with $host.module }}
module = {{ . | quote }}
{{- end }}
{{- with $host.extraConfig | trim }}
{{ . }}
{{- end }}
{{- $destinations := $host.relays | default (list .Values.relay.group) }}
{{- range $host.devices }}

[[path]]
device = {{ . | quote }}
destinations = {{ toJson $destinations }}
port = {{ $.Values.relay.ports.udp }}
{{- end }}
{{- end -}}

{{- /*
Arms, stays, and disarms when it is told to end. A pod that is killed, or a node that
goes down, leaves the host armed.
*/ -}}
{{- define "dumpcast.host.script" -}}
dumpcast-arm --config /etc/dumpcast/arm.toml arm --wait & child=$!
stopped=
trap 'stopped=1; kill -TERM "$child"' TERM INT
wait "$child"; status=$?
# A trapped signal ends the first wait before the child has ended.
[ -z "$stopped" ] || { wait "$child"; dumpcast-arm --config /etc/dumpcast/arm.toml disarm; status=$?; }
exit "$status"
{{- end -}}
