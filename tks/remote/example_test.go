package remote_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"inkan/tks"
	"inkan/tks/remote"
)

// A node with the keys serves them to tps1, which may do no more than open channels.
// In earnest both ends are on mutual TLS, and the certificate says who calls.
func Example() {
	h, err := remote.NewHandler(remote.HandlerConfig{
		Service: &stub{},
		Identify: func(*http.Request) (remote.Caller, error) {
			return remote.Caller{Name: "tps1", Grant: remote.Grant{
				Methods: []remote.Method{remote.MethodSession}, KeySets: []tks.KeySetName{"site"}, CallsPerMinute: 600,
			}}, nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	server := httptest.NewServer(h)
	defer server.Close()

	keys, err := remote.New(remote.Config{Nodes: func() []remote.Node {
		return []remote.Node{{Name: "tks1", URL: server.URL, Client: server.Client()}}
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := keys.DeriveSession(context.Background(), tks.SessionRequest{CardProof: tks.CardProof{KeySet: "site"}})
	fmt.Println(r.ENC.Len(), r.MAC, err)
	_, err = keys.Random(context.Background(), 8)
	fmt.Println(errors.Is(err, tks.ErrDenied), err)
	// Output:
	// 16 [redacted] <nil>
	// true drawing random bytes: peer tps1: the method random is not in its list: denied by the key service (tks1)
}
