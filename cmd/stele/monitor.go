//go:build linux

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stele-runtime/stele/cmd/stele/internal/client"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

func monitorCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "monitor", Short: "Manage the node's monitor", Args: cobra.NoArgs}
	cmd.AddCommand(monitorUpgradeCommand())
	return cmd
}

func monitorUpgradeCommand() *cobra.Command {
	var at client.Source
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Replace the running monitor's program with the configured one",
		Long: `Have the running monitor execute the program that the daemon is configured with.
It keeps its process, and with it the containers: no output and no exit is lost. The
daemon does the same when it starts and finds a monitor of another version.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return at.WithAdmin(func(c adminv1.AdminServiceClient) error {
				if _, err := c.UpgradeMonitor(cmd.Context(), &adminv1.UpgradeMonitorRequest{}); err != nil {
					return fmt.Errorf("upgrade the monitor: %w", err)
				}
				return nil
			})
		},
	}
	registerListen(cmd, &at)
	return cmd
}
