package profile

import (
	"slices"
)

// Who makes a key pair.
const (
	MadeByCard   = "card"
	MadeByServer = "server"
)

// ServerMade reports whether the server makes the key pair and the card imports it.
func (k Key) ServerMade() bool { return k.Made == MadeByServer }

// validateMade checks who makes a key: one that signs is made on the card, because
// nobody else may ever have had it (tps-operations.md §5.4).
func (k Key) validateMade(c *check) {
	at := "key \"" + k.Type + "\": "
	c.oneOf(at+"made", k.Made, MadeByCard, MadeByServer)
	c.that(!k.Archive || k.ServerMade(), "%sarchive: a key that the card makes does not leave it; want made = %q", at, MadeByServer)
}

// validateMadeCoolKey checks what a CoolKey profile lets the server make.
func (k Key) validateMadeCoolKey(c *check) {
	signs := slices.ContainsFunc(k.Private, func(s string) bool { return s == "sign" || s == "signRecover" })
	c.that(!k.ServerMade() || !signs, "key %q: made = %q, but private lets it sign: the card makes such keys", k.Type, k.Made)
}

// validateMadePIV checks what a PIV profile lets the server make.
func (k Key) validateMadePIV(c *check, v PIV) {
	if !k.ServerMade() {
		return
	}
	c.that(k.Slot == "9D", "key %q: made = %q is for keys in slot 9D; the card makes those that sign", k.Type, k.Made)
	c.that(k.Alg != "ed25519", "key %q: made = %q, but ed25519 only signs: the card makes such keys", k.Type, k.Made)
	c.that(!v.Attest, "key %q: made = %q, but piv.attest demands that the card attests it, which it does for its own keys alone", k.Type, k.Made)
	c.that(v.PlainImport, "key %q: made = %q, but PIV has no secure channel, so the key goes to the card in the clear: want piv.plain_import = true to allow that", k.Type, k.Made)
}
