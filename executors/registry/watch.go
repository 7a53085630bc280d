package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// watched is a context that ends when nothing has come through its readers for a time. It
// is for fetches other than the library's copying, which has a meter.
type watched struct {
	context.Context

	patience time.Duration
	giveUp   context.CancelCauseFunc
	timer    *time.Timer // nil if patience is endless
}

// watch starts the wait; a patience of 0 is endless. The caller must call stop.
func watch(ctx context.Context, patience time.Duration) *watched {
	w := &watched{patience: patience}
	w.Context, w.giveUp = context.WithCancelCause(ctx)
	if patience > 0 {
		w.timer = time.AfterFunc(patience, func() { w.giveUp(errNothingCame) })
	}
	return w
}

func (w *watched) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
	w.giveUp(nil)
}

// reader returns a reader whose every byte restarts the wait.
func (w *watched) reader(inner io.Reader) io.Reader { return &watchedReader{inner: inner, w: w} }

type watchedReader struct {
	inner io.Reader
	w     *watched
}

func (r *watchedReader) Read(into []byte) (int, error) {
	n, err := r.inner.Read(into)
	if n > 0 && r.w.timer != nil {
		r.w.timer.Reset(r.w.patience)
	}
	return n, err
}

// explain makes a failure a stall, if it is one.
func (w *watched) explain(err error) error {
	if err != nil && errors.Is(context.Cause(w), errNothingCame) {
		return stalled(w.patience)
	}
	return err
}

func stalled(patience time.Duration) error {
	return fmt.Errorf("%w: nothing came for %v", ErrStalled, patience)
}
