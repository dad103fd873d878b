// Package coolkey drives the CoolKey applet: one function per command of the
// applet with typed answers, and the codec of the combined object z0 in which
// a token's certificates and key descriptions stand.
//
// Most callers [Select] the applet, ask for its [ReadStatus] and [ListObjects],
// and read the combined object with [ReadObject] and [Decode].
//
// A command runs either as the registration authority, through a secure channel
// ([Channel]; the Doer is then the channel's session), or plain with a nonce
// ([Login], [Anonymous]). Commands that the applet knows in the plain form only
// are sent unwrapped even through a session: it is asked for mode
// [apdu.Plain]. Functions named …Command and …Entries build commands without
// sending them, for lists run by an [apdu.Batcher]. Every command that answers
// data has an Ne; whoever talks to a card that wants none strips it.
//
// Implemented after the 1.4 applet, its later import forms (AES-KWP, AES-CBC),
// and the elliptic curve commands that clients know (INS 0D, 37, 38). Not
// implemented, because no applet since 1.3 has them: UNBLOCK PIN, READ IO
// BUFFER, key export.
//
// Nothing in the package holds state; its functions are safe for concurrent use
// as far as the Doer is. Lengths are in bytes unless a name says bits.
package coolkey

import (
	"context"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/secret"
)

// Application identifiers as text, for [apdu.MustAID] and configuration.
const (
	InstanceAIDText = "627601FF000000" // applet class and instance
	PackageAIDText  = "627601FF0000"   // load file
)

// InstanceAID is the identifier of the applet's class and instance.
func InstanceAID() apdu.AID { return apdu.MustAID(InstanceAIDText) }

// PackageAID is the identifier of the applet's load file.
func PackageAID() apdu.AID { return apdu.MustAID(PackageAIDText) }

// Class bytes of the applet.
const (
	claPlain  = 0xB0
	claSecure = 0x84
)

// MaxPiece is the largest number of object bytes in one command of the builders:
// with C-MAC, C-ENC and padding it fits a short APDU of every protocol.
const MaxPiece = 0xD0

// NonceLen is the length of a nonce.
const NonceLen = 8

// Nonce is the proof of a login, given out by VERIFY PIN, 8 bytes. It is a bearer
// token and does not print. The zero value is nobody's.
type Nonce struct{ secret.Secret }

// NewNonce makes a nonce of its bytes.
func NewNonce(b [NonceLen]byte) Nonce { return Nonce{secret.New(b[:])} }

// Access says on whose behalf a command runs. The zero value is [Channel].
type Access struct {
	plain bool
	nonce Nonce
}

// Channel is the registration authority: class 84, through an open secure channel.
func Channel() Access { return Access{} }

// Login is whoever holds the nonce of a verified PIN: class B0.
func Login(n Nonce) Access { return Access{plain: true, nonce: n} }

// Anonymous is anyone: class B0 with a zero nonce.
func Anonymous() Access { return Access{plain: true} }

// command builds a command of the nonce set. ne is the number of bytes expected;
// through a channel that becomes Le = 00.
func (a Access) command(ins, p1, p2 byte, data []byte, ne int) apdu.Command {
	if !a.plain {
		if ne > 0 {
			ne = apdu.MaxShortNe
		}
		return apdu.Command{CLA: claSecure, INS: ins, P1: p1, P2: p2, Data: data, Ne: ne}
	}
	d := make([]byte, len(data)+NonceLen)
	copy(d, data)
	copy(d[len(data):], a.nonce.Bytes())
	return apdu.Command{CLA: claPlain, INS: ins, P1: p1, P2: p2, Data: d, Ne: ne}
}

func (a Access) entry(c apdu.Command) apdu.Entry {
	if a.plain {
		return apdu.Entry{Command: c, Mode: apdu.Plain}
	}
	return apdu.Entry{Command: c}
}

func plain(ins, p1, p2 byte, data []byte, ne int) apdu.Command {
	return apdu.Command{CLA: claPlain, INS: ins, P1: p1, P2: p2, Data: data, Ne: ne}
}

func secure(ins, p1, p2 byte, data []byte, ne int) apdu.Command {
	return apdu.Command{CLA: claSecure, INS: ins, P1: p1, P2: p2, Data: data, Ne: ne}
}

// send runs c; class B0 and 00 never go wrapped.
func send(ctx context.Context, d apdu.Doer, c apdu.Command) (apdu.Response, error) {
	if c.CLA == claSecure {
		return d.Do(ctx, c)
	}
	rs, err := apdu.DoAll(ctx, d, apdu.Entries(apdu.Plain, c))
	if err == nil && len(rs) != 1 {
		err = fmt.Errorf("%d answers to one command", len(rs))
	}
	if err != nil {
		return apdu.Response{}, err
	}
	return rs[0], nil
}

// call runs c and demands 9000 and at least min bytes of data.
func call(ctx context.Context, d apdu.Doer, what string, c apdu.Command, min int) ([]byte, error) {
	r, err := send(ctx, d, c)
	if err == nil {
		err = r.Check(c)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, named(err))
	}
	if len(r.Data) < min {
		return nil, fmt.Errorf("%s: answer of %d bytes, want %d", what, len(r.Data), min)
	}
	return r.Data, nil
}

// Select makes the applet's default instance the selected application.
func Select(ctx context.Context, d apdu.Doer) error {
	_, err := call(ctx, d, "selecting the CoolKey applet", SelectCommand(), 0)
	return err
}

// SelectCommand selects the applet's default instance. It carries no Le: the
// answer is 9000 without data.
func SelectCommand() apdu.Command {
	return apdu.Command{CLA: 0x00, INS: 0xA4, P1: 0x04, Data: InstanceAID().Bytes()}
}
