package tps

import (
	"cmp"
	"fmt"

	"inkan/tps/profile"
)

// labels are the names of the card and of its keys, in the order of the profile.
func (f Facts) labels() (card string, keys []string, err error) {
	vars := f.variables()
	if card, err = profile.Expand(f.Profile.Enroll.Label, vars); err != nil {
		return "", nil, within(StatusMisconfiguration, "", fmt.Errorf("label of the card: %w", err))
	}
	for _, k := range f.Profile.Key {
		label, err := profile.Expand(k.Label, vars)
		if err != nil {
			return "", nil, within(StatusMisconfiguration, "", fmt.Errorf("label of the %s key: %w", k.Type, err))
		}
		keys = append(keys, label)
	}
	return card, keys, nil
}

// variables are what patterns of labels may name (§4.4). A person without a name
// is called by the user id.
func (f Facts) variables() map[string]string {
	p := f.Holder
	v := map[string]string{
		"userid": string(p.ID), "cuid": f.Card.CUID.String(), "pretty_cuid": f.Card.CUID.Pretty(),
		"msn": f.Card.MSN, "profileId": string(f.Profile.Name),
		"auth.cn": cmp.Or(p.Name, string(p.ID)),
	}
	for name, value := range map[string]string{"auth.mail": p.Mail, "auth.upn": p.UPN} {
		if value != "" {
			v[name] = value
		}
	}
	for name, value := range p.Attributes {
		v["auth."+name] = value
	}
	return v
}
