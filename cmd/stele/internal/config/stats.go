package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stele-runtime/stele/executors/stats"
)

// Stats says which figures of pods there are.
type Stats struct {
	// IncludedPodMetrics are the groups of metrics that the kubelet gets to publish: some of
	// stats.Groups, or "all" alone.
	IncludedPodMetrics []string `toml:"included_pod_metrics"`
}

func defaultStats() Stats { return Stats{IncludedPodMetrics: []string{stats.AllGroups}} }

func (s *Stats) check() error {
	for i, group := range s.IncludedPodMetrics {
		key := fmt.Sprintf("stats.included_pod_metrics[%d]", i)
		switch {
		case group == stats.AllGroups && len(s.IncludedPodMetrics) > 1:
			return refuse(key, group, "stands for every group, and is not alone")
		case group != stats.AllGroups && !slices.Contains(stats.Groups(), group):
			return refuse(key, group, "is not a group of metrics; there are %s", strings.Join(stats.Groups(), ", "))
		}
	}
	return nil
}
