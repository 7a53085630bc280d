package daemon

import (
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/cri"
	"github.com/stele-runtime/stele/executors/spec"
	"github.com/stele-runtime/stele/executors/spec/confine"
	"github.com/stele-runtime/stele/projections"
)

// Levels gives each pod that has none an SELinux level of its own, so that pods cannot reach each
// other's files. Like the mappings of UserModes, a level becomes part of the pod's recorded
// configuration: who has which is known from the log, and it is free again once the pod is removed.
type Levels struct {
	cri.UserModes
	Host *spec.HostFacts
	// Sandboxes are all that are not gone.
	Sandboxes func() []*projections.Sandbox

	mu sync.Mutex
	// reserved are given to pods that may not be recorded yet.
	reserved map[id.Sandbox]reservedLevel
}

type reservedLevel struct {
	level string
	at    time.Time
}

// Sandbox is part of cri.UserModes.
func (l *Levels) Sandbox(pod id.Sandbox, handler string, config *runtimeapi.PodSandboxConfig) (*runtimeapi.PodSandboxConfig, func(answered bool), error) {
	config, settle, err := l.UserModes.Sandbox(pod, handler, config)
	if err != nil || !confine.NeedsLevel(&l.Host.Node, config) {
		return config, settle, err
	}
	config = withLevel(config, l.reserve(pod))
	return config, func(answered bool) {
		settle(answered)
		if answered {
			l.release(pod)
		}
	}, nil
}

// reserve chooses a level that no other pod has, whoever gave it to that.
func (l *Levels) reserve(pod id.Sandbox) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	used := map[string]bool{}
	for _, s := range l.Sandboxes() {
		used[s.Shown.SELinuxLevel] = true
	}
	for of, r := range l.reserved {
		if time.Since(r.at) > reservedFor {
			delete(l.reserved, of) // recorded long since, or never
			continue
		}
		used[r.level] = true
	}
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(pod))
	first := int(hash.Sum32() % levels)
	for i := range levels {
		if level := levelAt((first + i) % levels); !used[level] {
			if l.reserved == nil {
				l.reserved = map[id.Sandbox]reservedLevel{}
			}
			l.reserved[pod] = reservedLevel{level, time.Now()}
			return level
		}
	}
	// A node with half a million pods.
	return levelAt(first)
}

func (l *Levels) release(pod id.Sandbox) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.reserved, pod)
}

const (
	// categories are those of every policy for containers but the last two: the SELinux library
	// has them for files that no container may use.
	categories = 1022
	// levels is how many pairs of categories there are.
	levels = categories * (categories - 1) / 2
)

// levelAt is the n-th pair of categories.
func levelAt(n int) string {
	low := 0
	for pairs := categories - 1; n >= pairs; pairs-- {
		n -= pairs
		low++
	}
	return fmt.Sprintf("s0:c%d,c%d", low, low+1+n)
}

func withLevel(config *runtimeapi.PodSandboxConfig, level string) *runtimeapi.PodSandboxConfig {
	config, security := withSecurity(config)
	if security.SelinuxOptions == nil {
		security.SelinuxOptions = &runtimeapi.SELinuxOption{}
	}
	security.SelinuxOptions.Level = level
	return config
}
