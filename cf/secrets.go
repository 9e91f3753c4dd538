package cf

import (
	"regexp"
	"slices"
	"strings"
	"sync"
)

// secrets are all texts that must not be shown. A server may say back what it was sent.
type secrets struct {
	mu   sync.Mutex
	seen []string
}

// minSecret is the shortest text that is taken out wherever it stands: shorter ones stand in ordinary words.
const minSecret = 4

const mostSecrets = 256

func (s *secrets) add(texts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range texts {
		if len(text) >= minSecret && !slices.Contains(s.seen, text) {
			s.seen = append(s.seen, text)
		}
	}
	if over := len(s.seen) - mostSecrets; over > 0 {
		s.seen = slices.Delete(s.seen, 0, over)
	}
}

// looksSecret knows tokens and codes by their form.
var looksSecret = regexp.MustCompile(`(?i)\bbearer\s+\S+|\beyJ[\w-]{8,}(\.[\w-]*)*|\b(code|token|access_token|refresh_token|client_secret|password)=[^&\s"']+`)

func (s *secrets) redact(text string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, secret := range s.seen {
		text = strings.ReplaceAll(text, secret, "[redacted]")
	}
	return looksSecret.ReplaceAllString(text, "[redacted]")
}
