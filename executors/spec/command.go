package spec

import (
	"slices"

	"github.com/stele-runtime/stele/executors/spec/refusal"
)

// planCommand combines what the pod says with what the image says: a command
// replaces the image's entrypoint and its cmd, args replace only the cmd.
func planCommand(r *request, plan *Plan) error {
	args := r.args()
	if len(args) == 0 || args[0] == "" {
		return refusal.Invalid("command", nil, "is empty, and the image has neither entrypoint nor cmd")
	}
	for _, arg := range args {
		if err := refusal.CheckText("command", arg); err != nil {
			return err
		}
	}
	plan.Spec.Process.Args = args
	return nil
}

func (r *request) args() []string {
	switch c := r.Container; {
	case len(c.Command) > 0:
		return slices.Concat(c.Command, c.Args)
	case len(c.Args) > 0:
		return slices.Concat(r.image.Entrypoint, c.Args)
	}
	return slices.Concat(r.image.Entrypoint, r.image.Cmd)
}
