package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/cmd/stele/internal/client"
	"github.com/stele-runtime/stele/cmd/stele/internal/config"
	"github.com/stele-runtime/stele/cmd/stele/internal/show"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// registerListen adds the flag that names a running daemon.
func registerListen(cmd *cobra.Command, from *client.Source) {
	from.Warnings = os.Stderr
	cmd.Flags().StringVar(&from.Listen, "listen", config.Default().Listen, "`ADDRESS` of the daemon's socket")
}

func eventsCommand() *cobra.Command {
	var from client.Source
	var follow, asJSON, configs, environment bool
	var first uint64
	cmd := &cobra.Command{
		Use:   "events [ID | STREAM]...",
		Short: "Print what happened, in order",
		Long: `Print the records of the event log, in order: all of them, or those of the
sandboxes and containers whose ids have one of the given prefixes. A sandbox stands for
its containers, too. The node's own events are the stream "node".`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			events := show.Events{To: cmd.OutOrStdout(), JSON: asJSON, Zone: time.Local}
			if configs || environment {
				events.Details = append(events.Details, codec.Configs)
			}
			if environment {
				events.Details = append(events.Details, codec.Environment)
			}
			about := show.Select(args...)
			return from.Events(ctx, first, follow, func(r *adminv1.Record) error {
				if !about.Has(r) {
					return nil
				}
				return events.Record(r)
			})
		},
	}
	registerListen(cmd, &from)
	cmd.Flags().StringVar(&from.Root, "root", "", "read the log below this `DIR`, of a daemon that is not running")
	cmd.Flags().Uint64Var(&first, "from", 0, "begin with this `SEQUENCE`")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "continue with new records")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	cmd.Flags().BoolVar(&configs, "configs", false, "show the CRI's configurations, without the values of environment variables")
	cmd.Flags().BoolVar(&environment, "environment", false, "show the configurations with the values of environment variables, which may be secrets")
	return cmd
}
