package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
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
	var from client.Source
	var follow, asJSON, configs, environment bool
	var first uint64
	var pods, types []string
	var since, until string
	var format output
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
		RunE: func(cmd *cobra.Command, args []string) error {
			window := show.Window{Types: types}
			var err error
			if since != "" {
				if window.Since, err = show.ParseTime(since, time.Now(), time.Local); err != nil {
					return wrongUse(fmt.Errorf("--since: %w", err))
				}
			}
			if until != "" {
				if window.Until, err = show.ParseTime(until, time.Now(), time.Local); err != nil {
					return wrongUse(fmt.Errorf("--until: %w", err))
				}
			}
			switch {
			case since != "" && until != "" && window.Until.Before(window.Since):
				return wrongUse(fmt.Errorf("--until: %s is before --since, %s", until, since))
			case follow && !from.Live():
				return wrongUse(errors.New("--follow: needs a running daemon; --root and --bundle are for what is over"))
			case follow && until != "":
				return wrongUse(errors.New("--until: has no meaning with --follow"))
			}
			for _, name := range pods {
				if _, err := timeline.ParseName(name); err != nil {
					return wrongUse(fmt.Errorf("--pod: %w", err))
				}
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			events := show.Events{To: cmd.OutOrStdout(), Format: show.EventsFormat(format.format), Zone: time.Local}
			if configs || environment {
				events.Details = append(events.Details, codec.Configs)
			}
			if environment {
				events.Details = append(events.Details, codec.Environment)
			}
			switch {
			case asJSON:
				events.Format = show.EventsJSON
			case len(events.Details) > 0 && events.Format == show.EventsText:
				events.Format = show.EventsWide // words have no place for configurations
			}
			about := show.Select(append(pods, args...)...)
			begin := first
			if from.Live() {
				events.First = func(stream string) *adminv1.Record { return from.First(ctx, stream) }
			} else {
				begin = 1 // the names are further up
			}
			return from.Events(ctx, begin, follow, func(r *adminv1.Record) error {
				// Of what is outside the window, names and what was asked are learnt all the same.
				if !about.Has(r) || !window.Has(r) || r.GetSequence() < first {
					if timeline.Shapes(r.GetType(), r.GetVersion()) {
						events.Learn(r)
					}
					return nil
				}
				return events.Record(r)
			})
		},
	}
	registerSource(cmd, &from)
	cmd.Flags().Uint64Var(&first, "from", 0, "begin with this `SEQUENCE`")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "continue with new records")
	cmd.Flags().BoolVar(&asJSON, "json", false, "the same as -o json")
	format.register(cmd, "text", "wide", "json")
	cmd.Flags().StringSliceVar(&pods, "pod", nil, "only those of this `NAME`, as an argument; may be repeated")
	cmd.Flags().StringSliceVar(&types, "type", nil, "only events of this `NAME`, such as NetworkAttached; may be repeated")
	cmd.Flags().StringVar(&since, "since", "", "only from this `TIME` on")
	cmd.Flags().StringVar(&until, "until", "", "only until this `TIME`")
	cmd.Flags().BoolVar(&configs, "configs", false, "show the CRI's configurations, without the values of environment variables")
	cmd.Flags().BoolVar(&environment, "environment", false, "show the configurations with the values of environment variables, which may be secrets")
	return cmd
}
