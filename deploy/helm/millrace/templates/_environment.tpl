{{- /* Settings of all components, as a map; the user's own come over the chart's. No secrets. */ -}}
{{- define "millrace.environment" -}}
{{- $settings := include "millrace.settings" . | fromYaml -}}
{{- range $name, $value := .Values.environment -}}
{{- $_ := set $settings $name (toString $value) -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{- define "millrace.settings" -}}
{{- $project := include "millrace.project" . -}}
{{- $values := .Values -}}
AIRFLOW__API__BASE_URL: {{ $values.ingress.enabled | ternary (printf "https://%s" $values.ingress.host) "http://localhost:8080" | quote }}
AIRFLOW__CORE__DAGS_FOLDER: "{{ $project }}/dags"
AIRFLOW__CORE__EXECUTION_API_SERVER_URL: http://{{ include "millrace.name" . }}-api-server:8080/execution/
AIRFLOW__CORE__EXECUTOR: {{ $values.executor }}
# The name of a pod cannot be looked up, and logs are read from where a task ran.
AIRFLOW__CORE__HOSTNAME_CALLABLE: airflow.utils.net.get_host_ip_address
AIRFLOW__CORE__PARALLELISM: {{ $values.parallelism | toString | quote }}
AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK: "True"
AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME: "0.2"
AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL: "1"
{{- if eq $values.executor "LocalExecutor" }}
# Tasks are forked from a process that has imported their libraries.
AIRFLOW__SCHEDULER__MP_START_METHOD: forkserver
AIRFLOW__SCHEDULER__MP_FORKSERVER_PRELOAD: {{ .Files.Get "files/preloaded" | trim | splitList "\n" | join "," }}
{{- end }}
{{- if eq $values.executor "CeleryExecutor" }}
{{- $preloaded := without (.Files.Get "files/preloaded" | trim | splitList "\n") "airflow.executors.local_executor" }}
{{- $patience := dict "max_retries" 100 "interval_start" 0.2 "interval_step" 0 "interval_max" 0.2 }}
# Each worker imports the libraries of tasks once. While Redis cannot be reached, tasks wait for it.
AIRFLOW__CELERY__EXTRA_CELERY_CONFIG: {{ dict "imports" $preloaded "task_publish_retry_policy" $patience | toJson | quote }}
AIRFLOW__CELERY__TASK_PUBLISH_MAX_RETRIES: "300"
# Longer than any task runs: when Redis gives a message away again.
AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT: "86400"
# A task whose worker has died is tried again after a minute instead of five.
AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT: "60"
{{- end }}
{{- if eq $values.executor "KubernetesExecutor" }}
# Failed pods are kept only where they have the log.
AIRFLOW__KUBERNETES_EXECUTOR__DELETE_WORKER_PODS_ON_FAILURE: {{ or $values.remote_logs.url $values.nfs.logs_server | empty | ternary "False" "True" | quote }}
AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE: {{ .Release.Namespace }}
AIRFLOW__KUBERNETES_EXECUTOR__WORKER_PODS_CREATION_BATCH_SIZE: "8"
{{- end }}
{{- if $values.remote_logs.url }}
AIRFLOW__LOGGING__REMOTE_LOGGING: "True"
AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER: {{ $values.remote_logs.url | quote }}
AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID: {{ $values.remote_logs.connection | quote }}
{{- end }}
{{- if $values.webserver_config }}
AIRFLOW__FAB__CONFIG_FILE: /etc/millrace/webserver_config.py
{{- end }}
# dbt makes this folder in any case, and ends without a word where it cannot.
DBT_LOG_PATH: /tmp/dbt
DBT_PROFILES_DIR: {{ $project | quote }}
DBT_PROJECT_DIR: "{{ $project }}/dbt_project"
DBT_TARGET_PATH: /var/lib/millrace/target
{{- if $values.local_test.warehouse_path }}
DUCKDB_PATH: /var/lib/millrace/warehouse/millrace.duckdb
{{- end }}
{{- if $values.ingress.enabled }}
# Only what the network policies let through reaches the API server, so its headers are believed.
FORWARDED_ALLOW_IPS: "*"
{{- end }}
HOME: /tmp
TARGET: {{ $values.target | quote }}
{{- end -}}

{{- /* Variables from secrets: takes root, and secrets, a list of keys. */ -}}
{{- define "millrace.secrets" -}}
{{- $secrets := .root.Values.secrets -}}
{{- $inline := not (empty .root.Values.database_url) -}}
{{- $local := printf "%s-local-test" (include "millrace.name" .root) -}}
{{- $variables := dict
  "admin_password" (list "AIRFLOW_ADMIN_PASSWORD" $secrets.airflow)
  "api_secret_key" (list "AIRFLOW__API__SECRET_KEY" $secrets.airflow)
  "broker_url" (list "AIRFLOW__CELERY__BROKER_URL" $secrets.broker)
  "database_url" (list "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" ($inline | ternary $local $secrets.airflow))
  "fernet_key" (list "AIRFLOW__CORE__FERNET_KEY" $secrets.airflow)
  "flower_basic_auth" (list "AIRFLOW__CELERY__FLOWER_BASIC_AUTH" $secrets.broker)
  "jwt_secret" (list "AIRFLOW__API_AUTH__JWT_SECRET" $secrets.airflow)
  "monitor_password" (list "AIRFLOW_MONITOR_PASSWORD" $secrets.airflow)
-}}
{{- range $key := .secrets }}
{{- $variable := get $variables $key }}
- name: {{ first $variable }}
  valueFrom: {secretKeyRef: {name: {{ last $variable }}, key: {{ $key }}{{ if eq $key "monitor_password" }}, optional: true{{ end }}}}
{{- end }}
{{- end -}}
