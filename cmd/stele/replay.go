package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/stele-runtime/stele/cmd/stele/internal/client"
	"github.com/stele-runtime/stele/cmd/stele/internal/record"
	"github.com/stele-runtime/stele/cmd/stele/internal/show"
	"github.com/stele-runtime/stele/cmd/stele/internal/step"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
	"github.com/stele-runtime/stele/timeline"
)

func replayCommand() *cobra.Command {
	var r replay
	cmd := &cobra.Command{
		Use:   "replay [--until POINT] [--step] | --diff A B | --verify",
		Short: "Rebuild the node's state from its events, as of any moment",
		Long: `Rebuild the node's state from its events, by the machines that the daemon runs: what there was
at the end or, with --until, at a point; with --diff, what changed from point A to point B; with
--verify, whether what a running daemon answers, or the snapshot in the log of a stopped one,
is what the events say.

--step goes through the events in the terminal, forward and back: what each happened to before and
after, and what became owed. Of a longer log it has the newest 100,000 until the point.

A point is a sequence of the event log, an RFC 3339 time, "2026-05-04 03:02:01" or 03:02 in the
local time zone, or a duration before now (10m).

The exit code is 0 if there is an answer, and with --verify if both are equal; 1 if they are not,
or if the daemon or its log can't be read; and 2 if the command line is wrong, or the log has no
such point.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if r.diff {
				return wrongUse(cobra.ExactArgs(2)(cmd, args))
			}
			return wrongUse(cobra.NoArgs(cmd, args))
		},
		RunE: r.run,
	}
	registerSource(cmd, &r.from)
	r.format.register(cmd, "text", "json", "yaml")
	before(cmd, r.check)
	cmd.Flags().StringVar(&r.until, "until", "", "up to this `POINT`")
	cmd.Flags().BoolVar(&r.diff, "diff", false, "what changed from point A to point B")
	cmd.Flags().BoolVar(&r.verify, "verify", false, "compare with a running daemon, or with the snapshot in the log of a stopped one")
	cmd.Flags().BoolVar(&r.step, "step", false, "go through the events in the terminal")
	cmd.Flags().BoolVarP(&r.gone, "all", "a", false, "also what is gone")
	return cmd
}

// replay is the command's flags.
type replay struct {
	from                     client.Source
	format                   output
	until                    string
	diff, verify, step, gone bool
}

// check says which flags have no meaning together.
func (r *replay) check() error {
	switch {
	case r.diff && r.until != "":
		return errors.New("--until: has no meaning with --diff")
	case r.step && (r.diff || r.verify):
		return errors.New("--step: has no meaning with --diff and --verify")
	case r.step && !(term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd()))):
		return errors.New("--step: needs a terminal")
	case r.verify && (r.diff || r.until != ""):
		return errors.New("--verify: has no meaning with --until and --diff")
	case r.gone && (r.diff || r.verify || r.step):
		return errors.New("--all: has no meaning with --diff, --verify and --step")
	case r.format.format != "text" && (r.verify || r.step):
		return fmt.Errorf("--output: %q has no meaning with --verify and --step", r.format.format)
	case r.verify && r.from.Bundle != "":
		return errors.New("--verify: needs a running daemon, or --root; a file of stele log export has no snapshot to compare with")
	}
	return nil
}

func (r *replay) run(cmd *cobra.Command, args []string) error {
	switch {
	case r.diff:
		return r.printDifferences(cmd, args[0], args[1])
	case r.verify:
		return r.printVerdict(cmd)
	}
	to, err := point("until", r.until)
	if err != nil {
		return err
	}
	if r.step {
		return r.stepThrough(cmd, to)
	}
	state, err := r.at(cmd, to)
	if err != nil {
		return asked("until", err)
	}
	if structured, is := r.format.structured(); is {
		return state.Structured(cmd.OutOrStdout(), structured)
	}
	return state.Text(cmd.OutOrStdout())
}

// at replays until a point.
func (r *replay) at(cmd *cobra.Command, to timeline.Point) (show.Replayed, error) {
	t, last := timeline.New(), uint64(0)
	now, err := r.from.Until(cmd.Context(), to, func(x *adminv1.Record) error {
		t.Add(record.Model(x))
		last = x.GetSequence()
		return nil
	})
	return show.Replayed{Node: show.Node{Timeline: t, Gone: r.gone, Now: now}, Sequence: last}, err
}

// stepMost bounds the events that are kept for stepping.
const stepMost = 100_000

func (r *replay) stepThrough(cmd *cobra.Command, to timeline.Point) error {
	var records []timeline.Record
	if _, err := r.from.Until(cmd.Context(), to, func(x *adminv1.Record) error {
		if records = append(records, record.Model(x)); len(records) >= 2*stepMost {
			records = slices.Delete(records, 0, stepMost)
		}
		return nil
	}); err != nil {
		return asked("until", err)
	}
	model := step.New(records[max(0, len(records)-stepMost):], func(text string) (timeline.Point, error) {
		return show.ParsePoint(text, time.Now(), time.Local)
	})
	if _, err := tea.NewProgram(model, tea.WithContext(cmd.Context()), tea.WithAltScreen()).Run(); err != nil {
		return fmt.Errorf("show the events in the terminal: %w", err)
	}
	return nil
}

func (r *replay) printDifferences(cmd *cobra.Command, a, b string) error {
	var points [2]timeline.Point
	var states [2]show.Replayed
	for i, text := range []string{a, b} {
		var err error
		if points[i], err = point("diff", text); err != nil {
			return err
		}
		if states[i], err = r.at(cmd, points[i]); err != nil {
			return asked("diff", err)
		}
	}
	if states[1].Sequence < states[0].Sequence {
		return wrongUse(fmt.Errorf("--diff: %s is before %s", b, a))
	}
	all := timeline.Differences(states[0].Timeline, states[1].Timeline)
	if structured, is := r.format.structured(); is {
		return show.DifferencesJSON(cmd.OutOrStdout(), all, structured)
	}
	return show.Differences(cmd.OutOrStdout(), all)
}

// printVerdict compares what a daemon answers from memory, which began with a snapshot, or the
// snapshot in the log of a stopped one, with what a fold of all its events gives.
func (r *replay) printVerdict(cmd *cobra.Command) error {
	began := time.Now()
	verdict, err := r.from.Verify(cmd.Context())
	if err != nil {
		return err
	}
	if verdict.Difference != "" {
		return fmt.Errorf("after sequence %d %s and the events differ: %s", verdict.Sequence, verdict.Of, verdict.Difference)
	}
	of := ""
	if !r.from.Live() {
		of = verdict.Of + " has "
	}
	fmt.Fprintf(cmd.OutOrStdout(), "Equal after sequence %d: %s%s and %s that are left, from %s in %s.\n",
		verdict.Sequence, of, counted(verdict.Pods, "pod"), counted(verdict.Containers, "container"), counted(verdict.Records, "record"), timeline.Took(time.Since(began)))
	if verdict.Dropped > 0 {
		fmt.Fprintf(cmd.OutOrStdout(), "%s in the snapshot cannot be compared: the log does not have them any more.\n", counted(verdict.Dropped, "stream"))
	}
	return nil
}

// counted is a number of things in words.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
