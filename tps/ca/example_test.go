package ca_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509/pkix"
	"fmt"

	"inkan/tps/ca"
	"inkan/tps/ca/catest"
)

// A new authority issues a certificate and takes it back.
func Example() {
	ctx := context.Background()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // in production: a key in the HSM
	root, err := ca.Create(ctx, ca.RootConfig{Signer: key, Subject: pkix.Name{CommonName: "Site CA"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	authority, err := ca.Open(ca.Config{Signer: key, Certificate: root, Store: new(catest.Store)})
	if err != nil {
		fmt.Println(err)
		return
	}
	cardKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	cert, err := authority.Issue(ctx, ca.Request{
		ID:        "0198c0de/signing",
		Profile:   ca.ProfileSigning,
		PublicKey: cardKey.Public(),
		Subject:   ca.Subject{UserID: "jdoe", Name: "Jane Doe", Mail: "jane@example.com"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(cert.Subject)
	fmt.Println(authority.Revoke(ctx, cert.Issuer, cert.Serial, ca.ReasonSuperseded))
	// Output:
	// UID=jdoe,CN=Jane Doe
	// <nil>
}
