{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}

{{- /* Names: the release's own, cut so that "-relay-63" and "-config" still fit a DNS label. */ -}}
{{- define "dumpcast.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "dumpcast.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "dumpcast.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "dumpcast.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "dumpcast.relay.fullname" -}}{{ include "dumpcast.fullname" . }}-relay{{- end -}}
{{- define "dumpcast.peers.fullname" -}}{{ include "dumpcast.fullname" . }}-peers{{- end -}}
{{- define "dumpcast.host.fullname" -}}{{ include "dumpcast.fullname" . }}-host{{- end -}}

{{- /* Labels. Call with (dict "root" $ "component" "relay"). */ -}}
{{- define "dumpcast.selectorLabels" -}}
app.kubernetes.io/name: {{ include "dumpcast.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "dumpcast.labels" -}}
{{ include "dumpcast.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "dumpcast.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default .Chart.AppVersion $image.tag }}
{{- end -}}
{{- end -}}

{{- /* The Secret with the cluster key; empty when the chart runs without authentication. */ -}}
{{- define "dumpcast.key.secretName" -}}
{{- if .Values.key.existingSecret -}}
{{ .Values.key.existingSecret }}
{{- else if .Values.key.value -}}
{{ include "dumpcast.fullname" . }}-key
{{- end -}}
{{- end -}}

{{- /* Each relay's stable name in DNS, with the gRPC port, joined by commas. */ -}}
{{- define "dumpcast.peers" -}}
{{- $root := . -}}
{{- $relay := include "dumpcast.relay.fullname" . -}}
{{- $peers := include "dumpcast.peers.fullname" . -}}
{{- $list := list -}}
{{- range $i := until (int .Values.relay.replicas) -}}
{{- $list = append $list (printf "%s-%d.%s.%s.svc.%s:%d" $relay $i $peers $root.Release.Namespace $root.Values.clusterDomain (int $root.Values.relay.ports.grpc)) -}}
{{- end -}}
{{- join "," $list -}}
{{- end -}}

{{- /*
The cluster key file is only read when its owner alone can open it, and a Secret's
volume cannot give that to a user other than root: an init container makes such a copy
in memory. Call with (dict "root" $ "user" 0 or the pod's user).
*/ -}}
{{- define "dumpcast.key.initContainer" -}}
- name: key
  image: {{ include "dumpcast.image" .root }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: ["install", "-m", "0400", "/secret/key", "/run/dumpcast-key/key"]
  securityContext:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: {drop: [ALL]}
  volumeMounts:
    - {name: key-secret, mountPath: /secret, readOnly: true}
    - {name: key, mountPath: /run/dumpcast-key}
{{- end -}}

{{- define "dumpcast.key.volumes" -}}
- name: key-secret
  secret:
    secretName: {{ include "dumpcast.key.secretName" . }}
    defaultMode: 0440
    items:
      - {key: {{ .Values.key.secretKey | quote }}, path: key}
- name: key
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{- end -}}
