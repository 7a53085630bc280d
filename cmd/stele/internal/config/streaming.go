package config

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// Streaming says how the streams of exec, attach and port-forward are served. Its keys
// have CRI-O's names.
type Streaming struct {
	// Address is an IP address.
	Address string `toml:"stream_address"`
	// Port is a number; 0: the kernel chooses.
	Port string `toml:"stream_port"`
	// IdleTimeout ends a connection on which nothing moves; 0: never.
	IdleTimeout time.Duration `toml:"stream_idle_timeout"`
	// CreationTimeout is how long a client may take to open its streams.
	CreationTimeout time.Duration `toml:"stream_creation_timeout"`
	// EnableTLS serves TLS with the certificate and key of these files, which are read
	// again when they change.
	EnableTLS bool   `toml:"stream_enable_tls"`
	TLSCert   string `toml:"stream_tls_cert"`
	TLSKey    string `toml:"stream_tls_key"`
	// TLSCA has those whose certificates clients must show; empty: clients need none.
	TLSCA string `toml:"stream_tls_ca"`
	// TLSMinVersion is VersionTLS12 or VersionTLS13.
	TLSMinVersion string `toml:"tls_min_version"`
	// TLSCipherSuites are those of TLS 1.2, by their names; empty: the library's choice.
	// Those of TLS 1.3 are always on.
	TLSCipherSuites []string `toml:"tls_cipher_suites"`
}

func defaultStreaming() Streaming {
	return Streaming{
		Address: "127.0.0.1", Port: "0", IdleTimeout: 4 * time.Hour, CreationTimeout: 30 * time.Second,
		TLSMinVersion: "VersionTLS12",
	}
}

// ListenAddress is IP:PORT.
func (s *Streaming) ListenAddress() string {
	ip, _ := netip.ParseAddr(s.Address) // checked
	port, _ := strconv.ParseUint(s.Port, 10, 16)
	return netip.AddrPortFrom(ip, uint16(port)).String()
}

var tlsVersions = map[string]uint16{"VersionTLS12": tls.VersionTLS12, "VersionTLS13": tls.VersionTLS13}

// TLS has the version and the cipher suites.
func (s *Streaming) TLS() *tls.Config {
	c := &tls.Config{MinVersion: tlsVersions[s.TLSMinVersion]}
	for _, suite := range tls.CipherSuites() {
		if slices.Contains(s.TLSCipherSuites, suite.Name) {
			c.CipherSuites = append(c.CipherSuites, suite.ID)
		}
	}
	return c
}

func (s *Streaming) check() error {
	var problems []error
	if _, err := netip.ParseAddr(s.Address); err != nil {
		problems = append(problems, refuse("streaming.stream_address", s.Address, "is not an IP address"))
	}
	if _, err := strconv.ParseUint(s.Port, 10, 16); err != nil {
		problems = append(problems, refuse("streaming.stream_port", s.Port, "is not a port"))
	}
	problems = append(problems,
		checkPause("streaming.stream_idle_timeout", s.IdleTimeout, 0),
		checkPause("streaming.stream_creation_timeout", s.CreationTimeout, time.Second))
	return errors.Join(append(problems, s.checkTLS()...)...)
}

// checkPause refuses what is shorter than a millisecond and not 0, which is mostly a number
// without a unit, and what is below a minimum.
func checkPause(key string, d, least time.Duration) error {
	switch {
	case d < 0:
		return refuse(key, d, "is negative")
	case d > 0 && d < time.Millisecond:
		return refuse(key, d, "is too short for any client; write a unit, as in \"30s\"")
	case d < least:
		return refuse(key, d, "is too short; the least is %v", least)
	}
	return nil
}

func (s *Streaming) checkTLS() (problems []error) {
	if tlsVersions[s.TLSMinVersion] == 0 {
		problems = append(problems, refuse("streaming.tls_min_version", s.TLSMinVersion, "is neither VersionTLS12 nor VersionTLS13"))
	}
	for _, name := range s.TLSCipherSuites {
		if !slices.ContainsFunc(tls.CipherSuites(), func(suite *tls.CipherSuite) bool { return suite.Name == name }) {
			problems = append(problems, refuse("streaming.tls_cipher_suites", name, "is not a secure cipher suite's name"))
		}
	}
	if len(s.TLSCipherSuites) > 0 && s.TLSMinVersion == "VersionTLS13" {
		problems = append(problems, refuse("streaming.tls_cipher_suites", s.TLSCipherSuites, "has no effect on TLS 1.3, which tls_min_version requires"))
	}
	for _, f := range []struct {
		key, path string
		needed    bool
	}{{"stream_tls_cert", s.TLSCert, true}, {"stream_tls_key", s.TLSKey, true}, {"stream_tls_ca", s.TLSCA, false}} {
		key := "streaming." + f.key
		switch {
		case !s.EnableTLS && f.path != "":
			problems = append(problems, refuse(key, f.path, "has no effect without stream_enable_tls"))
		case s.EnableTLS && f.path == "" && f.needed:
			problems = append(problems, refuse("streaming.stream_enable_tls", true, "needs %s", f.key))
		default:
			problems = append(problems, file(key, f.path))
		}
	}
	return problems
}
