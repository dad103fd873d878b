package peer

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"path/filepath"

	"inkan/apdu/durable"
)

// revocations writes the list again where it has changed, at the start, and each day.
func (n *Node) revocations(ctx context.Context, v *view) error {
	key := fmt.Sprint(v.rec.State.CAs[0].Epoch, n.now().Unix()/(24*60*60), v.rec.State.Revoked)
	if n.crl == key {
		return nil
	}
	if err := n.writeCRL(ctx); err != nil {
		return err
	}
	n.crl = key
	return nil
}

// writeCRL keeps the revocation list of the current CA beside the record, for
// programs that want a file; peers go by the state.
func (n *Node) writeCRL(ctx context.Context) error {
	a, ca, key, err := n.signer(ctx)
	if err != nil {
		return err
	}
	s, now := n.view.Load().rec.State, n.now()
	t := &x509.RevocationList{Number: new(big.Int).SetUint64(s.Epoch), ThisUpdate: now, NextUpdate: now.Add(n.cfg.Life)}
	for _, r := range s.Revoked {
		if serial, ok := new(big.Int).SetString(r.Serial, 16); ok && r.CA == a.Epoch {
			t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: r.At})
		}
	}
	der, err := x509.CreateRevocationList(rand.Reader, t, ca, key)
	if err != nil {
		return fmt.Errorf("signing the array's revocation list: %w", err)
	}
	if err := n.at("CRL: before"); err != nil {
		return err
	}
	return durable.ReplaceFile(filepath.Join(n.cfg.Dir, crlFile), der, 0o600)
}
