{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}

{{- /*
What values.schema.json cannot see: values that are wrong together. Every message is
gathered before anything fails, and says what was wanted, what came, and what to do.
*/ -}}
{{- define "dumpcast.validateValues" -}}
{{- $messages := list -}}
{{- range (list "key" "relays" "network" "storage" "disruption" "host") -}}
{{- $found := include (printf "dumpcast.validate.%s" .) $ | trim -}}
{{- range splitList "\n" $found -}}
{{- if trim . -}}{{- $messages = append $messages (printf "  - %s" (trim .)) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- if $messages -}}
{{- printf "\n\ndumpcast: %d of the values do not fit together:\n%s\n" (len $messages) (join "\n" $messages) | fail -}}
{{- end -}}
{{- end -}}

{{- define "dumpcast.validate.key" }}
{{- $key := .Values.key }}
{{- if and $key.existingSecret $key.value }}
key.existingSecret and key.value are both set: keep one of them.
{{- end }}
{{- if and (not $key.existingSecret) (not $key.value) (not $key.allowUnauthenticated) }}
no cluster key: set key.existingSecret to a Secret with a key file (or key.value); key.allowUnauthenticated=true runs without, and then anybody can forge packets.
{{- end }}
{{- if and $key.allowUnauthenticated (or $key.existingSecret $key.value) }}
key.allowUnauthenticated is true although there is a key: packets are authenticated with it; leave allowUnauthenticated out.
{{- end }}
{{- range $i, $line := splitList "\n" $key.value }}
{{- $text := regexReplaceAll "#.*" $line "" | trim }}
{{- if and $text (not (regexMatch "^[0-9]{1,5}\\s+[0-9a-fA-F]{64}$" $text)) }}
key.value, line {{ add1 $i }}: wanted "EPOCH HEX64" (a number and 64 hex digits): make one with: echo "1 $(openssl rand -hex 32)"
{{- end }}
{{- end }}
{{- end }}

{{- define "dumpcast.validate.relays" }}
{{- $relay := .Values.relay }}
{{- if and (or $relay.hostNetwork $relay.hostPort) (eq $relay.antiAffinity "none") (gt (int $relay.replicas) 1) }}
relay.antiAffinity is none, but relay.{{ ternary "hostNetwork" "hostPort" $relay.hostNetwork }} takes ports of the node, so that two relays cannot share one: set relay.antiAffinity to hard.
{{- end }}
{{- if and (or $relay.hostNetwork $relay.hostPort) (ne $relay.topologyKey "kubernetes.io/hostname") (ne $relay.antiAffinity "hard") (gt (int $relay.replicas) 1) }}
relay.topologyKey is {{ $relay.topologyKey }} with antiAffinity {{ $relay.antiAffinity }}, but relays that take ports of the node need a node each: set relay.topologyKey to kubernetes.io/hostname.
{{- end }}
{{- if and $relay.hostNetwork $relay.hostPort }}
relay.hostNetwork and relay.hostPort are both set: the node's network has the port already, leave hostPort out.
{{- end }}
{{- end }}

{{- define "dumpcast.validate.network" }}
{{- if .Values.networkPolicy.enabled }}
{{- if .Values.relay.hostNetwork }}
networkPolicy.enabled has no effect on pods on the node's network (relay.hostNetwork): turn it off, and filter on the nodes.
{{- end }}
{{- if not .Values.networkPolicy.hostCIDRs }}
networkPolicy.hostCIDRs is empty: no host could send a dump; name the networks that hosts send from.
{{- end }}
{{- end }}
{{- end }}

{{- define "dumpcast.validate.storage" }}
{{- $modes := .Values.relay.storage.accessModes }}
{{- if and (has "ReadOnlyMany" $modes) (eq (len $modes) 1) }}
relay.storage.accessModes is only ReadOnlyMany: a relay writes; use ReadWriteOnce.
{{- end }}
{{- end }}

{{- define "dumpcast.validate.disruption" }}
{{- $budget := .Values.relay.podDisruptionBudget }}
{{- if and $budget.enabled (gt (int .Values.relay.replicas) 1) (ge (int $budget.maxUnavailable) (int .Values.relay.replicas)) }}
relay.podDisruptionBudget.maxUnavailable is {{ $budget.maxUnavailable }} of {{ .Values.relay.replicas }} relays: a drain could take all of them; make it smaller than relay.replicas.
{{- end }}
{{- end }}

{{- define "dumpcast.validate.host" }}
{{- $host := .Values.host }}
{{- if $host.enabled }}
{{- if not $host.devices }}
host.devices is empty: name the network devices that dumps leave by, such as [eth0, eth1].
{{- end }}
{{- if and (not $host.relays) (eq .Values.relay.group "none") }}
host.relays is empty and relay.group is none: hosts would have nowhere to send to; give one of them.
{{- else if and (not $host.relays) (not .Values.relay.hostNetwork) }}
host.relays is empty, so hosts send to the group {{ .Values.relay.group }}, but relays on the pod network do not hear it: set relay.hostNetwork=true, or relay.hostPort=true and name the nodes in host.relays.
{{- end }}
{{- $v6 := 0 }}
{{- range $host.relays }}{{ if contains ":" . }}{{ $v6 = add1 $v6 }}{{ end }}{{ end }}
{{- if and $v6 (ne (int $v6) (len $host.relays)) }}
host.relays mixes IPv4 and IPv6 addresses: a path sends to one family; keep those of one.
{{- end }}
{{- if gt (int $host.commits) (int .Values.relay.replicas) }}
host.commits is {{ $host.commits }}, but there are {{ .Values.relay.replicas }} relays: hosts would wait in vain after each dump; lower it, or raise relay.replicas.
{{- end }}
{{- if and (eq $host.pathMode "stripe") (lt (len $host.devices) 2) }}
host.pathMode is stripe with {{ len $host.devices }} device: there is nothing to spread over; use mirror.
{{- end }}
{{- end }}
{{- end }}
