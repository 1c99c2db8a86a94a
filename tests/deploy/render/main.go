// Renders what is in deploy/ as `kubectl kustomize` and `helm template` do, with their own libraries. Only what rendering
// needs is built: neither command as a whole.
//
//	render kustomize FOLDER
//	render helm CHART RELEASE NAMESPACE KUBERNETES-VERSION [VALUES-FILE]
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

func main() {
	text, err := render(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(text)
}

func render(arguments []string) (string, error) {
	switch {
	case len(arguments) == 2 && arguments[0] == "kustomize":
		return kustomize(arguments[1])
	case (len(arguments) == 5 || len(arguments) == 6) && arguments[0] == "helm":
		return helm(arguments[1], arguments[2], arguments[3], arguments[4], arguments[5:])
	default:
		return "", fmt.Errorf("usage: render kustomize FOLDER | render helm CHART RELEASE NAMESPACE VERSION [VALUES]")
	}
}

func kustomize(folder string) (string, error) {
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy // kubectl's order: what others need comes first
	resources, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		return "", err
	}
	text, err := resources.AsYaml()
	return string(text), err
}

// The steps of `helm template`, in its order: values are checked by values.schema.json before anything is rendered.
func helm(folder, release, namespace, version string, files []string) (string, error) {
	chart, err := loader.Load(folder)
	if err != nil {
		return "", err
	}
	values := chartutil.Values{}
	for _, file := range files {
		if values, err = chartutil.ReadValuesFile(file); err != nil {
			return "", err
		}
	}
	kubernetes, err := chartutil.ParseKubeVersion(version)
	if err != nil {
		return "", err
	}
	capabilities := chartutil.DefaultCapabilities.Copy()
	capabilities.KubeVersion = *kubernetes
	if err = chartutil.ProcessDependenciesWithMerge(chart, values); err != nil {
		return "", err
	}
	options := chartutil.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}
	complete, err := chartutil.ToRenderValues(chart, values, options, capabilities)
	if err != nil {
		return "", err
	}
	rendered, err := engine.Engine{Strict: true}.Render(chart, complete)
	if err != nil {
		return "", err
	}
	var names []string
	for name, text := range rendered {
		if strings.HasSuffix(name, ".yaml") && strings.TrimSpace(text) != "" {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	var all strings.Builder
	for _, name := range names {
		fmt.Fprintf(&all, "---\n# %s\n%s\n", name, strings.Trim(rendered[name], "\n"))
	}
	return all.String(), nil
}
