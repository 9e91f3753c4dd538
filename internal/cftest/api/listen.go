package api

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"
)

// Names are those that the server's certificate is for, beside 127.0.0.1. None of them resolves.
var Names = []string{"localhost", "api.cf.test", "login.cf.test", "uaa.cf.test"}

// listener is a TLS server on loopback.
type listener struct {
	net.Listener
	config *tls.Config
	cert   *x509.Certificate
	server *http.Server
	work   sync.WaitGroup // the accepting goroutine, and the handlers
}

func listen(serve http.HandlerFunc) (*listener, error) {
	cert, leaf, err := newCertificate()
	if err != nil {
		return nil, err
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &listener{Listener: plain, config: &tls.Config{Certificates: []tls.Certificate{cert}}, cert: leaf}
	l.server = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.work.Add(1)
		defer l.work.Done()
		serve(w, r)
	})}
	l.work.Go(func() { _ = l.server.Serve(l) }) // ends with Close
	return l, nil
}

// Accept hides the TLS from net/http, which prints the errors of its handshakes: clients that do not trust us are no news.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return struct{ net.Conn }{tls.Server(conn, l.config)}, nil
}

// shut cuts all connections and waits for what runs.
func (l *listener) shut() {
	_ = l.server.Close() // there is nothing to lose
	l.work.Wait()
}

func newCertificate() (tls.Certificate, *x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Cloud Foundry of a test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: Names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, leaf, err
}
