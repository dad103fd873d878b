// Package piv is the PIV applet as a [tps.Family]: what tps's operations do to a PIV
// card, in the commands of apdu/piv. A card with a card manager gets PivApplet loaded
// over a secure channel; one without (a YubiKey) has its applet built in, is told from
// others by its serial number and proves itself by its management key. See
// piv-applet.md §12 and §13, NIST SP 800-73-4.
//
// The management key and the PUK are derived for each card by the key service and
// stored nowhere. PIV has no secure channel of its own: what goes to the card is as
// safe as the connection to the client.
//
// A Family holds no state of a card and is safe for concurrent use.
package piv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/tps"
	"inkan/tps/piv/attest"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// Name is the family's name in profiles.
const Name tps.FamilyName = profile.FamilyPIV

// Family implements tps.Family.
type Family struct {
	// Applets holds the load files of PivApplet, VERSION.cap or VERSION.ijc.
	Applets fs.FS
	// Attest verifies that a key was made on its card, before a certificate is asked
	// for. nil: profiles with [piv] attest are refused.
	Attest *attest.Verifier
}

var (
	_ tps.Family     = Family{}
	_ tps.Preparer   = Family{}
	_ tps.Ordered    = Family{}
	_ tps.Describer  = Family{}
	_ tps.Identifier = Family{}
	_ tps.KeyChanger = Family{}
	_ tps.Guard      = Family{}
	_ tps.PINUser    = Family{}
	_ tps.Importer   = Family{}
	_ tps.PINKeyed   = Family{}
)

// Name implements tps.Family.
func (Family) Name() tps.FamilyName { return Name }

// Algorithms of keys and of management keys, as profiles name them.
var (
	algorithms = map[string]piv.Algorithm{
		"rsa-2048": piv.RSA2048, "rsa-3072": piv.RSA3072, "rsa-4096": piv.RSA4096, "p256": piv.P256, "p384": piv.P384,
		"ed25519": piv.Ed25519, "x25519": piv.X25519,
	}
	managementKeys = map[string]piv.Algorithm{"3des": piv.TripleDES, "aes-128": piv.AES128, "aes-192": piv.AES192, "aes-256": piv.AES256}
	pinPolicies    = map[string]piv.PINPolicy{"never": piv.PINNever, "once": piv.PINOnce, "always": piv.PINAlways}
	touchPolicies  = map[string]piv.TouchPolicy{"never": piv.TouchNever, "always": piv.TouchAlways, "cached": piv.TouchCached}
)

// nameOf is an algorithm as profiles name it, empty where they cannot.
func nameOf(alg piv.Algorithm) string {
	for name, a := range algorithms {
		if a == alg {
			return name
		}
	}
	return ""
}

func slotOf(k profile.Key) piv.Slot { return piv.Slot(k.PrivateSlot()) }

func policyOf(k profile.Key) piv.Policy {
	return piv.Policy{PIN: pinPolicies[k.PINPolicy], Touch: touchPolicies[k.TouchPolicy]}
}

// NeedsPIN implements tps.PINUser.
func (Family) NeedsPIN(k profile.Key) bool { return k.NeedsPIN() }

// WantedKeys implements tps.KeyChanger.
func (Family) WantedKeys(c tps.Contents, p profile.Profile) token.AppletKeys {
	if p.PIV.KeyVersion == 0 {
		return token.AppletKeys{}
	}
	alg, named := managementKeys[p.PIV.Management]
	if own := piv.Algorithm(c.OwnAlgorithm); !named && own.Symmetric() {
		alg = own
	} else if !named {
		alg = piv.TripleDES // what every card and every host program knows
	}
	return token.AppletKeys{Set: p.PIV.KeySet, Version: keyVersion(p), Algorithm: byte(alg)}
}

// Check implements tps.Family.
func (f Family) Check(c tps.Contents, p profile.Profile) error {
	if err := f.verifies(p); err != nil {
		return err
	}
	version := c.Version
	if !c.Present {
		version = p.Applet.Version
	}
	v, err := piv.ParseVersion(version)
	if err != nil {
		return nil // of another maker: what it can do shows when it is asked
	}
	for _, k := range p.Key {
		alg, ok := algorithms[k.Alg]
		if !ok {
			return fmt.Errorf("key %s: a PIV applet has no keys of %s", k.Type, k.Alg)
		}
		if late(alg) && !v.AtLeast(5, 7, 0) {
			return tps.Fail(tps.StatusDisabledToken, fmt.Errorf("key %s: the card's applet %s makes no keys of %s", k.Type, version, k.Alg))
		}
	}
	return nil
}

// late reports an algorithm that cards have from firmware 5.7 on.
func late(a piv.Algorithm) bool {
	return a == piv.RSA3072 || a == piv.RSA4096 || a == piv.Ed25519 || a == piv.X25519
}

// MayWipe implements tps.Guard: what somebody else put on a card stays, and a card
// without card manager is reset only where the profile says so.
func (Family) MayWipe(card tps.Card, c tps.Contents, known bool, p profile.Profile) error {
	if err := foreign(c, known, p); err != nil {
		return err
	}
	holds := strings.Join(c.Holds, ", ")
	if !card.Unmanaged || holds == "" && published(card.Own) {
		return nil
	}
	if !p.PIV.Reset {
		return fmt.Errorf("the card holds %s, and can be emptied only by resetting it, which profile %s does not allow ([piv] reset)", orKeys(holds), p.Name)
	}
	if _, known := serialOf(card.CUID); !known {
		return errors.New("the card tells no serial number, so that nobody would know it again after a reset: it is left as it is")
	}
	return nil
}

// foreign refuses a card that somebody else uses, unless the profile takes such cards.
func foreign(c tps.Contents, known bool, p profile.Profile) error {
	if known || len(c.Holds) == 0 || p.PIV.WipeForeign {
		return nil
	}
	return fmt.Errorf("the card is not known here and holds %s: it is left as it is; a profile with [piv] wipe_foreign = true takes such cards", strings.Join(c.Holds, ", "))
}

func orKeys(holds string) string {
	if holds == "" {
		return "a management key of its own"
	}
	return holds
}

// Older implements tps.Ordered.
func (Family) Older(version, than string) bool {
	v, err1 := piv.ParseVersion(version)
	w, err2 := piv.ParseVersion(than)
	return err1 == nil && err2 == nil && v != w && w.AtLeast(v.Major, v.Minor, v.Patch)
}

// Versions implements tps.Describer.
func (Family) Versions(ctx context.Context, d apdu.Doer) (v profile.AppletVersions, present bool, err error) {
	if _, err := piv.Select(ctx, d); err != nil {
		return v, false, refusal(err)
	}
	w, err := piv.ReadVersion(ctx, d)
	if err != nil {
		return v, true, refusal(err)
	}
	return profile.AppletVersions{AppletMajor: int(w.Major), AppletMinor: int(w.Minor)}, true, nil
}

// forGood marks what a card answers to a command that it would answer the same way again.
func forGood(err error) error {
	return tps.FinalIf(err, apdu.SWWrongLength, apdu.SWAuthBlocked, apdu.SWWrongData, apdu.SWFuncNotSupported, apdu.SWNoMemory,
		apdu.SWIncorrectP1P2, apdu.SWReferencedNotFound, apdu.SWWrongP1P2, apdu.SWInsNotSupported)
}

// refusal turns what a card refuses into nothing and leaves every other error.
func refusal(err error) error {
	var sw apdu.StatusWord
	if errors.As(err, &sw) {
		return nil
	}
	return err
}
