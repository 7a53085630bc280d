package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func manCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages",
		Long:  `Write a manual page for each command to DIR, such as /usr/local/share/man/man8, which is made if it is missing.`,
		Args:  func(cmd *cobra.Command, args []string) error { return wrongUse(cobra.ExactArgs(1)(cmd, args)) },
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("write the manual pages: %w", err)
			}
			cmd.Root().DisableAutoGenTag = true // the same program writes the same pages
			header := &doc.GenManHeader{Section: "8", Source: "stele " + version, Manual: "Stele"}
			if err := doc.GenManTree(cmd.Root(), header, args[0]); err != nil {
				return fmt.Errorf("write the manual pages: %w", err)
			}
			return nil
		},
	}
}
