package stats

import (
	"bytes"
	"math"
	"strconv"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// pressures are how long a cgroup's tasks have waited.
type pressures struct{ cpu, memory, io stalls }

// totals are without averages, which change with time alone.
func (p pressures) totals() pressures {
	return pressures{p.cpu.totals(), p.memory.totals(), p.io.totals()}
}

// stalls are for how long some tasks waited for a resource, and for how long all did.
type stalls struct{ some, full stall }

func (s *stalls) totals() stalls {
	return stalls{stall{total: s.some.total}, stall{total: s.full.total}}
}

// message is nil if the kernel has no figures.
func (s *stalls) message() *runtimeapi.PsiStats {
	if !s.some.total.known && !s.full.total.known {
		return nil
	}
	made := &struct { // allocated together
		stats      runtimeapi.PsiStats
		some, full runtimeapi.PsiData
	}{}
	if s.some.total.known {
		s.some.put(&made.some)
		made.stats.Some = &made.some
	}
	if s.full.total.known {
		s.full.put(&made.full)
		made.stats.Full = &made.full
	}
	return &made.stats
}

// stall is how long tasks have waited, in nanoseconds and as a percentage of the last
// seconds.
type stall struct {
	total                number
	avg10, avg60, avg300 float64
}

func (s *stall) put(data *runtimeapi.PsiData) {
	data.Total, data.Avg10, data.Avg60, data.Avg300 = s.total.value, s.avg10, s.avg60, s.avg300
}

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

// refresh reads again what may have changed though no task has waited: averages that are
// not zero or not settled.
func (p *pressures) refresh(dir directory, settled bool) {
	again := func(s *stalls, file string) {
		if !settled || s.totals() != *s {
			*s = parsePressure(dir.read(file))
		}
	}
	again(&p.cpu, "cpu.pressure")
	again(&p.memory, "memory.pressure")
	again(&p.io, "io.pressure")
}

// parsePressure reads lines like "some avg10=0.00 avg60=0.00 avg300=0.00 total=0", with
// microseconds, which the CRI wants as nanoseconds.
func parsePressure(content []byte) (s stalls) {
	for line := range bytes.Lines(content) {
		kind, rest, _ := bytes.Cut(line, []byte{' '})
		switch string(kind) {
		case "some":
			s.some = parseStall(rest)
		case "full":
			s.full = parseStall(rest)
		}
	}
	return s
}

func parseStall(fields []byte) (s stall) {
	for len(fields) > 0 {
		var field []byte
		field, fields, _ = bytes.Cut(fields, []byte{' '})
		key, value, _ := bytes.Cut(field, []byte{'='})
		switch string(key) {
		case "avg10":
			s.avg10 = percent(value)
		case "avg60":
			s.avg60 = percent(value)
		case "avg300":
			s.avg300 = percent(value)
		case "total":
			s.total = parse(value).scaled(1000)
		}
	}
	return s
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
