package server

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"inkan/cli/sealing"
	"inkan/tks/hsm"
	"inkan/tps/audit"
	"inkan/tps/ca"
	"inkan/tps/store"
	"inkan/tps/token"
	"inkan/tps/wire"
)

// caName names the authority's keys in the vault.
const caName = "inkan"

// maxGenerations bounds the keys that the authority has over time.
const maxGenerations = 100

// Generation is one key of the embedded authority.
type Generation struct {
	Number      int       `json:"Generation"`
	Key         string    `json:"Key"` // algorithm
	NotBefore   time.Time `json:"NotBefore"`
	NotAfter    time.Time `json:"NotAfter"`
	Issuing     bool      `json:"Issuing"` // else it revokes and answers for what it has issued
	Fingerprint string    `json:"Fingerprint"`
}

// caCertificates is what ca.pem holds: the authority's own certificates, newest
// generation first, and those that its keys have for each other.
type caCertificates struct {
	roots []*x509.Certificate
	cross [][]byte
}

func readAuthority(file string) (caCertificates, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return caCertificates{}, fmt.Errorf("reading the authority's certificate: %w", err)
	}
	return decodeAuthority(b, file)
}

// decodeAuthority reads the content of ca.pem, which comes from file.
func decodeAuthority(b []byte, file string) (caCertificates, error) {
	var out caCertificates
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return caCertificates{}, fmt.Errorf("%s: decoding a certificate: %w", file, err)
		}
		if bytes.Equal(c.SubjectKeyId, c.AuthorityKeyId) {
			out.roots = append(out.roots, c)
		} else {
			out.cross = append(out.cross, c.Raw)
		}
	}
	if len(out.roots) == 0 || len(out.roots) > maxGenerations {
		return caCertificates{}, fmt.Errorf("%s holds %d certificates of the authority's own, want 1 to %d", file, len(out.roots), maxGenerations)
	}
	return out, nil
}

// number is the generation of roots[i].
func (c caCertificates) number(i int) int { return len(c.roots) - i }

func (c caCertificates) encode() []byte {
	var out []byte
	for _, r := range c.roots {
		out = append(out, pemOf("CERTIFICATE", r.Raw)...)
	}
	for _, der := range c.cross {
		out = append(out, pemOf("CERTIFICATE", der)...)
	}
	return out
}

func (c caCertificates) generations() []Generation {
	out := make([]Generation, len(c.roots))
	for i, r := range c.roots {
		out[i] = Generation{
			Number: c.number(i), Key: string(keyAlgorithm(r)), NotBefore: r.NotBefore, NotAfter: r.NotAfter, Issuing: i == 0,
			Fingerprint: wire.FingerprintOf(r).String(),
		}
	}
	return out
}

// keyAlgorithm is the kind of a generation's key.
func keyAlgorithm(c *x509.Certificate) hsm.Algorithm {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return hsm.Algorithm("rsa-" + strconv.Itoa(k.N.BitLen()))
	case *ecdsa.PublicKey:
		return hsm.Algorithm("ec-p" + strconv.Itoa(k.Curve.Params().BitSize))
	}
	return hsm.Algorithm(c.PublicKeyAlgorithm.String())
}

// openAuthority opens every generation that has not expired, and the newest.
func (n *Node) openAuthority(ctx context.Context) error {
	certs, err := readAuthority(n.path(caFile))
	if err != nil {
		return err
	}
	c := n.Config.CA
	var all []*ca.Embedded
	for i, root := range certs.roots {
		if i > 0 && time.Now().After(root.NotAfter) {
			continue
		}
		issued := n.DB.Authority(storeName(certs.number(i)))
		if err := sameAuthority(ctx, issued, root); err != nil {
			return err
		}
		signer, err := n.signers.Signer(ctx, caLabel(certs.number(i)))
		if err != nil {
			return fmt.Errorf("finding key %d of the certificate authority: %w", certs.number(i), err)
		}
		e, err := ca.Open(ca.Config{
			Signer: signer, Certificate: root.Raw, Generation: certs.number(i), Store: issued, BaseURL: c.URL,
			SubjectBase: subjectBase(c), CRLLifetime: time.Duration(c.CRLLifetime), OCSPLifetime: time.Duration(c.OCSPLifetime),
		})
		if err != nil {
			return err
		}
		all = append(all, e)
	}
	n.caLabels = nil
	for i := range certs.roots {
		n.caLabels = append(n.caLabels, string(caLabel(certs.number(i))))
	}
	n.Authority, err = ca.OpenGenerations(certs.cross, all...)
	return err
}

