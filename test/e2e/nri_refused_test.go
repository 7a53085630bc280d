package e2e

import "testing"

// Plug-ins are not asked about a change that is refused anyway.
func TestNRIHearsOnlyOfWhatCanBe(t *testing.T) {
	t.Parallel()
	c := newLimited(t)
	if err := c.update(1 << 20); err == nil {
		t.Error("a limit is taken that is lower than what a runtime takes")
	}
	if told := c.plugin.Told(); len(told) > 0 {
		t.Errorf("of an update that is refused the plug-in is told %q", told)
	}
	c.has("after it", 80<<20)
}
