package coolkey

import (
	"context"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/coolkey"
	"inkan/tps"
	"inkan/tps/profile"
)

var _ tps.IssuerWriter = (*applet)(nil)

// WriteIssuer implements tps.IssuerWriter.
func (a *applet) WriteIssuer(ctx context.Context) error {
	s, err := a.channel(ctx)
	if err != nil {
		return err
	}
	es, err := issuerEntries(a.profile)
	if err != nil {
		return err
	}
	rs, err := apdu.RunAll(ctx, s, es)
	if err == nil {
		err = checkIssuer(a.profile, rs)
	}
	if err != nil {
		return fmt.Errorf("writing the issuer's address: %w", err)
	}
	return nil
}

// issuerEntries write the issuer's address and read it back. A profile without one
// has nothing written (DEF-52).
func issuerEntries(p profile.Profile) ([]apdu.Entry, error) {
	if p.Applet.IssuerURL == "" {
		return nil, nil
	}
	c, err := coolkey.SetIssuerInfoCommand(p.Applet.IssuerURL)
	if err != nil {
		return nil, err
	}
	es := []apdu.Entry{{Command: c}}
	if p.Compat.ReadBack {
		es = append(es, apdu.Entry{Command: coolkey.ReadIssuerInfoCommand(), Mode: apdu.Plain})
	}
	return es, nil
}

// checkIssuer compares what was read back, the last of rs, with what was written.
func checkIssuer(p profile.Profile, rs []apdu.Response) error {
	if p.Applet.IssuerURL == "" || !p.Compat.ReadBack || len(rs) == 0 {
		return nil
	}
	got, err := coolkey.IssuerInfoOf(rs[len(rs)-1])
	if err != nil {
		return err
	}
	if got != p.Applet.IssuerURL {
		return fmt.Errorf("the card holds %q, not the issuer's address %q", got, p.Applet.IssuerURL)
	}
	return nil
}
