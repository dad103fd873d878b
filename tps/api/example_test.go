package api_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"

	"inkan/tps/api"
	"inkan/tps/auth"
	"inkan/tps/realm"
	"inkan/tps/realm/realmtest"
	"inkan/tps/store"
	"inkan/tps/token"
)

func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	db, err := store.Open(context.Background(), filepath.Join(dir, "inkan.db"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	keyring, err := realm.New(realm.Config{Store: db, Vault: &realmtest.Vault{}, Audit: &events{}, Issuer: "https://tps.example.org"})
	if err != nil {
		fmt.Println(err)
		return
	}
	h, err := api.New(api.Config{
		Tokens: db, Certificates: db, Activities: db, Journals: db, Profiles: db, Mappings: db, Users: db,
		KeySets: &keys{}, Keyings: &keys{}, Secrets: &keys{}, Revoker: &engine{db: db}, Backups: &backups{}, Realm: keyring,
		Tickets: realm.NewTickets(keyring, db, db), Audit: &events{}, AuditRecord: record{},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := db.AddActivity(context.Background(), token.Activity{ID: "1", Operation: "format", Success: true}); err != nil {
		fmt.Println(err)
	}
	for _, role := range []auth.Role{auth.Operator, ""} {
		r := httptest.NewRequest("GET", "/tps/v2/activities/1", nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r.WithContext(api.WithCaller(r.Context(), api.Caller{Name: "olga", Roles: []auth.Role{role}})))
		fmt.Println(w.Code, w.Header().Get("Content-Type"))
	}
	// Output:
	// 200 application/json
	// 403 application/problem+json
}
