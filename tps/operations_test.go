package tps_test

import (
	"slices"
	"testing"

	"inkan/apdu/gp"
	"inkan/tps"
	"inkan/tps/token"
)

func apduVersion(v uint8) gp.KeyVersion { return gp.KeyVersion(v) }

func TestLife(t *testing.T) {
	t.Parallel()
	for _, model := range []string{"gp-scp01", "gp-scp02", "gp-scp03"} {
		t.Run("model="+model, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			if model != "gp-scp03" {
				s.put(ecProfile("test", map[string]string{`set = "site"`: `set = "des"`}))
			}
			card := newCard(t, model)
			for _, step := range []struct {
				op    tps.Operation
				state token.State
			}{{tps.OpFormat, token.Formatted}, {tps.OpEnroll, token.Active}, {tps.OpRenew, token.Active}, {tps.OpPINReset, token.Active}, {tps.OpKeyChangeover, token.Active},
				{tps.OpEnroll, token.Active}, {tps.OpFormat, token.Formatted}} {
				c, err := s.run(step.op, card)
				if err != nil {
					t.Fatalf("%s: %v", step.op, err)
				}
				if !slices.IsSorted(c.percents) || c.percents[len(c.percents)-1] != 100 {
					t.Errorf("%s: progress %v", step.op, c.percents)
				}
				ts, err := s.db.Tokens(t.Context(), token.Filter{})
				must(t, err)
				if len(ts) != 1 || ts[0].State != step.state {
					t.Fatalf("%s: records %+v", step.op, ts)
				}
			}
		})
	}
}
