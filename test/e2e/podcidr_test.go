package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// setPodCIDR calls UpdateRuntimeConfig.
func setPodCIDR(c *Client, cidr string) error {
	_, err := c.Runtime.UpdateRuntimeConfig(c.Context(), &runtimeapi.UpdateRuntimeConfigRequest{
		RuntimeConfig: &runtimeapi.RuntimeConfig{NetworkConfig: &runtimeapi.NetworkConfig{PodCidr: cidr}},
	})
	return err
}

// TestPodCIDR has the kubelet report where pods have their addresses from: a template makes
// the network of it, unless there is one; a new daemon needs no new report.
func TestPodCIDR(t *testing.T) {
	t.Parallel()
	template := filepath.Join(t.TempDir(), "net.tmpl")
	if err := os.WriteFile(template, []byte("{{.PodCIDR}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := New(t, programs, Options{Config: fmt.Sprintf("[network]\nconf_template = %q\n", template)})
	h.write(template, fmt.Sprintf(`{"cniVersion":"1.1.0","name":"%s","plugins":[{"type":"bridge","bridge":"%s","isDefaultGateway":true,
"ipam":{"type":"host-local","dataDir":"%s","ranges":[{{range $i, $r := .PodCIDRRanges}}{{if $i}},{{end}}[{"subnet":"{{$r}}"}]{{end}}]}}]}`,
		h.Bridge, h.Bridge, h.Scope.IPAM[0]))
	made, ranges := filepath.Join(h.ConfDir, "10-stele.conflist"), fmt.Sprintf("10.85.%d.128/25,fd85:%d::/64", h.Number, h.Number)
	set := func() {
		t.Helper()
		if err := setPodCIDR(h.Client, ranges); err != nil {
			t.Fatal(err)
		}
	}
	set()
	if _, err := os.Lstat(made); err == nil {
		t.Error("a network was configured beside another one")
	}
	if err := os.Remove(filepath.Join(h.ConfDir, "10-e2e.conflist")); err != nil {
		t.Fatal(err)
	}
	h.Eventually("the network is gone", func() bool { return !networkReady(h.Client) })
	set()
	before, err := os.Stat(made)
	if err != nil {
		t.Fatal(err)
	}
	set()
	if after, err := os.Stat(made); err != nil || !os.SameFile(before, after) {
		t.Error("what had not changed was written again")
	}
	inRange := func() {
		t.Helper()
		h.Eventually("the network is ready", func() bool { return networkReady(h.Client) })
		status := h.RunPod(h.PodConfig("addressed")).Status().Status.GetNetwork()
		for i, address := range append([]*runtimeapi.PodIP{{Ip: status.GetIp()}}, status.GetAdditionalIps()...) {
			want := netip.MustParsePrefix(strings.Split(ranges, ",")[i])
			if got, err := netip.ParseAddr(address.GetIp()); err != nil || !want.Contains(got) {
				t.Errorf("the pod has %s, %v, which is not in %s", address.GetIp(), err, want)
			}
		}
	}
	inRange()
	h.Daemon.Kill9()
	if err := os.Remove(made); err != nil {
		t.Fatal(err)
	}
	h.Daemon.Start()
	inRange()
	if got := strings.Count(h.Stele("events", "-o", "wide"), "PodCIDRChanged"); got != 1 {
		t.Errorf("the node's history tells of %d changes, want 1", got)
	}

	content, err := os.ReadFile(made)
	if err != nil {
		t.Fatal(err)
	}
	for _, cidr := range []string{"10.85.0.0", "10.85.0.0/33", "10.85.0.1/24", "10.85.0.0/24,10.86.0.0/24", `fd85::/64"}`, "../../etc"} {
		h.Refused(setPodCIDR(h.Client, cidr), codes.InvalidArgument, "runtime_config.network_config.pod_cidr", strings.Split(cidr, `"`)[0])
	}
	h.write(template, "no configuration")
	h.Refused(setPodCIDR(h.Client, ranges), codes.Internal, template)
	if now, err := os.ReadFile(made); err != nil || string(now) != string(content) {
		t.Errorf("after refusals the configuration is %q, %v", now, err)
	}
}

// networkReady asks for the status of the pod network.
func networkReady(c *Client) bool {
	answer, err := c.Runtime.Status(c.Context(), &runtimeapi.StatusRequest{})
	for _, condition := range answer.GetStatus().GetConditions() {
		if condition.Type == runtimeapi.NetworkReady {
			return err == nil && condition.Status
		}
	}
	return false
}
