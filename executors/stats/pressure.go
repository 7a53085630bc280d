package stats

import (
	"bytes"
	"math"
	"strconv"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// readPressures reads the pressure files of a v2 cgroup. A hybrid node has them in the
// hierarchy without controllers. Where the kernel has no such file, or does not account for
// it, there is none.
func readPressures(dir directory) pressures {
	return pressures{
		cpu:    parsePressure(dir.read("cpu.pressure")),
		memory: parsePressure(dir.read("memory.pressure")),
		io:     parsePressure(dir.read("io.pressure")),
	}
}

// parsePressure reads lines like "some avg10=0.00 avg60=0.00 avg300=0.00 total=0", with
// microseconds, which the CRI wants as nanoseconds.
func parsePressure(content []byte) *runtimeapi.PsiStats {
	parsed := &struct { // allocated together
		stats      runtimeapi.PsiStats
		some, full runtimeapi.PsiData
	}{}
	for line := range bytes.Lines(content) {
		kind, rest, _ := bytes.Cut(line, []byte{' '})
		switch string(kind) {
		case "some":
			parsed.stats.Some = &parsed.some
			pressureData(rest, &parsed.some)
		case "full":
			parsed.stats.Full = &parsed.full
			pressureData(rest, &parsed.full)
		}
	}
	if parsed.stats.Some == nil && parsed.stats.Full == nil {
		return nil
	}
	return &parsed.stats
}

func pressureData(fields []byte, data *runtimeapi.PsiData) {
	for len(fields) > 0 {
		var field []byte
		field, fields, _ = bytes.Cut(fields, []byte{' '})
		key, value, _ := bytes.Cut(field, []byte{'='})
		switch string(key) {
		case "avg10":
			data.Avg10 = percent(value)
		case "avg60":
			data.Avg60 = percent(value)
		case "avg300":
			data.Avg300 = percent(value)
		case "total":
			data.Total = parse(value).scaled(1000).value
		}
	}
}

func percent(value []byte) float64 {
	if string(value) == "0.00" { // the usual one
		return 0
	}
	f, err := strconv.ParseFloat(string(value), 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0
	}
	return f
}
