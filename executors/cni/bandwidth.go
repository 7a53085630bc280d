package cni

import (
	"math/big"
	"regexp"
	"strconv"
)

// The annotations that limit a pod's rates.
const (
	IngressAnnotation = "kubernetes.io/ingress-bandwidth"
	EgressAnnotation  = "kubernetes.io/egress-bandwidth"
)

// quantity is Kubernetes' notation of a number: digits, a fraction, and a decimal
// or binary suffix or an exponent.
var quantity = regexp.MustCompile(`^\+?([0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})([numkMGTPE]|[KMGTPE]i|[eE][-+]?[0-9]{1,2})?$`)

// bandwidthMost is what the kubelet's documentation allows: one petabit per
// second, and at least a kilobit.
var (
	bandwidthLeast = big.NewInt(1000)
	bandwidthMost  = big.NewInt(1e15)
)

// ParseBandwidth reads the limits that a pod's annotations set, in bits per
// second; 0 where there is none. Errors are *fault.Fault of kind Invalid that name
// the annotation.
func ParseBandwidth(annotations map[string]string) (ingress, egress int64, err error) {
	if ingress, err = bandwidth(annotations, IngressAnnotation); err != nil {
		return 0, 0, err
	}
	egress, err = bandwidth(annotations, EgressAnnotation)
	return ingress, egress, err
}

// bandwidth leaves out fractions of a bit.
func bandwidth(annotations map[string]string, key string) (int64, error) {
	value, set := annotations[key]
	if !set {
		return 0, nil
	}
	parts := quantity.FindStringSubmatch(value)
	if parts == nil {
		return 0, invalid("annotations[%q]: %.100q is not a quantity", key, value)
	}
	rate, ok := new(big.Rat).SetString(parts[1])
	if !ok {
		return 0, invalid("annotations[%q]: %.100q is not a quantity", key, value)
	}
	rate.Mul(rate, multiplier(parts[2]))
	whole := new(big.Int).Quo(rate.Num(), rate.Denom())
	if whole.Cmp(bandwidthLeast) < 0 || whole.Cmp(bandwidthMost) > 0 {
		return 0, invalid("annotations[%q]: %.100q is not between 1k and 1P", key, value)
	}
	return whole.Int64(), nil
}

// multiplier returns what a suffix stands for.
func multiplier(suffix string) *big.Rat {
	thousands := map[byte]int{'n': -3, 'u': -2, 'm': -1, 'k': 1, 'K': 1, 'M': 2, 'G': 3, 'T': 4, 'P': 5, 'E': 6}
	switch {
	case suffix == "":
		return power(10, 0)
	case len(suffix) == 2 && suffix[1] == 'i':
		return power(1024, thousands[suffix[0]])
	case len(suffix) > 1: // an exponent of ten
		n, _ := strconv.Atoi(suffix[1:]) // digits, as matched
		return power(10, n)
	}
	return power(1000, thousands[suffix[0]])
}

func power(base int64, n int) *big.Rat {
	p := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(base), big.NewInt(int64(max(n, -n))), nil))
	if n < 0 {
		p.Inv(p)
	}
	return p
}
