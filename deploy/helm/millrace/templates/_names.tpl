{{- define "millrace.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" (.Release.Name | trunc 31 | trimSuffix "-") .Chart.Name }}
{{- end -}}
{{- end -}}

{{- define "millrace.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- /* The labels that select all pods of the release. */ -}}
{{- define "millrace.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "millrace.labels" -}}
{{ include "millrace.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- /* Where the project comes from: image, git, nfs or host. _checks.tpl refuses two at once. */ -}}
{{- define "millrace.source" -}}
{{- if .Values.git_sync.repository -}} git
{{- else if .Values.nfs.dags_server -}} nfs
{{- else if .Values.local_test.project_path -}} host
{{- else -}} image
{{- end -}}
{{- end -}}

{{- /* The folder with dags/, dbt_project/ and profiles.yml. */ -}}
{{- define "millrace.project" -}}
{{- $source := include "millrace.source" . -}}
{{- if eq $source "image" -}} /opt/millrace
{{- else if eq $source "git" -}} {{ printf "/project/current/%s" .Values.git_sync.folder | trimSuffix "/" }}
{{- else -}} /project
{{- end -}}
{{- end -}}
