package pkcs11

// TokenInfo is what a token says of itself before anybody logs in.
type TokenInfo struct {
	Label, Serial, Model, Manufacturer string
	PINState                           string // empty; or what to know before a PIN is tried
}

// URI is the URI of the token in a module.
func (t TokenInfo) URI(module string) URI {
	return URI{ModulePath: module, Token: t.Label, Serial: t.Serial}
}
