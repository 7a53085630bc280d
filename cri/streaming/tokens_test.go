package streaming

import (
	"testing"
	"time"
)

func TestTokens(t *testing.T) {
	now := time.Unix(0, 0)
	k := newTokens()
	k.now = func() time.Time { return now }
	first, ok := k.put("exec", Command{})
	if !ok || k.take("exec", "x"+first) != nil || k.take("exec", first) == nil || k.take("exec", first) != nil {
		t.Error("a token is not good for exactly one use")
	}
	second, _ := k.put("exec", Command{})
	now = now.Add(tokenLife - 1)
	third, _ := k.put("exec", Command{})
	if k.take("exec", second) == nil {
		t.Error("a token ends early")
	}
	now = now.Add(tokenLife)
	if k.take("exec", third) != nil {
		t.Error("a token outlives its minute")
	}
	for range maxTokens {
		if _, ok := k.put("exec", Command{}); !ok {
			t.Fatal("refused below the bound")
		}
	}
	if _, ok := k.put("exec", Command{}); ok {
		t.Error("there is no bound")
	}
	now = now.Add(tokenLife)
	if _, ok := k.put("exec", Command{}); !ok || len(k.waiting) != 1 || len(k.order) != 1 {
		t.Errorf("%d tokens are kept beyond their minute", len(k.waiting))
	}
}
