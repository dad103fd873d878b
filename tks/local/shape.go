package local

import (
	"fmt"

	"inkan/securechannel"
	"inkan/securechannel/scp01"
	"inkan/securechannel/scp02"
	"inkan/securechannel/scp03"
	"inkan/tks"
)

// checkShape checks the lengths of a proof against its protocol and option.
func checkShape(p tks.CardProof) error {
	n, challenge, counter := 8, 8, 0
	switch p.Protocol {
	case securechannel.SCP01:
		if err := scp01.Option(p.Option).Check(); err != nil {
			return err
		}
	case securechannel.SCP02:
		if err := scp02.Option(p.Option).Check(); err != nil {
			return err
		}
		challenge, counter = 6, 2
	case securechannel.SCP03:
		o := scp03.Option(p.Option)
		if err := o.Check(); err != nil {
			return err
		}
		n, challenge = o.Size(), o.Size()
		if o&scp03.PseudoRandom != 0 {
			counter = 3
		}
	}
	for _, f := range []struct {
		name      string
		got, want int
	}{
		{"host challenge", len(p.HostChallenge), n},
		{"card challenge", len(p.CardChallenge), challenge},
		{"card cryptogram", len(p.CardCryptogram), n},
		{"sequence counter", len(p.Counter), counter},
	} {
		if f.got != f.want {
			return fmt.Errorf("%v i=%v: %s of %d bytes, want %d", p.Protocol, p.Option, f.name, f.got, f.want)
		}
	}
	return nil
}
