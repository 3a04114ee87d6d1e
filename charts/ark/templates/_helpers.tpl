{{/* Name of the chart, or what replaces it. */}}
{{- define "ark.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* Prefix of the names of everything. */}}
{{- define "ark.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "ark.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Prefix of the names of cluster-scoped objects: two releases in one cluster do not collide. */}}
{{- define "ark.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "ark.fullname" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "ark.selectorLabels" -}}
app.kubernetes.io/name: {{ include "ark.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ark.labels" -}}
{{ include "ark.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: ark
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* An image reference: (dict "image" .Values.image.operator "chart" .Chart). */}}
{{- define "ark.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "ark.operatorServiceAccount" -}}
{{- if .Values.serviceAccount.operator.create -}}
{{- default (printf "%s-operator" (include "ark.fullname" .)) .Values.serviceAccount.operator.name -}}
{{- else -}}
{{- required "serviceAccount.operator.name is needed when serviceAccount.operator.create is false" .Values.serviceAccount.operator.name -}}
{{- end -}}
{{- end -}}

{{- define "ark.agentServiceAccount" -}}
{{- if .Values.serviceAccount.agent.create -}}
{{- default (printf "%s-agent" (include "ark.fullname" .)) .Values.serviceAccount.agent.name -}}
{{- else -}}
{{- required "serviceAccount.agent.name is needed when serviceAccount.agent.create is false" .Values.serviceAccount.agent.name -}}
{{- end -}}
{{- end -}}

{{/* Name of the Secret with object store credentials; empty when there is none. */}}
{{- define "ark.credentialsSecret" -}}
{{- if .Values.credentials.useSecret -}}
{{- if .Values.credentials.existingSecret -}}
{{- .Values.credentials.existingSecret -}}
{{- else if .Values.credentials.secretContents -}}
{{- .Values.credentials.name -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Name of the default location; empty when there is none. Also refuses what cannot work. */}}
{{- define "ark.defaultLocation" -}}
{{- $defaults := list -}}
{{- $names := list -}}
{{- range .Values.configuration.backupStorageLocations -}}
{{- if has .name $names -}}
{{- fail (printf "configuration.backupStorageLocations has two locations named %q" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- if .default -}}
{{- $defaults = append $defaults .name -}}
{{- end -}}
{{- if and (eq .provider "local") (not $.Values.localStore.enabled) -}}
{{- fail (printf "location %q has provider local, which needs localStore.enabled=true" .name) -}}
{{- end -}}
{{- end -}}
{{- if gt (len $defaults) 1 -}}
{{- fail (printf "only one location can be the default, not %s" (join " and " $defaults)) -}}
{{- end -}}
{{- if $defaults -}}
{{- first $defaults -}}
{{- end -}}
{{- end -}}

{{/* Environment shared by operator and agent. */}}
{{- define "ark.commonEnv" -}}
- name: ARK_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: ARK_POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- if .Values.localStore.enabled }}
- name: ARK_LOCAL_STORE_ROOT
  value: /store
{{- end }}
{{- with include "ark.credentialsSecret" . }}
- name: ARK_DEFAULT_CREDENTIALS_SECRET
  value: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* The volume behind ARK_LOCAL_STORE_ROOT. */}}
{{- define "ark.storeVolume" -}}
- name: store
{{- if .Values.localStore.existingClaim }}
  persistentVolumeClaim:
    claimName: {{ .Values.localStore.existingClaim | quote }}
{{- else }}
  hostPath:
    path: {{ .Values.localStore.hostPath | quote }}
    type: DirectoryOrCreate
{{- end }}
{{- end -}}
