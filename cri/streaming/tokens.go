package streaming

import (
	"crypto/rand"
	"sync"
	"time"
)

const (
	// tokenLife is how long a token is good.
	tokenLife = time.Minute
	// maxTokens bounds the tokens that wait to be used.
	maxTokens = 1000
)

// tokens hold what URLs lead to, until their first use.
type tokens struct {
	now func() time.Time

	mu      sync.Mutex
	waiting map[string]offer
	// order has the tokens that wait, and used ones, by age.
	order []string
}

// offer is what one URL leads to.
type offer struct {
	kind    string
	session session
	until   time.Time
}

func newTokens() *tokens { return &tokens{now: time.Now, waiting: map[string]offer{}} }

// put returns a new token of 130 random bits; false if there are too many.
func (t *tokens) put(kind string, s session) (token string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for len(t.order) > 0 {
		oldest, waits := t.waiting[t.order[0]]
		if waits && now.Before(oldest.until) {
			break
		}
		delete(t.waiting, t.order[0])
		t.order = t.order[1:]
	}
	if len(t.order) >= maxTokens {
		return "", false
	}
	token = rand.Text()
	t.waiting[token] = offer{kind: kind, session: s, until: now.Add(tokenLife)}
	t.order = append(t.order, token)
	return token, true
}

// take returns what a token of a kind leads to, once; nil for an unknown one.
func (t *tokens) take(kind, token string) session {
	t.mu.Lock()
	defer t.mu.Unlock()
	found, ok := t.waiting[token]
	delete(t.waiting, token)
	if !ok || found.kind != kind || !t.now().Before(found.until) {
		return nil
	}
	return found.session
}
