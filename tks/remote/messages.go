package remote

import (
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/securechannel"
	"inkan/tks"
)

// message is the body of a request.
type message interface {
	// about is what the request concerns, for permission and record.
	about() subject
	// wipe overwrites its secrets.
	wipe()
}

// subject is what a request concerns.
type subject struct {
	sets  []tks.KeySetName
	cuid  apdu.CUID
	kdd   gp.KDD
	label string // of a key pair
}

// proof is a tks.CardProof.
type proof struct {
	KeySet         tks.KeySetName `json:"key_set"`
	CUID           apdu.CUID      `json:"cuid"`
	KDD            gp.KDD         `json:"kdd"`
	Protocol       protocol       `json:"protocol"`
	Option         hexByte        `json:"option"`
	KeyVersion     gp.KeyVersion  `json:"key_version"`
	KeyIndex       hexByte        `json:"key_index"`
	Counter        hexBytes       `json:"counter"`
	HostChallenge  hexBytes       `json:"host_challenge"`
	CardChallenge  hexBytes       `json:"card_challenge"`
	CardCryptogram hexBytes       `json:"card_cryptogram"`
}

func proofOf(p tks.CardProof) proof {
	return proof{
		KeySet: p.KeySet, CUID: p.CUID, KDD: p.KDD, Protocol: protocol(p.Protocol), Option: hexByte(p.Option), KeyVersion: p.KeyVersion,
		KeyIndex: hexByte(p.KeyIndex), Counter: hexBytes(p.Counter), HostChallenge: hexBytes(p.HostChallenge),
		CardChallenge: hexBytes(p.CardChallenge), CardCryptogram: hexBytes(p.CardCryptogram),
	}
}

func (m proof) card() tks.CardProof {
	return tks.CardProof{
		KeySet: m.KeySet, CUID: m.CUID, KDD: m.KDD, Protocol: securechannel.Protocol(m.Protocol), Option: securechannel.Option(m.Option),
		KeyVersion: m.KeyVersion, KeyIndex: uint8(m.KeyIndex), Counter: securechannel.SequenceCounter(m.Counter),
		HostChallenge: securechannel.HostChallenge(m.HostChallenge), CardChallenge: securechannel.CardChallenge(m.CardChallenge),
		CardCryptogram: securechannel.CardCryptogram(m.CardCryptogram),
	}
}

func (m *proof) about() subject {
	return subject{sets: []tks.KeySetName{m.KeySet}, cuid: m.CUID, kdd: m.KDD}
}
func (*proof) wipe() {}

type randomRequest struct {
	N int `json:"n"`
}

func (*randomRequest) about() subject { return subject{} }
func (*randomRequest) wipe()          {}

// randomReply is a secret: the caller may make keys of it.
type randomReply struct {
	Data hexSecret `json:"data"`
}

func (r randomReply) wipe() { r.Data.Wipe() }

type sessionReply struct {
	ENC  hexSecret `json:"enc"`
	MAC  hexSecret `json:"mac"`
	RMAC hexSecret `json:"rmac"`
}

// check reports an answer that holds no session keys.
func (r sessionReply) check() error {
	n := r.ENC.Len()
	if n < 16 || n > 32 || r.MAC.Len() != n || r.RMAC.Len() != n && r.RMAC.Len() != 0 {
		return fmt.Errorf("session keys of %d, %d and %d bytes", n, r.MAC.Len(), r.RMAC.Len())
	}
	return nil
}

func (r sessionReply) wipe() {
	r.ENC.Wipe()
	r.MAC.Wipe()
	r.RMAC.Wipe()
}

type keySetRequest struct {
	proof
	NewKeySet     tks.KeySetName `json:"new_key_set"`
	NewKeyVersion gp.KeyVersion  `json:"new_key_version"`
}

func (m *keySetRequest) about() subject {
	s := m.proof.about()
	s.sets = append(s.sets, m.NewKeySet)
	return s
}

type keySetReply struct {
	Data hexBytes   `json:"data"`
	KCVs []hexBytes `json:"kcvs"`
}

// check reports an answer that holds no PUT KEY data.
func (r keySetReply) check() error {
	if len(r.Data) == 0 || len(r.KCVs) != 3 {
		return fmt.Errorf("key set data of %d bytes with %d check values", len(r.Data), len(r.KCVs))
	}
	for _, k := range r.KCVs {
		if len(k) != len(gp.KCV{}) {
			return fmt.Errorf("check value of %d bytes", len(k))
		}
	}
	return nil
}

func (keySetReply) wipe() {}

func (r keySetReply) kcvs() (out [3]gp.KCV) {
	for i, k := range r.KCVs {
		out[i] = gp.KCV(k)
	}
	return out
}

type encryptRequest struct {
	proof
	Data hexSecret `json:"data"`
}

func (m *encryptRequest) wipe() { m.Data.Wipe() }

type encryptReply struct {
	Data hexBytes `json:"data"`
}

func (encryptReply) wipe() {}

type secretRequest struct {
	KeySet     tks.KeySetName `json:"key_set"`
	KeyVersion gp.KeyVersion  `json:"key_version"`
	CUID       apdu.CUID      `json:"cuid"`
	Use        tks.Use        `json:"use"`
	Algorithm  hexByte        `json:"algorithm"`
}

func (m *secretRequest) about() subject {
	return subject{sets: []tks.KeySetName{m.KeySet}, cuid: m.CUID}
}
func (*secretRequest) wipe() {}

type secretReply struct {
	Secret hexSecret `json:"secret"`
}

// check reports an answer without a secret.
func (r secretReply) check() error {
	if r.Secret.IsZero() {
		return errors.New("no secret")
	}
	return nil
}

func (r secretReply) wipe() { r.Secret.Wipe() }

// sessionParts are the secret members of an answer.
func sessionParts(r tks.SessionReply) []part {
	return []part{{"enc", r.ENC}, {"mac", r.MAC}, {"rmac", r.RMAC}}
}

func wipeAll(parts []part) {
	for _, p := range parts {
		p.value.Wipe()
	}
}

func onePart(name string, b []byte) []part { return []part{{name, secret.New(b)}} }
