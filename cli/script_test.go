package cli_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/memtest"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
	"inkan/cli"
	"inkan/cli/config"
	"inkan/cli/server"
	"inkan/sim"
	"inkan/tks"
	"inkan/tks/hsm/softkey/softkeytest"
	"inkan/tks/local"
	"inkan/tps/auth"
	"inkan/tps/ca"
	"inkan/tps/token"
)

func TestMain(m *testing.M) {
	testscript.Main(inMemory{m}, map[string]func(){
		"inkan":   func() { os.Exit(cli.MainQuick(os.Args, os.Stdin, os.Stdout, os.Stderr)) },
		"shipped": func() { os.Exit(cli.Main(os.Args, os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// inMemory are tests that write to memory.
type inMemory struct{ *testing.M }

// Run implements testscript.TestingM.
func (m inMemory) Run() int { return memtest.Run(m.M) }

// TestScript runs every script in testdata/script. A script calls the program as
// inkan, and these commands besides:
//
//	lab FOLDER     prepares a data folder for a trial, quickly; user demo, password demo-password;
//	               a node that serves it is at $SERVER
//	seed FOLDER    adds the card $CUID of ada with two certificates $SIGNING and $ENCRYPTION
//	               ($SIGNING_ID, $ENCRYPTION_ID), an activity $ACTIVITY, an unfinished enrollment
//	               $OPERATION and an entry in the ledger of keyings
//	await FOLDER   waits until a node serves the folder
//	guard IMAGE    makes a PIV card with the PIN 8402716 and a management key behind it
//
// The key files that inkan init makes open quickly; those of shipped init do not.
//
// A command that is to fail with another status than 1 is run with exits:
//
//	exits 2 inkan user add
func TestScript(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"lab": prepareLab, "seed": seed, "await": await, "exits": exits, "guard": guard,
		},
	})
}

// one returns the only argument of a script's command.
func one(ts *testscript.TestScript, neg bool, args []string) string {
	if neg || len(args) != 1 {
		ts.Fatalf("it takes one argument and does not fail")
	}
	return ts.MkAbs(args[0])
}

// cheap is the cost of passwords in tests.
var cheap = auth.Cost{Memory: 64, Passes: 1, Lanes: 1}

func prepareLab(ts *testscript.TestScript, neg bool, args []string) {
	folder := one(ts, neg, args)
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.Lab, cfg.TPS.AllowSimulator = "lab", true, true
	port, err := pickPort()
	ts.Check(err)
	cfg.Listen = config.Listen{Address: net.JoinHostPort("127.0.0.1", port), Names: []string{"localhost", "127.0.0.1"}, URL: "https://localhost:" + port}
	ts.Setenv("SERVER", cfg.Listen.URL)
	cfg.CA.URL = cfg.Listen.URL
	ts.Check(server.Create(context.Background(), folder, server.Answers{
		Config: cfg, KeyParams: softkeytest.Cheap(), PasswordCost: cheap, AdminPassword: secret.New([]byte("demo-password")),
		Admin: auth.User{ID: "demo", Name: "Demo Person", Roles: auth.Roles},
	}))
}

// ports are those given to the tests of this process.
var ports sync.Map

// pickPort finds a free port for a node that will listen on it seconds from now.
// It lies below those that systems give to clients, so that none of the many
// connections of other tests takes it meanwhile.
func pickPort() (string, error) {
	for range 100 {
		port := strconv.Itoa(20000 + rand.IntN(12000))
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			return "", err
		}
		if _, given := ports.LoadOrStore(port, true); !given {
			return port, nil
		}
	}
	return "", errors.New("no port is free")
}

// exits runs a program that has to end with the status given first.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS PROGRAM ARGUMENTS")
	}
	err := ts.Exec(args[1], args[2:]...)
	status := "0"
	var e interface{ ExitCode() int }
	if errors.As(err, &e) {
		status = string(rune('0' + e.ExitCode()))
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if status != args[0] {
		ts.Fatalf("exit status %s, want %s", status, args[0])
	}
}

func guard(ts *testscript.TestScript, neg bool, args []string) {
	c, err := sim.Create(one(ts, neg, args), "yubikey-5.7", 0xF0000007)
	ts.Check(err)
	defer c.Close()
	ctx, d, key := context.Background(), apdu.NewConn(c), secret.Random(24)
	_, err = piv.Select(ctx, d)
	ts.Check(err)
	was, err := secret.NewPIN([]byte(piv.DefaultPIN))
	ts.Check(err)
	pin, err := secret.NewPIN([]byte("8402716"))
	ts.Check(err)
	ts.Check(piv.ChangePIN(ctx, d, was, pin))
	ts.Check(piv.Authenticate(ctx, d, piv.AES192, secret.New(piv.DefaultManagementKey())))
	ts.Check(piv.PutData(ctx, d, piv.PrintedInformation, piv.StoredManagementKey(key)))
	ts.Check(piv.PutData(ctx, d, piv.AdminData, piv.AdminContent{Stored: true}.Encode()))
	ts.Check(piv.SetManagementKey(ctx, d, piv.AES192, key, false))
}

func await(ts *testscript.TestScript, neg bool, args []string) {
	path := filepath.Join(one(ts, neg, args), server.SocketFile)
	for range 1200 {
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("nobody listens at %s", path)
}

// card is what seed adds.
var card = struct {
	cuid apdu.CUID
	kdd  gp.KDD
}{apdu.CUID{0x40, 0x90, 0x61, 0x45, 0xC7, 0x62, 0x24, 0x19, 0x2D, 0x2B}, gp.KDD{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}}

func seed(ts *testscript.TestScript, neg bool, args []string) {
	folder, ctx := one(ts, neg, args), context.Background()
	ledger, err := local.OpenLedger(filepath.Join(folder, filepath.FromSlash(server.LedgerFile)))
	ts.Check(err)
	to := local.Target{KeySet: "site", Version: 2}
	ts.Check(ledger.Grant(ctx, local.Grant{KDD: card.kdd, CUID: card.cuid, From: local.Target{KeySet: tks.Factory, Version: 1}, To: to, Time: time.Now()}))
	ts.Check(ledger.Complete(ctx, card.kdd, to))
	ts.Check(ledger.Close())
	n, err := server.Open(ctx, folder, server.Options{})
	ts.Check(err)
	defer n.Close()
	_, err = n.DB.CreateToken(ctx, token.Token{CUID: card.cuid, KDD: &card.kdd, UserID: "ada", Profile: "userKey", State: token.Active,
		AppletID: "1.4.58768072", KeySet: "site", KeyInfo: token.KeyInfo{2, 3}})
	ts.Check(err)
	ts.Setenv("CUID", card.cuid.String())
	ts.Setenv("KDD", card.kdd.String())
	for i, kind := range []string{"signing", "encryption"} {
		seedCertificate(ts, n, kind, i+1)
	}
	id := token.NewID()
	ts.Check(n.DB.AddActivity(ctx, token.Activity{ID: id, CUID: card.cuid, UserID: "ada", IP: "192.0.2.1:4711", Operation: "enrollment",
		Success: true, Message: "enroll done,\n profile \x1b[31muserKey", Profile: "userKey", Reference: "01980a3c"}))
	ts.Setenv("ACTIVITY", id)
	operation := token.NewID()
	ts.Setenv("OPERATION", operation)
	_, err = n.DB.BeginJournal(ctx, token.Journal{ID: operation, CUID: card.cuid, Operation: "enroll", Profile: "userKey", ProfileRevision: 1,
		UserID: "ada", Started: time.Now(), Entries: []token.Entry{{Step: "prepare-applet", At: time.Now(), Confirmed: true}, {Step: "set-pin", At: time.Now()}}})
	ts.Check(err)
}

func seedCertificate(ts *testscript.TestScript, n *server.Node, kind string, number int) {
	ctx := context.Background()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	ts.Check(err)
	c, err := n.Authority.Issue(ctx, ca.Request{ID: token.NewID(), Profile: kind, PublicKey: &key.PublicKey, CUID: card.cuid,
		Subject: ca.Subject{UserID: "ada", Name: "Ada Lovelace", Mail: "ada@example.org"}})
	ts.Check(err)
	r, err := n.DB.CreateCertificate(ctx, token.Certificate{CUID: card.cuid, UserID: "ada", KeyType: kind, Number: number, Profile: "userKey",
		State: token.CertActive, Serial: string(c.Serial), Subject: c.Subject, Issuer: c.Issuer.Name, AKI: c.Issuer.KeyID, DER: c.DER,
		CA: "embedded", Origin: card.cuid, NotBefore: c.NotBefore, NotAfter: c.NotAfter})
	ts.Check(err)
	name := map[string]string{"signing": "SIGNING", "encryption": "ENCRYPTION"}[kind]
	ts.Setenv(name, r.Serial)
	ts.Setenv(name+"_ID", r.ID)
}
