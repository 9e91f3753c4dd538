package sshserver

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestLogin(t *testing.T) {
	key, other := newKey(t), newKey(t)
	answer := func(answers ...string) ssh.AuthMethod {
		return ssh.KeyboardInteractive(func(string, string, []string, []bool) ([]string, error) { return answers, nil })
	}
	asks := []Question{{Text: "Password: ", Answer: "a"}, {Text: "Code: ", Echo: true, Answer: "b"}}
	tests := []struct {
		name   string
		server Server
		method ssh.AuthMethod
		ok     bool
	}{
		{"nothing set", Server{}, nil, true},
		{"right user", Server{User: "tester"}, nil, true},
		{"wrong user", Server{User: "root"}, nil, false},
		{"right password", Server{Password: "x"}, ssh.Password("x"), true},
		{"wrong password", Server{Password: "x"}, ssh.Password("xy"), false},
		{"no password", Server{Password: "x"}, nil, false},
		{"right password, wrong user", Server{Password: "x", User: "root"}, ssh.Password("x"), false},
		{"right key", Server{AuthorizedKeys: []ssh.PublicKey{other.PublicKey(), key.PublicKey()}}, ssh.PublicKeys(key), true},
		{"wrong key", Server{AuthorizedKeys: []ssh.PublicKey{other.PublicKey()}}, ssh.PublicKeys(key), false},
		{"a password does for a key", Server{Password: "x", AuthorizedKeys: []ssh.PublicKey{key.PublicKey()}}, ssh.Password("x"), true},
		{"right answers", Server{Questions: asks}, answer("a", "b"), true},
		{"wrong answer", Server{Questions: asks}, answer("a", "c"), false},
		{"too few answers", Server{Questions: asks}, answer("a"), false},
	}
	for i := range tests {
		test := &tests[i]
		t.Run(test.name, func(t *testing.T) {
			s := start(t, &test.server)
			config := clientConfig(s)
			if test.method != nil {
				config.Auth = []ssh.AuthMethod{test.method}
			}
			client, err := ssh.Dial("tcp", s.Addr(), config)
			if (err == nil) != test.ok {
				t.Fatalf("got %v", err)
			}
			if err == nil {
				client.Close()
			}
		})
	}
}

func TestBannerAndLog(t *testing.T) {
	var mu sync.Mutex
	var log []string
	s := start(t, &Server{Banner: "hello\n", Password: "x", AuthLog: func(user, method string, err error) {
		mu.Lock()
		defer mu.Unlock()
		result := "ok"
		if err != nil && !errors.Is(err, ssh.ErrNoAuth) {
			result = "denied"
		}
		log = append(log, user+" "+method+" "+result)
	}})
	tries, banner := []string{"wrong", "x"}, ""
	config := clientConfig(s)
	config.BannerCallback = func(text string) error { banner = text; return nil }
	config.Auth = []ssh.AuthMethod{ssh.RetryableAuthMethod(ssh.PasswordCallback(func() (string, error) {
		try := tries[0]
		tries = tries[1:]
		return try, nil
	}), 2)}
	client, err := ssh.Dial("tcp", s.Addr(), config)
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
	if banner != "hello\n" {
		t.Errorf("banner %q", banner)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"tester none ok", "tester password denied", "tester password ok"}; !slices.Equal(log, want) {
		t.Errorf("log %q, want %q", log, want)
	}
}
