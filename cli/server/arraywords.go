package server

import (
	"io"
	"time"

	"inkan/apdu/secret"
	"inkan/tps/api"
)

// ArrayInit asks for an array of one.
type ArrayInit struct {
	Name         string   `json:"Name"`         // empty: the node's
	Domains      []string `json:"Domains"`      // beside the domain of the node's own name
	RecoveryFile string   `json:"RecoveryFile"` // absolute, on the node's machine; empty: no recovery key is made
}

// ArrayInvite asks for an invite.
type ArrayInvite struct {
	Name  string        `json:"Name"`
	Roles []string      `json:"Roles"`
	TTL   time.Duration `json:"TTL"` // 0: an hour
}

// Invited is what an invite is good for; the code is beside it, as Code.
type Invited struct {
	Name        string    `json:"Name"`
	Roles       []string  `json:"Roles"`
	Expires     time.Time `json:"Expires"`
	Primary     string    `json:"Primary"`     // host:port
	Fingerprint string    `json:"Fingerprint"` // of the CA
}

// ArrayDetach asks to take a member out.
type ArrayDetach struct {
	Name  string `json:"Name"` // of the member; empty: this node itself
	Force bool   `json:"Force"`
}

// ArrayPromote asks for another primary. A recovery key, PEM, is beside it as
// RecoveryKey.
type ArrayPromote struct {
	Name  string `json:"Name"`  // empty: this node
	Force bool   `json:"Force"` // the primary is lost
}

// ArrayRotate asks for a new CA.
type ArrayRotate struct {
	Domains []string `json:"Domains"` // to be added
}

// ArrayConfirm accepts a promotion by force.
type ArrayConfirm struct {
	Fingerprint string `json:"Fingerprint"` // of the new primary's CA
}

// Changed is how a change of the array has ended.
type Changed struct {
	Fingerprint string `json:"Fingerprint,omitempty"` // of the CA, where it is a new one
	// Pending is what the change still waits for; it goes on by itself. Empty: nothing.
	Pending string `json:"Pending,omitempty"`
}

// codeAnswer is an invite with its code, which is sent once.
type codeAnswer struct {
	Invited
	code secret.Secret
}

func (a codeAnswer) write(w io.Writer) {
	defer a.code.Wipe()
	b, err := api.EncodeSecret(a.Invited, "Code", a.code)
	if err == nil {
		w.Write(b)
	}
	clear(b)
}
