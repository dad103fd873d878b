package peer_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"inkan/tps/peer"
)

// A key service joins the array of a card service, which then calls it.
func Example() {
	dir, err := os.MkdirTemp("", "peer-example-")
	if err != nil {
		fmt.Println(err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	tps, tks := exampleNode(ctx, dir, "tps1.example", peer.TPS), exampleNode(ctx, dir, "tks1.example", peer.TKS)
	if err := tps.Init(ctx, "site", peer.InitOptions{}); err != nil {
		fmt.Println(err)
	}
	code, err := tps.Invite("tks1.example", []peer.Role{peer.TKS}, time.Hour)
	if err != nil {
		fmt.Println(err)
	}
	s, _ := tps.State()
	err = tks.Join(ctx, peer.JoinOptions{
		Primary: s.Members[0].Address, Code: code,
		Confirm: func(o peer.Offer) (bool, error) {
			fmt.Println(o.Primary, "of array", o.Name)
			return o.Fingerprint == tps.CAs()[0].Fingerprint, nil // a person compares
		},
	})
	if err != nil {
		fmt.Println(err)
	}
	for st, _ := tps.Status(ctx); st.Word != peer.Converged; st, _ = tps.Status(ctx) {
		time.Sleep(time.Millisecond)
	}
	m := tps.Members(peer.TKS)[0]
	res, err := tps.Client(m.Node).Get(m.URL() + "/tks/v1/hello")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	fmt.Println(string(text))
	// Output:
	// tps1.example of array site
	// hello tps1.example
}

// exampleNode opens, serves and runs a node on a free port.
func exampleNode(ctx context.Context, dir, name string, role peer.Role) *peer.Node {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	n, err := peer.Open(ctx, peer.Config{Dir: filepath.Join(dir, name), Key: keyFile(filepath.Join(dir, name+".key")), CAKeys: &vault{}, Name: name,
		Address: l.Addr().String(), Roles: []peer.Role{role}, Version: "1.0.0", Interval: 10 * time.Millisecond})
	if err != nil {
		panic(err)
	}
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := n.Caller(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, "hello %s", c.Name)
	})
	go n.Serve(ctx, l, hello)
	go n.Run(ctx)
	return n
}
