package station

// Carried are the certificates that the card has, of its CoolKey applet or in the slots
// of PIV but for the retired ones.
func (i Info) Carried() []Certificate {
	if i.Applet != nil && len(i.Applet.Certificates) > 0 || i.PIV == nil {
		if i.Applet == nil {
			return nil
		}
		return i.Applet.Certificates
	}
	var cs []Certificate
	for _, s := range i.PIV.Slots {
		if s.cert != nil && !s.retired {
			cs = append(cs, Certificate{Label: s.Purpose, Subject: s.Subject, Issuer: s.Issuer, Key: s.Key, NotAfter: *s.NotAfter, cert: s.cert})
		}
	}
	return cs
}

// PINState is what the card tells of its PIN: none, blocked, or the tries left; empty
// where it tells nothing.
func (i Info) PINState() string {
	switch {
	case i.Applet != nil:
		return i.Applet.PIN
	case i.PIV != nil:
		return i.PIV.PIN
	}
	return ""
}
