{{- define "upcall.nats.conf" -}}
{{- $name := printf "%s-nats" .Release.Name -}}
server_name: $POD_NAME
listen: 0.0.0.0:4222
http: 0.0.0.0:8222                     # it has no passwords; the NetworkPolicy keeps others off
pid_file: /var/run/nats/nats.pid
# Clients are told to go elsewhere for this long before the server ends; the pod is given a minute.
lame_duck_grace_period: 10s
lame_duck_duration: 30s

jetstream {
  store_dir: /data
  max_memory_store: 256MB
  max_file_store: {{ .Values.nats.maxFileStore }}
  sync_interval: {{ .Values.nats.syncInterval }}
}

cluster {
  name: upcall
  listen: 0.0.0.0:6222
  no_advertise: true                   # clients come by the service, whatever addresses pods have
  routes: [
    {{- range list "0" "1" "2" }}
    nats://{{ $name }}-{{ . }}.{{ $name }}-headless:6222
    {{- end }}
  ]
}

# Who may connect: of the secret {{ .Values.nats.authSecret }}.
include auth.conf
{{- end -}}
