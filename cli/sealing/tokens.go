package sealing

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"inkan/tks/hsm/pkcs11"
	"inkan/tps/seal"
)

// Token is a token that a sealing key can be in.
type Token struct {
	URI      string // without pin-source
	Label    string
	Serial   string
	Model    string
	PINState string // empty; or what to know before a PIN is tried
	Reserved string // x-init-reserved of the URI
}

// Tokens lists the tokens of a PKCS #11 module without logging in. The module has to
// be a file that not everybody may change; reserved is x-init-reserved of its URI, mostly
// empty.
func Tokens(module, reserved string) ([]Token, error) {
	if !filepath.IsAbs(module) {
		return nil, &seal.Error{Code: seal.DependencyMissing, Cause: fmt.Errorf("%q is not the absolute path of a PKCS #11 module", module)}
	}
	st, err := os.Stat(module)
	if err != nil {
		return nil, coded(err)
	}
	if runtime.GOOS != "windows" && st.Mode().Perm()&0o002 != 0 {
		return nil, &seal.Error{Code: seal.Permission, Cause: fmt.Errorf("everybody may change %s: whoever does gets the PIN", module)}
	}
	f, err := os.Open(module) // the loader does not say why it cannot
	if err != nil {
		return nil, &seal.Error{Code: seal.DependencyMissing, Cause: err, Hint: "let this user read it: add him to the group that may, and log in again"}
	}
	f.Close()
	list, err := pkcs11.Tokens(module, reserved)
	if err != nil {
		return nil, coded(err)
	}
	var out []Token
	for _, t := range list {
		u := t.URI(module)
		u.InitReserved = reserved
		out = append(out, Token{URI: u.String(), Label: t.Label, Serial: t.Serial, Model: t.Model, PINState: t.PINState, Reserved: reserved})
	}
	if len(out) == 0 {
		return nil, &seal.Error{Code: seal.HSMUnreachable, Cause: fmt.Errorf("%s shows no initialized token", module)}
	}
	return out, nil
}

// knownModules are where makers and distributions put their modules.
var knownModules = []string{
	"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so", "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib64/libsofthsm2.so", "/usr/safenet/lunaclient/lib/libCryptoki2_64.so", "/opt/nfast/toolkits/pkcs11/libcknfast.so",
	"/opt/cloudhsm/lib/libcloudhsm_pkcs11.so", "/usr/lib/x86_64-linux-gnu/pkcs11/yubihsm_pkcs11.so", "/usr/lib/libcs_pkcs11_R3.so",
}

// Modules lists the well-known PKCS #11 modules that this machine has.
func Modules() (out []string) {
	for _, m := range knownModules {
		if _, err := os.Stat(m); err == nil {
			out = append(out, m)
		}
	}
	return out
}

// TokenOf splits the URI of a site's HSM into module, token and PIN source.
func TokenOf(uri string) (module string, t Token, pinSource string, err error) {
	u, err := pkcs11.ParseURI(uri)
	if err != nil {
		return "", Token{}, "", err
	}
	if u.PINSource != "" {
		pinSource = "file:" + u.PINSource
	}
	u.PINSource = ""
	return u.ModulePath, Token{URI: u.String(), Label: u.Token, Serial: u.Serial, Reserved: u.InitReserved}, pinSource, nil
}
