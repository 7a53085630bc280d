package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"
)

// maxRetryDelay bounds the pauses between retries.
const maxRetryDelay = 30 * time.Second

// passing reports whether a failure may pass: the registry answered 5xx, or the connection
// was refused or cut. The library has retried after 429.
func passing(err error) bool {
	if !errors.Is(kindOf(err), ErrUnavailable) {
		return false
	}
	var (
		certificate *tls.CertificateVerificationError
		noTLS       tls.RecordHeaderError
		name        *net.DNSError
	)
	switch {
	case errors.As(err, &certificate), errors.As(err, &noTLS):
		return false
	case errors.As(err, &name):
		return !name.IsNotFound
	}
	return true
}

// again calls try until it succeeds, fails for good, or has failed too often. The pauses
// double, with jitter.
func (p *Puller) again(ctx context.Context, try func() error) error {
	delay := p.options.RetryDelay
	for tries := 1; ; tries++ {
		err := try()
		if err == nil || ctx.Err() != nil || !passing(err) || p.options.Retries < 0 {
			return err
		}
		if tries > p.options.Retries {
			return fmt.Errorf("%w (tried %d times)", err, tries)
		}
		delay = min(delay, maxRetryDelay)
		select {
		case <-time.After(delay/2 + rand.N(delay/2+1)):
		case <-ctx.Done():
			return err
		}
		delay *= 2
	}
}
