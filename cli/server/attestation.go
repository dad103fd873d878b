package server

import (
	"crypto/x509"
	"fmt"
	"os"

	"inkan/tps/piv/attest"
)

// openAttestation reads whose attestations count. There is no verifier in a build that
// has no maker's roots, unless the site names roots.
func (n *Node) openAttestation() (err error) {
	v := &attest.Verifier{Makers: makers, Simulated: n.Config.Node.Lab && n.Config.TPS.AllowSimulator}
	c := n.Config.Attestation
	if v.Roots, err = n.roots(c.Roots, v.Simulated); err != nil {
		return fmt.Errorf("[attestation] roots: %w", err)
	}
	if v.Intermediates, err = n.roots(c.Intermediates, v.Simulated); err != nil {
		return fmt.Errorf("[attestation] intermediates: %w", err)
	}
	if v.Makers != nil || len(v.Roots) > 0 {
		n.Attest = v.Verify
	}
	return nil
}

func (n *Node) roots(files []string, simulated bool) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for _, f := range files {
		b, err := os.ReadFile(n.path(f))
		if err != nil {
			return nil, err
		}
		cs, err := attest.ParseRoots(b, simulated)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		all = append(all, cs...)
	}
	return all, nil
}
