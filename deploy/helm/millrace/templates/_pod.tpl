{{- /*
A pod's spec. Everything that runs is described here once; it takes a map:
  root             the chart's own
  container        the container's name; default: the component's
  command          a list; none for a pod whose command Airflow adds
  secrets          which keys of the secrets its environment has
  connections      whether it has the connections and the salt too
  project          "", "once" or "watch": whether it has the project, and follows its changes
  resources        of the container
  grace_seconds    how long it may take to end
  service_account  api-server, scheduler or tasks; none: the namespace's default, without any right
  talks_to_kubernetes  whether it has a token for Kubernetes's API
  pod_templates    whether it has the pod templates
  ports, probes    of the container, as text
  login            whether it has webserver_config.py and its secrets
  job              whether it runs before the chart's ConfigMaps exist
  restart_policy
*/ -}}
{{- define "millrace.pod" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $source := include "millrace.source" $root -}}
{{- if .service_account }}
serviceAccountName: {{ include "millrace.name" $root }}-{{ .service_account }}
{{- end }}
automountServiceAccountToken: {{ .talks_to_kubernetes | default false }}
enableServiceLinks: false
{{- with .restart_policy }}
restartPolicy: {{ . }}
{{- end }}
{{- with .grace_seconds }}
terminationGracePeriodSeconds: {{ . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with $values.image.pull_secrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $values.pods.node_selector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.pods.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.pods.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if and .project (or (not .job) (eq $source "git")) }}
initContainers:
  {{- if eq $source "git" }}
  {{- include "millrace.git_sync" . | nindent 2 }}
  {{- end }}
  {{- if not .job }}
  {{- include "millrace.parse" . | nindent 2 }}
  {{- end }}
{{- end }}
containers:
  - name: {{ .container | default .component }}
    {{- include "millrace.container" . | nindent 4 }}
    {{- with .command }}
    command: {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- if .job }}
    workingDir: {{ include "millrace.project" $root | quote }}
    {{- end }}
    {{- with .ports }}
    ports: {{- . | nindent 6 }}
    {{- end }}
    {{- with .probes }}
    {{- . | trim | nindent 4 }}
    {{- end }}
    resources: {{- toYaml .resources | nindent 6 }}
volumes:
  {{- include "millrace.volumes" . | nindent 2 }}
{{- end -}}

