package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stele-runtime/stele/cmd/stele/internal/client"
	"github.com/stele-runtime/stele/cmd/stele/internal/places"
	"github.com/stele-runtime/stele/cmd/stele/internal/show"
	"github.com/stele-runtime/stele/timeline"
)

// registerListen adds the flag that names a running daemon.
func registerListen(cmd *cobra.Command, from *client.Source) {
	from.Warnings = os.Stderr
	cmd.Flags().StringVar(&from.Listen, "listen", places.Listen, "`ADDRESS` of the daemon's socket")
}

// registerSource adds the flags that say where a history is read from.
func registerSource(cmd *cobra.Command, from *client.Source) {
	registerListen(cmd, from)
	cmd.Flags().StringVar(&from.Root, "root", "", "read the log below this `DIR`, of a daemon that is not running")
	cmd.Flags().StringVar(&from.Bundle, "bundle", "", "read this `FILE` of stele log export")
	before(cmd, func() error {
		if from.Root != "" && from.Bundle != "" {
			return fmt.Errorf("--bundle: %s is given, and --root, too", from.Bundle)
		}
		return nil
	})
}

// before adds a check of the flags to those before a command runs.
func before(cmd *cobra.Command, check func() error) {
	others := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if err := check(); err != nil {
			return wrongUse(err)
		}
		if others != nil {
			return others(cmd, args)
		}
		return nil
	}
}

// output is the flag --output.
type output struct{ format string }

func (o *output) register(cmd *cobra.Command, formats ...string) {
	o.format = formats[0]
	last := len(formats) - 1
	cmd.Flags().StringVarP(&o.format, "output", "o", formats[0], fmt.Sprintf("`FORMAT`: %s or %s", strings.Join(formats[:last], ", "), formats[last]))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	before(cmd, func() error {
		if !slices.Contains(formats, o.format) {
			return fmt.Errorf("--output: %q is none of %s and %s", o.format, strings.Join(formats[:last], ", "), formats[last])
		}
		return nil
	})
}

// structured reports whether the format is one for scripts.
func (o *output) structured() (show.Structured, bool) {
	f := show.Structured(o.format)
	return f, f == show.AsJSON || f == show.AsYAML
}

// point reads the value of a flag that is a point of the history.
func point(flag, text string) (timeline.Point, error) {
	if text == "" {
		return timeline.Point{}, nil
	}
	p, err := show.ParsePoint(text, time.Now(), time.Local)
	if err != nil {
		return p, wrongUse(fmt.Errorf("--%s: %w", flag, err))
	}
	return p, nil
}

// namesOf reads arguments that are names of pods and containers.
func namesOf(args []string) ([]timeline.Name, error) {
	var all []timeline.Name
	for _, arg := range args {
		name, err := timeline.ParseName(arg)
		if err != nil {
			return nil, wrongUse(err)
		}
		all = append(all, name)
	}
	return all, nil
}

// asked marks what the command line asked of a history that cannot be answered.
func asked(flag string, err error) error {
	if _, none := errors.AsType[*timeline.PointError](err); none {
		return wrongUse(fmt.Errorf("--%s: %w", flag, err))
	}
	return err
}

// completeNames completes the names of living pods and containers, which a running daemon knows.
func completeNames(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	from := client.Source{Warnings: nowhere{}}
	from.Listen, _ = cmd.Flags().GetString("listen") // the flag is there
	history, _, err := from.Timeline(cmd.Context(), client.Query{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var all []string
	for _, p := range history.Pods() {
		all = append(all, p.Title())
		if !strings.Contains(begun, "/") {
			continue
		}
		for _, c := range history.Containers(p) {
			all = append(all, history.Title(c))
		}
	}
	all = slices.DeleteFunc(all, func(name string) bool { return !strings.HasPrefix(name, begun) })
	slices.Sort(all)
	return slices.Compact(all), cobra.ShellCompDirectiveNoFileComp
}

// nowhere is for warnings that nobody reads.
type nowhere struct{}

func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
