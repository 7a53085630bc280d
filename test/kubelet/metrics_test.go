package kubelet

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

func itoa(n int) string { return strconv.Itoa(n) }

// metrics: kubectl top, the scheduler's figures and Prometheus have each pod.
func metrics(n *node) {
	p := n.runReady(withScratch(manifest("metrics", n.shell("main", "dd if=/dev/zero of=/share/file bs=64k count=32; while :; do :; done"))))
	n.until("/stats/summary has the pod's figures", func() error {
		var summary stats.Summary
		if err := n.getJSON("/stats/summary", &summary); err != nil {
			return err
		}
		for _, s := range summary.Pods {
			if s.PodRef.Name == p.name {
				return complete(s)
			}
		}
		return errors.New("there is no such pod")
	})
	of := fmt.Sprintf(`container="main",namespace="%s",pod="%s"`, namespace, p.name)
	n.figure("/metrics/resource", "container_cpu_usage_seconds_total", of)
	n.figure("/metrics/resource", "container_memory_working_set_bytes", of)
	n.figure("/metrics/resource", "pod_cpu_usage_seconds_total", p.name)
	n.figure("/metrics/cadvisor", "container_cpu_usage_seconds_total", p.name)
	n.figure("/metrics/cadvisor", "container_memory_working_set_bytes", p.name)
	n.figure("/metrics/cadvisor", "container_network_receive_bytes_total", p.name)
	n.figure("/metrics/cadvisor", "container_fs_usage_bytes", p.name)
}

func complete(s stats.PodStats) error {
	switch {
	case len(s.Containers) != 1 || s.Containers[0].Name != "main":
		return fmt.Errorf("containers %v", s.Containers)
	case s.Containers[0].CPU == nil || s.Containers[0].CPU.UsageCoreNanoSeconds == nil || *s.Containers[0].CPU.UsageCoreNanoSeconds == 0:
		return errors.New("no CPU time of the container")
	case s.Containers[0].CPU.UsageNanoCores == nil || *s.Containers[0].CPU.UsageNanoCores == 0:
		return errors.New("no CPU rate of the container")
	case s.Containers[0].Memory == nil || s.Containers[0].Memory.WorkingSetBytes == nil || *s.Containers[0].Memory.WorkingSetBytes == 0:
		return errors.New("no memory of the container")
	case s.Containers[0].Rootfs == nil || s.Containers[0].Rootfs.UsedBytes == nil:
		return errors.New("no root file system of the container")
	case s.Containers[0].Logs == nil || s.Containers[0].Logs.UsedBytes == nil:
		return errors.New("no logs of the container")
	case s.CPU == nil || s.CPU.UsageCoreNanoSeconds == nil || *s.CPU.UsageCoreNanoSeconds == 0:
		return errors.New("no CPU time of the pod")
	case s.Memory == nil || s.Memory.WorkingSetBytes == nil || *s.Memory.WorkingSetBytes == 0:
		return errors.New("no memory of the pod")
	case s.Network == nil || s.Network.Name != "eth0" || s.Network.RxBytes == nil || s.Network.TxBytes == nil:
		return errors.New("no network of the pod")
	case s.ProcessStats == nil || s.ProcessStats.ProcessCount == nil || *s.ProcessStats.ProcessCount == 0:
		return errors.New("no processes of the pod")
	}
	return nil
}

// figure waits until a page of metrics has a metric with labels, and a value that is a number.
func (n *node) figure(page, metric, labels string) {
	n.t.Helper()
	n.until(page+" has "+metric+" of "+labels, func() error {
		body, err := n.get(page)
		if err != nil {
			return err
		}
		var names []string
		for line := range strings.Lines(string(body)) {
			if strings.Contains(line, labels) {
				names = append(names, line)
				if strings.HasPrefix(line, metric+"{") {
					_, value, _ := strings.Cut(line, "} ")
					value, _, _ = strings.Cut(value, " ")
					_, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
					return err
				}
			}
		}
		return fmt.Errorf("it has of the pod\n%s", strings.Join(names[:min(len(names), 50)], ""))
	})
}

// lists: the kubelet has its pods' ends from Stele's events, and its lists in pages. What a
// runtime does not have, it does without, and says so.
func lists(n *node) {
	p := n.runReady(manifest("listed", n.shell("main", "exec sleep 3600")))
	p.exec("main", "true")
	for _, gate := range []string{"EventedPLEG", "CRIListStreaming", "PodAndContainerStatsFromCRI"} {
		value(n, "/metrics", "kubernetes_feature_enabled", fmt.Sprintf("name=%q", gate), "1")
	}
	value(n, "/metrics", "kubelet_evented_pleg_connection_success_count", "", "1")
	value(n, "/metrics", "kubelet_evented_pleg_connection_error_count", "", "0")
	log, err := os.ReadFile(n.kubelet.log)
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "falling back to") {
			n.t.Errorf("the kubelet does without: %s", line)
		}
	}
}

// value waits until a metric with labels has a value.
func value(n *node, page, metric, labels, want string) {
	n.t.Helper()
	n.until(metric+" "+labels+" is "+want, func() error {
		body, err := n.get(page)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(body)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			if of, _, _ := strings.Cut(name, "{"); of == metric && strings.Contains(name, labels) {
				if value != want {
					return fmt.Errorf("it is %s", value)
				}
				return nil
			}
		}
		return errors.New("there is none")
	})
}
