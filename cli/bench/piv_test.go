//go:build cgo && linux

package bench_test

import (
	"testing"
	"time"

	"inkan/sim"
	"inkan/tps/wire"
)

// pivModel is the kind of PIV card that is measured with: without a card manager, as
// most that people hold.
const pivModel = "yubikey-5.7"

// measurePIV formats and enrolls a PIV card with four keys on P-256, without and with
// batches, and then many of them at once; these were formatted before and belong to
// one person each.
func measurePIV(t *testing.T, s size, r results) {
	n := startNode(t, "piv", 0)
	cl := n.client(n.Address)
	single, _ := life(t, cl, sim.Config{Model: pivModel}, profilePIV, 0)
	batched, _ := life(t, cl, sim.Config{Model: pivModel}, profilePIV, wire.DefaultBatch)
	r.put("piv_trips_single", "%.0f", float64(single))
	r.put("piv_trips_batch", "%.0f", float64(batched))
	var rates, costs []float64
	for range s.rounds {
		all := formatted(t, cl, pivModel, profilePIV, s.cards*s.each)
		before, start := n.now(t), time.Now()
		atOnce(s.cards, len(all), func(i int) { run(t, cl, wire.Enroll, profilePIV, all[i]) })
		took, after := time.Since(start), n.now(t)
		rates = append(rates, float64(len(all))/took.Seconds())
		costs = append(costs, (after.CPU-before.CPU).Seconds()*1000/float64(len(all)))
		for _, c := range all {
			must(t, c.Close())
		}
	}
	r.put("piv_enroll_per_s", "%.0f", median(rates))
	r.put("cpu_ms_per_piv_enroll", "%.2f", median(costs))
}
