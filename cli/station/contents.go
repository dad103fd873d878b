package station

import "fmt"

// Contents is what a card carries that belongs to a person, in CoolKey's applet or in
// PIV's: the one with certificates, else CoolKey's. It is nil on a card with neither
// applet. The PIN is "none" while it is the factory's. Retired keys are not in it.
func (i Info) Contents() *Applet {
	if i.Applet != nil && (i.PIV == nil || len(i.Applet.Certificates) > 0) {
		return i.Applet
	}
	if i.PIV == nil {
		return nil
	}
	if p := i.PIV.contents(); i.Applet == nil || len(p.Certificates) > 0 {
		return p
	}
	return i.Applet
}

func (p *PIV) contents() *Applet {
	a := &Applet{Kind: "PIV", Version: p.Version, Label: p.Label, PIN: "set"}
	switch {
	case p.blocked:
		a.PIN = "blocked"
	case p.factoryPIN:
		a.PIN = "none"
	case p.PIN != "":
		a.PIN = "set, " + p.PIN
	}
	for _, s := range p.Slots {
		if s.cert != nil && !s.Retired {
			a.Certificates = append(a.Certificates, Certificate{
				Label: s.Purpose, Subject: s.Subject, Issuer: s.Issuer, Serial: fmt.Sprintf("%X", s.cert.SerialNumber),
				Key: s.Key, NotAfter: s.cert.NotAfter, cert: s.cert,
			})
		}
	}
	return a
}

// LooseKeys is how many keys of PIV have no certificate, but for retired ones.
func (i Info) LooseKeys() int {
	return i.slots(func(s PIVSlot) bool { return s.cert == nil && s.Key != "" && !s.Retired })
}

// RetiredKeys is how many former keys of PIV the card keeps, to read what was encrypted
// to them.
func (i Info) RetiredKeys() int {
	return i.slots(func(s PIVSlot) bool { return s.Retired })
}

// slots counts the slots of PIV that are in use and as they are asked for.
func (i Info) slots(are func(PIVSlot) bool) (n int) {
	if i.PIV == nil {
		return 0
	}
	for _, s := range i.PIV.Slots {
		if are(s) {
			n++
		}
	}
	return n
}
