// Package places has the names that daemon and tools agree on. It imports nothing, so that the
// tools build where no daemon does.
package places

const (
	// Listen is the address of the daemon's socket by default.
	Listen = "unix:///run/stele/stele.sock"
	// EventsFile is the event log below the root directory.
	EventsFile = "events.db"
	// ConfigFile is read if no other file is named. It may be missing.
	ConfigFile = "/etc/stele/config.toml"
)
