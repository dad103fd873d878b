package tps

import (
	"context"
	"fmt"

	"inkan/tps/profile"
)

// The issuer's address on a card tells a client that knows nothing yet where to
// ask for its services (tps-operations §3.1 step 10, §4.1 step 20). It is written
// into every new applet, and by an enrollment where the applet stays and holds
// another one. A profile without address writes none.

// withIssuer expands the address's pattern for a card.
func withIssuer(p profile.Profile, c Card) (profile.Profile, error) {
	url, err := p.Applet.Issuer(map[string]string{
		"cuid": c.CUID.String(), "pretty_cuid": c.CUID.Pretty(), "msn": c.MSN, "profileId": string(p.Name),
	})
	if err != nil {
		return p, within(StatusMisconfiguration, "resolve-profile", fmt.Errorf("profile %s: %w", p.Name, err))
	}
	p.Applet.IssuerURL = url
	return p, nil
}

// wantsIssuer reports whether an applet that stays is to get another address.
func (f Facts) wantsIssuer() bool {
	url := f.Profile.Applet.IssuerURL
	return url != "" && url != f.Contents.IssuerURL
}

func writeIssuerStep(f Facts) Step {
	return Step{Name: StepWriteIssuer, Kind: Irreversible, Weight: 1, Task: "PROGRESS_ISSUER_INFO", Event: "TOKEN_ISSUER_INFO",
		Fail: StatusApplet, Intent: map[string]string{"from": f.Contents.IssuerURL, "to": f.Profile.Applet.IssuerURL},
		Do: func(ctx context.Context, r *run) error {
			a, err := r.personalize(ctx)
			if err != nil {
				return err
			}
			w, ok := a.(IssuerWriter)
			if !ok {
				return fmt.Errorf("an applet of the family %s holds no issuer's address", r.profile.Family)
			}
			return w.WriteIssuer(ctx)
		}}
}