{{- define "millrace.container_security" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{- /* What the containers of our image have in common. */ -}}
{{- define "millrace.container" -}}
{{- $values := .root.Values -}}
image: {{ include "millrace.image" .root | quote }}
imagePullPolicy: {{ $values.image.pull_policy }}
{{ include "millrace.container_security" . }}
{{- if or .job .secrets .pod_templates }}
env:
  {{- if .job }}
  {{- /* The job comes before the ConfigMap. */}}
  {{- range $name, $value := include "millrace.environment" .root | fromYaml }}
  - {name: {{ $name }}, value: {{ $value | quote }}}
  {{- end }}
  {{- end }}
  {{- if .pod_templates }}
  - {name: AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE, value: /etc/pod-templates/default.yaml}
  {{- end }}
  {{- with include "millrace.secrets" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end }}
{{- if or (not .job) .connections .login }}
envFrom:
  {{- if not .job }}
  - configMapRef: {name: {{ include "millrace.name" .root }}-environment}
  {{- end }}
  {{- if .connections }}
  - secretRef: {name: {{ $values.secrets.connections }}}
  {{- end }}
  {{- if and .login $values.secrets.login }}
  - secretRef: {name: {{ $values.secrets.login }}}
  {{- end }}
{{- end }}
volumeMounts:
  # All that is ever written to.
  - {name: airflow, mountPath: /opt/airflow}
  - {name: millrace, mountPath: /var/lib/millrace}
  - {name: tmp, mountPath: /tmp}
  {{- if or $values.nfs.logs_server $values.local_test.logs_path }}
  - {name: logs, mountPath: /opt/airflow/logs}
  {{- end }}
  {{- if .project }}
  {{- if ne (include "millrace.source" .root) "image" }}
  - {name: project, mountPath: /project, readOnly: true}
  {{- end }}
  {{- if $values.local_test.warehouse_path }}
  - {name: warehouse, mountPath: /var/lib/millrace/warehouse}
  {{- end }}
  {{- end }}
  {{- if .pod_templates }}
  - {name: pod-templates, mountPath: /etc/pod-templates, readOnly: true}
  {{- end }}
  {{- if and .login $values.webserver_config }}
  - {name: files, mountPath: /etc/millrace, readOnly: true}
  {{- end }}
{{- end -}}

{{- /* Makes the manifest before the container starts, and stays beside it where files may change. */ -}}
{{- define "millrace.parse" -}}
{{- $follows := and (eq .project "watch") (ne (include "millrace.source" .root) "image") -}}
{{- $command := list "millrace" "parse" -}}
{{- $looked := "/tmp/parse-looked" -}}
{{- if $follows }}
{{- $command = concat $command (list "--follow" "--sign-of-life" $looked) -}}
{{- end -}}
- name: parse
  {{- include "millrace.container" (dict "root" .root "project" .project "connections" true) | nindent 2 }}
  command: [{{ join ", " $command }}]
  {{- if $follows }}
  restartPolicy: Always
  startupProbe:
    exec: {command: [test, -e, {{ $looked }}]}
    {{- toYaml .root.Values.probes.startup | nindent 4 }}
  livenessProbe:
    # It looks every ten seconds, and parses in between.
    exec: {command: [bash, -c, '[[ -n $(find {{ $looked }} -mmin -5) ]]']}
    {{- toYaml .root.Values.probes.liveness | nindent 4 }}
  {{- end }}
  resources: {{- toYaml .root.Values.parse.resources | nindent 4 }}
{{- end -}}

{{- define "millrace.git_sync" -}}
{{- $settings := .root.Values.git_sync -}}
{{- $watches := eq .project "watch" -}}
{{- $ssh := not (hasPrefix "https://" $settings.repository) -}}
- name: git-sync
  image: {{ $settings.image | quote }}
  {{- include "millrace.container_security" . | nindent 2 }}
    # The image's own user: ssh refuses one that /etc/passwd does not have.
    runAsUser: 65533
  args:
    - {{ printf "--repo=%s" $settings.repository | quote }}
    - {{ printf "--ref=%s" $settings.ref | quote }}
    - --root=/project
    - --link=current
    - --depth=1
    {{- if $watches }}
    - --period={{ $settings.period }}
    - --max-failures=-1
    # A process that has resolved the link finds the files for a while.
    - --stale-worktree-timeout=2h
    - --http-bind=:8085
    {{- else }}
    - --one-time
    {{- end }}
  {{- if $settings.secret }}
  env:
    {{- if $ssh }}
    - {name: GITSYNC_SSH, value: "true"}
    {{- else }}
    - name: GITSYNC_USERNAME
      valueFrom: {secretKeyRef: {name: {{ $settings.secret }}, key: username}}
    - name: GITSYNC_PASSWORD
      valueFrom: {secretKeyRef: {name: {{ $settings.secret }}, key: password}}
    {{- end }}
  {{- end }}
  {{- if $watches }}
  restartPolicy: Always
  ports:
    - {name: git-sync, containerPort: 8085}
  startupProbe:
    httpGet: {path: /, port: git-sync}
    {{- toYaml .root.Values.probes.startup | nindent 4 }}
  livenessProbe:
    httpGet: {path: /, port: git-sync}
    {{- toYaml .root.Values.probes.liveness | nindent 4 }}
  {{- end }}
  volumeMounts:
    - {name: project, mountPath: /project}
    - {name: tmp, mountPath: /tmp}
    {{- if and $settings.secret $ssh }}
    - {name: git-secret, mountPath: /etc/git-secret, readOnly: true}
    {{- end }}
  resources: {{- toYaml $settings.resources | nindent 4 }}
{{- end -}}

{{- define "millrace.volumes" -}}
{{- $values := .root.Values -}}
{{- $source := include "millrace.source" .root -}}
{{- $name := include "millrace.name" .root -}}
- {name: airflow, emptyDir: {sizeLimit: 5Gi}}
- {name: millrace, emptyDir: {sizeLimit: 1Gi}}
- {name: tmp, emptyDir: {sizeLimit: 5Gi}}
{{- if $values.nfs.logs_server }}
- {name: logs, nfs: {server: {{ $values.nfs.logs_server | quote }}, path: {{ $values.nfs.logs_path | quote }}}}
{{- else if $values.local_test.logs_path }}
- {name: logs, hostPath: {path: {{ $values.local_test.logs_path | quote }}, type: DirectoryOrCreate}}
{{- end }}
{{- if .project }}
{{- if eq $source "git" }}
- {name: project, emptyDir: {sizeLimit: 2Gi}}
{{- if and $values.git_sync.secret (not (hasPrefix "https://" $values.git_sync.repository)) }}
- {name: git-secret, secret: {secretName: {{ $values.git_sync.secret }}, defaultMode: 0400}}
{{- end }}
{{- else if eq $source "nfs" }}
- {name: project, nfs: {server: {{ $values.nfs.dags_server | quote }}, path: {{ $values.nfs.dags_path | quote }}, readOnly: true}}
{{- else if eq $source "host" }}
- {name: project, hostPath: {path: {{ $values.local_test.project_path | quote }}, type: Directory}}
{{- end }}
{{- if $values.local_test.warehouse_path }}
- {name: warehouse, hostPath: {path: {{ $values.local_test.warehouse_path | quote }}, type: DirectoryOrCreate}}
{{- end }}
{{- end }}
{{- if .pod_templates }}
- {name: pod-templates, configMap: {name: {{ $name }}-pod-templates}}
{{- end }}
{{- if and .login $values.webserver_config }}
- {name: files, configMap: {name: {{ $name }}-files}}
{{- end }}
{{- end -}}
