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

// passing says whether a failure may be over in a while: the registry answers 5xx,
// or the connection was refused or cut. What was answered clearly isn't asked again,
// and 429 has been, by the library.
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

// again calls try until it succeeds, fails for good, or has failed too often. In
// between it waits, longer each time, and by chance not as long as others.
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
