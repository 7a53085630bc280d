package cni

import (
	"math/big"
	"regexp"
)

const (
	ingressAnnotation = "kubernetes.io/ingress-bandwidth"
	egressAnnotation  = "kubernetes.io/egress-bandwidth"
)

// quantity is Kubernetes' notation of a number: digits, a fraction, and a decimal
// or binary suffix or an exponent.
var quantity = regexp.MustCompile(`^([0-9]{1,20}(?:\.[0-9]{1,20})?)([kMGTPE]|[KMGTPE]i|[eE][0-9]{1,2})?$`)

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
	if ingress, err = bandwidth(annotations, ingressAnnotation); err != nil {
		return 0, 0, err
	}
	egress, err = bandwidth(annotations, egressAnnotation)
	return ingress, egress, err
}

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
	rate.Mul(rate, new(big.Rat).SetInt(multiplier(parts[2])))
	whole := new(big.Int).Quo(rate.Num(), rate.Denom())
	if whole.Cmp(bandwidthLeast) < 0 || whole.Cmp(bandwidthMost) > 0 {
		return 0, invalid("annotations[%q]: %.100q is not between 1k and 1P", key, value)
	}
	return whole.Int64(), nil
}

func multiplier(suffix string) *big.Int {
	exponents := map[byte]int64{'k': 1, 'K': 1, 'M': 2, 'G': 3, 'T': 4, 'P': 5, 'E': 6}
	switch {
	case suffix == "":
		return big.NewInt(1)
	case len(suffix) == 2 && suffix[1] == 'i':
		return new(big.Int).Exp(big.NewInt(1024), big.NewInt(exponents[suffix[0]]), nil)
	case len(suffix) > 1: // an exponent of ten
		n, _ := new(big.Int).SetString(suffix[1:], 10) // digits, as matched
		return new(big.Int).Exp(big.NewInt(10), n, nil)
	}
	return new(big.Int).Exp(big.NewInt(1000), big.NewInt(exponents[suffix[0]]), nil)
}
