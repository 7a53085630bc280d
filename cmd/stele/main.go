// Command stele is the Kubernetes container runtime's daemon and its tool.
package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"

	"github.com/spf13/cobra"
)

// version is set when the program is linked.
var version = "dev"

// statusPrefix is what gRPC puts before a daemon's error, which says as much itself.
var statusPrefix = regexp.MustCompile(`rpc error: code = \w+ desc = `)

func main() {
	if isChild() {
		return
	}
	if err := rootCommand().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "stele:", statusPrefix.ReplaceAllString(err.Error(), ""))
		os.Exit(exitCode(err))
	}
}

// usageError says that the command line is wrong.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// wrongUse marks an error of the command line; nil stays nil.
func wrongUse(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

// exitCode is 2 for a wrong command line and 1 for everything else that fails.
func exitCode(err error) int {
	if _, is := errors.AsType[usageError](err); is {
		return 2
	}
	return 1
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "stele",
		Short:         "A Kubernetes container runtime that remembers every step",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return wrongUse(err) })
	root.AddCommand(podsCommand(), psCommand(), inspectCommand(), eventsCommand(), replayCommand(), logCommand(), imageCommand(), manCommand(), versionCommand())
	root.AddCommand(nodeCommands()...)
	return root
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run:   func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "stele", version) },
	}
}
