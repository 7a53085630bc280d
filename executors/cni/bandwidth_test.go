package cni

import (
	"strings"
	"testing"

	"github.com/stele-runtime/stele/actors/fault"
)

func TestParseBandwidth(t *testing.T) {
	for value, want := range map[string]int64{
		"1k": 1000, "1000": 1000, "1Ki": 1024, "1M": 1e6, "10M": 1e7, "1.5M": 15e5, "1Mi": 1 << 20, "2G": 2e9, "1Gi": 1 << 30,
		"1T": 1e12, "1P": 1e15, "0.001E": 1e15, "1e3": 1000, "1E6": 1e6, "25e2": 2500, "1e+6": 1e6, "1e9": 1e9,
		"+5M": 5e6, ".5M": 5e5, "5.M": 5e6, "5000000m": 5000, "1000.9": 1000, "1000000000000e-3": 1e9,
	} {
		ingress, egress, err := ParseBandwidth(map[string]string{IngressAnnotation: value})
		if ingress != want || egress != 0 || err != nil {
			t.Errorf("ingress %q is %d, egress %d, %v; want %d", value, ingress, egress, err, want)
		}
		ingress, egress, err = ParseBandwidth(map[string]string{EgressAnnotation: value})
		if ingress != 0 || egress != want || err != nil {
			t.Errorf("egress %q is %d, ingress %d, %v; want %d", value, egress, ingress, err, want)
		}
	}
	if ingress, egress, err := ParseBandwidth(nil); ingress != 0 || egress != 0 || err != nil {
		t.Errorf("without annotations: %d, %d, %v", ingress, egress, err)
	}
}

func TestBandwidthsThatAreRefused(t *testing.T) {
	for _, value := range []string{
		"", " ", "fast", "-1M", "1 M", "1M ", "1MB", "1K", "1mi", "0", "999", "0.9k", "1001T", "2P", "1E", "1e99", "1e-99", "1e999", ".", "+",
		".M", "1..5M", "1e", "0x10M", "1_000", "1/3", "Inf", "NaN", "1M\n", strings.Repeat("9", 10000), "1e" + strings.Repeat("9", 1000),
	} {
		for _, key := range []string{IngressAnnotation, EgressAnnotation} {
			_, _, err := ParseBandwidth(map[string]string{key: value})
			if err == nil || fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), key) {
				t.Errorf("%s=%.50q: %v, want one of kind Invalid that names the annotation", key, value, err)
			}
		}
	}
}
