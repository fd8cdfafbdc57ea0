{{- define "haqa.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "haqa.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "haqa.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "haqa.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Roles for the whole cluster share their names with other releases, so the namespace is part of theirs. */}}
{{- define "haqa.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "haqa.fullname" .) }}
{{- end }}

{{- /* The same for a kind whose names take no colon. */}}
{{- define "haqa.policySuffix" -}}
{{- printf "%s.%s.haqa.dev" (include "haqa.fullname" .) .Release.Namespace }}
{{- end }}

{{- /* The same where colons are not allowed. */}}
{{- define "haqa.policyName" -}}
{{- printf "%s.%s" (include "haqa.fullname" .) .Release.Namespace }}
{{- end }}

{{- /* A list of `policy` as a regular expression without anchors, as `haqa_operator.cluster.policy.problems` has it. */}}
{{- define "haqa.oneOf" -}}
{{- $found := list }}
{{- range . }}
{{- $literal := include "haqa.word" . | replace "." "[.]" | replace "+" "[+]" }}
{{- $found = append $found ($literal | replace "**" "\n" | replace "*" "[^/\"\\\\]*" | replace "\n" "[^\"\\\\\\n]*") }}
{{- end }}
{{- join "|" $found | default "[^\\s\\S]" }}
{{- end }}

{{- define "haqa.shown" -}}
{{- $found := list }}
{{- range . }}{{ $found = append $found (include "haqa.word" .) }}{{ end }}
{{- join ", " $found | default "none" }}
{{- end }}

{{- /* Large numbers would come out as 1e+06. */}}
{{- define "haqa.word" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ int64 . }}{{ end }}
{{- end }}

{{- define "haqa.serviceAccountName" -}}
{{- default (ternary (include "haqa.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{- define "haqa.selectorLabels" -}}
app.kubernetes.io/name: {{ include "haqa.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "haqa.labels" -}}
{{ include "haqa.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.extraLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* "repository:tag", or "repository@sha256:…" where the tag is a digest. */}}
{{- define "haqa.image" -}}
{{- $tag := default .appVersion .image.tag -}}
{{- printf "%s%s%s" .image.repository (ternary "@" ":" (hasPrefix "sha256:" $tag)) $tag }}
{{- end }}

{{- /* For pools that are not NVIDIA's, as JSON. */}}
{{- define "haqa.runnerImages" -}}
{{- $image := include "haqa.image" (dict "image" .Values.runner.image "appVersion" .Chart.AppVersion) -}}
{{- $digest := contains "@" $image -}}
{{- $amd := default (ternary $image (printf "%s-rocm" $image) $digest) .Values.runner.images.amd -}}
{{- $cpu := default (ternary $image (printf "%s-cpu" $image) $digest) .Values.runner.images.cpu -}}
{{- dict "amd" $amd "cpu" $cpu | toJson }}
{{- end }}

{{- define "haqa.checkPrometheus" -}}
{{- with .Values.prometheus }}
{{- $ways := list }}
{{- if .bearerToken.existingSecret }}{{ $ways = append $ways "prometheus.bearerToken.existingSecret" }}{{ end }}
{{- if .basicAuth.existingSecret }}{{ $ways = append $ways "prometheus.basicAuth.existingSecret" }}{{ end }}
{{- if .serviceAccountToken }}{{ $ways = append $ways "prometheus.serviceAccountToken" }}{{ end }}
{{- if gt (len $ways) 1 }}
{{- fail (printf "%s are set; give one way to log in to Prometheus" (join " and " $ways)) }}
{{- end }}
{{- if and (not .url) (or $ways .ca.existingSecret) }}
{{- fail "prometheus.url is empty and credentials for it are set; give the URL, or leave them out" }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The cluster's DNS, also of a cache on the node; OpenShift's pods listen on 5353. */}}
{{- define "haqa.egressDns" -}}
- to: [{namespaceSelector: {}}, {ipBlock: {cidr: 169.254.20.10/32}}]
  ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
    - {protocol: UDP, port: 5353}
    - {protocol: TCP, port: 5353}
{{- end }}

{{- /* Addresses by cidrs, without those in `except` of the same family. */}}
{{- define "haqa.egressTo" -}}
- to:
    {{- $except := .except }}
    {{- range .cidrs }}
    {{- $six := contains ":" . }}
    - ipBlock:
        cidr: {{ . | quote }}
        {{- $left := list }}
        {{- range $except }}{{ if eq $six (contains ":" .) }}{{ $left = append $left . }}{{ end }}{{ end }}
        {{- with $left }}
        except: {{ toJson . }}
        {{- end }}
    {{- end }}
  ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}
