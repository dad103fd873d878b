package seal_test

import (
	"context"
	"fmt"
	"os"

	"inkan/tps/seal"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "seal")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	key := newKey("tms:seal:00112233:v01", 7) // an HSM's, in truth
	s := seal.New(seal.Config{Dir: dir, Instance: instance, Openers: []seal.Opener{seal.With(keyring{key})},
		Slots: []seal.Protector{seal.Under(key)}})
	if _, err := s.Save(ctx, "inkan.toml", 0, []byte("[node]\nname = \"desk\"\n")); err != nil {
		panic(err)
	}
	o, err := s.Open(ctx, "inkan.toml")
	if err != nil {
		panic(err)
	}
	defer o.Wipe()
	fmt.Println(o)
	fmt.Println(o.Slot())
	// Output:
	// inkan.toml generation 1 [redacted]
	// 1 HSM tms:seal:00112233:v01 in test
}
