//go:build cgo && linux

package bench_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"syscall"
	"testing"
	"time"

	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/cli/server"
	"inkan/fixtures"
	"inkan/tks/hsm/softkey"
	"inkan/tps/auth"
	"inkan/tps/profile"
	"inkan/tps/token"
	"inkan/tps/wire"
)

// envFolder makes this program the node of a data folder, envSlot the card in a
// slot of pcscd. envProfile names a folder for the nodes' processor and memory
// profiles.
const (
	envFolder  = "INKAN_BENCH_FOLDER"
	envSlot    = "INKAN_BENCH_SLOT"
	envProfile = "INKAN_BENCH_PROFILE"
)

// TestMain is the tests, or a node or card that they measure with.
func TestMain(m *testing.M) {
	var err error
	switch folder, slot := os.Getenv(envFolder), os.Getenv(envSlot); {
	case folder != "":
		err = serve(folder)
	case slot != "":
		err = beCard(slot)
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// usage is what a node has used so far.
type usage struct {
	Address string        // where it listens
	CPU     time.Duration // user and system time of the process
	RSS     int64         // resident memory, bytes
}

// serve runs the node: the product's own, with people who need no password check.
// A line on standard input is answered with the usage; its end ends the node.
func serve(folder string) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	n, err := server.Open(ctx, folder, server.Options{})
	if err != nil {
		return err
	}
	defer n.Close()
	n.Engine.Authenticators[auth.LocalID] = everybody{}
	end, err := profiled(os.Getenv(envProfile))
	if err != nil {
		return err
	}
	defer end()
	out := json.NewEncoder(os.Stdout)
	return n.Serve(ctx, func(l server.Listener) {
		out.Encode(usage{Address: l.Address})
		go func() {
			defer stop()
			for in := bufio.NewScanner(os.Stdin); in.Scan(); {
				u, err := used()
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				out.Encode(u)
			}
		}()
	})
}

// profiled writes the process's profiles to path; "" = none.
func profiled(path string) (end func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	cpu, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		cpu.Close()
	}, pprof.StartCPUProfile(cpu)
}

func used() (usage, error) {
	if path := os.Getenv(envProfile); path != "" {
		if f, err := os.Create(path + ".heap"); err == nil {
			pprof.WriteHeapProfile(f)
			f.Close()
		}
	}
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return usage{}, err
	}
	b, err := os.ReadFile("/proc/self/statm") // pages: size, resident, …
	if err != nil {
		return usage{}, err
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		return usage{}, err
	}
	return usage{CPU: time.Duration(r.Utime.Nano() + r.Stime.Nano()), RSS: resident * int64(os.Getpagesize())}, nil
}

// everybody is an authenticator that answers at once: who logs in is who they say.
type everybody struct{}

// Form implements auth.Authenticator.
func (everybody) Form(string) auth.Form {
	return auth.Form{Title: "Log in", Fields: []auth.Field{{ID: "UID", Name: "User"}, {ID: "PASSWORD", Name: "Password", Secret: true}}}
}

// Check implements auth.Authenticator.
func (everybody) Check(_ context.Context, a auth.Answers) (auth.Person, error) {
	id := string(a["UID"].Bytes())
	return auth.Person{ID: token.UserID(id), Name: "Person " + id, Mail: id + "@example.org", UPN: id + "@example.org"}, nil
}

// node is a node in a process of its own.
type node struct {
	usage
	ca  *x509.Certificate
	in  io.WriteCloser
	out *json.Decoder
}

// startNode prepares a folder and serves it until the test ends. The applet that
// it loads is of the size given, 0 = the synthetic one as it is.
func startNode(t *testing.T, name string, appletSize int) *node {
	t.Helper()
	folder := prepare(t, appletSize)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envFolder+"="+folder)
	if dir := os.Getenv(envProfile); dir != "" {
		cmd.Env = append(cmd.Env, envProfile+"="+filepath.Join(dir, name))
	}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the node: %v", err)
		}
	})
	n := &node{in: in, out: json.NewDecoder(out)}
	must(t, n.out.Decode(&n.usage))
	b, err := os.ReadFile(filepath.Join(folder, "ca", "ca.pem"))
	must(t, err)
	block, _ := pem.Decode(b)
	n.ca, err = x509.ParseCertificate(block.Bytes)
	must(t, err)
	return n
}

