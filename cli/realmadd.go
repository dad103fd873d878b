package cli

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/urfave/cli/v2"

	"inkan/apdu/secret"
	"inkan/tps/api"
	"inkan/tps/realm"
)

func (p *program) addRealmKey(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	in := api.NewRealmKey{Name: c.String("name"), Use: c.String("use"), Provider: string(realm.Generated), Algorithm: c.String("algorithm"), Bits: c.Int("bits"),
		Priority: c.Int64("priority"), Passive: c.Bool("passive"), Alias: c.String("alias"), Label: c.String("hsm-label"), AllowExpired: c.Bool("allow-expired")}
	sources := 0
	for flag, provider := range map[string]realm.Provider{"pem": realm.PEM, "keystore": realm.Keystore, "hsm-label": realm.PKCS11} {
		if c.IsSet(flag) {
			in.Provider = string(provider)
			sources++
		}
	}
	if sources > 1 {
		return usagef("--pem, --keystore and --hsm-label do not go together")
	}
	if file := c.String("certificates"); file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		in.Certificates = string(b)
	}
	body, err := p.realmKeyBody(c, in)
	if err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var k api.RealmKey
		if err := r.call(c.Context, request{method: http.MethodPost, path: "/realm/keys", body: body, out: &k}); err != nil {
			return err
		}
		return p.print(c, k, func(w io.Writer) {
			fmt.Fprintf(w, "Added key %s, %s, kid %s.\n", k.Name, k.State, k.KID)
			if !k.Signing {
				fmt.Fprintf(w, "It does not sign: %s.\n", whyNot(k))
			}
		})
	})
}

func whyNot(k api.RealmKey) string {
	if k.State != string(realm.Active) {
		return "it is " + k.State
	}
	return "another key has a higher priority, or the same and is older"
}

// realmKeyBody puts the secrets into the request.
func (p *program) realmKeyBody(c *cli.Context, in api.NewRealmKey) ([]byte, error) {
	switch in.Provider {
	case string(realm.PEM):
		b, err := os.ReadFile(c.String("pem"))
		if err != nil {
			return nil, err
		}
		material := secret.New(b)
		defer material.Wipe()
		body, err := api.EncodeSecret(in, "material", material)
		if err != nil {
			return nil, err
		}
		return p.addKeyPassword(c, body)
	case string(realm.Keystore):
		return p.keystoreBody(c, in)
	}
	return api.EncodeSecret(in, "material", secret.New([]byte{}))
}

func (p *program) keystoreBody(c *cli.Context, in api.NewRealmKey) ([]byte, error) {
	b, err := os.ReadFile(c.String("keystore"))
	if err != nil {
		return nil, err
	}
	defer clear(b)
	material := secret.New(base64.StdEncoding.AppendEncode(nil, b))
	defer material.Wipe()
	store, err := p.secretFrom(c.Context, c.String("password-file"), "Password of the key store")
	if err != nil {
		return nil, err
	}
	defer store.Wipe()
	body, err := api.EncodeSecret(in, "material", material)
	if err == nil {
		body, err = api.AddSecret(body, "storePassword", store)
	}
	if err != nil {
		return nil, err
	}
	return p.addKeyPassword(c, body)
}

// addKeyPassword adds the password of the key itself, where there is one.
func (p *program) addKeyPassword(c *cli.Context, body []byte) ([]byte, error) {
	if !c.IsSet("key-password-file") {
		return body, nil
	}
	key, err := p.readSecret(c.String("key-password-file"))
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	return api.AddSecret(body, "keyPassword", key)
}
