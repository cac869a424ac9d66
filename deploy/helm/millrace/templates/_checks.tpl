{{- /* What a schema cannot say clearly: values that do not go together. */ -}}
{{- define "millrace.checks" -}}
{{- $values := .Values -}}
{{- $ways := list -}}
{{- if $values.git_sync.repository }}{{ $ways = append $ways "git_sync.repository" }}{{ end -}}
{{- if $values.nfs.dags_server }}{{ $ways = append $ways "nfs.dags_server" }}{{ end -}}
{{- if $values.local_test.project_path }}{{ $ways = append $ways "local_test.project_path" }}{{ end -}}
{{- if gt (len $ways) 1 -}}
{{- fail (printf "\n%s are all set, but the project comes from one place.\n  → Keep one of them, or none: then it is in the image." (join " and " $ways)) -}}
{{- end -}}
{{- range $side := list "dags" "logs" -}}
{{- if ne (empty (get $values.nfs (printf "%s_server" $side))) (empty (get $values.nfs (printf "%s_path" $side))) -}}
{{- fail (printf "\nnfs.%s_server and nfs.%s_path belong together: one of them is not set.\n  → Set both, or none." $side $side) -}}
{{- end -}}
{{- end -}}
{{- if and $values.nfs.logs_server $values.local_test.logs_path -}}
{{- fail "\nnfs.logs_server and local_test.logs_path are both set, but logs are in one place.\n  → Keep one of them." -}}
{{- end -}}

{{- if not $values.local_test.enabled -}}
{{- range $key := list "project_path" "logs_path" "warehouse_path" -}}
{{- if get $values.local_test $key -}}
{{- fail (printf "\nlocal_test.%s is a folder of a node, and local_test.enabled is false.\n  → On minikube set local_test.enabled=true. Elsewhere use git_sync, nfs or the image." $key) -}}
{{- end -}}
{{- end -}}
{{- if $values.database_url -}}
{{- fail (printf "\ndatabase_url has a password, and Helm keeps values in the open.\n  → Put it into the secret %s under the key database_url. Only with local_test.enabled=true is it taken from here." $values.secrets.airflow) -}}
{{- end -}}
{{- end -}}

{{- if eq $values.target "dev" -}}
{{- if not (and $values.local_test.warehouse_path (eq $values.executor "LocalExecutor") (eq (int $values.scheduler.replicas) 1)) -}}
{{- fail "\ntarget dev is DuckDB: one file on one disk, for one process at a time. Several pods cannot share it.\n  → Use target: redshift. To try the chart on minikube: local_test.enabled=true with local_test.warehouse_path, executor LocalExecutor, one scheduler." -}}
{{- end -}}
{{- else if $values.local_test.warehouse_path -}}
{{- fail (printf "\nlocal_test.warehouse_path is for DuckDB, and the target is %s.\n  → Set target: dev, or leave warehouse_path out." $values.target) -}}
{{- end -}}

{{- if eq $values.executor "CeleryExecutor" -}}
{{- if not $values.secrets.broker -}}
{{- fail "\nThe CeleryExecutor needs a broker, and secrets.broker is not set.\n  → kubectl create secret generic millrace-broker --from-literal=broker_url=redis://… ; then set secrets.broker=millrace-broker." -}}
{{- end -}}
{{- $queues := list -}}
{{- range $values.celery.workers }}{{ $queues = concat $queues .queues }}{{ end -}}
{{- if not (has "default" $queues) -}}
{{- fail "\nNo group of celery.workers serves the queue `default`, where most tasks are: they would wait for ever.\n  → Add `default` to the queues of a group." -}}
{{- end -}}
{{- end -}}
{{- if and $values.celery.flower.enabled (ne $values.executor "CeleryExecutor") -}}
{{- fail (printf "\ncelery.flower shows the workers of the CeleryExecutor, and the executor is %s.\n  → Set celery.flower.enabled=false." $values.executor) -}}
{{- end -}}
{{- if and (eq $values.executor "KubernetesExecutor") (not (hasKey $values.kubernetes.queues "default")) -}}
{{- fail "\nkubernetes.queues has no `default`, the pod template of tasks without a queue.\n  → Add it." -}}
{{- end -}}

{{- if $values.ingress.enabled -}}
{{- range $key := list "host" "tls_secret" -}}
{{- if not (get $values.ingress $key) -}}
{{- fail (printf "\ningress.%s is not set: logins go over TLS only, for a named host.\n  → Set ingress.host and ingress.tls_secret." $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- range $name, $value := $values.environment -}}
{{- if regexMatch "PASSWORD|SECRET|TOKEN|SALT|FERNET|ACCESS_KEY|_CONN(_|$)|BROKER_URL|RESULT_BACKEND" $name -}}
{{- fail (printf "\nenvironment.%s looks like a secret, and everyone who may read ConfigMaps would see it.\n  → Put it into the secret %s: every key of it becomes an environment variable." $name $values.secrets.connections) -}}
{{- end -}}
{{- end -}}
{{- end -}}
