// Package tkstest is the conformance suite of tks.Service: [TestService] runs on
// the service in process, on the client of a remote one, over a key file and over
// an HSM. [Card] is the card it needs, made of published and learnt keys.
package tkstest

import (
	"context"
	"testing"

	"inkan/apdu/gp"
	"inkan/tks"
	"inkan/tks/hsm"
)

// Version is one version of a key set that the service under test must have.
type Version struct {
	Set     tks.KeySetName
	Version gp.KeyVersion
	Type    hsm.KeyType
}

// Site is the key set of the suite.
const Site tks.KeySetName = "site"

// Versions lists the key set versions that open must have made, none of them
// retired.
func Versions() []Version {
	return []Version{
		{Site, 0x02, hsm.AES128}, {Site, 0x03, hsm.AES192}, {Site, 0x04, hsm.AES256},
		{Site, 0x05, hsm.DES3}, {Site, 0x06, hsm.DES2}, {Site, 0x0E, hsm.AES128},
	}
}

// retire is the version that the suite retires.
const retire gp.KeyVersion = 0x0E

// Fixture is a service under test, and the administration behind it.
type Fixture struct {
	Service tks.Service
	// Release is an agent's release of a card.
	Release func(ctx context.Context, kdd gp.KDD) error
	// Retire makes a version one that no new card gets.
	Retire func(ctx context.Context, set tks.KeySetName, v gp.KeyVersion) error
	// Secrets is a version of a key set that was made for the secrets of PIV applets;
	// without one what is handed out is not tested.
	Secrets Version
}

// TestService runs the suite. open is called once for the sub-tests that share a
// service; it makes the key sets of [Versions].
func TestService(t *testing.T, open func(t *testing.T) Fixture) {
	f := open(t)
	for _, c := range []struct {
		name string
		run  func(*testing.T, Fixture)
	}{
		{"Random", testRandom},
		{"FactorySession", testFactorySession},
		{"Encrypt", testEncrypt},
		{"WrongCryptogram", testWrongCryptogram},
		{"ForeignIdentity", testForeignIdentity},
		{"Unknown", testUnknown},
		{"Malformed", testMalformed},
		{"Refused", testRefused},
		{"CardSecret", testCardSecret},
		{"Changeover", testChangeover},
		{"ChangeoverDES", testChangeoverDES},
		{"Replay", testReplay},
		{"OneKeyingPerCard", testOneKeying},
		{"CutChangeover", testCutChangeover},
		{"NoDiversificationData", testZeroKDD},
		{"Retired", testRetired},
		{"Concurrent", testConcurrent},
		{"Cancelled", testCancelled},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, f) })
	}
}
