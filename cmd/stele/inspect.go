package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stele-runtime/stele/cmd/stele/internal/client"
	"github.com/stele-runtime/stele/cmd/stele/internal/show"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
	"github.com/stele-runtime/stele/timeline"
	"github.com/stele-runtime/stele/timeline/page"
)

func inspectCommand() *cobra.Command {
	var from client.Source
	var logStats bool
	var format output
	var at string
	cmd := &cobra.Command{
		Use:   "inspect [NAME]",
		Short: "Say what happened to a pod or a container, why, and where the time went",
		Long: `Say why a pod or a container died, why it is not ready or what it waits for; then what
happened to it, in order, with the time since the request that led to it; then how long
each step of its start took, beside the node's usual times. All times are UTC.

NAME is a pod's name, NAMESPACE/POD, NAMESPACE/POD/CONTAINER or the prefix of an id; @N
after a name means its attempt N, otherwise the newest is meant. What was removed is
found, too.

--at takes a sequence of the event log, an RFC 3339 time, "2026-05-04 03:02:01" or 03:02 in the
local time zone, or a duration before now (10m), and says what was known at that moment.

With --output html the answer is one file for a browser, which needs no network: a
timeline, the events and the steps. Without a NAME it is about the whole node, and has
the log's newest 50,000 events.

The exit code is 0 if there is an answer, 1 if nothing has the name or the daemon or its
log can't be read, and 2 if the command line is wrong, the name is ambiguous or the log has
no such moment.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if logStats {
				return wrongUse(cobra.NoArgs(cmd, args))
			}
			if format.format == "html" {
				return wrongUse(cobra.MaximumNArgs(1)(cmd, args))
			}
			return wrongUse(cobra.ExactArgs(1)(cmd, args))
		},
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if logStats {
				return printLogStats(cmd, &from)
			}
			when, err := point("at", at)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return inspectNode(cmd, &from, when)
			}
			answer, err := inspect(cmd, &from, args[0], when)
			if err != nil {
				return err
			}
			if structured, is := format.structured(); is {
				return answer.Structured(cmd.OutOrStdout(), structured)
			}
			if format.format == "html" {
				return page.Subject{Timeline: answer.Timeline, Found: answer.Found, Now: answer.Now}.Write(cmd.OutOrStdout())
			}
			return answer.Text(cmd.OutOrStdout())
		},
	}
	registerSource(cmd, &from)
	cmd.AddCommand(inspectImageCommand())
	format.register(cmd, "text", "json", "yaml", "html")
	cmd.Flags().StringVar(&at, "at", "", "as of this `TIME|SEQUENCE`")
	cmd.Flags().BoolVar(&logStats, "log-stats", false, "show figures of the event log instead, as JSON")
	return cmd
}

func inspect(cmd *cobra.Command, from *client.Source, text string, at timeline.Point) (show.Inspected, error) {
	name, err := timeline.ParseName(text)
	if err != nil {
		return show.Inspected{}, wrongUse(err)
	}
	history, now, err := from.Timeline(cmd.Context(), client.Query{Names: []timeline.Name{name}, At: at})
	if err != nil {
		return show.Inspected{}, asked("at", err)
	}
	found, err := history.Find(name)
	if err != nil {
		if _, ambiguous := errors.AsType[*timeline.AmbiguousError](err); ambiguous {
			return show.Inspected{}, wrongUse(err)
		}
		return show.Inspected{}, err
	}
	return show.Inspected{Timeline: history, Found: found, Now: now}, nil
}

// inspectNode writes the page about everything.
func inspectNode(cmd *cobra.Command, from *client.Source, at timeline.Point) error {
	history, now, err := from.Newest(cmd.Context(), eventsOfPage, at)
	if err != nil {
		return asked("at", err)
	}
	return page.Subject{Timeline: history, Now: now}.Write(cmd.OutOrStdout())
}

// eventsOfPage bounds the page of a whole node: a browser still moves that many with ease, and
// a mail still takes them.
const eventsOfPage = 50_000

func printLogStats(cmd *cobra.Command, from *client.Source) error {
	return from.WithAdmin(func(c adminv1.AdminServiceClient) error {
		stats, err := c.LogStats(cmd.Context(), &adminv1.LogStatsRequest{})
		if err != nil {
			return fmt.Errorf("ask for the event log's figures: %w", err)
		}
		return show.LogStats(cmd.OutOrStdout(), stats)
	})
}
