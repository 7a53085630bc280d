package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/stele-runtime/stele/cmd/stele/internal/client"
	"github.com/stele-runtime/stele/cmd/stele/internal/show"
)

const tableHelp = `

NAME is a pod's name, NAMESPACE/POD, NAMESPACE/POD/CONTAINER or the prefix of an id; @N after a
name means its attempt N. What has that name is listed, also if it is gone. Without NAME all that
are left are listed.

--at takes a sequence of the event log, an RFC 3339 time, "2026-05-04 03:02:01" or 03:02 in the
local time zone, or a duration before now (10m), and lists what there was at that moment.

The exit code is 0 if there is a list, also an empty one; 1 if the daemon or its log can't be
read; and 2 if the command line is wrong, or the log has no such moment.`

func podsCommand() *cobra.Command {
	t := table{text: show.Node.Pods, structured: show.Node.PodsJSON}
	return t.command(&cobra.Command{Use: "pods [NAME]...", Short: "List pods, now or as of a moment", Long: "List pods, the oldest first." + tableHelp})
}

func psCommand() *cobra.Command {
	t := table{text: show.Node.Containers, structured: show.Node.ContainersJSON}
	return t.command(&cobra.Command{Use: "ps [NAME]...", Short: "List containers, now or as of a moment", Long: "List containers, the oldest first." + tableHelp})
}

// table is a command that lists something.
type table struct {
	text       func(n show.Node, to io.Writer, wide bool) error
	structured func(n show.Node, to io.Writer, format show.Structured) error
}

func (t table) command(cmd *cobra.Command) *cobra.Command {
	var from client.Source
	var format output
	var at string
	var gone bool
	cmd.ValidArgsFunction = completeNames
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		wanted, err := namesOf(args)
		if err != nil {
			return err
		}
		when, err := point("at", at)
		if err != nil {
			return err
		}
		query := client.Query{Names: wanted, Gone: gone || len(args) > 0, At: when}
		history, now, err := from.Timeline(cmd.Context(), query)
		if err != nil {
			return asked("at", err)
		}
		answer := show.Node{Timeline: history, Names: wanted, Gone: gone, Now: now}
		if structured, is := format.structured(); is {
			return t.structured(answer, cmd.OutOrStdout(), structured)
		}
		return t.text(answer, cmd.OutOrStdout(), format.format == "wide")
	}
	registerSource(cmd, &from)
	format.register(cmd, "text", "wide", "json", "yaml")
	cmd.Flags().StringVar(&at, "at", "", "as of this `TIME|SEQUENCE`")
	cmd.Flags().BoolVarP(&gone, "all", "a", false, "also what is gone")
	return cmd
}
