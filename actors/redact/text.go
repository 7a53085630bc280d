package redact

import (
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Mark replaces what was removed.
const Mark = "[redacted]"

// hiddenAddress replaces an address that cannot be parsed.
const hiddenAddress = "[redacted address]"

var address = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"'<>]+`)

// Text removes user, password, query and fragment from every address in a text.
// Registries redirect clients to addresses whose query grants access.
func Text(text string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	return address.ReplaceAllStringFunc(text, withoutSecrets)
}

func withoutSecrets(address string) string {
	scheme, rest, _ := strings.Cut(address, "://")
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, place := rest[:end], rest[end:]
	var user string
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		user, authority = Mark+"@", authority[at+1:]
	}
	if _, err := url.Parse(scheme + "://" + authority + place); err != nil {
		return hiddenAddress
	}
	if at := strings.IndexAny(place, "?#"); at >= 0 {
		place = place[:at] + "?" + Mark
	}
	return scheme + "://" + user + authority + place
}

// Secrets are known secrets, which a registry may echo.
type Secrets struct{ replacer *strings.Replacer }

// Known returns secrets in all spellings that can occur in an error's text. Empty ones
// are ignored.
func Known(secrets ...string) Secrets {
	var spellings []string
	for _, secret := range secrets {
		if secret != "" {
			quoted := strconv.Quote(secret)
			spellings = append(spellings, secret, url.QueryEscape(secret), url.PathEscape(secret), quoted[1:len(quoted)-1])
		}
	}
	// Long ones first, so that a secret that begins with another is hidden whole.
	slices.SortFunc(spellings, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, spelling := range spellings {
		pairs = append(pairs, spelling, Mark)
	}
	return Secrets{strings.NewReplacer(pairs...)}
}

// Text is the function Text, and also removes the known secrets.
func (s Secrets) Text(text string) string {
	if s.replacer != nil {
		text = s.replacer.Replace(text)
	}
	return Text(text)
}

// Attr is for slog.HandlerOptions.ReplaceAttr: it applies Text to all that is logged.
func Attr(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(Text(a.Value.String()))
	case slog.KindAny:
		if err, is := a.Value.Any().(error); is && err != nil {
			a.Value = slog.StringValue(Text(err.Error()))
		}
	}
	return a
}
