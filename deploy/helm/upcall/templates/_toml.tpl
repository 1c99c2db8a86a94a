{{- /*
upcall.toml of values. Helm's own `toToml` makes floats of whole numbers, which values have become by then; and a
configuration that somebody has to read at night has tables with headings, not one long line.
*/ -}}

{{- /* A key: bare where TOML has it so. */ -}}
{{- define "upcall.toml.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toRawJson . }}{{ end -}}
{{- end -}}

{{- /* A value, in one line. */ -}}
{{- define "upcall.toml.value" -}}
{{- if kindIs "string" . -}}
{{ toRawJson . }}
{{- else if kindIs "bool" . -}}
{{ . }}
{{- else if kindIs "float64" . -}}
{{ if eq (floor .) . }}{{ printf "%.0f" . }}{{ else }}{{ . }}{{ end }}
{{- else if or (kindIs "int" .) (kindIs "int64" .) -}}
{{ . }}
{{- else if kindIs "slice" . -}}
[{{ range $at, $item := . }}{{ if $at }}, {{ end }}{{ include "upcall.toml.value" $item }}{{ end }}]
{{- else if kindIs "map" . -}}
{{- $members := list -}}
{{- range $key, $value := . }}{{ $members = append $members (printf "%s = %s" (include "upcall.toml.key" $key) (include "upcall.toml.value" $value)) }}{{ end -}}
{ {{ join ", " $members }} }
{{- else -}}
{{ fail "a configuration has no null: leave the key out" }}
{{- end -}}
{{- end -}}

{{- /* What a value is written as: a table, an array of tables, or a value. A small table within another one is a value. */ -}}
{{- define "upcall.toml.form" -}}
{{- $form := "value" -}}
{{- if kindIs "map" .value -}}
{{- $plain := true -}}
{{- range .value }}{{ if or (kindIs "map" .) (kindIs "slice" .) }}{{ $plain = false }}{{ end }}{{ end -}}
{{- if not (and .path $plain .value (le (len .value) 3)) }}{{ $form = "table" }}{{ end -}}
{{- else if and (kindIs "slice" .value) .value -}}
{{- $form = "tables" -}}
{{- range .value }}{{ if not (kindIs "map" .) }}{{ $form = "value" }}{{ end }}{{ end -}}
{{- end -}}
{{ $form }}
{{- end -}}

{{- /* The lines of a table: its values, then the tables in it. Takes `path`, which ends with a dot, and `table`. */ -}}
{{- define "upcall.toml.table" -}}
{{- $path := .path -}}
{{- range $key, $value := .table -}}
{{- if eq (include "upcall.toml.form" (dict "path" $path "value" $value)) "value" -}}
{{ include "upcall.toml.key" $key }} = {{ include "upcall.toml.value" $value }}
{{ end -}}
{{- end -}}
{{- range $key, $value := .table -}}
{{- $form := include "upcall.toml.form" (dict "path" $path "value" $value) -}}
{{- $here := printf "%s%s" $path (include "upcall.toml.key" $key) -}}
{{- if eq $form "table" }}
[{{ $here }}]
{{ include "upcall.toml.table" (dict "path" (printf "%s." $here) "table" $value) -}}
{{- else if eq $form "tables" -}}
{{- range $value }}
[[{{ $here }}]]
{{ include "upcall.toml.table" (dict "path" (printf "%s." $here) "table" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "upcall.toml" -}}
{{ include "upcall.toml.table" (dict "path" "" "table" .) | trim }}
{{- end -}}
