package cli

import (
	"context"
	"encoding/base32"
	"encoding/hex"

	"inkan/apdu/secret"
	"inkan/cli/station"
	"inkan/tps/auth"
	"inkan/tps/profile"
)

// demoPerson answers what the server asks, and tells the progress.
type demoPerson struct {
	demo *demo
	last string
}

func (q *demoPerson) Login(context.Context, auth.Form) (auth.Answers, error) {
	return auth.Answers{auth.FieldUser: secret.New([]byte("demo")), auth.FieldPassword: q.demo.password.Clone()}, nil
}

func (q *demoPerson) NewPIN(context.Context, int, int) (secret.PIN, error) {
	return secret.PIN{Secret: q.demo.pin.Clone()}, nil
}

func (q *demoPerson) Progress(percent int, task string) {
	if t := station.Task(task); t != q.last {
		q.last = t
		q.demo.say("%3d%%  %s", percent, t)
	}
}

// randomPassword has 100 random bits.
func randomPassword() secret.Secret {
	raw := secret.Random(15)
	defer raw.Wipe()
	text := make([]byte, base32.StdEncoding.EncodedLen(raw.Len()))
	base32.StdEncoding.Encode(text, raw.Bytes())
	return secret.New(text)
}

// randomDigits is a PIN that no rule calls simple.
func randomDigits() secret.PIN {
	for {
		raw := secret.Random(4)
		text := make([]byte, hex.EncodedLen(raw.Len()))
		for i, b := range raw.Bytes() {
			text[2*i], text[2*i+1] = '0'+b%10, '0'+(b/16)%10
		}
		raw.Wipe()
		pin := secret.PIN{Secret: secret.New(text)}
		if (profile.PIN{Min: 4, Max: 10, Kinds: 1}).Check(pin, "demo", "Demo Person") == nil {
			return pin
		}
	}
}
