package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/stele-runtime/stele/actors/container"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

func inspectCommand() *cobra.Command {
	var from source
	var logStats bool
	cmd := &cobra.Command{
		Use:   "inspect ID",
		Short: "Show a pod's or a container's state, what it still owes, and its history",
		Long: `Show the state of a sandbox or a container, what the state still owes, and every
event that led to it. ID is the beginning of an id, or a pod's name.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if logStats {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if logStats {
				return from.printLogStats(cmd)
			}
			return from.inspect(cmd, args[0])
		},
	}
	from.registerListen(cmd)
	cmd.AddCommand(inspectImageCommand())
	cmd.Flags().BoolVar(&logStats, "log-stats", false, "show instead how the event log does, as JSON")
	return cmd
}

func (s *source) inspect(cmd *cobra.Command, name string) error {
	conn, err := s.dial()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // only this process has it
	found, err := adminv1.NewAdminServiceClient(conn).Inspect(cmd.Context(), &adminv1.InspectRequest{Id: name})
	if err != nil {
		return fmt.Errorf("inspect %s: %w", name, err)
	}
	out := cmd.OutOrStdout()
	var streams []string
	for _, e := range found.GetEntities() {
		streams = append(streams, e.GetStream())
		var state bytes.Buffer
		if err := json.Indent(&state, []byte(e.GetStateJson()), "", "  "); err != nil {
			return fmt.Errorf("inspect %s: %w", name, err)
		}
		fmt.Fprintf(out, "%s\n%s\n", e.GetStream(), state.String())
		for _, o := range e.GetOwed() {
			when := "now"
			if o.GetNotBefore() != nil {
				when = "not before " + o.GetNotBefore().AsTime().Local().Format(time.RFC3339)
			}
			fmt.Fprintf(out, "owes: %s, %s\n", o.GetEffect(), when)
		}
		fmt.Fprintln(out)
	}
	about := newSelection(streams)
	return s.events(cmd.Context(), 0, false, func(r *adminv1.Record) error {
		if !about.has(r) {
			return nil
		}
		return printEvent(out, r)
	})
}

func (s *source) printLogStats(cmd *cobra.Command) error {
	conn, err := s.dial()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // only this process has it
	stats, err := adminv1.NewAdminServiceClient(conn).LogStats(cmd.Context(), &adminv1.LogStatsRequest{})
	if err != nil {
		return fmt.Errorf("ask how the event log does: %w", err)
	}
	shown, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(stats)
	if err != nil {
		return fmt.Errorf("ask how the event log does: %w", err)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), string(shown))
	return err
}

// sandboxOf returns the stream of the sandbox that a container's first event
// names.
func sandboxOf(e container.Event) string {
	if requested, ok := e.(container.ContainerRequested); ok {
		return "sandbox/" + string(requested.Sandbox)
	}
	return ""
}
