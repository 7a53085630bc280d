package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/stele-runtime/stele/cmd/stele/internal/client"
	"github.com/stele-runtime/stele/cmd/stele/internal/show"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

func inspectCommand() *cobra.Command {
	var from client.Source
	var logStats bool
	cmd := &cobra.Command{
		Use:   "inspect ID",
		Short: "Show a pod's or a container's state, what it still owes, and its history",
		Long: `Show the state of a sandbox or a container, what the state still owes, and every
event that led to it. ID is a prefix of an id, or a pod's name.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if logStats {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if logStats {
				return printLogStats(cmd, &from)
			}
			return inspect(cmd, &from, args[0])
		},
	}
	registerListen(cmd, &from)
	cmd.AddCommand(inspectImageCommand())
	cmd.Flags().BoolVar(&logStats, "log-stats", false, "show figures of the event log instead, as JSON")
	return cmd
}

func inspect(cmd *cobra.Command, from *client.Source, name string) error {
	var streams []string
	err := from.WithAdmin(func(c adminv1.AdminServiceClient) error {
		found, err := c.Inspect(cmd.Context(), &adminv1.InspectRequest{Id: name})
		if err != nil {
			return fmt.Errorf("inspect %s: %w", name, err)
		}
		for _, e := range found.GetEntities() {
			streams = append(streams, e.GetStream())
			if err := show.Entity(cmd.OutOrStdout(), e, time.Local); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	about, events := show.Select(streams...), show.Events{To: cmd.OutOrStdout(), Zone: time.Local}
	return from.Events(cmd.Context(), 0, false, func(r *adminv1.Record) error {
		if !about.Has(r) {
			return nil
		}
		return events.Record(r)
	})
}

func printLogStats(cmd *cobra.Command, from *client.Source) error {
	return from.WithAdmin(func(c adminv1.AdminServiceClient) error {
		stats, err := c.LogStats(cmd.Context(), &adminv1.LogStatsRequest{})
		if err != nil {
			return fmt.Errorf("ask for the event log's figures: %w", err)
		}
		return show.LogStats(cmd.OutOrStdout(), stats)
	})
}
