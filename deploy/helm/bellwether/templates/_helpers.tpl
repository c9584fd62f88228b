{{/* The names of the objects. A StatefulSet's name may have 52 characters, because a label has it with a hash. */}}

{{- define "bellwether.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "bellwether" .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-bellwether" (.Release.Name | trunc 41 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{/* The name of objects without a namespace. Two releases may have the same name in two namespaces. */}}
{{- define "bellwether.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "bellwether.fullname" .) -}}
{{- end -}}

{{- define "bellwether.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "bellwether.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "bellwether.selectorLabels" -}}
app.kubernetes.io/name: bellwether
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "bellwether.labels" -}}
{{ include "bellwether.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Roles: the rules are those of deploy/kustomize, and the subject is the daemon's account. */}}

{{- define "bellwether.rules" -}}
{{- include "bellwether.rulesOf" (list . "files/cluster-role.yaml") -}}
{{- end -}}

{{- define "bellwether.reviewRules" -}}
{{- include "bellwether.rulesOf" (list . "files/reviews-cluster-role.yaml") -}}
{{- end -}}

{{/* The file is a symbolic link, which some checkouts leave as a text. */}}
{{- define "bellwether.rulesOf" -}}
{{- $file := index . 1 -}}
{{- $role := (index . 0).Files.Get $file | fromYaml -}}
{{- $role.rules | required (printf "%s has no rules: check the repository out with symbolic links, or use a packaged chart" $file) | toYaml -}}
{{- end -}}

{{- define "bellwether.subjects" -}}
- kind: ServiceAccount
  name: {{ include "bellwether.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{/* Parts of the pods of the daemon and of `helm test`. */}}

{{- define "bellwether.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "bellwether.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "bellwether.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: ["ALL"]
{{- end -}}

{{/* The variable of a key of the configuration: kafka.security.ca-file is BELLWETHER_KAFKA__SECURITY__CA_FILE. */}}
{{- define "bellwether.variable" -}}
{{- printf "BELLWETHER_%s" (. | replace "." "__" | replace "-" "_" | upper) -}}
{{- end -}}

{{/* The settings that the chart knows. They take the place of those in `config`. */}}
{{- define "bellwether.env" -}}
{{- if eq .Values.journal.kind "embedded" }}
- name: BELLWETHER_JOURNAL__KIND
  value: embedded
- name: BELLWETHER_JOURNAL__PATH
  value: /var/lib/bellwether/journal.redb
{{- end }}
{{- with .Values.namespaces }}
- name: BELLWETHER_KUBERNETES__NAMESPACES
  value: {{ toJson . | quote }}
{{- end }}
{{- if .Values.acting.enabled }}
- name: BELLWETHER_HTTP__EVENTS
  value: "true"
- name: BELLWETHER_HTTP__AUTHENTICATE
  value: "true"
- name: BELLWETHER_HTTP__CERT_FILE
  value: /etc/bellwether-tls/tls.crt
- name: BELLWETHER_HTTP__KEY_FILE
  value: /etc/bellwether-tls/tls.key
{{- if ne .Values.journal.kind "embedded" }}
- name: BELLWETHER_HTTP__STAMP_KEY_FILE
  value: /etc/bellwether-stamp/key
{{- end }}
{{- with .Values.acting.audiences }}
- name: BELLWETHER_HTTP__AUDIENCES
  value: {{ toJson . | quote }}
{{- end }}
{{- end }}
{{- range $name, $file := .Values.files }}
{{- with $file.setting }}
- name: {{ include "bellwether.variable" . }}
  value: /etc/bellwether-files/{{ $name }}
{{- end }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "bellwether.volumeMounts" -}}
- name: config
  mountPath: /etc/bellwether
  readOnly: true
{{- if .Values.acting.enabled }}
- name: tls
  mountPath: /etc/bellwether-tls
  readOnly: true
{{- if ne .Values.journal.kind "embedded" }}
- name: stamp
  mountPath: /etc/bellwether-stamp
  readOnly: true
{{- end }}
{{- end }}
{{- if .Values.files }}
- name: files
  mountPath: /etc/bellwether-files
  readOnly: true
{{- end }}
{{- end -}}

{{- define "bellwether.volumes" -}}
- name: config
  configMap:
    name: {{ include "bellwether.fullname" . }}
{{- if .Values.acting.enabled }}
- name: tls
  secret:
    secretName: {{ .Values.acting.tlsSecret }}
{{- if ne .Values.journal.kind "embedded" }}
- name: stamp
  secret:
    secretName: {{ .Values.acting.stampSecret }}
{{- end }}
{{- end }}
{{- with .Values.files }}
- name: files
  projected:
    # 0440 in octal: readable by the group, which is fsGroup.
    defaultMode: 288
    sources:
      {{- range $name, $file := . }}
      - {{ ternary "secret" "configMap" (hasKey $file "secret") }}:
          name: {{ $file.secret | default $file.configMap }}
          items:
            - key: {{ $file.key }}
              path: {{ $name }}
      {{- end }}
{{- end }}
{{- end -}}

{{/* Fails for values that can't be used together, with the remedy. */}}
{{- define "bellwether.validate" -}}
{{- if eq .Values.journal.kind "embedded" -}}
{{- if gt (int .Values.replicas) 1 -}}
{{- fail (printf "replicas is %d, and an embedded journal belongs to one process: set replicas=1, or journal.kind=kafka" (int .Values.replicas)) -}}
{{- end -}}
{{- if not .Values.acting.enabled -}}
{{- fail "journal.kind is embedded, so there is no Kafka to bring events, and acting.enabled is false: set acting.enabled=true" -}}
{{- end -}}
{{- end -}}
{{- if hasKey .Values.policies "bellwether" -}}
{{- fail "policies.bellwether would be the file of `config`, bellwether.toml: give it another name" -}}
{{- end -}}
{{- end -}}