// now asks the node what it has used.
func (n *node) now(t *testing.T) usage {
	t.Helper()
	_, err := io.WriteString(n.in, "\n")
	must(t, err)
	var u usage
	must(t, n.out.Decode(&u))
	return u
}

// client reaches the node at an address.
func (n *node) client(address string) *wire.Client {
	cfg := wire.CertificateTrust(n.ca)
	cfg.ServerName = "localhost"
	return &wire.Client{BaseURL: "https://" + address, TLS: cfg, Timeout: time.Hour}
}

// Profiles of the nodes: what is shipped for a person's card, with RSA keys and
// with keys on a curve, and a PIV card's. Rekeying is the shipped one, whose format also gives the
// card the site's keys; the other's leaves its keys to a key changeover.
const (
	profileRSA      = "bench-rsa"
	profileRekeying = "bench-rsa-rekeying"
	profileEC       = "bench-ec"
	profilePIV      = "bench-piv" // pivUser
)

func prepare(t *testing.T, appletSize int) string {
	t.Helper()
	folder := t.TempDir()
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.Lab, cfg.TPS.AllowSimulator = "bench", true, true
	cfg.TPS.ClientTimeout = config.Duration(time.Hour)
	cfg.Listen = config.Listen{Address: "127.0.0.1:0", Names: []string{"localhost"}, URL: "https://localhost:8443"}
	cfg.CA.URL = cfg.Listen.URL
	params := softkey.FloorParams()
	must(t, server.Create(t.Context(), folder, server.Answers{Config: cfg, KeyParams: &params}))
	if appletSize > 0 {
		must(t, os.WriteFile(filepath.Join(folder, server.AppletFolder, fixtures.DefaultApplet+".ijc"), applet(t, appletSize), 0o600))
	}
	n, err := server.Open(t.Context(), folder, server.Options{})
	must(t, err)
	defer n.Close()
	for name, edit := range map[string]*strings.Replacer{
		profileRSA:      strings.NewReplacer(`change_on = ["format", "key-changeover"]`, `change_on = ["key-changeover"]`),
		profileRekeying: strings.NewReplacer(),
		profileEC:       strings.NewReplacer(`"rsa-2048"`, `"p256"`, `, "signRecover"`, ``, `, "verifyRecover"`, ``, `"decrypt", "unwrap"`, `"derive"`, `"encrypt", "wrap"`, `"derive"`),
	} {
		_, err := n.DB.PutProfile(t.Context(), profile.Record{Name: token.ProfileName(name), State: profile.Enabled, Document: edit.Replace(document(t, "userKey", name))})
		must(t, err)
	}
	_, err = n.DB.PutProfile(t.Context(), profile.Record{Name: profilePIV, State: profile.Enabled, Document: document(t, "pivUser", profilePIV)})
	must(t, err)
	return folder
}

// document is a shipped profile for a person's card under another name, for cards that
// nobody has registered and with the synthetic applet.
func document(t *testing.T, shipped token.ProfileName, name string) string {
	t.Helper()
	for _, r := range profile.Shipped(false) {
		if r.Name == shipped {
			return strings.NewReplacer(fmt.Sprintf("name = %q", shipped), fmt.Sprintf("name = %q", name), `allow_unknown = "operator"`, `allow_unknown = "anyone"`,
				`"1.4.58768072"`, fmt.Sprintf("%q", fixtures.DefaultApplet), `issuer_url = ""`, `issuer_url = "https://localhost:8443/tps/phoneHome"`).Replace(r.Document)
		}
	}
	t.Fatalf("no profile %s is shipped", shipped)
	return ""
}

// person is who stands at a card.
type person struct{ id string }

// Login implements wire.Prompter.
func (p person) Login(context.Context, auth.Form) (auth.Answers, error) {
	return auth.Answers{"UID": secret.New([]byte(p.id)), "PASSWORD": secret.New([]byte("password"))}, nil
}

// NewPIN implements wire.Prompter.
func (person) NewPIN(context.Context, int, int) (secret.PIN, error) {
	return secret.NewPIN(bytes.Clone([]byte("7351924")))
}

// Progress implements wire.Prompter.
func (person) Progress(int, string) {}
