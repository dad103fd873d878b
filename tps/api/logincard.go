package api

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"

	"inkan/tps/auth"
	"inkan/tps/realm"
)

// connection is what a request came over.
func connection(r *http.Request) realm.Connection {
	c := realm.Connection{Address: address(r)}
	if r.TLS != nil {
		c.Chain = r.TLS.PeerCertificates
	}
	return c
}

// enterByCard begins a session of the person on whose card the connection's certificate
// is.
func (l *login) enterByCard(r *http.Request) (realm.Grant, error) {
	on := connection(r)
	g, err := l.Logins.LoginCard(r.Context(), on)
	who := g.Person().ID
	if refused := (*auth.CertificateError)(nil); errors.As(err, &refused) {
		who = refused.User
	}
	return g, l.record(r, string(who), certificateFields("login", on), err)
}

// certificateFields say in the audit record which certificate was shown.
func certificateFields(op string, on realm.Connection) map[string]string {
	f := map[string]string{"op": op, "method": "certificate"}
	if len(on.Chain) > 0 {
		sum := sha256.Sum256(on.Chain[0].Raw)
		f["certificate"] = hex.EncodeToString(sum[:])
		if n := on.Chain[0].SerialNumber; n.BitLen() <= maxSerial {
			f["serial"] = fmt.Sprintf("%X", n)
		}
	}
	return f
}

// maxSerial is how long serial numbers are, in bits (RFC 5280 §4.1.2.2).
const maxSerial = 160

// unbound audits that somebody has a token without the certificate that it is bound to.
func (l *login) unbound(r *http.Request, err error) error {
	if !errors.Is(err, realm.ErrBound) {
		return err
	}
	return l.record(r, "", certificateFields("session", connection(r)), err)
}