// ErrOtherAuthority means that the database holds what another key has issued.
var ErrOtherAuthority = errors.New("the certificates in the database are of another authority's key: nodes that share a database " +
	"share the authority, its key in one HSM and a copy of ca/ca.pem on each")

// joinsAuthority refuses a new folder whose authority is not that of the database.
func joinsAuthority(ctx context.Context, db *store.DB, path func(string) string) error {
	certs, err := readAuthority(path(caFile))
	if errors.Is(err, os.ErrNotExist) { // its keys are elsewhere
		return nil
	}
	if err != nil {
		return err
	}
	return sameAuthority(ctx, db.Authority(storeName(1)), certs.roots[len(certs.roots)-1])
}

// sameAuthority refuses a root that has not issued what the database has: serial
// numbers and revocation lists of two keys would get mixed up.
func sameAuthority(ctx context.Context, issued *store.Authority, root *x509.Certificate) error {
	one, err := issued.AnyIssued(ctx)
	if errors.Is(err, token.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for what the authority has issued: %w", err)
	}
	c, err := x509.ParseCertificate(one.DER)
	if err != nil {
		return fmt.Errorf("decoding certificate %s: %w", one.Serial, err)
	}
	if !bytes.Equal(c.AuthorityKeyId, root.SubjectKeyId) {
		return ErrOtherAuthority
	}
	return nil
}

func caLabel(generation int) hsm.SignerLabel { return hsm.CALabel(caName, uint8(generation)) }

// storeName scopes the records of a generation.
func storeName(generation int) string {
	if generation == 1 {
		return authorityName
	}
	return authorityName + "-" + strconv.Itoa(generation)
}

// ListGenerations returns the keys of a folder's authority, newest first. A node
// may have the folder open.
func ListGenerations(folder string) ([]Generation, error) {
	if _, err := sealing.Prepared(folder); err != nil {
		return nil, err
	}
	certs, err := readAuthority(sealing.Within(folder, caFile))
	if err != nil {
		return nil, err
	}
	return certs.generations(), nil
}

// RollOver makes the next key of the authority of a folder that no node has open,
// of the algorithm of the present one if it is empty, and returns all keys, newest
// first. From the next start on the new key issues,
// and the old ones answer for what they have issued. Each old key vouches for the
// new one and the new one for each old, as long as they are valid.
//
// The certificates are written last and at once: a cut before that leaves a key
// that the next RollOver takes up.
func RollOver(ctx context.Context, folder string, o Options, algorithm hsm.Algorithm) ([]Generation, error) {
	n, err := Open(ctx, folder, o)
	if err != nil {
		return nil, err
	}
	g, err := n.rollOver(ctx, algorithm)
	return g, errors.Join(err, n.Close())
}

func (n *Node) rollOver(ctx context.Context, algorithm hsm.Algorithm) ([]Generation, error) {
	if !n.hasKeys() {
		return nil, n.elsewhere()
	}
	if err := n.peers.leads(); err != nil {
		return nil, err
	}
	certs, err := readAuthority(n.path(caFile))
	if err != nil {
		return nil, err
	}
	if algorithm == "" {
		algorithm = keyAlgorithm(certs.roots[0])
	}
	if err := checkCAKey(algorithm); err != nil {
		return nil, err
	}
	if len(certs.roots) >= maxGenerations {
		return nil, fmt.Errorf("the authority has had %d keys: no more fit", len(certs.roots))
	}
	next := len(certs.roots) + 1
	event := audit.Event{Name: "CA_KEY_ROLLOVER", Outcome: audit.Attempt, Fields: map[string]string{
		"generation": strconv.Itoa(next), "key": string(algorithm),
	}}
	if err := n.Audit.Record(ctx, event); err != nil {
		return nil, fmt.Errorf("recording what is about to be done: %w", err)
	}
	err = n.addGeneration(ctx, &certs, algorithm)
	event.Outcome = audit.Success
	if err != nil {
		event.Outcome, event.Fields["info"] = audit.Failure, err.Error()
	}
	if err := errors.Join(err, n.Audit.Record(ctx, event)); err != nil {
		return nil, err
	}
	return certs.generations(), nil
}

