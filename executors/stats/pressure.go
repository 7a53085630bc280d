package stats

import (
	"bytes"
	"math"
	"path/filepath"
	"strconv"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// readPressures reads the pressure files of a v2 cgroup. A hybrid node has them in the
// hierarchy without controllers.
func readPressures(dir string) pressures {
	return pressures{
		cpu:    readPressure(filepath.Join(dir, "cpu.pressure")),
		memory: readPressure(filepath.Join(dir, "memory.pressure")),
		io:     readPressure(filepath.Join(dir, "io.pressure")),
	}
}

// readPressure returns nil if the kernel has no such file, or does not account for it.
func readPressure(path string) (stats *runtimeapi.PsiStats) {
	inFile(path, func(content []byte) { stats = parsePressure(content) })
	return stats
}

// parsePressure reads lines like "some avg10=0.00 avg60=0.00 avg300=0.00 total=0", with
// microseconds, which the CRI wants as nanoseconds.
func parsePressure(content []byte) *runtimeapi.PsiStats {
	stats := &runtimeapi.PsiStats{}
	for line := range bytes.Lines(content) {
		kind, rest, _ := bytes.Cut(line, []byte{' '})
		switch string(kind) {
		case "some":
			stats.Some = pressureData(rest)
		case "full":
			stats.Full = pressureData(rest)
		}
	}
	if stats.Some == nil && stats.Full == nil {
		return nil
	}
	return stats
}

func pressureData(fields []byte) *runtimeapi.PsiData {
	data := &runtimeapi.PsiData{}
	for field := range bytes.FieldsSeq(fields) {
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
	return data
}

func percent(value []byte) float64 {
	f, err := strconv.ParseFloat(string(value), 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0
	}
	return f
}
