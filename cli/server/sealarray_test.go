//go:build unix

package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"inkan/apdu/secret"
	"inkan/cli/sealing"
	"inkan/cli/server"
	"inkan/tps/api"
	"inkan/tps/seal"
	"inkan/tps/store/storetest/pgtest"
	"inkan/tps/wire"
)

// arrayCall asks the node of a folder, or the folder, about its array.
func arrayCall(t *testing.T, folder, path string, q, out any) {
	t.Helper()
	a, err := server.LocalArray(t.Context(), folder, server.Options{})
	must(t, err)
	defer func() { must(t, a.Close()) }()
	method, body := http.MethodGet, []byte(nil)
	if q != nil {
		method = http.MethodPost
		body, err = json.Marshal(q)
		must(t, err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, a.URL+api.Base+server.ArrayPath+path, bytes.NewReader(body))
	must(t, err)
	resp, err := a.Client.Do(r)
	must(t, err)
	defer resp.Body.Close()
	var text json.RawMessage
	must(t, json.NewDecoder(resp.Body).Decode(&text))
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, text)
	}
	must(t, json.Unmarshal(text, out))
}

// statusOf is the array as the node of a folder sees it.
func statusOf(t *testing.T, folder string) (st server.ArrayStatus) {
	t.Helper()
	arrayCall(t, folder, "/status", nil, &st)
	return st
}

// inClear lists the array's keys that lie in a folder unsealed.
func inClear(t *testing.T, folder string) (out []string) {
	t.Helper()
	for _, name := range []string{sealing.PeerCAFile, sealing.PeerKeyFile} {
		_, err := os.Stat(filepath.Join(folder, name))
		if err == nil {
			out = append(out, name)
		} else if !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	}
	return out
}

// sealedRoles are the roles of the array of which there is a sealed file that opens.
func sealedRoles(t *testing.T, folder string) (out []string) {
	t.Helper()
	st, err := sealing.SealStatus(t.Context(), folder, true, server.Options{})
	must(t, err)
	for _, f := range st.Files {
		if f.SealedAt == nil || f.Role != string(sealing.RolePeerKey) && f.Role != string(sealing.RolePeerCA) {
			continue
		}
		if !f.Opens {
			t.Errorf("%+v", f)
		}
		out = append(out, f.Role)
	}
	return out
}

// keysOfArray checks where a folder in an array has its keys, and that it is the member
// that it was.
func keysOfArray(t *testing.T, folder string, made server.ArrayStatus, sealed bool, files map[string]seal.Role) {
	t.Helper()
	var roles, clear []string
	for file, role := range files {
		roles, clear = append(roles, string(role)), append(clear, file)
	}
	slices.Sort(roles)
	slices.Sort(clear)
	if sealed {
		clear = nil
		if got := sealedRoles(t, folder); !slices.Equal(got, roles) {
			t.Errorf("sealed: %v, want %v", got, roles)
		}
	}
	if got := inClear(t, folder); !slices.Equal(got, clear) {
		t.Errorf("sealed %t, in the clear: %v", sealed, got)
	}
	if st := statusOf(t, folder); st.Array != made.Array || st.Members[0].Node != made.Members[0].Node || st.State != "converged" {
		t.Errorf("sealed %t: %+v, want %+v", sealed, st, made)
	}
}

// sealedInArray has a folder make an array, seals it and makes it plain again. first:
// it is sealed before it makes the array.
func sealedInArray(t *testing.T, folder string, plan sealing.SealPlan, first bool, files map[string]seal.Role) {
	t.Helper()
	sealIt := func() {
		t.Helper()
		_, err := sealing.Seal(t.Context(), folder, plan, server.Options{})
		must(t, err)
	}
	if first {
		sealIt()
	}
	var made server.ArrayStatus
	arrayCall(t, folder, "/init", server.ArrayInit{Name: "cards"}, &made)
	keysOfArray(t, folder, made, first, files)
	if !first {
		sealIt()
		keysOfArray(t, folder, made, true, files)
	}
	must(t, sealing.Disable(t.Context(), folder, server.Options{}))
	keysOfArray(t, folder, made, false, files)
}

