// Package tks is the contract of the token key service and nothing else: who
// wants card keys asks a [Service]; tks/local answers in process, another
// node over mutual TLS.
//
// The trust line of the product runs here. Master keys and card key sets exist
// only behind Service. Every request with a [CardProof] verifies the card's
// cryptogram before anything is handed out, and the proof travels with each
// request: the service keeps no session. The data encryption key of a card
// never leaves: what must be encrypted under it goes through Encrypt or
// WrapKeySet.
//
// Implementations are safe for concurrent use.
package tks

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/securechannel"
)

// Service is the token key service.
type Service interface {
	// Random returns n random bytes of the HSM, 1 ≤ n ≤ 1024.
	Random(ctx context.Context, n int) ([]byte, error)
	// DeriveSession returns the session keys of a channel that a card has just
	// answered INITIALIZE UPDATE for.
	DeriveSession(ctx context.Context, req SessionRequest) (SessionReply, error)
	// WrapKeySet returns the PUT KEY data field that gives the card a new key set.
	WrapKeySet(ctx context.Context, req KeySetRequest) (KeySetReply, error)
	// Encrypt encrypts data under the card's DEK.
	Encrypt(ctx context.Context, req EncryptRequest) (EncryptReply, error)
	// CardSecret derives a PIV management key or PUK. It cannot be proved by the card.
	CardSecret(ctx context.Context, req SecretRequest) (SecretReply, error)
}

// KeySetName names a family of key set versions: "site", "factory", "corp".
type KeySetName string

// Factory is the built-in key set of the published GlobalPlatform test keys
// 40…4F: any version, DES3 under SCP01 and SCP02, AES-128 under SCP03, not
// diversified.
const Factory KeySetName = "factory"

var keySetName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// ParseKeySetName accepts 1 to 32 of a-z, 0-9 and hyphen, beginning with a letter.
func ParseKeySetName(s string) (KeySetName, error) {
	if !keySetName.MatchString(s) {
		return "", fmt.Errorf("key set name %q: want 1 to 32 of a-z, 0-9, -, beginning with a letter", s)
	}
	return KeySetName(s), nil
}

// CardProof is what the card answered to INITIALIZE UPDATE, and under which key
// set the caller believes its keys to be. CUID is a claim relayed by the client.
type CardProof struct {
	KeySet         KeySetName
	CUID           apdu.CUID
	KDD            gp.KDD
	Protocol       securechannel.Protocol
	Option         securechannel.Option
	KeyVersion     gp.KeyVersion // as the card answered
	KeyIndex       uint8         // SCP01
	Counter        securechannel.SequenceCounter
	HostChallenge  securechannel.HostChallenge
	CardChallenge  securechannel.CardChallenge
	CardCryptogram securechannel.CardCryptogram
}

// Proof builds a CardProof from a channel's opening.
func Proof(set KeySetName, cuid apdu.CUID, iu securechannel.InitUpdate) CardProof {
	return CardProof{
		KeySet: set, CUID: cuid, KDD: iu.KDD, Protocol: iu.Protocol, Option: iu.Option,
		KeyVersion: iu.KeyVersion, KeyIndex: iu.KeyIndex, Counter: iu.Counter,
		HostChallenge: iu.HostChallenge, CardChallenge: iu.CardChallenge, CardCryptogram: iu.CardCryptogram,
	}
}

// SessionRequest asks for the session keys of a channel.
type SessionRequest struct{ CardProof }

// SessionReply carries them. RMAC is empty where the channel has none.
type SessionReply struct{ ENC, MAC, RMAC secret.Secret }

// KeySetRequest asks for a key changeover payload. The proof is of the present keys.
type KeySetRequest struct {
	CardProof
	NewKeySet     KeySetName
	NewKeyVersion gp.KeyVersion
}

// KeySetReply carries the complete PUT KEY data field (new version, then the
// blocks of ENC, MAC and DEK) and the check values that the card must answer.
// P1 and P2 are the caller's.
type KeySetReply struct {
	Data []byte
	KCVs [3]gp.KCV
}

// EncryptRequest carries 16 or 32 bytes to be encrypted under the card's DEK:
// SCP01 static DEK, SCP02 DEK session key of Counter, SCP03 static DEK.
type EncryptRequest struct {
	CardProof
	Data secret.Secret
}

// EncryptReply is the ciphertext, as long as the data.
type EncryptReply struct{ Data []byte }

// Use says what a card secret is for.
type Use string

// Uses of card secrets.
const (
	ManagementKey Use = "management-key"
	PUK           Use = "puk"
)

// SecretRequest asks for a secret of a card that is derived, never stored.
type SecretRequest struct {
	KeySet     KeySetName
	KeyVersion gp.KeyVersion
	CUID       apdu.CUID
	Use        Use
	Algorithm  byte // PIV algorithm identifier of a management key
}

// SecretReply carries it.
type SecretReply struct{ Secret secret.Secret }

// Errors that callers branch on.
var (
	// ErrUnknownKeyVersion: the key set has no such version, or there is no such key set.
	ErrUnknownKeyVersion = errors.New("unknown key set or key version")
	// ErrCryptogram: the card did not prove itself under that key set.
	ErrCryptogram = errors.New("card cryptogram does not verify")
	// ErrDenied: the caller may not, or the ledger wants an agent's release first.
	ErrDenied = errors.New("denied by the key service")
	// ErrUnavailable: HSM or key service not reachable; asking again later may work.
	ErrUnavailable = errors.New("key service unavailable")
)
