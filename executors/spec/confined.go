package spec

import (
	"github.com/stele-runtime/stele/executors/spec/confine"
)

// confined is the request as package confine reads it.
func (r *request) confined() *confine.Request {
	return &confine.Request{
		Security: r.sec, Sandbox: r.Sandbox, Labels: r.Container.Labels,
		Node: &r.Host.Node, Options: r.Options.Options, Features: r.Features, Found: r.found.Answers,
	}
}

func planCapabilities(r *request, plan *Plan) error {
	return r.confined().Capabilities(plan.Spec.Process)
}

func planLabels(r *request, plan *Plan) error { return r.confined().SELinux(plan.Spec) }

func planRelabel(r *request, plan *Plan, field, source string) error {
	label, err := r.confined().Relabel(plan.Spec, field, source)
	if err == nil && label != "" {
		plan.Steps = append(plan.Steps, Relabel{Path: source, Label: label})
	}
	return err
}

func planHiddenPaths(r *request, plan *Plan) error {
	r.confined().HidePaths(plan.Spec.Linux)
	return nil
}

func planAppArmor(r *request, plan *Plan) error {
	load, err := r.confined().AppArmor(plan.Spec.Process)
	if load != "" {
		plan.Steps = append(plan.Steps, LoadAppArmor{Profile: load})
	}
	return err
}

func planSeccomp(r *request, plan *Plan) error { return r.confined().Seccomp(plan.Spec) }
