package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/cmd/stele/internal/client"
	"github.com/stele-runtime/stele/cmd/stele/internal/show"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
	"github.com/stele-runtime/stele/timeline"
)

func eventsCommand() *cobra.Command {
	var x events
	cmd := &cobra.Command{
		Use:   "events [NAME | STREAM]...",
		Short: "Print what happened, in order",
		Long: `Print the records of the event log, in order: all of them, or those of pods and
containers. NAME is a pod's name, NAMESPACE/POD, NAMESPACE/POD/CONTAINER or the prefix of an
id; a pod stands for its containers, too. The node's own events are the stream "node".

As text an event is a sentence; as wide it is a line with its name and all its fields, as json an
object a line.

TIME is an RFC 3339 time, "2026-05-04 03:02:01" or 03:02 in the local time zone, or a duration
before now (10m). To go on after the last record that was seen, give its sequence plus one to
--from.

The exit code is 0 if the records were printed, also if there were none; 1 if the daemon or its
log can't be read; and 2 if the command line is wrong.`,
		ValidArgsFunction: completeNames,
		RunE:              x.run,
	}
	registerSource(cmd, &x.from)
	before(cmd, x.check)
	cmd.Flags().Uint64Var(&x.first, "from", 0, "begin with this `SEQUENCE`")
	cmd.Flags().BoolVarP(&x.follow, "follow", "f", false, "continue with new records")
	cmd.Flags().BoolVar(&x.asJSON, "json", false, "the same as -o json")
	x.format.register(cmd, "text", "wide", "json")
	cmd.Flags().StringSliceVar(&x.pods, "pod", nil, "only those of this `NAME`, as an argument; may be repeated")
	cmd.Flags().StringSliceVar(&x.window.Types, "type", nil, "only events of this `NAME`, such as NetworkAttached; may be repeated")
	cmd.Flags().StringVar(&x.since, "since", "", "only from this `TIME` on")
	cmd.Flags().StringVar(&x.until, "until", "", "only until this `TIME`")
	cmd.Flags().BoolVar(&x.configs, "configs", false, "show the CRI's configurations, without the values of environment variables")
	cmd.Flags().BoolVar(&x.environment, "environment", false, "show the configurations with the values of environment variables, which may be secrets")
	return cmd
}

// events is the command's flags.
type events struct {
	from                                 client.Source
	follow, asJSON, configs, environment bool
	first                                uint64
	pods                                 []string
	since, until                         string
	window                               show.Window
	format                               output
}

// check reads the window, and says what of the command line is wrong.
func (x *events) check() (err error) {
	for _, bound := range []struct {
		flag, text string
		to         *time.Time
	}{{"since", x.since, &x.window.Since}, {"until", x.until, &x.window.Until}} {
		if bound.text == "" {
			continue
		}
		if *bound.to, err = show.ParseTime(bound.text, time.Now(), time.Local); err != nil {
			return fmt.Errorf("--%s: %w", bound.flag, err)
		}
	}
	switch {
	case x.since != "" && x.until != "" && x.window.Until.Before(x.window.Since):
		return fmt.Errorf("--until: %s is before --since, %s", x.until, x.since)
	case x.follow && !x.from.Live():
		return errors.New("--follow: needs a running daemon; --root and --bundle are for what is over")
	case x.follow && x.until != "":
		return errors.New("--until: has no meaning with --follow")
	}
	for _, name := range x.pods {
		if _, err := timeline.ParseName(name); err != nil {
			return fmt.Errorf("--pod: %w", err)
		}
	}
	return nil
}

func (x *events) run(cmd *cobra.Command, args []string) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	to := show.Events{To: cmd.OutOrStdout(), Format: show.EventsFormat(x.format.format), Zone: time.Local}
	if x.configs || x.environment {
		to.Details = append(to.Details, codec.Configs)
	}
	if x.environment {
		to.Details = append(to.Details, codec.Environment)
	}
	switch {
	case x.asJSON:
		to.Format = show.EventsJSON
	case len(to.Details) > 0 && to.Format == show.EventsText:
		to.Format = show.EventsWide // words have no place for configurations
	}
	wanted := append(slices.Clone(x.pods), args...)
	about := show.Select(wanted...)
	if x.from.Live() {
		to.First = func(stream string) *adminv1.Record { return x.from.First(ctx, stream) }
	}
	each := func(r *adminv1.Record) error {
		// Of what is outside the window, names and what was asked are learnt all the same.
		if !about.Has(r) || !x.window.Has(r) || r.GetSequence() < x.first {
			if timeline.Shapes(r.GetType(), r.GetVersion()) {
				to.Learn(r)
			}
			return nil
		}
		return to.Record(r)
	}
	if x.from.Live() && !x.follow && len(wanted) > 0 {
		selected := about
		about = show.Select() // all that comes is wanted
		if known, err := x.from.EventsOf(ctx, wanted, each); known || err != nil {
			return err
		}
		about = selected
	}
	begin := x.first
	if !x.from.Live() {
		begin = 1 // the names are further up
	}
	return x.from.Events(ctx, begin, x.follow, each)
}
