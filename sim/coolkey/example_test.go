package coolkey_test

import (
	"context"
	"fmt"

	"inkan/apdu"
	ck "inkan/apdu/coolkey"
	"inkan/sim/coolkey"
	"inkan/sim/gp"
)

// plainCard is an applet without a card manager and without secure channels.
type plainCard struct {
	applet gp.Applet
	env    gp.Env
}

func (c plainCard) Do(_ context.Context, cmd apdu.Command) (apdu.Response, error) {
	return c.applet.Process(c.env, cmd), nil
}

// The factory's applet, asked through the host's functions.
func Example() {
	ctx := context.Background()
	applet, err := coolkey.Factory(coolkey.Config{Variant: coolkey.Applet14})(ck.InstanceAID(), nil, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	card := plainCard{applet: applet, env: &fakeCard{level: -1, life: 0x07}}
	version, _ := ck.ReadVersion(ctx, card)
	status, _ := ck.ReadStatus(ctx, card)
	state, _ := ck.ReadLifeCycle(ctx, card)
	fmt.Println(version, status.HeapFree, state)
	// Output: 1.4.58768072 4998 selectable
}
