package sshserver

import (
	"bytes"
	"crypto/subtle"
	"errors"

	"golang.org/x/crypto/ssh"
)

var errDenied = errors.New("sshserver: login denied")

// configure turns the fields into the configuration of x/crypto/ssh.
func (s *Server) configure() error {
	if s.HostKey == nil {
		key, err := newHostKey()
		if err != nil {
			return err
		}
		s.HostKey = key
	}
	s.config = &ssh.ServerConfig{
		MaxAuthTries:  s.MaxAuthTries,
		ServerVersion: s.Version,
	}
	s.config.AddHostKey(s.HostKey)
	for _, key := range s.MoreHostKeys {
		s.config.AddHostKey(key)
	}
	if s.Banner != "" {
		s.config.BannerCallback = func(ssh.ConnMetadata) string { return s.Banner }
	}
	if s.AuthLog != nil {
		s.config.AuthLogCallback = func(c ssh.ConnMetadata, method string, err error) { s.AuthLog(c.User(), method, err) }
	}
	s.configureLogin()
	return nil
}

func (s *Server) configureLogin() {
	open := true
	if s.Password != "" {
		s.config.PasswordCallback, open = s.checkPassword, false
	}
	if len(s.AuthorizedKeys) > 0 {
		s.config.PublicKeyCallback, open = s.checkKey, false
	}
	if len(s.Questions) > 0 {
		s.config.KeyboardInteractiveCallback, open = s.ask, false
	}
	if open {
		s.config.NoClientAuth = true
		s.config.NoClientAuthCallback = func(c ssh.ConnMetadata) (*ssh.Permissions, error) { return s.allow(c, true) }
	}
}

func (s *Server) allow(c ssh.ConnMetadata, ok bool) (*ssh.Permissions, error) {
	if !ok || s.User != "" && c.User() != s.User {
		return nil, errDenied
	}
	return &ssh.Permissions{}, nil
}

func (s *Server) checkPassword(c ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
	return s.allow(c, same(string(password), s.Password))
}

func (s *Server) checkKey(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	known := false
	for _, k := range s.AuthorizedKeys {
		known = known || bytes.Equal(k.Marshal(), key.Marshal())
	}
	return s.allow(c, known)
}

func (s *Server) ask(c ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
	texts, echos := make([]string, len(s.Questions)), make([]bool, len(s.Questions))
	for i, q := range s.Questions {
		texts[i], echos[i] = q.Text, q.Echo
	}
	answers, err := ask("", "", texts, echos)
	if err != nil {
		return nil, err
	}
	right := len(answers) == len(s.Questions)
	for i, q := range s.Questions {
		right = right && same(answers[i], q.Answer)
	}
	return s.allow(c, right)
}

// same takes the same time whatever differs: the demo listens where every user of the machine can try.
func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
