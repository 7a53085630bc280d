package cri

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
)

// addresses remember what they are set to.
type addresses struct {
	ranges []netip.Prefix
	err    error
}

func (a *addresses) Set(_ context.Context, ranges []netip.Prefix) error {
	if a.err == nil {
		a.ranges = ranges
	}
	return a.err
}

func TestUpdateRuntimeConfig(t *testing.T) {
	set := &addresses{}
	s := New(Parts{Addresses: set})
	update := func(cidr string) error {
		_, err := s.UpdateRuntimeConfig(t.Context(), &runtimeapi.UpdateRuntimeConfigRequest{
			RuntimeConfig: &runtimeapi.RuntimeConfig{NetworkConfig: &runtimeapi.NetworkConfig{PodCidr: cidr}},
		})
		return err
	}
	for cidr, want := range map[string]string{
		"10.1.0.0/24": "[10.1.0.0/24]", "fd00:1::/64": "[fd00:1::/64]",
		"10.1.0.0/24,fd00:1::/64": "[10.1.0.0/24 fd00:1::/64]", " fd00:1::/64 , 10.1.0.0/24": "[fd00:1::/64 10.1.0.0/24]",
	} {
		if err := update(cidr); err != nil || fmt.Sprint(set.ranges) != want {
			t.Errorf("%q sets %v, %v", cidr, set.ranges, err)
		}
	}
	before := fmt.Sprint(set.ranges)
	for _, cidr := range []string{
		"10.1.0.0", "10.1.0.0/33", "10.1.0.0/-1", "10.1.0.5/24", "fd00::1/64", "::ffff:10.1.0.0/120", "10.1.0.0/24,", ",", "10.1.0.0/24,10.2.0.0/24",
		"fd00::/64,fd01::/64", "10.1.0.0/24,fd00::/64,10.2.0.0/24", "fe80::%eth0/64", "../etc/passwd", `10.1.0.0/24","x":"`,
		"10.1.0.0/24 10.2.0.0/24", strings.Repeat("1", 1000),
	} {
		err := update(cidr)
		refused(t, err, fault.Invalid, "runtime_config.network_config.pod_cidr")
		if shown := strconv.Quote(cidr); !strings.Contains(err.Error(), shown[:min(len(shown)-1, 100)]) {
			t.Errorf("%v does not name %s", err, shown)
		}
	}
	if fmt.Sprint(set.ranges) != before {
		t.Errorf("a bad range was set: %v", set.ranges)
	}
	for _, empty := range []*runtimeapi.UpdateRuntimeConfigRequest{{}, {RuntimeConfig: &runtimeapi.RuntimeConfig{}}} {
		if _, err := s.UpdateRuntimeConfig(t.Context(), empty); err != nil || fmt.Sprint(set.ranges) != before {
			t.Errorf("nothing sets %v, %v", set.ranges, err)
		}
	}
	set.err = fault.New(fault.Unavailable, "", "", "the log is full")
	refused(t, update("10.1.0.0/24"), fault.Unavailable, "full")
}
