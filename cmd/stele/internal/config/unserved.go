package config

import (
	"errors"
	"fmt"

	"github.com/BurntSushi/toml"
)

// unserved are CRI-O's keys of a runtime handler that Stele does not have, with the reason. They
// are refused even where their value would be harmless: they would do nothing.
var unserved = map[string]string{
	"runtime_path":        "is called path here",
	"runtime_config_path": "is for handlers of the runtime_type vm, which are not supported",
	"runtime_pull_image":  "is for handlers of the runtime_type vm, which are not supported",
	"monitor_path":        "is not supported: one monitor serves all handlers; see monitor",
	"monitor_cgroup":      "is not supported: one monitor serves all handlers; see monitor_cgroup outside of the handlers",
	"monitor_env":         "is not supported: one monitor serves all handlers, with the daemon's environment",
	"monitor_exec_cgroup": "is not supported: the monitor is in no pod's cgroup, and commands are in their container's",
	"no_sync_log":         "is not needed: logs are never synced",
	"stream_websockets":   "is not needed: streams always speak WebSocket, too",
	"exec_cpu_affinity":   "is not supported",
}

// refuseUnknown refuses the keys that the file has and Stele does not.
func refuseUnknown(path string, keys []toml.Key) error {
	var problems []error
	var unknown []toml.Key
	for _, key := range keys {
		why, is := "", false
		if len(key) == 4 && key[0] == "runtime" && key[1] == "handlers" {
			why, is = unserved[key[3]]
		}
		if is {
			problems = append(problems, fmt.Errorf("%s: %s", key, why))
		} else {
			unknown = append(unknown, key)
		}
	}
	if len(unknown) > 0 {
		problems = append(problems, fmt.Errorf("read the configuration %s: unknown keys: %v", path, unknown))
	}
	return errors.Join(problems...)
}
