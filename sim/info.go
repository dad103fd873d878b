package sim

import (
	"inkan/apdu"
	agp "inkan/apdu/gp"
	apiv "inkan/apdu/piv"
	"inkan/sim/gp"
	"inkan/sim/piv"
)

// Oddity is a deviation from the norm, in words.
type Oddity = gp.Oddity

// Info says what a card is.
type Info struct {
	Model    string
	ATR      apdu.ATR
	CUID     apdu.CUID
	KDD      agp.KDD
	ISD      apdu.AID           // of the card manager; empty without one
	Channels []gp.ChannelOption // the preferred one first
	Oddities []Oddity           // deviations from the norm
	Path     string             // image file, empty in memory
	// Attestation is the root of the PIV applet's attestation, a certificate in DER;
	// nil without such an applet or without attestation.
	Attestation []byte
}

// Info tells what the card is. It does not disturb the card and is no exchange.
func (c *Card) Info() Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.m.Profile()
	i := Info{Model: c.model, ATR: c.atr, KDD: p.KDD, ISD: p.ISD, Channels: p.Channels, Oddities: p.Quirks.Oddities(), Path: c.cfg.Path}
	if a, ok := c.m.Applet(apiv.AID).(*piv.Applet); ok {
		i.Attestation = a.AttestationRoot()
		i.CUID = apiv.SerialCUID(a.Serial())
	}
	if cplc, err := agp.ParseCPLC(p.CPLC[:]); err == nil && !p.NoManager() {
		i.CUID = cplc.CUID()
	}
	return i
}
