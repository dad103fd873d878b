package piv

import (
	"context"
	"crypto/x509"
	"errors"

	"inkan/apdu/piv"
	"inkan/apdu/secret"
	"inkan/tps/profile"
)

// CanImport implements tps.Importer. IMPORT KEY is of the makers whose applets tell a
// version (INS FE and FD): YubiKeys and PivApplet. What algorithms they have Check knows.
func (Family) CanImport(version string) error {
	if _, err := piv.ParseVersion(version); err != nil {
		return errors.New("the card's applet tells no version, and such applets take no keys that were made elsewhere")
	}
	return nil
}

// ImportKey implements tps.Applet, on cards that take keys (INS FE). PIV has no secure
// channel: between reader and card the key is in the clear, which the profile allows
// ([piv] plain_import).
func (a *applet) ImportKey(ctx context.Context, k profile.Key, pkcs8 secret.Secret) error {
	key, err := x509.ParsePKCS8PrivateKey(pkcs8.Bytes())
	if err != nil {
		return errors.New("the key to be imported is no PKCS #8 key") // the parser's error may show bytes
	}
	if err := a.retire(ctx, k); err != nil {
		return forGood(err)
	}
	return forGood(piv.Import(ctx, a.link.Doer(), slotOf(k), key, policyOf(k)))
}
