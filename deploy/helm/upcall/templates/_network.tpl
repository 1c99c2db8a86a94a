{{- define "upcall.dns" -}}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: kube-system
    # NodeLocal DNSCache, where the cluster has it.
    - ipBlock:
        cidr: 169.254.20.10/32
  ports:
    - { port: 53, protocol: UDP }
    - { port: 53, protocol: TCP }
{{- end -}}

{{- /* The policy of a part of Upcall's. Takes `root` and `component`. */ -}}
{{- define "upcall.networkPolicy" -}}
{{- $values := .root.Values -}}
{{- $journal := and (eq .component "gateway") $values.gateway.journal.enabled -}}
{{- $config := include "upcall.config" . | fromYaml -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "upcall.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "upcall.labels" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    # The admin port is for Prometheus. Probes come from the node, which a policy does not concern.
    - from:
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: {{ $values.networkPolicy.monitoringNamespace | quote }}
      ports:
        - port: admin
    {{- if eq .component "gateway" }}
    - ports:
        - port: http
        {{- if and $values.ingress.enabled (eq $values.ingress.controller "alb") }}
        - port: health
        {{- end }}
      {{- if $values.ingress.enabled }}
      from:
        {{- if eq $values.ingress.controller "nginx" }}
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: {{ $values.ingress.namespace | quote }}
        {{- else }}
        {{- range $values.ingress.networks }}
        - ipBlock:
            cidr: {{ . | quote }}
        {{- end }}
        {{- end }}
      {{- end }}
    {{- end }}
  egress:
    {{- include "upcall.dns" . | nindent 4 }}
    {{- if $values.nats.enabled }}
    # NATS, and its monitoring, which says whether servers sync before they acknowledge.
    - to:
        - podSelector:
            matchLabels:
              {{- include "upcall.labels" (dict "root" .root "component" "nats") | nindent 14 }}
      ports:
        - port: 4222
        - port: 8222
    {{- else if or (not $journal) (dig "bus" "nats" "" $config) }}
    # NATS, wherever it is, and its monitoring, which says whether servers sync before they acknowledge.
    - ports:
        - port: 4222
        - port: 8222
    {{- end }}
    # A key of OSS's that it might introduce, and services that are asked for answers; and what sinks need.
    - ports:
        {{- range and (eq .component "gateway") (not $journal) | ternary $values.networkPolicy.gatewayPorts $values.networkPolicy.ports }}
        - port: {{ . }}
        {{- end }}
    {{- if dig "telemetry" "otlp" "" $config }}
    # A collector.
    - ports:
        {{- range $values.networkPolicy.telemetryPorts }}
        - port: {{ . }}
        {{- end }}
    {{- end }}
    {{- with $values.networkPolicy.egress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