// addGeneration makes key and certificates, and writes those.
func (n *Node) addGeneration(ctx context.Context, certs *caCertificates, algorithm hsm.Algorithm) error {
	label := caLabel(len(certs.roots) + 1)
	signer, err := makeCAKey(ctx, n.vault, label, algorithm)
	if err != nil {
		return err
	}
	der, err := ca.Create(ctx, ca.RootConfig{Signer: signer, Subject: certs.roots[0].Subject})
	if err != nil {
		return err
	}
	for i, old := range certs.roots {
		if !time.Now().Before(old.NotAfter) {
			continue
		}
		oldSigner, err := n.signers.Signer(ctx, caLabel(certs.number(i)))
		if err != nil {
			return fmt.Errorf("finding key %d of the certificate authority: %w", certs.number(i), err)
		}
		byOld, err := ca.CrossCertify(ctx, oldSigner, old.Raw, der, time.Now)
		if err != nil {
			return err
		}
		byNew, err := ca.CrossCertify(ctx, signer, der, old.Raw, time.Now)
		if err != nil {
			return err
		}
		certs.cross = append(certs.cross, byOld, byNew)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("decoding the authority's certificate: %w", err)
	}
	certs.roots = slices.Insert(certs.roots, 0, root)
	return sealing.WriteFile(n.path(caFile), certs.encode(), 0o644)
}

// caKeys are the kinds of key that an authority can have.
const caKeys = "ec-p256, ec-p384, rsa-3072 or rsa-4096"

// checkCAKey refuses a kind of key before one is in the HSM for good.
func checkCAKey(algorithm hsm.Algorithm) error {
	if algorithm == hsm.RSA2048 {
		return fmt.Errorf("%s is too short for an authority: take %s", algorithm, caKeys)
	}
	return nil
}

// makeCAKey makes a key of the authority, or takes the one that a cut attempt left.
func makeCAKey(ctx context.Context, v sealing.Vault, label hsm.SignerLabel, algorithm hsm.Algorithm) (crypto.Signer, error) {
	signer, err := v.GenerateSigner(ctx, label, algorithm)
	if errors.Is(err, hsm.ErrExists) {
		signer, err = v.Signer(ctx, label)
	}
	var missing *hsm.MechanismError
	switch {
	case errors.As(err, &missing):
		return nil, fmt.Errorf("making the authority's key: %w. Choose another kind of key for it: %s", err, caKeys)
	case err != nil:
		return nil, fmt.Errorf("making the authority's key: %w", err)
	}
	return signer, nil
}

func createAuthority(ctx context.Context, v sealing.Vault, path func(string) string, a Answers) error {
	if a.CAKey == "" {
		a.CAKey = hsm.P256
	}
	if err := checkCAKey(a.CAKey); err != nil {
		return err
	}
	signer, err := makeCAKey(ctx, v, caLabel(1), a.CAKey)
	if err != nil {
		return err
	}
	if _, err := os.Stat(path(caFile)); err == nil {
		return nil
	}
	subject := subjectBase(a.Config.CA)
	if subject.CommonName = a.CAName; subject.CommonName == "" {
		subject.CommonName = "Inkan CA " + a.Config.Node.Name
	}
	der, err := ca.Create(ctx, ca.RootConfig{Signer: signer, Subject: subject})
	if err != nil {
		return err
	}
	return sealing.WriteFile(path(caFile), pemOf("CERTIFICATE", der), 0o644)
}
