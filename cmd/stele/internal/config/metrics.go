package config

import "net"

// Metrics says where metrics are served.
type Metrics struct {
	// Listen is HOST:PORT for Prometheus; empty: no metrics are served.
	Listen string `toml:"listen"`
}

func (m *Metrics) check() error {
	if m.Listen == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(m.Listen)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return refuse("metrics.listen", m.Listen, "is not HOST:PORT")
	}
	return nil
}
