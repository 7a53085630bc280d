package docs

import (
	"regexp"
	"strings"
	"testing"
)

var number = regexp.MustCompile(`\d{4}-\d+`)

// TestSecurity checks that what docs/security.md claims has tests, and that each CVE is borne by
// one, or cannot apply.
func TestSecurity(t *testing.T) {
	rows := tables(t, "security.md")
	tests := findTests(t)
	for _, row := range rows["Boundaries"] {
		if !tests.check(t, row.cells[0], row.cells[2]) {
			t.Errorf("%s: no test", row.cells[0])
		}
	}
	known := 0
	for _, row := range rows["Known holes of others"] {
		if !tests.check(t, row.cells[0], row.cells[2]) {
			t.Errorf("%s: no test", row.cells[0])
		}
		for _, cve := range number.FindAllString(row.cells[0], -1) {
			known++
			if !strings.Contains(row.cells[1], "cannot apply") && !tests.bear(t, cve, row) {
				t.Errorf("CVE-%s: none of its tests bears the number: %s", cve, row.cells[2])
			}
		}
	}
	if known < 37 {
		t.Errorf("%d CVEs: rows are missing", known)
	}
}

// bear reports whether a test of a row has the number in its name, its comment or its text.
func (all tests) bear(t *testing.T, cve string, row row) bool {
	t.Helper()
	for _, test := range all.named(t, row.cells[0], row.cells[2]) {
		text := test.sub + all[test.folder].functions[test.function]
		if strings.Contains(text, "CVE-"+cve) || strings.Contains(text, "CVE"+strings.ReplaceAll(cve, "-", "_")) || strings.Contains(text, "CVE"+strings.ReplaceAll(cve, "-", "")) {
			return true
		}
	}
	return false
}
