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
              kubernetes.io/metadata.name: {{ $values.networkPolicy.monitoringNamespace }}
      ports:
        - port: admin
    {{- if eq .component "gateway" }}
    - ports:
        - port: http
        {{- if and $values.ingress.enabled (eq $values.ingress.controller "alb") }}
        - port: admin
        {{- end }}
      {{- if $values.ingress.enabled }}
      from:
        {{- if eq $values.ingress.controller "nginx" }}
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: {{ $values.ingress.namespace }}
        {{- else }}
        {{- range $values.ingress.networks }}
        - ipBlock:
            cidr: {{ . }}
        {{- end }}
        {{- end }}
      {{- end }}
    {{- end }}
  egress:
    {{- include "upcall.dns" . | nindent 4 }}
    {{- if $values.nats.enabled }}
    - to:
        - podSelector:
            matchLabels:
              {{- include "upcall.labels" (dict "root" .root "component" "nats") | nindent 14 }}
      ports:
        - port: 4222
    {{- else if not $journal }}
    # NATS, wherever it is.
    - ports:
        - port: 4222
    {{- end }}
    # A key of OSS's that it might introduce; and what sinks need.
    - ports:
        {{- if and (eq .component "gateway") (not $journal) }}
        - port: 443
        {{- else }}
        {{- range $values.networkPolicy.ports }}
        - port: {{ . }}
        {{- end }}
        {{- end }}
{{- end -}}