// TestSealedArray: a folder makes an array sealed or not, is sealed and made plain
// again in it, and the node is the same member all the while.
func TestSealedArray(t *testing.T) {
	files := map[string]seal.Role{sealing.PeerKeyFile: sealing.RolePeerKey}
	everyPlace(t, func(t *testing.T, p place) {
		for _, first := range []bool{true, false} {
			t.Run(fmt.Sprintf("sealed=%t", first), func(t *testing.T) {
				folder := prepared(t, t.TempDir())
				sealedInArray(t, folder, p.plan(folder), first, files)
			})
		}
	})
}

// TestSealedArrayWithoutKeys: where the node has no HSM and no key file, the key of the
// array's CA is sealed too.
func TestSealedArrayWithoutKeys(t *testing.T) {
	withCredential(t)
	files := map[string]seal.Role{sealing.PeerKeyFile: sealing.RolePeerKey, sealing.PeerCAFile: sealing.RolePeerCA}
	for _, first := range []bool{true, false} {
		t.Run(fmt.Sprintf("sealed=%t", first), func(t *testing.T) {
			folder := prepared(t, t.TempDir())
			edit(t, folder, `roles = ["all"]`, `roles = ["tps", "console"]`)
			sealedInArray(t, folder, sealing.SealPlan{Credential: credentialSlot.Credential, Recipient: recoveryRecipient}, first, files)
		})
	}
}

// TestSealedMember: a node whose folder is sealed joins an array, and is in it when it
// runs.
func TestSealedMember(t *testing.T) {
	t.Parallel()
	one := postgresFolder(t, pgtest.Database(t), "unused")
	two := copyFolder(t, one)
	for folder, name := range map[string]string{one: "one.array.test", two: "two.array.test"} {
		address := freeAddress(t)
		edit(t, folder, `name = "pg"`, `name = "`+name+`"`)
		edit(t, folder, `peer = "0.0.0.0:8444"`, `peer = "`+address+`"`)
		edit(t, folder, `peer_name = ""`, `peer_name = "`+name+`"`)
		edit(t, folder, `peer_address = ""`, `peer_address = "`+address+`"`)
		_, err := sealing.Seal(t.Context(), folder, place{}.plan(folder), server.Options{})
		must(t, err)
	}
	var made server.ArrayStatus
	arrayCall(t, one, "/init", server.ArrayInit{}, &made)
	runFolder(t, one)
	var invite struct {
		server.Invited
		Code string
	}
	arrayCall(t, one, "/invites", server.ArrayInvite{Name: "two.array.test", Roles: []string{"tps", "tks", "console"}}, &invite)
	f, err := wire.ParseFingerprint(invite.Fingerprint)
	must(t, err)
	_, err = server.Join(t.Context(), two, server.Options{}, server.JoinRequest{Primary: invite.Primary, Code: secret.New([]byte(invite.Code)), Fingerprint: f})
	must(t, err)
	runFolder(t, two)
	end := time.Now().Add(time.Minute)
	for _, folder := range []string{one, two} {
		if got := inClear(t, folder); got != nil {
			t.Errorf("in the clear: %v", got)
		}
		for st := statusOf(t, folder); st.State != "converged" || len(st.Members) != 2; st = statusOf(t, folder) {
			if t.Context().Err() != nil || time.Now().After(end) {
				t.Fatalf("%+v", st)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// runFolder runs the node of a folder until the test ends.
func runFolder(t *testing.T, folder string) {
	t.Helper()
	n, err := server.Open(t.Context(), folder, server.Options{})
	must(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- n.Serve(ctx, func(server.Listener) { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, n.Close()); err != nil {
			t.Errorf("serving %s: %v", folder, err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatalf("serving %s: %v", folder, err)
	}
}

// freeAddress is one on the loopback that nobody listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}
