package coolkey

import (
	"context"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/coolkey"
	"inkan/apdu/secret"
	"inkan/securechannel"
	"inkan/tps/profile"
)

// Applets that take keys at all, and those that take them wrapped by AES
// (coolkey-applet.md §14.3).
var (
	firstImport = coolkey.Version{Major: 1, Minor: 3}
	firstAES    = coolkey.Version{Major: 1, Minor: 5, Build: 0x64260792}
)

// CanImport implements tps.Importer.
func (Family) CanImport(version string) error {
	v, err := coolkey.ParseVersion(version)
	if err != nil {
		return err
	}
	if v.Compare(firstImport) < 0 {
		return fmt.Errorf("the card's applet %s takes no keys that were made elsewhere, those from 1.3 on do", version)
	}
	return nil
}

// ImportKey implements tps.Applet: the key travels under a transport key that
// only this card can decrypt, and the object it came in is deleted (DEF-73).
func (a *applet) ImportKey(ctx context.Context, k profile.Key, pkcs8 secret.Secret) error {
	s, err := a.channel(ctx)
	if err != nil {
		return err
	}
	alg, err := a.wrapping(ctx, s.Info().Protocol)
	if err != nil {
		return err
	}
	transport := secret.Random(16)
	defer transport.Wipe()
	w, err := coolkey.WrapPrivateKey(alg, transport, pkcs8)
	if err != nil {
		return err
	}
	wrapped, err := a.link.Keys().Encrypt(ctx, transport)
	if err != nil {
		return err
	}
	if err := coolkey.ImportEncrypted(ctx, s, slots(k), coolkey.Import{WrappedPrivateKey: w, TransportKey: wrapped}); err != nil {
		return forGood(err)
	}
	return coolkey.DeleteObject(ctx, s, coolkey.Channel(), coolkey.IDImport, coolkey.Zeroize)
}

// wrapping is how a private key is wrapped: by AES where the channel and the applet have
// it, else by DES, which every applet knows under any channel (DEF-31).
func (a *applet) wrapping(ctx context.Context, channel securechannel.Protocol) (coolkey.ImportAlgorithm, error) {
	if channel != securechannel.SCP03 {
		return coolkey.ImportDES, nil
	}
	d, err := apdu.ReadAhead(ctx, a.link.Doer(), coolkey.VersionEntries())
	if err != nil {
		return 0, err
	}
	v, err := coolkey.ReadVersion(ctx, d)
	if err != nil {
		return 0, err
	}
	if v.Compare(firstAES) < 0 {
		return coolkey.ImportDES, nil
	}
	return coolkey.ImportAESKWP, nil
}
