package gp

import (
	"errors"
	"fmt"

	"inkan/apdu"
	agp "inkan/apdu/gp"
	"inkan/securechannel"
)

// Profile is what a software card is by birth: a card model with a serial
// number applied. The image keeps a copy, so a model changed later leaves old
// cards as they are. The keys in it are the software card's own and protect
// nothing but the software card.
type Profile struct {
	ISD      apdu.AID        // AID of the card manager; none = see NoManager
	Channels []ChannelOption // the first is what tag 66 reports first
	CPLC     [42]byte        // value of GET DATA 9F7F
	KDD      agp.KDD         // first ten bytes of the INITIALIZE UPDATE answer
	Version  []byte          // GlobalPlatform version of tag 66, 02 02 01 01 = 2.1.1
	State    byte            // life cycle of the card, 07 = INITIALIZED
	Memory   int             // bytes for load files and instances
	Keys     []KeySet        // present at birth; the first is the default set
	Applets  []PresetApplet  // installed at birth
	Quirks   Quirks          // deviations from the norm
}

// NoManager reports a card without a card manager, as YubiKeys are: it has the
// applets it was born with and nothing else, for ever. Of such a profile only
// Applets and Quirks count.
func (p *Profile) NoManager() bool { return p.ISD.Len() == 0 }

// ChannelOption is a secure channel protocol with its implementation option.
type ChannelOption struct {
	Protocol securechannel.Protocol
	Option   securechannel.Option
}

// KeySet is a key set at birth: three keys of one type and length.
type KeySet struct {
	Version       agp.KeyVersion
	Type          KeyType
	ENC, MAC, DEK []byte
}

// PresetApplet is an application that is on the card from birth. Its load file
// has no code on the card.
type PresetApplet struct {
	LoadFile, Module, Instance apdu.AID
	Params                     []byte // value of tag C9
}

// KeyType is a GlobalPlatform key type code (Card Specification 2.3.1 table 11-16).
type KeyType byte

// Key types of secure channel keys. AES keys differ by length only.
const (
	DES3 KeyType = 0x80
	AES  KeyType = 0x88
)

// String names the type as card models do, without the length.
func (t KeyType) String() string {
	switch t {
	case DES3:
		return "des3"
	case AES:
		return "aes"
	}
	return fmt.Sprintf("type %02X", byte(t))
}

// Check reports the first thing that makes p no card.
func (p *Profile) Check() error {
	if p.NoManager() {
		return p.checkFixed()
	}
	if n := p.ISD.Len(); n < 5 {
		return fmt.Errorf("AID of the card manager of %d bytes", n)
	}
	if len(p.Channels) == 0 {
		return errors.New("no secure channel protocol")
	}
	for _, c := range p.Channels {
		if err := securechannel.CheckOption(c.Protocol, c.Option); err != nil {
			return err
		}
	}
	if !forwardFrom(stateOPReady, p.State) && p.State != stateOPReady {
		return fmt.Errorf("life cycle %02X is no state of a card", p.State)
	}
	if p.Memory < 1024 || p.Memory > 1<<24 {
		return fmt.Errorf("memory of %d bytes, want 1024 to %d", p.Memory, 1<<24)
	}
	if err := p.Quirks.check(); err != nil {
		return err
	}
	return p.checkKeys()
}

func (p *Profile) checkFixed() error {
	switch {
	case len(p.Applets) == 0:
		return errors.New("neither card manager nor applet")
	case len(p.Channels) > 0 || len(p.Keys) > 0:
		return errors.New("a card without card manager has no secure channel")
	}
	return nil
}

func (p *Profile) checkKeys() error {
	if len(p.Keys) == 0 {
		return errors.New("no key set")
	}
	seen := map[agp.KeyVersion]bool{}
	for _, k := range p.Keys {
		if seen[k.Version] || k.Version == 0 {
			return fmt.Errorf("key version %v twice or zero", k.Version)
		}
		seen[k.Version] = true
		if !k.Type.lengthOK(len(k.ENC)) || len(k.MAC) != len(k.ENC) || len(k.DEK) != len(k.ENC) {
			return fmt.Errorf("key set %v: three %v keys of one length are needed", k.Version, k.Type)
		}
		if _, ok := p.channelFor(k.Type); !ok {
			return fmt.Errorf("key set %v: no protocol of this card uses %v keys", k.Version, k.Type)
		}
	}
	return nil
}

func (t KeyType) lengthOK(n int) bool {
	switch t {
	case DES3:
		return n == 16
	case AES:
		return n == 16 || n == 24 || n == 32
	}
	return false
}

// channelFor is the protocol that keys of type t open: the first that fits.
func (p *Profile) channelFor(t KeyType) (ChannelOption, bool) {
	for _, c := range p.Channels {
		if (t == AES) == (c.Protocol == securechannel.SCP03) {
			return c, true
		}
	}
	return ChannelOption{}, false
}
