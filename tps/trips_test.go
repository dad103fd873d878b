package tps_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"testing"
	"testing/fstest"
	"time"

	"inkan/apdu"
	"inkan/apdu/apdutest"
	"inkan/apdu/coolkey"
	"inkan/apdu/secret"
	"inkan/fixtures"
	"inkan/sim"
	"inkan/tps"
	"inkan/tps/auth"
	familycoolkey "inkan/tps/coolkey"
	"inkan/tps/wire"
)

// atDesk is the person at a client of the real protocol.
type atDesk struct{}

func (atDesk) Login(context.Context, auth.Form) (auth.Answers, error) {
	return auth.Answers{"UID": secret.New([]byte("ada")), "PASSWORD": secret.New([]byte("right"))}, nil
}

func (atDesk) NewPIN(context.Context, int, int) (secret.PIN, error) {
	return secret.NewPIN([]byte("7351924"))
}

func (atDesk) Progress(int, string) {}

// operations are those of the client protocol.
var operations = map[wire.Operation]tps.Operation{
	wire.Format: tps.OpFormat, wire.Enroll: tps.OpEnroll, wire.Renew: tps.OpRenew, wire.ResetPIN: tps.OpPINReset, wire.KeyChangeover: tps.OpKeyChangeover,
}

// serve is the site behind the client protocol, over TLS. failed hears of every
// operation that did not end well.
func (s *site) serve(t *testing.T, e *tps.Engine, failed func(wire.Operation, error)) *wire.Client {
	t.Helper()
	h := wire.NewHandler(func(ctx context.Context, ws *wire.Session) int {
		var cl tps.Client = ws
		if b := ws.Batching(); b != nil {
			cl = b
		}
		if err := e.Run(ctx, tps.Request{Operation: operations[ws.Begin().Operation], Client: ws.RemoteAddr()}, cl); err != nil {
			failed(ws.Begin().Operation, err)
			return int(tps.StatusOf(err))
		}
		return 0
	}, wire.Config{})
	ts := httptest.NewTLSServer(h)
	t.Cleanup(func() {
		must(t, h.Shutdown(context.WithoutCancel(t.Context())))
		ts.Close()
	})
	return &wire.Client{BaseURL: ts.URL, TLS: wire.CertificateTrust(ts.Certificate()), Timeout: 20 * time.Second}
}

// leastRatio is how many times fewer round trips a card costs with batches: an
// applet of a real one's size and two RSA keys.
const leastRatio = 8

// realSize is the size of the CoolKey applet that cards carry, bytes.
const realSize = 18000

// TestTrips counts the messages that a client answers during the format of a card
// and its enrollment with two certificates, over TLS, one command at a time and in
// batches. With the synthetic applet, which is small, and keys on curves there is
// less to save.
func TestTrips(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		model, alg string
		applet     []byte
		least      float64
	}{
		{"gp-scp02", "rsa-2048", bigApplet(t), leastRatio},
		{"gp-scp03", "rsa-2048", bigApplet(t), leastRatio},
		{"gp-scp03", "p256", nil, 3},
		{"gp-t0", "rsa-2048", nil, 3}, // every answer has to be fetched, some with the right length
	} {
		t.Run("model="+c.model+"/alg="+c.alg, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			if c.applet != nil {
				s.adjust = func(cfg *tps.Config) {
					cfg.Families = []tps.Family{coolkeyFamily(c.applet)}
				}
			}
			edits := map[string]string{"[applet]": "[enroll]\nseveral_active = true\n[applet]"}
			if c.alg != "p256" {
				edits[`alg = "p256"`], edits[`"derive", `] = fmt.Sprintf("alg = %q", c.alg), `"decrypt", "encrypt", `
			}
			s.put(ecProfile("test", edits))
			cl := s.serve(t, s.engine(), func(op wire.Operation, err error) { t.Errorf("%v: %v", op, err) })
			single, batched := trips(t, cl, c.model, 0), trips(t, cl, c.model, wire.DefaultBatch)
			ratio := float64(single) / float64(batched)
			fmt.Printf("trips model=%s alg=%s trips_single=%d trips_batch=%d trips_ratio=%.1f\n", c.model, c.alg, single, batched, ratio)
			if ratio < c.least {
				t.Errorf("%d round trips in batches, %d without: less than %v times fewer", batched, single, c.least)
			}
		})
	}
}

// trips formats and enrolls a new card.
func trips(t *testing.T, cl *wire.Client, model string, batch int) (n int) {
	t.Helper()
	pool, err := rsaKeys()
	must(t, err)
	card, err := sim.New(sim.Config{Model: model, Keys: pool})
	must(t, err)
	defer card.Close()
	for _, op := range []wire.Operation{wire.Format, wire.Enroll} {
		res, err := wire.Run(t.Context(), cl, wire.Begin{Operation: op, Batch: batch}, card, atDesk{})
		must(t, err)
		fmt.Printf("trips model=%s operation=%v batch=%d trips=%d commands=%d\n", model, op, batch, res.Trips, res.APDUs)
		n += res.Trips
	}
	conn := apdu.NewConn(card)
	must(t, conn.Reset(t.Context()))
	must(t, coolkey.Select(t.Context(), conn))
	if certs, err := onCard(t.Context(), conn); err != nil || len(certs) != 2 {
		t.Fatalf("the card carries %d certificates (%v)", len(certs), err)
	}
	return n
}

// bigApplet is the synthetic applet with filler up to a real one's size.
func bigApplet(t *testing.T) []byte {
	t.Helper()
	b, err := fixtures.Applet(fixtures.DefaultApplet)
	must(t, err)
	b, err = apdutest.PadApplet(b, realSize)
	must(t, err)
	return b
}

// coolkeyFamily has one load file.
func coolkeyFamily(applet []byte) tps.Family {
	return familycoolkey.Family{Applets: fstest.MapFS{fixtures.DefaultApplet + ".ijc": &fstest.MapFile{Data: applet}}}
}
