package redact

import (
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Mark stands for what was taken out.
const Mark = "[redacted]"

// hiddenAddress stands for an address that cannot be taken apart.
const hiddenAddress = "[redacted address]"

var address = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"'<>]+`)

// Text takes user, password, query and fragment out of every address in a text.
// Registries send clients to places that are open to whoever knows the query.
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

// Secrets are known ones, which others may send back.
type Secrets struct{ replacer *strings.Replacer }

// Known returns the secrets in all the spellings in which they can get into an error's
// text. Empty ones are passed over.
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

// Text is as the function Text, and takes the known secrets out as well.
func (s Secrets) Text(text string) string {
	if s.replacer != nil {
		text = s.replacer.Replace(text)
	}
	return Text(text)
}

// Attr is for slog.HandlerOptions.ReplaceAttr: no address in a log has a secret.
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
