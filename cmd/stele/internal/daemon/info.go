package daemon

import (
	"runtime"

	"github.com/stele-runtime/stele/cmd/stele/internal/config"
)

// Info is the info of a verbose Status.
type Info struct {
	Config config.Config
	// Version is the daemon's.
	Version string
	Views   Views
	Log     Log
	// Network is why pods get no network; nil if they do.
	Network func() error
	// Backups is what is known of backups of the event log.
	Backups func() map[string]any
}

// Show returns the keys and their values, which become JSON.
func (i *Info) Show() map[string]any {
	c, stats := i.Config, i.Log.Stats()
	handlers := map[string]string{}
	for name, h := range c.Runtime.Handlers {
		handlers[name] = h.Path
	}
	network := "OK"
	if err := i.Network(); err != nil {
		network = err.Error()
	}
	return map[string]any{
		"version": i.Version, "golang": runtime.Version(),
		// The name is containerd's; scripts look there.
		"lastCNILoadStatus": network,
		"config": map[string]any{
			"root": c.Root, "state": c.State, "listen": c.Listen, "monitor": c.Monitor,
			"cniConfDir": c.Network.ConfDir, "cniPluginDirs": c.Network.PluginDirs, "runtimes": handlers, "defaultRuntime": c.Runtime.Default,
		},
		"eventLog": map[string]any{
			"lastSequence": i.Log.Last(), "records": stats.Records, "commits": stats.Commits, "commitTime": stats.CommitTime.String(),
			"appends": stats.Appends, "waitTime": stats.WaitTime.String(),
			"files": i.Backups(),
		},
		"entities": map[string]any{
			"sandboxes": len(i.Views.Sandboxes()), "containers": len(i.Views.Containers()), "quarantined": i.Views.Damaged(),
		},
	}
}
