{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}

{{- /* relay.toml: what `dumpcast-relay --config` reads; its keys are the flags' names. */ -}}
{{- define "dumpcast.relay.toml" -}}
{{- $relay := .Values.relay -}}
store = "/var/lib/dumpcast"
listen = {{ printf "0.0.0.0:%d" (int $relay.ports.grpc) | quote }}
group = {{ $relay.group | quote }}
port = {{ $relay.ports.udp }}
lanes = {{ $relay.lanes | quote }}
log-level = {{ $relay.logLevel | quote }}
{{- with $relay.interfaces }}
interface = {{ toJson . }}
{{- end }}
{{- if include "dumpcast.key.secretName" . }}
key-file = "/run/dumpcast-key/key"
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

{{- /* arm.toml: what `dumpcast-arm --config` reads. */ -}}
{{- define "dumpcast.host.toml" -}}
{{- $host := .Values.host -}}
dump_level = {{ $host.dumpLevel }}
{{- end -}}
