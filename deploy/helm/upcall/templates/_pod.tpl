{{- define "upcall.labels" -}}
app.kubernetes.io/name: upcall
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "upcall.metadata" -}}
name: {{ .root.Release.Name }}-{{ .component }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "upcall.labels" . | nindent 2 }}
  app.kubernetes.io/managed-by: {{ .root.Release.Service }}
  helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end -}}

{{- /* The port of an address such as 0.0.0.0:9090. */ -}}
{{- define "upcall.port" -}}
{{ regexFind "[0-9]+$" . }}
{{- end -}}

{{- /* The configuration: what was given, over what the chart says of itself. Takes `root` and `component`. */ -}}
{{- define "upcall.config" -}}
{{- $values := index .root.Values .component -}}
{{- $config := dict "gateway" (dict "admin" "0.0.0.0:9090" "health" "0.0.0.0:9091") "log" (dict "format" "json") -}}
{{- if eq .component "gateway" -}}
{{- $_ := set $config.gateway "listen" "0.0.0.0:8080" -}}
{{- $_ := set $config.gateway "shutdown" (dict "grace" "10s") -}}
{{- if $values.journal.enabled -}}
{{- $given := dig "bus" "journal" dict $values.config -}}
{{- if kindIs "string" $given -}}
{{ fail "gateway.config.bus.journal is a table here: the chart names its folder" }}
{{- end -}}
{{- $_ := set $config "bus" (dict "journal" (dict "folder" "/var/lib/upcall/journal")) -}}
{{- end -}}
{{- end -}}
{{- include "upcall.refuseSecrets" (dict "path" (printf "%s.config" .component) "table" $values.config) -}}
{{ mustMergeOverwrite $config (deepCopy $values.config) | toYaml }}
{{- end -}}

{{- /* What is a secret by its name, or a URL with a password, is refused: it would be in the ConfigMap for everybody who may
read those. Takes `path` and `table`. An answer for the uploader (`response`) has what keys it likes. */ -}}
{{- define "upcall.refuseSecrets" -}}
{{- range $key, $value := .table -}}
{{- $path := printf "%s.%s" $.path $key -}}
{{- if eq $key "response" -}}
{{- if kindIs "map" $value -}}
{{- include "upcall.refuseSecrets" (dict "path" $path "table" (pick $value "http")) -}}
{{- end -}}
{{- else if kindIs "map" $value -}}
{{- include "upcall.refuseSecrets" (dict "path" $path "table" $value) -}}
{{- else -}}
{{- range kindIs "slice" $value | ternary $value (list $value) -}}
{{- if kindIs "map" . -}}
{{- include "upcall.refuseSecrets" (dict "path" $path "table" .) -}}
{{- else if kindIs "string" . -}}
{{- if or (has (lower $key) (list "password" "token" "nkey" "secret" "secrets" "authorization")) (regexMatch "://[^/?#@]*:[^/?#@]+@" .) -}}
{{- fail (printf "%s: a secret in the values would be in a ConfigMap. Put it into a Secret, name that in %s.secrets, and write { file: secrets/PATH } here" $path (regexFind "^[a-z]+" $path)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "upcall.configMap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "upcall.metadata" . | nindent 2 }}
data:
  upcall.toml: |
    {{- regexReplaceAll "(?m)^ +$" (include "upcall.toml" (include "upcall.config" . | fromYaml) | nindent 4) "" }}
{{- end -}}

{{- define "upcall.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "upcall.metadata" . | nindent 2 }}
  {{- with .root.Values.rrsa.role }}
  annotations:
    pod-identity.alibabacloud.com/role-name: {{ . | quote }}
  {{- end }}
# Upcall never talks to Kubernetes.
automountServiceAccountToken: false
{{- end -}}

{{- /* The security context that pods of any kind here have: the most restrictive that Kubernetes knows of. */ -}}
{{- define "upcall.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "upcall.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* Where pods may run. Takes the values of a part. */ -}}
{{- define "upcall.placement" -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" }}
{{- with index $ $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* A pod of Upcall's. Takes `root`, `component`, and `data`: whether it has a volume for its journal. */ -}}
{{- define "upcall.template" -}}
{{- $values := index .root.Values .component -}}
{{- $config := include "upcall.config" . | fromYaml -}}
metadata:
  labels:
    {{- include "upcall.labels" . | nindent 4 }}
  {{- if or $values.podAnnotations (not .data) }}
  annotations:
    {{- if not .data }}
    # Another configuration, another pod, while the others take callbacks. One that is alone takes it up as it runs.
    checksum/configuration: {{ include "upcall.config" . | sha256sum }}
    {{- end }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
spec:
  {{- with include "upcall.placement" $values | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- if and (eq .component "gateway") (not .data) .root.Values.ingress.enabled (eq .root.Values.ingress.controller "alb") }}
  # Ready once the balancer sends it callbacks: deploy/kubernetes/components/ingress-alb has the reason and the source.
  readinessGates:
    - conditionType: target-health.alb.k8s.alibabacloud
  {{- end }}
  serviceAccountName: {{ .root.Release.Name }}-{{ .component }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  # No preStop hook is needed: `shutdown.grace` is the time in which it is unready and still accepts.
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
  securityContext:
    {{- include "upcall.podSecurity" . | nindent 4 }}
  {{- if not .data }}
  topologySpreadConstraints:
    {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "upcall.labels" $ | nindent 10 }}
    {{- end }}
  {{- end }}
  containers:
    - name: upcall
      image: {{ printf "%s:%s" .root.Values.image.repository (.root.Values.image.tag | default .root.Chart.AppVersion) | quote }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: [serve, -c, /etc/upcall/upcall.toml]
      {{- with $values.env }}
      env:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        {{- if eq .component "gateway" }}
        - name: http
          containerPort: {{ include "upcall.port" $config.gateway.listen }}
        {{- end }}
        - name: admin
          containerPort: {{ include "upcall.port" $config.gateway.admin }}
        # /live and /ready alone.
        - name: health
          containerPort: {{ include "upcall.port" $config.gateway.health }}
      securityContext:
        {{- include "upcall.containerSecurity" . | nindent 8 }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      # A journal that was not closed is checked before anything listens.
      startupProbe:
        httpGet: { path: /live, port: health }
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: { path: /live, port: health }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      readinessProbe:
        httpGet: { path: /ready, port: health }
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
      volumeMounts:
        - { name: configuration, mountPath: /etc/upcall, readOnly: true }
        - { name: tmp, mountPath: /tmp }
        {{- if .data }}
        - { name: data, mountPath: /var/lib/upcall }
        {{- end }}
  volumes:
    - name: configuration
      projected:
        sources:
          - configMap:
              name: {{ .root.Release.Name }}-{{ .component }}
          {{- range $values.secrets }}
          - secret:
              name: {{ .secret | quote }}
              items:
                - key: {{ .key | quote }}
                  path: {{ printf "secrets/%s" .path | quote }}
          {{- end }}
    - name: tmp
      emptyDir: { sizeLimit: 64Mi }
{{- end -}}

{{- define "upcall.adminService" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "upcall.metadata" . | nindent 2 }}
spec:
  selector:
    {{- include "upcall.labels" . | nindent 4 }}
  ports:
    {{- if eq .component "gateway" }}
    - { name: http, port: 80, targetPort: http }
    {{- end }}
    - { name: admin, port: 9090, targetPort: admin }
{{- end -}}

{{- define "upcall.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "upcall.metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  # A pod that is not ready serves nobody, so that it need not keep a node from being drained.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "upcall.labels" . | nindent 6 }}
{{- end -}}
