{{- /*
A Deployment. It takes what millrace.pod takes, and:
  component   its name: the suffix of the Deployment's, and the label of its pods
  replicas
*/ -}}
{{- define "millrace.deployment" -}}
{{- $root := .root -}}
{{- $labels := dict "root" $root "component" .component -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "millrace.name" $root }}-{{ .component }}
  labels:
    {{- include "millrace.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  replicas: {{ .replicas }}
  selector:
    matchLabels:
      {{- include "millrace.component" $labels | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "millrace.component" $labels | nindent 8 }}
        {{- with $root.Values.pods.labels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        # Pods start again when their settings have changed.
        checksum/config: {{ include (print $root.Template.BasePath "/config.yaml") $root | sha256sum }}
        {{- with $root.Values.pods.annotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- if gt (int .replicas) 1 }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "millrace.component" $labels | nindent 14 }}
      {{- end }}
      {{- include "millrace.pod" . | trim | nindent 6 }}
{{- if and $root.Values.pod_disruption_budgets.enabled (gt (int .replicas) 1) }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "millrace.name" $root }}-{{ .component }}
  labels:
    {{- include "millrace.labels" $root | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "millrace.component" $labels | nindent 6 }}
{{- end }}
{{- end -}}

{{- /* The labels that select the pods of one component. */ -}}
{{- define "millrace.component" -}}
{{ include "millrace.selector" .root }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "millrace.probes" -}}
{{- range $probe := list "startup" "liveness" }}
{{ $probe }}Probe:
  {{- toYaml $.check | nindent 2 }}
  {{- toYaml (get $.root.Values.probes $probe) | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "millrace.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "millrace.name" .root }}-{{ .component }}
  labels:
    {{- include "millrace.labels" .root | nindent 4 }}
spec:
  selector:
    {{- include "millrace.component" . | nindent 4 }}
  ports:
    - {name: http, port: {{ .port }}, targetPort: http}
{{- end -}}
