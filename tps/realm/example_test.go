package realm_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"inkan/tps/realm"
	"inkan/tps/realm/realmtest"
	"inkan/tps/store"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	db, err := store.Open(ctx, filepath.Join(dir, "inkan.db"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	r, err := realm.New(realm.Config{Store: db, Vault: &realmtest.Vault{}, Audit: &events{}, Issuer: "https://tps.example.org"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(r.Prepare(ctx)) // the first key
	token, err := r.Sign(ctx, realm.Type{Name: "example+jwt", Use: realm.ForSessions, Algorithms: []realm.Algorithm{realm.ES256}}, time.Minute, &realm.Claims{Subject: "ada"})
	fmt.Println(err)
	_, before, err := r.Rotate(ctx, realm.ForSessions, realm.ES256, "admin")
	fmt.Println(before.State, err)
	var c realm.Claims
	fmt.Println(r.Verify(ctx, token, realm.Type{Name: "example+jwt", Use: realm.ForSessions, Algorithms: []realm.Algorithm{realm.ES256}}, &c), c.Subject)
	// Output:
	// <nil>
	// <nil>
	// passive <nil>
	// <nil> ada
}
