package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// A remote names the files that make connections between machines secure. Connections
// over pairs need none.
type remote struct{ certificate, key, authority string }

// credentials has both sides show a certificate. Without files nothing is secured.
func (r remote) credentials() (credentials.TransportCredentials, error) {
	if r == (remote{}) {
		return insecure.NewCredentials(), nil
	}
	pair, err := tls.LoadX509KeyPair(r.certificate, r.key)
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(r.authority)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, errors.New("no certificate is in " + r.authority)
	}
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair},
		RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}), nil
}
